//! Holds `docs/protocols/stomp.md` against the code: its frames are read, its codes are all there are.

use std::path::Path;

use naru_wire::stomp::session::{Refusal, SessionLimits};
use naru_wire::stomp::{Command, FrameError, Limits, Version};

use crate::checks::read_as;

fn page() -> String {
    let root = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("../../docs/protocols/stomp.md");
    std::fs::read_to_string(root).expect("the page is there")
}

#[test]
fn every_frame_on_the_page_is_read() {
    let page = page();
    let examples = page.split("```stomp\n").skip(1).map(|rest| rest.split("```").next());
    let mut count = 0;
    for example in examples.flatten() {
        let bytes = example.trim_end().replace("^@", "\0");
        let frames = read_as(Version::V1_2, bytes.as_bytes());
        assert_eq!(frames.map(|frames| frames.len()), Ok(1), "{example}");
        count += 1;
    }
    assert!(count > 10);
}

#[test]
fn every_code_and_limit_is_on_the_page() {
    let frame_errors = [
        FrameError::UnknownCommand,
        FrameError::HeaderWithoutColon,
        FrameError::HeaderWithoutName,
        FrameError::UnknownEscape,
        FrameError::HeaderNotUtf8,
        FrameError::NulInHeaders,
        FrameError::StrayCarriageReturn,
        FrameError::TooManyHeaders { max: 0 },
        FrameError::HeaderTooLong { max: 0 },
        FrameError::FrameTooLarge { max: 0 },
        FrameError::BadContentLength,
        FrameError::ContentLengthMismatch { content_length: 0 },
        FrameError::UnexpectedBody { command: Command::Ack },
    ];
    let refusals = [
        Refusal::UnsupportedVersion,
        Refusal::BadHeartBeat,
        Refusal::NotConnected,
        Refusal::AlreadyConnected,
        Refusal::UnexpectedCommand,
        Refusal::MissingHeader { header: "" },
        Refusal::NameTooLong { header: "", max: 0 },
        Refusal::DestinationTooLong { max: 0 },
        Refusal::BadAckMode,
        Refusal::BadPosition,
        Refusal::BadPrefetch,
        Refusal::DuplicateSubscription,
        Refusal::TooManySubscriptions { max: 0 },
        Refusal::UnknownSubscription,
        Refusal::UnknownMessage,
        Refusal::DuplicateTransaction,
        Refusal::TooManyTransactions { max: 0 },
        Refusal::UnknownTransaction,
        Refusal::TooManyFramesInTransaction { max: 0 },
        Refusal::TransactionTooLarge { max: 0 },
    ];
    let page = page();
    let labels = frame_errors.iter().map(FrameError::label);
    for label in labels.chain(refusals.iter().map(Refusal::label)) {
        assert!(page.contains(&format!("\n| `{label}` |")), "{label} has no row");
    }
    let (codec, session) = (Limits::default(), SessionLimits::default());
    let rows = [
        format!("| a frame | {} bytes", grouped(codec.frame_bytes_max)),
        format!("| a frame before CONNECTED | {} bytes", grouped(codec.connect_bytes_max)),
        format!("| headers of a frame | {} |", codec.headers_count_max),
        format!("| a header line | {} bytes", grouped(codec.header_line_bytes_max)),
        format!("| a destination | {} bytes", session.destination_bytes_max),
        format!("durable subscriptions | {} bytes", session.name_bytes_max),
        format!("| subscriptions of a connection | {} |", session.subscriptions_max),
        format!("without an ACK | {} |", grouped(session.unacked_max.into())),
        format!("| open transactions of a connection | {} |", session.transactions_max),
        format!("| frames of a transaction | {} |", grouped(1_000)),
        format!("of a connection | {} MiB |", session.transaction_bytes_max >> 20),
        format!("| an open transaction | {} s |", session.transaction_time_max.as_secs()),
    ];
    assert_eq!(session.transaction_frames_max, 1_000);
    for row in rows {
        assert!(page.contains(&row), "the page does not say: {row}");
    }
}

/// A number with commas between its thousands.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
