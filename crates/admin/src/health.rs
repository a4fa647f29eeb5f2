//! The three probes. Liveness only reports what the node cannot mend by itself; readiness says whether
//! it should get traffic; startup says whether it has come up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::ports::Maintenance;

/// How long all checks of one probe may take; a probe that hangs is a probe that fails.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Which probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Should this process be replaced?
    Live,
    /// Should it get traffic?
    Ready,
    /// Has it come up?
    Startup,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A stable name, such as `store`.
    pub name: &'static str,
    /// Why it fails; `None` means that all is well. No secrets: the probes are open to all.
    pub problem: Option<String>,
}

impl Check {
    /// All is well.
    #[must_use]
    pub fn good(name: &'static str) -> Check {
        Check { name, problem: None }
    }

    /// It fails.
    #[must_use]
    pub fn bad(name: &'static str, problem: impl Into<String>) -> Check {
        Check { name, problem: Some(problem.into()) }
    }
}

/// Knows how the node is.
#[async_trait]
pub trait Health: Send + Sync + 'static {
    /// The checks of this probe. The probe succeeds when all of them are good.
    async fn check(&self, probe: Probe) -> Vec<Check>;
}

/// The health of a node with a store: started, not draining, store answers.
pub struct NodeHealth {
    store: Option<Arc<dyn Maintenance>>,
    is_started: AtomicBool,
    is_draining: AtomicBool,
    is_broken: AtomicBool,
}

impl NodeHealth {
    /// A node that has not started yet. Without a store that check is left out.
    #[must_use]
    pub fn new(store: Option<Arc<dyn Maintenance>>) -> NodeHealth {
        NodeHealth {
            store,
            is_started: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Everything is up.
    pub fn started(&self) {
        self.is_started.store(true, SeqCst);
    }

    /// No new traffic, please. Never taken back.
    pub fn draining(&self) {
        self.is_draining.store(true, SeqCst);
    }

    /// A service ended that cannot be started again: the process should be replaced.
    pub fn broken(&self) {
        self.is_broken.store(true, SeqCst);
    }

    /// Whether [`NodeHealth::broken`] was said: nothing takes it back.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(SeqCst)
    }

    async fn store_check(&self) -> Option<Check> {
        let store = self.store.as_ref()?;
        let check = match tokio::time::timeout(PROBE_TIMEOUT / 2, store.probe()).await {
            Ok(Ok(())) => Check::good("store"),
            // Only the kind of error: the engine's words may name paths.
            Ok(Err(error)) => Check::bad("store", store_problem(&error)),
            Err(_elapsed) => Check::bad("store", "the store does not answer in time"),
        };
        Some(check)
    }
}

fn store_problem(error: &naru_domain::ports::StoreError) -> &'static str {
    use naru_domain::ports::StoreError;
    match error {
        StoreError::Busy { .. } => "the store is busy",
        StoreError::Full { .. } => "the disk is full",
        StoreError::ReadOnly { .. } => "the store cannot be written",
        StoreError::Corrupt { .. } => "the store is damaged",
        StoreError::Conflict | StoreError::NotFound | StoreError::Failed { .. } => {
            "the store fails"
        }
    }
}

#[async_trait]
impl Health for NodeHealth {
    async fn check(&self, probe: Probe) -> Vec<Check> {
        let verdict = |name, holds: bool, problem: &str| {
            if holds { Check::good(name) } else { Check::bad(name, problem) }
        };
        let started = verdict("started", self.is_started.load(SeqCst), "still starting");
        let services = verdict("services", !self.is_broken(), "a service ended for good");
        match probe {
            Probe::Live => vec![services],
            Probe::Startup => vec![started],
            Probe::Ready => {
                let draining = self.is_draining.load(SeqCst);
                let mut checks =
                    vec![started, services, verdict("draining", !draining, "shutting down")];
                checks.extend(self.store_check().await);
                checks
            }
        }
    }
}
