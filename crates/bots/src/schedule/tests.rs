//! The runner over a store twin, with paused time: a clock that follows tokio's and can jump.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use naru_domain::clock::Clock;
use naru_domain::ports::{Schedules, StoreError};
use naru_domain::work::{Page, Recurrence, Schedule, ScheduleRun};
use naru_domain::{DeviceKey, ReplyBody, ScheduleId, Timestamp};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::handler::{ReplyOut, SendError};

/// 2026-01-01T00:00:00Z, 09:00 in Seoul.
const START: Timestamp = Timestamp(1_767_225_600_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A sound schedule: 10:00 in Seoul every day, which is one hour after the start.
pub(super) fn announcement() -> Schedule {
    Schedule {
        id: ScheduleId(0),
        title: "아침 인사".to_owned(),
        device: DeviceKey(1),
        room: "점심방".to_owned(),
        channel_id: "184".to_owned(),
        text: "좋은 아침".to_owned(),
        images: [vec![], vec![]],
        media_wait: [None, None],
        group_pause: Duration::from_secs(3),
        recurrence: Recurrence::Daily(vec![600]),
        time_zone: "Asia/Seoul".to_owned(),
        valid_from: None,
        valid_until: None,
        active: true,
        next_at: None,
        last_at: None,
        sent_count: 0,
        revision: 1,
    }
}

fn every(expression: &str) -> Schedule {
    Schedule { recurrence: Recurrence::Cron(expression.to_owned()), ..announcement() }
}

/// Follows tokio's (paused) time, and jumps when told to.
struct JumpingClock {
    origin: Instant,
    jumped_ms: AtomicI64,
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        let now = START.plus(self.origin.elapsed());
        Timestamp(now.0 + self.jumped_ms.load(SeqCst))
    }
}

/// A store in memory that keeps the promise about claims, and can fail.
#[derive(Default)]
struct Twin {
    rows: Mutex<BTreeMap<i64, Schedule>>,
    runs: Mutex<Vec<ScheduleRun>>,
    reads: AtomicI64,
    is_down: AtomicBool,
}

impl Twin {
    fn up(&self) -> Result<(), StoreError> {
        if self.is_down.load(SeqCst) {
            return Err(StoreError::Busy { reason: "down".to_owned() });
        }
        Ok(())
    }

    fn add(&self, schedule: Schedule, now: Timestamp) -> ScheduleId {
        let mut rows = self.rows.lock();
        let id = i64::try_from(rows.len()).unwrap() + 1;
        let next_at = next_of(&schedule, now);
        rows.insert(id, Schedule { id: ScheduleId(id), next_at, ..schedule });
        ScheduleId(id)
    }

    fn row(&self, id: ScheduleId) -> Schedule {
        self.rows.lock()[&id.0].clone()
    }

    fn outcomes(&self) -> Vec<(i64, String)> {
        let runs = self.runs.lock();
        runs.iter()
            .map(|run| (run.due_at.since(START).as_secs() as i64, run.outcome.clone()))
            .collect()
    }
}

