//! What happens when something dies: a game of Naru's, or Naru itself. Seen from outside, through the API and the list
//! of processes, and timed from before the kill.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use super::naru::{BACKOFF, Naru};
use super::scene::Scene;
use super::web::Web;

/// What is not seen by then does not happen.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks: no figure is better than this and an answer of the API.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// The same while nothing is timed, so that a game starts undisturbed.
const LOOK_SELDOM: Duration = Duration::from_millis(50);
/// The histogram in which Naru itself keeps how long it took to decide.
const DECISIONS: &str = "naru_ward_exit_decision_seconds_bucket{le=\"";

/// Times of one kind, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    count: usize,
    median_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// What was seen.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outages {
    /// From a game's kill until the API no longer says that it runs.
    noticed: Times,
    /// From a game's kill until its successor's process is there, pause included.
    replaced: Times,
    /// The longest such pause.
    backoff_ms: u128,
    /// The bucket of Naru's own histogram below which 99 of 100 decisions of this run are, in seconds.
    decided_within_s: Option<f64>,
    /// From the start of Naru after its kill until the API says that all games run, with the processes of before.
    adopted: Times,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Times { count, median_ms, p99_ms, max_ms } = self;
        write!(f, "{count:>8}{median_ms:>14.1}{p99_ms:>14.1}{max_ms:>14.1}")
    }
}

impl Outages {
    /// Rows of a table under [`HEAD`], by name.
    pub(crate) fn rows(&self) -> [(String, Times); 3] {
        let own = self.decided_within_s.map(|seconds| format!(" (says Naru: p99 ≤ {seconds} s)"));
        let pause = self.backoff_ms;
        [
            (format!("game killed: noticed{}", own.unwrap_or_default()), self.noticed),
            (
                format!("game killed: started again, pause of 0 to {pause} ms included"),
                self.replaced,
            ),
            ("Naru killed, started: all games adopted".to_owned(), self.adopted),
        ]
    }
}

/// The head of the table of [`Outages::rows`].
pub(crate) const HEAD: &str = "   count     median ms        p99 ms        max ms";

/// Kills games in turn, then Naru itself, `kills` times each. All games must run.
pub(crate) fn measure(naru: &mut Naru, scene: &Scene, kills: u32) -> anyhow::Result<Outages> {
    let web = Web::new()?;
    let games = until_all_answer(naru, &web)?;
    let names: Vec<String> = games.into_keys().collect();
    let decisions = naru.metrics(&web)?;
    let (mut noticed, mut replaced) = (Vec::new(), Vec::new());
    for name in names.iter().cycle().take(usize::try_from(kills)?) {
        let (seen, again) = kill_game(naru, &web, name)
            .with_context(|| format!("{name} was killed\n{}", naru.last_words(scene)))?;
        noticed.push(seen);
        replaced.push(again);
    }
    let decided_within_s = within(&decisions, &naru.metrics(&web)?);
    let mut adopted = Vec::new();
    for _ in 0..kills {
        adopted.push(kill_naru(naru, &web, scene).context("Naru was killed")?);
    }
    Ok(Outages {
        noticed: times(noticed)?,
        replaced: times(replaced)?,
        backoff_ms: BACKOFF.as_millis(),
        decided_within_s,
        adopted: times(adopted)?,
    })
}

type Games = std::collections::BTreeMap<String, u32>;

/// Waits until the API says of each game that it runs, as the process that we see.
fn until_all_answer(naru: &Naru, web: &Web) -> anyhow::Result<Games> {
    let games = naru.groups()?.games;
    let mut last = String::new();
    let seen = until("the API says that all games run", || {
        match naru.ask(web, "/api/wards") {
            Ok(list) if games.iter().all(|(name, pid)| runs(&list, name, *pid)) => {
                return Ok(Some(games.clone()));
            }
            Ok(list) => last = list.to_string(),
            // It does not listen from the first moment.
            Err(error) => last = format!("{error:#}"),
        }
        Ok(None)
    });
    seen.with_context(|| format!("it said: {last}"))
}

fn kill_game(naru: &Naru, web: &Web, name: &str) -> anyhow::Result<(Duration, Duration)> {
    let old = *naru.groups()?.games.get(name).context("it does not run")?;
    let mut killer = Killer::new()?;
    let begin = Instant::now();
    killer.kill(old)?;
    let path = format!("/api/wards/{name}");
    let noticed = until("the API says that it runs no more", || {
        let ward = naru.ask(web, &path)?;
        Ok((!runs(&ward, name, old)).then(|| begin.elapsed()))
    })?;
    let (new, replaced) = until("its successor's process is there", || {
        let pid = naru.groups()?.games.get(name).copied().filter(|pid| *pid != old);
        Ok(pid.map(|pid| (pid, begin.elapsed())))
    })?;
    until("the API says that its successor runs", || {
        std::thread::sleep(LOOK_SELDOM);
        Ok(runs(&naru.ask(web, &path)?, name, new).then_some(()))
    })?;
    Ok((noticed, replaced))
}

