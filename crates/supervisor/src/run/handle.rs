//! The handle by which others reach the loop: orders in, answers out. It never waits for a game; who wants to know
//! how an order ended asks for the operation.

use tokio::sync::{mpsc, oneshot};

use super::view::{
    BackupView, ExplainView, LinesQuery, LinesView, OperationView, Ordered, OwnView, WardDetail,
    WardView,
};
use crate::life::{OperationId, Order, Outcome, Refusal};
use crate::model::WardName;

/// Orders that wait for the loop at most; it takes them at once unless it is stuck.
pub(super) const COMMANDS_MAX: usize = 64;

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WardError {
    /// There is no such ward.
    #[error("there is no ward of this name")]
    NotFound,
    /// The ward's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be done now: the game does not run, or takes no commands.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    Ended,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, WardError>>;

/// What the loop is asked.
pub(super) enum Command {
    List(Reply<Vec<WardView>>),
    Show(WardName, Reply<Box<WardDetail>>),
    Order(WardName, Order, Reply<Ordered>),
    Operation(WardName, OperationId, Reply<OperationView>),
    Wait(WardName, OperationId, Reply<Outcome>),
    Explain(WardName, Reply<ExplainView>),
    Lines(WardName, LinesQuery, Reply<LinesView>),
    Follow(WardName, u64, Reply<LinesView>),
    Say(WardName, String, String, Reply<String>),
    Announce(WardName, String, String, Reply<()>),
    Save(WardName, String, Reply<()>),
    Backup(WardName, String, Reply<BackupView>),
    Backups(WardName, Reply<Vec<BackupView>>),
    Restore(WardName, String, String, Reply<()>),
    Own(Reply<OwnView>),
    Reload(Vec<crate::profile::Ward>, Reply<()>),
}

/// The wards of this machine. A cheap handle; dropping it changes nothing.
#[derive(Clone)]
pub struct Wards {
    pub(super) commands: mpsc::Sender<Command>,
}

impl Wards {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, WardError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| WardError::Ended)?;
        answer.await.unwrap_or(Err(WardError::Ended))
    }

    /// All wards, by name.
    pub async fn list(&self) -> Result<Vec<WardView>, WardError> {
        self.ask(Command::List).await
    }

    /// All of one ward.
    pub async fn show(&self, ward: WardName) -> Result<Box<WardDetail>, WardError> {
        self.ask(|reply| Command::Show(ward, reply)).await
    }

    /// Starts, stops, restarts, kills, or cancels a countdown. Returns as soon as it has begun; what is
    /// being done is kept before the game is touched.
    pub async fn order(&self, ward: WardName, order: Order) -> Result<Ordered, WardError> {
        self.ask(|reply| Command::Order(ward, order, reply)).await
    }

    /// How an operation stands.
    pub async fn operation(
        &self,
        ward: WardName,
        operation: OperationId,
    ) -> Result<OperationView, WardError> {
        self.ask(|reply| Command::Operation(ward, operation, reply)).await
    }

    /// Waits until an operation is over, however long that takes. Cancel safe.
    pub async fn wait(&self, ward: WardName, operation: OperationId) -> Result<Outcome, WardError> {
        self.ask(|reply| Command::Wait(ward, operation, reply)).await
    }

    /// What would happen if it died now.
    pub async fn explain(&self, ward: WardName) -> Result<ExplainView, WardError> {
        self.ask(|reply| Command::Explain(ward, reply)).await
    }

    /// Lines of its console, as they are known now.
    pub async fn lines(&self, ward: WardName, query: LinesQuery) -> Result<LinesView, WardError> {
        self.ask(|reply| Command::Lines(ward, query, reply)).await
    }

    /// Waits until there are lines above `after`, and gives them. Cancel safe.
    pub async fn follow(&self, ward: WardName, after: u64) -> Result<LinesView, WardError> {
        self.ask(|reply| Command::Follow(ward, after, reply)).await
    }

    /// Says a command to the game, by its standard input or else the best protocol that it takes commands
    /// by, and gives the answer where the protocol has answers.
    pub async fn command(
        &self,
        ward: WardName,
        line: String,
        by: String,
    ) -> Result<String, WardError> {
        self.ask(|reply| Command::Say(ward, line, by, reply)).await
    }

    /// Tells the players something.
    pub async fn announce(
        &self,
        ward: WardName,
        text: String,
        by: String,
    ) -> Result<(), WardError> {
        self.ask(|reply| Command::Announce(ward, text, by, reply)).await
    }

    /// Makes the game save, and waits for the proof that it did.
    pub async fn save(&self, ward: WardName, by: String) -> Result<(), WardError> {
        self.ask(|reply| Command::Save(ward, by, reply)).await
    }

    /// Copies the ward's files while its saves are held, and verifies the copy. Waits for the end.
    pub async fn backup(&self, ward: WardName, by: String) -> Result<BackupView, WardError> {
        self.ask(|reply| Command::Backup(ward, by, reply)).await
    }

    /// Its backups, newest first.
    pub async fn backups(&self, ward: WardName) -> Result<Vec<BackupView>, WardError> {
        self.ask(|reply| Command::Backups(ward, reply)).await
    }

    /// Puts a backup in place of the ward's files. Only while it is stopped.
    pub async fn restore(
        &self,
        ward: WardName,
        backup: String,
        by: String,
    ) -> Result<(), WardError> {
        self.ask(|reply| Command::Restore(ward, backup, by, reply)).await
    }

    /// What the supervisor itself costs.
    pub async fn own(&self) -> Result<OwnView, WardError> {
        self.ask(Command::Own).await
    }

    /// Takes a new list of wards: new ones begin, those that are gone are let go without being stopped,
    /// changed ones go on with the new settings.
    pub async fn reload(&self, wards: Vec<crate::profile::Ward>) -> Result<(), WardError> {
        self.ask(|reply| Command::Reload(wards, reply)).await
    }
}
