//! What operators do to wards and ask about them, as one object-safe trait, so that the API can be tested
//! without a supervisor. What is remembered of wards does not go through here but to the store's ports.

use std::sync::Arc;

use async_trait::async_trait;
use naru_domain::ports::{Outbox, WardHistory};
use naru_supervisor::life::{OperationId, Order, Outcome};
use naru_supervisor::model::WardName;
use naru_supervisor::run::{
    BackupView, ExplainView, LinesQuery, LinesView, OperationView, Ordered, OwnView, WardDetail,
    WardError, WardView, Wards,
};

/// The wards of this machine. Nothing here waits for a game, unless it says so.
#[async_trait]
pub trait WardControl: Send + Sync + 'static {
    /// All wards, by name.
    async fn list(&self) -> Result<Vec<WardView>, WardError>;

    /// All of one ward.
    async fn show(&self, ward: WardName) -> Result<Box<WardDetail>, WardError>;

    /// Begins what was ordered.
    async fn order(&self, ward: WardName, order: Order) -> Result<Ordered, WardError>;

    /// How an operation stands.
    async fn operation(
        &self,
        ward: WardName,
        operation: OperationId,
    ) -> Result<OperationView, WardError>;

    /// Waits until an operation is over, however long that takes. Cancel safe.
    async fn wait(&self, ward: WardName, operation: OperationId) -> Result<Outcome, WardError>;

    /// What would happen if it died now.
    async fn explain(&self, ward: WardName) -> Result<ExplainView, WardError>;

    /// Lines of its console, as they are known now.
    async fn lines(&self, ward: WardName, query: LinesQuery) -> Result<LinesView, WardError>;

    /// Waits until there are lines above `after`. Cancel safe.
    async fn follow(&self, ward: WardName, after: u64) -> Result<LinesView, WardError>;

    /// Says a command to the game, and waits for the answer where there are answers.
    async fn command(&self, ward: WardName, line: String, by: String) -> Result<String, WardError>;

    /// Tells the players something.
    async fn announce(&self, ward: WardName, text: String, by: String) -> Result<(), WardError>;

    /// Makes the game save, and waits for the proof.
    async fn save(&self, ward: WardName, by: String) -> Result<(), WardError>;

    /// Makes a backup, and waits for its end.
    async fn backup(&self, ward: WardName, by: String) -> Result<BackupView, WardError>;

    /// Its backups, newest first.
    async fn backups(&self, ward: WardName) -> Result<Vec<BackupView>, WardError>;

    /// Puts a backup in place of the ward's files, and waits for the end.
    async fn restore(&self, ward: WardName, backup: String, by: String) -> Result<(), WardError>;

    /// What the supervisor itself costs.
    async fn own(&self) -> Result<OwnView, WardError>;
}

/// What the API of wards stands on.
#[derive(Clone)]
pub struct WardServices {
    /// The supervisor.
    pub control: Arc<dyn WardControl>,
    /// What is remembered.
    pub history: Arc<dyn WardHistory>,
    /// Notices on their way to webhooks, if any are sent.
    pub outbox: Option<Arc<dyn Outbox>>,
}

#[async_trait]
impl WardControl for Wards {
    async fn list(&self) -> Result<Vec<WardView>, WardError> {
        Wards::list(self).await
    }

    async fn show(&self, ward: WardName) -> Result<Box<WardDetail>, WardError> {
        Wards::show(self, ward).await
    }

    async fn order(&self, ward: WardName, order: Order) -> Result<Ordered, WardError> {
        Wards::order(self, ward, order).await
    }

    async fn operation(
        &self,
        ward: WardName,
        operation: OperationId,
    ) -> Result<OperationView, WardError> {
        Wards::operation(self, ward, operation).await
    }

    async fn wait(&self, ward: WardName, operation: OperationId) -> Result<Outcome, WardError> {
        Wards::wait(self, ward, operation).await
    }

    async fn explain(&self, ward: WardName) -> Result<ExplainView, WardError> {
        Wards::explain(self, ward).await
    }

    async fn lines(&self, ward: WardName, query: LinesQuery) -> Result<LinesView, WardError> {
        Wards::lines(self, ward, query).await
    }

    async fn follow(&self, ward: WardName, after: u64) -> Result<LinesView, WardError> {
        Wards::follow(self, ward, after).await
    }

    async fn command(&self, ward: WardName, line: String, by: String) -> Result<String, WardError> {
        Wards::command(self, ward, line, by).await
    }

    async fn announce(&self, ward: WardName, text: String, by: String) -> Result<(), WardError> {
        Wards::announce(self, ward, text, by).await
    }

    async fn save(&self, ward: WardName, by: String) -> Result<(), WardError> {
        Wards::save(self, ward, by).await
    }

    async fn backup(&self, ward: WardName, by: String) -> Result<BackupView, WardError> {
        Wards::backup(self, ward, by).await
    }

    async fn backups(&self, ward: WardName) -> Result<Vec<BackupView>, WardError> {
        Wards::backups(self, ward).await
    }

    async fn restore(&self, ward: WardName, backup: String, by: String) -> Result<(), WardError> {
        Wards::restore(self, ward, backup, by).await
    }

    async fn own(&self) -> Result<OwnView, WardError> {
        Wards::own(self).await
    }
}
