//! The committed fuzzing corpus of packed figures as a plain test.

use std::path::Path;

#[path = "support/ward_block.rs"]
mod ward_block;

#[test]
fn the_corpus_of_ward_block_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/ward_block");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is committed") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        ward_block::check(&bytes);
        for cut in 0..bytes.len() {
            ward_block::check(&bytes[..cut]);
        }
        count += 1;
    }
    assert!(count > 0, "the corpus is empty");
}
