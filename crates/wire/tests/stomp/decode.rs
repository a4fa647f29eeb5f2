//! Vectors of the three specifications, line ends, limits, and every broken frame we could think of.

use naru_wire::stomp::{Command, Decoder, Event, Frame, FrameError, Limits, Version};

use crate::checks::{read, read_as};

const ALL: [Version; 3] = [Version::V1_0, Version::V1_1, Version::V1_2];

#[track_caller]
fn one(version: Version, bytes: &[u8]) -> Frame {
    let mut frames = read_as(version, bytes).expect("a frame");
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

#[track_caller]
fn check(version: Version, bytes: &[u8], command: Command, headers: &[(&str, &str)], body: &[u8]) {
    let frame = one(version, bytes);
    let expected =
        Frame { command, headers: headers.iter().copied().collect(), body: body.to_vec().into() };
    assert_eq!(frame.body, expected.body);
    assert!(frame == expected, "{:?}", frame.headers.iter().collect::<Vec<_>>());
}

#[track_caller]
fn refused(version: Version, bytes: &[u8], error: FrameError) {
    assert_eq!(read_as(version, bytes), Err(error), "{}", String::from_utf8_lossy(bytes));
}

#[test]
fn the_examples_of_1_0_are_read_without_their_padding() {
    let check = |bytes: &[u8], command, headers: &[(&str, &str)], body: &[u8]| {
        check(Version::V1_0, bytes, command, headers, body)
    };
    check(
        b"SEND\ndestination:/queue/a\n\nhello queue a\n\0",
        Command::Send,
        &[("destination", "/queue/a")],
        b"hello queue a\n",
    );
    check(
        b"SUBSCRIBE\ndestination: /queue/foo\nack: client\n\n\0",
        Command::Subscribe,
        &[("destination", "/queue/foo"), ("ack", "client")],
        b"",
    );
    check(
        b"UNSUBSCRIBE\ndestination: /queue/a\n\n\0",
        Command::Unsubscribe,
        &[("destination", "/queue/a")],
        b"",
    );
    for (name, command) in
        [("BEGIN", Command::Begin), ("COMMIT", Command::Commit), ("ABORT", Command::Abort)]
    {
        let bytes = format!("{name}\ntransaction: tx-1\n\n\0");
        check(bytes.as_bytes(), command, &[("transaction", "tx-1")], b"");
    }
    check(
        b"ACK\nmessage-id: 007\ntransaction: tx-1 \t\n\n\0",
        Command::Ack,
        &[("message-id", "007"), ("transaction", "tx-1")],
        b"",
    );
    check(b"DISCONNECT\n\n\0", Command::Disconnect, &[], b"");
    check(
        b"SEND\ndestination:/queue/a\nreceipt:message-12345\n\nHello a!\0",
        Command::Send,
        &[("destination", "/queue/a"), ("receipt", "message-12345")],
        b"Hello a!",
    );
    check(
        b"ERROR\nmessage: malformed packet received\n\nThe message:\n-----\nHello queue a!\0",
        Command::Error,
        &[("message", "malformed packet received")],
        b"The message:\n-----\nHello queue a!",
    );
}

#[test]
fn the_examples_of_1_1_and_1_2_are_read() {
    for version in [Version::V1_1, Version::V1_2] {
        let check = |bytes: &[u8], command, headers: &[(&str, &str)], body: &[u8]| {
            check(version, bytes, command, headers, body)
        };
        check(
            b"SEND\ndestination:/queue/a\ncontent-type:text/plain\n\nhello queue a\n\0",
            Command::Send,
            &[("destination", "/queue/a"), ("content-type", "text/plain")],
            b"hello queue a\n",
        );
        check(
            b"SUBSCRIBE\nid:0\ndestination:/queue/foo\nack:client\n\n\0",
            Command::Subscribe,
            &[("id", "0"), ("destination", "/queue/foo"), ("ack", "client")],
            b"",
        );
        check(b"UNSUBSCRIBE\nid:0\n\n\0", Command::Unsubscribe, &[("id", "0")], b"");
        check(
            b"ACK\nsubscription:0\nmessage-id:007\ntransaction:tx1\n\n\0",
            Command::Ack,
            &[("subscription", "0"), ("message-id", "007"), ("transaction", "tx1")],
            b"",
        );
        check(
            b"ACK\nid:12345\ntransaction:tx1\n\n\0",
            Command::Ack,
            &[("id", "12345"), ("transaction", "tx1")],
            b"",
        );
        check(b"NACK\nid:12345\n\n\0", Command::Nack, &[("id", "12345")], b"");
        check(b"BEGIN\ntransaction:tx1\n\n\0", Command::Begin, &[("transaction", "tx1")], b"");
        check(
            b"MESSAGE\nsubscription:0\nmessage-id:007\ndestination:/queue/a\n\
              content-type:text/plain\n\nhello queue a\0",
            Command::Message,
            &[
                ("subscription", "0"),
                ("message-id", "007"),
                ("destination", "/queue/a"),
                ("content-type", "text/plain"),
            ],
            b"hello queue a",
        );
        check(b"RECEIPT\nreceipt-id:77\n\n\0", Command::Receipt, &[("receipt-id", "77")], b"");
    }
}

#[test]
fn the_examples_of_connecting_are_read_before_there_is_a_version() {
    type Example = (&'static [u8], Command, &'static [(&'static str, &'static str)]);
    let examples: [Example; 5] = [
        (
            b"CONNECT\nlogin: <username>\npasscode:<passcode>\n\n\0",
            Command::Connect,
            // Whether padding counts is known when the version is.
            &[("login", " <username>"), ("passcode", "<passcode>")],
        ),
        (
            b"CONNECT\naccept-version:1.0,1.1,2.0\nhost:stomp.github.org\n\n\0",
            Command::Connect,
            &[("accept-version", "1.0,1.1,2.0"), ("host", "stomp.github.org")],
        ),
        (b"STOMP\naccept-version:1.2\n\n\0", Command::Stomp, &[("accept-version", "1.2")]),
        (
            b"CONNECT\r\naccept-version:1.2\r\nheart-beat:1,2\r\n\r\n\0",
            Command::Connect,
            &[("accept-version", "1.2"), ("heart-beat", "1,2")],
        ),
        (b"CONNECTED\nversion:1.1\n\n\0", Command::Connected, &[("version", "1.1")]),
    ];
    for (bytes, command, headers) in examples {
        let heard = read(bytes, Limits::default(), None, &[usize::MAX]);
        let headers = headers.iter().copied().collect();
        assert!(heard.frames == [Frame { command, headers, body: Default::default() }]);
        assert_eq!(heard.end, None);
    }
}

#[test]
fn a_disconnect_without_its_blank_line_is_read_as_the_specification_prints_it() {
    for version in ALL {
        check(
            version,
            b"DISCONNECT\nreceipt:77\n\0",
            Command::Disconnect,
            &[("receipt", "77")],
            b"",
        );
        check(version, b"DISCONNECT\n\0", Command::Disconnect, &[], b"");
        refused(version, b"DISCONNECT\nreceipt:77\0", FrameError::NulInHeaders);
        refused(version, b"SEND\ndestination:/queue/a\n\0", FrameError::NulInHeaders);
        refused(version, b"SUBSCRIBE\n\0", FrameError::NulInHeaders);
    }
}

#[test]
fn connect_frames_are_not_unescaped() {
    for command in ["CONNECT", "STOMP", "CONNECTED"] {
        let bytes = format!("{command}\npasscode:a\\cb:c\\q\n\n\0");
        for version in [None, Some(Version::V1_2)] {
            let heard = read(bytes.as_bytes(), Limits::default(), version, &[3]);
            assert_eq!(heard.frames[0].header("passcode"), Some("a\\cb:c\\q"));
        }
    }
}

#[test]
fn escapes_are_those_of_the_version() {
    let value = |version, escaped: &str| {
        let bytes = format!("SEND\nx{escaped}:{escaped}\n\n\0");
        read_as(version, bytes.as_bytes()).map(|frames| {
            let (name, value) = frames[0].headers.iter().next().expect("a header");
            assert_eq!(name, format!("x{value}"));
            value.to_owned()
        })
    };
    assert_eq!(value(Version::V1_0, "a\\nb\\\\c").as_deref(), Ok("a\\nb\\\\c"));
    assert_eq!(value(Version::V1_1, "a\\nb\\cc\\\\n\\\\").as_deref(), Ok("a\nb:c\\n\\"));
    assert_eq!(value(Version::V1_2, "a\\nb\\cc\\\\r\\r").as_deref(), Ok("a\nb:c\\r\r"));
    assert_eq!(value(Version::V1_1, "\\r"), Err(FrameError::UnknownEscape));
    for version in [Version::V1_1, Version::V1_2] {
        for escaped in ["\\t", "\\", "\\\\\\", "a\\N", "\\0", "\\ü"] {
            assert_eq!(value(version, escaped), Err(FrameError::UnknownEscape), "{escaped}");
        }
    }
}

#[test]
fn a_colon_in_a_value_needs_no_escape() {
    for version in ALL {
        let frame = one(version, b"SEND\ndestination:/topic/chat:lobby\n\n\0");
        assert_eq!(frame.header("destination"), Some("/topic/chat:lobby"));
    }
}

#[test]
fn spaces_belong_to_the_header_from_1_1_on() {
    for version in [Version::V1_1, Version::V1_2] {
        let frame = one(version, b"SEND\n a :  b \n\n\0");
        assert_eq!(frame.headers.iter().collect::<Vec<_>>(), [(" a ", "  b ")]);
    }
    let frame = one(Version::V1_0, b"SEND\n a :  b \nempty:\n\n\0");
    assert_eq!(frame.headers.iter().collect::<Vec<_>>(), [("a", "b"), ("empty", "")]);
}

#[test]
fn only_the_first_of_repeated_headers_counts() {
    for version in ALL {
        let frame = one(version, b"MESSAGE\nfoo:World\nbar:1\nfoo:Hello\n\n\0");
        assert_eq!(frame.header("foo"), Some("World"));
        assert_eq!(frame.headers.len(), 2);
        // Above all of what decides where a frame ends.
        let frame = one(version, b"SEND\ncontent-length:3\ncontent-length:1\n\na\0b\0");
        assert_eq!(&frame.body[..], b"a\0b");
    }
    let frame = one(Version::V1_1, b"SEND\na\\cb:1\na\\cb:2\n\n\0");
    assert_eq!(frame.headers.iter().collect::<Vec<_>>(), [("a:b", "1")]);
}

#[test]
fn lines_may_end_with_carriage_return_and_line_feed() {
    for version in ALL {
        let bytes =
            b"\r\n\r\nSEND\r\ndestination:/queue/a\r\ncontent-length:4\r\n\r\n\r\n\0x\0\r\n";
        let frame = one(version, bytes);
        assert_eq!(frame.header("destination"), Some("/queue/a"));
        assert_eq!(&frame.body[..], b"\r\n\0x");
    }
    refused(Version::V1_2, b"SEND\na:b\rc\n\n\0", FrameError::StrayCarriageReturn);
    refused(Version::V1_2, b"SEND\na:b\r\r\n\n\0", FrameError::StrayCarriageReturn);
    assert_eq!(one(Version::V1_1, b"SEND\na:b\rc\n\n\0").header("a"), Some("b\rc"));
}

#[test]
fn a_body_with_content_length_may_hold_nuls_and_one_without_ends_at_the_first() {
    for version in ALL {
        let frame = one(version, b"SEND\ncontent-length:5\n\n\0a\0b\0\0");
        assert_eq!(&frame.body[..], b"\0a\0b\0");
        assert_eq!(one(version, b"SEND\ncontent-length:0\n\n\0").body.len(), 0);
        assert_eq!(one(version, b"SEND\ncontent-length: 2 \n\nhi\0").body.len(), 2);
        let frames = read_as(version, b"SEND\n\na\0SEND\n\nb\0").expect("two frames");
        assert_eq!((&frames[0].body[..], &frames[1].body[..]), (&b"a"[..], &b"b"[..]));
    }
}

#[test]
fn a_content_length_that_is_wrong_is_refused() {
    for version in ALL {
        let mismatch = |content_length| FrameError::ContentLengthMismatch { content_length };
        refused(version, b"SEND\ncontent-length:3\n\nhello\0", mismatch(3));
        refused(version, b"SEND\ncontent-length:0\n\nhello\0", mismatch(0));
        for length in ["", "-1", "+1", "1.0", "0x10", "five", "1 2", "\u{663}"] {
            let bytes = format!("SEND\ncontent-length:{length}\n\nhello\0");
            refused(version, bytes.as_bytes(), FrameError::BadContentLength);
        }
    }
}

#[test]
fn what_announces_itself_too_large_is_refused_before_it_arrives() {
    for length in ["1310720", "4294967295", "4294967296", "99999999999999999999999999"] {
        let bytes = format!("SEND\ncontent-length:{length}\n\n");
        let error = FrameError::FrameTooLarge { max: 1_310_720 };
        refused(Version::V1_2, bytes.as_bytes(), error);
    }
    // A body of 1 MiB fits.
    let bytes = [b"SEND\ncontent-length:1048576\n\n".as_slice(), &vec![7; 1 << 20], b"\0"].concat();
    assert_eq!(one(Version::V1_2, &bytes).body.len(), 1 << 20);
}

#[test]
fn a_body_of_unknown_length_is_cut_off_at_the_limit() {
    let limits = Limits { frame_bytes_max: 20, ..Limits::default() };
    let fits = [b"SEND\n\n".as_slice(), &[b'x'; 13], b"\0"].concat();
    let heard = read(&fits, limits, None, &[1]);
    assert_eq!((heard.frames.len(), heard.end), (1, None));
    let too_large = [b"SEND\n\n".as_slice(), &[b'x'; 15]].concat();
    for steps in [1, usize::MAX] {
        let heard = read(&too_large, limits, None, &[steps]);
        let error = heard.end.expect("an error").error;
        assert_eq!(error, FrameError::FrameTooLarge { max: 20 });
    }
}

#[test]
fn before_there_is_a_version_frames_must_be_small() {
    let limits = Limits { connect_bytes_max: 50, ..Limits::default() };
    let connect = b"CONNECT\naccept-version:1.2\nhost:example\n\n\0";
    let large = format!("SEND\ndestination:/queue/a\n\n{}\0", "x".repeat(100));
    let stream = [connect.as_slice(), large.as_bytes()].concat();
    let heard = read(&stream, limits, Some(Version::V1_2), &[usize::MAX]);
    assert_eq!((heard.frames.len(), heard.end), (2, None));
    let heard = read(large.as_bytes(), limits, Some(Version::V1_2), &[usize::MAX]);
    assert_eq!(heard.end.expect("an error").error, FrameError::FrameTooLarge { max: 50 });
}

#[test]
fn header_bombs_are_refused_at_their_limits() {
    let many = |count: u32| {
        let lines: String = (0..count).map(|number| format!("h{number}:x\n")).collect();
        format!("SEND\n{lines}\n\0").into_bytes()
    };
    assert_eq!(one(Version::V1_2, &many(100)).headers.len(), 100);
    refused(Version::V1_2, &many(101), FrameError::TooManyHeaders { max: 100 });
    // Repeated ones count, too.
    let repeated = format!("SEND\n{}\n\0", "a:b\n".repeat(101)).into_bytes();
    refused(Version::V1_2, &repeated, FrameError::TooManyHeaders { max: 100 });
    let long = |bytes: usize| format!("SEND\nh:{}\r\n\n\0", "x".repeat(bytes - 2)).into_bytes();
    assert_eq!(one(Version::V1_2, &long(10_240)).headers.len(), 1);
    refused(Version::V1_2, &long(10_241), FrameError::HeaderTooLong { max: 10_240 });
    // Also while the line has no end yet.
    let endless = [b"SEND\nh:".as_slice(), &[b'x'; 10_240]].concat();
    refused(Version::V1_2, &endless, FrameError::HeaderTooLong { max: 10_240 });
    let lines: String = (0..99).map(|n| format!("h{n}:{}\n", "x".repeat(2_000))).collect();
    let limits = Limits { frame_bytes_max: 100_000, ..Limits::default() };
    let bytes = format!("CONNECT\n\n\0SEND\n{lines}\n\0");
    let heard = read(bytes.as_bytes(), limits, Some(Version::V1_2), &[usize::MAX]);
    let error = heard.end.expect("an error").error;
    assert_eq!(error, FrameError::FrameTooLarge { max: 100_000 });
}

#[test]
fn what_is_no_command_is_refused_at_once() {
    for version in ALL {
        for bytes in [
            b"GET /stomp HTTP/1.1\r\n".as_slice(),
            b"send\n\n\0",
            b"Send\n\n\0",
            b"SENDX\n\n\0",
            b" SEND\n\n\0",
            b"SEND \n\n\0",
            b"\0",
            b"\0SEND\n\n\0",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00",
            b"UNSUBSCRIBED\n",
            b"XXXXXXXXXXXX",
            b"SEND\0",
            b"destination:/queue/a\n",
            "\u{feff}SEND\n\n\0".as_bytes(),
        ] {
            refused(version, bytes, FrameError::UnknownCommand);
        }
    }
}

#[test]
fn headers_that_are_none_are_refused() {
    for version in ALL {
        refused(version, b"SEND\ndestination\n\n\0", FrameError::HeaderWithoutColon);
        refused(version, b"SEND\n \n\n\0", FrameError::HeaderWithoutColon);
        refused(version, b"SEND\n:value\n\n\0", FrameError::HeaderWithoutName);
        refused(version, b"SEND\ndestination:/queue/a\0", FrameError::NulInHeaders);
        refused(version, b"SEND\na:b\0c\n\n\0", FrameError::NulInHeaders);
        refused(version, b"SEND\na:\xff\n\n\0", FrameError::HeaderNotUtf8);
        refused(version, b"SEND\n\xc3\x28:a\n\n\0", FrameError::HeaderNotUtf8);
        refused(version, b"SEND\na:\xed\xa0\x80\n\n\0", FrameError::HeaderNotUtf8);
    }
    refused(Version::V1_0, b"SEND\n  :value\n\n\0", FrameError::HeaderWithoutName);
}

#[test]
fn a_body_where_none_belongs_is_refused_except_where_1_0_ignores_it() {
    let bytes = b"SUBSCRIBE\nid:0\ndestination:/queue/a\n\nbody\0";
    assert_eq!(one(Version::V1_0, bytes).body.len(), 0);
    for version in [Version::V1_1, Version::V1_2] {
        let error = FrameError::UnexpectedBody { command: Command::Subscribe };
        refused(version, bytes, error);
        // People who write frames by hand end them with one line too many.
        assert_eq!(one(version, b"SUBSCRIBE\nid:0\n\n\r\n\n\0").body.len(), 0);
    }
    let heard = read(b"CONNECT\n\nbody\0", Limits::default(), None, &[usize::MAX]);
    let error = FrameError::UnexpectedBody { command: Command::Connect };
    assert_eq!(heard.end.expect("an error").error, error);
}

#[test]
fn a_bad_frame_says_which_command_and_receipt_it_had() {
    let bytes = b"SEND\nreceipt:r\\c1\ndestination:/queue/a\nbroken\n\n\0";
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(Version::V1_2);
    let bad = decoder.decode(&mut &bytes[..]).expect_err("it is broken");
    assert_eq!((bad.command, bad.receipt.as_deref()), (Some(Command::Send), Some("r:1")));
    assert_eq!(bad.error.label(), "malformed_header");
}

#[test]
fn line_ends_between_frames_are_heart_beats_and_cost_one_event_each_read() {
    let mut decoder = Decoder::new(Limits::default());
    let mut input = b"\n\r\n\n\nSEND\n\n\0\n\n".as_slice();
    assert_eq!(decoder.decode(&mut input), Ok(Some(Event::HeartBeat)));
    assert!(matches!(decoder.decode(&mut input), Ok(Some(Event::Frame(_)))));
    assert_eq!(decoder.decode(&mut input), Ok(Some(Event::HeartBeat)));
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(!decoder.is_within_frame());
    // Within a frame a line end is part of it.
    assert_eq!(decoder.decode(&mut b"SEND\n\n".as_slice()), Ok(None));
    assert_eq!(decoder.decode(&mut b"\n".as_slice()), Ok(None));
    assert!(decoder.is_within_frame());
    let Ok(Some(Event::Frame(frame))) = decoder.decode(&mut b"\0".as_slice()) else {
        panic!("a frame");
    };
    assert_eq!(&frame.body[..], b"\n");
}

#[test]
fn several_frames_in_one_message_and_one_frame_over_several() {
    let stream = [
        b"SEND\ndestination:/queue/a\n\none\0\n".as_slice(),
        b"SEND\ndestination:/queue/b\ncontent-length:40000\n\n",
        &[0; 40_000],
        b"\0SEND\ndestination:/queue/c\n\nthree\0",
    ]
    .concat();
    for steps in [&[usize::MAX][..], &[16 * 1024], &[1], &[7, 100, 1]] {
        let heard = read(&stream, Limits::default(), Some(Version::V1_2), steps);
        let lengths: Vec<_> = heard.frames.iter().map(|frame| frame.body.len()).collect();
        assert_eq!(lengths, [3, 40_000, 5]);
        assert!(heard.end.is_none() && !heard.is_partial);
    }
}

#[test]
fn an_idle_decoder_is_small_and_an_unfinished_frame_is_known() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
    let heard = read(b"SEND\ndest", Limits::default(), None, &[usize::MAX]);
    assert!(heard.is_partial && heard.frames.is_empty() && heard.end.is_none());
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let bytes = b"CONNECT\nlogin:ann\npasscode:s3cret\nauthorization:Bearer s3cret\nhost:h\n\n\0";
    let frame = one(Version::V1_2, bytes);
    let shown = format!("{frame:?} {:?}", frame.headers);
    assert!(!shown.contains("s3cret") && !shown.contains("ann") && shown.contains("\"h\""));
}
