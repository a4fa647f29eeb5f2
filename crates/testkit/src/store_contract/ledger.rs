//! Promises of the ledger.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use naru_domain::ports::{ChatLog, Ledger, StoreError};
use naru_domain::work::{KeyedSend, LedgerBatch, MessageState, Settlement};
use naru_domain::{
    DeviceKey, Durability, MediaItem, MediaKind, MessageId, Offset, ReplyBody, Timestamp,
};

use super::{accept, message, ok, refused, reply, settle, settling};

/// All promises of [`Ledger::commit`] and [`Ledger::recover`].
pub async fn ledger<S: Ledger + ChatLog, F: Future<Output = S>>(open: impl Fn() -> F) {
    an_empty_store_recovers_nothing(open().await).await;
    every_field_of_a_message_comes_back(open().await).await;
    every_kind_of_reply_comes_back(open().await).await;
    a_known_log_id_is_left_out_and_named(open().await).await;
    a_log_id_twice_in_one_batch_is_kept_once(open().await).await;
    the_settlements_of_a_duplicate_are_left_out(open().await).await;
    the_same_log_id_of_another_device_is_no_duplicate(open().await).await;
    messages_without_log_id_are_never_duplicates(open().await).await;
    a_batch_that_is_tried_again_is_kept_once_and_is_no_duplicate(open().await).await;
    a_message_may_be_settled_in_its_own_batch(open().await).await;
    a_message_may_be_settled_later(open().await).await;
    a_message_may_be_answered_again_later(open().await).await;
    settled_messages_are_not_recovered(open().await).await;
    replies_that_answer_no_message_are_kept(open().await).await;
    delivered_replies_are_not_recovered(open().await).await;
    a_stream_never_goes_back(open().await).await;
    streams_remember_their_last_offset(open().await).await;
    large_batches_of_any_mix_are_kept_whole(open().await).await;
    every_durability_keeps(open().await).await;
    a_keyed_send_is_known_by_its_device_and_key(open().await).await;
    a_key_that_comes_again_keeps_its_first_result(open().await).await;
    a_keyed_send_is_kept_beside_everything_else(open().await).await;
}

async fn an_empty_store_recovers_nothing(store: impl Ledger) {
    let found = ok(store.recover().await);
    assert!(found.pending.is_empty() && found.undelivered.is_empty() && found.offsets.is_empty());
    assert_eq!(found.highest, None);
    let receipt = ok(store.commit(&LedgerBatch::default(), Durability::Disk).await);
    assert!(receipt.duplicates.is_empty());
}

async fn every_field_of_a_message_comes_back(store: impl Ledger + ChatLog) {
    let mut bare = message(2, 1, None);
    bare.room = None;
    bare.user_hash = None;
    bare.text = "".into();
    bare.channel_id = Arc::from("");
    let mut logged = message(3, 1, Some("9"));
    logged.state = MessageState::Logged;
    let mut dead = message(4, 1, Some("10"));
    dead.state = MessageState::Dead;
    dead.failure = "the handler gave up".into();
    let all = [message(1, 1, Some("8")), bare, logged, dead];
    ok(store.commit(&accept(all.to_vec()), Durability::Os).await);
    for expected in &all {
        assert_eq!(&ok(store.message(expected.id).await), expected);
    }
    let found = ok(store.recover().await);
    assert_eq!(found.pending, all[..2]);
    assert_eq!(found.highest, Some(MessageId(4)));
    refused(store.message(MessageId(5)).await, &StoreError::NotFound);
}

