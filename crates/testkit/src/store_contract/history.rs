//! Promises about the kept history of channels.

use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::History;
use naru_domain::{
    ChannelName, Durability, Epoch, Offset, PartyInfo, Position, Publication, PublicationMeta,
    Timestamp, Version,
};

use super::ok;

/// All promises of [`History`].
pub async fn history<S: History, F: Future<Output = S>>(open: impl Fn() -> F) {
    publications_come_back_in_order(open().await).await;
    the_top_outlives_trimming(open().await).await;
    what_is_forgotten_goes_with_what_is_kept(open().await).await;
    channels_begin_with_the_same_epoch_for_ever(open().await).await;
    a_new_epoch_forgets_the_old_one(open().await).await;
    the_same_publication_twice_is_kept_once(open().await).await;
}

fn publication(epoch: u64, offset: u64) -> Arc<Publication> {
    Arc::new(Publication {
        position: Position { epoch: Epoch(epoch), offset: Offset(offset) },
        data: Bytes::from(format!("\u{0}body {epoch}/{offset}")),
        meta: offset.is_multiple_of(3).then(|| Arc::new(meta(offset))),
        at: Timestamp(1_000 + i64::try_from(offset).unwrap_or(0)),
        key: offset.is_multiple_of(2).then(|| Arc::from(format!("key {offset}"))),
    })
}

fn meta(offset: u64) -> PublicationMeta {
    let publisher = PartyInfo {
        user: Arc::from(format!("user {offset}")),
        client: Arc::from("c1"),
        conn_info: Bytes::from_static(b"{\"n\":1}"),
        chan_info: Bytes::from_static(&[0, 255]),
    };
    let publisher = offset.is_multiple_of(2).then_some(publisher);
    let tags = vec![("content-type".into(), "text/plain".into()), ("b".into(), "".into())];
    let version = Version { number: offset, epoch: "e".into() };
    let version = offset.is_multiple_of(2).then_some(version);
    PublicationMeta { publisher, tags, is_delta: offset.is_multiple_of(2), version }
}

fn channel(name: &str) -> ChannelName {
    ok(ChannelName::parse(name))
}

async fn append(store: &impl History, name: &str, epoch: u64, offsets: impl Iterator<Item = u64>) {
    let publications: Vec<(ChannelName, Arc<Publication>)> =
        offsets.map(|offset| (channel(name), publication(epoch, offset))).collect();
    ok(store.append(&publications, &[], Durability::Disk).await);
}

async fn publications_come_back_in_order(store: impl History) {
    // The highest epoch has all bits set: it must not come back as another one.
    let epoch = u64::MAX;
    assert_eq!(ok(store.load(&channel("chat:a"), Offset(0), 9).await), None);
    ok(store.append(&[], &[], Durability::Os).await);
    let mixed: Vec<_> = (1..=150)
        .flat_map(|offset| {
            ["chat:a", "chat:b"].map(|name| (channel(name), publication(epoch, offset)))
        })
        .collect();
    ok(store.append(&mixed, &[], Durability::Os).await);
    for name in ["chat:a", "chat:b"] {
        let all = ok(store.load(&channel(name), Offset(0), 1_000).await);
        let expected = (1..=150).map(|offset| publication(epoch, offset)).collect();
        assert_eq!(all, Some((Epoch(epoch), Offset(150), expected)));
    }
    let some = ok(store.load(&channel("chat:a"), Offset(3), 2).await);
    let expected = vec![publication(epoch, 4), publication(epoch, 5)];
    assert_eq!(some, Some((Epoch(epoch), Offset(150), expected)));
    let top = ok(store.load(&channel("chat:a"), Offset(0), 0).await);
    assert_eq!(top, Some((Epoch(epoch), Offset(150), Vec::new())));
}

async fn the_top_outlives_trimming(store: impl History) {
    append(&store, "a", 1, 1..=5).await;
    ok(store.trim(&channel("a"), Offset(3)).await);
    let kept = ok(store.load(&channel("a"), Offset(0), 9).await);
    let expected = vec![publication(1, 4), publication(1, 5)];
    assert_eq!(kept, Some((Epoch(1), Offset(5), expected)));
    ok(store.trim(&channel("a"), Offset(5)).await);
    ok(store.trim(&channel("never"), Offset(5)).await);
    let kept = ok(store.load(&channel("a"), Offset(0), 9).await);
    assert_eq!(kept, Some((Epoch(1), Offset(5), Vec::new())));
}

async fn what_is_forgotten_goes_with_what_is_kept(store: impl History) {
    append(&store, "a", 1, 1..=5).await;
    append(&store, "b", 1, 1..=5).await;
    let next = [(channel("a"), publication(1, 6))];
    let forget = ["a", "b", "never"].map(|name| (channel(name), Offset(4)));
    ok(store.append(&next, &forget, Durability::Os).await);
    let kept = ok(store.load(&channel("a"), Offset(0), 9).await);
    let expected = vec![publication(1, 5), publication(1, 6)];
    assert_eq!(kept, Some((Epoch(1), Offset(6), expected)));
    let other = ok(store.load(&channel("b"), Offset(0), 9).await);
    assert_eq!(other, Some((Epoch(1), Offset(5), vec![publication(1, 5)])));
}

async fn channels_begin_with_the_same_epoch_for_ever(store: impl History) {
    assert_eq!(ok(store.first_epoch(Epoch(u64::MAX)).await), Epoch(u64::MAX));
    assert_eq!(ok(store.first_epoch(Epoch(7)).await), Epoch(u64::MAX));
}

async fn a_new_epoch_forgets_the_old_one(store: impl History) {
    append(&store, "a", 1, 1..=5).await;
    append(&store, "a", 2, 1..=1).await;
    let kept = ok(store.load(&channel("a"), Offset(0), 9).await);
    assert_eq!(kept, Some((Epoch(2), Offset(1), vec![publication(2, 1)])));
}

async fn the_same_publication_twice_is_kept_once(store: impl History) {
    append(&store, "a", 1, 1..=2).await;
    append(&store, "a", 1, 1..=3).await;
    let kept = ok(store.load(&channel("a"), Offset(0), 9).await);
    let expected = (1..=3).map(|offset| publication(1, offset)).collect();
    assert_eq!(kept, Some((Epoch(1), Offset(3), expected)));
}
