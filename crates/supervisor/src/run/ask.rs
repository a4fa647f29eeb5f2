//! Asks games how they are: the best source first, the others when it does not answer, never two questions at
//! once. What an answer means for the ward is decided by its life.

use std::sync::Arc;
use std::time::Duration;

use naru_domain::{Clock, Timestamp};
use naru_games::{Endpoint, Player, Protocol, Status, Tick, Want};
use tokio::time::{Instant, timeout};

use super::charge::{Charge, LastStatus};
use super::news::{Happened, Way};
use super::supervisor::Supervisor;
use crate::life::Input;
use crate::measure::{Listed, Reading, Series, Values};
use crate::model::WardName;
use crate::profile::Ward;
use crate::profile::format::StatusProtocol;
use crate::profile::plugin::{self, Request};
use crate::profile::ward::Source;

/// After a missed answer the next question comes this soon: three misses take less time than a hang may.
const AGAIN: Duration = Duration::from_secs(3);
/// While a game starts it is asked this often: being ready is noticed soon.
const STARTING: Duration = Duration::from_secs(2);
/// A round in which we ourselves came so much later than planned says nothing about the game.
const STARVED: Duration = Duration::from_secs(2);
/// An uptime may stand still between two answers of a server that counts whole seconds.
const FROZEN_AFTER: Duration = Duration::from_secs(10);

/// The questions of one ward.
pub(super) struct Asking {
    /// The sources, and the way to each while no question is on its way.
    sources: Option<Vec<(Source, Option<Way>)>>,
    due: Option<Instant>,
    names_due: Instant,
    is_starting: bool,
}

/// What came of one round.
pub(super) struct Asked {
    sources: Vec<(Source, Option<Way>)>,
    result: Result<(StatusProtocol, Status), String>,
    want: Want,
    asked_at: Timestamp,
    /// The round took this much longer than all its deadlines: we were starved.
    is_starved: bool,
}

impl Asking {
    pub(super) fn new(ward: &Ward) -> Asking {
        let asked = |source: &&Source| source.protocol != StatusProtocol::Log;
        let sources: Vec<(Source, Option<Way>)> =
            ward.status.iter().filter(asked).map(|source| (source.clone(), None)).collect();
        let sources = (!sources.is_empty()).then_some(sources);
        Asking { sources, due: None, names_due: Instant::now(), is_starting: true }
    }
}

impl Charge {
    /// When the next question is due.
    pub(super) fn next_question(&self) -> Option<Instant> {
        self.asking.sources.as_ref().and(self.asking.due)
    }
}

impl Supervisor {
    /// From now on the game is asked.
    pub(super) fn begin_asking(&mut self, name: &WardName) {
        if let Some(charge) = self.charges.get_mut(name) {
            charge.asking.due = Some(self.next_tick.max(Instant::now()));
            charge.asking.is_starting = true;
            charge.answer.misses = 0;
        }
        self.take_pushes(name);
    }

    /// The game is gone.
    pub(super) fn stop_asking(&mut self, name: &WardName) {
        if let Some(charge) = self.charges.get_mut(name) {
            charge.asking.due = None;
            // Connections to it would keep its ports taken.
            charge.tellers.clear();
            for (_, way) in charge.asking.sources.iter_mut().flatten() {
                *way = None;
            }
        }
    }

    /// Sends the questions that are due.
    pub(super) fn ask_due(&mut self, now: Instant) {
        let due = |charge: &&Charge| charge.next_question().is_some_and(|at| at <= now);
        let names: Vec<WardName> =
            self.charges.values().filter(due).map(|charge| charge.name().clone()).collect();
        for name in names {
            self.ask(&name, now);
        }
    }

