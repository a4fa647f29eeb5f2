//! A whole server with twins behind it: two bots with a phone, a room and messages each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_admin::{
    AdminOptions, AdminServer, CategoryLevel, Control, ControlError, FocusLevel, LogControl,
    LogControlError, LogFocus, NodeDescription, NodeHealth, PasswordCost, Ports, QueueState,
    Reloaded, SendRequest, Services, SessionState, WardServices, WorkerState,
};
use naru_domain::clock::ManualClock;
use naru_domain::metrics::{Counter, Histogram, MetricSink, MetricSource};
use naru_domain::ports::{BotSettings, Devices, Rooms, Schedules};
use naru_domain::work::{
    DeviceRecord, MessageRecord, MessageState, ReplyRecord, Role, RoomRecord, Schedule, TokenRecord,
};
use naru_domain::{
    Approval, BotName, DeviceId, DeviceKey, MessageId, Offset, PhoneReply, ReplyBody, RoomKey,
    ScheduleId, SessionId, Timestamp,
};
use naru_testkit::memory_outbox::MemoryOutbox;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::{Answer, ask};
use crate::store_twin::StoreTwin;
use crate::ward_twin::{HistoryTwin, WardsTwin};

pub(crate) const NOW: Timestamp = Timestamp(1_795_267_898_123);
pub(crate) const API_KEY: &str = "key-of-the-configuration";
pub(crate) const CHEAP: PasswordCost = PasswordCost { memory_kib: 64, passes: 1 };

/// What the operator's actions did.
#[derive(Default)]
pub(crate) struct ControlTwin {
    store: Arc<StoreTwin>,
    pub(crate) done: Mutex<Vec<String>>,
    pub(crate) sent: Mutex<Vec<ReplyBody>>,
    pub(crate) fails: Mutex<Option<ControlError>>,
    pub(crate) panics: Mutex<bool>,
}

impl ControlTwin {
    fn note(&self, what: String) -> Result<(), ControlError> {
        assert!(!*self.panics.lock(), "a handler of the twin panics");
        if let Some(error) = self.fails.lock().clone() {
            return Err(error);
        }
        self.done.lock().push(what);
        Ok(())
    }
}

#[async_trait]
impl Control for ControlTwin {
    async fn set_device_approval(
        &self,
        device: DeviceKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<DeviceRecord, ControlError> {
        self.note(format!("device {device} {}", approval.label()))?;
        Ok(self.store.set_device_approval(device, approval, note, revision).await?)
    }

    async fn set_room_approval(
        &self,
        room: RoomKey,
        approval: Approval,
        note: &str,
        revision: Option<i64>,
    ) -> Result<RoomRecord, ControlError> {
        self.note(format!("room {room} {}", approval.label()))?;
        Ok(self.store.set_room_approval(room, approval, note, revision).await?)
    }

    async fn set_device_frame_limit(
        &self,
        device: DeviceKey,
        frame_bytes_max: Option<u32>,
    ) -> Result<DeviceRecord, ControlError> {
        self.note(format!("limit {device} {frame_bytes_max:?}"))?;
        Ok(self.store.set_device_frame_limit(device, frame_bytes_max).await?)
    }

    async fn set_settings(
        &self,
        bot: &BotName,
        document: &str,
        revision: i64,
    ) -> Result<i64, ControlError> {
        self.note(format!("settings {bot}"))?;
        Ok(self.store.set_bot_settings(bot, document, revision).await?)
    }

    async fn reload(&self) -> Result<Reloaded, ControlError> {
        self.note("reload".to_owned())?;
        Ok(Reloaded { devices: 2, rooms: 2, bots: 2 })
    }

    async fn send(&self, request: SendRequest) -> Result<Vec<Offset>, ControlError> {
        self.note(format!(
            "send {} {} {:?}",
            request.device, request.room, request.idempotency_key
        ))?;
        self.sent.lock().push(request.body);
        Ok(vec![Offset(7)])
    }

    async fn reply_later(
        &self,
        message: MessageId,
        replies: Vec<ReplyBody>,
        key: Option<String>,
    ) -> Result<Vec<Offset>, ControlError> {
        self.note(format!("reply {message} {key:?}"))?;
        let offsets = (1..).map(Offset).take(replies.len()).collect();
        self.sent.lock().extend(replies);
        Ok(offsets)
    }

    async fn replay(&self, message: MessageId) -> Result<(), ControlError> {
        self.note(format!("replay {message}"))
    }

    fn queue(&self) -> QueueState {
        let busy = WorkerState {
            message: Some(MessageId(1)),
            bot: Some("alpha".to_owned()),
            busy_for: Some(Duration::from_millis(1500)),
            is_stuck: false,
        };
        QueueState {
            depth: 25,
            capacity: 100,
            is_store_healthy: true,
            in_work: 4,
            parked: 3,
            workers: vec![busy, WorkerState::default()],
        }
    }

    fn sessions(&self, after: Option<SessionId>, limit: usize) -> Vec<SessionState> {
        let session = |id: u64, label: &str| SessionState {
            id: SessionId(id),
            key: format!("phone:{id}"),
            label: label.to_owned(),
            kind: "phone".to_owned(),
            state: "active".to_owned(),
            generation: 1,
            peer: Some("10.20.30.40".to_owned()),
            connected_at: Some(NOW),
            queued: 0,
            queued_bytes: 0,
            handed_over: Offset(3),
            next_offset: Offset(4),
        };
        let all = [session(1, "alpha/0123456789"), session(2, "beta/9876543210")];
        let fits = all.into_iter().filter(|row| after.is_none_or(|after| row.id > after));
        fits.take(limit).collect()
    }

    fn session(&self, id: SessionId) -> Option<SessionState> {
        self.sessions(None, 10).into_iter().find(|row| row.id == id)
    }

    fn close_session(&self, id: SessionId) -> bool {
        self.note(format!("close {id}")).is_ok()
    }

    async fn add_schedule(&self, schedule: Schedule) -> Result<Schedule, ControlError> {
        self.note(format!("schedule {}", schedule.title))?;
        Ok(self.store.add_schedule(&schedule).await?)
    }

    async fn update_schedule(&self, schedule: Schedule) -> Result<Schedule, ControlError> {
        self.note(format!("schedule {} changed", schedule.id))?;
        Ok(self.store.update_schedule(&schedule).await?)
    }

    async fn remove_schedule(&self, id: ScheduleId) -> Result<(), ControlError> {
        self.note(format!("schedule {id} removed"))?;
        Ok(self.store.remove_schedule(id).await?)
    }

    async fn run_schedule_now(&self, id: ScheduleId) -> Result<(), ControlError> {
        self.note(format!("schedule {id} ran"))
    }
}

#[derive(Default)]
pub(crate) struct LogsTwin(Mutex<Vec<FocusLevel>>);

impl LogControl for LogsTwin {
    fn levels(&self) -> Vec<CategoryLevel> {
        vec![CategoryLevel { category: "naru::hub".to_owned(), level: "info".to_owned() }]
    }

