//! `naru serve --only wards`: looks after game servers and nothing else, on one thread, with as little memory as it
//! can. The same store, API and configuration as the whole server; no phones, no chat.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use naru_admin::{AdminOptions, AdminServer, NodeDescription, NodeHealth, Services};
use naru_domain::Clock;
use naru_domain::clock::SystemClock;
use naru_domain::metrics::MetricSource;
use naru_store_sql::{SqlStore, StoreOptions};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::config::{Config, Sources};
use crate::control::PolicyControl;
use crate::logs::LogPolicy;
use crate::platform::Signals;
use crate::signals;
use crate::wards::{self, WardService};
use crate::{serve, service};

/// What the store may hold in memory: a flush a minute and a list now and then.
const WRITER_CACHE_KIB: u32 = 512;
const READER_CACHE_KIB: u32 = 256;
/// Blocking work (a look through all processes, a name that is resolved) is rare and short.
const BLOCKING_THREADS_MAX: usize = 4;
const BLOCKING_STACK_BYTES: usize = 512 * 1024;
const BLOCKING_KEPT: Duration = Duration::from_secs(2);

/// Serves until a signal says stop.
pub(crate) fn run(config: Config, sources: Sources, policy: LogPolicy) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(BLOCKING_STACK_BYTES)
        .thread_keep_alive(BLOCKING_KEPT)
        .build()
        .context("cannot start the runtime")?
        .block_on(serve_wards(config, sources, policy))
}

async fn serve_wards(
    config: Config,
    sources: Sources,
    policy: LogPolicy,
) -> anyhow::Result<ExitCode> {
    serve::make_private_folder(&config.data_dir)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = StoreOptions {
        readers: 1,
        writer_cache_kib: WRITER_CACHE_KIB,
        reader_cache_kib: READER_CACHE_KIB,
        ..service::store_options(&config)?
    };
    let store = Arc::new(SqlStore::open(options).await?);
    let tls = serve::tls(&config.http.tls_certificate, &config.http.tls_key)?;
    let admin = AdminServer::bind(AdminOptions {
        tls: tls.as_ref().map(|tls| tls.shared()),
        api_keys: config.http.api_keys.iter().map(|key| key.reveal().to_owned()).collect(),
        ..AdminOptions::new(config.http.listen)
    })
    .await
    .with_context(|| serve::in_use("http", config.http.listen))?;
    let http = admin.local_addr();
    let looked_after = WardService::new(&config, &store, &clock, true)?
        .context("wards.enabled is false, and nothing else was asked for")?;
    let ports = naru_admin::Ports::of(Arc::clone(&store));
    let bootstrap = naru_admin::bootstrap(&ports, &config.data_dir, clock.as_ref()).await?;
    serve::put_users(&config, &ports, clock.as_ref()).await?;
    let health = Arc::new(NodeHealth::new(Some(Arc::clone(&store) as _)));
    let mut metrics: Vec<Arc<dyn MetricSource>> = vec![store.metrics()];
    metrics.extend(looked_after.metrics());
    let services = Services {
        ports,
        control: None,
        logs: Arc::new(PolicyControl::new(policy.clone(), Arc::clone(&clock))),
        health: Arc::clone(&health) as _,
        metrics,
        node: describe(&config, http, clock.as_ref()),
        clock: Arc::clone(&clock),
        chat: None,
        wards: Some(looked_after.services(&store)),
        doors: None,
    };
    let mut signals = Signals::new()?;
    let handle = looked_after.wards.clone();
    let (tasks, stop, stop_admin) =
        (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    tasks.spawn(looked_after.run_here(stop.clone()));
    tasks.spawn(admin.run(services, stop_admin.clone()));
    if let Some(tls) = &tls {
        tasks.spawn(tls.clone().watch(stop_admin.clone()));
    }
    let run_file = serve::write_run_file(&config, &[("http", http)])?;
    health.started();
    banner(&config, http, bootstrap.admin_password.as_deref());
    info!(target: "naru::serve", %http, "serving wards only");
    signals::tell_ready();
    let reload = || reload(&sources, &policy, &handle, &tasks);
    signals::until_stop(&mut signals, &health, reload).await;
    health.draining();
    let limit = serve::drain_timeout(&config);
    let drain = async {
        stop.cancel();
        stop_admin.cancel();
        tasks.close();
        if timeout(limit / 2, tasks.wait()).await.is_err() {
            warn!(target: "naru::serve", "some tasks did not end in time");
        }
        store.close().await?;
        Ok(())
    };
    let code = signals::drained(&mut signals, limit, drain).await;
    drop(std::fs::remove_file(run_file));
    Ok(code)
}

/// SIGHUP: log levels and wards, from the same sources as at the start.
fn reload(
    sources: &Sources,
    policy: &LogPolicy,
    wards: &naru_supervisor::run::Wards,
    tasks: &TaskTracker,
) {
    if let Some(fresh) = serve::reread(sources) {
        serve::reload_levels(&fresh, policy);
        wards::reload(&fresh, wards, tasks);
    }
}

fn describe(config: &Config, http: SocketAddr, clock: &dyn Clock) -> NodeDescription {
    NodeDescription {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: serve::node_name(config),
        started_at: clock.now(),
        listeners: vec![("http".to_owned(), http.to_string())],
        modes: vec![("only".to_owned(), "wards".to_owned())],
    }
}

/// What a person sees who just started it.
#[expect(clippy::print_stdout, reason = "the one text that it writes for people")]
fn banner(config: &Config, http: SocketAddr, first_password: Option<&str>) {
    let scheme = serve::scheme(config);
    println!("Naru {} is up, for game servers only.", env!("CARGO_PKG_VERSION"));
    println!("  HTTP             {scheme}://{http}  (/api/wards, /health/live, /metrics)");
    println!("  wards            {}", config.ward.len());
    println!("  data             {}", config.data_dir.display());
    if let Some(password) = first_password {
        println!("  first start: log in as `admin` with the password  {password}");
        println!("  (it is shown this once; `naru accounts password admin` sets another)");
    }
    println!("Next:");
    println!("  naru ward list                                how they are");
    println!("  naru ward explain NAME                        what would happen if one died now");
}
