//! The shapes of a ward. Names of players, and lines that games printed, are masked for viewers.

use std::collections::BTreeMap;

use naru_domain::Timestamp;
use naru_domain::work::Role;
use naru_supervisor::life::{
    About, By, Confidence, Desired, Goal, Intent, IntentKind, IntentStep, LastExit, Phase, Reason,
    Verdict,
};
use naru_supervisor::measure::{Freshness, Now, Series, Summary};
use naru_supervisor::model::Ending;
use naru_supervisor::run::{AnswerView, FigureView, ScheduleView, WardDetail, WardView};
use serde::Serialize;
use utoipa::ToSchema;

use super::learned::{WardAlert, WardLearned, WardSave};
use super::{millis, words};
use crate::{mask, times};

pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopped => "stopped",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Hung => "hung",
        Phase::Stopping => "stopping",
        Phase::Ending => "ending",
        Phase::Waiting => "waiting",
        Phase::Held => "held",
        Phase::GaveUp => "gave_up",
        Phase::Lost => "lost",
    }
}

/// Such as `operator:token:laptop`, `schedule:nightly`, `game`, `outside`, `naru`.
pub(super) fn by(by: &By) -> String {
    match by {
        By::Operator(name) => format!("operator:{name}"),
        By::Schedule(name) => format!("schedule:{name}"),
        By::Game => "game".to_owned(),
        By::Outside => "outside".to_owned(),
        By::Naru => "naru".to_owned(),
    }
}

/// A ward in a list.
#[derive(Serialize, ToSchema)]
pub(super) struct WardRow {
    name: String,
    /// The game, for people.
    title: String,
    /// The profile's name.
    profile: String,
    /// `stopped`, `starting`, `running`, `hung`, `stopping`, `ending` (its exit is being looked at), `waiting`
    /// (for its restart), `held` (for a backup), `gave_up` or `lost` (nobody knows).
    phase: &'static str,
    desired: WardDesired,
    /// Whether Naru did not start it, and only watches.
    watched: bool,
    pid: Option<u32>,
    launched_at: Option<String>,
    /// How long the process has been there.
    uptime_s: Option<u64>,
    players: WardPlayers,
    /// The last value of each series, in the unit that its name says; null where nothing is known.
    cpu_cores: Option<f64>,
    memory_bytes: Option<f64>,
    ticks_per_second: Option<f64>,
    tick_seconds: Option<f64>,
    /// All series over their windows.
    figures: Vec<WardFigure>,
    /// What is wrong now.
    alerts: Vec<WardAlert>,
    /// Whether a save is known to be under way.
    saving: bool,
}

/// What should be.
#[derive(Serialize, ToSchema)]
pub(super) struct WardDesired {
    /// `running` or `stopped`.
    goal: &'static str,
    /// Who said so: `operator:NAME`, `schedule:NAME`, `game`, `outside` or `naru`.
    by: String,
    at: String,
    /// Why, in their words.
    why: String,
}

/// How many play.
#[derive(Serialize, ToSchema)]
pub(super) struct WardPlayers {
    count: u32,
    /// How many fit, if the game told.
    max: Option<u32>,
    /// `fresh`, `from_log` (the game does not answer; its log is followed), `stale` or `unknown`.
    freshness: &'static str,
    /// When the count was true.
    at: Option<String>,
}

/// One series, in the unit that its name says.
#[derive(Serialize, ToSchema)]
pub(super) struct WardFigure {
    /// Such as `cpu_cores` or `tick_seconds`.
    series: &'static str,
    last: Option<f64>,
    last_at: Option<String>,
    /// Null without values, as the other two.
    minute: Option<WardWindow>,
    five_minutes: Option<WardWindow>,
    hour: Option<WardWindow>,
}

/// A series over some time.
#[derive(Serialize, ToSchema)]
pub(super) struct WardWindow {
    mean: f64,
    /// What was not exceeded in 95 % of the time.
    p95: f64,
    max: f64,
}