    fn ask(&mut self, name: &WardName, now: Instant) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let Some(sources) = charge.asking.sources.take() else { return };
        charge.asking.due = None;
        let wants_names = now >= charge.asking.names_due;
        let want = if wants_names { Want::Players } else { Want::Counts };
        let ward = Arc::clone(&charge.ward);
        let plugin = charge.plugin.clone();
        let clock = Arc::clone(&self.ports.clock);
        let entry = charge.entry;
        let teller = self.teller(name, entry);
        self.tasks.spawn(async move {
            let asked = round(&ward, sources, plugin, want, clock).await;
            teller.tell(Happened::Asked(Box::new(asked))).await;
        });
    }

    /// An answer, or none.
    pub(super) fn asked(&mut self, name: &WardName, asked: Asked) {
        let Asked { sources, result, want, asked_at, is_starved } = asked;
        let now = self.ports.clock.now();
        let tick = self.next_tick;
        let interval = self.pace.interval();
        let Some(charge) = self.charges.get_mut(name) else { return };
        let best = sources.first().map(|(source, _)| (source.every, source.names));
        charge.asking.sources = Some(sources);
        if !charge.is_up() {
            return self.stop_asking(name);
        }
        let (every, names) = best.unwrap_or((Duration::from_secs(10), Duration::ZERO));
        let instant = Instant::now();
        let pause = match (&result, charge.asking.is_starting) {
            (Err(_), true) => STARTING,
            (Err(_), false) => AGAIN,
            (Ok(_), _) => every,
        };
        // With the tick, so that one wake-up does both.
        charge.asking.due = Some(aligned(tick, interval, instant + pause));
        match result {
            Ok((protocol, status)) => {
                charge.asking.is_starting = false;
                if want == Want::Players {
                    charge.asking.names_due =
                        instant + if names.is_zero() { Duration::from_secs(86_400) } else { names };
                }
                self.answered(name, protocol, status, (asked_at, now));
            }
            Err(error) => {
                charge.answer.misses = charge.answer.misses.saturating_add(1);
                charge.answer.error = Some(error);
                self.feed(name, Input::ProbeMissed { starved: is_starved });
            }
        }
    }

    fn answered(
        &mut self,
        name: &WardName,
        protocol: StatusProtocol,
        status: Status,
        (asked_at, now): (Timestamp, Timestamp),
    ) {
        let instant = Instant::now();
        let mut changes = Vec::new();
        let Some(charge) = self.charges.get_mut(name) else { return };
        let by_answer = charge.ward.ready.by_answer;
        let before = charge.last_status;
        charge.last_status = Some(last_status(before, &status, now, instant));
        record_status(charge, &status, now, &mut self.pending);
        if let Some(count) = status.players {
            let names = status.names.as_deref().unwrap_or_default();
            let listed: Vec<Listed<'_>> = names
                .iter()
                .map(|player| Listed { name: &player.name, id: player.id.as_deref() })
                .collect();
            let is_complete = status.names.is_some() && u32::try_from(listed.len()) == Ok(count);
            charge.players.listed(
                (asked_at, now),
                (count, status.players_max),
                &listed,
                is_complete,
                &mut self.pending,
                &mut changes,
            );
        }
        let answer = &mut charge.answer;
        answer.at = Some(now);
        answer.source = Some(protocol.as_str());
        answer.misses = 0;
        answer.error = None;
        answer.name = status.name.or(answer.name.take());
        answer.map = status.map.or(answer.map.take());
        answer.version = status.version.or(answer.version.take());
        answer.uptime = status.uptime;
        let hang = charge.ward.hang;
        let last = charge.last_status;
        self.players_changed(name, &changes);
        if by_answer {
            self.feed(name, Input::Ready { how: format!("it answers by {}", protocol.as_str()) });
        }
        self.feed(name, Input::ProbeAnswered);
        let (Some(rules), Some(last)) = (hang, last) else { return };
        let since = |moment: Option<Instant>| moment.map(|at| instant.duration_since(at));
        let frozen = since(last.frozen_since).filter(|_| rules.uptime_frozen);
        let tickless = since(last.tickless_since).filter(|_| rules.tick_zero);
        match (frozen.filter(|length| *length >= FROZEN_AFTER), tickless) {
            (Some(length), _) => self.feed(name, Input::UptimeFrozen(length)),
            (None, Some(length)) => self.feed(name, Input::TickFrozen(length)),
            (None, None) if rules.uptime_frozen || rules.tick_zero => {
                self.feed(name, Input::TickMoves);
            }
            (None, None) => {}
        }
    }
}

/// The first tick at or after `at`, on the grid of ticks.
fn aligned(tick: Instant, interval: Duration, at: Instant) -> Instant {
    let Some(later) = at.checked_duration_since(tick) else { return tick };
    let interval = interval.max(Duration::from_millis(1));
    let ticks = later.as_millis().div_ceil(interval.as_millis());
    tick + interval * u32::try_from(ticks).unwrap_or(u32::MAX)
}

fn last_status(
    before: Option<LastStatus>,
    status: &Status,
    now: Timestamp,
    instant: Instant,
) -> LastStatus {
    let tick = status.tick.unwrap_or_default();
    let stands = before.and_then(|before| before.uptime).zip(status.uptime);
    let is_frozen = stands.is_some_and(|(before, now)| before == now);
    let is_tickless = tick.per_second.is_some_and(|rate| rate <= 0.0);
    let since = |earlier: Option<Instant>, holds: bool| holds.then(|| earlier.unwrap_or(instant));
    LastStatus {
        at: now,
        players: status.players,
        tick_rate: tick.per_second,
        tick_ms: tick.milliseconds,
        uptime: status.uptime,
        frozen_since: since(before.and_then(|before| before.frozen_since), is_frozen),
        tickless_since: since(before.and_then(|before| before.tickless_since), is_tickless),
    }
}