    fn focused(&self) -> Vec<FocusLevel> {
        self.0.lock().clone()
    }

    fn set(&self, category: &str, level: &str) -> Result<(), LogControlError> {
        match (category, level) {
            ("naru::hub", "debug" | "info") => Ok(()),
            ("naru::hub", _) => Err(LogControlError::UnknownLevel),
            _ => Err(LogControlError::UnknownCategory),
        }
    }

    fn set_for(
        &self,
        focus: LogFocus,
        level: &str,
        duration: Duration,
    ) -> Result<(), LogControlError> {
        let until = NOW.plus(duration);
        self.0.lock().push(FocusLevel { focus, level: level.to_owned(), until });
        Ok(())
    }
}

#[derive(Default)]
struct FiguresTwin {
    frames: Counter,
    stage: Histogram,
}

impl MetricSource for FiguresTwin {
    fn collect(&self, sink: &mut dyn MetricSink) {
        sink.counter("frames", "Frames.", &[("event", "chat")], self.frames.get());
        sink.histogram("stage_seconds", "Stages.", &[("stage", "store")], &self.stage);
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<StoreTwin>,
    pub(crate) control: Arc<ControlTwin>,
    pub(crate) wards: Arc<WardsTwin>,
    pub(crate) ward_history: Arc<HistoryTwin>,
    pub(crate) outbox: Arc<MemoryOutbox>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) health: Arc<NodeHealth>,
    pub(crate) running: tokio::task::JoinSet<()>,
    pub(crate) stop: CancellationToken,
    _stop: DropGuard,
}

pub(crate) fn default_options() -> AdminOptions {
    let mut options = AdminOptions::new(([127, 0, 0, 1], 0).into());
    options.api_keys = vec!["another-key".to_owned(), API_KEY.to_owned()];
    options.password_cost = CHEAP;
    options
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::with(default_options()).await
    }

    pub(crate) async fn with(options: AdminOptions) -> Server {
        Server::built(options, true).await
    }

    pub(crate) async fn without_wards() -> Server {
        Server::built(default_options(), false).await
    }

