//! Promises about devices, rooms and bots.

use naru_domain::phone::Approval;
use naru_domain::ports::{BotSettings, Devices, Rooms, StoreError};
use naru_domain::{DeviceKey, RoomKey, Timestamp};

use super::{bot, hello, ok, page, refused};

/// All promises of [`Devices`].
pub async fn devices<S: Devices, F: Future<Output = S>>(open: impl Fn() -> F) {
    a_device_is_created_once_and_refreshed(open().await).await;
    approval_is_guarded_by_the_revision(open().await).await;
    devices_are_listed_by_key_and_narrowed(open().await).await;
    a_frame_limit_is_set_and_removed(open().await).await;
}

async fn a_device_is_created_once_and_refreshed(store: impl Devices) {
    let first = ok(store.greet(&hello("demo", "a"), Approval::Pending, Timestamp(5)).await);
    assert_eq!((first.created_at, first.seen_at), (Timestamp(5), Timestamp(5)));
    assert_eq!((first.approval, first.revision), (Approval::Pending, 1));
    assert!(first.key.0 >= 1, "slots of the delivery journal are numbered by it");
    assert_eq!((first.peer_ip.as_str(), first.device_ip.as_str()), ("192.0.2.1", "10.0.0.7"));

    let mut again = hello("demo", "a");
    again.version = "3.3.3".to_owned();
    again.peer = std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
    let second = ok(store.greet(&again, Approval::Approved, Timestamp(9)).await);
    assert_eq!(second.key, first.key);
    assert_eq!((second.created_at, second.seen_at), (Timestamp(5), Timestamp(9)));
    assert_eq!((second.version.as_str(), second.peer_ip.as_str()), ("3.3.3", "::1"));
    // The approval stays what it was, and greeting is no operator's change.
    assert_eq!((second.approval, second.revision), (Approval::Pending, 1));
    assert_eq!(ok(store.device(first.key).await), second);

    let other = ok(store.greet(&hello("other", "a"), Approval::Approved, Timestamp(9)).await);
    assert_ne!(other.key, first.key);
    assert_eq!(other.approval, Approval::Approved);
    refused(store.device(DeviceKey(999)).await, &StoreError::NotFound);
}

async fn approval_is_guarded_by_the_revision(store: impl Devices) {
    let key = ok(store.greet(&hello("demo", "a"), Approval::Pending, Timestamp(5)).await).key;
    let set = |approval, revision| store.set_device_approval(key, approval, "why", revision);
    let approved = ok(set(Approval::Approved, Some(1)).await);
    assert_eq!((approved.approval, approved.revision), (Approval::Approved, 2));
    assert_eq!(approved.approval_note, "why");
    refused(set(Approval::Blocked, Some(1)).await, &StoreError::Conflict);
    assert_eq!(ok(store.device(key).await), approved);
    let mut expected_revision = 2;
    for approval in Approval::ALL {
        expected_revision += 1;
        let changed = ok(set(approval, None).await);
        assert_eq!((changed.approval, changed.revision), (approval, expected_revision));
    }
    let missing = store.set_device_approval(DeviceKey(99), Approval::Denied, "", None).await;
    refused(missing, &StoreError::NotFound);
    let missing = store.set_device_approval(DeviceKey(99), Approval::Denied, "", Some(1)).await;
    refused(missing, &StoreError::NotFound);
}

async fn devices_are_listed_by_key_and_narrowed(store: impl Devices) {
    let mut keys = Vec::new();
    for n in 0..5 {
        let hello = hello(if n % 2 == 0 { "even" } else { "odd" }, &n.to_string());
        let initial = if n < 2 { Approval::Approved } else { Approval::Pending };
        keys.push(ok(store.greet(&hello, initial, Timestamp(n)).await).key);
    }
    let first = ok(store.devices(None, None, page(None, 3)).await);
    let rest = ok(store.devices(None, None, page(Some(first[2].key.0), 3)).await);
    let listed: Vec<DeviceKey> = first.iter().chain(&rest).map(|device| device.key).collect();
    assert_eq!(listed, keys);
    let odd = ok(store.devices(Some(&bot("odd")), None, page(None, 9)).await);
    assert_eq!(odd.iter().map(|device| device.key).collect::<Vec<_>>(), [keys[1], keys[3]]);
    let both = (Some(&bot("odd")), Some(Approval::Approved));
    let both = ok(store.devices(both.0, both.1, page(None, 9)).await);
    assert_eq!(both.iter().map(|device| device.key).collect::<Vec<_>>(), [keys[1]]);
}

