//! The ordinary way of a message, duplicates, approval, operators.

use naru_domain::phone::KeepAlive;
use naru_domain::{Approval, MediaItem, MediaKind, Offset, ReplyBody, RoomKey};

use super::*;
use crate::{SendError, SendRequest, SetSettingsError};

#[tokio::test]
async fn an_echo_is_answered_in_both_modes() {
    for processing in [Processing::Queued, Processing::Direct] {
        let mut rig = Rig::new(options(processing), None).await;
        let line = rig.line("a").await;
        say(&line, chat(1, 1, "# echo hi")).await;
        say(&line, chat(1, 2, "only talk")).await;
        rig.settled().await;
        let said = rig.sessions.said(key(&line));
        assert_eq!(said, [("room 1".to_owned(), "에코: hi".to_owned())], "{processing:?}");
        assert_eq!(rig.figure("bots_messages_immediate"), 2);
        if processing == Processing::Queued {
            assert_eq!(rig.store.state_of("# echo hi"), Some(MessageState::Done));
            assert_eq!(rig.store.state_of("only talk"), Some(MessageState::Logged));
        } else {
            assert_eq!(rig.store.messages().len(), 0);
        }
        assert!(rig.drain().await);
    }
}

#[tokio::test]
async fn direct_mode_keeps_a_log_if_asked_to() {
    let options = BotsOptions { direct_log: true, ..options(Processing::Direct) };
    let mut rig = Rig::new(options, Some(Arc::new(Obedient::default()))).await;
    let line = rig.line("a").await;
    for (i, text) in ["now hi", "yield ho", "nobody"].into_iter().enumerate() {
        say(&line, chat(1, u64::try_from(i).unwrap(), text)).await;
    }
    rig.settled().await;
    assert_eq!(rig.sessions.texts(key(&line)), ["hi", "ho"]);
    assert!(rig.drain().await);
    assert_eq!((rig.in_state(MessageState::Done), rig.in_state(MessageState::Logged)), (2, 1));
}

#[tokio::test]
async fn a_message_heard_before_is_taken_once() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    for _ in 0..3 {
        say(&line, chat(1, 7, "# echo hi")).await;
    }
    say(&rig.line("b").await, chat(1, 7, "# echo hi")).await;
    rig.settled().await;
    assert_eq!(rig.sessions.texts(key(&line)).len(), 1);
    assert_eq!(rig.figure("bots_messages_duplicate/memory"), 2);
    assert_eq!(rig.store.messages().len(), 2, "another phone may use the same id");
}

#[tokio::test]
async fn the_store_finds_duplicates_that_the_memory_forgot() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    say(&rig.line("a").await, chat(1, 7, "# echo hi")).await;
    rig.settled().await;
    let store = rig.crash().await;
    let rig = Rig::over(store, options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 7, "# echo hi")).await;
    say(&line, chat(1, 8, "# IMGEXT x")).await;
    say(&line, chat(1, 7, "# echo hi")).await;
    rig.settled().await;
    assert_eq!(rig.figure("bots_messages_duplicate/store"), 1);
    assert_eq!(rig.figure("bots_messages_duplicate/memory"), 1);
    // The first reply was not known to have left, so the start sends it again; nothing is answered twice.
    assert_eq!(rig.sessions.texts(key(&line)), ["에코: hi", "<1 items>"]);
    assert_eq!(rig.figure("bots_messages_ended/done"), 1);
}

#[tokio::test(start_paused = true)]
async fn id_less_copies_are_merged_whichever_comes_first() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "# echo one")).await;
    rig.settled().await;
    say(&line, bare("room 1", "# echo one")).await;
    say(&line, bare("room 1", "# echo two")).await;
    say(&line, chat(1, 2, "# echo two")).await;
    say(&line, bare("room 1", "alone")).await;
    rig.settled().await;
    assert_eq!(rig.sessions.texts(key(&line)), ["에코: one", "에코: two"]);
    assert_eq!(rig.figure("bots_messages_copies"), 2);
    assert_eq!(rig.store.state_of("alone"), None, "held for its complete copy");
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.settled().await;
    assert_eq!(rig.store.state_of("alone"), Some(MessageState::Logged), "logged, never answered");
}

#[tokio::test]
async fn messages_without_a_channel_id_are_answered_if_settings_say_so() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    let bot = BotName::parse("demo-bot").unwrap();
    let document = r#"{"reply_without_channel_id":true}"#;
    assert_eq!(rig.bots.set_settings(&bot, document, 1).await, Ok(2));
    say(&line, bare("room 1", "# echo hi")).await;
    say(&line, chat(1, 1, "# echo hi")).await;
    rig.settled().await;
    assert_eq!(rig.sessions.texts(key(&line)), ["에코: hi"], "its complete copy is dropped");
    assert_eq!(rig.figure("bots_messages_copies"), 1);
}

