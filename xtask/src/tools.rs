//! Programs that must be there already, and how new they must be.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place::setting;

/// A program that the tests of the examples run with.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// What makes it say its version.
    asked: &'static str,
    /// The oldest version that will do: major, minor.
    needs: (u32, u32),
    why: &'static str,
}

pub(crate) const PYTHON: Tool = Tool {
    program: "python3",
    asked: "--version",
    needs: (3, 9),
    why: "the Python example runs with it",
};
pub(crate) const NODE: Tool = Tool {
    program: "node",
    asked: "--version",
    needs: (18, 0),
    why: "the JavaScript example runs with it",
};
pub(crate) const JAVA: Tool = Tool {
    program: "javac",
    asked: "--version",
    needs: (17, 0),
    why: "the checks of Spring's clients run with a JDK (Debian: openjdk-17-jdk-headless)",
};
pub(crate) const MAVEN: Tool = Tool {
    program: "mvn",
    asked: "--version",
    needs: (3, 6),
    why: "the checks of Spring's clients are built by Apache Maven (Debian: maven)",
};

pub(crate) const GO: Tool = Tool {
    program: "go",
    asked: "version",
    needs: (1, 26),
    why: "the checks of the Helm chart are built with it (https://go.dev/dl)",
};

impl Tool {
    /// Where the program is, for those that start it with another PATH than ours.
    pub(crate) fn found(&self) -> Result<PathBuf> {
        let folders = setting("PATH").context("PATH is not set")?;
        std::env::split_paths(&folders)
            .map(|folder| folder.join(self.program).with_extension(std::env::consts::EXE_EXTENSION))
            .find(|program| program.is_file())
            .with_context(|| format!("`{}` was not found on the PATH", self.program))
    }

    /// Fails with what to do about it if the program is absent or too old.
    pub(crate) fn check(&self) -> Result<()> {
        let Tool { program, asked, needs: (major, minor), why } = self;
        let wanted = format!("{program} {major}.{minor} or newer is needed: {why}");
        let output = Command::new(program)
            .arg(asked)
            .output()
            .with_context(|| format!("{wanted}; `{program}` was not found on the PATH"))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        match version(&printed) {
            Some(found) if found >= self.needs => Ok(()),
            Some((major, minor)) => bail!("{wanted}; this is {major}.{minor}"),
            None => bail!("{wanted}; `{program} {asked}` says {:?}", printed.trim()),
        }
    }
}

/// Major and minor of `Python 3.11.7`, `v20.20.2`, `javac 21`, `go version go1.26.8 linux/amd64` or the first line
/// of Maven, which is coloured.
fn version(printed: &str) -> Option<(u32, u32)> {
    let is_number = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit());
    let mut words =
        printed.split_whitespace().map(|word| word.trim_start_matches(char::is_alphabetic));
    let number = words.find(is_number)?;
    let mut parts = number.split('.').map(str::parse);
    let major = parts.next()?.ok()?;
    Some((major, parts.next().map_or(Some(0), Result::ok)?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_read_as_programs_print_them() {
        assert_eq!(version("Python 3.11.7\n"), Some((3, 11)));
        assert_eq!(version("Python 3.13.0rc1\n"), Some((3, 13)));
        assert_eq!(version("v20.20.2\n"), Some((20, 20)));
        assert_eq!(version("cargo-deny 0.20.2\n"), Some((0, 20)));
        assert_eq!(version("javac 17.0.15\n"), Some((17, 0)));
        assert_eq!(version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(version("javac 21\n"), Some((21, 0)));
        let maven = "\u{1b}[1mApache Maven 3.8.7\u{1b}[m\nMaven home: /usr/share/maven\n";
        assert_eq!(version(maven), Some((3, 8)));
        assert_eq!(version(""), None);
        assert_eq!(version("command not found"), None);
    }

    #[test]
    fn a_newer_major_beats_a_smaller_minor() {
        assert!(version("v22.0.1") > version("v18.19.0"));
        assert!(version("Python 3.10.1") > version("Python 3.9.18"));
    }
}
