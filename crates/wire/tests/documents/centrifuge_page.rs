//! `docs/protocols/centrifuge.md`: its examples are what the codec reads and writes, its tables what the code knows.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use naru_wire::centrifuge::{
    Command, DisconnectCode, ErrorCode, FrameLimits, Protocol, UnsubscribeCode, decode_frame,
};
use sha2::Sha256;

use crate::{fenced, read, vectors};

const PAGE: &str = "docs/protocols/centrifuge.md";

fn commands(protocol: Protocol, frame: Bytes) -> Option<Vec<Command>> {
    decode_frame(protocol, frame, FrameLimits::DEFAULT).collect::<Result<_, _>>().ok()
}

#[test]
fn every_line_of_the_examples_is_read_or_written() {
    let ours = vectors::everything();
    let (mut read_count, mut written_count) = (0, 0);
    for (_, text) in fenced(&read(PAGE)) {
        for line in text.lines() {
            if let Some(said) = line.strip_prefix("> ") {
                let found = commands(Protocol::Json, Bytes::copy_from_slice(said.as_bytes()));
                assert_eq!(found.map(|found| found.len()), Some(1), "{said}");
                read_count += 1;
            } else if let Some(said) = line.strip_prefix("< ") {
                // The page shows what the server says in other circumstances, too, but never other words.
                assert!(ours.iter().any(|each| is_same(&each.json, said)), "nobody says {said}");
                written_count += 1;
            }
        }
    }
    assert!(read_count >= 5 && written_count >= 10, "{read_count} and {written_count}");
}

/// The same but for the number of the command.
fn is_same(ours: &str, theirs: &str) -> bool {
    let after_id = |text: &str| {
        let rest = text.strip_prefix("{\"id\":").map(|rest| rest.split_once(','));
        rest.flatten().map_or_else(|| text.to_owned(), |(_, rest)| rest.to_owned())
    };
    after_id(ours) == after_id(theirs)
}

#[test]
fn every_frame_in_hexadecimal_is_read_or_written() {
    let ours = vectors::everything();
    let json_commands: Vec<Command> = [
        r#"{"id":1,"connect":{"token":"T","name":"x"}}"#,
        r#"{"id":2,"subscribe":{"channel":"chat:1","flag":1}}"#,
        "{}",
    ]
    .into_iter()
    .flat_map(|line| commands(Protocol::Json, Bytes::from_static(line.as_bytes())).unwrap())
    .collect();
    let mut count = 0;
    for (_, text) in fenced(&read(PAGE)) {
        for line in text.lines() {
            let Some(bytes) = hexadecimal(line) else { continue };
            count += 1;
            let is_written = ours.iter().any(|each| each.protobuf == bytes);
            let found = commands(Protocol::Protobuf, Bytes::from(bytes)).unwrap_or_default();
            let is_read = found.iter().any(|command| json_commands.contains(command));
            assert!(is_written || is_read, "{line}");
        }
    }
    assert_eq!(count, 6);
}

/// The bytes at the begin of a line, up to the words that explain them.
fn hexadecimal(line: &str) -> Option<Vec<u8>> {
    let (digits, _) = line.split_once("  ")?;
    let byte = |pair: &str| u8::from_str_radix(pair, 16).ok().filter(|_| pair.len() == 2);
    digits.split(' ').map(byte).collect()
}

#[test]
fn the_token_on_the_page_is_signed_with_its_secret() {
    let blocks = fenced(&read(PAGE));
    let token = blocks.iter().map(|(_, text)| text.trim()).find(|text| text.starts_with("eyJ"));
    let (signed, signature) = token.unwrap().rsplit_once('.').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(signed.as_bytes());
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
    assert_eq!(claims, br#"{"sub":"42","exp":2000000000}"#);
}

#[test]
fn every_code_has_its_row() {
    let page = read(PAGE);
    let has = |row: String| assert!(page.contains(&row), "the page does not say: {row}");
    for error in ErrorCode::ALL {
        let again =
            if error.is_temporary() || error == ErrorCode::TokenExpired { "yes" } else { "no" };
        has(format!("\n| {} | {} | {again}", error.code(), error.message()));
    }
    for end in DisconnectCode::ALL.iter().filter(|end| end.code() > 3000) {
        let again = if end.may_reconnect() { "yes" } else { "no" };
        has(format!("\n| {} | {} | {again}", end.code(), end.reason()));
    }
    for end in UnsubscribeCode::ALL {
        assert!(page.contains(&end.code().to_string()), "{end:?}");
    }
    let limits = FrameLimits::DEFAULT;
    assert_eq!((limits.command_bytes_max, limits.commands_max), (65_536, 1_024));
    has("\n| one command | 65,536 bytes |".to_owned());
    has("\n| commands in a frame | 1,024 |".to_owned());
}
