//! Promises about schedules.

use std::time::Duration;

use bytes::Bytes;
use naru_domain::ports::{Schedules, StoreError};
use naru_domain::work::{Recurrence, Schedule, ScheduleRun};
use naru_domain::{DeviceKey, ScheduleId, Timestamp};

use super::{ok, page, refused};

/// All promises of [`Schedules`].
pub async fn schedules<S: Schedules, F: Future<Output = S>>(open: impl Fn() -> F) {
    every_field_of_a_schedule_comes_back(open().await).await;
    changes_are_guarded_by_the_revision(open().await).await;
    due_ones_come_oldest_first(open().await).await;
    one_caller_claims_each_run(open().await).await;
    runs_are_logged_and_go_with_their_schedule(open().await).await;
}

fn schedule(title: &str, next_at: Option<i64>) -> Schedule {
    Schedule {
        id: ScheduleId(0),
        title: title.to_owned(),
        device: DeviceKey(3),
        room: "방".to_owned(),
        channel_id: "180".to_owned(),
        text: "좋은 아침".to_owned(),
        images: [vec![Bytes::from_static(b"\x89PNG"), Bytes::new()], Vec::new()],
        media_wait: [Some(Duration::from_millis(1_500)), None],
        group_pause: Duration::from_secs(2),
        recurrence: Recurrence::Daily(vec![540, 1080]),
        time_zone: "Asia/Seoul".to_owned(),
        valid_from: Some(Timestamp(1)),
        valid_until: None,
        active: true,
        next_at: next_at.map(Timestamp),
        last_at: None,
        sent_count: 0,
        revision: 0,
    }
}

async fn every_field_of_a_schedule_comes_back(store: impl Schedules) {
    let recurrences = [
        Recurrence::Once(Timestamp(-7)),
        Recurrence::Daily(vec![0, 1439]),
        Recurrence::Weekly { days: vec![0, 6], minutes: vec![1] },
        Recurrence::Cron("*/5 9-17 * * 1-5".to_owned()),
    ];
    for recurrence in recurrences {
        let given = Schedule { recurrence, ..schedule("daily", Some(50)) };
        let kept = ok(store.add_schedule(&given).await);
        assert_eq!(kept, Schedule { id: kept.id, revision: 1, ..given });
        assert_eq!(ok(store.schedule(kept.id).await), kept);
    }
    let listed = ok(store.schedules(page(None, 9)).await);
    assert_eq!(listed.len(), 4);
    assert_eq!(ok(store.schedules(page(Some(listed[1].id.0), 1)).await), listed[2..3]);
    refused(store.schedule(ScheduleId(99)).await, &StoreError::NotFound);
}

async fn changes_are_guarded_by_the_revision(store: impl Schedules) {
    let kept = ok(store.add_schedule(&schedule("a", None)).await);
    let wanted = Schedule { title: "b".to_owned(), active: false, ..kept.clone() };
    let changed = ok(store.update_schedule(&wanted).await);
    assert_eq!(changed, Schedule { revision: 2, ..wanted.clone() });
    refused(store.update_schedule(&wanted).await, &StoreError::Conflict);
    let missing = Schedule { id: ScheduleId(99), ..changed };
    refused(store.update_schedule(&missing).await, &StoreError::NotFound);
    ok(store.remove_schedule(kept.id).await);
    refused(store.remove_schedule(kept.id).await, &StoreError::NotFound);
    let next = ok(store.add_schedule(&schedule("c", None)).await);
    assert_ne!(next.id, kept.id, "numbers are never used again");
}

async fn due_ones_come_oldest_first(store: impl Schedules) {
    for (title, next_at) in [("b", Some(20)), ("a", Some(10)), ("late", Some(31)), ("never", None)]
    {
        ok(store.add_schedule(&schedule(title, next_at)).await);
    }
    let off = Schedule { active: false, ..schedule("off", Some(5)) };
    ok(store.add_schedule(&off).await);
    let titles = |found: Vec<Schedule>| found.into_iter().map(|s| s.title).collect::<Vec<_>>();
    assert_eq!(titles(ok(store.due_schedules(Timestamp(30), 9).await)), ["a", "b"]);
    assert_eq!(titles(ok(store.due_schedules(Timestamp(30), 1).await)), ["a"]);
    assert_eq!(titles(ok(store.due_schedules(Timestamp(10), 9).await)), ["a"]);
}

async fn one_caller_claims_each_run(store: impl Schedules) {
    let id = ok(store.add_schedule(&schedule("a", Some(10))).await).id;
    let claim =
        |due, next: Option<i64>| store.claim_schedule(id, Timestamp(due), next.map(Timestamp));
    assert!(!ok(claim(9, Some(20)).await));
    let racing = tokio::join!(claim(10, Some(20)), claim(10, Some(20)), claim(10, Some(20)));
    let winners = [ok(racing.0), ok(racing.1), ok(racing.2)];
    assert_eq!(winners.iter().filter(|won| **won).count(), 1);
    assert!(!ok(claim(10, Some(20)).await));
    let claimed = ok(store.schedule(id).await);
    assert_eq!(claimed.next_at, Some(Timestamp(20)));
    assert_eq!((claimed.last_at, claimed.sent_count), (Some(Timestamp(10)), 1));
    assert!(ok(claim(20, None).await));
    assert!(!ok(claim(20, None).await));
    assert_eq!(ok(store.schedule(id).await).next_at, None);
    assert!(!ok(store.claim_schedule(ScheduleId(99), Timestamp(1), None).await));
}

async fn runs_are_logged_and_go_with_their_schedule(store: impl Schedules) {
    let id = ok(store.add_schedule(&schedule("a", Some(10))).await).id;
    for due in 1..=3 {
        let run = ScheduleRun {
            id: 0,
            schedule: id,
            due_at: Timestamp(due),
            ran_at: Timestamp(due + 1),
            outcome: "sent".to_owned(),
            note: String::new(),
        };
        ok(store.log_schedule_run(&run).await);
    }
    let runs = ok(store.schedule_runs(id, page(None, 2)).await);
    assert_eq!(runs.iter().map(|run| run.due_at.0).collect::<Vec<_>>(), [3, 2]);
    let rest = ok(store.schedule_runs(id, page(Some(runs[1].id), 2)).await);
    assert_eq!(rest.iter().map(|run| run.due_at.0).collect::<Vec<_>>(), [1]);
    ok(store.remove_schedule(id).await);
    assert!(ok(store.schedule_runs(id, page(None, 9)).await).is_empty());
}