/// What a probe tells becomes a reading like any other.
fn record_status(
    charge: &mut Charge,
    status: &Status,
    now: Timestamp,
    pending: &mut crate::measure::Pending,
) {
    let mut values = Values::EMPTY;
    if let Some(players) = status.players {
        values.set(Series::Players, players);
    }
    let tick = status.tick.unwrap_or_default();
    if let Some(rate) = tick.per_second {
        values.set_scaled(Series::TickRate, f64::from(rate));
    }
    if let Some(length) = tick.milliseconds {
        values.set_scaled(Series::TickTime, f64::from(length) / 1_000.0);
    }
    if let Some(ping) = status.answered_in {
        values.set_scaled(Series::Ping, ping.as_secs_f64());
    }
    let span = charge.ward.status.first().map_or(Duration::ZERO, |source| source.every);
    charge.recorder.record(&Reading { at: now, span, values }, pending);
}

/// One round of questions: each source in turn until one answers.
async fn round(
    ward: &Ward,
    mut sources: Vec<(Source, Option<Way>)>,
    plugin: Option<Arc<tokio::sync::Mutex<plugin::Plugin>>>,
    want: Want,
    clock: Arc<dyn Clock>,
) -> Asked {
    let asked_at = clock.now();
    let began = Instant::now();
    let deadlines: Duration = sources.iter().map(|(source, _)| source.timeout).sum();
    let mut result = Err("nothing is asked".to_owned());
    for (source, way) in &mut sources {
        if way.is_none() {
            *way = match make_way(ward, source, plugin.clone()) {
                Ok(made) => Some(made),
                Err(error) => {
                    result = Err(error);
                    continue;
                }
            };
        }
        let Some(open) = way else { continue };
        result = question(source, open, want).await.map(|status| (source.protocol, status));
        if result.is_ok() {
            break;
        }
    }
    let is_starved = began.elapsed() > deadlines + STARVED;
    Asked { sources, result, want, asked_at, is_starved }
}

fn make_way(
    ward: &Ward,
    source: &Source,
    plugin: Option<Arc<tokio::sync::Mutex<plugin::Plugin>>>,
) -> Result<Way, String> {
    if source.protocol == StatusProtocol::Plugin {
        return plugin.map(Way::Plugin).ok_or_else(|| "it has no plugin".to_owned());
    }
    let address =
        source.at.ok_or_else(|| format!("{} has no address", source.protocol.as_str()))?;
    let secret = source.secret.reveal();
    let endpoint = Endpoint {
        address,
        password: (!secret.is_empty()).then(|| naru_games::Secret::new(secret)),
        timeout: source.timeout,
    };
    let protocol: Protocol = source
        .protocol
        .as_str()
        .parse()
        .map_err(|_| format!("{} cannot be asked ({})", source.protocol.as_str(), ward.name))?;
    let way = if source.command.is_some() {
        Way::Command(naru_games::teller(protocol, endpoint).map_err(|error| error.to_string())?)
    } else {
        Way::Game(naru_games::asker(protocol, endpoint).map_err(|error| error.to_string())?)
    };
    Ok(way)
}

async fn question(source: &Source, way: &mut Way, want: Want) -> Result<Status, String> {
    match way {
        Way::Game(asker) => asker.ask(want).await.map_err(|error| error.to_string()),
        Way::Command(teller) => {
            let Some(command) = &source.command else { return Err("nothing to send".to_owned()) };
            let began = Instant::now();
            let told = timeout(source.timeout, teller.tell(&command.send)).await;
            let answer = told.map_err(|_| "it did not answer in time".to_owned())?;
            let read = command.read(&answer.map_err(|error| error.to_string())?);
            let names = read.players.into_iter().map(|(name, id)| Player { id, name }).collect();
            Ok(Status {
                players: read.online,
                players_max: read.max,
                names: Some(names),
                answered_in: Some(began.elapsed()),
                ..Status::default()
            })
        }
        Way::Plugin(plugin) => {
            let request = if want == Want::Players { Request::Players } else { Request::Status };
            let began = Instant::now();
            let answer = plugin.lock().await.call(&request).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let names = answer.players.map(|players| {
                let player =
                    |player: plugin::PluginPlayer| Player { id: player.id, name: player.name };
                players.into_iter().map(player).collect::<Vec<Player>>()
            });
            let counted = names.as_ref().and_then(|names| u32::try_from(names.len()).ok());
            #[expect(clippy::cast_possible_truncation, reason = "a tick rate fits")]
            let per_second = answer.tick_rate.map(|rate| rate as f32);
            Ok(Status {
                players: answer.online.or(counted),
                players_max: answer.max,
                names,
                version: answer.version,
                uptime: answer.uptime,
                tick: per_second.map(|rate| Tick { per_second: Some(rate), milliseconds: None }),
                answered_in: Some(began.elapsed()),
                ..Status::default()
            })
        }
    }
}
