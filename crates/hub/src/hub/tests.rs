//! Sessions through the hub: attachments and their fencing, wake-ups, the journal, expiry, views, bounds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use naru_domain::clock::ManualClock;
use naru_domain::metrics::{Histogram, MetricSink};
use naru_domain::ports::DeliveryJournal;
use naru_domain::{
    CloseReason, Delivery, DeliveryBody, DeliveryClass, DeviceKey, Generation, Offset, PhoneReply,
    ReplyBody, SessionId, Timestamp,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{AttachError, Delivered, Hub, SessionSpec};
use crate::attachment::Attachment;
use crate::local::{LocalBus, LocalBusOptions};
use crate::mailbox::MailboxLimits;
use crate::options::HubOptions;
use crate::session::SessionState;
use crate::signal::Wake;

/// A journal in memory that remembers every record.
#[derive(Default)]
struct Journal(Mutex<Vec<(i64, u64)>>);

impl DeliveryJournal for Journal {
    fn record(&self, device: DeviceKey, offset: Offset) {
        self.0.lock().push((device.0, offset.0));
    }
}

impl Journal {
    fn take(&self) -> Vec<(i64, u64)> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Figures by name and labels.
#[derive(Default)]
struct Figures(HashMap<String, i64>);

impl Figures {
    fn add(&mut self, name: &str, labels: &[(&str, &str)], value: i64) {
        let labels: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        self.0.insert(format!("{name} {}", labels.join(" ")).trim().to_owned(), value);
    }
}

impl MetricSink for Figures {
    fn counter(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: u64) {
        self.add(name, labels, i64::try_from(value).unwrap());
    }
    fn gauge(&mut self, name: &str, _: &str, labels: &[(&str, &str)], value: i64) {
        self.add(name, labels, value);
    }
    fn histogram(&mut self, _: &str, _: &str, _: &[(&str, &str)], _: &Histogram) {}
}

fn figure(hub: &Hub, name: &str) -> i64 {
    let mut figures = Figures::default();
    hub.metrics().collect(&mut figures);
    figures.0[name]
}

fn hub_with(options: HubOptions, journal: Option<Arc<Journal>>) -> Hub {
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let (bus, events) = LocalBus::new(LocalBusOptions::default(), None, clock.clone());
    Hub::new(options, Arc::new(bus), events, journal.map(|j| j as _), clock)
}

fn hub() -> Hub {
    hub_with(HubOptions::default(), None)
}

fn spec(number: i64) -> SessionSpec {
    SessionSpec {
        key: format!("phone:{number}"),
        label: format!("demo-bot/{number}"),
        kind: "phone",
        device: Some(DeviceKey(number)),
        suspend_for: None,
        handed_over: Offset(0),
        retained: Vec::new(),
    }
}

fn reply(offset: u64) -> Delivery {
    let reply = PhoneReply {
        room: Arc::from("room"),
        channel_id: Arc::from("1"),
        body: ReplyBody::Text(offset.to_string().into()),
        scheduled: false,
    };
    let body = DeliveryBody::Phone(Arc::new(reply));
    Delivery { offset: Offset(offset), class: DeliveryClass::Reliable, body }
}

fn volatile() -> Delivery {
    Delivery { class: DeliveryClass::Volatile, offset: Offset(0), ..reply(0) }
}

fn deliver(hub: &Hub, session: SessionId, offsets: impl IntoIterator<Item = u64>) {
    for offset in offsets {
        assert_eq!(hub.deliver(session, reply(offset)), Delivered::Queued);
    }
}

fn take(attachment: &mut Attachment) -> Vec<u64> {
    let mut out = Vec::new();
    attachment.take(usize::MAX, usize::MAX, &mut out);
    out.iter().map(|delivery| delivery.offset.0).collect()
}

fn wake_now(attachment: &mut Attachment) -> Option<Wake> {
    attachment.wake().now_or_never()
}

#[test]
fn a_session_outlives_its_connections() {
    let hub = hub();
    let session = hub.open(spec(1));
    assert_eq!(hub.open(spec(1)), session);
    deliver(&hub, session, 1..=3);
    let mut first = hub.attach(session, "192.0.2.1:1").unwrap();
    assert_eq!(first.generation(), Generation(1));
    assert_eq!(take(&mut first), [1, 2, 3]);
    first.handed_over(Offset(2));
    first.end(CloseReason::ConnectionLost);
    deliver(&hub, session, [4]);
    let mut second = hub.attach(session, "192.0.2.1:2").unwrap();
    assert_eq!(second.generation(), Generation(2));
    assert_eq!(take(&mut second), [3, 4]);
}

#[test]
fn a_replaced_attachment_can_do_nothing_any_more() {
    let journal = Arc::new(Journal::default());
    let hub = hub_with(HubOptions::default(), Some(Arc::clone(&journal)));
    let session = hub.open(spec(1));
    deliver(&hub, session, 1..=3);
    let mut old = hub.attach(session, "old").unwrap();
    assert_eq!(take(&mut old), [1, 2, 3]);
    old.handing_over(Offset(3));
    old.handed_over(Offset(1));
    let mut new = hub.attach(session, "new").unwrap();
    assert_eq!(journal.take(), [(1, 3), (1, 1)]);
    assert_eq!(wake_now(&mut old), Some(Wake::Closed(CloseReason::Replaced)));
    deliver(&hub, session, [4]);
    assert_eq!(take(&mut old), []);
    old.handing_over(Offset(4));
    old.handed_over(Offset(3));
    old.retract();
    assert_eq!(take(&mut new), [2, 3, 4]);
    old.end(CloseReason::Replaced);
    assert_eq!(journal.take(), []);
    let view = hub.session(session).unwrap();
    assert!(view.is_attached());
    assert_eq!((view.handed_over, view.peer.as_deref()), (Offset(1), Some("new")));
    assert_eq!(figure(&hub, "hub_attachments_replaced"), 1);
}

#[test]
fn the_journal_says_what_is_announced_and_is_corrected_to_what_was_written() {
    let journal = Arc::new(Journal::default());
    let hub = hub_with(HubOptions::default(), Some(Arc::clone(&journal)));
    let session = hub.open(SessionSpec { handed_over: Offset(10), ..spec(7) });
    deliver(&hub, session, 11..=14);
    let mut attachment = hub.attach(session, "x").unwrap();
    take(&mut attachment);
    attachment.handing_over(Offset(13));
    attachment.handing_over(Offset(12));
    attachment.handed_over(Offset(12));
    assert_eq!(journal.take(), [(7, 13)]);
    attachment.retract();
    attachment.retract();
    assert_eq!(journal.take(), [(7, 12)]);
    // Written without a new announcement: the journal follows.
    attachment.handed_over(Offset(13));
    assert_eq!(journal.take(), [(7, 13)]);
    attachment.handing_over(Offset(14));
    drop(attachment);
    assert_eq!(journal.take(), [(7, 14), (7, 13)]);
    assert_eq!(figure(&hub, "hub_journal_corrections"), 2);
}

#[test]
fn what_is_left_of_an_earlier_life_comes_first() {
    let hub = hub();
    let retained = vec![reply(6), reply(7)];
    let session = hub.open(SessionSpec { handed_over: Offset(5), retained, ..spec(1) });
    assert_eq!(hub.session(session).unwrap().next_offset, Offset(8));
    deliver(&hub, session, [8]);
    let mut attachment = hub.attach(session, "x").unwrap();
    assert_eq!(wake_now(&mut attachment), Some(Wake::Deliveries));
    assert_eq!(take(&mut attachment), [6, 7, 8]);
}

#[test]
fn a_wake_up_is_said_once_for_each_time_something_comes() {
    let hub = hub();
    let session = hub.open(spec(1));
    let mut attachment = hub.attach(session, "x").unwrap();
    assert_eq!(wake_now(&mut attachment), None);
    deliver(&hub, session, 1..=2);
    assert_eq!(wake_now(&mut attachment), Some(Wake::Deliveries));
    // Left behind on purpose: nobody is woken for it again.
    assert_eq!(wake_now(&mut attachment), None);
    deliver(&hub, session, [3]);
    assert_eq!(take(&mut attachment), [1, 2, 3]);
    // Taken before the wake-up was looked at.
    assert_eq!(wake_now(&mut attachment), None);
}

#[tokio::test]
async fn a_waiting_task_is_woken_by_deliveries_pokes_and_the_end() {
    let hub = hub();
    let session = hub.open(spec(1));
    let mut attachment = hub.attach(session, "x").unwrap();
    let poker = attachment.poker();
    let mut tasks = tokio::task::JoinSet::new();
    let (sender, mut wakes) = tokio::sync::mpsc::channel(1);
    tasks.spawn(async move {
        loop {
            let wake = attachment.wake().await;
            sender.send(wake).await.unwrap();
            if let Wake::Closed(reason) = wake {
                return attachment.end(reason);
            }
        }
    });
    deliver(&hub, session, [1]);
    assert_eq!(wakes.recv().await, Some(Wake::Deliveries));
    assert!(poker.poke(1));
    assert_eq!(wakes.recv().await, Some(Wake::Poked(1)));
    assert!(poker.poke(2) && poker.poke(4));
    assert_eq!(wakes.recv().await, Some(Wake::Poked(6)));
    assert!(hub.close(session, CloseReason::Kicked));
    assert_eq!(wakes.recv().await, Some(Wake::Closed(CloseReason::Kicked)));
    assert!(tasks.join_next().await.unwrap().is_ok());
    assert!(!poker.poke(1) && poker.has_ended());
    assert!(!hub.close(session, CloseReason::Kicked));
    assert_eq!(figure(&hub, "hub_attachments_ended kicked"), 1);
    assert_eq!(hub.session(session).unwrap().state, SessionState::Suspended { until: None });
}

#[test]
fn nothing_volatile_waits_for_a_reader_who_is_away() {
    let hub = hub();
    let session = hub.open(spec(1));
    assert_eq!(hub.deliver(session, volatile()), Delivered::Dropped);
    let mut attachment = hub.attach(session, "x").unwrap();
    assert_eq!(hub.deliver(session, volatile()), Delivered::Queued);
    assert_eq!(take(&mut attachment), [0]);
}

#[test]
fn a_removed_session_is_gone_with_all_it_held() {
    let journal = Arc::new(Journal::default());
    let hub = hub_with(HubOptions::default(), Some(Arc::clone(&journal)));
    let session = hub.open(spec(1));
    deliver(&hub, session, 1..=2);
    let mut attachment = hub.attach(session, "x").unwrap();
    take(&mut attachment);
    attachment.handing_over(Offset(2));
    assert!(hub.remove(session, CloseReason::Kicked));
    assert!(!hub.remove(session, CloseReason::Kicked));
    assert_eq!(journal.take(), [(1, 2), (1, 0)]);
    assert_eq!(wake_now(&mut attachment), Some(Wake::Closed(CloseReason::Kicked)));
    attachment.handing_over(Offset(2));
    drop(attachment);
    assert_eq!(journal.take(), []);
    assert_eq!(hub.deliver(session, reply(3)), Delivered::NoSuchSession);
    assert_eq!(hub.attach(session, "x").err(), Some(AttachError::NoSuchSession));
    assert_ne!(hub.open(spec(1)), session);
    assert_eq!(figure(&hub, "hub_mailbox_bytes"), 0);
    assert_eq!(figure(&hub, "hub_sessions active"), 0);
    assert_eq!(figure(&hub, "hub_sessions suspended"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_session_ends_when_its_time_is_over_and_not_before() {
    let hub = hub();
    let stop = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn({
        let (hub, stop) = (hub.clone(), stop.clone());
        async move { hub.run(stop).await }
    });
    let minute = Some(Duration::from_secs(60));
    let brief = hub.open(SessionSpec { suspend_for: minute, ..spec(1) });
    let lasting = hub.open(spec(2));
    let later = hub.open(SessionSpec { suspend_for: Some(Duration::from_secs(90)), ..spec(3) });
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(hub.session(brief).is_some());
    // A connection came just in time, and its end begins a new minute.
    let attachment = hub.attach(brief, "x").unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(hub.session(brief).is_some() && hub.session(later).is_none());
    attachment.end(CloseReason::PeerClosed);
    assert_eq!(hub.session(brief).unwrap().ends_in, minute);
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(hub.session(brief).is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(hub.session(brief).is_none() && hub.session(lasting).is_some());
    // A short visit moves the end, although the timer still has the old one.
    let visited = hub.open(SessionSpec { suspend_for: minute, ..spec(4) });
    tokio::time::sleep(Duration::from_secs(30)).await;
    hub.attach(visited, "x").unwrap().end(CloseReason::PeerClosed);
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(hub.session(visited).is_some());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(hub.session(visited).is_none());
    assert_eq!(figure(&hub, "hub_session_changes expired"), 3);
    assert_eq!(figure(&hub, "hub_sessions suspended"), 1);
    stop.cancel();
    tasks.join_next().await;
}

#[test]
fn lists_page_by_number() {
    let hub = hub();
    let opened: Vec<SessionId> = (1..=100).map(|number| hub.open(spec(number))).collect();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = hub.sessions(after, 7);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        assert!(page.len() <= 7);
        listed.extend(page.iter().map(|view| view.id));
    }
    assert_eq!(listed, opened);
    let view = &hub.sessions(None, 1)[0];
    assert_eq!((&*view.key, &*view.label, view.kind), ("phone:1", "demo-bot/1", "phone"));
}

#[test]
fn isolation_of_a_reader_who_never_reads_from_all_others() {
    let mailbox = MailboxLimits { count_max: 100, ..MailboxLimits::default() };
    let hub = hub_with(HubOptions { mailbox, ..HubOptions::default() }, None);
    let (slow, quick) = (hub.open(spec(1)), hub.open(spec(2)));
    let mut idle = hub.attach(slow, "slow").unwrap();
    let mut reading = hub.attach(quick, "quick").unwrap();
    let mut read = Vec::new();
    for offset in 1..=10_000 {
        deliver(&hub, slow, [offset]);
        deliver(&hub, quick, [offset]);
        read.append(&mut take(&mut reading));
        reading.handed_over(Offset(offset));
    }
    assert_eq!(read, (1..=10_000).collect::<Vec<_>>());
    let view = hub.session(slow).unwrap();
    assert_eq!(view.queued, 100);
    let mut out = Vec::new();
    idle.take(usize::MAX, usize::MAX, &mut out);
    let DeliveryBody::Gap { from, to } = out[0].body else { panic!("expected a gap") };
    assert_eq!((from, to, out.len()), (Offset(1), Offset(9_900), 101));
    assert_eq!(figure(&hub, "hub_deliveries_dropped cut"), 9_900);
}

#[test]
fn bounds_of_an_idle_session_are_600_bytes() {
    use crate::registry::{Cell, Current};
    use crate::signal::Signal;
    let hub = hub();
    let session = hub.open(SessionSpec {
        label: "a-bot-with-a-name/0123456789abcdef".to_owned(),
        ..spec(123_456)
    });
    let mut attachment = hub.attach(session, "[2001:db8::1234:5678]:54321").unwrap();
    deliver(&hub, session, 1..=100);
    take(&mut attachment);
    attachment.handed_over(Offset(100));
    let cell = hub.inner.registry.get(session).unwrap();
    let counts = 2 * size_of::<usize>();
    let texts =
        cell.label.len() + cell.key.len() + cell.live.lock().current.as_ref().unwrap().peer.len();
    // Tables double, so they hold between 4/7 and 8/7 as many places as entries, 1.5 on average.
    let tables =
        (size_of::<(SessionId, Arc<Cell>)>() + size_of::<(Arc<str>, SessionId)>() + 2) * 3 / 2;
    let bytes = counts
        + size_of::<Cell>()
        + size_of::<Current>()
        + counts
        + size_of::<Signal>()
        + counts
        + texts
        + cell.live.lock().session.mailbox().heap_bytes()
        + tables;
    assert!(bytes <= 600, "{bytes} bytes");
}

#[test]
fn one_order_and_once_hold_while_threads_deliver_read_and_reconnect() {
    const COUNT: u64 = 20_000;
    let hub = hub_with(
        HubOptions {
            mailbox: MailboxLimits { count_max: 1 << 20, ..MailboxLimits::default() },
            ..HubOptions::default()
        },
        Some(Arc::new(Journal::default())),
    );
    let session = hub.open(spec(1));
    let mut read: Vec<u64> = Vec::new();
    std::thread::scope(|scope| {
        let sender = hub.clone();
        scope.spawn(move || deliver(&sender, session, 1..=COUNT));
        let mut round = 0;
        while read.len() < usize::try_from(COUNT).unwrap() {
            round += 1;
            let mut attachment = hub.attach(session, "x").unwrap();
            for step in 0..round % 50 {
                let mut out = Vec::new();
                attachment.take(64, usize::MAX, &mut out);
                // Every few rounds the connection dies with something in its hands.
                if step == 7 && round % 3 == 0 {
                    break;
                }
                if let Some(last) = out.last() {
                    attachment.handing_over(last.offset);
                    read.extend(out.iter().map(|delivery| delivery.offset.0));
                    attachment.handed_over(last.offset);
                }
            }
        }
    });
    assert_eq!(read, (1..=COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn publishing_through_the_hub_reaches_the_bus() {
    let hub = hub();
    let channel = naru_domain::ChannelName::parse("news").unwrap();
    let position = hub.publish(&channel, naru_domain::ports::Post::new("x")).await.unwrap();
    assert_eq!(position.offset, Offset(0));
}