#[async_trait]
impl Schedules for Twin {
    async fn add_schedule(&self, _: &Schedule) -> Result<Schedule, StoreError> {
        Err(StoreError::NotFound)
    }
    async fn update_schedule(&self, _: &Schedule) -> Result<Schedule, StoreError> {
        Err(StoreError::NotFound)
    }
    async fn remove_schedule(&self, id: ScheduleId) -> Result<(), StoreError> {
        self.rows.lock().remove(&id.0).map(|_| ()).ok_or(StoreError::NotFound)
    }
    async fn schedule(&self, id: ScheduleId) -> Result<Schedule, StoreError> {
        self.rows.lock().get(&id.0).cloned().ok_or(StoreError::NotFound)
    }
    async fn schedules(&self, _: Page) -> Result<Vec<Schedule>, StoreError> {
        Ok(self.rows.lock().values().cloned().collect())
    }
    async fn due_schedules(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Schedule>, StoreError> {
        self.up()?;
        self.reads.fetch_add(1, SeqCst);
        let mut due: Vec<Schedule> = self
            .rows
            .lock()
            .values()
            .filter(|row| row.active && row.next_at.is_some_and(|next| next <= now))
            .cloned()
            .collect();
        due.sort_by_key(|row| row.next_at);
        due.truncate(limit);
        // Lets the other runner read the same row before either claims it.
        tokio::task::yield_now().await;
        Ok(due)
    }
    async fn claim_schedule(
        &self,
        id: ScheduleId,
        due_at: Timestamp,
        next_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        self.up()?;
        let mut rows = self.rows.lock();
        let Some(row) = rows.get_mut(&id.0).filter(|row| row.next_at == Some(due_at)) else {
            return Ok(false);
        };
        row.next_at = next_at;
        row.last_at = Some(due_at);
        row.sent_count += 1;
        Ok(true)
    }
    async fn log_schedule_run(&self, run: &ScheduleRun) -> Result<(), StoreError> {
        self.runs.lock().push(run.clone());
        Ok(())
    }
    async fn schedule_runs(&self, _: ScheduleId, _: Page) -> Result<Vec<ScheduleRun>, StoreError> {
        Ok(self.runs.lock().clone())
    }
}

/// What was sent: after how long, to which phone, what.
#[derive(Default)]
struct Phones {
    sent: Mutex<Vec<(Instant, DeviceKey, Vec<ReplyBody>)>>,
    failures: Mutex<Vec<SendError>>,
}

#[async_trait]
impl ReplyOut for Phones {
    async fn send(
        &self,
        device: DeviceKey,
        room: &str,
        channel_id: &str,
        bodies: Vec<ReplyBody>,
        scheduled: bool,
    ) -> Result<(), SendError> {
        assert_eq!((room, channel_id, scheduled), ("점심방", "184", true));
        if let Some(error) = self.failures.lock().pop() {
            return Err(error);
        }
        self.sent.lock().push((Instant::now(), device, bodies));
        Ok(())
    }
}

/// A store, its phones and any number of runners, in paused time.
struct World {
    store: Arc<Twin>,
    phones: Arc<Phones>,
    clock: Arc<JumpingClock>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    fn new() -> World {
        World {
            store: Arc::default(),
            phones: Arc::default(),
            clock: Arc::new(JumpingClock { origin: Instant::now(), jumped_ms: AtomicI64::new(0) }),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    fn runner(&self) -> Runner {
        let (store, out, clock) = (self.store.clone(), self.phones.clone(), self.clock.clone());
        Runner::new(store, out, clock, RunnerOptions::default())
    }

    fn start(&mut self) -> Runner {
        let runner = self.runner();
        let (running, stop) = (runner.clone(), self.stop.clone());
        self.tasks.spawn(async move { running.run(stop).await });
        runner
    }

    fn jump(&self, ms: i64) {
        self.clock.jumped_ms.fetch_add(ms, SeqCst);
    }

    /// Seconds after the start at which something was sent.
    fn sent_at(&self) -> Vec<f64> {
        let sent = self.phones.sent.lock();
        sent.iter()
            .map(|(at, ..)| at.duration_since(self.clock.origin).as_secs_f64().round())
            .collect()
    }

    async fn finish(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("a runner that ends well");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_is_sent_when_it_is_due_and_moves_on() {
    let mut world = World::new();
    let id = world.store.add(announcement(), START);
    world.start();
    sleep(DAY * 3).await;
    assert_eq!(world.sent_at(), [3_600.0, 90_000.0, 176_400.0]);
    let row = world.store.row(id);
    assert_eq!(row.sent_count, 3);
    assert_eq!(row.next_at, Some(START.plus(DAY * 3 + HOUR)));
    assert!(world.store.outcomes().iter().all(|(_, outcome)| outcome == RUN_SENT));
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn it_sleeps_rather_than_polls() {
    let mut world = World::new();
    world.store.add(announcement(), START);
    world.start();
    sleep(MINUTE * 30).await;
    assert!(world.store.reads.load(SeqCst) <= 61, "twice a minute at most");
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_it_at_once() {
    let mut world = World::new();
    let runner = world.start();
    sleep(Duration::from_secs(1)).await;
    let due = START.plus(Duration::from_secs(3));
    world.store.add(Schedule { recurrence: Recurrence::Once(due), ..announcement() }, START);
    runner.poke();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.sent_at(), [3.0]);
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn two_runners_over_one_store_send_each_run_exactly_once() {
    let mut world = World::new();
    for device in 1..=7 {
        let schedule = Schedule { device: DeviceKey(device), ..every("* * * * *") };
        world.store.add(schedule, START);
    }
    world.start();
    world.start();
    sleep(HOUR + Duration::from_secs(1)).await;
    let mut counts = BTreeMap::new();
    for (_, device, _) in world.phones.sent.lock().iter() {
        *counts.entry(*device).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 7);
    assert!(counts.values().all(|count| *count == 60), "{counts:?}");
    let mut outcomes = world.store.outcomes();
    assert_eq!(outcomes.len(), 7 * 60);
    outcomes.dedup();
    assert!(outcomes.iter().all(|(_, outcome)| outcome == RUN_SENT));
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn text_then_the_first_group_then_the_pause_then_the_second() {
    let mut world = World::new();
    let picture = Bytes::from_static(b"picture");
    world.store.add(
        Schedule {
            images: [vec![picture.clone(), picture.clone()], vec![picture]],
            media_wait: [Some(Duration::from_secs(4)), None],
            ..announcement()
        },
        START,
    );
    world.start();
    sleep(HOUR * 2).await;
    assert_eq!(world.sent_at(), [3_600.0, 3_603.0]);
    {
        let sent = world.phones.sent.lock();
        let [(_, _, first), (_, _, second)] = &sent[..] else { panic!("{} sendings", sent.len()) };
        assert_eq!(first[0], ReplyBody::Text("좋은 아침".into()));
        let ReplyBody::Media { items, wait, .. } = &first[1] else { panic!("no pictures") };
        assert_eq!((items.len(), *wait), (2, Some(Duration::from_secs(4))));
        assert!(matches!(&second[..], [ReplyBody::Media { wait: None, .. }]));
    }
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn schedules_of_one_phone_are_half_a_second_apart_and_others_do_not_wait() {
    let mut world = World::new();
    for device in [1, 1, 1, 2] {
        world.store.add(Schedule { device: DeviceKey(device), ..announcement() }, START);
    }
    world.start();
    sleep(HOUR * 2).await;
    let sent = world.phones.sent.lock().clone();
    let times = |device: i64| -> Vec<Instant> {
        sent.iter().filter(|(_, key, _)| key.0 == device).map(|(at, ..)| *at).collect()
    };
    let (one, two) = (times(1), times(2));
    assert_eq!((one.len(), two.len()), (3, 1));
    assert!(one.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(500)));
    assert!(two[0] - one[0] < Duration::from_millis(100));
    world.finish().await;
}

/// Down from the start until then; what was sent, relative to the start, and what was logged.
async fn after_downtime(schedule: Schedule, down: Duration) -> (usize, Vec<(i64, String)>) {
    let mut world = World::new();
    let id = world.store.add(schedule, START);
    world.jump(i64::try_from(down.as_millis()).unwrap());
    world.start();
    sleep(Duration::from_millis(100)).await;
    let result = (world.phones.sent.lock().len(), world.store.outcomes());
    let next = world.store.row(id).next_at;
    assert!(next.is_none_or(|next| next > world.clock.now()), "it moved on");
    world.finish().await;
    result
}

fn logged(outcomes: &[(i64, &str)]) -> Vec<(i64, String)> {
    outcomes.iter().map(|(at, outcome)| (*at, (*outcome).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_missed_by_less_than_five_minutes_is_sent() {
    let (sent, outcomes) = after_downtime(announcement(), HOUR + MINUTE * 5).await;
    assert_eq!((sent, outcomes), (1, logged(&[(3_600, RUN_SENT)])));
}

#[tokio::test(start_paused = true)]
async fn a_run_missed_by_more_is_logged_and_left_behind() {
    let down = HOUR + MINUTE * 5 + Duration::from_millis(1);
    let (sent, outcomes) = after_downtime(announcement(), down).await;
    assert_eq!((sent, outcomes), (0, logged(&[(3_600, RUN_MISSED)])));
    let once = Schedule { recurrence: Recurrence::Once(START.plus(MINUTE)), ..announcement() };
    let (sent, outcomes) = after_downtime(once, DAY).await;
    assert_eq!((sent, outcomes), (0, logged(&[(60, RUN_MISSED)])));
}

#[tokio::test(start_paused = true)]
async fn of_many_missed_runs_only_the_latest_is_sent() {
    let (sent, outcomes) = after_downtime(every("* * * * *"), DAY * 30).await;
    let latest = i64::try_from((DAY * 30).as_secs()).unwrap();
    assert_eq!((sent, outcomes), (1, logged(&[(60, RUN_MISSED), (latest, RUN_SENT)])));
    let (sent, outcomes) = after_downtime(every("* * * * *"), MINUTE * 3).await;
    assert_eq!((sent, outcomes), (1, logged(&[(60, RUN_MISSED), (180, RUN_SENT)])));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_or_forth_never_sends_twice() {
    let mut world = World::new();
    world.store.add(every("*/10 * * * *"), START);
    world.start();
    sleep(MINUTE * 21).await; // 00:10 and 00:20 are sent.
    assert_eq!(world.phones.sent.lock().len(), 2);
    world.jump(-20 * 60_000); // Back to 00:01.
    sleep(MINUTE * 28).await; // 00:29: both moments passed again.
    assert_eq!(world.phones.sent.lock().len(), 2);
    sleep(MINUTE * 2).await; // 00:31.
    assert_eq!(world.phones.sent.lock().len(), 3);
    world.jump(3_600_000); // Forward to 01:31; the latest (01:30) is within reach.
    sleep(MINUTE).await;
    assert_eq!(world.phones.sent.lock().len(), 4);
    world.jump(-3_600_000);
    sleep(MINUTE * 60).await; // Everything up to 01:30 counts as done.
    assert_eq!(world.phones.sent.lock().len(), 4);
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_right_now_is_sent_again_and_refusals_are_logged() {
    let mut world = World::new();
    world.store.add(announcement(), START);
    let busy = SendError::Unavailable { reason: "busy".to_owned() };
    *world.phones.failures.lock() = vec![busy.clone(), busy];
    world.start();
    sleep(HOUR * 2).await;
    assert_eq!(world.sent_at(), [3_606.0]);
    world.phones.failures.lock().push(SendError::NotApproved { what: "room" });
    sleep(DAY).await;
    let run = world.store.runs.lock().last().cloned().expect("a run");
    assert_eq!((run.outcome.as_str(), run.note.as_str()), (RUN_FAILED, "the room is not approved"));
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_for_a_while_costs_nothing_that_can_be_caught_up() {
    let mut world = World::new();
    world.store.add(announcement(), START);
    world.store.is_down.store(true, SeqCst);
    world.start();
    sleep(HOUR + MINUTE * 4).await;
    assert!(world.phones.sent.lock().is_empty());
    world.store.is_down.store(false, SeqCst);
    sleep(MINUTE).await;
    assert_eq!(world.store.outcomes(), logged(&[(3_600, RUN_SENT)]));
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_sends_what_was_claimed_without_its_pauses() {
    let mut world = World::new();
    let picture = Bytes::from_static(b"picture");
    let schedule = Schedule {
        images: [vec![], vec![picture]],
        group_pause: Duration::from_secs(600),
        ..announcement()
    };
    world.store.add(schedule, START);
    world.start();
    sleep(HOUR + Duration::from_secs(1)).await;
    assert_eq!(world.phones.sent.lock().len(), 1);
    let phones = world.phones.clone();
    let before = Instant::now();
    world.finish().await;
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(phones.sent.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn sending_now_leaves_the_next_run_alone() {
    let world = World::new();
    let id = world.store.add(announcement(), START);
    let before = world.store.row(id);
    world.runner().send_now(&before).await.expect("sent");
    assert_eq!(world.store.row(id), before);
    assert_eq!(world.store.outcomes(), logged(&[(0, RUN_SENT)]));
    world.finish().await;
}

#[tokio::test(start_paused = true)]
async fn inactive_and_broken_schedules_are_never_sent() {
    let mut world = World::new();
    world.store.add(Schedule { active: false, ..announcement() }, START);
    world.store.add(Schedule { time_zone: "Nowhere".to_owned(), ..announcement() }, START);
    world.start();
    sleep(DAY * 2).await;
    assert!(world.phones.sent.lock().is_empty());
    world.finish().await;
}

/// What happens to a cluster of two while its clock is not to be trusted.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Jump(i64),
    StoreDown(bool),
    Poke,
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (1_u64..900).prop_map(Event::Pass),
        3 => (-3_600_i64..3_600).prop_map(Event::Jump),
        1 => any::<bool>().prop_map(Event::StoreDown),
        1 => Just(Event::Poke),
        1 => Just(Event::Restart),
    ];
    proptest::collection::vec(event, 1..30)
}

async fn live_through(events: Vec<Event>) -> (World, Vec<ScheduleId>) {
    let mut world = World::new();
    let rules = ["* * * * *", "*/7 * * * *", "30 * * * *"];
    let ids = rules.map(|rule| world.store.add(every(rule), START)).to_vec();
    let mut runner = world.start();
    world.start();
    for event in events {
        match event {
            Event::Pass(seconds) => sleep(Duration::from_secs(seconds)).await,
            Event::Jump(seconds) => world.jump(seconds * 1_000),
            Event::StoreDown(is_down) => world.store.is_down.store(is_down, SeqCst),
            Event::Poke => runner.poke(),
            Event::Restart => {
                world.stop.cancel();
                while world.tasks.join_next().await.is_some() {}
                world.stop = CancellationToken::new();
                runner = world.start();
                world.start();
            }
        }
    }
    world.store.is_down.store(false, SeqCst);
    (world, ids)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_clock_and_the_store_do_no_moment_is_sent_twice(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (mut world, ids) = live_through(events).await;
            world.stop.cancel();
            while world.tasks.join_next().await.is_some() {}
            let runs = world.store.runs.lock();
            for id in ids {
                let mut sent: Vec<Timestamp> = runs
                    .iter()
                    .filter(|run| run.schedule == id && run.outcome == RUN_SENT)
                    .map(|run| run.due_at)
                    .collect();
                let count = sent.len();
                sent.sort_unstable();
                sent.dedup();
                prop_assert_eq!(sent.len(), count, "a moment of {} was sent twice", id);
            }
            prop_assert_eq!(world.phones.sent.lock().len(), runs.iter().filter(|run| run.outcome == RUN_SENT).count());
            Ok(())
        })?;
    }
}
