//! Wards in this process: what the configuration says becomes what the supervisor works with. The supervisor runs
//! on a thread of its own that steps behind the games; when it is all there is, on the only thread.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use naru_admin::WardServices;
use naru_domain::Clock;
use naru_domain::metrics::MetricSource;
use naru_outbound::{
    AddressGuard, BreakerOptions, Relay, RelayHandle, RelayOptions, Secrets, TargetOptions,
};
use naru_store_sql::SqlStore;
use naru_supervisor::host;
use naru_supervisor::keeper::{self, Role, Starter};
use naru_supervisor::model::WardName;
use naru_supervisor::profile::{self, NotifierSpec, Ward};
use naru_supervisor::run::{Supervisor, SupervisorOptions, SupervisorPorts, WardFigures, Wards};
use naru_supervisor::tell::{Filter, Form, Receiver};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{self, Config};

/// If this process was started to keep a game, it does that and nothing else, before anything is set up.
pub(crate) fn keep_if_asked(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    if arguments.next()? != keeper::COMMAND {
        return None;
    }
    let (mut folder, mut role) = (None, Role::Keep);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--folder") => folder = arguments.next().map(PathBuf::from),
            Some("--exec") => role = Role::Exec,
            _ => return None,
        }
    }
    folder.map(|folder| keeper::main(&folder, role))
}

/// The wards of a node that has not begun to look after them.
pub(crate) struct WardService {
    pub(crate) wards: Wards,
    pub(crate) relay: RelayHandle,
    figures: WardFigures,
    supervisor: Supervisor,
    deliver: Relay,
    nice: i32,
}

impl WardService {
    /// `None` if no wards are to be looked after. Must be made before this process steps behind the games.
    pub(crate) fn new(
        config: &Config,
        store: &Arc<SqlStore>,
        clock: &Arc<dyn Clock>,
        is_alone: bool,
    ) -> anyhow::Result<Option<WardService>> {
        if !config.wards.enabled.unwrap_or(is_alone || !config.ward.is_empty()) {
            return Ok(None);
        }
        let starter = Starter::new().context("cannot start the thread that starts games")?;
        let deliver = relay(config, store, clock)?;
        let handle = deliver.handle();
        let wake = handle.clone();
        let ports = SupervisorPorts {
            history: Arc::clone(store) as _,
            outbox: Arc::clone(store) as _,
            wake_relay: Arc::new(move || wake.wake()),
            clock: Arc::clone(clock),
        };
        let options = SupervisorOptions {
            folder: absolute(&config.data_dir).join("wards"),
            keeper_program: std::env::current_exe().context("where this program lies")?,
            settings: config.wards.clone(),
            wards: prepared(config)?,
            receivers: receivers(config)?,
            is_alone,
        };
        let (wards, supervisor) = Supervisor::new(options, ports, starter)?;
        let figures = supervisor.figures();
        let nice = config.wards.nice;
        Ok(Some(WardService { wards, relay: handle, figures, supervisor, deliver, nice }))
    }

    /// What `/metrics` shows.
    pub(crate) fn metrics(&self) -> [Arc<dyn MetricSource>; 2] {
        [Arc::new(self.figures.clone()), Arc::new(self.relay.clone())]
    }

    /// What the API stands on.
    pub(crate) fn services(&self, store: &Arc<SqlStore>) -> WardServices {
        WardServices {
            control: Arc::new(self.wards.clone()),
            history: Arc::clone(store) as _,
            outbox: Some(Arc::clone(store) as _),
        }
    }

    /// Steps behind the games, and looks after them on this thread.
    pub(crate) async fn run_here(self, stop: CancellationToken) {
        let WardService { supervisor, deliver, nice, .. } = self;
        step_behind(nice);
        tokio::join!(supervisor.run(stop.clone()), deliver.run(stop));
    }

    /// Looks after wards on a thread of its own, while notices are delivered from here.
    pub(crate) async fn run_beside(self, stop: CancellationToken) {
        let WardService { supervisor, deliver, nice, .. } = self;
        let (ended, end) = tokio::sync::oneshot::channel();
        let inside = stop.clone();
        let work = move || {
            step_behind(nice);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(supervisor.run(inside)),
                Err(error) => {
                    tracing::error!(target: "naru::wards", %error, "wards are not looked after");
                }
            }
            let _told = ended.send(());
        };
        if let Err(error) = std::thread::Builder::new().name("wards".to_owned()).spawn(work) {
            tracing::error!(target: "naru::wards", %error, "wards are not looked after");
        }
        let (_, _) = tokio::join!(end, deliver.run(stop));
    }
}

