//! `cargo xtask test`: every test there is, and one sum at the end.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::clients;
use crate::counts::{Reader, Runner, Tally};
use crate::games;
use crate::place::Place;
use crate::stream::{self, Show};
use crate::tools;

/// Runs all tests, of the workspace first and then of the examples, also after a failure.
pub(crate) fn run(place: &Place) -> Result<Tally> {
    let mut examples = examples(&place.root)?;
    // Before the minutes of compiling, not after them.
    for example in &examples {
        for tool in example.tools() {
            tool.check()?;
        }
    }
    let mut tally = Tally::default();
    let mut cargo = place.cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    match games::prepare(place) {
        Ok(manifest) => {
            cargo.env(games::VARIABLE, manifest);
        }
        // All other tests may still tell something.
        Err(error) => {
            println!("no game servers: {error:#}");
            tally.failed += 1;
        }
    }
    println!("== tests of the workspace");
    tally += count(place, "cargo-test", Runner::Cargo, &mut cargo)?;
    for example in &mut examples {
        example.folder = clients::prepare(place, &example.name, &example.folder)?;
    }
    for example in &examples {
        println!("== tests of {}", example.name);
        tally += count(place, &example.log_name(), example.runner, &mut example.command(place))?;
    }
    Ok(tally)
}

/// Runs the house rules alone.
pub(crate) fn run_tidy(place: &Place) -> Result<bool> {
    let mut command = place.cargo();
    command.args(["test", "--quiet", "--package", "xtask", "--test", "tidy"]);
    stream::run(place, "tidy", &mut command, |_| Show::Yes)
}

fn count(place: &Place, name: &str, runner: Runner, command: &mut Command) -> Result<Tally> {
    let mut reader = Reader::new(runner);
    let succeeded = stream::run(place, name, command, |line| {
        reader.read(line);
        show(runner, line)
    })?;
    Ok(reader.finish(succeeded))
}

/// What passed needs no line of its own; what failed and what it said does.
fn show(runner: Runner, line: &str) -> Show {
    let boring = match runner {
        Runner::Cargo => {
            line.is_empty()
                || (line.starts_with("test ") && line.ends_with(" ... ok"))
                || (line.starts_with("running ")
                    && (line.ends_with(" tests") || line.ends_with(" test")))
        }
        Runner::Unittest => false,
        Runner::Node => {
            let line = line.trim_start();
            let passed = ["ok ", "# Subtest", "---", "...", "duration_ms", "type:", "1.."];
            line.is_empty() || passed.iter().any(|start| line.starts_with(start))
        }
        Runner::Go => line.starts_with("=== ") || line.trim_start().starts_with("--- PASS: "),
        Runner::Maven => !line.starts_with("[ERROR]") && !line.contains("Tests run: "),
    };
    if boring { Show::No } else { Show::Yes }
}

/// A folder below `examples/`, `clients/` or `deploy/` that has tests.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    name: String,
    folder: PathBuf,
    runner: Runner,
}

impl Example {
    fn tools(&self) -> &'static [tools::Tool] {
        match self.runner {
            Runner::Node => &[tools::NODE],
            Runner::Cargo | Runner::Unittest => &[tools::PYTHON],
            Runner::Maven => &[tools::JAVA, tools::MAVEN],
            Runner::Go => &[tools::GO],
        }
    }

    fn log_name(&self) -> String {
        self.name.replace('/', "-")
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = match self.runner {
            Runner::Maven => clients::maven(place, &self.name),
            Runner::Go => clients::go(place),
            Runner::Node => {
                let mut node = place.program(tools::NODE.program);
                node.arg("--test");
                node
            }
            Runner::Cargo | Runner::Unittest => {
                let brought = clients::python(&self.folder);
                let own = brought.is_file().then(|| brought.into_os_string());
                let mut python = place.program(own.unwrap_or(tools::PYTHON.program.into()));
                // -B: no __pycache__ in the clone.
                python.args(["-B", "-m", "unittest"]);
                python
            }
        };
        // `cargo test` has just built it; examples that talk to a real server start this one.
        let binary =
            place.target.join("debug").join("naru").with_extension(std::env::consts::EXE_EXTENSION);
        // Those that were copied read the documents of the clone.
        command.current_dir(&self.folder).env("NARU_BIN", binary).env("NARU_ROOT", &place.root);
        command
    }
}