async fn every_kind_of_reply_comes_back(store: impl Ledger + ChatLog) {
    ok(store.commit(&accept(vec![message(1, 7, None)]), Durability::Os).await);
    let mut replies = vec![reply(7, 1, Some(1))];
    for (offset, kind) in (2u64..).zip(MediaKind::ALL) {
        let mut record = reply(7, offset, Some(1));
        let body = &mut Arc::make_mut(&mut record.reply).body;
        *body = ReplyBody::Media {
            kind,
            items: vec![
                MediaItem::Bytes(Bytes::from_static(b"\x00\x01\xfe\xff")),
                MediaItem::Link("https://example.invalid/a?b=c".into()),
                MediaItem::Bytes(Bytes::new()),
            ],
            wait: offset.is_multiple_of(2).then_some(Duration::from_millis(4_500)),
        };
        replies.push(record);
    }
    let batch = settling(vec![settle(Some(1), MessageState::Done, replies.clone())]);
    ok(store.commit(&batch, Durability::Os).await);
    assert_eq!(ok(store.replies(MessageId(1)).await), replies);
    assert_eq!(ok(store.recover().await).undelivered, replies);
    assert!(ok(store.replies(MessageId(2)).await).is_empty());
}

async fn a_known_log_id_is_left_out_and_named(store: impl Ledger + ChatLog) {
    ok(store.commit(&accept(vec![message(1, 1, Some("8"))]), Durability::Os).await);
    let batch = accept(vec![message(2, 1, Some("8")), message(3, 1, Some("9"))]);
    let receipt = ok(store.commit(&batch, Durability::Os).await);
    assert_eq!(receipt.duplicates, [MessageId(2)]);
    refused(store.message(MessageId(2)).await, &StoreError::NotFound);
    ok(store.message(MessageId(3)).await);
}

async fn a_log_id_twice_in_one_batch_is_kept_once(store: impl Ledger + ChatLog) {
    let batch = accept(vec![message(1, 1, Some("8")), message(2, 1, Some("8"))]);
    let receipt = ok(store.commit(&batch, Durability::Os).await);
    assert_eq!(receipt.duplicates, [MessageId(2)]);
    ok(store.message(MessageId(1)).await);
}

async fn the_settlements_of_a_duplicate_are_left_out(store: impl Ledger + ChatLog) {
    ok(store.commit(&accept(vec![message(1, 1, Some("8"))]), Durability::Os).await);
    let mut batch = accept(vec![message(2, 1, Some("8")), message(3, 1, Some("9"))]);
    batch.settle = vec![
        settle(Some(2), MessageState::Done, vec![reply(1, 1, Some(2))]),
        settle(Some(3), MessageState::Done, vec![reply(1, 2, Some(3))]),
    ];
    let receipt = ok(store.commit(&batch, Durability::Os).await);
    assert_eq!(receipt.duplicates, [MessageId(2)]);
    assert!(ok(store.replies(MessageId(2)).await).is_empty());
    let found = ok(store.recover().await);
    assert_eq!(found.undelivered, [reply(1, 2, Some(3))]);
    assert_eq!(found.pending, [message(1, 1, Some("8"))]);
}

async fn the_same_log_id_of_another_device_is_no_duplicate(store: impl Ledger) {
    let batch = accept(vec![message(1, 1, Some("8")), message(2, 2, Some("8"))]);
    assert!(ok(store.commit(&batch, Durability::Os).await).duplicates.is_empty());
    assert_eq!(ok(store.recover().await).pending.len(), 2);
}

async fn messages_without_log_id_are_never_duplicates(store: impl Ledger) {
    let batch = accept(vec![message(1, 1, None), message(2, 1, None)]);
    assert!(ok(store.commit(&batch, Durability::Os).await).duplicates.is_empty());
    assert_eq!(ok(store.recover().await).pending.len(), 2);
}

async fn a_batch_that_is_tried_again_is_kept_once_and_is_no_duplicate(
    store: impl Ledger + ChatLog,
) {
    let mut batch = accept(vec![message(1, 1, Some("8")), message(2, 1, None)]);
    batch.settle = vec![settle(Some(1), MessageState::Done, vec![reply(1, 1, Some(1))])];
    for _ in 0..2 {
        assert!(ok(store.commit(&batch, Durability::Os).await).duplicates.is_empty());
    }
    assert_eq!(ok(store.replies(MessageId(1)).await).len(), 1);
    assert_eq!(ok(store.recover().await).pending, [message(2, 1, None)]);
}

