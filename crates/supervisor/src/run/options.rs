//! What the supervisor is started with.

use std::path::PathBuf;
use std::sync::Arc;

use naru_domain::Clock;
use naru_domain::ports::{Outbox, WardHistory};

use crate::profile::{Ward, WardsSpec};
use crate::tell::Receiver;

/// How the supervisor works.
pub struct SupervisorOptions {
    /// Where each ward has its folder: `DATA_DIR/wards`.
    pub folder: PathBuf,
    /// The program that has the keeper's subcommand.
    pub keeper_program: PathBuf,
    /// What `[wards]` says.
    pub settings: WardsSpec,
    /// The wards.
    pub wards: Vec<Ward>,
    /// Who is told.
    pub receivers: Vec<Receiver>,
    /// Whether this process does nothing else, so that its figures are the supervisor's.
    pub is_alone: bool,
}

/// What the supervisor stands on.
#[derive(Clone)]
pub struct SupervisorPorts {
    /// What is remembered of wards.
    pub history: Arc<dyn WardHistory>,
    /// Where notices wait until they are delivered.
    pub outbox: Arc<dyn Outbox>,
    /// Called after something was put there.
    pub wake_relay: Arc<dyn Fn() + Send + Sync>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}
