//! Runs the committed fuzzing corpus of addresses as a plain test, with the check of the fuzz target.

use std::path::Path;

use naru_outbound::AddressGuard;

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
fn the_corpus_of_webhook_addresses_lets_only_the_public_one_through() {
    let guard = AddressGuard::public_only();
    for (name, text) in corpus("webhook_address") {
        let checked = guard.check_url(std::str::from_utf8(&text).expect("UTF-8"));
        assert_eq!(checked.is_ok(), name == "public", "{name}: {checked:?}");
    }
}
