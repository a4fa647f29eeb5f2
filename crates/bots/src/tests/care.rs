//! What runs beside the messages, and what comes from the configuration.

use naru_domain::Approval;
use naru_domain::ports::{BotSettings, Devices, PurgeKind, Rooms, StoreError};
use naru_domain::{DeviceKey, RoomKey};
use naru_outbound::CallLimits;

use super::*;
use crate::Retention;
use crate::hook::HookBounds;
use crate::services::tidy_memory;
use crate::settings::Settings;

#[tokio::test(start_paused = true)]
async fn old_rows_are_removed_in_steps_whatever_happens_to_one_round() {
    let hour = Duration::from_secs(3_600);
    let retention = Retention {
        days: vec![(PurgeKind::Pings, 1), (PurgeKind::Messages, 1)],
        every: hour,
        batch: 2,
        pause: Duration::from_millis(50),
    };
    let rig = Rig::new(BotsOptions { retention, ..options(Processing::Queued) }, None).await;
    let line = rig.line("a").await;
    for i in 0..6 {
        let mut message = chat(1, i, "# echo x");
        if i != 3 {
            message.received_at = Timestamp(message.received_at.0 - 86_400_001);
        }
        say(&line, message).await;
    }
    rig.settled().await;
    rig.store.fault(|faults| faults.purge_panics = true);
    tokio::time::sleep(hour + Duration::from_secs(10)).await;
    assert_eq!((rig.figure("bots_task_panics"), rig.store.messages().len()), (1, 6));
    let busy = StoreError::Busy { reason: "locked".to_owned() };
    rig.store.fault(|faults| faults.purge = Some(busy.clone()));
    tokio::time::sleep(hour).await;
    let purged = |kind: PurgeKind| rig.figure(&format!("bots_purged/{}", kind.label()));
    assert_eq!(purged(PurgeKind::Messages), 5, "the trouble of one kind is not that of another");
    assert_eq!(rig.store.messages().len(), 1, "young ones stay");
    tokio::time::sleep(hour).await;
    assert_eq!((purged(PurgeKind::Messages), rig.store.messages().len()), (5, 1));
    assert_eq!(rig.figure("bots_task_panics"), 1);
}

#[tokio::test(start_paused = true)]
async fn caches_are_cut_when_memory_is_short_and_more_so_when_it_is_very_short() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let core = rig.bots.core();
    let talk = async |device: &str| {
        let line = rig.line(device).await;
        for i in 0..10 {
            say(&line, chat(1, i, "talk")).await;
        }
        rig.settled().await;
    };
    let sizes = |used: u64| {
        tidy_memory(core, used, 100);
        let figures = ["bots_devices", "bots_rooms", "bots_known_ids", "bots_memory_sheds"];
        figures.map(|name| rig.figure(name))
    };
    talk("old").await;
    tokio::time::sleep(Duration::from_secs(400)).await;
    talk("new").await;
    assert_eq!(sizes(79), [2, 2, 20, 0]);
    assert_eq!(sizes(80), [1, 1, 20, 1], "only what nobody used for five minutes goes");
    assert_eq!(sizes(90), [0, 0, 0, 2], "whatever nobody holds goes, and the ids");
    talk("old").await;
    assert_eq!(rig.store.messages().len(), 20, "the store knows the ids that were forgotten");
    let found = ["memory", "store"].map(|of| rig.figure(&format!("bots_messages_duplicate/{of}")));
    assert_eq!(found.iter().sum::<u64>(), 10);
}

#[tokio::test]
async fn a_reload_takes_up_what_was_changed_in_the_database() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    let mut log_id = 0;
    let mut answers = async |room: u32| {
        log_id += 1;
        let before = rig.sessions.texts(key(&line)).len();
        say(&line, chat(room, log_id, "# echo hi")).await;
        rig.settled().await;
        rig.sessions.texts(key(&line)).len() - before
    };
    assert_eq!((answers(1).await, answers(2).await), (1, 1));
    rig.store.set_room_approval(RoomKey(1), Approval::Denied, "", None).await.unwrap();
    assert_eq!(answers(1).await, 1, "nobody told");
    let report = rig.bots.reload().await.unwrap();
    assert_eq!((report.bots, report.devices, report.rooms), (1, 1, 2));
    assert_eq!((answers(1).await, answers(2).await), (0, 1));

    let bot = BotName::parse("demo-bot").unwrap();
    let off = r#"{"commands":{"disabled":["echo"]}}"#;
    rig.store.set_bot_settings(&bot, off, 1).await.unwrap();
    rig.bots.reload().await.unwrap();
    assert_eq!(answers(2).await, 0, "settings hold");
    rig.store.set_bot_settings(&bot, "spoilt", 2).await.unwrap();
    rig.bots.reload().await.unwrap();
    assert_eq!(answers(2).await, 1, "settings that cannot be used are the defaults");

    rig.store.set_device_approval(DeviceKey(1), Approval::Revoked, "", None).await.unwrap();
    rig.bots.reload().await.unwrap();
    assert!(!line.is_approved());
    assert_eq!(answers(2).await, 0);
}

#[tokio::test]
async fn webhooks_keep_to_the_installation_where_their_settings_name_nothing() {
    // Whoever is first installs it; a second time is an error that says nothing.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let second = Duration::from_secs(1);
    let bounds = HookBounds {
        call: CallLimits {
            connect_timeout: second,
            total_timeout: 2 * second,
            body_bytes_max: 77,
            ..CallLimits::default()
        },
        attempts_max: 7,
        in_flight_max: 8,
    };
    let options = BotsOptions { hook_bounds: bounds, ..options(Processing::Queued) };
    let rig = Rig::new(options, None).await;
    let bot = BotName::parse("demo-bot").unwrap();
    let made = |more: &str| {
        let document =
            format!(r#"{{"webhook":{{"url":"https://bot.example/","secret":"hush"{more}}}}}"#);
        let settings = Settings::parse(&document).unwrap();
        let core = rig.bots.core();
        let webhook = crate::router::webhook_of(core, &bot, &settings, None).unwrap().unwrap();
        let made = webhook.options();
        HookBounds {
            call: made.call,
            attempts_max: made.retry.attempts_max,
            in_flight_max: made.in_flight_max,
        }
    };
    assert_eq!(made(""), bounds);
    let own = r#","timeout_ms":3000,"attempts_max":1,"in_flight_max":2"#;
    let call = CallLimits { total_timeout: 3 * second, ..bounds.call };
    assert_eq!(made(own), HookBounds { call, attempts_max: 1, in_flight_max: 2 });
}
