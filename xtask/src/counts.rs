//! Reads how many tests passed and failed out of what test runners print. Pure.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn is_green(self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Whose output is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// `cargo test`: one `test result:` line per test binary.
    Cargo,
    /// `python3 -m unittest`: `Ran N tests`, then `OK` or `FAILED (…)`.
    Unittest,
    /// `node --test`: `pass N` and `fail N`, after a sign that depends on its version.
    Node,
    /// `mvn test`: `Tests run: N, Failures: N, Errors: N, Skipped: N`, for each class and at the end for all.
    Maven,
    /// `go test -v`: `--- PASS: Name` and `--- FAIL: Name`; the parts of a test are indented.
    Go,
}

/// Reads a runner's output line by line.
#[derive(Debug)]
pub(crate) struct Reader {
    runner: Runner,
    tally: Tally,
}

impl Reader {
    pub(crate) fn new(runner: Runner) -> Reader {
        Reader { runner, tally: Tally::default() }
    }

    /// Takes one line without its line end.
    pub(crate) fn read(&mut self, line: &str) {
        match self.runner {
            Runner::Cargo => self.tally += cargo(line).unwrap_or_default(),
            Runner::Unittest => self.read_unittest(line),
            Runner::Maven => self.tally += maven(line).unwrap_or_default(),
            Runner::Go => {
                self.tally.passed += u64::from(line.starts_with("--- PASS: "));
                self.tally.failed += u64::from(line.starts_with("--- FAIL: "));
            }
            Runner::Node => {
                if let Some(count) = node(line, "pass") {
                    self.tally.passed += count;
                } else if let Some(count) = node(line, "fail").or_else(|| node(line, "cancelled")) {
                    self.tally.failed += count;
                }
            }
        }
    }

    /// The sum. A runner that failed without a failed test (it did not compile, it crashed) counts as
    /// one failure, so that it cannot hide among the others.
    pub(crate) fn finish(self, succeeded: bool) -> Tally {
        let mut tally = self.tally;
        if !succeeded && tally.failed == 0 {
            tally.failed = 1;
        }
        tally
    }

    /// First the number of all tests, later how many of them did not pass.
    fn read_unittest(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("Ran ") {
            let count = rest.split(' ').next().and_then(|count| count.parse().ok());
            self.tally.passed += count.unwrap_or(0);
        } else if let Some(rest) = line.strip_prefix("FAILED (") {
            let failed = sum_of(rest, &["failures", "errors", "unexpected successes"]);
            let not_passed = failed + sum_of(rest, &["skipped"]);
            self.tally.failed += failed;
            self.tally.passed = self.tally.passed.saturating_sub(not_passed);
        } else if let Some(rest) = line.strip_prefix("OK (") {
            self.tally.passed = self.tally.passed.saturating_sub(sum_of(rest, &["skipped"]));
        }
    }
}

