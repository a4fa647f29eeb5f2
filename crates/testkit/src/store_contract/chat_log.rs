//! Promises of the chat log.

use naru_domain::phone::Approval;
use naru_domain::ports::{ChatLog, Devices, Ledger};
use naru_domain::work::{MessageFilter, MessageRecord, MessageState};
use naru_domain::{DeviceKey, Durability, RoomKey, Timestamp};

use super::{accept, bot, hello, message, ok, page};

/// All promises of [`ChatLog`].
pub async fn chat_log<S: Ledger + ChatLog + Devices, F: Future<Output = S>>(open: impl Fn() -> F) {
    pages_follow_each_other_newest_first(open().await).await;
    every_filter_narrows(open().await).await;
    a_search_finds_text_without_case_and_takes_no_wildcards(open().await).await;
    recent_log_ids_are_the_newest_since_then(open().await).await;
}

async fn ids(store: &impl ChatLog, filter: MessageFilter) -> Vec<i64> {
    let found = ok(store.messages(&filter, page(None, 100)).await);
    found.iter().map(|message| message.id.0).collect()
}

async fn pages_follow_each_other_newest_first(store: impl Ledger + ChatLog) {
    let batch = accept((1..=7).map(|id| message(id, 1, None)).collect());
    ok(store.commit(&batch, Durability::Os).await);
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let found = ok(store.messages(&MessageFilter::default(), page(after, 3)).await);
        let Some(last) = found.last() else { break };
        assert!(found.len() <= 3);
        after = Some(last.id.0);
        seen.extend(found.iter().map(|message| message.id.0));
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
}

async fn every_filter_narrows(store: impl Ledger + ChatLog + Devices) {
    let now = Timestamp(1);
    let one = ok(store.greet(&hello("one", "a"), Approval::Pending, now).await).key;
    let two = ok(store.greet(&hello("two", "a"), Approval::Pending, now).await).key;
    let mut messages: Vec<MessageRecord> = vec![message(1, one.0, None), message(2, two.0, None)];
    messages.push(MessageRecord { state: MessageState::Dead, ..message(3, one.0, None) });
    messages.push(MessageRecord { room: None, ..message(4, one.0, None) });
    messages.push(MessageRecord { state: MessageState::Logged, ..message(5, two.0, None) });
    let times = (messages[1].received_at, messages[3].received_at);
    ok(store.commit(&accept(messages), Durability::Os).await);

    let all = MessageFilter::default;
    assert_eq!(ids(&store, MessageFilter { bot: Some(bot("two")), ..all() }).await, [5, 2]);
    assert_eq!(ids(&store, MessageFilter { bot: Some(bot("no")), ..all() }).await, [0i64; 0]);
    assert_eq!(ids(&store, MessageFilter { device: Some(one), ..all() }).await, [4, 3, 1]);
    let room = Some(RoomKey(one.0 * 10));
    assert_eq!(ids(&store, MessageFilter { room, ..all() }).await, [3, 1]);
    for (state, expected) in [
        (MessageState::Pending, vec![4, 2, 1]),
        (MessageState::Dead, vec![3]),
        (MessageState::Logged, vec![5]),
        (MessageState::Done, vec![]),
    ] {
        assert_eq!(ids(&store, MessageFilter { state: Some(state), ..all() }).await, expected);
    }
    let from = Some(times.0);
    assert_eq!(ids(&store, MessageFilter { from, ..all() }).await, [5, 4, 3, 2]);
    let until = Some(times.1);
    assert_eq!(ids(&store, MessageFilter { from, until, ..all() }).await, [3, 2]);
    let state = Some(MessageState::Pending);
    let both = MessageFilter { device: Some(one), state, search: Some("TEXT".into()), ..all() };
    assert_eq!(ids(&store, both).await, [4, 1]);
}

async fn a_search_finds_text_without_case_and_takes_no_wildcards(store: impl Ledger + ChatLog) {
    let texts =
        ["Hello World", "100% _sure_", "안녕하세요", "\\ ' \" ; DROP TABLE messages", "hell"];
    let messages = (1..).zip(texts).map(|(id, text)| {
        let mut message = message(id, 1, None);
        message.text = text.into();
        message
    });
    ok(store.commit(&accept(messages.collect()), Durability::Os).await);
    for (search, expected) in [
        ("hello w", vec![1]),
        ("HELL", vec![5, 1]),
        ("0%", vec![2]),
        ("%s", vec![0; 0]),
        ("_sure", vec![2]),
        ("녕하", vec![3]),
        ("' \" ;", vec![4]),
        ("nothing", vec![]),
    ] {
        let filter = MessageFilter { search: Some(search.into()), ..MessageFilter::default() };
        assert_eq!(ids(&store, filter).await, expected, "{search}");
    }
}

async fn recent_log_ids_are_the_newest_since_then(store: impl Ledger + ChatLog) {
    let messages = vec![
        message(1, 1, Some("old")),
        message(2, 1, None),
        message(3, 1, Some("b")),
        message(4, 2, Some("c")),
    ];
    let since = messages[1].received_at;
    ok(store.commit(&accept(messages), Durability::Os).await);
    let mut found = ok(store.recent_log_ids(since, 100).await);
    found.sort();
    assert_eq!(found, [(DeviceKey(1), "b".into()), (DeviceKey(2), "c".into())]);
    let newest = ok(store.recent_log_ids(Timestamp(0), 1).await);
    assert_eq!(newest, [(DeviceKey(2), "c".into())]);
}
