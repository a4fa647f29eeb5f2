//! Runs the committed fuzzing corpus of a target as a plain test, so that what a fuzzer once found stays found.

use std::path::Path;

pub(crate) fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is committed") {
        check(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}