/// `test result: ok. 12 passed; 0 failed; 0 ignored; …`
fn cargo(line: &str) -> Option<Tally> {
    let (_verdict, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| -> Option<u64> {
        numbers.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

/// The numbers of `failures=1, errors=2)` whose names are in `names`.
fn sum_of(list: &str, names: &[&str]) -> u64 {
    list.trim_end_matches(')')
        .split(", ")
        .filter_map(|part| part.split_once('='))
        .filter(|(name, _)| names.contains(name))
        .filter_map(|(_, count)| count.parse::<u64>().ok())
        .sum()
}

/// `[INFO] Tests run: 9, Failures: 1, Errors: 1, Skipped: 0`. The line of one class goes on behind that.
fn maven(line: &str) -> Option<Tally> {
    let (_level, numbers) = line.split_once("Tests run: ")?;
    let mut counts = numbers.split(", ");
    let run: u64 = counts.next()?.parse().ok()?;
    let mut count = |what: &str| -> Option<u64> { counts.next()?.strip_prefix(what)?.parse().ok() };
    let failed = count("Failures: ")? + count("Errors: ")?;
    let skipped = count("Skipped: ")?;
    let is_the_sum = counts.next().is_none();
    is_the_sum.then(|| Tally { passed: run.saturating_sub(failed + skipped), failed })
}

/// `# pass 3` (TAP) or `ℹ pass 3` (the reporter for people).
fn node(line: &str, what: &str) -> Option<u64> {
    let rest = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "))?;
    rest.strip_prefix(what)?.strip_prefix(' ')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Reader, Runner, Tally};

    fn check(runner: Runner, succeeded: bool, output: &str, passed: u64, failed: u64) {
        let mut reader = Reader::new(runner);
        output.lines().for_each(|line| reader.read(line));
        assert_eq!(reader.finish(succeeded), Tally { passed, failed }, "{output}");
    }

    #[test]
    fn all_test_binaries_of_cargo_are_summed() {
        let output = "\
running 2 tests
test a ... ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 10 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.23s
error: 1 target failed:";
        check(Runner::Cargo, false, output, 12, 3);
    }

    #[test]
    fn a_run_that_does_not_compile_is_one_failure() {
        check(Runner::Cargo, false, "error[E0308]: mismatched types", 0, 1);
        check(Runner::Node, false, "", 0, 1);
    }

    #[test]
    fn a_test_that_prints_a_result_line_in_its_text_is_not_counted() {
        check(Runner::Cargo, true, "the test result: ok. 2 passed; 0 failed;", 0, 0);
        check(Runner::Cargo, true, "test result: nonsense", 0, 0);
    }

    #[test]
    fn unittest_counts_passed_failed_and_skipped() {
        check(Runner::Unittest, true, "Ran 7 tests in 0.012s\n\nOK", 7, 0);
        check(Runner::Unittest, true, "Ran 1 test in 0.012s\n\nOK (skipped=1)", 0, 0);
        let failed = "Ran 9 tests in 0.1s\n\nFAILED (failures=1, errors=2, skipped=1)";
        check(Runner::Unittest, false, failed, 5, 3);
        let surprise = "Ran 2 tests in 0.1s\n\nFAILED (unexpected successes=1)";
        check(Runner::Unittest, false, surprise, 1, 1);
    }

    #[test]
    fn node_is_read_in_both_of_its_formats() {
        check(Runner::Node, true, "# tests 4\n# pass 4\n# fail 0\n# cancelled 0", 4, 0);
        check(Runner::Node, false, "ℹ tests 4\nℹ pass 2\nℹ fail 1\nℹ cancelled 1", 2, 2);
    }

    #[test]
    fn maven_is_read_at_its_end_and_not_once_more_for_each_class() {
        let passed = "\
[INFO] Tests run: 16, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 21.47 s -- in naru.OverTcpTest
[INFO] Results:
[INFO] Tests run: 16, Failures: 0, Errors: 0, Skipped: 0";
        check(Runner::Maven, true, passed, 16, 0);
        let failed = "[ERROR] Tests run: 9, Failures: 1, Errors: 2, Skipped: 3";
        check(Runner::Maven, false, failed, 3, 3);
        check(Runner::Maven, false, "[ERROR] COMPILATION ERROR :", 0, 1);
    }

    #[test]
    fn go_is_read_without_the_parts_of_its_tests() {
        let output = "\
=== RUN   TestA
--- FAIL: TestA (0.01s)
    --- FAIL: TestA/single (0.01s)
    --- PASS: TestA/cluster (0.01s)
--- PASS: TestB (0.04s)
FAIL";
        check(Runner::Go, false, output, 1, 1);
        check(Runner::Go, false, "charts_test.go:9:2: missing go.sum entry", 0, 1);
    }

    #[test]
    fn nothing_at_all_is_not_green() {
        assert!(!Tally::default().is_green());
        assert!(Tally { passed: 1, failed: 0 }.is_green());
        assert!(!Tally { passed: 1, failed: 1 }.is_green());
        assert_eq!(Tally { passed: 31, failed: 2 }.to_string(), "31 passed, 2 failed");
    }
}
