//! How the supervisor begins: the records of all wards, their figures from before, and where their games are now.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use naru_domain::Timestamp;
use naru_domain::ports::{WardHistory, WardRecord};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::act::new_hold;
use super::ask::Asking;
use super::charge::{Charge, CpuWatch, Hold, Lane, Saving};
use super::news::{Happened, Held, Teller};
use super::policy;
use super::supervisor::Supervisor;
use super::view::AnswerView;
use crate::console::{Bounds, Follower, Masks, Start};
use crate::keeper::{self, Client, ConnectError};
use crate::learn::{LearnSettings, Learner, SaveSchedule};
use crate::life::{By, Found, Goal, Life, Record, Tree};
use crate::measure::{Players, PlayersSettings, Recorder, Series, Windows, restore};
use crate::model::{ProcessId, WardName};
use crate::profile::Ward;
use crate::profile::plugin::{About, Plugin};
use crate::profile::ward::Attach;
use crate::{host, keeper as keepers};

/// The part of a ward's records that its life is kept in.
pub(super) const LIFE: &str = "life";
/// The part that the schedules are kept in.
pub(super) const PLANS: &str = "plans";
/// The part that its learner is kept in.
pub(super) const LEARNED: &str = "learned";
/// Visits that are open at once and gone on with.
const OPEN_VISITS_MAX: usize = 512;

