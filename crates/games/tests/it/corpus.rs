//! The committed fuzzing corpora as plain tests.

use std::path::Path;

use crate::checks;

fn run(target: &str, check: fn(&[u8])) {
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

#[test]
fn the_corpora_of_all_families_pass() {
    run("game_palworld", checks::check_palworld);
    run("game_rcon", checks::check_rcon);
    run("game_slp", checks::check_slp);
    run("game_query", checks::check_query);
    run("game_management", checks::check_management);
    run("game_ping", checks::check_ping);
    run("game_a2s", checks::check_a2s);
    run("game_quake3", checks::check_quake3);
    run("game_teeworlds", checks::check_teeworlds);
    run("game_econ", checks::check_econ);
}
