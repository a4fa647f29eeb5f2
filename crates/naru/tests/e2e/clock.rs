//! A wall clock that jumps by an hour, forwards and back, under phones that are connected: a node in this
//! process, with every part of it but the clock as in `naru serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use naru_bots::{Bots, BotsOptions, FirstContact, SendRequest};
use naru_domain::clock::ManualClock;
use naru_domain::metrics::{Histogram, MetricSink, MetricSource};
use naru_domain::ports::{ChatLog, Monitors};
use naru_domain::work::{MessageFilter, MessageRecord, MessageState, Page};
use naru_domain::{Approval, Clock, ReplyBody, Timestamp};
use naru_gateways::bridge::{BridgeCounters, BridgeKeys, BridgeOptions, BridgeServer};
use naru_hub::{Hub, HubOptions, LocalBus, LocalBusOptions};
use naru_store_sql::{SqlStore, StoreOptions};
use naru_wire::bridge::SigningKey;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::harness::{CHANNEL, DEVICE, Phone, ROOM, SALT, SECRET, Script, eventually, now_ms};

const HOUR_MS: i64 = 60 * 60 * 1_000;

/// A node whose clock the test sets.
struct Node {
    clock: Arc<ManualClock>,
    store: Arc<SqlStore>,
    bots: Bots,
    counters: Arc<BridgeCounters>,
    bridge: SocketAddr,
    tasks: tokio::task::JoinSet<()>,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start(now: i64) -> Node {
        // Whoever is first installs it.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Arc::new(ManualClock::new(Timestamp(now)));
        let ticking: Arc<dyn Clock> = clock.clone();
        let mut tasks = tokio::task::JoinSet::new();
        let (store, bots, bridge) = runtime.block_on(async {
            let options =
                StoreOptions { clock: ticking.clone(), ..StoreOptions::new(folder.path()) };
            let store = Arc::new(SqlStore::open(options).await.expect("a store"));
            let (bus, events) = LocalBus::new(LocalBusOptions::default(), None, ticking.clone());
            let (bus, journal) = (Arc::new(bus), Some(store.journal() as _));
            let hub = Hub::new(HubOptions::default(), bus, events, journal, ticking.clone());
            let options = BotsOptions {
                approve_devices: FirstContact::Auto,
                approve_rooms: FirstContact::Auto,
                ..BotsOptions::default()
            };
            let ports = naru_bots::Ports::of(&store);
            let bots = Bots::start(options, ports, hub.clone(), ticking.clone()).await;
            let bots = bots.expect("bots");
            let keys = BridgeKeys {
                default: vec![SigningKey::new(SECRET, SALT)],
                ..BridgeKeys::default()
            };
            let options =
                BridgeOptions { ping_interval: Duration::from_millis(200), ..Default::default() };
            let bridge = BridgeServer::bind(
                SocketAddr::from(([127, 0, 0, 1], 0)),
                options,
                Arc::new(arc_swap::ArcSwap::from_pointee(keys)),
                None,
                hub.clone(),
                bots.desk(),
                ticking.clone(),
            )
            .expect("a free port");
            let stop = CancellationToken::new();
            tasks.spawn({
                let stop = stop.clone();
                async move { hub.run(stop).await }
            });
            tasks.spawn({
                let (bots, stop) = (bots.clone(), stop.clone());
                async move { bots.run(stop).await }
            });
            (store, bots, bridge)
        });
        let (counters, address) = (bridge.counters(), bridge.local_addr().expect("an address"));
        tasks.spawn_on(bridge.run(CancellationToken::new()), runtime.handle());
        Node { clock, store, bots, counters, bridge: address, tasks, runtime, _folder: folder }
    }

    fn stale(&self) -> u64 {
        struct Stale(u64);
        impl MetricSink for Stale {
            fn counter(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: u64) {
                if name.starts_with("bridge_distrusted") && labels == [("why", "stale")] {
                    self.0 = value;
                }
            }
            fn gauge(&mut self, _: &str, _: &str, _: &[(&str, &str)], _: i64) {}
            fn histogram(&mut self, _: &str, _: &str, _: &[(&str, &str)], _: &Histogram) {}
        }
        let mut sink = Stale(0);
        self.counters.collect(&mut sink);
        sink.0
    }

