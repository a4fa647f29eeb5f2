//! Where things are, and how programs are started there. The only file that reads the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The clone and its target directory.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Place {
    /// Finds both. The clone is the one that cargo runs in, wherever xtask was built. Fails if it is not
    /// writable.
    pub(crate) fn find() -> Result<Place> {
        let root = Path::new(
            &std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?,
        )
        .parent()
        .context("xtask has no parent folder")?
        .canonicalize()
        .context("the clone is gone")?;
        let target = match setting("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        let place = Place { root, target };
        std::fs::create_dir_all(place.scratch())
            .with_context(|| format!("cannot create {}", place.scratch().display()))?;
        Ok(place)
    }

    /// For logs and generated configuration.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// The cargo that runs us, in the root of the clone.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = self.program(setting("CARGO").unwrap_or_else(|| "cargo".into()));
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Any program, in the root of the clone.
    pub(crate) fn program(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new(program.into());
        command.current_dir(&self.root);
        // `cargo run` describes xtask to us in these; to our children they would be lies, and build
        // scripts that watch them would run again.
        for (name, _) in std::env::vars_os() {
            let leaked = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
            if name.to_str().is_some_and(|name| leaked.iter().any(|start| name.starts_with(start)))
            {
                command.env_remove(name);
            }
        }
        command
    }
}

/// A setting from the environment; an empty one counts as not set.
pub(crate) fn setting(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
