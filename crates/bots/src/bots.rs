//! The face of bot work: start, run, drain, and what operators may do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use naru_domain::ids::MessageIds;
use naru_domain::metrics::{MetricSink, MetricSource};
use naru_domain::ports::{ChannelOwner, PhoneDesk, StoreError};
use naru_domain::work::{
    DeviceRecord, PingSample, Recovered, ReplyRecord, RoomRecord, Schedule, SystemSample,
};
use naru_domain::{
    Approval, BotName, Clock, DeviceKey, MessageId, Offset, ReplyBody, RoomKey, ScheduleId,
};
use naru_hub::Hub;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::command::ReloadReport;
use crate::core::{Core, CoreParts, delivery, now};
use crate::desk::Desk;
use crate::handler::{Handler, SendError};
use crate::hub_sessions::HubSessions;
use crate::ledger::{ACCEPTS_QUEUE_MAX, LedgerOp, LedgerTask, OPS_QUEUE_MAX};
use crate::links::Links;
use crate::operate::{self, Out, QueueView, SendRequest, SetSettingsError};
use crate::options::{BotsOptions, Ports};
use crate::room_channel::RoomOwner;
use crate::router::Router;
use crate::schedule::{Problem, Runner, RunnerOptions, next_of, validate};
use crate::services::{self, PINGS_QUEUE_MAX, SystemWatch};
use crate::sessions::PhoneSessions;

/// How often a drain looks whether everything is done.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long tasks that were told to stop may take.
const TASKS_END_WITHIN: Duration = Duration::from_secs(1);

/// Bot work. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Bots {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    runner: Runner,
    watch: Arc<SystemWatch>,
    /// Taken by `run`; survives restarts of the tasks.
    ledger: Arc<tokio::sync::Mutex<LedgerTask>>,
    pings: Arc<tokio::sync::Mutex<mpsc::Receiver<PingSample>>>,
    /// Ends the workers, before the ledger.
    stop_workers: CancellationToken,
}

