//! A bot whose handlers hang harms only itself.

use super::*;

/// How long 20 rooms of a healthy bot take for 400 messages beside `hanging` bots with a long queue each.
async fn time_beside(processing: Processing, hanging: u64) -> Duration {
    let options = BotsOptions { workers: 31, ..options(processing) };
    let rig = Rig::new(options, Some(Arc::new(Obedient::default()))).await;
    for bot in 0..hanging {
        let line = rig.line_of(&format!("bot-{bot}"), "a").await;
        for i in 0..60 {
            say(&line, chat(u32::try_from(i % 20).unwrap(), i, "hang")).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let in_work = usize::try_from(hanging).unwrap() * 30;
    let queue = rig.bots.queue();
    assert_eq!((queue.in_work, queue.parked, queue.waiting), (in_work, in_work, in_work));
    assert!(queue.workers.iter().all(|worker| worker.message.is_none()), "all are free");

    let line = rig.line_of("healthy", "a").await;
    let started = tokio::time::Instant::now();
    for i in 0..400 {
        let room = u32::try_from(i % 20).unwrap();
        say(&line, chat(room, i, &format!("slow 5 {i}"))).await;
    }
    rig.sessions.heard(key(&line), 400).await;
    let taken = started.elapsed();
    for room in 0..20 {
        let of_room = format!("room {room}");
        let said = rig.sessions.said(key(&line)).into_iter().filter(|(name, _)| *name == of_room);
        let numbers: Vec<u32> = said.map(|(_, text)| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers.len() == 20, "{numbers:?}");
    }

    tokio::time::sleep(Duration::from_secs(601)).await;
    rig.settled().await;
    assert_eq!(rig.figure("bots_messages_dead/timed_out"), hanging * 60);
    assert_eq!(rig.figure("bots_messages_ended/done"), 400);
    assert_eq!(rig.figure("bots_messages_accepted"), 400 + hanging * 60);
    assert_eq!(rig.figure("bots_stage_seconds/work"), 400 + hanging * 60);
    for gauge in ["bots_queue_parked", "bots_queue_in_work", "bots_workers_busy"] {
        assert_eq!(rig.figure(gauge), 0, "{gauge}");
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn five_bots_that_hang_do_not_slow_down_a_sixth() {
    for processing in [Processing::Queued, Processing::Direct] {
        let alone = time_beside(processing, 0).await;
        let beside_five = time_beside(processing, 5).await;
        let slack = Duration::from_millis(5);
        assert!(beside_five <= alone + slack, "{beside_five:?}, alone {alone:?}, {processing:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_off_what_waits_and_leaves_it_pending() {
    let mut rig = Rig::new(options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "hang")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.bots.queue().parked, 1);
    assert!(!rig.drain().await);
    assert_eq!(rig.bots.queue().parked, 0, "its task has ended");
    assert_eq!(rig.in_state(MessageState::Pending), 1);
}
