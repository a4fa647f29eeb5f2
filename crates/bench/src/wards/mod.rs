//! What it costs to watch game servers: real ones run, monitors watch them one after the other, and Linux says what
//! each monitor took, of the machine and of a game on the same core. A monitor is any command, so ours and its peers
//! are measured by the same hand. Naru starts the games itself, as it is used, and is also killed.

mod interference;
mod meter;
mod naru;
mod outages;
mod said;
mod scene;
mod theft;
mod tick;
mod trace;
mod watch;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use self::interference::Interference;
use self::meter::{Cost, Reading};
use self::naru::{Naru, Ward};
use self::outages::Outages;
use self::said::Said;
use self::scene::{Launch, Manifest, Scene};
use self::watch::Watch;
use self::web::Web;
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
    #[arg(long, value_name = "NAME=COMMAND", value_parser = watch::parse_monitor)]
    pub monitor: Vec<Monitor>,
    /// Also measure `node_exporter`, scraped each second and each 15 s, and Netdata, described in this file: what
    /// `cargo xtask monitors` prints.
    #[arg(long, env = "NARU_MONITORS", value_name = "FILE")]
    pub monitors: Option<PathBuf>,
    /// Also measure this Naru: it starts the games itself, samples each second, asks each game every 10 s and stores.
    #[arg(long, value_name = "PROGRAM")]
    pub naru: Option<PathBuf>,
    /// How long each monitor is measured.
    #[arg(long = "for", default_value = "200s", value_name = "TIME", value_parser = parse_duration)]
    pub span: Duration,
    /// How long a monitor runs before it is measured.
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = parse_duration)]
    pub settle: Duration,
    /// Keep monitors on this core.
    #[arg(long, value_name = "N")]
    pub core: Option<u32>,
    /// Also measure what each monitor takes from a game on this core: a synthetic one with 20 ticks a second of 20 ms
    /// each. The monitor is kept there, too. As root, the kernel's scheduler trace says it to the microsecond.
    #[arg(long, value_name = "CORE")]
    pub tick: Option<u32>,
    /// For how long.
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = parse_duration)]
    pub tick_for: Duration,
    /// Also kill games below Naru, and then Naru, so many times each, and time what follows.
    #[arg(long, default_value_t = 0, value_name = "N", requires = "naru")]
    pub kills: u32,
    /// Print one line of JSON in place of the tables.
    #[arg(long)]
    pub json: bool,
}

/// A name and the words of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    name: String,
    words: Vec<String>,
}

/// All that was measured.
#[derive(Default, Serialize)]
struct Report {
    costs: Vec<Row<Cost>>,
    /// What Naru said of itself meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    naru: Option<Said>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interference: Vec<Row<Interference>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outages: Option<Outages>,
}

/// What was measured of one monitor.
#[derive(Serialize)]
struct Row<T> {
    monitor: String,
    #[serde(flatten)]
    figures: T,
}

/// Starts the games, measures the monitors in turn, prints what each took.
///
/// # Errors
/// When a game does not start, or a monitor ends before it was measured.
pub fn run(args: &WardsArgs) -> anyhow::Result<ExitCode> {
    let watches = watch::all(args)?;
    ensure!(
        !watches.is_empty() || args.naru.is_some(),
        "nothing to measure: give --monitor, --monitors or --naru"
    );
    let manifest = Manifest::read(&args.games)?;
    let mut scene = Scene::new()?;
    let mut report = Report::default();
    if !watches.is_empty() {
        measure_watches(args, &manifest, &mut scene, &watches, &mut report)?;
        scene.clear();
    }
    if let Some(program) = &args.naru {
        let program = program.canonicalize();
        let program = program.with_context(|| format!("there is no {:?}", args.naru))?;
        let mut run = NaruRun { args, manifest: &manifest, scene: &mut scene, program };
        run.costs(&mut report).context("cannot measure Naru")?;
        if let Some(core) = args.tick {
            run.interference(core, &mut report).context("cannot measure Naru")?;
        }
        if args.kills > 0 {
            report.outages = Some(run.outages().context("cannot time Naru")?);
        }
    }
    show(args, &report)?;
    Ok(ExitCode::SUCCESS)
}

fn measure_watches(
    args: &WardsArgs,
    manifest: &Manifest,
    scene: &mut Scene,
    watches: &[Watch],
    report: &mut Report,
) -> anyhow::Result<()> {
    for name in &args.play {
        let launch = scene.prepare(manifest, name, name)?;
        scene.start(&launch)?;
    }
    for watch in watches {
        note(&format!("measuring {} for {:?}", watch.name, args.span));
        let mut cost = || {
            let running = watch.start(scene, args.core, args.settle)?;
            let before = Reading::take(&running.pids()?)?;
            running.watch(args.span)?;
            Reading::take(&running.pids()?)?.since(&before)
        };
        let figures = cost().with_context(|| watch.failed(scene))?;
        report.costs.push(Row { monitor: watch.name.clone(), figures });
    }
    let Some(core) = args.tick else { return Ok(()) };
    let launch = tick::prepare(scene, tick::NAME, core)?;
    scene.start(&launch)?;
    let game = scene.pids().last().context("the tick game was started")?;
    for watch in watches {
        note(&format!("measuring what {} takes for {:?}", watch.name, args.tick_for));
        let mut figures = || {
            let running = watch.start(scene, Some(core), args.settle)?;
            let wait = || running.watch(args.tick_for);
            interference::measure(&scene.folder("trace")?, || running.pids(), game, core, wait)
        };
        let figures = figures().with_context(|| watch.failed(scene))?;
        report.interference.push(Row { monitor: watch.name.clone(), figures });
    }
    Ok(())
}

