//! The written contracts of both chat protocols against the code: the vectors on their pages go through the codecs,
//! their tables hold what the code holds, and `docs/api/asyncapi-*.json` are made here
//! (`NARU_UPDATE_DOCS=1 cargo test -p naru-wire --test documents`).

mod asyncapi;
mod centrifuge;
mod centrifuge_page;
mod stomp;
mod stomp_page;
mod vectors;

use std::path::PathBuf;

use serde_json::Value;

fn path(below_root: &str) -> PathBuf {
    // Asked at run time: the target folder may be shared with a clone elsewhere.
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"));
    own.join("../..").join(below_root)
}

fn read(below_root: &str) -> String {
    std::fs::read_to_string(path(below_root))
        .unwrap_or_else(|error| panic!("{below_root}: {error}"))
}

/// Holds a document against the file of it, or writes the file anew.
fn check_document(file: &str, document: &Value) {
    let mut text = serde_json::to_string_pretty(document).expect("it is JSON");
    text.push('\n');
    if std::env::var_os("NARU_UPDATE_DOCS").is_some() {
        std::fs::write(path(file), &text).expect("the clone is writable");
    }
    let found = std::fs::read_to_string(path(file)).unwrap_or_default();
    assert!(
        found == text,
        "{file} is not what the code says: NARU_UPDATE_DOCS=1 cargo test -p naru-wire --test documents"
    );
}

/// What stands between fences on a page, in order, with the word behind the first fence.
fn fenced(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(word), None) => open = Some((word.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

#[test]
fn fences_are_found_with_what_they_hold() {
    let page = "a\n```\nb\nc\n```\n```stomp\nd\n```\n";
    let found = fenced(page);
    assert_eq!(found, [("".into(), "b\nc\n".into()), ("stomp".into(), "d\n".into())]);
}
