//! Filters over tags.

use std::collections::BTreeMap;

use naru_wire::centrifuge::{
    FilterError, FilterNode, FrameLimits, Protocol, Request, TagsFilter, decode_frame,
};

/// A tree from the JSON that a client sends.
fn tree(json: &str) -> FilterNode {
    let frame = format!(r#"{{"id":1,"subscribe":{{"tf":{json}}}}}"#);
    let limits = FrameLimits { command_bytes_max: 1 << 20, ..FrameLimits::DEFAULT };
    let command = decode_frame(Protocol::Json, frame.into(), limits).next();
    let Request::Subscribe(subscribe) = command.expect("a command").expect("it is good").request
    else {
        panic!("a subscribe")
    };
    subscribe.tf.expect("a filter")
}

fn leaf(cmp: &str, val: &str) -> String {
    format!(r#"{{"key":"k","cmp":"{cmp}","val":"{val}"}}"#)
}

#[track_caller]
fn check(json: &str, tag: Option<&str>, expected: bool) {
    let filter = TagsFilter::parse(&tree(json)).expect("it makes sense");
    let tags: BTreeMap<String, String> =
        tag.map(|tag| ("k".to_owned(), tag.to_owned())).into_iter().collect();
    assert_eq!(filter.matches(&tags), expected, "{json} {tag:?}");
}

#[track_caller]
fn refuse(json: &str, expected: FilterError) {
    assert_eq!(TagsFilter::parse(&tree(json)), Err(expected), "{json}");
}

#[test]
fn texts_are_compared() {
    for (cmp, val, tag, expected) in [
        ("eq", "a", "a", true),
        ("eq", "a", "b", false),
        ("eq", "", "", true),
        ("neq", "a", "b", true),
        ("neq", "a", "a", false),
        ("sw", "ab", "abc", true),
        ("sw", "bc", "abc", false),
        ("ew", "bc", "abc", true),
        ("ew", "ab", "abc", false),
        ("ct", "b", "abc", true),
        ("ct", "x", "abc", false),
        ("ex", "", "", true),
        ("nex", "", "a", false),
    ] {
        check(&leaf(cmp, val), Some(tag), expected);
    }
    let list = |cmp: &str| format!(r#"{{"key":"k","cmp":"{cmp}","vals":["a","b"]}}"#);
    check(&list("in"), Some("b"), true);
    check(&list("in"), Some("c"), false);
    check(&list("nin"), Some("c"), true);
    check(&list("nin"), Some("a"), false);
}

#[test]
fn a_missing_tag_matches_only_what_speaks_of_its_absence() {
    for cmp in ["eq", "sw", "ew", "ct", "gt", "gte", "lt", "lte", "ex"] {
        check(&leaf(cmp, "1"), None, false);
    }
    for cmp in ["neq", "nex"] {
        check(&leaf(cmp, "1"), None, true);
    }
    check(r#"{"key":"k","cmp":"in","vals":["a"]}"#, None, false);
    check(r#"{"key":"k","cmp":"nin","vals":["a"]}"#, None, true);
}

#[test]
fn numbers_are_compared_exactly_whatever_their_length() {
    let ordered = [
        "-100000000000000000000000001",
        "-2.5",
        "-2.49",
        "-0.1",
        "0",
        "0.1",
        "0.25",
        "1",
        "1.5",
        "2",
        "10",
        "9007199254740993",
        "9007199254740993.1",
        "100000000000000000000000000",
    ];
    for (i, smaller) in ordered.iter().enumerate() {
        for (j, other) in ordered.iter().enumerate() {
            check(&leaf("gt", smaller), Some(other), j > i);
            check(&leaf("gte", smaller), Some(other), j >= i);
            check(&leaf("lt", smaller), Some(other), j < i);
            check(&leaf("lte", smaller), Some(other), j <= i);
        }
    }
    for (one, same) in [("1", "01.00"), ("0", "-0.0"), ("+3", "3"), ("1.50", "1.5")] {
        check(&leaf("gte", one), Some(same), true);
        check(&leaf("lte", one), Some(same), true);
        check(&leaf("gt", one), Some(same), false);
    }
}

#[test]
fn what_is_no_number_is_neither_greater_nor_less() {
    for tag in ["", "a", "1e3", "0x1", "1.", ".5", "1.2.3", "--1", "NaN", "1 "] {
        for cmp in ["gt", "gte", "lt", "lte"] {
            check(&leaf(cmp, "0"), Some(tag), false);
        }
    }
    refuse(&leaf("gt", "x"), FilterError::Incomplete);
}

#[test]
fn operations_join_comparisons() {
    let (a, b) = (leaf("sw", "a"), leaf("ew", "b"));
    let joined = |op: &str| format!(r#"{{"op":"{op}","nodes":[{a},{b}]}}"#);
    check(&joined("and"), Some("ab"), true);
    check(&joined("and"), Some("ax"), false);
    check(&joined("or"), Some("ax"), true);
    check(&joined("or"), Some("xx"), false);
    let not = format!(r#"{{"op":"not","nodes":[{}]}}"#, joined("and"));
    check(&not, Some("ab"), false);
    check(&not, Some("ax"), true);
    check(&not, None, true);
}

#[test]
fn a_filter_that_makes_no_sense_is_refused() {
    refuse(r#"{"op":"xor","nodes":[{"key":"k","cmp":"ex"}]}"#, FilterError::UnknownOperation);
    refuse(r#"{"op":"and"}"#, FilterError::WrongPartCount);
    refuse(
        r#"{"op":"not","nodes":[{"key":"k","cmp":"ex"},{"key":"k","cmp":"ex"}]}"#,
        FilterError::WrongPartCount,
    );
    refuse(r#"{"key":"k","cmp":"like","val":"x"}"#, FilterError::UnknownComparison);
    refuse(r#"{"key":"k"}"#, FilterError::UnknownComparison);
    refuse(r#"{"cmp":"ex"}"#, FilterError::Incomplete);
    refuse(r#"{"key":"k","cmp":"in"}"#, FilterError::Incomplete);
    refuse(r#"{"key":"k","cmp":"sw"}"#, FilterError::Incomplete);
}

#[test]
fn a_filter_that_would_cost_too_much_is_refused() {
    let leaf = r#"{"key":"k","cmp":"ex"}"#;
    let wide = |count: usize| format!(r#"{{"op":"or","nodes":[{}]}}"#, vec![leaf; count].join(","));
    assert!(TagsFilter::parse(&tree(&wide(TagsFilter::NODES_MAX - 1))).is_ok());
    refuse(&wide(TagsFilter::NODES_MAX), FilterError::TooManyNodes);
    let deep = |levels: usize| {
        let (open, close) =
            (r#"{"op":"not","nodes":["#.repeat(levels - 1), "]}".repeat(levels - 1));
        format!("{open}{leaf}{close}")
    };
    assert!(TagsFilter::parse(&tree(&deep(TagsFilter::DEPTH_MAX))).is_ok());
    refuse(&deep(TagsFilter::DEPTH_MAX + 1), FilterError::TooDeep);
    let values = |count: usize| {
        format!(r#"{{"key":"k","cmp":"in","vals":[{}]}}"#, vec!["\"a\""; count].join(","))
    };
    assert!(TagsFilter::parse(&tree(&values(TagsFilter::VALUES_MAX))).is_ok());
    refuse(&values(TagsFilter::VALUES_MAX + 1), FilterError::TooManyValues);
    let long = |bytes: usize| format!(r#"{{"key":"k","cmp":"eq","val":"{}"}}"#, "a".repeat(bytes));
    assert!(TagsFilter::parse(&tree(&long(TagsFilter::BYTES_MAX - 1))).is_ok());
    refuse(&long(TagsFilter::BYTES_MAX), FilterError::TooLarge);
}
