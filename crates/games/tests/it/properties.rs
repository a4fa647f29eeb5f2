//! No bytes make a codec panic, read beyond them, or keep more than the limits: random ones, and those of the
//! corpora with a few bytes changed, which get further in.

use std::path::Path;

use proptest::prelude::*;

use crate::checks;

type Check = fn(&[u8]);

const FAMILIES: [(&str, Check); 10] = [
    ("game_palworld", checks::check_palworld),
    ("game_rcon", checks::check_rcon),
    ("game_slp", checks::check_slp),
    ("game_query", checks::check_query),
    ("game_management", checks::check_management),
    ("game_ping", checks::check_ping),
    ("game_a2s", checks::check_a2s),
    ("game_quake3", checks::check_quake3),
    ("game_teeworlds", checks::check_teeworlds),
    ("game_econ", checks::check_econ),
];

fn corpus() -> Vec<(Check, Vec<u8>)> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
    let files = FAMILIES.into_iter().flat_map(|(target, check)| {
        let folder = Path::new(&root).join("../../fuzz/corpus").join(target);
        let entries = std::fs::read_dir(folder).expect("the corpus is committed");
        entries.map(move |it| (check, std::fs::read(it.expect("an entry").path()).expect("a file")))
    });
    files.collect()
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (_, check) in FAMILIES {
            check(&bytes);
        }
    }

    #[test]
    fn changed_and_cut_answers_are_read_or_refused(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        end in any::<proptest::sample::Index>(),
    ) {
        for (check, mut bytes) in corpus() {
            if bytes.is_empty() {
                continue;
            }
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            check(&bytes);
            check(&bytes[..end.index(bytes.len())]);
        }
    }
}