async fn a_message_may_be_settled_in_its_own_batch(store: impl Ledger + ChatLog) {
    let mut batch = accept(vec![message(1, 1, None), message(2, 1, None), message(3, 1, None)]);
    let mut dead = settle(Some(2), MessageState::Dead, Vec::new());
    dead.failure = "no".into();
    batch.settle = vec![
        settle(Some(1), MessageState::Done, vec![reply(1, 1, Some(1))]),
        dead,
        settle(Some(3), MessageState::Logged, Vec::new()),
    ];
    ok(store.commit(&batch, Durability::Os).await);
    assert_states(&store, &[MessageState::Done, MessageState::Dead, MessageState::Logged]).await;
    assert_eq!(&*ok(store.message(MessageId(2)).await).failure, "no");
}

async fn a_message_may_be_settled_later(store: impl Ledger + ChatLog) {
    let batch = accept((1..=3).map(|id| message(id, 1, None)).collect());
    ok(store.commit(&batch, Durability::Os).await);
    let mut dead = settle(Some(2), MessageState::Dead, Vec::new());
    dead.failure = "no".into();
    let batch = settling(vec![
        settle(Some(1), MessageState::Done, Vec::new()),
        dead,
        settle(Some(3), MessageState::Logged, Vec::new()),
    ]);
    ok(store.commit(&batch, Durability::Os).await);
    assert_states(&store, &[MessageState::Done, MessageState::Dead, MessageState::Logged]).await;
    assert_eq!(&*ok(store.message(MessageId(2)).await).failure, "no");
}

async fn assert_states(store: &impl ChatLog, expected: &[MessageState]) {
    for (id, state) in (1..).zip(expected) {
        assert_eq!(ok(store.message(MessageId(id)).await).state, *state, "message {id}");
    }
}

async fn a_message_may_be_answered_again_later(store: impl Ledger + ChatLog) {
    ok(store.commit(&accept(vec![message(1, 1, None)]), Durability::Os).await);
    for offset in 1..=3 {
        let replies = vec![reply(1, offset, Some(1))];
        let batch = settling(vec![settle(Some(1), MessageState::Done, replies)]);
        ok(store.commit(&batch, Durability::Os).await);
    }
    let offsets = ok(store.replies(MessageId(1)).await).into_iter().map(|r| r.offset.0);
    assert_eq!(offsets.collect::<Vec<_>>(), [1, 2, 3]);
}

async fn settled_messages_are_not_recovered(store: impl Ledger) {
    let batch = accept((1..=5).map(|id| message(id, id % 2, None)).collect());
    ok(store.commit(&batch, Durability::Os).await);
    let done = [2, 4].map(|id| settle(Some(id), MessageState::Done, Vec::new()));
    ok(store.commit(&settling(done.to_vec()), Durability::Os).await);
    for _ in 0..2 {
        let pending = ok(store.recover().await).pending;
        assert_eq!(pending.iter().map(|m| m.id.0).collect::<Vec<_>>(), [1, 3, 5]);
    }
}

async fn replies_that_answer_no_message_are_kept(store: impl Ledger) {
    let replies = vec![reply(3, 1, None), reply(3, 2, None)];
    let batch = settling(vec![settle(None, MessageState::Done, replies.clone())]);
    ok(store.commit(&batch, Durability::Os).await);
    assert_eq!(ok(store.recover().await).undelivered, replies);
}