/// Lowers the calling thread. Exits are decided even on a full machine, so it is nice, not idle: a thread
/// that only runs when nobody else wants to would be late by seconds there.
fn step_behind(nice: i32) {
    let priority = host::Priority { nice: Some(nice), ..host::Priority::default() };
    for refused in host::take_priority(&priority) {
        info!(target: "naru::wards", %refused, "not lowered");
    }
}

/// The wards of a configuration, ready to be looked after.
pub(crate) fn prepared(config: &Config) -> anyhow::Result<Vec<Ward>> {
    let mut around = config::surroundings(config);
    around.wards_dir = absolute(&around.wards_dir);
    let mut wards = Vec::new();
    for spec in &config.ward {
        let ward = profile::prepare(spec, &around).map_err(|problems| {
            let all: Vec<String> = problems
                .iter()
                .map(|problem| format!("{}: {}", problem.key, problem.message))
                .collect();
            anyhow::anyhow!("ward {}: {}", spec.name, all.join("; "))
        })?;
        for problem in &ward.warnings {
            warn!(target: "naru::wards", ward = %ward.name, key = problem.key, "{}", problem.message);
        }
        wards.push(ward);
    }
    Ok(wards)
}

/// Hands the wards of a configuration that was read again to the supervisor.
pub(crate) fn reload(config: &Config, wards: &Wards, tasks: &TaskTracker) {
    let fresh = match prepared(config) {
        Ok(fresh) => fresh,
        Err(error) => {
            warn!(target: "naru::wards", %error, "wards not reloaded");
            return;
        }
    };
    let wards = wards.clone();
    tasks.spawn(async move {
        if let Err(error) = wards.reload(fresh).await {
            warn!(target: "naru::wards", %error, "wards not reloaded");
        }
    });
}

/// Keepers run in other folders than Naru.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_unknown| path.to_owned())
}

fn secrets_of(notifier: &NotifierSpec) -> anyhow::Result<(String, String)> {
    let read = notifier.secrets().map_err(|problems| {
        let first = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
        anyhow::anyhow!("notifier {}: {first}", notifier.name)
    })?;
    Ok((read.0.reveal().to_owned(), read.1.reveal().to_owned()))
}

fn receivers(config: &Config) -> anyhow::Result<Vec<Receiver>> {
    let receiver = |notifier: &NotifierSpec| {
        let wards = notifier.wards.iter().map(|name| WardName::parse(name));
        Ok(Receiver {
            name: Arc::from(notifier.name.as_str()),
            form: match notifier.kind {
                profile::spec::NotifierKind::Discord => Form::Discord,
                profile::spec::NotifierKind::Slack => Form::Slack,
                profile::spec::NotifierKind::Generic => Form::Generic,
            },
            filter: Filter {
                kinds: notifier.events.clone(),
                wards: wards.collect::<Result<_, _>>()?,
                severity_min: notifier.min_severity,
            },
            words: std::collections::BTreeMap::new(),
        })
    };
    config.notifier.iter().map(receiver).collect()
}

fn relay(config: &Config, store: &Arc<SqlStore>, clock: &Arc<dyn Clock>) -> anyhow::Result<Relay> {
    let mut targets = Vec::new();
    for notifier in &config.notifier {
        let (url, secret) = secrets_of(notifier)?;
        targets.push(TargetOptions {
            kind: "notifier",
            name: notifier.name.clone(),
            url,
            secrets: (!secret.is_empty()).then(|| Secrets::new(&secret)),
            in_flight_max: 1,
            breaker: BreakerOptions::default(),
        });
    }
    let guard = AddressGuard::allowing(&config.hooks.allow).context("hooks.allow")?;
    let outbox = Arc::clone(store) as _;
    let clock = Arc::clone(clock);
    Ok(Relay::new(outbox, clock, guard, targets, RelayOptions::default())?)
}
