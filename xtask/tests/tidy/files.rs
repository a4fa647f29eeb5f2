//! What every file of the clone looks like, whatever is in it.

use crate::{complain, ends, read, root, tree};

/// Longer files are two files.
const LINES_MAX: usize = 900;
/// Larger files belong somewhere else than in every clone for ever.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Words that must not appear anywhere. None at the moment; add one with the reason beside it.
const FORBIDDEN_WORDS: &[&str] = &[];

/// Files that people write, and read line by line.
const WRITTEN: [&str; 19] = [
    ".rs",
    ".md",
    ".toml",
    ".py",
    ".js",
    ".mjs",
    ".sh",
    ".sql",
    ".service",
    ".conf",
    ".yml",
    ".yaml",
    ".html",
    ".java",
    ".xml",
    ".go",
    ".tpl",
    "Containerfile",
    ".ci/run",
];
const SOURCES: [&str; 8] = [".rs", ".md", ".py", ".js", ".mjs", ".sh", ".java", ".go"];

fn written() -> impl Iterator<Item = (String, String)> {
    let paths = tree().into_iter().filter(|path| ends(path, &WRITTEN));
    paths.map(|path| {
        let text = read(&path);
        (path, text)
    })
}

#[test]
fn every_rust_file_says_first_what_it_is_responsible_for() {
    let silent: Vec<String> = tree()
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .filter(|path| read(path).strip_prefix("//! ").is_none_or(|rest| rest.len() < 10))
        .collect();
    complain("these files do not begin with `//! …`", &silent);
}

#[test]
fn no_rust_file_has_leftovers_or_tests_that_do_not_run() {
    // In two parts, or this file would complain about itself.
    let banned = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("db", "g!("),
        concat!("#[ig", "nore"),
        concat!("#[should", "_panic"),
    ];
    let mut complaints = Vec::new();
    for path in tree().into_iter().filter(|path| path.ends_with(".rs")) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            for word in banned.iter().filter(|&&word| line.contains(word)) {
                complaints.push(format!("{path}:{number}: {word}"));
            }
        }
    }
    complain("leftovers", &complaints);
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_go() {
    let mut complaints = Vec::new();
    for (path, text) in written().filter(|(path, _)| ends(path, &SOURCES)) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{path} has {lines} lines, at most {LINES_MAX} are allowed"));
        }
    }
    complain("long files", &complaints);
}

#[test]
fn no_file_is_a_large_blob() {
    let mut complaints = Vec::new();
    for path in tree() {
        let bytes = root().join(&path).metadata().expect("it was just listed").len();
        if bytes > FILE_BYTES_MAX {
            complaints
                .push(format!("{path} has {bytes} bytes, at most {FILE_BYTES_MAX} are allowed"));
        }
    }
    complain("large files", &complaints);
}

#[test]
fn no_line_ends_with_blanks_and_every_file_ends_with_a_line() {
    let mut complaints = Vec::new();
    for (path, text) in written() {
        for (number, line) in (1..).zip(text.split('\n')) {
            if line.ends_with([' ', '\t', '\r']) {
                complaints.push(format!("{path}:{number}: blanks at the end"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            complaints.push(format!("{path}: no line end at the end"));
        }
    }
    complain("white space", &complaints);
}

#[test]
fn no_file_uses_a_forbidden_word() {
    let mut complaints = Vec::new();
    for (path, text) in written() {
        let text = text.to_lowercase();
        for word in FORBIDDEN_WORDS.iter().filter(|word| text.contains(*word)) {
            complaints.push(format!("{path}: {word}"));
        }
    }
    complain("forbidden words", &complaints);
}

#[test]
fn the_changelog_says_what_is_not_released_yet() {
    let changelog = read("CHANGELOG.md");
    let unreleased = changelog.lines().position(|line| line == "## [Unreleased]");
    let released = changelog.lines().position(|line| line.starts_with("## [0"));
    let unreleased = unreleased.expect("CHANGELOG.md needs a section `## [Unreleased]`");
    assert!(released.is_none_or(|released| unreleased < released), "Unreleased comes first");
}

#[test]
fn the_licence_is_the_one_the_manifest_names() {
    assert!(read("Cargo.toml").contains("license = \"Apache-2.0\""));
    let licence = read("LICENSE");
    assert!(licence.contains("Apache License") && licence.contains("END OF TERMS AND CONDITIONS"));
}

#[test]
fn decision_records_are_numbered_without_gaps_and_have_their_three_parts() {
    let mut records: Vec<String> = tree()
        .into_iter()
        .filter_map(|path| path.strip_prefix("docs/decisions/").map(str::to_owned))
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    records.sort();
    let mut complaints = Vec::new();
    for (number, name) in records.iter().enumerate() {
        if !name.starts_with(&format!("{number:04}-")) {
            complaints.push(format!("{name} should have the number {number:04}"));
        }
        let text = read(&format!("docs/decisions/{name}"));
        for part in ["## Context", "## Decision", "## Consequences"] {
            if !text.lines().any(|line| line == part) {
                complaints.push(format!("{name} has no `{part}`"));
            }
        }
    }
    complain("decision records", &complaints);
}