async fn delivered_replies_are_not_recovered(store: impl Ledger) {
    let replies = vec![reply(2, 1, None), reply(1, 1, None), reply(1, 2, None), reply(1, 3, None)];
    let batch = settling(vec![settle(None, MessageState::Done, replies)]);
    ok(store.commit(&batch, Durability::Os).await);
    let delivered = LedgerBatch {
        delivered: vec![(DeviceKey(1), Offset(1)), (DeviceKey(1), Offset(2))],
        ..LedgerBatch::default()
    };
    ok(store.commit(&delivered, Durability::Os).await);
    for _ in 0..2 {
        let undelivered = ok(store.recover().await).undelivered;
        assert_eq!(undelivered, [reply(1, 3, None), reply(2, 1, None)]);
    }
}

async fn a_stream_never_goes_back(store: impl Ledger) {
    let replies = vec![reply(1, 1, None), reply(1, 2, None)];
    let mut batch = settling(vec![settle(None, MessageState::Done, replies)]);
    batch.delivered = vec![(DeviceKey(1), Offset(2)), (DeviceKey(1), Offset(1))];
    ok(store.commit(&batch, Durability::Os).await);
    let back = LedgerBatch { delivered: vec![(DeviceKey(1), Offset(1))], ..LedgerBatch::default() };
    ok(store.commit(&back, Durability::Os).await);
    assert!(ok(store.recover().await).undelivered.is_empty());
}

async fn streams_remember_their_last_offset(store: impl Ledger) {
    let replies = vec![reply(1, 1, None), reply(1, 2, None), reply(5, 40, None)];
    let mut batch = settling(vec![settle(None, MessageState::Done, replies)]);
    batch.delivered = vec![(DeviceKey(1), Offset(2)), (DeviceKey(6), Offset(9))];
    ok(store.commit(&batch, Durability::Os).await);
    for _ in 0..2 {
        let expected = [(1, 2), (5, 40), (6, 9)].map(|(key, at)| (DeviceKey(key), Offset(at)));
        assert_eq!(ok(store.recover().await).offsets, expected);
    }
}

async fn large_batches_of_any_mix_are_kept_whole(store: impl Ledger + ChatLog) {
    let counts = [1, 2, 3, 33, 100, 256, 257, 700];
    let (mut id, mut offset) = (0, 0);
    for count in counts {
        let first = id + 1;
        let batch = accept(
            (0..count).map(|n| message(first + n, 1, Some(&format!("{n}/{first}")))).collect(),
        );
        ok(store.commit(&batch, Durability::Os).await);
        id += count;
        let settled = (first..=id).map(|id| {
            offset += 1;
            settle(Some(id), MessageState::Done, vec![reply(1, offset, Some(id))])
        });
        let mut batch = settling(settled.collect());
        batch.delivered = (0..count).map(|n| (DeviceKey(1_000 + n), Offset(1))).collect();
        ok(store.commit(&batch, Durability::Os).await);
    }
    let found = ok(store.recover().await);
    assert!(found.pending.is_empty());
    assert_eq!(found.undelivered.len(), usize::try_from(id).unwrap_or(0));
    let in_order = found.undelivered.iter().zip(1u64..).all(|(reply, n)| reply.offset.0 == n);
    assert!(in_order);
    assert_eq!(found.offsets.len(), 701);
    assert_eq!(ok(store.replies(MessageId(id)).await).len(), 1);
}

async fn every_durability_keeps(store: impl Ledger) {
    let all = [Durability::Memory, Durability::Disk, Durability::Os, Durability::Disk];
    for (id, durability) in (1..).zip(all) {
        ok(store.commit(&accept(vec![message(id, 1, None)]), durability).await);
    }
    assert_eq!(ok(store.recover().await).pending.len(), 4);
}

/// A send of `count` replies from offset `first` on.
fn keyed(device: i64, key: &str, first: u64, count: u32) -> Settlement {
    let replies = (first..).take(count as usize).map(|offset| reply(device, offset, None));
    let mut settlement = settle(None, MessageState::Done, replies.collect());
    settlement.keyed = Some(KeyedSend {
        device: DeviceKey(device),
        key: key.into(),
        first: Offset(first),
        count,
        at: Timestamp(1_700_000_000_000),
    });
    settlement
}

