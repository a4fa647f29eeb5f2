//! Names that the pages and what is deployed promise to operators exist in the code: metrics and settings.

use std::collections::BTreeSet;

use crate::{complain, ends, read, tree};

/// The pages for people, and what is deployed.
fn pages() -> impl Iterator<Item = (String, String)> {
    let pages = tree().into_iter().filter(|path| {
        let is_page = ends(path, &[".md"]) && (path.starts_with("docs/") || !path.contains('/'));
        is_page || (path.starts_with("deploy/") && ends(path, &[".yaml", ".tpl", ".txt", ".go"]))
    });
    pages.map(|path| {
        let text = read(&path);
        (path, text)
    })
}

/// All sources of the server as one text.
fn sources() -> String {
    let files =
        tree().into_iter().filter(|path| path.starts_with("crates/") && ends(path, &[".rs"]));
    files.map(|path| read(&path)).collect()
}

#[test]
fn every_metric_on_a_page_is_counted_somewhere() {
    let sources = sources();
    let mut complaints = BTreeSet::new();
    for (page, text) in pages() {
        for name in metrics(&text) {
            if !stems(&name).any(|stem| sources.contains(&format!("\"{stem}\""))) {
                complaints.insert(format!("{page}: naru_{name}"));
            }
        }
    }
    complain("metrics that nobody counts", &complaints.into_iter().collect::<Vec<_>>());
}

#[test]
fn every_setting_on_a_page_can_be_set() {
    let reference = ["model", "backend"]
        .map(|file| read(&format!("crates/naru/src/config/{file}.rs")))
        .concat();
    let mut complaints = BTreeSet::new();
    // Profiles of games have keys of their own, under sections of the same names.
    for (page, text) in pages().filter(|(page, _)| page != "docs/guide/profiles.md") {
        for key in settings(&text) {
            // A key, or a table of keys.
            let is_known =
                ["\"", "."].iter().any(|end| reference.contains(&format!("\"{key}{end}")));
            if !is_known {
                complaints.insert(format!("{page}: {key}"));
            }
        }
    }
    complain("settings that do not exist", &complaints.into_iter().collect::<Vec<_>>());
}

/// The names after `naru_`, as far as they look like metrics.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split("naru_")
        .skip(1)
        .map(|rest| rest.split(|c| !is_part(c)).next().unwrap_or_default().to_owned())
        // One word is a crate or a file.
        .filter(|name| name.contains('_'))
        .collect()
}

/// What the code may call it: the page of metrics adds the unit and `_total`.
fn stems(name: &str) -> impl Iterator<Item = &str> {
    let endings = ["", "_total", "_seconds", "_seconds_bucket", "_seconds_sum", "_seconds_count"];
    endings.into_iter().filter_map(|ending| name.strip_suffix(ending))
}

/// Words in backticks that look like keys of the configuration.
fn settings(text: &str) -> BTreeSet<String> {
    let sections = [
        "node",
        "log",
        "http",
        "bridge",
        "bots",
        "hooks",
        "backend",
        "store",
        "retention",
        "limits",
    ];
    let words = text.split('`').skip(1).step_by(2);
    words
        .filter_map(|word| Some((word, word.split_once('.')?)))
        .filter(|(word, (section, rest))| {
            sections.contains(section)
                && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                && !["rs", "md", "key"].contains(rest)
                && !word.is_empty()
        })
        .map(|(word, _)| word.to_owned())
        .collect()
}

#[test]
fn names_are_found_in_text() {
    let text = "See `naru_bridge_refused_total{limit}` and naru_domain, `bridge.ping_interval`, \
                `bridge.key`, `hub.deliver`, `bots.queue = 5`.";
    assert_eq!(metrics(text).into_iter().collect::<Vec<_>>(), ["bridge_refused_total"]);
    assert_eq!(settings(text).into_iter().collect::<Vec<_>>(), ["bridge.ping_interval"]);
    assert!(stems("bridge_refused_total").any(|stem| stem == "bridge_refused"));
    assert!(stems("bots_stage_seconds_bucket").any(|stem| stem == "bots_stage"));
}
