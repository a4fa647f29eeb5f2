//! Carries out what lives ask for, and takes in what came of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::ports::WardRecord;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::begin::{LIFE, hold_keeper};
use super::charge::Hold;
use super::keeper::KeeperAsk;
use super::news::{Happened, Held, News, Teller};
use super::supervisor::Supervisor;
use super::view::Ordered;
use crate::console::Start;
use crate::host;
use crate::keeper::{self, Client, Target};
use crate::learn::Mark;
use crate::life::{Answer, Evidence, Input, OperationId, Output, Ports, Record, Tree};
use crate::model::{Ending, Exit, ProcessId, WardName};
use crate::profile::ward::{LaunchFile, ResolvedPort};
use crate::profile::{self, Ward, format};

/// How soon a server that is only watched is looked for again. A look goes through all processes.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long a keeper may take to end after its game: a file and its folder are flushed, which takes long on a busy
/// disk.
const KEPT_TRIES: u32 = 60;
const KEPT_PAUSE: Duration = Duration::from_millis(50);
/// A list of a ward's processes is made anew so often, should a child have come unseen.
const TREE_EVERY: Duration = Duration::from_secs(600);

impl Supervisor {
    /// Gives a life an input, and carries out what follows.
    pub(super) fn feed(&mut self, name: &WardName, input: Input) {
        let moment = self.moment();
        let Some(charge) = self.charges.get_mut(name) else { return };
        let mut outputs = Vec::new();
        charge.life.handle(moment, rand::random(), input, &mut outputs);
        self.carry_out(name, outputs);
    }

    /// Carries these out, in order.
    pub(super) fn carry_out(&mut self, name: &WardName, outputs: Vec<Output>) {
        self.is_shown &= outputs.is_empty();
        for output in outputs {
            debug!(target: "naru::wards", ward = %name, ?output, "asked for");
            match output {
                Output::Persist { seq, record } => self.persist(name, seq, &record),
                Output::CheckPorts => self.check_ports(name),
                Output::Launch { launch } => self.launch(name, launch),
                Output::Announce { kind: _, left, reason } => {
                    self.announce_stop(name, left, &reason)
                }
                Output::AnnounceCancelled => {
                    self.announce(name, "The restart was called off.".to_owned());
                }
                Output::Save { operation: _ } => self.ask_to_save(name),
                Output::Rung { operation, index, action: _ } => self.climb(name, operation, index),
                Output::KillTree => self.kill_tree(name),
                Output::Capture => self.capture(name),
                Output::Locate => self.spawn_locate(name),
                Output::Gather => self.gather(name),
                Output::Answer { request, answer } => self.answer_order(name, request, answer),
                Output::Done { operation, outcome } => self.done(name, operation, outcome),
                Output::Notify(notice) => self.notify(name, notice),
                Output::History(event) => self.write_history(name, &event),
            }
        }
    }

    /// Takes news in.
    pub(super) fn take(&mut self, news: News) {
        let News { ward: name, entry, what } = news;
        let Some(charge) = self.charges.get_mut(&name) else { return };
        if charge.entry != entry {
            return;
        }
        match what {
            Happened::Persisted { seq, is_kept } => {
                charge.lane.is_busy = false;
                self.next_record(&name);
                let input = if is_kept { Input::Persisted(seq) } else { Input::PersistFailed(seq) };
                self.feed(&name, input);
            }
            Happened::Ports(ports) => self.feed(&name, Input::Ports(ports)),
            Happened::Launched { launch, result } => self.launched(&name, launch, result),
            Happened::Keeper(event) => self.keeper_said(&name, event),
            Happened::KeeperLost { is_superseded } => {
                if is_superseded {
                    warn!(target: "naru::wards", ward = %name, "another Naru has taken this ward over");
                }
                charge.hold.clear();
                self.feed(&name, Input::KeeperLost);
            }
            Happened::WatchEnded(process) => {
                if charge.hold.process.as_ref() == Some(&process) {
                    let exit = Exit { ending: Ending::Unknown, at: self.ports.clock.now() };
                    self.exited(&name, process, exit, Tree::Gone);
                }
            }
            Happened::Located { found, held } => {
                if let Some(held) = held
                    && !self.charges.get(&name).is_some_and(super::charge::Charge::is_up)
                {
                    self.grasp(&name, *held, Start::End);
                }
                self.feed(&name, Input::Found(found));
            }
            Happened::Rung { operation, index, error } => {
                self.feed(&name, Input::RungDone { operation, index, error });
            }
            Happened::SaveAsked { result } => self.save_asked(&name, result),
            Happened::Gathered(evidence) => {
                for (evidence, age) in evidence {
                    self.feed(&name, Input::Evidence { evidence, age, launch: None });
                }
                self.feed(&name, Input::EvidenceComplete);
            }
            Happened::Asked(asked) => self.asked(&name, *asked),
            Happened::Pushed(event) => self.pushed(&name, event),
            Happened::Tree(processes) => {
                if charge.is_up() && !processes.is_empty() {
                    self.sampler.add(&name, &processes);
                }
            }
            Happened::CopyEnded(result) => self.copy_ended(&name, result),
            Happened::RestoreEnded => (charge.copying, charge.restoring) = (false, false),
        }
    }