async fn a_keyed_send_is_known_by_its_device_and_key(store: impl Ledger) {
    assert_eq!(ok(store.keyed_send(DeviceKey(1), "열쇠").await), None);
    let sends = vec![keyed(1, "열쇠", 1, 3), keyed(1, "other", 4, 1), keyed(2, "열쇠", 1, 1)];
    ok(store.commit(&settling(sends.clone()), Durability::Os).await);
    for send in sends {
        let send = ok(send.keyed.ok_or("a keyed send"));
        assert_eq!(ok(store.keyed_send(send.device, &send.key).await), Some(send));
    }
    let found = ok(store.keyed_send(DeviceKey(1), "열쇠").await);
    let offsets = found.map(|send| send.offsets()).unwrap_or_default();
    assert_eq!(offsets, [Offset(1), Offset(2), Offset(3)]);
    for (device, key) in [(1, "OTHER"), (1, ""), (2, "other"), (3, "열쇠")] {
        assert_eq!(ok(store.keyed_send(DeviceKey(device), key).await), None, "{device} {key}");
    }
}

async fn a_key_that_comes_again_keeps_its_first_result(store: impl Ledger) {
    let first = keyed(1, "k", 1, 2);
    ok(store.commit(&settling(vec![first.clone()]), Durability::Os).await);
    ok(store.commit(&settling(vec![keyed(1, "k", 3, 1)]), Durability::Os).await);
    assert_eq!(ok(store.keyed_send(DeviceKey(1), "k").await), first.keyed);
}

async fn a_keyed_send_is_kept_beside_everything_else(store: impl Ledger) {
    let mut batch = accept(vec![message(1, 1, Some("8")), message(2, 1, Some("9"))]);
    let mut without_replies = keyed(2, "k", 9, 1);
    without_replies.replies.clear();
    batch.settle = vec![keyed(1, "k", 1, 2), settle(Some(1), MessageState::Done, Vec::new())];
    batch.settle.push(without_replies.clone());
    for _ in 0..2 {
        // The second time everything of it is known already.
        batch.delivered.push((DeviceKey(1), Offset(2)));
        ok(store.commit(&batch, Durability::Os).await);
        assert_eq!(ok(store.keyed_send(DeviceKey(1), "k").await), batch.settle[0].keyed);
        assert_eq!(ok(store.keyed_send(DeviceKey(2), "k").await), without_replies.keyed);
        assert_eq!(ok(store.recover().await).pending, [message(2, 1, Some("9"))]);
    }
    let only = LedgerBatch { settle: vec![without_replies], ..LedgerBatch::default() };
    ok(store.commit(&only, Durability::Os).await);
}

/// All promises of [`Ledger::revive`].
pub async fn revive<S: Ledger + ChatLog, F: Future<Output = S>>(open: impl Fn() -> F) {
    let store = open().await;
    let mut dead = message(1, 1, Some("8"));
    dead.state = MessageState::Dead;
    dead.failure = "no".into();
    // A much newer message: the dead one is far below whatever the store looks at when it starts.
    let newer = message(1 << 40, 1, Some("9"));
    ok(store.commit(&accept(vec![dead.clone(), newer.clone()]), Durability::Os).await);
    let done = settle(Some(newer.id.0), MessageState::Done, Vec::new());
    ok(store.commit(&settling(vec![done]), Durability::Os).await);
    assert!(ok(store.recover().await).pending.is_empty());

    refused(store.revive(newer.id).await, &StoreError::NotFound);
    refused(store.revive(MessageId(77)).await, &StoreError::NotFound);
    let revived = ok(store.revive(dead.id).await);
    assert_eq!(revived, message(1, 1, Some("8")));
    refused(store.revive(dead.id).await, &StoreError::NotFound);
    assert_eq!(ok(store.recover().await).pending, [revived]);
}
