//! Limits of the bridge: whoever goes over one is answered or cut alone, and counted.

use serde_json::json;

use crate::harness::{CHANNEL, Phone, Script, Server, eventually};

fn server(settings: &[&str]) -> Server {
    let mut all = vec!["bridge.approve_devices=auto", "bridge.approve_rooms=auto"];
    all.extend(settings);
    Server::with(&all)
}

#[test]
fn a_frame_over_the_limit_ends_only_its_own_connection() {
    let server = server(&["bridge.max_frame_bytes=64KiB"]);
    let mut good = Phone::connect_as(server.bridge, Script::Raw, "good");
    let mut endless = Phone::connect_as(server.bridge, Script::Raw, "endless");
    // The server may cut before everything is written.
    drop(std::io::Write::write_all(&mut endless.stream, &vec![b'x'; 200_000]));
    eventually("the offender is cut", || {
        (server.metric("naru_bridge_closed_total{reason=\"frame_too_large\"}") == 1.0).then_some(())
    });
    good.assert_quiet();
}

#[test]
fn a_text_over_the_limit_is_dropped_and_counted() {
    let server = server(&[]);
    let mut phone = Phone::connect(server.bridge, Script::Json);
    phone.say(&format!("# echo {}", "x".repeat(65_000)));
    phone.assert_quiet();
    assert_eq!(server.metric("naru_bridge_bad_frames_total{why=\"text_too_long\"}"), 1.0);
}

#[test]
fn the_limit_of_connections_holds_and_a_place_is_given_back() {
    let server = server(&["bridge.connections_max=2"]);
    let mut one = Phone::connect_as(server.bridge, Script::Raw, "one");
    let two = Phone::connect_as(server.bridge, Script::Raw, "two");
    let mut three = Phone::silent(server.bridge, Script::Raw);
    assert!(three.is_closed());
    assert_eq!(server.metric("naru_bridge_refused_total{limit=\"total\"}"), 1.0);
    one.assert_quiet();
    drop(two);
    eventually("the place is free", || {
        let mut again = Phone::silent(server.bridge, Script::Raw);
        let hello = again.hello();
        drop(std::io::Write::write_all(&mut again.stream, format!("{hello}\n").as_bytes()));
        again.next()
    });
}

#[test]
fn one_address_has_a_limit_of_its_own() {
    let server = server(&["bridge.connections_per_address=1"]);
    let mut one = Phone::connect_as(server.bridge, Script::Raw, "one");
    assert!(Phone::silent(server.bridge, Script::Raw).is_closed());
    assert_eq!(server.metric("naru_bridge_refused_total{limit=\"per_address\"}"), 1.0);
    one.assert_quiet();
}

#[test]
fn attempts_per_minute_are_limited() {
    let server = server(&["bridge.attempts_per_minute=3"]);
    for _ in 0..3 {
        drop(Phone::connect(server.bridge, Script::Raw));
    }
    assert!(Phone::silent(server.bridge, Script::Raw).is_closed());
    assert_eq!(server.metric("naru_bridge_refused_total{limit=\"attempts\"}"), 1.0);
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let server = server(&["bridge.handshake_timeout=1s"]);
    let mut silent = Phone::silent(server.bridge, Script::Raw);
    assert!(silent.is_closed());
    // The phone may see the end before the server has counted it.
    eventually("it is counted", || {
        (server.metric("naru_bridge_closed_total{reason=\"handshake_timeout\"}") == 1.0)
            .then_some(())
    });
}

#[test]
fn a_flood_of_frames_is_slowed_down_and_nothing_of_it_is_lost() {
    let server = server(&["bridge.frames_per_second=100", "bridge.frames_burst=20"]);
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    let mut lines = String::new();
    for n in 0..60 {
        lines.push_str(&phone.chat_line(CHANNEL, &format!("# echo {n}")));
        lines.push('\n');
    }
    phone.send_bytes(lines.as_bytes());
    for n in 0..60 {
        assert_eq!(phone.reply(), format!("에코: {n}"));
    }
    assert!(server.metric("naru_bridge_delayed_reads_total") >= 1.0);
}

#[test]
fn a_device_can_have_a_smaller_frame_limit_than_the_others() {
    let server = server(&[]);
    let phone = Phone::connect_as(server.bridge, Script::Json, "small");
    let id = server.device("small").unwrap()["id"].clone();
    let path = format!("/api/devices/{id}");
    let (status, answer) = server.api("PATCH", &path, Some(&json!({ "frame_bytes_max": 2048 })));
    assert_eq!(status, 200, "{answer}");
    drop(phone);
    let mut phone = Phone::connect_as(server.bridge, Script::Json, "small");
    phone.assert_quiet();
    phone.say(&"x".repeat(3_000));
    assert!(phone.is_closed());
    let mut other = Phone::connect_as(server.bridge, Script::Json, "large");
    other.say(&format!("# echo {}", "x".repeat(3_000)));
    assert!(other.reply().len() > 3_000);
}