    fn persist(&mut self, name: &WardName, seq: u64, record: &Record) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let body = String::from_utf8_lossy(&record.to_json()).into_owned();
        charge.lane.next = Some((seq, Arc::from(body)));
        if !charge.lane.is_busy {
            self.next_record(name);
        }
    }

    /// Writes the newest record that waits. What it says includes all before it.
    fn next_record(&mut self, name: &WardName) {
        let at = self.ports.clock.now();
        let Some(charge) = self.charges.get_mut(name) else { return };
        let Some((seq, body)) = charge.lane.next.take() else { return };
        charge.lane.is_busy = true;
        let teller = self.teller(name, self.charges[name].entry);
        let history = Arc::clone(&self.ports.history);
        let ward = Arc::from(name.as_str());
        let record = WardRecord { ward, part: Arc::from(LIFE), body, at };
        self.tasks.spawn(async move {
            let kept = history.save_record(&record).await;
            if let Err(error) = &kept {
                warn!(target: "naru::wards", ward = &*record.ward, %error, "a ward's record was not kept");
            }
            teller.tell(Happened::Persisted { seq, is_kept: kept.is_ok() }).await;
        });
    }

    fn check_ports(&mut self, name: &WardName) {
        let Some(charge) = self.charges.get(name) else { return };
        let teller = self.teller(name, charge.entry);
        let ward = Arc::clone(&charge.ward);
        self.tasks.spawn(async move {
            let looked = tokio::task::spawn_blocking(move || taken_ports(&ward)).await;
            let ports = match looked {
                Ok(taken) if taken.is_empty() => Ports::Free,
                Ok(taken) => Ports::Taken(taken.join(", ")),
                Err(_) => Ports::Unknown,
            };
            teller.tell(Happened::Ports(ports)).await;
        });
    }

    fn launch(&mut self, name: &WardName, launch: u64) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        charge.hold.clear();
        let (ward, folder) = (Arc::clone(&charge.ward), charge.folder.clone());
        let teller = self.teller(name, self.charges[name].entry);
        let keepers = Keepers {
            starter: Arc::clone(&self.starter),
            program: self.options.keeper_program.clone(),
        };
        self.tasks.spawn(async move {
            let result = start(&ward, folder, keepers, teller.clone()).await;
            teller.tell(Happened::Launched { launch, result }).await;
        });
    }

    fn launched(&mut self, name: &WardName, launch: u64, result: Result<Box<Held>, String>) {
        match result {
            Ok(held) => {
                let process = held.process.clone();
                info!(target: "naru::wards", ward = %name, pid = process.pid, "a game was started");
                if let Some(charge) = self.charges.get_mut(name) {
                    charge.follower = None;
                    charge.answer = super::view::AnswerView::default();
                    charge.last_status = None;
                }
                self.grasp(name, *held, Start::Beginning);
                self.learn_mark(name, Mark::Started);
                // Without games ticks are rare.
                self.next_tick = self.next_tick.min(Instant::now() + self.pace.interval());
                self.feed(name, Input::Launched { launch, process });
            }
            Err(error) => self.feed(name, Input::LaunchFailed { launch, error }),
        }
    }

    fn keeper_said(&mut self, name: &WardName, event: keeper::Event) {
        match event {
            keeper::Event::Started { warnings, .. } => {
                if let Some(charge) = self.charges.get_mut(name) {
                    charge.remarks.extend(warnings);
                }
            }
            keeper::Event::MainExited { exit, inner }
            | keeper::Event::InnerExited { exit, inner } => {
                let tree = match &inner {
                    Some(_) => Tree::Alive { inner: inner.clone() },
                    None => Tree::Gone,
                };
                self.exited(name, exit.process.clone(), exit.exit(), tree);
                if let (Some(inner), Some(charge)) = (inner, self.charges.get_mut(name)) {
                    charge.hold.process = Some(inner.clone());
                    self.sampler.add(name, &[inner]);
                    self.refresh_tree(name);
                }
            }
            keeper::Event::DescendantLeft { .. } => self.refresh_tree(name),
            keeper::Event::Empty => {
                if let Some(charge) = self.charges.get_mut(name) {
                    charge.hold.clear();
                }
                self.sampler.remove(name);
                self.feed(name, Input::TreeGone);
            }
            // A launch that fails is told by the launch itself; the other one by the connection's end.
            keeper::Event::NotStarted { .. } | keeper::Event::Superseded => {}
        }
    }

    /// A process of a ward ended.
    fn exited(&mut self, name: &WardName, process: ProcessId, exit: Exit, tree: Tree) {
        info!(target: "naru::wards", ward = %name, pid = process.pid, ending = ?exit.ending, "a game has ended");
        if tree == Tree::Gone {
            self.sampler.remove(name);
            let now = self.ports.clock.now();
            let mut changes = Vec::new();
            if let Some(charge) = self.charges.get_mut(name) {
                charge.players.ended(now, &mut changes);
                // The keeper's own end follows; a watched process has none.
                if charge.hold.asks.is_none() {
                    charge.hold.clear();
                }
                charge.hold.process = None;
            }
            self.players_changed(name, &changes);
            self.stop_asking(name);
        }
        self.pending.hurry();
        self.feed(name, Input::Exited { process, exit, tree });
    }

    fn answer_order(&mut self, name: &WardName, request: u64, answer: Answer) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        if self.planned.remove(&request) {
            match (answer, &mut self.planner) {
                (Answer::Accepted(id) | Answer::Joined(id), _) => charge.scheduled.push(id),
                (_, Some(planner)) => planner.finished(name),
                (_, None) => {}
            }
        }
        let Some(reply) = charge.requests.remove(&request) else { return };
        let ordered = match answer {
            Answer::Accepted(operation) => Ok(Ordered::Begun(operation)),
            Answer::Joined(operation) => Ok(Ordered::Joined(operation)),
            Answer::Already => Ok(Ordered::Already),
            Answer::Refused(refusal) => Err(refusal.into()),
        };
        // Whoever asked may have left.
        drop(reply.send(ordered));
    }

    fn done(&mut self, name: &WardName, operation: OperationId, outcome: crate::life::Outcome) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        charge.conclude(operation, outcome);
        let before = charge.scheduled.len();
        charge.scheduled.retain(|scheduled| *scheduled != operation);
        if charge.scheduled.len() < before
            && let Some(planner) = &mut self.planner
        {
            planner.finished(name);
        }
    }

    /// One rung of the ladder. A kill is not one.
    fn climb(&mut self, name: &WardName, operation: OperationId, index: usize) {
        self.learn_mark(name, Mark::Stopping);
        let Some(charge) = self.charges.get(name) else { return };
        let teller = self.teller(name, charge.entry);
        let Some(rung) = charge.ward.stop.get(index).cloned() else { return };
        let told = self.say(
            name,
            &rung.act,
            &profile::template::Words { seconds: 1, message: "The server stops.", player: "" },
        );
        self.tasks.spawn(async move {
            let error = told.await.err();
            teller.tell(Happened::Rung { operation, index, error }).await;
        });
    }

    fn kill_tree(&mut self, name: &WardName) {
        let Some(charge) = self.charges.get(name) else { return };
        let keeper = charge.hold.keeper.clone();
        let process = charge.hold.process.clone();
        let asks = charge.hold.asks.clone();
        let ward = name.clone();
        self.tasks.spawn(async move {
            if let Some(asks) = asks {
                let (reply, answer) = tokio::sync::oneshot::channel();
                if asks.send(KeeperAsk::Signal(9, Target::Tree, reply)).await.is_ok()
                    && matches!(answer.await, Ok(Ok(())))
                {
                    return;
                }
            }
            // The keeper is gone or does not answer: by hand.
            let killed = tokio::task::spawn_blocking(move || {
                let below = keeper.or_else(|| process.clone()).map_or(0, |root| root.pid);
                host::kill_tree(below, process.as_ref())
            });
            if let Ok(Err(error)) = killed.await {
                warn!(target: "naru::wards", %ward, %error, "a game could not be killed");
            }
        });
    }

    /// What shows why it hangs: its state, for the history.
    fn capture(&mut self, name: &WardName) {
        let Some(charge) = self.charges.get(name) else { return };
        let state = charge.hold.process.as_ref().and_then(|process| host::state(process).ok());
        let last = charge.follower.as_ref().and_then(|follower| {
            let page = follower.search(&crate::console::Query::All, None, 5);
            let lines: Vec<&str> = page.lines.iter().map(|line| &*line.text).collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        });
        let body = serde_json::json!({
            "state": state.map(String::from),
            "last_lines": last,
        });
        let now = self.ports.clock.now();
        self.pending.add_event(name, "captured", &body.to_string(), now, false);
        self.feed(name, Input::Captured);
    }

    /// Asks for the list of a ward's processes; it comes as news.
    pub(super) fn refresh_tree(&mut self, name: &WardName) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        charge.tree_due = Some(Instant::now() + TREE_EVERY);
        let Some(process) = charge.hold.process.clone() else { return };
        let root = charge.hold.keeper.clone().unwrap_or_else(|| process.clone());
        let teller = self.teller(name, self.charges[name].entry);
        self.tasks.spawn(async move {
            let listed = tokio::task::spawn_blocking(move || {
                let below = host::descendants(root.pid).unwrap_or_default();
                let mut all: Vec<ProcessId> =
                    below.into_iter().map(|found| found.process).collect();
                if !all.contains(&process) {
                    all.push(process);
                }
                all
            });
            if let Ok(processes) = listed.await {
                teller.tell(Happened::Tree(processes)).await;
            }
        });
    }

    /// Looks again for servers that somebody else starts.
    pub(super) fn look_for_watched(&mut self, now: Instant) {
        let due: Vec<WardName> = self
            .charges
            .values()
            .filter(|charge| charge.ward.attach.is_some() && !charge.is_up())
            .filter(|charge| charge.locating.is_none_or(|at| at <= now))
            .map(|charge| charge.name().clone())
            .collect();
        for name in due {
            if let Some(charge) = self.charges.get_mut(&name) {
                charge.locating = Some(now + LOOK_AGAIN);
            }
            self.spawn_locate(&name);
        }
    }

    /// All evidence of an end that there is.
    fn gather(&mut self, name: &WardName) {
        self.read_console(name, true);
        let Some(charge) = self.charges.get(name) else { return };
        let teller = self.teller(name, charge.entry);
        let look = super::evidence::Look {
            folder: charge.folder.clone(),
            files: charge.ward.exit.crash_files.clone(),
            launched: charge.life.record().process.as_ref().map(|kept| kept.launched),
            now: self.ports.clock.now(),
            oom_before: charge.oom_before,
        };
        self.tasks.spawn(async move {
            let found = tokio::task::spawn_blocking(move || look.evidence()).await;
            let evidence: Vec<(Evidence, Duration)> = found.unwrap_or_default();
            teller.tell(Happened::Gathered(evidence)).await;
        });
    }
}