    async fn built(options: AdminOptions, has_wards: bool) -> Server {
        let store = Arc::new(StoreTwin::default());
        fill(&store);
        let control = Arc::new(ControlTwin { store: store.clone(), ..ControlTwin::default() });
        let clock = Arc::new(ManualClock::new(NOW));
        let health = Arc::new(NodeHealth::new(None));
        let wards = Arc::new(WardsTwin::default());
        let ward_history = Arc::new(HistoryTwin::default());
        let outbox = Arc::new(MemoryOutbox::default());
        let figures = FiguresTwin::default();
        figures.frames.add(12);
        figures.stage.observe(Duration::from_millis(20));
        let services = Services {
            ports: Ports::of(store.clone()),
            control: Some(control.clone()),
            logs: Arc::new(LogsTwin::default()),
            health: health.clone(),
            metrics: vec![Arc::new(figures)],
            node: NodeDescription {
                version: "1.2.3".to_owned(),
                node: "twin".to_owned(),
                started_at: NOW.minus(Duration::from_secs(60)),
                listeners: vec![("bridge".to_owned(), "127.0.0.1:1490".to_owned())],
                modes: vec![("processing".to_owned(), "queued".to_owned())],
            },
            clock: clock.clone(),
            chat: None,
            wards: has_wards.then(|| WardServices {
                control: wards.clone(),
                history: ward_history.clone(),
                outbox: Some(outbox.clone()),
            }),
            doors: None,
        };
        let server = AdminServer::bind(options).await.expect("bind");
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let mut running = tokio::task::JoinSet::new();
        running.spawn(server.run(services, stop.clone()));
        let guard = stop.clone().drop_guard();
        Server {
            address,
            store,
            control,
            wards,
            ward_history,
            outbox,
            clock,
            health,
            running,
            stop,
            _stop: guard,
        }
    }

    /// Makes a token.
    pub(crate) fn token(&self, role: Role, bots: &[&str]) -> String {
        let mut rows = self.store.rows.lock();
        let id = i64::try_from(rows.tokens.len()).expect("few rows") + 1;
        let secret = format!("naru_t_{}_{id}", role.label());
        rows.tokens.push(TokenRecord {
            id,
            name: format!("{}-{id}", role.label()),
            hash: Sha256::digest(secret.as_bytes()).into(),
            role,
            bots: bots.iter().map(|bot| (*bot).to_owned()).collect(),
            created_at: NOW,
            used_at: None,
            expires_at: None,
            revoked_at: None,
        });
        secret
    }

    pub(crate) async fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        self.ask_with(token, method, path, &[], body).await
    }

    pub(crate) async fn ask_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        more: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut headers = more.to_vec();
        if !token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(Value::to_string);
        ask(self.address, method, path, &headers, body.as_deref().map(str::as_bytes)).await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.ask(token, "GET", path, None).await
    }
}

fn fill(store: &StoreTwin) {
    let mut rows = store.rows.lock();
    for (number, bot, device) in [(1, "alpha", "0123456789"), (2, "beta", "9876543210")] {
        rows.devices.push(DeviceRecord {
            key: DeviceKey(number),
            bot: BotName::parse(bot).expect("a name"),
            device: DeviceId::parse(device).expect("an id"),
            approval: Approval::Pending,
            approval_note: String::new(),
            frame_bytes_max: None,
            version: "3.3.0".to_owned(),
            client_type: "MessengerBotR".to_owned(),
            device_info: "phone".to_owned(),
            device_ip: "192.168.0.7".to_owned(),
            peer_ip: "203.0.113.5".to_owned(),
            created_at: NOW,
            seen_at: NOW,
            revision: 1,
        });
        rows.rooms.push(RoomRecord {
            key: RoomKey(number),
            device: DeviceKey(number),
            channel_id: "18000000000000001".into(),
            name: "가족".into(),
            approval: Approval::Pending,
            approval_note: String::new(),
            created_at: NOW,
            revision: 1,
        });
        let document = r##"{"webhook":{"url":"https://x","secret":"hush"}}"##;
        rows.bots.push((bot.to_owned(), document.to_owned(), 1));
    }
    for number in 1..=20_u32 {
        let is_dead = number > 18;
        rows.messages.push(MessageRecord {
            id: MessageId(number.into()),
            device: DeviceKey(i64::from(number % 2) + 1),
            room: Some(RoomKey(i64::from(number % 2) + 1)),
            room_name: "가족".into(),
            channel_id: "18000000000000001".into(),
            log_id: Some(number.to_string().into()),
            sender: "홍길동".into(),
            user_hash: Some("abcdef".into()),
            text: format!("hello {number}").into(),
            is_group_chat: true,
            is_mention: false,
            received_at: NOW.minus(Duration::from_secs(u64::from(21 - number) * 60)),
            state: if is_dead { MessageState::Dead } else { MessageState::Done },
            failure: if is_dead { "it failed".into() } else { "".into() },
        });
    }
    rows.replies.push(ReplyRecord {
        device: DeviceKey(2),
        offset: Offset(1),
        message: Some(MessageId(1)),
        at: NOW,
        reply: Arc::new(PhoneReply {
            room: "가족".into(),
            channel_id: "18000000000000001".into(),
            body: ReplyBody::Text("answer".into()),
            scheduled: false,
        }),
    });
}
