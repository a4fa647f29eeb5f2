//! What tasks tell the loop. Each piece of news is of one ward.

use std::time::Duration;

use naru_games::{Asker, Event};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::ask::Asked;
use super::keeper::KeeperAsk;
use crate::backup::About;
use crate::keeper;
use crate::life::{Evidence, Found, OperationId, Ports};
use crate::model::{ProcessId, WardName};
use crate::profile::plugin::Plugin;

/// News that wait for the loop at most. Tasks wait when it is full; none holds anything that others need.
pub(super) const NEWS_MAX: usize = 1_024;

/// Something that happened to a ward.
pub(super) struct News {
    pub(super) ward: WardName,
    /// Which life of the ward's entry it belongs to: news of a ward that was removed meanwhile is dropped.
    pub(super) entry: u64,
    pub(super) what: Happened,
}

/// What.
pub(super) enum Happened {
    /// A record is on disk, or not.
    Persisted { seq: u64, is_kept: bool },
    /// Whether its ports are free.
    Ports(Ports),
    /// A launch went well, or not.
    Launched { launch: u64, result: Result<Box<Held>, String> },
    /// What its keeper says.
    Keeper(keeper::Event),
    /// Its keeper is not heard any more.
    KeeperLost { is_superseded: bool },
    /// A process without a keeper has ended.
    WatchEnded(ProcessId),
    /// It was looked for.
    Located { found: Found, held: Option<Box<Held>> },
    /// A rung was carried out, or not.
    Rung { operation: OperationId, index: usize, error: Option<String> },
    /// The game was asked to save: whether an answer proves that it did.
    SaveAsked { result: Result<bool, String> },
    /// Evidence of an end, and that there is no more.
    Gathered(Vec<(Evidence, Duration)>),
    /// The game was asked how it is.
    Asked(Box<Asked>),
    /// The game pushed something.
    Pushed(Event),
    /// Its processes.
    Tree(Vec<ProcessId>),
    /// A backup ended: what it is, and why the game was not seen to save before; or why there is none.
    CopyEnded(Result<(About, Option<String>), String>),
    /// A restore ended, however.
    RestoreEnded,
}

/// A game that is held: by its keeper, or watched.
pub(super) struct Held {
    pub(super) process: ProcessId,
    /// The keeper's own process; none if it is only watched.
    pub(super) keeper: Option<ProcessId>,
    pub(super) asks: Option<mpsc::Sender<KeeperAsk>>,
    pub(super) warnings: Vec<String>,
    pub(super) catches_sigterm: Option<bool>,
}

/// Sends news of one ward.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) ward: WardName,
    pub(super) entry: u64,
    pub(super) news: mpsc::Sender<News>,
    /// Where tasks are waited for.
    pub(super) tasks: TaskTracker,
}

impl Teller {
    /// Tells. When the loop has ended nobody is left to tell.
    pub(super) async fn tell(&self, what: Happened) {
        let news = News { ward: self.ward.clone(), entry: self.entry, what };
        drop(self.news.send(news).await);
    }
}

/// One way to ask a game.
pub(super) enum Way {
    Game(Box<dyn Asker>),
    Command(Box<dyn naru_games::Teller>),
    Plugin(std::sync::Arc<tokio::sync::Mutex<Plugin>>),
}