pub(super) fn new_hold(
    process: ProcessId,
    keeper: Option<ProcessId>,
    asks: Option<mpsc::Sender<KeeperAsk>>,
) -> Hold {
    Hold { process: Some(process), keeper, asks, watch: None, pushes: None }
}

/// The ports of a ward that are taken, in words. Blocking.
fn taken_ports(ward: &Ward) -> Vec<String> {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let is_taken = |port: &ResolvedPort| {
        let at = SocketAddr::new(everywhere, port.number);
        let tcp = || !host::port_is_free(at, host::Transport::Tcp);
        let udp = || !host::port_is_free(at, host::Transport::Udp);
        match port.protocol {
            format::Protocol::Tcp => tcp(),
            format::Protocol::Udp => udp(),
            format::Protocol::Both => tcp() || udp(),
        }
    };
    let taken = ward.ports.iter().filter(|(_, port)| is_taken(port));
    taken.map(|(name, port)| format!("{name} {}", port.number)).collect()
}

/// What keepers are started with.
struct Keepers {
    starter: Arc<keeper::Starter>,
    program: PathBuf,
}

/// Starts a ward's game through a keeper.
async fn start(
    ward: &Ward,
    folder: PathBuf,
    keepers: Keepers,
    teller: Teller,
) -> Result<Box<Held>, String> {
    let wanted = ward.launch.clone().ok_or("it has no command")?;
    let mut launch = keeper_launch(ward, &wanted)?;
    let files = wanted.files;
    let user = wanted.user;
    let prepared = tokio::task::spawn_blocking(move || {
        let user = user.map(|name| user_of(&name)).transpose()?;
        for file in &files {
            write_file(file, user).map_err(|error| format!("{}: {error}", file.path.display()))?;
        }
        Ok::<_, String>(user)
    });
    launch.user = prepared.await.map_err(|error| error.to_string())??;
    let Keepers { starter, program } = keepers;
    let mut tries = 0;
    let client = loop {
        match Client::launch(&starter, &folder, &launch, &program).await {
            Ok(client) => break client,
            // The keeper of the game before is about to end: it still writes down how that ended.
            Err(keeper::LaunchError::AlreadyKept) if tries < KEPT_TRIES => {
                tries += 1;
                tokio::time::sleep(KEPT_PAUSE).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    let process = client.hello().main.clone();
    Ok(Box::new(hold_keeper(client, process, teller, Vec::new())))
}

fn keeper_launch(ward: &Ward, wanted: &profile::ward::Launch) -> Result<keeper::Launch, String> {
    let priority = &ward.priority;
    let mut launch = keeper::Launch::new(&wanted.program, &wanted.dir);
    launch.args.clone_from(&wanted.args);
    launch.env = wanted.environment.iter().cloned().collect::<BTreeMap<_, _>>();
    launch.stdin = if wanted.stdin { keeper::Stdin::Lines } else { keeper::Stdin::Null };
    let console = ward.console.file_max_bytes.0;
    launch.console_bytes_max = console.max(keeper::Launch::CONSOLE_BYTES_MIN);
    launch.priority = host::Priority {
        nice: priority.nice,
        idle: false,
        cores: priority.cpus.iter().map(|core| usize::from(*core)).collect(),
        oom_score: priority.oom_score,
    };
    launch.group_limits = host::GroupLimits {
        memory_bytes_max: priority.memory_max.map(|size| size.0),
        cpu_weight: priority.cpu_weight.map(u32::from),
    };
    if !launch.group_limits.is_empty() {
        launch.group = Some(keeper::Group {
            parent: host::group_parent().map_err(|error| format!("limits: {error}"))?,
            name: format!("naru-ward-{}", ward.name),
        });
    }
    Ok(launch)
}

/// The numbers of a user of this machine. Blocking: reads `/etc/passwd`.
fn user_of(name: &str) -> Result<keeper::User, String> {
    let text = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (user, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (user == name)
            .then(|| Some(keeper::User { uid: uid.parse().ok()?, gid: gid.parse().ok()? }))?
    });
    found.ok_or_else(|| format!("there is no user `{name}` on this machine"))
}

/// Writes a file that only the game's user can read. Blocking.
fn write_file(file: &LaunchFile, user: Option<keeper::User>) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    keeper::for_owner_only(&mut options);
    let mut opened = options.open(&file.path)?;
    opened.write_all(file.text.reveal().as_bytes())?;
    opened.sync_all()?;
    match user {
        Some(user) => host::give_to(&file.path, user.uid, user.gid),
        None => Ok(()),
    }
}
