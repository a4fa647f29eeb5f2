//! What it costs to watch game servers: real ones run, monitors watch them one after the other, and Linux says what
//! each monitor took. A monitor is any command, so ours and its peers are measured by the same hand.

mod meter;
mod scene;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use self::meter::{Cost, Reading};
use self::scene::{Running, Scene};
use crate::target::parse_duration;
use crate::text_table::{Table, note, print_line};

/// Options of the run.
#[derive(clap::Args, Clone)]
pub struct WardsArgs {
    /// Where it stands how to start the games: what `cargo xtask games` prints.
    #[arg(long, env = "NARU_GAMES", value_name = "FILE")]
    pub games: PathBuf,
    /// The games to run while monitors are measured.
    #[arg(long, value_delimiter = ',', default_value = "minetest,teeworlds,openarena")]
    pub play: Vec<String>,
    /// A monitor to measure, repeatable: a name and its command, whose words are parted by blanks. `{pids}` stands for
    /// the games' process ids, parted by commas, and `{dir}` for an empty folder of its own, where it also runs.
    #[arg(long, required = true, value_name = "NAME=COMMAND", value_parser = parse_monitor)]
    pub monitor: Vec<Monitor>,
    /// How long each monitor is measured.
    #[arg(long = "for", default_value = "200s", value_name = "TIME", value_parser = parse_duration)]
    pub span: Duration,
    /// How long a monitor runs before it is measured.
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = parse_duration)]
    pub settle: Duration,
    /// Keep monitors on this core.
    #[arg(long, value_name = "N")]
    pub core: Option<u32>,
    /// Print one line of JSON in place of the table.
    #[arg(long)]
    pub json: bool,
}

/// A name and the words of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    name: String,
    words: Vec<String>,
}

fn parse_monitor(text: &str) -> Result<Monitor, String> {
    let (name, command) = text.split_once('=').ok_or("write NAME=COMMAND")?;
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if name.is_empty() || words.is_empty() {
        return Err("write NAME=COMMAND".to_owned());
    }
    Ok(Monitor { name: name.to_owned(), words })
}

/// What one monitor took, by the hour.
#[derive(Serialize)]
struct Row<'a> {
    monitor: &'a str,
    #[serde(flatten)]
    cost: Cost,
}

/// Starts the games, measures the monitors in turn, prints what each took.
///
/// # Errors
/// When a game does not start, or a monitor ends before it was measured.
pub fn run(args: &WardsArgs) -> anyhow::Result<ExitCode> {
    let scene = Scene::start(&args.games, &args.play)?;
    let mut rows = Vec::new();
    for monitor in &args.monitor {
        note(&format!("measuring {} for {:?}", monitor.name, args.span));
        let cost = measure(args, monitor, &scene)
            .with_context(|| format!("cannot measure {}", monitor.name))?;
        rows.push(Row { monitor: &monitor.name, cost });
    }
    if args.json {
        print_line(&serde_json::to_string(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::default();
    let head = ["CPU s/h", "RSS MiB", "PSS MiB", "written MiB/h", "voluntary/s", "forced/s"];
    table.row("monitor", head.map(|title| format!("{title:>14}")).join(""));
    for Row { monitor, cost } in &rows {
        table.row(monitor, cost);
    }
    print_line(table.to_string().trim_end());
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &WardsArgs, monitor: &Monitor, scene: &Scene) -> anyhow::Result<Cost> {
    let folder = scene.folder(&monitor.name)?;
    let pids: Vec<String> = scene.pids().map(|pid| pid.to_string()).collect();
    let at = folder.to_str().context("the temporary folder's path is not UTF-8")?;
    let fill = |word: &String| word.replace("{pids}", &pids.join(",")).replace("{dir}", at);
    let mut words = Vec::new();
    if let Some(core) = args.core {
        words.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
    }
    words.extend(monitor.words.iter().map(fill));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(&folder).stdin(Stdio::null());
    command.stdout(scene.log(&monitor.name)?).stderr(Stdio::inherit());
    let mut running = Running::start(command)?;
    // The time itself is what is asked for here: monitors warm up, then are measured for a while.
    std::thread::sleep(args.settle);
    let before = Reading::take(running.pid())?;
    std::thread::sleep(args.span);
    running.must_run()?;
    let after = Reading::take(running.pid())?;
    after.since(&before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_is_a_name_and_the_words_of_a_command() {
        let monitor = parse_monitor("ours=naru serve --set a=b").unwrap();
        assert_eq!(monitor.name, "ours");
        assert_eq!(monitor.words, ["naru", "serve", "--set", "a=b"]);
        assert!(parse_monitor("naru").is_err());
        assert!(parse_monitor("=naru").is_err());
        assert!(parse_monitor("naru= ").is_err());
    }
}
