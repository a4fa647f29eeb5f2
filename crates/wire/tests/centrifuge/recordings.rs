//! What real SDKs said to the server of `support/responder.rs`, and what it answered, byte for byte. How
//! they were made stands in `recordings/README.md`.

use std::collections::BTreeMap;

use bytes::Bytes;
use naru_wire::centrifuge::{FrameLimits, Protocol, Request, decode_frame};

use crate::support::responder::respond;

const RECORDINGS: [(&str, Protocol, &str); 4] = [
    ("js, json", Protocol::Json, include_str!("recordings/js-5.8.0.json.txt")),
    ("js, protobuf", Protocol::Protobuf, include_str!("recordings/js-5.8.0.protobuf.txt")),
    ("python, json", Protocol::Json, include_str!("recordings/python-0.7.0.json.txt")),
    ("python, protobuf", Protocol::Protobuf, include_str!("recordings/python-0.7.0.protobuf.txt")),
];

/// The frames of a recording, each with whether the client sent it.
fn frames(protocol: Protocol, recording: &str) -> Vec<(bool, Bytes)> {
    let lines = recording.lines().filter(|line| line.starts_with(['>', '<']));
    lines
        .map(|line| {
            let (side, text) = line.split_at(2);
            let frame = match protocol {
                Protocol::Json => Bytes::from(
                    serde_json::from_str::<String>(text).expect("a frame as a JSON string"),
                ),
                Protocol::Protobuf => (0..text.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
                    .collect(),
            };
            (side == "> ", frame)
        })
        .collect()
}

#[test]
fn every_recorded_frame_is_read_and_answered_as_it_was_when_the_sdk_accepted_it() {
    for (name, protocol, recording) in RECORDINGS {
        let frames = frames(protocol, recording);
        let mut frames = frames.into_iter().peekable();
        let mut answered = 0;
        while let Some((is_client, frame)) = frames.next() {
            assert!(is_client, "{name}: an answer to nothing");
            let answer = respond(protocol, frame);
            if !answer.is_empty() {
                let recorded = frames.next_if(|(is_client, _frame)| !is_client);
                assert_eq!(recorded.map(|(_is_client, frame)| frame), Some(answer.freeze()));
                answered += 1;
            }
        }
        assert!(answered > 10, "{name}");
    }
}

#[test]
fn recordings_hold_every_command_that_the_sdk_has() {
    for (name, protocol, recording) in RECORDINGS {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut largest_batch = 0;
        for (_is_client, frame) in
            frames(protocol, recording).into_iter().filter(|(is_client, _frame)| *is_client)
        {
            let mut batch = 0;
            for command in decode_frame(protocol, frame, FrameLimits::DEFAULT) {
                *counts.entry(command.expect("it is good").request.label()).or_default() += 1;
                batch += 1;
            }
            largest_batch = largest_batch.max(batch);
        }
        let expected = "connect subscribe unsubscribe publish presence presence_stats history rpc \
                        refresh sub_refresh pong";
        for label in expected.split(' ') {
            assert!(counts.contains_key(label), "{name} has no {label}");
        }
        assert_eq!(counts["connect"], 2, "{name} comes back once");
        if name.starts_with("js") {
            assert!(counts.contains_key("send") && largest_batch > 1, "{name}");
        }
    }
}

#[test]
fn subscriptions_of_sdks_carry_their_wishes() {
    for (name, protocol, recording) in RECORDINGS {
        let mut found = (false, false, false);
        for (is_client, frame) in frames(protocol, recording) {
            if !is_client {
                continue;
            }
            for command in decode_frame(protocol, frame, FrameLimits::DEFAULT) {
                let Request::Subscribe(request) = command.expect("it is good").request else {
                    continue;
                };
                found.0 |= request.recover && request.epoch == "ab" && request.offset > 0;
                found.1 |= request.delta == "fossil";
                found.2 |= request.tf.is_some_and(|tf| tf.op == "and" && tf.nodes.len() == 2);
            }
        }
        assert_eq!(found, (true, true, true), "{name}: recovery, deltas, filter");
    }
}