/// The examples, client checks and checks of what is deployed, by name.
fn examples(root: &Path) -> Result<Vec<Example>> {
    let mut found = examples_below(root, "examples")?;
    found.extend(examples_below(root, "clients")?);
    found.extend(examples_below(root, "deploy")?);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn examples_below(root: &Path, parent: &str) -> Result<Vec<Example>> {
    let mut found = Vec::new();
    let folder = root.join(parent);
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in folder.read_dir().with_context(|| format!("cannot list {parent}/"))? {
        let folder = entry?.path();
        if !folder.is_dir() {
            continue;
        }
        let mut files = Vec::new();
        for entry in folder.read_dir()? {
            files.push(entry?.file_name().to_string_lossy().into_owned());
        }
        let base = folder.file_name().unwrap_or_default().to_string_lossy();
        for runner in runners(&files) {
            found.push(Example {
                name: format!("{parent}/{base}"),
                folder: folder.clone(),
                runner,
            });
        }
    }
    Ok(found)
}

/// Which runners find tests among these file names, by the runners' own rules.
fn runners(files: &[String]) -> Vec<Runner> {
    let python = |name: &String| name.starts_with("test") && name.ends_with(".py");
    let node = |name: &String| {
        [".js", ".mjs", ".cjs"]
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .any(|stem| stem == "test" || stem.starts_with("test-") || stem.ends_with(".test"))
    };
    let mut runners = Vec::new();
    if files.iter().any(python) {
        runners.push(Runner::Unittest);
    }
    if files.iter().any(node) {
        runners.push(Runner::Node);
    }
    if files.iter().any(|name| name == "pom.xml") {
        runners.push(Runner::Maven);
    }
    if files.iter().any(|name| name.ends_with("_test.go")) {
        runners.push(Runner::Go);
    }
    runners
}

#[cfg(test)]
mod tests {
    use super::{Runner, Show, runners, show};

    #[test]
    fn the_runner_of_an_example_follows_from_its_test_files() {
        let check = |files: &[&str], expected: &[Runner]| {
            let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
            assert_eq!(runners(&files), expected, "{files:?}");
        };
        check(&["bot.py", "test_bot.py"], &[Runner::Unittest]);
        check(&["bot.mjs", "bot.test.mjs", "package.json"], &[Runner::Node]);
        check(&["test.js"], &[Runner::Node]);
        check(&["pom.xml"], &[Runner::Maven]);
        check(&["go.mod", "go.sum", "charts_test.go"], &[Runner::Go]);
        check(&["README.md", "latest.js", "contest.py"], &[]);
    }

    #[test]
    fn the_terminal_shows_failures_and_sums_but_not_each_test_that_passed() {
        let shown = |runner, line| show(runner, line) == Show::Yes;
        assert!(!shown(Runner::Cargo, "test a_session_survives ... ok"));
        assert!(shown(Runner::Cargo, "test a_session_survives ... FAILED"));
        assert!(!shown(Runner::Cargo, "running 12 tests"));
        assert!(!shown(Runner::Cargo, "running 1 test"));
        assert!(shown(Runner::Cargo, "thread 'main' panicked at src/lib.rs:1:1:"));
        assert!(shown(Runner::Cargo, "test result: ok. 2 passed; 0 failed; 0 ignored"));
        assert!(!shown(Runner::Node, "ok 1 - answers"));
        assert!(shown(Runner::Node, "not ok 2 - refuses a bad signature"));
        assert!(shown(Runner::Node, "# pass 3"));
        assert!(!shown(Runner::Go, "    --- PASS: TestA/single (0.01s)"));
        assert!(shown(Runner::Go, "    charts_test.go:9: there is no volume data"));
        assert!(!shown(Runner::Maven, "[INFO] Building spring-stomp 0"));
        assert!(shown(Runner::Maven, "[ERROR] COMPILATION ERROR :"));
        assert!(shown(Runner::Maven, "[INFO] Tests run: 9, Failures: 0, Errors: 0, Skipped: 0"));
    }
}
