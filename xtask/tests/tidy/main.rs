//! The house rules as tests, so that they fail where the developer looks: who may build on whom, what
//! every file looks like, links that lead somewhere, units that systemd understands, images and manifests
//! that fit the product.

mod crates;
mod deploy;
mod files;
mod links;
mod names;
mod systemd;

use std::path::PathBuf;

/// Folders that hold what was made or fetched, not written.
const NOT_OURS: [&str; 7] =
    [".git", "target", "node_modules", "__pycache__", "naru-data", "artifacts", ".venv"];

/// The root of the clone.
fn root() -> PathBuf {
    // Asked at run time: the target folder may be shared with a clone elsewhere.
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this"));
    own.parent().expect("xtask is in the clone").to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of the clone, as paths relative to it with `/`, sorted.
fn tree() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("the clone is readable") {
            let path = entry.expect("the clone is readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                if !NOT_OURS.contains(&name.as_str()) {
                    folders.push(path);
                }
                continue;
            }
            let relative = path.strip_prefix(&root).expect("it is below the root");
            found.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    found.sort();
    found
}

/// Whether the path ends with one of these endings.
fn ends(path: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| path.ends_with(ending))
}

/// Fails with all complaints at once: one run tells everything.
fn complain(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}
