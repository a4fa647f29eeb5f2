//! Tests of what Naru and a keeper say to each other.

use proptest::prelude::*;

use super::*;

#[test]
fn requests_and_answers_have_a_fixed_form() {
    // A keeper of the version before must understand the Naru that is started after it, so this may only grow.
    let check = |ask: Ask, expected: &str| {
        let line = encode(&Request { id: 1, ask: ask.clone() });
        assert_eq!(String::from_utf8(line.clone()).unwrap(), format!("{expected}\n"));
        assert_eq!(decode::<Request>(&line).unwrap().ask, ask);
    };
    check(Ask::Hello, r#"{"id":1,"ask":"hello"}"#);
    check(Ask::Status, r#"{"id":1,"ask":"status"}"#);
    check(Ask::Input("say \"hi\"".into()), r#"{"id":1,"ask":{"input":"say \"hi\""}}"#);
    let stop = Ask::Signal { signal: 15, to: Target::Game };
    check(stop, r#"{"id":1,"ask":{"signal":{"signal":15,"to":"game"}}}"#);
    check(Ask::Adopt { pid: None }, r#"{"id":1,"ask":{"adopt":{"pid":null}}}"#);
    check(Ask::Quit, r#"{"id":1,"ask":"quit"}"#);
    let said = Said::Answer { id: 1, answer: Answer::Refused(Refusal::InputFull) };
    assert_eq!(encode(&said), b"{\"answer\":{\"id\":1,\"answer\":{\"refused\":\"input_full\"}}}\n");
    assert_eq!(encode(&Said::Event(Event::Empty)), b"{\"event\":\"empty\"}\n");
}

#[test]
fn the_longest_input_fits_into_a_line() {
    let input = "\u{1}".repeat(INPUT_BYTES_MAX);
    assert!(encode(&Request { id: u64::MAX, ask: Ask::Input(input) }).len() <= LINE_BYTES_MAX);
}

#[test]
fn a_line_without_an_end_is_refused_at_its_limit() {
    let mut lines = Lines::default();
    lines.buffer().extend_from_slice(&vec![b'x'; LINE_BYTES_MAX]);
    assert_eq!(lines.next_line(), Ok(None));
    lines.buffer().push(b'x');
    assert_eq!(lines.next_line(), Err(LineTooLong));
}

proptest! {
    #[test]
    fn lines_come_out_as_they_went_in(
        texts in proptest::collection::vec("[^\n]{0,40}", 0..10),
        piece in 1_usize..20,
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| format!("{text}\n").into_bytes()).collect();
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in bytes.chunks(piece) {
            lines.buffer().extend_from_slice(piece);
            while let Some(line) = lines.next_line().unwrap() {
                seen.push(String::from_utf8(line).unwrap());
            }
        }
        prop_assert_eq!(seen, texts);
    }

    #[test]
    fn no_bytes_make_the_words_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode::<Request>(&bytes));
        drop(decode::<Said>(&bytes));
    }
}
