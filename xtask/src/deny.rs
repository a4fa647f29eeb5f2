//! Licences, sources and known weaknesses of the dependencies, by cargo-deny. It is built once from
//! the registry into the target directory; nothing is installed outside.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::place::{Place, setting};
use crate::platform::link_folder;
use crate::stream::{self, Show};

/// The newest that Rust 1.95 builds; checked against the whole tree when it was chosen.
const VERSION: &str = "0.20.2";
/// The name cargo-deny gives to its copy of <https://github.com/rustsec/advisory-db>.
const DATABASE_FOLDER: &str = "advisory-db-3157b0e258782691";

/// Checks what can be checked without the network. Whether nothing was found.
pub(crate) fn run(place: &Place) -> Result<bool> {
    let program = install(place)?;
    let mut check = deny(place, &program, &place.root.join("deny.toml"));
    check.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    let clean = stream::run(place, "deny", &mut check, |_| Show::Yes)?;
    let Some(database) = database(place) else {
        println!(
            "advisories: SKIPPED, no database here. Clone https://github.com/rustsec/advisory-db \
             and name its folder in ADVISORY_DB, or put it at {}",
            place.target.join("advisory-db").display()
        );
        return Ok(clean);
    };
    let config = config_with_database(place, &database)?;
    let mut check = deny(place, &program, &config);
    check.args(["--offline", "check", "--hide-inclusion-graph", "advisories"]);
    Ok(stream::run(place, "deny-advisories", &mut check, |_| Show::Yes)? && clean)
}

fn deny(place: &Place, program: &Path, config: &Path) -> Command {
    let mut command = place.program(program);
    command.args(["--locked", "--workspace", "--manifest-path"]).arg(place.root.join("Cargo.toml"));
    command.arg("--config").arg(config);
    command
}

/// The pinned cargo-deny, built if it is not there yet.
fn install(place: &Place) -> Result<PathBuf> {
    let root = place.target.join("tools");
    let program =
        root.join("bin").join("cargo-deny").with_extension(std::env::consts::EXE_EXTENSION);
    if has_version(&program) {
        return Ok(program);
    }
    println!("building cargo-deny {VERSION} once, into {}", root.display());
    let build = root.join("build");
    let mut command = place.cargo();
    // The debug build takes a third of the time and checks the tree in a second all the same.
    command
        .args(["install", "cargo-deny", "--locked", "--force", "--debug", "--version"])
        .arg(format!("={VERSION}"))
        .arg("--root")
        .arg(&root)
        .env("CARGO_TARGET_DIR", &build);
    let built = stream::run(place, "deny-install", &mut command, |_| Show::Yes)?;
    ensure!(built && has_version(&program), "cargo-deny {VERSION} could not be built");
    std::fs::remove_dir_all(&build).context("cannot remove the build folder of cargo-deny")?;
    Ok(program)
}

fn has_version(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).trim() == format!("cargo-deny {VERSION}")
    })
}

/// The clone of the advisory database, if somebody put one where we look.
fn database(place: &Place) -> Option<PathBuf> {
    let named = setting("ADVISORY_DB").map(|folder| place.root.join(folder));
    let candidates = [named, Some(place.target.join("advisory-db"))];
    candidates.into_iter().flatten().find_map(|folder| {
        let inside = folder.join(DATABASE_FOLDER);
        [inside, folder].into_iter().find(|folder| folder.join("crates").is_dir())
    })
}

/// Our configuration, pointed at a folder that holds the database under the name cargo-deny expects.
fn config_with_database(place: &Place, database: &Path) -> Result<PathBuf> {
    let parent = if database.ends_with(DATABASE_FOLDER) {
        database.parent().context("the database has no parent folder")?.to_path_buf()
    } else {
        let parent = place.scratch().join("advisories");
        std::fs::create_dir_all(&parent)?;
        let link = parent.join(DATABASE_FOLDER);
        if link.symlink_metadata().is_ok() {
            std::fs::remove_file(&link)?;
        }
        link_folder(database, &link).context("cannot link to the advisory database")?;
        parent
    };
    let config = std::fs::read_to_string(place.root.join("deny.toml"))?;
    let path = place.scratch().join("deny.toml");
    std::fs::write(&path, with_database(&config, &parent))?;
    Ok(path)
}

/// The `[advisories]` table gets the folder as its first entry.
fn with_database(config: &str, parent: &Path) -> String {
    let path = format!("{:?}", parent.to_string_lossy());
    config.replacen("[advisories]\n", &format!("[advisories]\ndb-path = {path}\n"), 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::with_database;

    #[test]
    fn the_database_folder_is_the_first_entry_of_its_table() {
        let config = "[graph]\n\n[advisories]\nyanked = \"deny\"\n";
        assert_eq!(
            with_database(config, Path::new("/data/db")),
            "[graph]\n\n[advisories]\ndb-path = \"/data/db\"\nyanked = \"deny\"\n",
        );
    }

    #[test]
    fn our_own_configuration_has_the_table() {
        let config = include_str!("../../deny.toml");
        assert!(with_database(config, Path::new("/data/db")).contains("db-path = \"/data/db\""));
        assert!(!config.contains("db-path"), "the folder is a matter of the machine");
    }
}
