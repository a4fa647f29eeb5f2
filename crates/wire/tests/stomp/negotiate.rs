//! Versions, heart-beats, subprotocols, destinations, positions.

use std::time::Duration;

use naru_domain::{Epoch, Offset, Position};
use naru_wire::stomp::{
    Destination, HeartBeat, Version, choose_subprotocol, negotiate, parse_position, position_text,
};

#[test]
fn the_highest_common_version_is_chosen() {
    let cases = [
        (None, Some(Version::V1_0)),
        (Some("1.0"), Some(Version::V1_0)),
        (Some("1.0,1.1,2.0"), Some(Version::V1_1)),
        (Some("1.2,1.1,1.0"), Some(Version::V1_2)),
        (Some(" 1.0, 1.2 "), Some(Version::V1_2)),
        (Some("2.0,3"), None),
        (Some(""), None),
        (Some("1"), None),
    ];
    for (accepted, version) in cases {
        assert_eq!(negotiate(accepted, None), version, "{accepted:?}");
    }
}

#[test]
fn a_subprotocol_stands_for_a_version_when_connect_names_none() {
    assert_eq!(negotiate(None, Some(Version::V1_2)), Some(Version::V1_2));
    assert_eq!(negotiate(Some("1.1,1.0"), Some(Version::V1_2)), Some(Version::V1_1));
    assert_eq!(negotiate(Some("9"), Some(Version::V1_2)), None);
}

#[test]
fn the_best_subprotocol_offered_is_chosen_whatever_its_place() {
    let cases: [(&[&str], Option<Version>); 6] = [
        (&["v10.stomp, v11.stomp, v12.stomp"], Some(Version::V1_2)),
        (&["v12.stomp,v10.stomp"], Some(Version::V1_2)),
        (&["graphql-ws", "v11.stomp"], Some(Version::V1_1)),
        (&["V12.STOMP"], None),
        (&["mqtt"], None),
        (&[], None),
    ];
    for (offered, version) in cases {
        assert_eq!(choose_subprotocol(offered.iter().copied()), version, "{offered:?}");
    }
}

#[test]
fn heart_beats_go_as_often_as_both_can_bear() {
    let ours = HeartBeat { can_send_ms: 10_000, wants_ms: 10_000 };
    let check = |header, send: Option<u64>, expect: Option<u64>| {
        let theirs = HeartBeat::parse(header).expect("a heart-beat");
        assert_eq!(ours.send_every(theirs), send.map(Duration::from_millis), "{header}");
        assert_eq!(ours.expect_every(theirs), expect.map(Duration::from_millis), "{header}");
    };
    check("0,0", None, None);
    check("0,5000", Some(10_000), None);
    check("1,1", Some(10_000), Some(10_000));
    check("20000,0", None, Some(20_000));
    check(" 4000 , 30000 ", Some(30_000), Some(10_000));
    check("99999999999999999999,0", None, Some(u64::from(u32::MAX)));
    let none = HeartBeat::default();
    let theirs = HeartBeat { can_send_ms: 1, wants_ms: 1 };
    assert_eq!((none.send_every(theirs), none.expect_every(theirs)), (None, None));
    let silence = ours.gone_after(HeartBeat { can_send_ms: 10_000, wants_ms: 0 });
    assert_eq!(silence, Some(Duration::from_secs(21)));
}

#[test]
fn what_is_no_heart_beat_is_refused() {
    for header in ["", "1", ",", "1,", ",1", "-1,0", "1,2,3", "a,b", "1.5,2", "+1,2", "1;2"] {
        assert!(HeartBeat::parse(header).is_err(), "{header}");
    }
}

#[test]
fn destinations_are_taken_apart() {
    let cases = [
        ("/topic/chat:lobby", Some(Destination::Topic("chat:lobby"))),
        ("/topic/a/b", Some(Destination::Topic("a/b"))),
        ("/queue/work", Some(Destination::Queue("work"))),
        ("/app/hello", Some(Destination::App("hello"))),
        ("/temp-queue/r", Some(Destination::TempQueue("r"))),
        ("/user/queue/x", Some(Destination::OwnQueue("x"))),
        ("/user/queue/queue/x", Some(Destination::OwnQueue("queue/x"))),
        ("/user/ann/queue/x", Some(Destination::UserQueue { user: "ann", name: "x" })),
        ("/user/ann/topic/x", None),
        ("/user/ann/queue/", None),
        ("/user//queue/x", None),
        ("/user/queue/", None),
        ("/user/queue", None),
        ("/topic/", None),
        ("/topic", None),
        ("topic/x", None),
        ("/exchange/x", None),
        ("//x", None),
        ("", None),
    ];
    for (raw, destination) in cases {
        assert_eq!(Destination::parse(raw), destination, "{raw}");
    }
}

#[test]
fn positions_are_two_numbers() {
    let position = Position { epoch: Epoch(u64::MAX), offset: Offset(7) };
    assert_eq!(position_text(position), "18446744073709551615:7");
    assert_eq!(parse_position(&position_text(position)), Some(position));
    for text in ["", ":", "1:", ":1", "1", "1:2:3", "-1:2", "+1:2", "a:b", "18446744073709551616:0"]
    {
        assert_eq!(parse_position(text), None, "{text}");
    }
}
