//! The upgrade request, header by header.

use naru_wire::ws::{HandshakeError, LIST_ITEMS_MAX, UpgradeRequest, accept_key, check_request};

const GOOD: [(&str, &str); 5] = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

fn ask<'a>(headers: &[(&'a str, &'a str)]) -> Result<UpgradeRequest<'a>, HandshakeError> {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    check_request("GET", (1, 1), headers.collect::<Vec<_>>())
}

fn good_and<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    GOOD.into_iter().chain(more.iter().copied()).collect()
}

/// The good request with one header changed, or without it.
fn with<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let others = GOOD.into_iter().filter(|(other, _)| *other != name);
    let changed = GOOD.into_iter().find(|(other, _)| *other == name).expect("a header of these");
    others.chain(value.map(|value| (changed.0, value))).collect()
}

fn refused(headers: &[(&str, &str)]) -> (HandshakeError, u16) {
    let error = ask(headers).expect_err("to be refused");
    (error, error.status())
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    assert_eq!(ask(&GOOD).unwrap().accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn names_and_tokens_are_read_in_any_case_and_place() {
    let request = [
        ("upgrade", "h2c, WebSocket"),
        ("CONNECTION", "keep-alive"),
        ("connection", "foo , uPgRaDe"),
        ("sec-websocket-key", " dGhlIHNhbXBsZSBub25jZQ== "),
        ("Sec-Websocket-Version", "8, 13"),
    ];
    assert!(ask(&request).is_ok());
}

#[test]
fn each_thing_that_is_missing_or_wrong_has_its_answer() {
    use HandshakeError as E;
    let cases = [
        (with("Upgrade", None), E::NotUpgrade, 426),
        (with("Upgrade", Some("h2c")), E::NotUpgrade, 426),
        (with("Connection", None), E::NoConnectionUpgrade, 400),
        (with("Connection", Some("close")), E::NoConnectionUpgrade, 400),
        (with("Sec-WebSocket-Version", None), E::WrongVersion, 426),
        (with("Sec-WebSocket-Version", Some("12")), E::WrongVersion, 426),
        (with("Sec-WebSocket-Key", None), E::BadKey, 400),
        (with("Sec-WebSocket-Key", Some("")), E::BadKey, 400),
        (with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZQ")), E::BadKey, 400),
        (with("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZSBub25jZSE=")), E::BadKey, 400),
        (with("Sec-WebSocket-Key", Some("!!!lIHNhbXBsZSBub25jZQ==")), E::BadKey, 400),
        (good_and(&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]), E::BadKey, 400),
        (good_and(&[("Sec-WebSocket-Protocol", "a b")]), E::BadProtocols, 400),
        (good_and(&[("Sec-WebSocket-Protocol", "\"a\"")]), E::BadProtocols, 400),
        (good_and(&[("Sec-WebSocket-Extensions", "a=b")]), E::BadExtensions, 400),
        (good_and(&[("Sec-WebSocket-Extensions", "a; b=\"c")]), E::BadExtensions, 400),
        (good_and(&[("Sec-WebSocket-Extensions", "a; ;")]), E::BadExtensions, 400),
        (good_and(&[("Sec-WebSocket-Extensions", "a b")]), E::BadExtensions, 400),
    ];
    for (request, error, status) in cases {
        assert_eq!(refused(&request), (error, status), "{request:?}");
    }
    let headers = || GOOD.map(|(name, value)| (name, value.as_bytes()));
    assert_eq!(check_request("POST", (1, 1), headers()), Err(E::NotGet));
    assert_eq!(check_request("GET", (1, 0), headers()), Err(E::HttpVersion));
    assert_eq!(check_request("GET", (2, 0), headers()), Err(E::HttpVersion));
    assert_eq!([E::NotGet, E::HttpVersion].map(E::status), [405, 505]);
}

#[test]
fn our_first_choice_among_the_offered_subprotocols_is_taken() {
    let ours = ["v12.stomp", "v11.stomp", "v10.stomp"];
    let chosen = |offers: &[&str]| {
        let headers: Vec<_> =
            offers.iter().map(|offer| ("Sec-WebSocket-Protocol", *offer)).collect();
        ask(&good_and(&headers)).unwrap().negotiate(&ours, false).protocol
    };
    assert_eq!(chosen(&["v10.stomp, v11.stomp"]), Some("v11.stomp"));
    assert_eq!(chosen(&["v10.stomp", "mqtt,v12.stomp"]), Some("v12.stomp"));
    assert_eq!(chosen(&["V12.STOMP"]), None, "they are case-sensitive");
    assert_eq!(chosen(&["mqtt,,"]), None);
    assert_eq!(chosen(&[]), None);
}

#[test]
fn long_lists_are_refused() {
    let names: Vec<String> = (0..=LIST_ITEMS_MAX).map(|index| format!("p{index}")).collect();
    let (fits, too_long) = (names[1..].join(","), names.join(","));
    for header in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
        assert!(ask(&good_and(&[(header, &fits)])).is_ok());
        let (error, status) = refused(&good_and(&[(header, &too_long)]));
        assert_eq!((error, status), (HandshakeError::TooManyOffers, 400));
    }
    let params = format!("x{}", ";y".repeat(100));
    let (error, _) = refused(&good_and(&[("Sec-WebSocket-Extensions", &params)]));
    assert_eq!(error, HandshakeError::TooManyOffers);
}

