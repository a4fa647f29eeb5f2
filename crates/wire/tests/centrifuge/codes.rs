//! The numbers and texts that SDKs go by, and names of channels.

use naru_wire::centrifuge::{
    CLOSE_REASON_BYTES_MAX, DisconnectCode, ErrorCode, UnsubscribeCode, close_reason, is_json,
    may_reconnect, may_resubscribe,
};

#[test]
fn errors_have_the_numbers_of_the_protocol() {
    let codes: Vec<u32> = ErrorCode::ALL.iter().map(|error| error.code()).collect();
    assert_eq!(codes, (100..=113).collect::<Vec<_>>());
    let temporary: Vec<u32> = ErrorCode::ALL
        .iter()
        .filter(|error| error.is_temporary())
        .map(|error| error.code())
        .collect();
    assert_eq!(temporary, [100, 111, 113]);
    assert!(ErrorCode::ALL.iter().all(|error| !error.message().is_empty()));
}

#[test]
fn disconnects_from_3500_on_are_final_and_those_below_are_not() {
    for end in DisconnectCode::ALL {
        assert_eq!(end.may_reconnect(), end.code() < 3500, "{end:?}");
    }
    for (code, expected) in [
        (1000, true),
        (1006, true),
        (1009, false),
        (2999, true),
        (3499, true),
        (3500, false),
        (3999, false),
        (4000, true),
        (4499, true),
        (4500, false),
        (4999, false),
        (5000, true),
    ] {
        assert_eq!(may_reconnect(code), expected, "{code}");
    }
}

#[test]
fn numbers_of_disconnects_are_in_order_and_their_reasons_are_fit_for_a_close_frame() {
    assert!(DisconnectCode::ALL.is_sorted_by(|a, b| a.code() < b.code()));
    for end in DisconnectCode::ALL {
        assert!(end.reason().len() <= 32);
        assert_eq!(close_reason(end.reason()), end.reason());
    }
}

#[test]
fn unsubscribes_from_2500_on_lead_to_a_new_subscription() {
    let codes = UnsubscribeCode::ALL.map(|end| (end.code(), end.may_resubscribe()));
    assert_eq!(codes, [(2000, false), (2500, true), (2501, true), (2502, true)]);
    assert!(!may_resubscribe(2499) && may_resubscribe(2600));
    assert!(UnsubscribeCode::ALL.iter().all(|end| !end.reason().is_empty()));
}

#[test]
fn a_reason_of_an_application_is_made_fit_for_a_close_frame() {
    let long = "é".repeat(CLOSE_REASON_BYTES_MAX);
    let number = "7".repeat(200);
    for raw in ["", "42", "true", "null", "{\"code\":1}", " 1 ", "\"x\"", "banned", &long, &number]
    {
        let reason = close_reason(raw);
        assert!(!reason.is_empty() && reason.len() <= CLOSE_REASON_BYTES_MAX, "{raw}");
        assert!(!is_json(reason.as_bytes()), "{reason}");
    }
    assert_eq!(close_reason("banned"), "banned");
    assert_eq!(close_reason("42"), "reason: 42");
}