impl WardWindow {
    fn new(series: Series, summary: &Summary) -> Option<WardWindow> {
        (summary.count > 0).then(|| WardWindow {
            mean: summary.mean * series.scale(),
            p95: scaled(series, summary.p95),
            max: scaled(series, summary.max),
        })
    }
}

/// A kept value in the unit of its label.
pub(super) fn scaled(series: Series, kept: u32) -> f64 {
    f64::from(kept) * series.scale()
}

impl WardFigure {
    fn new(figure: &FigureView) -> WardFigure {
        let series = figure.series;
        let [minute, five_minutes, hour] = &figure.windows;
        WardFigure {
            series: series.label(),
            last: figure.last.map(|(_, kept)| scaled(series, kept)),
            last_at: figure.last.map(|(at, _)| times::show(at)),
            minute: WardWindow::new(series, minute),
            five_minutes: WardWindow::new(series, five_minutes),
            hour: WardWindow::new(series, hour),
        }
    }
}

impl From<&Desired> for WardDesired {
    fn from(desired: &Desired) -> WardDesired {
        WardDesired {
            goal: match desired.goal {
                Goal::Running => "running",
                Goal::Stopped => "stopped",
            },
            by: by(&desired.by),
            at: times::show(desired.at),
            why: desired.why.clone(),
        }
    }
}

impl From<&Now> for WardPlayers {
    fn from(now: &Now) -> WardPlayers {
        WardPlayers {
            count: now.count,
            max: now.max,
            freshness: match now.freshness {
                Freshness::Fresh => "fresh",
                Freshness::FromLog => "from_log",
                Freshness::Stale => "stale",
                Freshness::Unknown => "unknown",
            },
            at: now.at.map(times::show),
        }
    }
}

impl WardRow {
    pub(super) fn new(row: &WardView, now: Timestamp) -> WardRow {
        let last = |series: Series| {
            let figure = row.figures.iter().find(|figure| figure.series == series)?;
            figure.last.map(|(_, kept)| scaled(series, kept))
        };
        let uptime = row.process.as_ref().and(row.launched).map(|launched| now.since(launched));
        WardRow {
            name: row.name.to_string(),
            title: row.title.clone(),
            profile: row.profile.clone(),
            phase: phase(row.phase),
            desired: (&row.desired).into(),
            watched: row.watched,
            pid: row.process.as_ref().map(|process| process.pid),
            launched_at: row.launched.map(times::show),
            uptime_s: uptime.map(|uptime| uptime.as_secs()),
            players: (&row.players).into(),
            cpu_cores: last(Series::Cpu),
            memory_bytes: last(Series::Memory),
            ticks_per_second: last(Series::TickRate),
            tick_seconds: last(Series::TickTime),
            figures: row.figures.iter().map(WardFigure::new).collect(),
            alerts: row.alerts.iter().map(WardAlert::from).collect(),
            saving: row.is_saving,
        }
    }
}

/// All of a ward.
#[derive(Serialize, ToSchema)]
pub(super) struct WardFull {
    #[serde(flatten)]
    row: WardRow,
    /// The end that is being brought about.
    intent: Option<WardIntent>,
    /// In which time something happens by itself: a countdown, a rung of the ladder, a restart.
    next_in_ms: Option<u64>,
    /// How many restarts are left; null without bound.
    tries_left: Option<u32>,
    /// Why restarts are held.
    restarts_held: Option<String>,
    /// How it ended last.
    last_exit: Option<WardExit>,
    /// The folder it runs in; null for viewers.
    dir: Option<String>,
    /// By what they are for.
    ports: BTreeMap<String, u16>,
    /// Who plays; masked for viewers.
    player_names: Vec<String>,
    /// The most that ever played.
    players_peak: u32,
    answer: WardAnswer,
    /// Processor time that looking after it took from it at most, in microseconds a second; null where the
    /// system does not tell.
    taken_us_per_second: Option<u64>,
    learned: WardLearned,
    /// Saves of the last hour, for marks on charts.
    saves: Vec<WardSave>,
    /// How it is stopped, step by step.
    ladder: Vec<String>,
    /// What an operator should know, such as limits that the system refused.
    remarks: Vec<String>,
    schedules: Vec<WardSchedule>,
}