#[tokio::test]
async fn approval_acts_at_once() {
    for processing in [Processing::Queued, Processing::Direct] {
        let manual = BotsOptions {
            approve_devices: FirstContact::Manual,
            approve_rooms: FirstContact::Manual,
            ..options(processing)
        };
        let rig = Rig::new(manual, None).await;
        let line = rig.line("a").await;
        let device = key(&line);
        let mut log_id = 0;
        let mut answers = async |expected: usize, when: &str| {
            log_id += 1;
            say(&line, chat(1, log_id, "# echo hi")).await;
            rig.settled().await;
            assert_eq!(rig.sessions.texts(device).len(), expected, "{when}");
        };
        answers(0, "nothing is approved").await;
        assert!(!line.is_approved());
        rig.bots.set_device_approval(device, Approval::Approved, "", Some(1)).await.unwrap();
        assert!(line.is_approved());
        answers(0, "the room is not approved").await;
        rig.bots.set_room_approval(RoomKey(1), Approval::Approved, "", None).await.unwrap();
        answers(1, "both are approved").await;
        rig.bots.set_room_approval(RoomKey(1), Approval::Blocked, "", None).await.unwrap();
        answers(1, "the room is blocked").await;
        rig.bots.set_room_approval(RoomKey(1), Approval::Approved, "", None).await.unwrap();
        rig.bots.set_device_approval(device, Approval::Revoked, "", None).await.unwrap();
        answers(1, "the device is revoked").await;
        let stale = rig.bots.set_device_approval(device, Approval::Approved, "", Some(1)).await;
        assert_eq!(stale, Err(naru_domain::ports::StoreError::Conflict));
    }
}

#[tokio::test(start_paused = true)]
async fn approval_withdrawn_during_work_withholds_the_reply() {
    let rig = Rig::new(options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "slow 1000 hi")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.bots.set_device_approval(key(&line), Approval::Denied, "", None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.settled().await;
    assert_eq!(rig.sessions.texts(key(&line)).len(), 0);
    assert_eq!(rig.figure("bots_replies_withheld"), 1);
    assert_eq!(rig.store.state_of("slow 1000 hi"), Some(MessageState::Logged));
}

#[tokio::test]
async fn a_phone_that_cannot_tell_its_id_is_never_approved() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("unknown").await;
    assert!(!line.is_approved());
    rig.bots.set_device_approval(key(&line), Approval::Approved, "", None).await.unwrap();
    assert!(!line.is_approved());
    say(&line, chat(1, 1, "# echo hi")).await;
    rig.settled().await;
    assert_eq!(rig.store.state_of("# echo hi"), Some(MessageState::Logged));
}

#[tokio::test]
async fn frame_limits_and_keep_alives_reach_their_places() {
    let mut rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    assert_eq!(line.frame_bytes_max(), None);
    rig.bots.set_device_frame_limit(key(&line), Some(2_000_000)).await.unwrap();
    assert_eq!(line.frame_bytes_max(), Some(2_000_000));
    tokio::time::pause();
    line.keep_alive(KeepAlive {
        sent_at: Some(Timestamp(1_767_225_599_000)),
        ..KeepAlive::default()
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.store.pings(), 1);
    assert!(rig.drain().await);
}

#[tokio::test]
async fn operators_send_and_answer_later_once_per_key() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "talk")).await;
    rig.settled().await;
    let request = SendRequest {
        device: key(&line),
        channel_id: "1001".to_owned(),
        room: "room 1".to_owned(),
        body: ReplyBody::Text("notice".into()),
        idempotency_key: Some("k1".to_owned()),
    };
    assert_eq!(rig.bots.send(request.clone()).await, Ok(vec![Offset(1)]));
    assert_eq!(rig.bots.send(request.clone()).await, Ok(vec![Offset(1)]), "the first result");
    let other = SendRequest { idempotency_key: None, ..request.clone() };
    assert_eq!(rig.bots.send(other).await, Ok(vec![Offset(2)]));
    let message = rig.store.messages()[0].id;
    let later = vec![ReplyBody::Text("later".into())];
    assert_eq!(rig.bots.reply_later(message, later.clone(), None).await, Ok(vec![Offset(3)]));
    assert_eq!(rig.sessions.texts(key(&line)), ["notice", "notice", "later"]);

    let picture = ReplyBody::Media {
        kind: MediaKind::Image,
        items: vec![MediaItem::Link("http://192.0.2.7/x.png".into())],
        wait: None,
    };
    let without_id = SendRequest {
        channel_id: String::new(),
        body: picture,
        idempotency_key: None,
        ..request.clone()
    };
    assert!(matches!(rig.bots.send(without_id).await, Err(SendError::Invalid { .. })));
    rig.bots.set_room_approval(RoomKey(1), Approval::Denied, "", None).await.unwrap();
    let refused = SendRequest { idempotency_key: None, ..request.clone() };
    assert_eq!(rig.bots.send(refused).await, Err(SendError::NotApproved { what: "room" }));
    let nobody = SendRequest { device: naru_domain::DeviceKey(99), ..request };
    assert_eq!(rig.bots.send(nobody).await, Err(SendError::NotFound { what: "device" }));
    let unknown = rig.bots.reply_later(naru_domain::MessageId(5), later, None).await;
    assert_eq!(unknown, Err(SendError::NotFound { what: "message" }));
}