fn kill_naru(naru: &mut Naru, web: &Web, scene: &Scene) -> anyhow::Result<Duration> {
    let before = naru.groups()?.games;
    naru.kill_alone()?;
    let begin = Instant::now();
    naru.start(scene)?;
    until_all_answer(naru, web)?;
    let took = begin.elapsed();
    let after = naru.groups()?.games;
    ensure!(before == after, "games were not adopted: {before:?} became {after:?}");
    Ok(took)
}

/// Whether an answer of the API says that this ward runs as this process. Looks for the ward wherever it stands in it.
fn runs(answer: &Value, name: &str, pid: u32) -> bool {
    let said = |value: &Value| value.get("name").is_some_and(|said| said == name);
    let Some(ward) = find(answer, &said) else { return false };
    let phase = ["phase", "state"].iter().find_map(|key| ward.get(key)?.as_str());
    let process = ward.get("process").unwrap_or(ward).get("pid").and_then(Value::as_u64);
    phase == Some("running") && process == Some(pid.into())
}

fn find<'a>(value: &'a Value, wanted: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
    if wanted(value) {
        return Some(value);
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| find(item, wanted)),
        Value::Object(fields) => fields.values().find_map(|field| find(field, wanted)),
        _ => None,
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + SEEN_WITHIN;
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            bail!("after {SEEN_WITHIN:?} it is still not so that {what}");
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn times(mut lengths: Vec<Duration>) -> anyhow::Result<Times> {
    lengths.sort_unstable();
    let count = lengths.len();
    // The nearest rank.
    let ms = |hundredths: usize| {
        let rank = (count * hundredths).div_ceil(100).saturating_sub(1);
        lengths.get(rank).map(|length| length.as_secs_f64() * 1e3).context("nothing was timed")
    };
    Ok(Times { count, median_ms: ms(50)?, p99_ms: ms(99)?, max_ms: ms(100)? })
}

/// The smallest bucket below which 99 of 100 of what was counted between two looks at `/metrics` are.
fn within(before: &str, after: &str) -> Option<f64> {
    let (before, after) = (buckets(before), buckets(after));
    let count = |at: usize| after[at].1 - before.get(at).map_or(0.0, |bucket| bucket.1);
    let all = count(after.len().checked_sub(1)?);
    let at = (0..after.len()).find(|at| count(*at) >= all * 0.99)?;
    (all > 0.0).then_some(after[at].0)
}

fn buckets(metrics: &str) -> Vec<(f64, f64)> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(DECISIONS));
    let bucket = |line: &str| {
        let (bound, count) = line.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
    };
    lines.filter_map(bucket).collect()
}

/// A shell that waits for the id of a process to kill, so that the time of its own start is in no figure.
struct Killer(std::process::Child);

impl Killer {
    fn new() -> anyhow::Result<Killer> {
        let mut command = Command::new("sh");
        command.args(["-c", "echo ready; read pid; kill -KILL $pid"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut ready = String::new();
        let said = child.stdout.take().context("no standard output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(said), &mut ready)?;
        Ok(Killer(child))
    }

    fn kill(&mut self, pid: u32) -> anyhow::Result<()> {
        let mut input = self.0.stdin.take().context("it kills once")?;
        Ok(writeln!(input, "{pid}")?)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        // Without a line to read it ends; what it says is of no use any more.
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_ward_runs_if_it_says_so_as_the_process_that_we_know() {
        let list = json!({ "wards": [
            { "name": "a", "phase": "running", "process": { "pid": 7 } },
            { "name": "b", "phase": "waiting", "pid": 8 },
            { "name": "d", "phase": "running", "pid": 9 },
        ] });
        assert!(runs(&list, "a", 7));
        assert!(runs(&list, "d", 9));
        assert!(!runs(&list, "a", 8));
        assert!(!runs(&list, "b", 8));
        assert!(!runs(&list, "c", 7));
    }

    #[test]
    fn of_few_times_the_largest_is_the_percentile() {
        let times = times((1..=10).map(Duration::from_millis).collect()).unwrap();
        assert_eq!((times.median_ms, times.p99_ms, times.max_ms), (5.0, 10.0, 10.0));
    }

    #[test]
    fn only_decisions_of_this_run_count() {
        let text = |a, b, c| {
            format!(
                "{DECISIONS}0.01\"}} {a}\n{DECISIONS}0.05\"}} {b}\n{DECISIONS}+Inf\"}} {c}\nx 1\n"
            )
        };
        assert_eq!(within(&text(0, 0, 9), &text(100, 100, 109)), Some(0.01));
        assert_eq!(within(&text(0, 0, 0), &text(90, 100, 100)), Some(0.05));
        assert_eq!(within("", &text(0, 0, 5)), Some(f64::INFINITY));
        assert_eq!(within("", "x 1\n"), None);
    }
}