/// An end that is being brought about.
#[derive(Serialize, ToSchema)]
pub(super) struct WardIntent {
    operation: u64,
    /// `stop`, `restart`, `kill`, `backup`, `hang` or `late_boot`.
    kind: &'static str,
    /// Whether it is killed without being asked.
    forced: bool,
    by: String,
    reason: String,
    begun_at: String,
    /// By when asking ends and killing begins.
    deadline_at: String,
    countdown_s: f64,
    /// `begun`, `countdown`, `saving`, `rung`, `killing` or `held`.
    step: &'static str,
    /// Until when, for `countdown` and `held`.
    until: Option<String>,
    /// Which rung of the ladder, from 1.
    rung: Option<usize>,
}

impl From<&Intent> for WardIntent {
    fn from(intent: &Intent) -> WardIntent {
        let (step, until, rung) = match &intent.step {
            IntentStep::Begun => ("begun", None, None),
            IntentStep::Countdown { until } => ("countdown", Some(*until), None),
            IntentStep::Saving => ("saving", None, None),
            IntentStep::Rung { index, .. } => ("rung", None, Some(index + 1)),
            IntentStep::Killing => ("killing", None, None),
            IntentStep::Held { until } => ("held", Some(*until), None),
        };
        WardIntent {
            operation: intent.operation.0,
            kind: intent_kind(intent.kind),
            forced: intent.forced,
            by: by(&intent.by),
            reason: intent.reason.clone(),
            begun_at: times::show(intent.begun),
            deadline_at: times::show(intent.deadline),
            countdown_s: intent.countdown.as_secs_f64(),
            step,
            until: until.map(times::show),
            rung,
        }
    }
}

pub(super) fn intent_kind(kind: IntentKind) -> &'static str {
    match kind {
        IntentKind::Stop => "stop",
        IntentKind::Restart => "restart",
        IntentKind::Kill => "kill",
        IntentKind::Backup => "backup",
        IntentKind::Hang => "hang",
        IntentKind::LateBoot => "late_boot",
    }
}

/// How a ward ended.
#[derive(Serialize, ToSchema)]
pub(super) struct WardExit {
    at: String,
    /// Null if it never became a process.
    pid: Option<u32>,
    /// Its exit code, if it had one.
    exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    signal: Option<i32>,
    /// The same in words.
    ending: String,
    verdict: WardVerdict,
}

impl WardExit {
    fn new(exit: &LastExit, role: Role) -> WardExit {
        WardExit {
            at: times::show(exit.at),
            pid: exit.process.as_ref().map(|process| process.pid),
            exit_code: match exit.ending {
                Ending::Code(code) => Some(code),
                Ending::Signal(_) | Ending::Unknown => None,
            },
            signal: match exit.ending {
                Ending::Signal(signal) => Some(signal),
                Ending::Code(_) | Ending::Unknown => None,
            },
            ending: words::ending(exit.ending),
            verdict: WardVerdict::new(&exit.verdict, role),
        }
    }
}

/// What an end meant.
#[derive(Serialize, ToSchema)]
pub(super) struct WardVerdict {
    /// Such as `crashed`, `stopped_in_game`, `out_of_memory`.
    #[schema(value_type = String)]
    cause: naru_supervisor::life::Cause,
    /// The same in words.
    cause_text: &'static str,
    /// `guess`, `likely` or `certain`.
    confidence: &'static str,
    /// Whether it is started again, as far as the cause and the settings say.
    restart: bool,
    /// Why we think so, the weightiest first.
    reasons: Vec<WardReason>,
}