#[test]
fn a_header_of_commas_and_blanks_is_read_in_one_go() {
    // Quadratic parsers need minutes for this (CVE-2021-32640).
    let blanks = format!("a{}b", " ".repeat(200_000));
    let commas = ",".repeat(200_000);
    assert!(ask(&good_and(&[("Sec-WebSocket-Protocol", &blanks)])).is_err());
    assert!(ask(&good_and(&[("Sec-WebSocket-Protocol", &commas)])).is_ok());
    assert!(ask(&good_and(&[("Sec-WebSocket-Extensions", &blanks)])).is_err());
    assert!(ask(&good_and(&[("Sec-WebSocket-Extensions", &commas)])).is_ok());
}

/// The answer to an offer of extensions.
fn extensions(offer: &str) -> Option<String> {
    let request = good_and(&[("Sec-WebSocket-Extensions", offer)]);
    let accepted = ask(&request).expect("a good request").negotiate(&[], true);
    assert_eq!(accepted.extensions().is_some(), accepted.deflate_window_bits.is_some());
    accepted.extensions()
}

const PLAIN: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

#[test]
fn compression_is_accepted_without_context_takeover() {
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=8",
        "permessage-deflate; client_max_window_bits=\"12\"",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate;client_max_window_bits",
        "foo; bar=\"a, b; \\\" c\" , permessage-deflate",
    ] {
        assert_eq!(extensions(offer).as_deref(), Some(PLAIN), "{offer}");
    }
    let request = good_and(&[("Sec-WebSocket-Extensions", "permessage-deflate")]);
    let refused = ask(&request).unwrap().negotiate(&[], false);
    assert_eq!((refused.extensions(), refused.deflate_window_bits), (None, None));
}

#[test]
fn a_smaller_window_is_kept_and_confirmed() {
    let confirmed = format!("{PLAIN}; server_max_window_bits=10");
    assert_eq!(
        extensions("permessage-deflate; server_max_window_bits=10"),
        Some(confirmed.clone()),
    );
    // Offers are taken in the client's order, and those that we cannot keep are passed over.
    let offers = "permessage-deflate; server_max_window_bits=8, \
                  permessage-deflate; server_max_window_bits=10, permessage-deflate";
    assert_eq!(extensions(offers), Some(confirmed));
}

#[test]
fn offers_that_make_no_sense_are_declined_and_not_failed_at() {
    for offer in [
        "deflate-frame",
        "PERMESSAGE-DEFLATE",
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    ] {
        assert_eq!(extensions(offer), None, "{offer}");
    }
}