/// What is measured of Naru, each with games and a data folder of its own.
struct NaruRun<'a> {
    args: &'a WardsArgs,
    manifest: &'a Manifest,
    scene: &'a mut Scene,
    program: PathBuf,
}

impl NaruRun<'_> {
    fn costs(&mut self, report: &mut Report) -> anyhow::Result<()> {
        note(&format!("measuring Naru for {:?}", self.args.span));
        let mut naru = self.start("naru", None, self.args.core)?;
        std::thread::sleep(self.args.settle);
        let web = Web::new()?;
        let before = naru.metrics(&web)?;
        let groups = naru.groups()?;
        let (own, keepers) = (Reading::take(&groups.own)?, Reading::take(&groups.keepers)?);
        std::thread::sleep(self.args.span);
        naru.must_run(self.scene)?;
        let groups = naru.groups()?;
        let figures = Reading::take(&groups.own)?.since(&own)?;
        report.costs.push(Row { monitor: "Naru".to_owned(), figures });
        let figures = Reading::take(&groups.keepers)?.since(&keepers)?;
        report.costs.push(Row { monitor: "its keepers".to_owned(), figures });
        report.naru = Some(Said::between(&before, &naru.metrics(&web)?, self.args.span)?);
        Ok(())
    }

    fn interference(&mut self, core: u32, report: &mut Report) -> anyhow::Result<()> {
        note(&format!("measuring what Naru takes for {:?}", self.args.tick_for));
        let tick = tick::prepare(self.scene, "naru-tick-game", core)?;
        let mut naru = self.start("naru-tick", Some((&tick, core)), Some(core))?;
        std::thread::sleep(self.args.settle);
        let game = naru.groups()?.games[tick::NAME];
        // Keepers are Naru, too.
        let pids = || naru.groups().map(|groups| [groups.own, groups.keepers].concat());
        let folder = self.scene.folder("trace")?;
        let wait = || {
            std::thread::sleep(self.args.tick_for);
            Ok(())
        };
        let figures = interference::measure(&folder, pids, game, core, wait)?;
        naru.must_run(self.scene)?;
        report.interference.push(Row { monitor: "Naru with keepers".to_owned(), figures });
        Ok(())
    }

    fn outages(&mut self) -> anyhow::Result<Outages> {
        note(&format!("killing {} games and Naru {} times", self.args.kills, self.args.kills));
        let mut naru = self.start("naru-kills", None, self.args.core)?;
        outages::measure(&mut naru, self.scene, self.args.kills)
    }

    /// Naru with all its games.
    fn start(
        &mut self,
        name: &str,
        tick: Option<(&Launch, u32)>,
        core: Option<u32>,
    ) -> anyhow::Result<Naru> {
        let cores = std::thread::available_parallelism()?.get();
        let all: Vec<u32> = (0..u32::try_from(cores)?).collect();
        let mut launches = Vec::new();
        for game in &self.args.play {
            let folder = format!("{name}-{game}");
            launches.push(self.scene.prepare(self.manifest, game, &folder)?);
        }
        // Games would inherit the core that Naru is kept on.
        let game = |launch| Ward { launch, cpus: all.clone() };
        let mut wards: Vec<Ward<'_>> = launches.iter().map(game).collect();
        wards.extend(tick.map(|(launch, core)| Ward { launch, cpus: vec![core] }));
        let mut naru = Naru::prepare(self.scene, &self.program, name, &wards, core)?;
        naru.start(self.scene)?;
        naru.until_all_run(self.scene)?;
        Ok(naru)
    }
}

fn show(args: &WardsArgs, report: &Report) -> anyhow::Result<()> {
    if args.json {
        print_line(&serde_json::to_string(report)?);
        return Ok(());
    }
    let mut table = Table::default();
    let head = ["CPU s/h", "RSS MiB", "PSS MiB", "written MiB/h", "voluntary/s", "forced/s"];
    table.row("monitor", head.map(|title| format!("{title:>14}")).join(""));
    for Row { monitor, figures } in &report.costs {
        table.row(monitor, figures);
    }
    print_line(table.to_string().trim_end());
    if let Some(said) = &report.naru {
        print_line(&said.to_string());
    }
    if !report.interference.is_empty() {
        let mut table = Table::default();
        let head = interference::HEAD.map(|title| format!("{title:>16}")).join("");
        table.row("\nbeside a game", head);
        for Row { monitor, figures } in &report.interference {
            table.row(monitor, figures);
        }
        print_line(table.to_string().trim_end());
    }
    if let Some(outages) = &report.outages {
        let mut table = Table::default();
        table.row("\nafter a kill", outages::HEAD);
        for (name, times) in outages.rows() {
            table.row(&name, times);
        }
        print_line(table.to_string().trim_end());
    }
    Ok(())
}
