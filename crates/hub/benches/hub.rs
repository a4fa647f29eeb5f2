//! What the hot paths of the hub cost: one delivery from sender to peer, and one publication to many
//! subscribers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use naru_domain::clock::SystemClock;
use naru_domain::{
    ChannelName, Delivery, DeliveryBody, DeliveryClass, DeviceKey, Offset, PhoneReply, ReplyBody,
    SessionId,
};
use naru_hub::{Attachment, Hub, HubOptions, LocalBus, LocalBusOptions, SessionSpec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

fn hub() -> Hub {
    let clock = Arc::new(SystemClock);
    let (bus, events) = LocalBus::new(LocalBusOptions::default(), None, clock.clone());
    Hub::new(HubOptions::default(), Arc::new(bus), events, None, clock)
}

fn open(hub: &Hub, number: u64, device: Option<DeviceKey>) -> SessionId {
    hub.open(SessionSpec {
        key: format!("phone:{number}"),
        label: format!("demo-bot/{number:016x}"),
        kind: "phone",
        device,
        suspend_for: None,
        handed_over: Offset(0),
        retained: Vec::new(),
    })
}

fn deliver_take_hand_over(c: &mut Criterion) {
    let hub = hub();
    let session = open(&hub, 1, Some(DeviceKey(1)));
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

fn fan_out(c: &mut Criterion) {
    const SUBSCRIBERS: u64 = 1_000;
    const ROUND: u64 = 64;
    // One thread, so that the figure is the work itself and not the hand-over between threads.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let hub = hub();
    let channel = ChannelName::parse("news").expect("the name is valid");
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let mut attachments: Vec<Attachment> = Vec::new();
    runtime.block_on(async {
        for number in 0..SUBSCRIBERS {
            let session = open(&hub, number, None);
            hub.subscribe(session, &channel, None).await.expect("the bus is there");
            attachments.push(hub.attach(session, "192.0.2.1:5000").expect("it is there"));
        }
    });
    let (runner, stopper) = (hub.clone(), stop.clone());
    tasks.spawn_on(async move { runner.run(stopper).await }, runtime.handle());
    let mut out = Vec::new();
    let mut sent = 0;
    c.bench_function("64 publications to 1,000 sessions", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                runtime.block_on(async {
                    for _ in 0..ROUND {
                        let data = Bytes::from_static(b"news");
                        hub.publish(&channel, data, None).await.expect("the bus is there");
                    }
                    sent += ROUND;
                    while attachments.iter().any(|each| {
                        hub.session(each.session()).is_some_and(|view| view.next_offset.0 <= sent)
                    }) {
                        tokio::task::yield_now().await;
                    }
                });
                spent += began.elapsed();
                for attachment in &mut attachments {
                    attachment.take(usize::MAX, usize::MAX, &mut out);
                    attachment.handed_over(Offset(u64::MAX));
                    out.clear();
                }
            }
            spent
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
