//! Runs the committed fuzzing corpus of webhook answers as a plain test, with the checks of the fuzz target.

use std::path::Path;

use naru_bots::hook::parse_replies;
use naru_domain::{ReplyBody, limits};

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("../../fuzz/corpus")
        .join(target);
    let files = std::fs::read_dir(folder).expect("the corpus is committed").map(|entry| {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(entry.path()).expect("a file"))
    });
    files.collect()
}

#[test]
fn the_corpus_of_webhook_answers_keeps_the_limits() {
    for (name, body) in corpus("webhook_answer") {
        let replies = parse_replies(&body);
        let is_wanted = ["text", "image", "mixed", "empty"].contains(&name.as_str());
        assert_eq!(replies.is_ok(), is_wanted, "{name}: {replies:?}");
        for reply in replies.unwrap_or_default() {
            if let ReplyBody::Media { items, .. } = reply {
                assert!((1..=limits::REPLY_MEDIA_ITEMS_MAX).contains(&items.len()), "{name}");
            }
        }
    }
}