impl Supervisor {
    /// Takes all wards of the options in charge, and finds their games.
    pub(super) async fn begin(&mut self) {
        let records = match self.ports.history.load_records().await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(target: "naru::wards", %error, "the records of wards cannot be read");
                Vec::new()
            }
        };
        let mut by_ward: HashMap<(Arc<str>, Arc<str>), WardRecord> = HashMap::new();
        for record in records {
            by_ward.insert((Arc::clone(&record.ward), Arc::clone(&record.part)), record);
        }
        for ward in std::mem::take(&mut self.options.wards) {
            let kept = |part: &str| {
                by_ward
                    .get(&(Arc::from(ward.name.as_str()), Arc::from(part)))
                    .map(|r| r.body.clone())
            };
            let (life, learned) = (kept(LIFE), kept(LEARNED));
            self.take_charge(ward, life, learned).await;
        }
        self.begin_plans(by_ward.values());
    }

    /// Takes a ward in charge, with what is kept of it.
    pub(super) async fn take_charge(
        &mut self,
        ward: Ward,
        life: Option<Arc<str>>,
        learned: Option<Arc<str>>,
    ) {
        let name = ward.name.clone();
        let folder = self.options.folder.join(name.as_str());
        let now = self.ports.clock.now();
        let ward = Arc::new(ward);
        let mended = Arc::clone(&ward);
        // A panic there is told by the thread itself; the ward begins all the same.
        drop(tokio::task::spawn_blocking(move || super::copy::mend(&mended)).await);
        let record = self.record_of(&ward, life.as_deref(), now);
        let (windows, rollups) = match restore(&*self.ports.history, name.as_str(), now).await {
            Ok(restored) => restored,
            Err(error) => {
                warn!(target: "naru::wards", ward = %name, %error, "figures from before cannot be read");
                (Windows::default(), Vec::new())
            }
        };
        for rollup in rollups {
            self.pending.add_rollup(&name, &rollup);
        }
        let players = players_of(&*self.ports.history, &name).await;
        let entry = self.next_entry();
        let teller = self.teller(&name, entry);
        let known = record.process.as_ref().map(|kept| kept.id.clone());
        let located = locate(&ward, &folder, known, teller.clone()).await;
        let (found, held) = located;
        let boot = host::identify(std::process::id()).map(|own| own.boot).unwrap_or_default();
        let mut outputs = Vec::new();
        let life = Life::resume(
            Arc::new(policy::of(&ward)),
            record,
            found,
            &boot,
            self.moment(),
            rand::random(),
            &mut outputs,
        );
        let settings = learn_settings(&ward);
        let recalled = learned.and_then(|kept| super::figures::recall(settings, &kept));
        let learner = recalled.unwrap_or_else(|| Learner::new(settings));
        let charge = Charge {
            entry,
            folder,
            life,
            hold: Hold::default(),
            lane: Lane::default(),
            follower: None,
            logs: Vec::new(),
            patterns: ward.log.clone(),
            players,
            recorder: Recorder::new(name.clone(), windows),
            learner,
            asking: Asking::new(&ward),
            answer: AnswerView::default(),
            last_status: None,
            tellers: HashMap::new(),
            plugin: plugin_of(&ward),
            remarks: remarks_of(&ward),
            taken: None,
            cpu: CpuWatch::default(),
            saving: Saving::default(),
            told_players: None,
            outcomes: std::collections::VecDeque::new(),
            waiting: Vec::new(),
            requests: HashMap::new(),
            followers: Vec::new(),
            copying: false,
            restoring: false,
            scheduled: Vec::new(),
            tree_due: None,
            oom_before: None,
            locating: None,
            ward,
        };
        self.charges.insert(name.clone(), charge);
        if let Some(held) = held {
            self.grasp(&name, *held, Start::End);
            info!(target: "naru::wards", ward = %name, "a running game was found again");
        } else {
            self.follow_console(&name, Start::End);
        }
        self.carry_out(&name, outputs);
    }

    /// The record of a ward; a new ward, or one whose record cannot be read, begins with what its file says.
    fn record_of(&self, ward: &Ward, life: Option<&str>, now: Timestamp) -> Record {
        let goal = if ward.autostart { Goal::Running } else { Goal::Stopped };
        let fresh = || Record::new(goal, By::Naru, now);
        let Some(text) = life else { return fresh() };
        Record::parse(text.as_bytes()).unwrap_or_else(|error| {
            warn!(target: "naru::wards", ward = %ward.name, %error, "a ward's record cannot be read; it begins anew");
            fresh()
        })
    }

    /// Holds a game: its keeper is spoken with by a task, or its process watched by one.
    pub(super) fn grasp(&mut self, name: &WardName, held: Held, start: Start) {
        let Held { process, keeper, asks, warnings, catches_sigterm } = held;
        let Some(charge) = self.charges.get_mut(name) else { return };
        let watch = asks.is_none().then(|| (process.clone(), charge.entry));
        charge.hold = new_hold(process.clone(), keeper, asks);
        charge.remarks.extend(warnings);
        charge.oom_before = host::machine_oom_kills().ok();
        self.sampler.add(name, std::slice::from_ref(&process));
        if let Some((process, entry)) = watch {
            let task = self.tasks.spawn(watch_end(process, self.teller(name, entry)));
            if let Some(charge) = self.charges.get_mut(name) {
                charge.hold.watch = Some(task.abort_handle());
            }
        }
        self.follow_console(name, start);
        self.begin_asking(name);
        if let Some(catches) = catches_sigterm {
            self.feed(name, crate::life::Input::CatchesSigterm(catches));
        }
        self.refresh_tree(name);
    }

    /// Follows what the ward prints, and its log files.
    pub(super) fn follow_console(&mut self, name: &WardName, start: Start) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let ward = &charge.ward;
        let secrets: Vec<String> =
            ward.secrets.values().map(|secret| secret.reveal().to_owned()).collect();
        let masks = Masks::new(&secrets, &ward.console.mask).unwrap_or_else(|error| {
            charge.remarks.push(format!("console.mask: {error}"));
            Masks::default()
        });
        let bounds = Bounds {
            ring_lines: ward.console.lines,
            ring_bytes: ward.console.lines.saturating_mul(128).min(1 << 20),
            file_bytes: Some(ward.console.file_max_bytes.0),
            ..Bounds::default()
        };
        let start = match charge.follower.as_ref().map(Follower::place) {
            // The game goes on writing into the same file.
            Some(place) if start == Start::End => Start::After(place),
            _ => start,
        };
        let path = charge.folder.join(keepers::CONSOLE);
        charge.follower = match Follower::open(&path, bounds, masks.clone(), start) {
            Ok(follower) => Some(follower),
            Err(error) => {
                warn!(target: "naru::wards", ward = %name, %error, "the console cannot be followed");
                None
            }
        };
        if charge.logs.is_empty() {
            let bounds = Bounds { file_bytes: None, ring_lines: 1, ring_bytes: 1_024, ..bounds };
            for path in ward.log_files.iter().filter_map(|pattern| newest(pattern)) {
                let follower = Follower::open(&path, bounds, masks.clone(), Start::End);
                charge.logs.extend(follower.ok());
            }
        }
    }

    /// Looks for a ward's game, and tells what it found.
    pub(super) fn spawn_locate(&mut self, name: &WardName) {
        let Some(charge) = self.charges.get(name) else { return };
        let teller = self.teller(name, charge.entry);
        let (ward, folder) = (Arc::clone(&charge.ward), charge.folder.clone());
        let known = charge.life.record().process.as_ref().map(|kept| kept.id.clone());
        self.tasks.spawn(async move {
            let (found, held) = locate(&ward, &folder, known, teller.clone()).await;
            teller.tell(Happened::Located { found, held }).await;
        });
    }
}

