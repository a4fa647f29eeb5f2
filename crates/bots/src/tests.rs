//! Bot work as a whole, over the in-memory twins: order, bounds, duplicates, approval, faults, restarts.

mod care;
mod channels;
mod faults;
mod flow;
mod isolation;
mod order;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::clock::ManualClock;
use naru_domain::metrics::{Histogram, MetricSink};
use naru_domain::phone::{PhoneChat, PhoneHello};
use naru_domain::ports::PhoneLine;
use naru_domain::work::MessageState;
use naru_domain::{BotName, Clock, DeviceId, DeviceKey, Dialect, Timestamp};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::twin::{Sessions, Store};
use crate::{
    Bots, BotsOptions, FirstContact, Handler, HandlerError, Incoming, Outcome, Ports, Processing,
};

/// A running bot server over twins.
struct Rig {
    bots: Bots,
    store: Arc<Store>,
    sessions: Arc<Sessions>,
    stop: CancellationToken,
    running: tokio::task::JoinSet<()>,
}

fn options(processing: Processing) -> BotsOptions {
    BotsOptions {
        processing,
        workers: 4,
        approve_devices: FirstContact::Auto,
        approve_rooms: FirstContact::Auto,
        retry_pause: Duration::from_millis(1),
        ..BotsOptions::default()
    }
}

impl Rig {
    async fn new(options: BotsOptions, handler: Option<Arc<dyn Handler>>) -> Rig {
        Rig::over(Arc::new(Store::default()), options, handler).await
    }

    async fn over(
        store: Arc<Store>,
        options: BotsOptions,
        handler: Option<Arc<dyn Handler>>,
    ) -> Rig {
        Rig::with_channels(store, options, handler, None).await
    }

