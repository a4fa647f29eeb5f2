//! Promises about retention.

use naru_domain::ports::{ChatLog, Ledger, Maintenance, Monitors, PurgeKind, Schedules};
use naru_domain::work::{
    KeyedSend, LedgerBatch, MessageFilter, MessageState, PingSample, ScheduleRun, SystemSample,
};
use naru_domain::{DeviceKey, Durability, MessageId, Offset, ScheduleId, Timestamp};

use super::{accept, message, ok, page, reply, settle, settling};

/// All promises of [`Maintenance`].
pub async fn maintenance<S, F: Future<Output = S>>(open: impl Fn() -> F)
where
    S: Maintenance + Ledger + ChatLog + Monitors + Schedules,
{
    the_probe_writes_and_reads(open().await).await;
    purging_messages_spares_pending_dead_and_young_ones(open().await).await;
    purging_replies_spares_undelivered_ones(open().await).await;
    offsets_outlive_their_replies(open().await).await;
    figures_are_purged_by_age(open().await).await;
    keys_of_sends_are_purged_by_age_and_may_be_used_again(open().await).await;
}

async fn the_probe_writes_and_reads(store: impl Maintenance) {
    ok(store.probe().await);
    ok(store.probe().await);
}

async fn purging_messages_spares_pending_dead_and_young_ones(
    store: impl Maintenance + Ledger + ChatLog,
) {
    let states = [
        MessageState::Done,
        MessageState::Pending,
        MessageState::Dead,
        MessageState::Logged,
        MessageState::Done,
        MessageState::Done,
    ];
    let messages = (1..).zip(states).map(|(id, state)| {
        let mut message = message(id, 1, None);
        message.state = state;
        message.received_at = Timestamp(id);
        message
    });
    ok(store.commit(&accept(messages.collect()), Durability::Os).await);
    assert_eq!(ok(store.purge(PurgeKind::Messages, Timestamp(6), 2).await), 2);
    assert_eq!(ok(store.purge(PurgeKind::Messages, Timestamp(6), 2).await), 1);
    assert_eq!(ok(store.purge(PurgeKind::Messages, Timestamp(6), 2).await), 0);
    let left = ok(store.messages(&MessageFilter::default(), page(None, 9)).await);
    assert_eq!(left.iter().map(|message| message.id.0).collect::<Vec<_>>(), [6, 3, 2]);
    assert_eq!(ok(store.purge(PurgeKind::DeadLetters, Timestamp(3), 9).await), 0);
    assert_eq!(ok(store.purge(PurgeKind::DeadLetters, Timestamp(4), 9).await), 1);
    assert_eq!(ok(store.purge(PurgeKind::DeadLetters, Timestamp(4), 0).await), 0);
    assert_eq!(ok(store.recover().await).pending.len(), 1);
}

async fn purging_replies_spares_undelivered_ones(store: impl Maintenance + Ledger + ChatLog) {
    let replies =
        vec![reply(1, 1, Some(1)), reply(2, 1, None), reply(1, 2, Some(1)), reply(1, 3, Some(1))];
    let mut batch = accept(vec![message(1, 1, None)]);
    batch.settle = vec![settle(Some(1), MessageState::Done, replies)];
    batch.delivered = vec![(DeviceKey(1), Offset(2))];
    ok(store.commit(&batch, Durability::Os).await);
    let before = Timestamp(i64::MAX);
    assert_eq!(ok(store.purge(PurgeKind::Replies, before, 9).await), 2);
    assert_eq!(ok(store.purge(PurgeKind::Replies, before, 9).await), 0);
    assert_eq!(ok(store.replies(MessageId(1)).await), [reply(1, 3, Some(1))]);
    assert_eq!(ok(store.recover().await).undelivered.len(), 2);
}

async fn offsets_outlive_their_replies(store: impl Maintenance + Ledger) {
    for offset in 1..=3 {
        let replies = vec![reply(1, offset, None)];
        let mut batch = settling(vec![settle(None, MessageState::Done, replies)]);
        batch.delivered = vec![(DeviceKey(1), Offset(offset))];
        ok(store.commit(&batch, Durability::Os).await);
    }
    ok(store.recover().await);
    ok(store.purge(PurgeKind::Replies, Timestamp(i64::MAX), 9).await);
    assert_eq!(ok(store.recover().await).offsets, [(DeviceKey(1), Offset(3))]);
    // What comes after a purge is found by the next start.
    let next = LedgerBatch {
        settle: vec![settle(None, MessageState::Done, vec![reply(1, 4, None)])],
        ..LedgerBatch::default()
    };
    ok(store.commit(&next, Durability::Os).await);
    assert_eq!(ok(store.recover().await).undelivered, [reply(1, 4, None)]);
}

async fn figures_are_purged_by_age(store: impl Maintenance + Monitors + Schedules) {
    for at in [1, 2, 3].map(Timestamp) {
        let figures = naru_domain::phone::KeepAlive::default();
        let ping = PingSample { device: DeviceKey(1), at, round_trip_ms: None, figures };
        ok(store.add_pings(&[ping]).await);
        ok(store.add_system_sample(&SystemSample { at, ..SystemSample::default() }).await);
        let run = ScheduleRun {
            id: 0,
            schedule: ScheduleId(1),
            due_at: at,
            ran_at: at,
            outcome: "sent".to_owned(),
            note: String::new(),
        };
        ok(store.log_schedule_run(&run).await);
    }
    for kind in [PurgeKind::Pings, PurgeKind::SystemSamples, PurgeKind::ScheduleRuns] {
        assert_eq!(ok(store.purge(kind, Timestamp(3), 1).await), 1, "{}", kind.label());
        assert_eq!(ok(store.purge(kind, Timestamp(3), 9).await), 1, "{}", kind.label());
        assert_eq!(ok(store.purge(kind, Timestamp(3), 9).await), 0, "{}", kind.label());
    }
    assert_eq!(ok(store.pings(DeviceKey(1), Timestamp(0), 9).await).len(), 1);
    assert_eq!(ok(store.system_samples(Timestamp(0), 9).await).len(), 1);
    assert_eq!(ok(store.schedule_runs(ScheduleId(1), page(None, 9)).await).len(), 1);
}

async fn keys_of_sends_are_purged_by_age_and_may_be_used_again(store: impl Maintenance + Ledger) {
    let send = |key: &str, at: i64| {
        let mut settlement = settle(None, MessageState::Done, Vec::new());
        settlement.keyed = Some(KeyedSend {
            device: DeviceKey(1),
            key: key.into(),
            first: Offset(1),
            count: 1,
            at: Timestamp(at),
        });
        settlement
    };
    let sends = vec![send("a", 1), send("b", 2), send("c", 3)];
    ok(store.commit(&settling(sends), Durability::Os).await);
    assert_eq!(ok(store.purge(PurgeKind::SendKeys, Timestamp(3), 1).await), 1);
    assert_eq!(ok(store.purge(PurgeKind::SendKeys, Timestamp(3), 9).await), 1);
    assert_eq!(ok(store.purge(PurgeKind::SendKeys, Timestamp(3), 9).await), 0);
    assert_eq!(ok(store.keyed_send(DeviceKey(1), "a").await), None);
    assert!(ok(store.keyed_send(DeviceKey(1), "c").await).is_some());
    let again = send("a", 9);
    ok(store.commit(&settling(vec![again.clone()]), Durability::Os).await);
    assert_eq!(ok(store.keyed_send(DeviceKey(1), "a").await), again.keyed);
}
