//! Order per room and bounds, under load.

use proptest::prelude::*;

use super::*;
use crate::SchedulerLimits;

/// Messages of several phones and rooms with handlers of all speeds; every room hears its answers in the
/// order of its questions.
async fn check_order(processing: Processing, plan: Vec<(u8, u8, u8)>) {
    let rig = Rig::new(options(processing), Some(Arc::new(Obedient::default()))).await;
    let mut lines = Vec::new();
    for device in ["a", "b", "c"] {
        lines.push(rig.line(device).await);
    }
    let mut expected: std::collections::HashMap<(usize, String), Vec<String>> = Default::default();
    for (i, (phone, room, speed)) in plan.iter().enumerate() {
        let phone = usize::from(phone % 3);
        let verb = ["now", "yield", "slow 3", "slow 15", "again"][usize::from(speed % 5)];
        say(
            &lines[phone],
            chat(u32::from(room % 3), u64::try_from(i).unwrap(), &format!("{verb} {i}")),
        )
        .await;
        expected.entry((phone, format!("room {}", room % 3))).or_default().push(i.to_string());
    }
    rig.settled().await;
    for ((phone, room), texts) in expected {
        let said = rig.sessions.said(key(&lines[phone]));
        let heard: Vec<String> =
            said.into_iter().filter(|(of, _)| *of == room).map(|(_, text)| text).collect();
        assert_eq!(heard, texts, "phone {phone}, {room}, {processing:?}");
    }
    assert_eq!(rig.bots.queue().waiting + rig.bots.queue().in_work, 0, "no permit leaks");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_room_hears_its_answers_in_the_order_of_its_questions(
        plan in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..120),
        is_direct in any::<bool>(),
    ) {
        let processing = if is_direct { Processing::Direct } else { Processing::Queued };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(check_order(processing, plan));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_order_holds_with_real_threads() {
    let plan: Vec<_> = (0..1_500_u32)
        .map(|i| {
            let byte = |n: u32| u8::try_from(n % 251).unwrap();
            (byte(i * 7), byte(i * 13 / 3), byte(i * 31 / 7))
        })
        .collect();
    check_order(Processing::Queued, plan.clone()).await;
    check_order(Processing::Direct, plan).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_keeps_the_bounds_and_every_message_is_accounted_for() {
    for processing in [Processing::Queued, Processing::Direct] {
        let bounds = SchedulerLimits { queue: 100, per_bot: 3, per_room: 2, ..Default::default() };
        let options = BotsOptions { limits: bounds, ..options(processing) };
        let rig = Rig::new(options, Some(Arc::new(Obedient::default()))).await;
        let line = rig.line("a").await;
        let total = 2_000;
        let mut deepest = 0;
        for i in 0..total {
            say(&line, chat(u32::try_from(i % 20).unwrap(), i, &format!("slow 5 {i}"))).await;
            let queue = rig.bots.queue();
            deepest = deepest.max(queue.waiting);
            assert!(queue.in_work <= 3, "{queue:?}");
            assert!(queue.waiting <= 100, "{queue:?}");
        }
        rig.settled().await;
        assert!(deepest > 90, "the flood filled the queue: {deepest}, {processing:?}");
        assert!(rig.figure("bots_messages_pushed_back") > 0);
        assert_eq!(rig.figure("bots_messages_received"), total);
        assert_eq!(rig.figure("bots_messages_accepted"), total);
        assert_eq!(rig.figure("bots_messages_ended/done"), total);
        assert_eq!(rig.sessions.texts(key(&line)).len(), usize::try_from(total).unwrap());
        assert_eq!(rig.figure("bots_stage_seconds/work"), total);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_wait_in_order_for_their_room_without_holding_other_phones() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let (slow, quick) = (rig.line("a").await, rig.line("b").await);
    say(&slow, chat(1, 1, "# echo 1")).await;
    say(&quick, chat(1, 1, "# echo q1")).await;
    rig.settled().await;
    rig.store.fault(|faults| faults.rooms = true);
    say(&slow, chat(2, 2, "# echo 2")).await;
    say(&slow, chat(1, 3, "# echo 3")).await;
    say(&quick, chat(1, 2, "# echo q2")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.sessions.texts(key(&slow)), ["에코: 1"]);
    assert_eq!(rig.sessions.texts(key(&quick)), ["에코: q1", "에코: q2"]);
    rig.store.fault(|faults| faults.rooms = false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    rig.settled().await;
    assert_eq!(rig.sessions.texts(key(&slow)), ["에코: 1", "에코: 2", "에코: 3"]);
}
