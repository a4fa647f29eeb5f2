//! Holds the crate table of ARCHITECTURE.md against what the crates really build on.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{complain, read, root};

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// Crates of ours that it may build on.
    ours: Ours,
    /// Crates of others that it must never build on.
    never: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ours {
    All,
    Only(BTreeSet<String>),
}

#[test]
fn crates_build_only_on_what_the_table_in_architecture_md_allows() {
    let table = table(&read("ARCHITECTURE.md"));
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for package in packages() {
        let name = text(&package, "name");
        let Some(name) = ours(&name).filter(|name| *name != "xtask") else { continue };
        seen.insert(name.to_owned());
        let Some(row) = table.get(name) else {
            complaints.push(format!("{name} has no row in the table"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = text(dependency, "name");
            if let Some(complaint) = judge(name, row, &used, dependency["kind"] == "dev") {
                complaints.push(complaint);
            }
        }
    }
    let rows: BTreeSet<String> = table.into_keys().collect();
    complaints.extend(rows.difference(&seen).map(|name| format!("{name} is no crate")));
    complain("the crate table", &complaints);
}

#[test]
fn every_crate_inherits_the_lints_and_the_versions_of_the_workspace() {
    let mut complaints = Vec::new();
    for package in packages() {
        let name = text(&package, "name");
        let manifest = std::fs::read_to_string(text(&package, "manifest_path")).unwrap();
        if !manifest.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{name} does not inherit the lints"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !manifest.contains(&format!("{key}.workspace = true")) {
                complaints.push(format!("{name} does not inherit `{key}`"));
            }
        }
        let described = package["description"].as_str().is_some_and(|text| !text.is_empty());
        if !described {
            complaints.push(format!("{name} does not say what it is"));
        }
        for line in own_versions(&manifest) {
            complaints.push(format!("{name} pins a version of its own: {line}"));
        }
    }
    complain("manifests", &complaints);
}

/// The lines of dependency tables that do not take their version from the workspace.
fn own_versions(manifest: &str) -> Vec<&str> {
    let mut in_dependencies = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') && !line.contains("workspace = true") {
            found.push(line);
        }
    }
    found
}

/// What is wrong with `name` building on `used`, if anything is. Tests may also use the test kit.
fn judge(name: &str, row: &Row, used: &str, dev: bool) -> Option<String> {
    if let Some(ours) = ours(used) {
        let allowed = match &row.ours {
            Ours::All => true,
            Ours::Only(allowed) => allowed.contains(ours),
        };
        let for_tests = dev && ours == "testkit" && name != "bench";
        return (!allowed && !for_tests).then(|| format!("{name} must not build on {ours}"));
    }
    (!dev && row.never.contains(used)).then(|| format!("{name} must never build on `{used}`"))
}

/// `hub` of `naru-hub`; `naru` and `xtask` have no prefix.
fn ours(package: &str) -> Option<&str> {
    match package {
        "naru" | "xtask" => Some(package),
        other => other.strip_prefix("naru-"),
    }
}

/// The rows of the table whose header begins with `| crate |`: columns crate, holds, builds on, never
/// builds on, must not know.
fn table(page: &str) -> BTreeMap<String, Row> {
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| crate |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _holds, ours, never, _unknown] = cells.as_slice() else {
            panic!("the crate table needs five columns: {line}");
        };
        let ours = if *ours == "all" { Ours::All } else { Ours::Only(quoted(ours)) };
        (name.trim_matches('`').to_owned(), Row { ours, never: quoted(never) })
    })
    .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a workspace has packages").clone()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

const TABLE: &str = "\
text before

| crate | holds | builds on | never builds on | must not know |
| --- | --- | --- | --- | --- |
| `domain` | ids | nothing | `tokio`, `serde` | sockets |
| `hub` | sessions | `domain` | `sqlx` | wires |
| `naru` | the binary | all | | nothing |

text after";

#[test]
fn the_table_is_read_as_it_is_written() {
    let table = table(TABLE);
    assert_eq!(table.keys().collect::<Vec<_>>(), ["domain", "hub", "naru"]);
    assert_eq!(table["domain"].ours, Ours::Only(BTreeSet::new()));
    assert_eq!(table["domain"].never, BTreeSet::from(["tokio".into(), "serde".into()]));
    assert_eq!(table["naru"].ours, Ours::All);
}

#[test]
fn versions_outside_of_the_workspace_table_are_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nbytes.workspace = true\n\
        tokio = { workspace = true, features = [\"net\"] }\nserde = \"1\"\n[lints]\na = 1\n";
    assert_eq!(own_versions(manifest), ["serde = \"1\""]);
}

#[test]
fn forbidden_edges_are_found_and_tests_may_use_the_test_kit() {
    let table = table(TABLE);
    let judged = |name: &str, used, dev| judge(name, &table[name], used, dev).is_none();
    assert!(judged("hub", "naru-domain", false));
    assert!(judged("hub", "tokio", false));
    assert!(!judged("hub", "naru-wire", false));
    assert!(!judged("hub", "sqlx", false));
    assert!(judged("hub", "sqlx", true), "its tests may compare with anything");
    assert!(judged("hub", "naru-testkit", true));
    assert!(!judged("hub", "naru-testkit", false));
    assert!(!judged("domain", "tokio", false));
    assert!(judged("naru", "naru-wire", false));
}
