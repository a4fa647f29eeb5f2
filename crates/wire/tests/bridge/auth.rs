//! Signatures: the published vectors, and everything that must not pass.

use naru_domain::Timestamp;
use naru_wire::bridge::{Auth, Frame, SigningKey, decode};

const VECTOR: &str = "1df057a65e1e008739def5d411955b62841615299b6e6e3f2310c5b15ec93691";

fn demo() -> Auth<'static> {
    Auth {
        client_type: "MessengerBotR".into(),
        bot_name: "demo-bot".into(),
        device_uuid: "0123456789abcdef".into(),
        device_id: "0123456789abcdef".into(),
        mac_address: "02:00:00:00:00:00".into(),
        ip_address: "192.0.2.10".into(),
        timestamp: "1767225600000".into(),
        version: "3.3.3".into(),
        signature: VECTOR.into(),
    }
}

#[test]
fn the_published_vectors_are_right() {
    assert!(SigningKey::new("testsecret", "testsalt").verify(&demo()));
    let unknown = Auth {
        bot_name: "데모봇".into(),
        device_uuid: "unknown".into(),
        mac_address: "unknown".into(),
        ip_address: "unknown".into(),
        signature: "a307f47ab30bfbcb0a515d8b43908bc83bbf632d566c201331465bb15e7f4539".into(),
        ..demo()
    };
    let key = SigningKey::new("비밀키", "testsalt");
    assert!(key.verify(&unknown));
    assert_eq!(key.sign(&unknown), unknown.signature);
}

#[test]
fn a_change_of_any_signed_field_breaks_the_signature() {
    let key = SigningKey::new("testsecret", "testsalt");
    let changes: [fn(&mut Auth<'static>); 6] = [
        |auth| auth.client_type = "messengerbotr".into(),
        |auth| auth.bot_name = "demo-bot2".into(),
        |auth| auth.device_uuid = "".into(),
        |auth| auth.mac_address = "unknown".into(),
        |auth| auth.ip_address = "192.0.2.11".into(),
        |auth| auth.timestamp = "1767225600001".into(),
    ];
    for change in changes {
        let mut auth = demo();
        change(&mut auth);
        assert!(!key.verify(&auth), "{auth:?}");
    }
}

#[test]
fn device_id_and_version_are_not_signed() {
    let auth = Auth { device_id: "another".into(), version: "9".into(), ..demo() };
    assert!(SigningKey::new("testsecret", "testsalt").verify(&auth));
}

#[test]
fn a_foreign_secret_or_salt_does_not_verify() {
    assert!(!SigningKey::new("testsecret2", "testsalt").verify(&demo()));
    assert!(!SigningKey::new("testsecret", "testsalt2").verify(&demo()));
    assert!(!SigningKey::new("", "").verify(&demo()));
}

#[test]
fn only_64_lower_case_hex_digits_are_a_signature() {
    let key = SigningKey::new("testsecret", "testsalt");
    let upper = VECTOR.to_uppercase();
    let long = format!("{VECTOR}00");
    let odd = format!("g{}", &VECTOR[1..]);
    for signature in ["", "00", &VECTOR[..63], &upper, &long, &odd, " ", "é".repeat(32).as_str()] {
        let auth = Auth { signature: signature.to_owned().into(), ..demo() };
        assert!(!key.verify(&auth), "{signature}");
        assert_eq!(auth.signature_bytes(), None);
    }
}

#[test]
fn a_signing_key_shows_nothing_of_itself() {
    let shown = format!("{:?}", SigningKey::new("testsecret", "testsalt"));
    assert_eq!(shown, "SigningKey(..)");
}

#[track_caller]
fn check_timestamp(json: &str, expected: Option<&str>) {
    let line = format!(
        r#"{{"event":"ping","data":{{"auth":{{"clientType":"MessengerBotR","botName":"demo-bot","deviceUUID":"0123456789abcdef","macAddress":"02:00:00:00:00:00","ipAddress":"192.0.2.10","timestamp":{json},"signature":"{VECTOR}"}}}}}}"#
    );
    let read = match decode(line.as_bytes()) {
        Ok(Frame::KeepAlive { auth: Some(auth), .. }) => {
            let right = SigningKey::new("testsecret", "testsalt").verify(&auth);
            assert_eq!(right, auth.timestamp == "1767225600000");
            assert_eq!(auth.timestamp(), auth.timestamp.parse().ok().map(Timestamp));
            Some(auth.timestamp.into_owned())
        }
        _ => None,
    };
    assert_eq!(read.as_deref(), expected, "{json}");
}

#[test]
fn a_timestamp_is_signed_as_the_plain_integer_it_stands_for() {
    check_timestamp("1767225600000", Some("1767225600000"));
    check_timestamp("1767225600000.0", Some("1767225600000"));
    check_timestamp("1.7672256E12", Some("1767225600000"));
    check_timestamp("17672256e5", Some("1767225600000"));
    check_timestamp("1.7e12", Some("1700000000000"));
    check_timestamp("-5", Some("-5"));
    check_timestamp("0", Some("0"));
    check_timestamp("null", Some(""));
}

#[test]
fn a_timestamp_that_is_no_exact_integer_refuses_the_frame() {
    for json in
        ["1767225600000.5", "1e300", "1e999", "-0", "\"1767225600000\"", "true", "{}", "[1]"]
    {
        check_timestamp(json, None);
    }
    check_timestamp("123456789012345678901234567890", None);
}