/// Why something is thought.
#[derive(Serialize, ToSchema)]
pub(super) struct WardReason {
    /// What it rests on: `intent`, `evidence`, `ending`, `phase` or `policy`.
    about: &'static str,
    /// In words. Evidence may quote the game, and is masked for viewers.
    text: String,
}

impl WardReason {
    fn new(reason: &Reason, role: Role) -> WardReason {
        let about = match reason.about {
            About::Intent => "intent",
            About::Evidence => "evidence",
            About::Ending => "ending",
            About::Phase => "phase",
            About::Policy => "policy",
        };
        let text = match reason.about {
            About::Evidence => mask::text(role, &reason.text),
            _ => reason.text.clone(),
        };
        WardReason { about, text }
    }
}

impl WardVerdict {
    pub(super) fn new(verdict: &Verdict, role: Role) -> WardVerdict {
        WardVerdict {
            cause: verdict.cause,
            cause_text: verdict.cause.text(),
            confidence: match verdict.confidence {
                Confidence::Guess => "guess",
                Confidence::Likely => "likely",
                Confidence::Certain => "certain",
            },
            restart: verdict.restart,
            reasons: verdict.reasons.iter().map(|reason| WardReason::new(reason, role)).collect(),
        }
    }
}

/// What it answered last when it was asked.
#[derive(Serialize, ToSchema)]
pub(super) struct WardAnswer {
    at: Option<String>,
    /// By which protocol.
    source: Option<&'static str>,
    /// Answers missing in a row.
    misses: u32,
    /// Why the last one is missing.
    error: Option<String>,
    /// What the server calls itself.
    server_name: Option<String>,
    /// Its map or world.
    map: Option<String>,
    version: Option<String>,
    /// How long it says that it is up.
    uptime_s: Option<u64>,
}

impl From<&AnswerView> for WardAnswer {
    fn from(answer: &AnswerView) -> WardAnswer {
        WardAnswer {
            at: answer.at.map(times::show),
            source: answer.source,
            misses: answer.misses,
            error: answer.error.clone(),
            server_name: answer.name.clone(),
            map: answer.map.clone(),
            version: answer.version.clone(),
            uptime_s: answer.uptime.map(|uptime| uptime.as_secs()),
        }
    }
}

/// One schedule of a ward.
#[derive(Serialize, ToSchema)]
pub(super) struct WardSchedule {
    name: String,
    /// What it does, in a word.
    action: String,
    next_at: Option<String>,
}

impl From<&ScheduleView> for WardSchedule {
    fn from(schedule: &ScheduleView) -> WardSchedule {
        WardSchedule {
            name: schedule.name.clone(),
            action: schedule.action.clone(),
            next_at: schedule.next_at.map(times::show),
        }
    }
}

impl WardFull {
    pub(super) fn new(detail: &WardDetail, role: Role, now: Timestamp) -> WardFull {
        let dir = mask::sees_all(role).then(|| detail.dir.display().to_string());
        let taken = detail.taken.map(|taken| u64::try_from(taken.as_micros()).unwrap_or(u64::MAX));
        WardFull {
            row: WardRow::new(&detail.row, now),
            intent: detail.intent.as_ref().map(WardIntent::from),
            next_in_ms: detail.next_in.map(millis),
            tries_left: detail.tries_left,
            restarts_held: detail.restarts_held.clone(),
            last_exit: detail.last.as_ref().map(|last| WardExit::new(last, role)),
            dir,
            ports: detail.ports.clone(),
            player_names: detail.names.iter().map(|name| mask::name(role, name)).collect(),
            players_peak: detail.players_peak,
            answer: (&detail.answer).into(),
            taken_us_per_second: taken,
            learned: (&detail.learned).into(),
            saves: detail.saves.iter().map(WardSave::from).collect(),
            ladder: detail.ladder.clone(),
            remarks: detail.remarks.clone(),
            schedules: detail.schedules.iter().map(WardSchedule::from).collect(),
        }
    }
}