async fn a_frame_limit_is_set_and_removed(store: impl Devices) {
    let key = ok(store.greet(&hello("demo", "a"), Approval::Pending, Timestamp(5)).await).key;
    for limit in [Some(4096), Some(u32::MAX), None] {
        assert_eq!(ok(store.set_device_frame_limit(key, limit).await).frame_bytes_max, limit);
    }
    assert_eq!(ok(store.device(key).await).revision, 4);
    let missing = store.set_device_frame_limit(DeviceKey(99), None).await;
    refused(missing, &StoreError::NotFound);
}

/// All promises of [`Rooms`].
pub async fn rooms<S: Rooms + Devices, F: Future<Output = S>>(open: impl Fn() -> F) {
    let store = open().await;
    let greet = |bot: &str| {
        let hello = hello(bot, "a");
        let store = &store;
        async move { ok(store.greet(&hello, Approval::Approved, Timestamp(1)).await).key }
    };
    let (one, two) = (greet("one").await, greet("two").await);
    let find = |device, channel: &'static str, name: &'static str| {
        let initial = Approval::Pending;
        let store = &store;
        async move { ok(store.find_or_create_room(device, channel, name, initial, Timestamp(7)).await) }
    };
    let first = find(one, "180", "방").await;
    assert_eq!((&*first.channel_id, &*first.name, first.device), ("180", "방", one));
    assert_eq!(
        (first.approval, first.created_at, first.revision),
        (Approval::Pending, Timestamp(7), 1)
    );
    assert_eq!(find(one, "180", "방").await, first);
    let renamed = find(one, "180", "new").await;
    assert_eq!((renamed.key, &*renamed.name, renamed.revision), (first.key, "new", 1));
    assert_eq!(ok(store.room(first.key).await), renamed);
    let elsewhere = find(two, "180", "방").await;
    assert_ne!(elsewhere.key, first.key);
    refused(store.room(RoomKey(99)).await, &StoreError::NotFound);

    let approved = ok(store.set_room_approval(first.key, Approval::Approved, "ok", Some(1)).await);
    assert_eq!((approved.approval, approved.revision), (Approval::Approved, 2));
    let stale = store.set_room_approval(first.key, Approval::Blocked, "", Some(1)).await;
    refused(stale, &StoreError::Conflict);
    let missing = store.set_room_approval(RoomKey(99), Approval::Blocked, "", None).await;
    refused(missing, &StoreError::NotFound);
    // The approval outlives a new name.
    assert_eq!(find(one, "180", "newer").await.approval, Approval::Approved);

    let keys = |rooms: Vec<naru_domain::work::RoomRecord>| {
        rooms.into_iter().map(|room| room.key).collect::<Vec<_>>()
    };
    let all = ok(store.rooms(None, None, None, page(None, 9)).await);
    assert_eq!(keys(all), [first.key, elsewhere.key]);
    let after = ok(store.rooms(None, None, None, page(Some(first.key.0), 9)).await);
    assert_eq!(keys(after), [elsewhere.key]);
    let of_bot = ok(store.rooms(Some(&bot("two")), None, None, page(None, 9)).await);
    assert_eq!(keys(of_bot), [elsewhere.key]);
    let of_device = ok(store.rooms(None, Some(one), None, page(None, 9)).await);
    assert_eq!(keys(of_device), [first.key]);
    let pending = ok(store.rooms(None, None, Some(Approval::Pending), page(None, 9)).await);
    assert_eq!(keys(pending), [elsewhere.key]);
}

/// All promises of [`BotSettings`].
pub async fn bot_settings<S: BotSettings, F: Future<Output = S>>(open: impl Fn() -> F) {
    let store = open().await;
    let created = ok(store.bot_settings(&bot("b"), "{\"a\":1}", Timestamp(1)).await);
    assert_eq!(created, ("{\"a\":1}".to_owned(), 1));
    let again = ok(store.bot_settings(&bot("b"), "{}", Timestamp(2)).await);
    assert_eq!(again, created);
    assert_eq!(ok(store.set_bot_settings(&bot("b"), "{\"a\":2}", 1).await), 2);
    refused(store.set_bot_settings(&bot("b"), "{}", 1).await, &StoreError::Conflict);
    refused(store.set_bot_settings(&bot("no"), "{}", 1).await, &StoreError::NotFound);
    let changed = ("{\"a\":2}".to_owned(), 2);
    assert_eq!(ok(store.bot_settings(&bot("b"), "{}", Timestamp(3)).await), changed);
    ok(store.bot_settings(&bot("a"), "{}", Timestamp(3)).await);
    let names = |bots: Vec<(String, String, i64)>| {
        bots.into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(ok(store.bots(None, 10).await)), ["a", "b"]);
    assert_eq!(names(ok(store.bots(None, 1).await)), ["a"]);
    assert_eq!(names(ok(store.bots(Some("a"), 10).await)), ["b"]);
}