async fn players_of(history: &dyn WardHistory, name: &WardName) -> Players {
    let peaks = history.peaks(name.as_str()).await.unwrap_or_default();
    let series = Series::Players.number();
    let peak = peaks.iter().find(|peak| peak.series == series).map_or(0, |peak| peak.value);
    let mut players = Players::new(name, PlayersSettings::default(), peak);
    match history.open_visits(name.as_str(), OPEN_VISITS_MAX).await {
        Ok(open) => players.restore(open),
        Err(error) => {
            warn!(target: "naru::wards", ward = %name, %error, "open visits cannot be read");
        }
    }
    players
}

fn plugin_of(ward: &Ward) -> Option<Arc<tokio::sync::Mutex<Plugin>>> {
    let rule = ward.plugin.clone()?;
    Some(Arc::new(tokio::sync::Mutex::new(Plugin::new(rule, About::ward(ward)))))
}

fn remarks_of(ward: &Ward) -> Vec<String> {
    let all = ward.warnings.iter().chain(&ward.left_out);
    all.map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
}

fn learn_settings(ward: &Ward) -> LearnSettings {
    let saves = ward
        .saves
        .every
        .map(|every| SaveSchedule { period: every.0, offset: std::time::Duration::ZERO });
    LearnSettings { saves }
}

/// The newest file that a pattern names; only its last part may have `*`. Blocking, on a cold path.
pub(super) fn newest(pattern: &str) -> Option<PathBuf> {
    let path = Path::new(pattern);
    let last = path.file_name()?.to_str()?;
    let Some((before, after)) = last.split_once('*') else { return Some(path.to_owned()) };
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    let fits = |name: &str| {
        name.len() >= before.len() + after.len()
            && name.starts_with(before)
            && name.ends_with(after)
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(fits))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .max()
        .map(|(_, path)| path)
}

/// Where a ward's game is: with its keeper, without one, or not there.
pub(super) async fn locate(
    ward: &Ward,
    folder: &Path,
    known: Option<ProcessId>,
    teller: Teller,
) -> (Found, Option<Box<Held>>) {
    if ward.launch.is_some() {
        match Client::connect(folder).await {
            Ok(client) => return met(client, known.as_ref(), teller),
            Err(ConnectError::Gone) => {}
            Err(error) => {
                warn!(target: "naru::wards", ward = %ward.name, %error, "a keeper was not reached");
            }
        }
    }
    let (ward, folder) = (ward.attach.clone(), folder.to_owned());
    let looked = tokio::task::spawn_blocking(move || look(ward.as_ref(), &folder, known)).await;
    looked.unwrap_or((Found::Gone { exit: None, tree: Tree::Gone }, None))
}

