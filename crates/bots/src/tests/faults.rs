//! Panics, stuck handlers, stores in trouble, restarts.

use naru_domain::ports::StoreError;

use super::*;

#[tokio::test(start_paused = true)]
async fn handlers_that_fail_cost_one_message_each() {
    for processing in [Processing::Queued, Processing::Direct] {
        let rig = Rig::new(options(processing), Some(Arc::new(Obedient::default()))).await;
        let line = rig.line("a").await;
        let texts =
            ["panic", "panic now", "fail", "hang", "again ok", "never", "silent", "now end"];
        for (i, text) in texts.into_iter().enumerate() {
            say(&line, chat(1, u64::try_from(i).unwrap(), text)).await;
        }
        tokio::time::sleep(Duration::from_secs(301)).await;
        rig.settled().await;
        assert_eq!(rig.sessions.texts(key(&line)), ["ok", "end"], "{processing:?}");
        for (cause, expected) in [("panicked", 2), ("failed", 2), ("timed_out", 1), ("stuck", 0)] {
            let name = format!("bots_messages_dead/{cause}");
            assert_eq!(rig.figure(&name), expected, "{cause}, {processing:?}");
        }
        assert_eq!(rig.figure("bots_handler_retries"), 3);
        if processing == Processing::Queued {
            let failure = |text: &str| {
                let messages = rig.store.messages();
                let found = messages.iter().find(|message| &*message.text == text).unwrap();
                (found.state, found.failure.to_string())
            };
            let dead = |reason: &str| (MessageState::Dead, reason.to_owned());
            assert_eq!(failure("panic"), dead("the handler panicked"));
            assert_eq!(failure("hang"), dead("timed out after 300 s"));
            assert_eq!(failure("fail"), dead("as asked"));
            assert_eq!(failure("silent").0, MessageState::Done);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_whose_handler_blocks_is_replaced_and_its_late_answer_discarded() {
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let handler = Obedient { blocker: Some(Arc::clone(&barrier)), ..Obedient::default() };
    let options = BotsOptions {
        workers: 1,
        check_every: Duration::from_millis(50),
        ..options(Processing::Queued)
    };
    let rig = Rig::new(options, Some(Arc::new(handler))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "block")).await;
    say(&line, chat(1, 2, "yield next")).await;
    rig.settled().await;
    assert_eq!(rig.store.state_of("block"), Some(MessageState::Dead));
    assert_eq!(rig.sessions.texts(key(&line)), ["next"], "capacity is back");
    assert_eq!(rig.figure("bots_messages_dead/stuck"), 1);
    assert_eq!(rig.figure("bots_workers_replaced"), 1);
    assert_eq!(rig.bots.queue().workers[0].replaced_count, 1);
    barrier.wait();
    rig.until(|| rig.figure("bots_handler_late_answers") > 0).await;
    assert_eq!(rig.sessions.texts(key(&line)), ["next"], "the late answer goes nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_after_it_waited_is_given_up() {
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let later = Arc::new(tokio::sync::Semaphore::new(0));
    let handler = Obedient {
        blocker: Some(Arc::clone(&barrier)),
        later: Some(Arc::clone(&later)),
        ..Obedient::default()
    };
    let options = BotsOptions {
        workers: 1,
        check_every: Duration::from_millis(50),
        ..options(Processing::Queued)
    };
    let rig = Rig::new(options, Some(Arc::new(handler))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "block later")).await;
    say(&line, chat(1, 2, "yield next")).await;
    say(&line, chat(2, 3, "panic later")).await;
    rig.until(|| rig.bots.queue().parked == 2).await;
    later.add_permits(2);
    rig.settled().await;
    assert_eq!(rig.store.state_of("block later"), Some(MessageState::Dead));
    assert_eq!(rig.sessions.texts(key(&line)), ["next"]);
    assert_eq!(rig.figure("bots_messages_dead/stuck"), 1);
    assert_eq!(rig.figure("bots_messages_dead/panicked"), 1);
    assert_eq!(rig.figure("bots_workers_replaced"), 0, "no worker stood behind it");
    assert_eq!(rig.bots.queue().parked, 0);
    barrier.wait();
    rig.until(|| rig.figure("bots_handler_late_answers") > 0).await;
    assert_eq!(rig.sessions.texts(key(&line)), ["next"], "the late answer goes nowhere");
}

#[tokio::test(start_paused = true)]
async fn a_store_in_trouble_answers_nothing_and_loses_nothing() {
    let errors = [
        StoreError::Busy { reason: "locked".to_owned() },
        StoreError::Full { reason: "disk".to_owned() },
        StoreError::ReadOnly { reason: "rights".to_owned() },
    ];
    for error in errors {
        let rig = Rig::new(options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
        let line = rig.line("a").await;
        say(&line, chat(1, 0, "now 0")).await;
        rig.settled().await;
        rig.store.fault(|faults| faults.commit = Some(error.clone()));
        for i in 1..=20 {
            let verb = if i % 2 == 0 { "now" } else { "yield" };
            say(&line, chat(1, i, &format!("{verb} {i}"))).await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(rig.sessions.texts(key(&line)), ["0"], "{error}");
        assert!(!rig.bots.queue().is_store_healthy);
        rig.store.fault(|faults| faults.commit = None);
        tokio::time::sleep(Duration::from_secs(5)).await;
        rig.settled().await;
        let expected: Vec<String> = (0..=20).map(|i| i.to_string()).collect();
        assert_eq!(rig.sessions.texts(key(&line)), expected, "{error}");
        assert!(rig.bots.queue().is_store_healthy);
    }
}

#[tokio::test(start_paused = true)]
async fn back_pressure_reaches_the_phone_while_the_store_takes_nothing() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 0, "# echo 0")).await;
    rig.settled().await;
    rig.store.fault(|faults| faults.commit = Some(StoreError::Full { reason: "x".to_owned() }));
    let mut taken = 0;
    let back = loop {
        taken += 1;
        assert!(taken < 10_000, "the queue has an end");
        match line.chat(chat(1, taken, &format!("# echo {taken}"))) {
            Ok(()) => tokio::task::yield_now().await,
            Err(back) => break back,
        }
    };
    let mut waiting = tokio::task::JoinSet::new();
    let held = Arc::clone(&line);
    waiting.spawn(async move { held.chat_when_room(back).await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(waiting.len(), 1);
    assert!(waiting.try_join_next().is_none(), "the phone waits");
    rig.store.fault(|faults| faults.commit = None);
    waiting.join_next().await.unwrap().unwrap();
    rig.settled().await;
    let expected: Vec<String> = (0..=taken).map(|i| format!("에코: {i}")).collect();
    assert_eq!(rig.sessions.texts(key(&line)), expected);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_store_refuses_costs_only_itself() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 100, "# echo start")).await;
    rig.settled().await;
    rig.store.fault(|faults| faults.poison = Some("# echo 5".to_owned()));
    for i in 0..10 {
        say(&line, chat(1, i, &format!("# echo {i}"))).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    rig.settled().await;
    let said = rig.sessions.texts(key(&line));
    let expected: Vec<String> = std::iter::once("에코: start".to_owned())
        .chain((0..10).filter(|i| *i != 5).map(|i| format!("에코: {i}")))
        .collect();
    assert_eq!(said, expected);
    assert_eq!(rig.figure("bots_ledger_refused"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_store_is_not_taken_for_a_bad_entry() {
    let rig = Rig::new(options(Processing::Queued), None).await;
    let line = rig.line("a").await;
    let broken = StoreError::Failed { reason: "no such table".to_owned() };
    rig.store.fault(|faults| {
        faults.commit = Some(broken);
        faults.probe = true;
    });
    say(&line, chat(1, 1, "# echo hi")).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.figure("bots_ledger_refused"), 0);
    rig.store.fault(|faults| *faults = Default::default());
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.settled().await;
    assert_eq!(rig.sessions.texts(key(&line)), ["에코: hi"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_worked_off_after_a_crash_once() {
    let mut store = Arc::new(Store::default());
    let total = 300_u64;
    let mut device = None;
    let mut said = Vec::new();
    let mut next = 0;
    while next < total {
        let handler = Arc::new(Obedient::default());
        let rig = Rig::over(store, options(Processing::Queued), Some(handler)).await;
        let line = rig.line("a").await;
        device = Some(key(&line));
        for _ in 0..100 {
            let verb = ["now", "yield", "slow 7"][usize::try_from(next % 3).unwrap()];
            let room = u32::try_from(next % 4).unwrap();
            say(&line, chat(room, next, &format!("{verb} {next}"))).await;
            next += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        said.push(rig.sessions.said(key(&line)));
        store = rig.crash().await;
    }
    let pending = store.messages().iter().filter(|m| m.state == MessageState::Pending).count();
    assert!(pending > 0, "the crash came in the middle of work");
    let mut rig =
        Rig::over(store, options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
    rig.settled().await;
    // Nothing was handed over before, so the last life sends everything that was kept.
    let device = device.unwrap();
    let heard = rig.sessions.said(device);
    let accepted = rig.store.messages();
    assert_eq!(rig.in_state(MessageState::Done), accepted.len());
    assert_eq!(rig.store.reply_count(), accepted.len(), "one answer for each accepted message");
    for room in 0..4 {
        let of_room = |(name, text): &(String, String)| {
            (*name == format!("room {room}")).then(|| text.parse::<u64>().unwrap())
        };
        let heard: Vec<u64> = heard.iter().filter_map(of_room).collect();
        assert!(heard.is_sorted_by(|a, b| a < b), "in order, no doubles: {heard:?}");
    }
    for early in said.concat() {
        assert!(heard.contains(&early), "what was said before the crash is kept: {early:?}");
    }
    assert!(rig.drain().await);
}

#[tokio::test]
async fn dead_letters_are_replayed() {
    let rig = Rig::new(options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "never x")).await;
    rig.settled().await;
    let message = rig.store.messages()[0].id;
    assert_eq!(rig.store.messages()[0].state, MessageState::Dead);
    rig.bots.replay(message).await.unwrap();
    rig.settled().await;
    assert_eq!(rig.figure("bots_messages_dead/failed"), 2);
    assert_eq!(rig.bots.replay(naru_domain::MessageId(1)).await, Err(StoreError::NotFound));
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_was_taken_and_takes_nothing_new() {
    for processing in [Processing::Queued, Processing::Direct] {
        let mut rig = Rig::new(options(processing), Some(Arc::new(Obedient::default()))).await;
        let line = rig.line("a").await;
        for i in 0..50 {
            say(&line, chat(u32::try_from(i % 5).unwrap(), i, &format!("slow 10 {i}"))).await;
        }
        say(&line, chat(9, 50, "slow 1000 50")).await;
        assert!(rig.drain().await, "{processing:?}");
        assert_eq!(rig.sessions.texts(key(&line)).len(), 51);
        say(&line, chat(1, 99, "now late")).await;
        assert_eq!(rig.figure("bots_messages_refused_stopping"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_drain_is_kept_for_the_next_start() {
    let mut rig = Rig::new(options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "slow 1000 early")).await;
    let late = async {
        while !rig.bots.core().is_closing() {
            tokio::time::advance(Duration::from_millis(1)).await; // The drain looks at the clock.
        }
        for i in 2..2_000 {
            // A known room, new ones, and messages without ids.
            say(&line, chat(u32::try_from(i % 4).unwrap(), i, &format!("now {i}"))).await;
        }
        say(&line, bare("room 1", "bare")).await;
    };
    let (is_done, ()) = tokio::join!(rig.bots.drain(Duration::from_secs(5)), late);
    assert!(is_done, "it does not wait for what comes");
    assert_eq!(rig.sessions.texts(key(&line)), ["early"]);
    rig.stop.cancel();
    while rig.running.join_next().await.is_some() {}
    assert_eq!(rig.in_state(MessageState::Pending), 1_998);
    assert_eq!(rig.figure("bots_messages_left"), 1_998);
    assert_eq!(rig.figure("bots_messages_refused_stopping"), 0);
    assert_eq!(rig.store.state_of("bare"), Some(MessageState::Logged));
    let rig = Rig::over(Arc::clone(&rig.store), options(Processing::Queued), None).await;
    rig.settled().await;
    assert_eq!(rig.in_state(MessageState::Pending), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_runs_out_of_time_leaves_the_rest_pending() {
    let mut rig = Rig::new(options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 1, "hang")).await;
    say(&line, chat(1, 2, "now after")).await;
    assert!(!rig.drain().await);
    assert_eq!(rig.in_state(MessageState::Pending), 2);
    assert!(rig.store.batches() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_everything_even_while_the_store_takes_nothing() {
    let mut rig = Rig::new(options(Processing::Queued), Some(Arc::new(Obedient::default()))).await;
    let line = rig.line("a").await;
    say(&line, chat(1, 0, "now 0")).await;
    say(&line, chat(2, 1, "hang")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.store.fault(|faults| faults.commit = Some(StoreError::Full { reason: "x".to_owned() }));
    say(&line, chat(1, 2, "now 2")).await;
    let request = crate::SendRequest {
        device: key(&line),
        channel_id: "1001".to_owned(),
        room: "room 1".to_owned(),
        body: naru_domain::ReplyBody::Text("notice".into()),
        idempotency_key: None,
    };
    let bots = rig.bots.clone();
    let mut sending = tokio::task::JoinSet::new();
    sending.spawn(async move { bots.send(request).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.stop.cancel();
    while rig.running.join_next().await.is_some() {}
    let sent = sending.join_next().await.unwrap().unwrap();
    assert!(matches!(sent, Err(crate::SendError::Unavailable { .. })), "{sent:?}");
    assert_eq!(rig.sessions.texts(key(&line)), ["0"], "nothing is said that was not kept");
}