#[tokio::test]
async fn a_keyed_send_is_made_once_across_restarts_in_both_modes() {
    for processing in [Processing::Queued, Processing::Direct] {
        let rig = Rig::new(options(processing), None).await;
        let line = rig.line("a").await;
        let request = |text: &str| SendRequest {
            device: key(&line),
            channel_id: "1001".to_owned(),
            room: "room 1".to_owned(),
            body: ReplyBody::Text(text.into()),
            idempotency_key: Some("k1".to_owned()),
        };
        let (first, second) =
            tokio::join!(rig.bots.send(request("a")), rig.bots.send(request("b")));
        assert_eq!((&first, &second), (&Ok(vec![Offset(1)]), &first), "{processing:?}");
        assert_eq!(rig.sessions.texts(key(&line)), ["a"], "{processing:?}");

        let rig = Rig::over(rig.crash().await, options(processing), None).await;
        assert_eq!(rig.bots.send(request("c")).await, first, "{processing:?}");
        rig.settled().await;
        let other = SendRequest { idempotency_key: Some("k2".to_owned()), ..request("d") };
        assert!(rig.bots.send(other).await.is_ok());
        let sent = rig.sessions.texts(key(&line));
        assert_eq!(sent.last().map(String::as_str), Some("d"), "{processing:?}");
        assert!(!sent.iter().any(|text| text == "c"), "{processing:?}: {sent:?}");
    }
}

#[tokio::test]
async fn settings_are_made_at_first_contact_and_act_at_once() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    let bot = BotName::parse("demo-bot").unwrap();
    let (document, revision) = rig.bots.settings(&bot).await.unwrap();
    assert_eq!(document, crate::settings::Settings::default().document());
    let off = r#"{"commands":{"disabled":["echo"]},"chat_log":{"enabled":false}}"#;
    assert_eq!(rig.bots.set_settings(&bot, off, revision).await, Ok(revision + 1));
    let stale = rig.bots.set_settings(&bot, off, revision).await;
    assert!(matches!(stale, Err(SetSettingsError::Store(_))));
    let wrong = rig.bots.set_settings(&bot, r#"{"adminz":[]}"#, revision + 1).await;
    assert!(matches!(wrong, Err(SetSettingsError::Document(_))));
    say(&line, chat(1, 1, "# echo hi")).await;
    rig.settled().await;
    assert_eq!((rig.sessions.texts(key(&line)).len(), rig.store.messages().len()), (0, 0));
    assert_eq!(rig.figure("bots_messages_unlogged"), 1);
}

#[tokio::test(start_paused = true)]
async fn several_replies_are_paced_and_later_ones_wait_behind_them() {
    for processing in [Processing::Queued, Processing::Direct] {
        let rig = Rig::new(options(processing), None).await;
        let line = rig.line("a").await;
        let bot = BotName::parse("demo-bot").unwrap();
        rig.bots.set_settings(&bot, r#"{"replies":{"pause_ms":1000}}"#, 1).await.unwrap();
        say(&line, chat(1, 1, "# echo --repeat=3 x")).await;
        say(&line, chat(2, 2, "# echo y")).await;
        rig.settled().await;
        let texts = |count: usize| {
            let all = ["[1/3] 에코: x", "[2/3] 에코: x", "[3/3] 에코: x", "에코: y"];
            assert_eq!(rig.sessions.texts(key(&line)), all[..count], "{processing:?}");
        };
        texts(1);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        texts(2);
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        texts(4);
    }
}

#[tokio::test(start_paused = true)]
async fn positions_are_kept_and_idle_phones_leave_the_memory() {
    let short = BotsOptions { idle_max: Duration::from_secs(60), ..options(Processing::Queued) };
    let rig = Rig::new(short, None).await;
    let line = rig.line("a").await;
    let device = key(&line);
    say(&line, chat(1, 1, "# echo hi")).await;
    rig.settled().await;
    rig.sessions.connect(device);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.store.delivered(device), Offset(1));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.sessions.count(), 1, "its line is held");
    rig.sessions.disconnect(device);
    drop(line);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.sessions.count(), 0);
    let line = rig.line("a").await;
    say(&line, chat(1, 2, "# echo ho")).await;
    rig.settled().await;
    assert_eq!(rig.sessions.texts(device), ["에코: ho"], "its stream goes on where it was");
}
