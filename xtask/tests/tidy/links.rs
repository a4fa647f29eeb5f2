//! Links between pages lead to files and headings that exist. Addresses outside are not tried.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::{complain, read, root, tree};

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut complaints = Vec::new();
    for page in tree().into_iter().filter(|path| path.ends_with(".md")) {
        for (line, target) in links(&read(&page)) {
            if let Some(why) = broken(&page, &target) {
                complaints.push(format!("{page}:{line}: {target}: {why}"));
            }
        }
    }
    complain("links", &complaints);
}

#[test]
fn every_page_of_the_docs_can_be_reached_from_their_map() {
    let mut reached = BTreeSet::from(["docs/README.md".to_owned()]);
    let mut to_read: Vec<String> = reached.iter().cloned().collect();
    while let Some(page) = to_read.pop() {
        let folder = Path::new(&page).parent().unwrap_or(Path::new("")).to_path_buf();
        for (_, target) in links(&read(&page)) {
            let file = target.split('#').next().unwrap_or_default();
            let linked = normal(folder.join(file)).to_string_lossy().into_owned();
            let is_page = linked.ends_with(".md") && root().join(&linked).is_file();
            if is_page && reached.insert(linked.clone()) {
                to_read.push(linked);
            }
        }
    }
    let pages =
        tree().into_iter().filter(|path| path.starts_with("docs/") && path.ends_with(".md"));
    let lost: Vec<String> = pages.filter(|page| !reached.contains(page)).collect();
    complain("no way leads from docs/README.md to", &lost);
}

/// Why the link leads nowhere, if it does.
fn broken(page: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let path = if file.is_empty() { PathBuf::from(page) } else { normal(folder.join(file)) };
    if !root().join(&path).exists() {
        return Some("no such file".to_owned());
    }
    let text = path.to_string_lossy();
    if heading.is_empty()
        || !text.ends_with(".md")
        || headings(&read(&text)).contains(&heading.to_owned())
    {
        return None;
    }
    Some("no such heading".to_owned())
}

/// Without `.` and `..`.
fn normal(path: PathBuf) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}

/// The lines outside of code blocks, with their numbers.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(page.lines()).filter(move |(_, line)| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return false;
        }
        !in_code
    })
}

/// The targets of `[text](target)`, with their lines, outside of code.
fn links(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(page) {
        // Every second part stands between backticks.
        let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for rest in line.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                let target = target.split(" \"").next().unwrap_or(target);
                found.push((number, target.trim().to_owned()));
            }
        }
    }
    found
}

/// The anchors of the headings, as GitHub makes them.
fn headings(page: &str) -> Vec<String> {
    let headings = prose(page).filter(|(_, line)| line.starts_with('#'));
    headings
        .map(|(_, line)| {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let text: String = line.trim_start_matches('#').trim().chars().filter(kept).collect();
            text.to_lowercase().replace(' ', "-")
        })
        .collect()
}

#[test]
fn links_are_found_outside_of_code_only() {
    let page = "\
See [one](a.md) and [two](b/c.md#part \"title\"), but not `[three](x.md)`, with [`code`](d.rs).
```
[four](y.md)
```
[five](#here)";
    let expected = [(1, "a.md"), (1, "b/c.md#part"), (1, "d.rs"), (5, "#here")];
    let expected: Vec<(usize, String)> = expected.map(|(line, to)| (line, to.to_owned())).to_vec();
    assert_eq!(links(page), expected);
}

#[test]
fn headings_become_anchors() {
    let page = "# Lock order\n```\n# not one\n```\n## What `naru serve` does, and why\n### 1. 한글";
    assert_eq!(headings(page), ["lock-order", "what-naru-serve-does-and-why", "1-한글"]);
}

#[test]
fn a_link_to_a_missing_file_or_heading_is_broken() {
    assert_eq!(broken("README.md", "https://example.org/none"), None);
    assert_eq!(broken("README.md", "LICENSE"), None);
    assert_eq!(broken("docs/README.md", "../LICENSE"), None);
    assert!(broken("README.md", "nowhere.md").is_some());
    assert!(broken("README.md", "ARCHITECTURE.md#no-such-heading").is_some());
}
