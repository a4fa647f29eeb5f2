//! Programs that must be there already, and how new they must be.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program that the tests of the examples run with.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// The oldest version that will do: major, minor.
    needs: (u32, u32),
    why: &'static str,
}

pub(crate) const PYTHON: Tool =
    Tool { program: "python3", needs: (3, 9), why: "the Python example runs with it" };
pub(crate) const NODE: Tool =
    Tool { program: "node", needs: (18, 0), why: "the JavaScript example runs with it" };

impl Tool {
    /// Fails with what to do about it if the program is absent or too old.
    pub(crate) fn check(&self) -> Result<()> {
        let Tool { program, needs: (major, minor), why } = self;
        let wanted = format!("{program} {major}.{minor} or newer is needed: {why}");
        let output = Command::new(program)
            .arg("--version")
            .output()
            .with_context(|| format!("{wanted}; `{program}` was not found on the PATH"))?;
        let printed = String::from_utf8_lossy(&output.stdout);
        match version(&printed) {
            Some(found) if found >= self.needs => Ok(()),
            Some((major, minor)) => bail!("{wanted}; this is {major}.{minor}"),
            None => bail!("{wanted}; `{program} --version` says {:?}", printed.trim()),
        }
    }
}

/// Major and minor of `Python 3.11.7`, `v20.20.2` or `cargo-deny 0.20.2`.
fn version(printed: &str) -> Option<(u32, u32)> {
    let number = printed.split_whitespace().last()?.trim_start_matches('v');
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
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
        assert_eq!(version(""), None);
        assert_eq!(version("command not found"), None);
    }

    #[test]
    fn a_newer_major_beats_a_smaller_minor() {
        assert!(version("v22.0.1") > version("v18.19.0"));
        assert!(version("Python 3.10.1") > version("Python 3.9.18"));
    }
}