    /// Oldest first.
    fn messages(&self) -> Vec<MessageRecord> {
        let page = Page { after: None, limit: 100 };
        let all = MessageFilter::default();
        let read = self.store.messages(&all, page);
        let mut messages = self.runtime.block_on(read).expect("messages");
        messages.reverse();
        messages
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

/// Says it with a signature of that moment.
fn say_at(phone: &mut Phone, signed_at: i64, text: &str) -> String {
    let log_id = phone.next_log_id();
    let line = phone.chat_line_with(CHANNEL, text, &log_id, &phone.auth_at(signed_at));
    phone.send(&line);
    line
}

/// Says it and expects the answer as the next frame, so that nothing was answered before it.
fn is_answered(phone: &mut Phone, signed_at: i64, text: &str) -> String {
    let line = say_at(phone, signed_at, &format!("# echo {text}"));
    assert_eq!(phone.reply(), format!("에코: {text}"));
    line
}

fn wait_for_pings(phone: &mut Phone, count: usize) {
    for _ in 0..count {
        let (frame, _) = phone.read().expect("a ping: the connection goes on");
        assert_eq!(frame["event"], "ping", "{frame}");
    }
}

#[test]
fn a_clock_that_jumps_makes_signatures_stale_until_it_is_back_and_nothing_else() {
    let start = now_ms();
    let node = Node::start(start);
    let mut phone = Phone::connect(node.bridge, Script::Raw);
    let first = is_answered(&mut phone, start, "first");
    let mut said = vec!["first".to_owned()];
    for jump in [HOUR_MS, -HOUR_MS] {
        let stale_before = node.stale();
        node.clock.set(Timestamp(start + jump));
        // The phone's own clock stays where it is.
        say_at(&mut phone, start, "# echo never heard");
        said.push(format!("in step with {jump}"));
        is_answered(&mut phone, start + jump, &said[said.len() - 1]);
        assert_eq!(node.stale(), stale_before + 1);
        // Deadlines and intervals go by the other clock.
        wait_for_pings(&mut phone, 3);

        node.clock.set(Timestamp(start));
        say_at(&mut phone, start + jump, "# echo neither");
        said.push(format!("back from {jump}"));
        is_answered(&mut phone, start, &said[said.len() - 1]);
        assert_eq!(node.stale(), stale_before + 2);
        // What was heard before the jump is known after it.
        phone.send(&first);
        wait_for_pings(&mut phone, 3);
    }
    let messages = node.messages();
    let texts = messages.iter().map(|message| message.text.trim_start_matches("# echo "));
    assert_eq!(texts.collect::<Vec<_>>(), said);
    assert!(messages.is_sorted_by_key(|message| message.id), "ids rise whatever the clock says");
}

#[test]
fn approval_acts_in_order_and_a_keyed_send_is_made_once_while_the_clock_jumps() {
    let start = now_ms();
    let node = Node::start(start);
    let mut phone = Phone::connect(node.bridge, Script::Json);
    is_answered(&mut phone, start, "first");
    let device = node.messages()[0].device;
    let send = || {
        let request = SendRequest {
            device,
            channel_id: CHANNEL.to_owned(),
            room: ROOM.to_owned(),
            body: ReplyBody::Text("once".into()),
            idempotency_key: Some("order-17".to_owned()),
        };
        node.runtime.block_on(node.bots.send(request)).expect("sent")
    };
    let approve = |approval| {
        let set = node.bots.set_device_approval(device, approval, "", None);
        node.runtime.block_on(set).expect("decided");
    };
    let offsets = send();
    assert_eq!(phone.reply(), "once");
    for now in [start + HOUR_MS, start - HOUR_MS, start] {
        node.clock.set(Timestamp(now));
        assert_eq!(send(), offsets);
        approve(Approval::Revoked);
        let kept = node.messages().len();
        say_at(&mut phone, now, "# echo while it was revoked");
        let silent = eventually("it is kept", || node.messages().get(kept).cloned());
        assert_eq!(silent.state, MessageState::Logged);
        approve(Approval::Approved);
        is_answered(&mut phone, now, &format!("at {now}"));
    }
}

#[test]
fn a_keep_alive_answer_across_a_jump_leaves_no_round_trip_of_an_hour() {
    let start = now_ms();
    let node = Node::start(start);
    let mut phone = Phone::connect(node.bridge, Script::Raw);
    is_answered(&mut phone, start, "first");
    let device = node.messages()[0].device;
    let trips = |count: usize| {
        eventually("the answers are kept", || {
            let read = node.store.pings(device, Timestamp(0), 10);
            let mut kept = node.runtime.block_on(read).expect("pings");
            kept.sort_by_key(|sample| sample.at);
            let trips: Vec<_> = kept.iter().map(|sample| sample.round_trip_ms).collect();
            (trips.len() == count).then_some(trips)
        })
    };
    for now in [start, start + HOUR_MS, start - HOUR_MS] {
        node.clock.set(Timestamp(now));
        let answer = serde_json::json!({ "event": "pong", "data": {
            "bot_name": phone.bot, "device_id": DEVICE, "server_timestamp": start,
            "auth": phone.auth_at(now),
        }});
        phone.send(&answer.to_string());
        // Heard before the clock moves on.
        is_answered(&mut phone, now, &format!("at {now}"));
    }
    // In the order of the clock: an hour before the ping, with it, an hour after it.
    assert_eq!(trips(3), [None, Some(0), None]);
}