    async fn with_channels(
        store: Arc<Store>,
        options: BotsOptions,
        handler: Option<Arc<dyn Handler>>,
        channels: Option<naru_hub::Hub>,
    ) -> Rig {
        let sessions = Arc::new(Sessions::default());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(1_767_225_600_000)));
        let ports = Ports::of(&store);
        let bots = Bots::start_with(options, ports, sessions.clone(), channels, clock, handler)
            .await
            .expect("it starts");
        let stop = CancellationToken::new();
        let mut running = tokio::task::JoinSet::new();
        let (task, token) = (bots.clone(), stop.clone());
        running.spawn(async move { task.run(token).await });
        Rig { bots, store, sessions, stop, running }
    }

    async fn line(&self, device: &str) -> Arc<dyn PhoneLine> {
        self.line_of("demo-bot", device).await
    }

    async fn line_of(&self, bot: &str, device: &str) -> Arc<dyn PhoneLine> {
        self.bots.desk().hello(hello(bot, device)).await.expect("the desk answers")
    }

    /// Waits until everything that was accepted has ended and is kept.
    async fn settled(&self) {
        let settled = async {
            while !self.bots.is_settled().await {
                // Lets a paused clock move on to the next timer of a handler.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3_600), settled).await.expect("it settles");
    }

    /// Waits for something that comes about without the test's doing.
    async fn until(&self, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it comes about");
    }

    /// Ends it the hard way, as a crash would: what is in memory is gone.
    async fn crash(mut self) -> Arc<Store> {
        self.running.shutdown().await;
        Arc::clone(&self.store)
    }

    async fn drain(&mut self) -> bool {
        let is_done = self.bots.drain(Duration::from_secs(5)).await;
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
        is_done
    }

    fn figure(&self, name: &str) -> u64 {
        let mut figures = Figures::default();
        self.bots.metrics().collect(&mut figures);
        figures.0.iter().filter(|(of, _)| of == name).map(|(_, value)| *value).sum()
    }

    fn in_state(&self, state: MessageState) -> usize {
        self.store.messages().iter().filter(|message| message.state == state).count()
    }
}

/// Sums by name, and by name and label value.
#[derive(Default)]
struct Figures(Vec<(String, u64)>);

impl MetricSink for Figures {
    fn counter(&mut self, name: &str, _help: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push((name.to_owned(), value));
        for (_, label) in labels {
            self.0.push((format!("{name}/{label}"), value));
        }
    }

    fn gauge(&mut self, name: &str, _help: &str, _labels: &[(&str, &str)], value: i64) {
        self.0.push((name.to_owned(), u64::try_from(value).unwrap_or(0)));
    }

    fn histogram(&mut self, name: &str, _help: &str, labels: &[(&str, &str)], value: &Histogram) {
        for (_, label) in labels {
            self.0.push((format!("{name}/{label}"), value.read().0.iter().sum()));
        }
    }
}

fn hello(bot: &str, device: &str) -> PhoneHello {
    PhoneHello {
        bot: BotName::parse(bot).expect("a name"),
        device: DeviceId::parse(device).expect("an id"),
        version: "3.2.2".to_owned(),
        client_type: "MessengerBotR".to_owned(),
        device_info: String::new(),
        device_ip: String::new(),
        peer: std::net::IpAddr::from([192, 0, 2, 1]),
        dialect: Dialect::Json,
    }
}

/// A message with ids. `room` is its name and, hashed to digits, its channel id.
fn chat(room: u32, log_id: u64, text: &str) -> Box<PhoneChat> {
    Box::new(PhoneChat {
        room: format!("room {room}").into(),
        channel_id: Some((1_000 + room).to_string().into()),
        log_id: Some(log_id.to_string().into()),
        ..*bare(&format!("room {room}"), text)
    })
}

/// A message without ids.
fn bare(room: &str, text: &str) -> Box<PhoneChat> {
    Box::new(PhoneChat {
        room: room.into(),
        channel_id: None,
        log_id: None,
        sender: "kim".into(),
        user_hash: Some("hash".into()),
        text: text.into(),
        is_group_chat: true,
        is_mention: false,
        signed_at: None,
        received_at: Timestamp(1_767_225_600_000),
    })
}

/// Hands a message over as a gateway does.
async fn say(line: &Arc<dyn PhoneLine>, chat: Box<PhoneChat>) {
    if let Err(chat) = line.chat(chat) {
        line.chat_when_room(chat).await;
    }
}

/// A handler that does what the text says: `now X` answers at once, `slow MS X` after a while, `yield X`
/// a few polls later, `panic`, `panic now`, `panic later`, `block` (until released), `block later`,
/// `hang`, `fail`, `again` (works the second time).
#[derive(Default)]
struct Obedient {
    tried: Mutex<HashSet<i64>>,
    blocker: Option<Arc<std::sync::Barrier>>,
    /// Lets those go on that are to do something later.
    later: Option<Arc<tokio::sync::Semaphore>>,
}

#[async_trait]
impl Handler for Obedient {
    fn immediate(&self, incoming: &Incoming) -> Option<Outcome> {
        assert!(&*incoming.message.text != "panic now", "as asked");
        incoming.message.text.strip_prefix("now ").map(Outcome::text)
    }

    async fn handle(&self, incoming: Incoming) -> Result<Outcome, HandlerError> {
        let text = incoming.message.text.to_string();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word {
            "slow" => {
                let (ms, said) = rest.split_once(' ').expect("a time and a text");
                tokio::time::sleep(Duration::from_millis(ms.parse().expect("a number"))).await;
                Ok(Outcome::text(said))
            }
            "yield" => {
                for _ in 0..incoming.message.id.0 % 7 {
                    tokio::task::yield_now().await;
                }
                Ok(Outcome::text(rest))
            }
            "panic" | "block" if rest == "later" => {
                let later = self.later.as_ref().expect("somebody who says when");
                later.acquire().await.expect("it stays open").forget();
                assert!(word == "block", "as asked");
                let blocker = self.blocker.as_ref().expect("a blocker");
                // In place: what this thread was to run next must not wait for it, or the watcher might.
                tokio::task::block_in_place(|| blocker.wait());
                Ok(Outcome::text("too late"))
            }
            "panic" => panic!("as asked"),
            "hang" => std::future::pending().await,
            "block" => {
                self.blocker.as_ref().expect("a blocker").wait();
                Ok(Outcome::text("too late"))
            }
            "fail" => Err(HandlerError::dead("as asked")),
            "again" if self.tried.lock().insert(incoming.message.id.0) => {
                Err(HandlerError::retryable("once more"))
            }
            "never" => Err(HandlerError::retryable("never works")),
            "silent" => Ok(Outcome::silent()),
            "nobody" => Ok(Outcome::unhandled()),
            _ => Ok(Outcome::text(rest)),
        }
    }
}

fn key(line: &Arc<dyn PhoneLine>) -> DeviceKey {
    line.device()
}