/// Why a schedule was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It makes no sense.
    #[error("the schedule cannot be kept")]
    Invalid(Vec<Problem>),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Bots {
    /// Reads what the last run left behind, and is ready to receive phones; messages are worked on as
    /// soon as [`Bots::run`] runs.
    pub async fn start(
        options: BotsOptions,
        ports: Ports,
        hub: Hub,
        clock: Arc<dyn Clock>,
    ) -> Result<Bots, StoreError> {
        let sessions = Arc::new(HubSessions(hub.clone()));
        Bots::start_with(options, ports, sessions, Some(hub), clock, None).await
    }

    /// The same with other sessions, with or without channels for rooms, and with another handler for all
    /// messages.
    pub async fn start_with(
        options: BotsOptions,
        ports: Ports,
        sessions: Arc<dyn PhoneSessions>,
        channels: Option<Hub>,
        clock: Arc<dyn Clock>,
        handler: Option<Arc<dyn Handler>>,
    ) -> Result<Bots, StoreError> {
        let recovered = ports.ledger.recover().await?;
        let (accepts_in, accepts) = mpsc::channel(ACCEPTS_QUEUE_MAX);
        let (ops_in, ops) = mpsc::channel(OPS_QUEUE_MAX);
        let (pings_in, pings) = mpsc::channel(PINGS_QUEUE_MAX);
        let ids = MessageIds::above(recovered.highest.unwrap_or(MessageId(0)));
        let media = Arc::new(Links::new(options.hook_guard.clone()));
        let core = Arc::new_cyclic(|core| {
            let own = || Arc::new(Router::new(core.clone(), Arc::clone(&clock))) as _;
            Core::new(CoreParts {
                handler: handler.unwrap_or_else(own),
                options,
                ports: ports.clone(),
                sessions,
                clock: Arc::clone(&clock),
                ids,
                accepts: accepts_in,
                ops: ops_in,
                pings: pings_in,
                media,
                channels: channels.clone(),
            })
        });
        let offsets: HashMap<DeviceKey, Offset> = recovered.offsets.iter().copied().collect();
        go_on(&core, recovered, &offsets).await?;
        let ledger = LedgerTask::new(Arc::clone(&core), accepts, ops, offsets);
        let out = Arc::new(Out(Arc::clone(&core)));
        let catch_up = core.options.schedule_catch_up;
        let timing = RunnerOptions { catch_up, ..RunnerOptions::default() };
        let runner = Runner::new(ports.schedules, out, clock, timing);
        Ok(Bots {
            inner: Arc::new(Inner {
                core,
                runner,
                watch: Arc::new(SystemWatch::new()),
                ledger: Arc::new(tokio::sync::Mutex::new(ledger)),
                pings: Arc::new(tokio::sync::Mutex::new(pings)),
                stop_workers: CancellationToken::new(),
            }),
        })
    }

    /// Works until told to stop. Call [`Bots::drain`] first, or what is in work is cut off (and found
    /// again by the next start).
    pub async fn run(&self, stop: CancellationToken) {
        let inner = &self.inner;
        let core = &inner.core;
        // Whatever ends this, nobody waits for what is not there any more.
        let _stopped = core.stop.clone().drop_guard();
        let _ended = core.ledger_ended.clone().drop_guard();
        let workers = inner.stop_workers.clone();
        let stop_workers = async {
            stop.cancelled().await;
            workers.cancel();
            core.stop.cancel();
        };
        let stop_ledger = CancellationToken::new();
        let ledger = async {
            services::supervise_to_end(core, "ledger", || async {
                inner.ledger.lock().await.run(&stop_ledger).await;
            })
            .await;
            core.ledger_ended.cancel();
        };
        let watched = |name, run: fn(Arc<Core>) -> services::Service| {
            services::supervise(core, name, &stop, move || run(Arc::clone(core)))
        };
        let pings = services::supervise(core, "pings", &stop, || {
            services::keep_pings(Arc::clone(core), Arc::clone(&inner.pings))
        });
        let system = services::supervise(core, "system", &stop, || {
            services::watch_system(Arc::clone(core), Arc::clone(&inner.watch))
        });
        let memory = services::supervise(core, "memory", &stop, || {
            services::care_for_memory(Arc::clone(core), Arc::clone(&inner.watch))
        });
        let schedules =
            services::supervise_to_end(core, "schedules", || inner.runner.run(stop.clone()));
        let others = async {
            tokio::join!(
                stop_workers,
                crate::workers::run(Arc::clone(core), workers.clone()),
                watched("pacer", |core| Box::pin(crate::pacer::run(core))),
                watched("rooms", |core| Box::pin(crate::room_channel::run(core))),
                watched("held", |core| Box::pin(crate::desk::release_held(core))),
                watched("cursors", |core| Box::pin(services::keep_cursors(core))),
                watched("retention", |core| Box::pin(services::retain(core))),
                pings,
                system,
                memory,
                schedules,
            );
            // Last: the others may still have something to keep.
            stop_ledger.cancel();
        };
        tokio::join!(ledger, others);
        // A handler that blocks its thread cannot be waited for.
        core.tasks.close();
        tokio::time::timeout(TASKS_END_WITHIN, core.tasks.wait()).await.ok();
    }

    /// Where gateways bring phones.
    #[must_use]
    pub fn desk(&self) -> Arc<dyn PhoneDesk> {
        Arc::new(Desk::new(Arc::clone(&self.inner.core)))
    }

    /// Finishes what was taken, and has it kept. `false` if the time was not enough: what is left stands
    /// in the store as pending. What comes from now on is kept for the next start until [`Bots::run`]
    /// ends, and refused in direct mode.
    pub async fn drain(&self, timeout: Duration) -> bool {
        let core = &self.inner.core;
        let finish = async {
            crate::desk::release_all_held(core).await;
            let mut look = tokio::time::interval(DRAIN_LOOK_EVERY);
            while self.is_looking_up() {
                look.tick().await; // What waits for its room came before the drain.
            }
            core.is_closing.store(true, Relaxed);
            // What was taken before is on its way to the workers after this.
            self.flush().await;
            while !self.is_worked_off() {
                look.tick().await;
            }
        };
        let deadline = tokio::time::Instant::now() + timeout;
        let is_finished = tokio::time::timeout_at(deadline, finish).await.is_ok();
        core.is_closing.store(true, Relaxed);
        self.inner.stop_workers.cancel();
        let keep = async {
            services::flush_cursors(core, &mut HashMap::new()).await;
            let is_kept = self.flush().await;
            let mut look = tokio::time::interval(DRAIN_LOOK_EVERY);
            while core.metrics.room_tellings_waiting.get() > 0 {
                look.tick().await;
            }
            is_kept
        };
        let is_kept = tokio::time::timeout_at(deadline, keep).await.unwrap_or(false);
        if !(is_finished && is_kept) {
            let (waiting, in_work) = core.board.depth();
            warn!(target: "naru::bots", waiting, in_work, "bots stopped before their work was done");
        }
        is_finished && is_kept
    }

    /// Whether no message is in work or about to be; new ones may be on their way to the store.
    fn is_worked_off(&self) -> bool {
        let core = &self.inner.core;
        core.ops.capacity() == core.ops.max_capacity()
            && core.board.depth() == (0, 0)
            && !self.is_looking_up()
    }

    fn is_looking_up(&self) -> bool {
        self.inner.core.roster.devices().iter().any(|entry| entry.line.lock().looking_up)
    }

    /// To whom the namespaces [`ROOM_NAMESPACE`](crate::ROOM_NAMESPACE) and
    /// [`BOT_NAMESPACE`](crate::BOT_NAMESPACE) belong.
    #[must_use]
    pub fn room_owner(&self) -> Arc<dyn ChannelOwner> {
        Arc::new(RoomOwner(Arc::downgrade(&self.inner.core)))
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// Whether everything that was taken has ended, is kept, and was handed on.
    #[cfg(test)]
    pub(crate) async fn is_settled(&self) -> bool {
        self.is_worked_off()
            && self.flush().await
            && self.is_worked_off()
            && self.inner.core.metrics.room_tellings_waiting.get() == 0
    }

    /// Waits until everything handed to the ledger so far is kept; `false` if it does not run any more.
    async fn flush(&self) -> bool {
        self.inner.core.ask_ledger(LedgerOp::Flush).await.is_some()
    }

    /// Changes the approval of a phone, at once. A phone that cannot tell its id is never answered,
    /// whatever its approval says.
    pub async fn set_device_approval(
        &self,
        key: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, StoreError> {
        operate::set_device_approval(&self.inner.core, key, approval, note, revision).await
    }

    /// Changes the approval of a room, at once.
    pub async fn set_room_approval(
        &self,
        key: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, StoreError> {
        operate::set_room_approval(&self.inner.core, key, approval, note, revision).await
    }

    /// Changes the largest frame a phone may send, at once.
    pub async fn set_device_frame_limit(
        &self,
        key: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, StoreError> {
        operate::set_device_frame_limit(&self.inner.core, key, frame_bytes_max).await
    }

    /// Reads devices, rooms and settings again, for changes made in the database by hand.
    pub async fn reload(&self) -> Result<ReloadReport, StoreError> {
        operate::reload(&self.inner.core).await
    }

    /// Sends an operator's message; returns its place in the phone's stream (several when it was split).
    pub async fn send(&self, request: SendRequest) -> Result<Vec<Offset>, SendError> {
        operate::send(&self.inner.core, request).await
    }

    /// Answers a message after its handler has ended. The same key with the same phone answers once.
    pub async fn reply_later(
        &self,
        message: MessageId,
        replies: Vec<ReplyBody>,
        key: Option<String>,
    ) -> Result<Vec<Offset>, SendError> {
        operate::reply_later(&self.inner.core, message, replies, key).await
    }

    /// Works on a dead message again. `NotFound` if it is not dead.
    pub async fn replay(&self, message: MessageId) -> Result<(), StoreError> {
        operate::replay(&self.inner.core, message).await
    }

    /// A bot's settings as JSON (secrets as asterisks), with their revision.
    pub async fn settings(&self, bot: &BotName) -> Result<(String, i64), StoreError> {
        operate::settings(&self.inner.core, bot).await
    }

    /// Replaces a bot's settings, at once; returns the new revision.
    pub async fn set_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, SetSettingsError> {
        operate::set_settings(&self.inner.core, bot, document, revision).await
    }

    /// The queue and the workers.
    #[must_use]
    pub fn queue(&self) -> QueueView {
        operate::queue(&self.inner.core)
    }

    /// A look at the system now; it is not kept.
    #[must_use]
    pub fn system(&self) -> SystemSample {
        self.inner.watch.sample(&self.inner.core)
    }

    /// Keeps a new schedule; its next moment is computed here.
    pub async fn add_schedule(&self, mut schedule: Schedule) -> Result<Schedule, ScheduleError> {
        self.check_schedule(&mut schedule)?;
        let kept = self.inner.core.ports.schedules.add_schedule(&schedule).await?;
        self.inner.runner.poke();
        Ok(kept)
    }

    /// Replaces a schedule; its next moment is computed anew.
    pub async fn update_schedule(&self, mut schedule: Schedule) -> Result<Schedule, ScheduleError> {
        self.check_schedule(&mut schedule)?;
        let kept = self.inner.core.ports.schedules.update_schedule(&schedule).await?;
        self.inner.runner.poke();
        Ok(kept)
    }

    fn check_schedule(&self, schedule: &mut Schedule) -> Result<(), ScheduleError> {
        let problems = validate(schedule);
        if !problems.is_empty() {
            return Err(ScheduleError::Invalid(problems));
        }
        schedule.next_at = next_of(schedule, self.inner.core.clock.now());
        Ok(())
    }

    /// Removes a schedule with its log.
    pub async fn remove_schedule(&self, id: ScheduleId) -> Result<(), StoreError> {
        self.inner.core.ports.schedules.remove_schedule(id).await?;
        self.inner.runner.poke();
        Ok(())
    }

    /// Sends a schedule now; its next moment stays.
    pub async fn run_schedule_now(&self, id: ScheduleId) -> Result<(), ScheduleError> {
        let schedule = self.inner.core.ports.schedules.schedule(id).await?;
        Ok(self.inner.runner.send_now(&schedule).await?)
    }

    /// The webhooks of all bots.
    #[must_use]
    pub fn hooks(&self) -> crate::hook::Hooks {
        let bots = self.inner.core.roster.bots();
        crate::hook::Hooks::new(
            bots.iter().filter_map(|bot| bot.config.load().webhook.clone()).collect(),
        )
    }

    /// All figures of bot work, webhooks and schedules included.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn MetricSource> {
        Arc::new(AllMetrics(self.clone()))
    }
}

struct AllMetrics(Bots);

impl MetricSource for AllMetrics {
    fn collect(&self, sink: &mut dyn MetricSink) {
        self.0.inner.core.metrics.collect(sink);
        self.0.inner.runner.metrics().collect(sink);
        self.0.hooks().collect(sink);
    }
}

/// Takes up what the last run left behind: known log ids, replies that may not have left, and messages
/// that were accepted and not worked off.
async fn go_on(
    core: &Arc<Core>,
    recovered: Recovered,
    offsets: &HashMap<DeviceKey, Offset>,
) -> Result<(), StoreError> {
    let since = core.clock.now().minus(core.options.duplicate_window);
    let known = core.ports.chat_log.recent_log_ids(since, core.options.duplicates_max).await?;
    for (device, log_id) in &known {
        core.is_new_id(*device, log_id, now());
    }
    let (pending, undelivered) = (recovered.pending, recovered.undelivered);
    if core.is_direct() {
        if !pending.is_empty() || !undelivered.is_empty() {
            warn!(target: "naru::bots", pending = pending.len(), undelivered = undelivered.len(),
                "queued work stays in the store: processing is direct");
        }
        return Ok(());
    }
    info!(target: "naru::bots", pending = pending.len(), undelivered = undelivered.len(),
        "work of the last run is taken up");
    let mut by_device: HashMap<DeviceKey, Vec<ReplyRecord>> = HashMap::new();
    for message in &pending {
        by_device.entry(message.device).or_default();
    }
    for reply in undelivered {
        by_device.entry(reply.device).or_default().push(reply);
    }
    for (device, replies) in by_device {
        let record = core.ports.devices.device(device).await?;
        let last = offsets.get(&device).copied().unwrap_or_default();
        let handed_over =
            replies.first().map_or(last, |first| Offset(first.offset.0.saturating_sub(1)));
        let retained =
            replies.into_iter().map(|reply| delivery(reply.offset, reply.reply)).collect();
        core.adopt(&record, handed_over, retained).await?;
    }
    let mut works = Vec::with_capacity(pending.len());
    let mut newest = HashMap::new();
    for record in pending {
        let mut work = operate::work_of(core, record).await?;
        core.teller.take_up(core, &mut work, &mut newest).await;
        works.push(Arc::new(work));
    }
    core.board.push_kept(works, now());
    Ok(())
}