/// A keeper was met: what it says of its game.
fn met(client: Client, known: Option<&ProcessId>, teller: Teller) -> (Found, Option<Box<Held>>) {
    let status = client.hello().clone();
    let alive = status.inner.clone().unwrap_or_else(|| status.main.clone());
    let exit = status.main_exit.as_ref().map(keeper::ExitRecord::exit);
    let found = match status.phase {
        keeper::Phase::Empty => Found::Gone { exit, tree: Tree::Gone },
        keeper::Phase::Orphaned if known == Some(&status.main) => {
            Found::Gone { exit, tree: Tree::Alive { inner: status.inner.clone() } }
        }
        _ if known == Some(&alive) => Found::AliveSame,
        _ => Found::AliveOther { process: alive.clone(), watched: false, earlier: None },
    };
    if status.phase == keeper::Phase::Empty {
        return (found, None);
    }
    (found, Some(Box::new(hold_keeper(client, alive, teller, Vec::new()))))
}

/// Gives a keeper's client to a task of its own.
pub(super) fn hold_keeper(
    client: Client,
    process: ProcessId,
    teller: Teller,
    warnings: Vec<String>,
) -> Held {
    let keeper = client.hello().keeper.clone();
    let (asks, waiting) = mpsc::channel(super::keeper::ASKS_MAX);
    let catches_sigterm = host::catches(&process, 15).ok();
    let tasks = teller.tasks.clone();
    tasks.spawn(super::keeper::hold(client, waiting, teller));
    Held { process, keeper: Some(keeper), asks: Some(asks), warnings, catches_sigterm }
}

/// Without a keeper: what is written in the folder, and what runs. Blocking.
fn look(
    attach: Option<&Attach>,
    folder: &Path,
    known: Option<ProcessId>,
) -> (Found, Option<Box<Held>>) {
    let watched = |process: ProcessId| {
        let catches_sigterm = host::catches(&process, 15).ok();
        let warnings = Vec::new();
        Box::new(Held { process, keeper: None, asks: None, warnings, catches_sigterm })
    };
    if let Some(process) = known.clone().filter(host::is_alive) {
        let found = match attach {
            Some(_) => Found::AliveSame,
            None => Found::KeeperGone { alive: Some(process.clone()) },
        };
        return (found, Some(watched(process)));
    }
    if let Some(process) = attach.and_then(attached) {
        let found = Found::AliveOther { process: process.clone(), watched: true, earlier: None };
        return (found, Some(watched(process)));
    }
    let written = keeper::read_process(folder).ok().flatten();
    let exit = keeper::read_exit(folder).ok().flatten();
    let ended = exit.as_ref().and_then(|exit| match &written {
        // The one that was taken for the game at last.
        Some(written) if written.inner.is_some() => exit.inner.as_ref().or(exit.main.as_ref()),
        _ => exit.main.as_ref(),
    });
    let ended = ended.map(keeper::ExitRecord::exit);
    let left = written.and_then(|written| {
        let alive = written.inner.unwrap_or(written.main);
        host::is_alive(&alive).then_some(alive)
    });
    match left {
        Some(alive) => (Found::KeeperGone { alive: Some(alive.clone()) }, Some(watched(alive))),
        None => (Found::Gone { exit: ended, tree: Tree::Gone }, None),
    }
}

/// The process that an operator's description names. Looks through all processes.
fn attached(attach: &Attach) -> Option<ProcessId> {
    let found = match attach {
        Attach::PidFile(path) => host::find(&host::Find::PidFile(path.clone())),
        Attach::Name(name) => host::find(&host::Find::Name(name.clone())),
        Attach::Command(piece) => host::find(&host::Find::Command(piece.clone())),
        Attach::Port(port) => host::find(&host::Find::Port(*port, host::Transport::Tcp))
            .ok()
            .filter(|found| !found.is_empty())
            .map_or_else(|| host::find(&host::Find::Port(*port, host::Transport::Udp)), Ok),
    };
    found.ok()?.into_iter().max_by_key(|found| found.resident_bytes).map(|found| found.process)
}

/// Waits for the end of a process that has no keeper.
async fn watch_end(process: ProcessId, teller: Teller) {
    if let Ok(watch) = host::Watch::open(&process) {
        // An error is an end as well: nobody can watch it any more, and the loop looks again.
        drop(watch.exited().await);
    }
    teller.tell(Happened::WatchEnded(process)).await;
}
