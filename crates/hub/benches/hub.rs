//! What the hot paths of the hub cost: one delivery from sender to peer, and one publication to many
//! subscribers.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use naru_domain::clock::SystemClock;
use naru_domain::ports::Post;
use naru_domain::{
    ChannelName, Delivery, DeliveryBody, DeliveryClass, DeviceKey, Membership, Offset, PartyInfo,
    PhoneReply, ReplyBody,
};
use naru_hub::{
    ClientSpec, Connected, Cut, Ending, Event, Hub, HubOptions, LocalBus, LocalBusOptions, Mark,
    Outlet, Recover, SessionSpec, SubscribeSpec, Subscribed, Taken, Traits,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn hub() -> Hub {
    let clock = Arc::new(SystemClock);
    let (bus, events) = LocalBus::new(LocalBusOptions::default(), None, clock.clone());
    Hub::new(HubOptions::default(), Arc::new(bus), events, None, clock)
}

fn deliver_take_hand_over(c: &mut Criterion) {
    let hub = hub();
    let session = hub.open(SessionSpec {
        key: "phone:1".to_owned(),
        label: "demo-bot/0000000000000001".to_owned(),
        kind: "phone",
        device: Some(DeviceKey(1)),
        suspend_for: None,
        handed_over: Offset(0),
        retained: Vec::new(),
    });
    let mut attachment = hub.attach(session, "192.0.2.1:5000").expect("the session is there");
    let reply = Arc::new(PhoneReply {
        room: Arc::from("room"),
        channel_id: Arc::from("1"),
        body: ReplyBody::Text("text".into()),
        scheduled: false,
    });
    let mut offset = Offset(0);
    let mut out = Vec::new();
    c.bench_function("deliver, take, hand over", |b| {
        b.iter(|| {
            offset = offset.next();
            let body = DeliveryBody::Phone(Arc::clone(&reply));
            let delivery = Delivery { offset, class: DeliveryClass::Reliable, body };
            black_box(hub.deliver(session, delivery));
            attachment.take(64, 1 << 20, &mut out);
            attachment.handed_over(offset);
            out.clear();
        });
    });
}

/// A subscriber that counts what it gets, and shares the encoding as a gateway does.
#[derive(Default)]
struct Counting(AtomicU64);

impl Outlet for Counting {
    fn server_side_bits(&self) -> Option<u32> {
        None
    }

    fn publication(&self, event: &Event<'_>, _: &mut Mark) -> Taken {
        let frame =
            event.encoded(0, None, || Some(Bytes::copy_from_slice(&event.publication.data)));
        black_box(frame);
        self.0.fetch_add(1, Ordering::Relaxed);
        Taken::FlushDue
    }

    fn membership(&self, _: &ChannelName, _: &Membership, _: &Mark) -> Taken {
        Taken::Skipped
    }

    fn cut(&self, _: &ChannelName, _: &Mark, _: &Cut) {}

    fn entered(&self, _: &ChannelName, _: &Subscribed, _: bool) {}

    fn message(&self, _: &Bytes) {}

    fn flush(&self) {}

    fn close(&self, _: &Ending) {}
}

/// Connects `count` clients that are subscribed to the channel.
async fn members(
    hub: &Hub,
    channel: &ChannelName,
    count: usize,
) -> Vec<(Connected, Arc<Counting>)> {
    let mut members = Vec::new();
    for number in 0..count {
        let outlet = Arc::new(Counting::default());
        let info = PartyInfo { client: number.to_string().into(), ..PartyInfo::default() };
        let spec = ClientSpec {
            info,
            kind: "bench",
            peer: "192.0.2.1:5000".into(),
            outlet: Arc::clone(&outlet) as Arc<dyn Outlet>,
        };
        let connected = hub.connect(spec).expect("anonymous clients are not limited");
        let subscription = SubscribeSpec {
            channel: channel.clone(),
            recover: Recover::Nothing,
            must_recover: false,
            mark: Mark::default(),
            traits: Traits::default(),
            filter: None,
            chan_info: Bytes::new(),
        };
        let begun = hub.subscribe(connected.client(), subscription, |_| {}).await;
        begun.expect("the bus is there");
        members.push((connected, outlet));
    }
    members
}

fn fan_out(c: &mut Criterion) {
    const SUBSCRIBERS: usize = 1_000;
    const ROUND: u64 = 64;
    // One thread, so that the figure is the work itself and not the hand-over between threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let hub = hub();
    let channel = ChannelName::parse("news").expect("the name is valid");
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let members = runtime.block_on(members(&hub, &channel, SUBSCRIBERS));
    let (runner, stopper) = (hub.clone(), stop.clone());
    tasks.spawn_on(async move { runner.run(stopper).await }, runtime.handle());
    let mut sent = 0;
    c.bench_function("64 publications to 1,000 clients", |b| {
        b.iter_custom(|rounds| {
            let began = Instant::now();
            runtime.block_on(async {
                for _ in 0..rounds {
                    for _ in 0..ROUND {
                        let post = Post::new(Bytes::from_static(b"news"));
                        hub.publish(&channel, post).await.expect("the bus is there");
                    }
                    sent += ROUND;
                    while members.iter().any(|(_, each)| each.0.load(Ordering::Relaxed) < sent) {
                        tokio::task::yield_now().await;
                    }
                }
            });
            began.elapsed()
        });
    });
    stop.cancel();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .without_plots();
    targets = deliver_take_hand_over, fan_out
}
criterion_main!(benches);
