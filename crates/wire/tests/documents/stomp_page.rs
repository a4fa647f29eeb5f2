//! `docs/protocols/stomp.md`: the frames of the server on it are those that the codec writes. That every frame is
//! read, and that codes and limits of the frames stand there, is checked with the codec's own tests.

use naru_wire::stomp::session::Refusal;
use naru_wire::stomp::{
    Connected, ErrorFrame, HeartBeat, Message, Version, encode_connected, encode_error,
    encode_message, encode_receipt,
};

use crate::{fenced, read};

pub(crate) const PAGE: &str = "docs/protocols/stomp.md";

/// What the server says on the page.
pub(crate) fn said() -> Vec<(&'static str, Vec<u8>)> {
    let heart_beat = HeartBeat { can_send_ms: 10_000, wants_ms: 10_000 };
    let connected = encode_connected(&Connected {
        version: Version::V1_2,
        heart_beat,
        session: "8f14e45f",
        server: "naru/0.1.0",
        headers: &[],
    });
    let message = Message {
        message_id: "7:42",
        destination: "/topic/chat:lobby",
        content_type: Some("text/plain"),
        headers: &[("position", "7:42"), ("x-colour", "red")],
        body: b"hello",
    };
    let message = encode_message(Version::V1_2, Some("sub-0"), None, &message);
    let recovered = [("recovered", "true"), ("position", "7:44")];
    let recovered = encode_receipt(Version::V1_2, "s-2", &recovered);
    let receipt = encode_receipt(Version::V1_2, "m-1", &[]);
    let refusal = Refusal::MissingHeader { header: "destination" };
    let error = ErrorFrame {
        message: refusal.to_string(),
        code: refusal.label(),
        receipt_id: Some("m-1".into()),
        version: None,
        body: format!("The SEND frame was refused: {refusal}.\n"),
    };
    let error = encode_error(Some(Version::V1_2), &error);
    vec![
        ("CONNECTED", connected.to_vec()),
        ("MESSAGE", message.to_vec()),
        ("RECEIPT", recovered.to_vec()),
        ("RECEIPT", receipt.to_vec()),
        ("ERROR", error.to_vec()),
    ]
}

/// The codes of ERROR frames: the rows of both tables, in their order.
pub(crate) fn codes() -> Vec<String> {
    let page = read(PAGE);
    let errors = page.split("\n## Errors\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = errors.expect("a section about errors").lines();
    let rows = rows.filter(|row| !row.starts_with("| `code` | why"));
    let codes = rows.filter_map(|row| row.strip_prefix("| `")?.split_once('`'));
    codes.map(|(code, _)| code.to_owned()).collect()
}

#[test]
fn the_frames_of_the_server_are_those_that_it_writes() {
    let mut ours = said();
    for (word, text) in fenced(&read(PAGE)) {
        let command = text.lines().next().unwrap_or_default();
        let is_servers = ["CONNECTED", "MESSAGE", "RECEIPT", "ERROR"].contains(&command);
        if word != "stomp" || !is_servers {
            continue;
        }
        let frame = text.trim_end().replace("^@", "\0").into_bytes();
        let at = ours.iter().position(|(_, ours)| *ours == frame);
        let at = at.unwrap_or_else(|| panic!("nobody writes {text}"));
        ours.swap_remove(at);
    }
    assert!(ours.is_empty(), "not on the page: {ours:?}");
}

#[test]
fn every_code_of_the_gateway_is_on_the_page() {
    let trouble = read("crates/gateways/src/stomp/trouble.rs");
    let codes = codes();
    let words = trouble.split('"').skip(1).step_by(2);
    let is_code = |word: &&str| {
        word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let mut count = 0;
    for code in words.filter(is_code) {
        assert!(codes.iter().any(|known| known == code), "{code} has no row");
        count += 1;
    }
    assert!(count >= 10 && codes.len() >= 30, "{count} of {}", codes.len());
}
