//! Fossil deltas.

use naru_wire::delta::{DeltaError, apply, create, create_text};

const BASE: &str =
    r#"{"player":"Bo","x":10,"y":20,"inventory":["sword","shield","potion"],"hp":100}"#;

#[track_caller]
fn smaller(base: &str, target: &str) -> String {
    let delta = create(base.as_bytes(), target.as_bytes()).expect("they are alike");
    assert!(delta.len() < target.len());
    assert_eq!(apply(base.as_bytes(), &delta, 1 << 20).as_deref(), Ok(target.as_bytes()));
    String::from_utf8(delta).expect("this one is text")
}

#[test]
fn a_small_change_makes_a_small_delta() {
    let delta = smaller(BASE, &BASE.replace("10", "11"));
    assert!(delta.len() < 30, "{delta}");
    let delta = smaller(BASE, &format!("{BASE} "));
    assert!(delta.len() < 20, "{delta}");
    smaller(BASE, &BASE[20..]);
    smaller(BASE, &format!("{BASE}{BASE}{BASE}"));
}

#[test]
fn a_delta_has_the_form_that_clients_expect() {
    // 26 bytes are `Q`; copy 20 (`K`) from 0, insert 6, then the sum of all words.
    assert_eq!(
        smaller("abcdefghijklmnopqrst", "abcdefghijklmnopqrst012345"),
        "Q\nK@0,6:0123451oU_iF;"
    );
}

#[test]
fn what_is_not_alike_has_no_delta() {
    for (base, target) in [
        ("", ""),
        ("", BASE),
        (BASE, ""),
        ("abc", "abc"),
        (BASE, "something else that is long enough to be looked at"),
        (BASE, "short"),
    ] {
        assert_eq!(create(base.as_bytes(), target.as_bytes()), None);
        assert_eq!(create_text(base.as_bytes(), target.as_bytes()), None);
    }
}

#[test]
fn a_text_delta_never_cuts_a_character() {
    // The base and the target share bytes inside of their characters: é is C3 A9, è is C3 A8.
    let base = "a long enough beginning, é and a long enough end of it all";
    let target = "a long enough beginning, è and a long enough end of it all";
    let plain = create(base.as_bytes(), target.as_bytes()).expect("they are alike");
    assert!(std::str::from_utf8(&plain).is_err(), "this pair shows the difference");
    let delta = create_text(base.as_bytes(), target.as_bytes()).expect("they are alike");
    assert!(delta.contains("2:è"), "{delta}");
    let made = apply(base.as_bytes(), delta.as_bytes(), 100);
    assert_eq!(made.as_deref(), Ok(target.as_bytes()));
    let not_text = [target.as_bytes(), b"\xff"].concat();
    assert!(create(base.as_bytes(), &not_text).is_some());
    assert_eq!(create_text(base.as_bytes(), &not_text), None);
}

#[test]
fn a_base_that_repeats_itself_costs_no_more_than_another() {
    let base = "0".repeat(100_000);
    let target = format!("{}1{}", "0".repeat(50_000), "0".repeat(60_000));
    assert!(smaller(&base, &target).len() < 40);
    // Every place of the target has many candidates, of which none goes far.
    let base = "0123456789abcdef0123456789abcdeX".repeat(2_000);
    let target = "0123456789abcdefY".repeat(4_000);
    smaller(&base, &target);
}

#[test]
fn a_broken_or_foreign_delta_is_refused() {
    let refused = |delta: &str| apply(BASE.as_bytes(), delta.as_bytes(), 100).unwrap_err();
    for delta in [
        "",
        "1",
        "1\n",
        "1\n1",
        "1\n1@",
        "1\n1@0",
        "1\n1@0;",
        "1\n5:ab",
        "1\nx",
        "\n0;",
        "1\n1?",
        "~~~~~~~~~~~~\n",
        "1 0;",
    ] {
        assert_eq!(refused(delta), DeltaError::Malformed, "{delta:?}");
    }
    for delta in ["1\n1@~~,", "a\n~~@0,", "1\n~~~~~~~~~~@1,"] {
        assert_eq!(refused(delta), DeltaError::OutsideBase, "{delta:?}");
    }
    assert_eq!(refused("1a\n0;"), DeltaError::TooLarge);
    for delta in ["0\n1;", "1\n0;", "1\n2:ab0;", "1\n2@0,0;", "0\n0;0"] {
        assert_eq!(refused(delta), DeltaError::WrongTarget, "{delta:?}");
    }
    assert_eq!(apply(b"", b"0\n0;", 0).as_deref(), Ok(&b""[..]));
    let delta = smaller(BASE, &BASE.replace("10", "11"));
    let other = BASE.replace("Bo", "Al");
    assert_eq!(apply(other.as_bytes(), delta.as_bytes(), 100), Err(DeltaError::WrongTarget));
}
