//! What the loop knows of one ward.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::ask::Asking;
use super::handle::{Reply, WardError};
use super::keeper::KeeperAsk;
use super::view::{AnswerView, LinesView};
use crate::console::Follower;
use crate::learn::Learner;
use crate::life::{Life, OperationId, Outcome};
use crate::measure::{Players, Recorder};
use crate::model::{ProcessId, WardName};
use crate::profile::format::Via;
use crate::profile::plugin::Plugin;
use crate::profile::{LogPatterns, Ward};

/// Ends of operations that are remembered for those who ask late.
pub(super) const OUTCOMES_MAX: usize = 32;
/// What a command or announcement may take, connecting included.
pub(super) const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that tells the game, shared by those who tell.
pub(super) type SharedTeller = Arc<Mutex<Box<dyn naru_games::Teller>>>;

/// One ward in our charge.
pub(super) struct Charge {
    pub(super) ward: Arc<Ward>,
    /// Which life of this entry: news of an earlier one is dropped.
    pub(super) entry: u64,
    pub(super) folder: PathBuf,
    pub(super) life: Life,
    pub(super) hold: Hold,
    pub(super) lane: Lane,
    pub(super) follower: Option<Follower>,
    pub(super) logs: Vec<Follower>,
    pub(super) patterns: LogPatterns,
    pub(super) players: Players,
    pub(super) recorder: Recorder,
    pub(super) learner: Learner,
    pub(super) asking: Asking,
    pub(super) answer: AnswerView,
    pub(super) last_status: Option<LastStatus>,
    pub(super) tellers: HashMap<Via, SharedTeller>,
    pub(super) plugin: Option<Arc<Mutex<Plugin>>>,
    pub(super) remarks: Vec<String>,
    pub(super) taken: Option<Duration>,
    pub(super) cpu: CpuWatch,
    pub(super) saving: Saving,
    pub(super) told_players: Option<Option<u32>>,
    pub(super) outcomes: VecDeque<(OperationId, Outcome)>,
    pub(super) waiting: Vec<(OperationId, Reply<Outcome>)>,
    pub(super) requests: HashMap<u64, Reply<super::view::Ordered>>,
    pub(super) followers: Vec<(u64, Reply<LinesView>)>,
    pub(super) copying: bool,
    pub(super) restoring: bool,
    pub(super) scheduled: Vec<OperationId>,
    pub(super) tree_due: Option<Instant>,
    pub(super) oom_before: Option<u64>,
    pub(super) locating: Option<Instant>,
}

/// How the game is held.
#[derive(Default)]
pub(super) struct Hold {
    pub(super) process: Option<ProcessId>,
    pub(super) keeper: Option<ProcessId>,
    pub(super) asks: Option<mpsc::Sender<KeeperAsk>>,
    /// The task that watches a process without a keeper.
    pub(super) watch: Option<AbortHandle>,
    /// The task that takes what the game pushes.
    pub(super) pushes: Option<AbortHandle>,
}

impl Hold {
    /// Lets go of a game that is gone.
    pub(super) fn clear(&mut self) {
        for task in [self.watch.take(), self.pushes.take()].into_iter().flatten() {
            task.abort();
        }
        *self = Hold::default();
    }
}

/// Records on their way to the disk: one at a time, and only the newest waits.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) is_busy: bool,
    pub(super) next: Option<(u64, Arc<str>)>,
}

/// The last answer of a game, as samples take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastStatus {
    pub(super) at: Timestamp,
    pub(super) players: Option<u32>,
    pub(super) tick_rate: Option<f32>,
    pub(super) tick_ms: Option<f32>,
    pub(super) uptime: Option<Duration>,
    /// Since when the uptime stands still, on our clock.
    pub(super) frozen_since: Option<Instant>,
    /// Since when the tick rate is zero.
    pub(super) tickless_since: Option<Instant>,
}

/// What the processor saw of the game.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuWatch {
    pub(super) still_ticks: u32,
    pub(super) told: Option<crate::life::CpuState>,
}

/// A save that is waited for.
#[derive(Default)]
pub(super) struct Saving {
    /// Callers that wait for the proof, until when.
    pub(super) callers: Vec<(Instant, oneshot::Sender<Result<(), WardError>>)>,
    /// Files of which one must become newer than this.
    pub(super) files: Option<(String, std::time::SystemTime)>,
    pub(super) is_asked: bool,
}

impl Charge {
    /// How many play, if that is known and fresh.
    pub(super) fn players_known(&self, now: Timestamp) -> Option<u32> {
        use crate::measure::Freshness;
        let seen = self.players.now(now);
        matches!(seen.freshness, Freshness::Fresh | Freshness::FromLog).then_some(seen.count)
    }

    /// Whether a process is there.
    pub(super) fn is_up(&self) -> bool {
        self.hold.process.is_some()
    }

    /// Remembers how an operation ended, and tells those who wait for it.
    pub(super) fn conclude(&mut self, operation: OperationId, outcome: Outcome) {
        if self.outcomes.len() == OUTCOMES_MAX {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back((operation, outcome));
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(waits_for, _)| *waits_for == operation);
        self.waiting = waiting;
        let done: Vec<(OperationId, Reply<Outcome>)> = done;
        for (_, reply) in done {
            // Whoever waited may have left.
            drop(reply.send(Ok(outcome)));
        }
    }

    /// The name.
    pub(super) fn name(&self) -> &WardName {
        &self.ward.name
    }
}
