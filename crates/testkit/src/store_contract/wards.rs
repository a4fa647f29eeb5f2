//! Promises about what is remembered of wards.

use std::sync::Arc;

use naru_domain::ports::{
    StoreError, WARD_BATCH_ROWS_MAX, WARD_BODY_BYTES_MAX, WardBatch, WardBlock, WardEvent,
    WardForget, WardHistory, WardPeak, WardPlace, WardRecord, WardResolution, WardVisit,
};
use naru_domain::{Durability, Timestamp};

use super::ok;

/// All promises of [`WardHistory`].
pub async fn ward_history<S: WardHistory, F: Future<Output = S>>(open: impl Fn() -> F) {
    records_are_kept_one_of_each_part(open().await).await;
    blocks_come_back_by_time_each_to_its_ward_and_resolution(open().await).await;
    events_are_paged_newest_first(open().await).await;
    visits_are_told_anew_until_they_end(open().await).await;
    only_higher_peaks_are_kept(open().await).await;
    a_batch_told_again_changes_nothing(open().await).await;
    what_is_old_is_forgotten_in_small_steps(open().await).await;
    a_batch_that_is_too_large_is_refused_as_a_whole(open().await).await;
}

/// When the tests play.
const START: i64 = 1_700_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(START + seconds * 1_000)
}

/// A block whose bytes tell whose it is.
#[must_use]
pub fn ward_block(ward: &str, resolution: WardResolution, seconds: i64) -> WardBlock {
    let data = format!("\u{0}{ward} {resolution:?} {seconds}");
    WardBlock {
        ward: Arc::from(ward),
        resolution,
        start: at(seconds),
        data: Arc::from(data.as_bytes()),
    }
}

fn event(ward: &str, seconds: i64) -> WardEvent {
    WardEvent {
        place: WardPlace::new(at(seconds), 3),
        ward: Arc::from(ward),
        kind: Arc::from("crashed"),
        body: Arc::from(format!("{{\"n\":{seconds}}}")),
    }
}

fn visit(ward: &str, name: &str, seconds: i64) -> WardVisit {
    WardVisit {
        place: WardPlace::new(at(seconds), 0),
        ward: Arc::from(ward),
        name: Arc::from(name),
        player: None,
        seen: at(seconds),
        left: None,
    }
}

fn record(ward: &str, part: &str, body: &str) -> WardRecord {
    WardRecord { ward: Arc::from(ward), part: Arc::from(part), body: Arc::from(body), at: at(1) }
}

async fn flush(store: &impl WardHistory, batch: WardBatch) {
    ok(store.flush(Arc::new(batch), Durability::Os).await);
}

async fn records_are_kept_one_of_each_part(store: impl WardHistory) {
    assert_eq!(ok(store.load_records().await), []);
    ok(store.save_record(&record("b", "life", "{}")).await);
    ok(store.save_record(&record("a", "life", "old")).await);
    ok(store.save_record(&record("a", "life", "새 기록")).await);
    let waiting = WardBatch { records: vec![record("a", "learn", "x")], ..WardBatch::default() };
    flush(&store, waiting).await;
    let all =
        [record("a", "learn", "x"), record("a", "life", "새 기록"), record("b", "life", "{}")];
    assert_eq!(ok(store.load_records().await), all);
    ok(store.remove_records("a").await);
    ok(store.remove_records("never-seen").await);
    assert_eq!(ok(store.load_records().await), all[2..]);
}

async fn blocks_come_back_by_time_each_to_its_ward_and_resolution(store: impl WardHistory) {
    let mut blocks = Vec::new();
    for minute in 0..10 {
        for ward in ["pal", "ark", "mc"] {
            blocks.push(ward_block(ward, WardResolution::Raw, minute * 60));
        }
    }
    blocks.push(ward_block("pal", WardResolution::FiveMinutes, 0));
    blocks.push(ward_block("pal", WardResolution::Hour, 0));
    flush(&store, WardBatch { blocks, ..WardBatch::default() }).await;

    let raw = WardResolution::Raw;
    let found = ok(store.blocks("ark", raw, at(60), at(240), 99).await);
    assert_eq!(found, [60, 120, 180].map(|second| ward_block("ark", raw, second)));
    let found = ok(store.blocks("ark", raw, at(0), at(9_999), 2).await);
    assert_eq!(found, [0, 60].map(|second| ward_block("ark", raw, second)));
    assert_eq!(ok(store.blocks("nobody", raw, at(0), at(9_999), 9).await), []);
    for resolution in [WardResolution::FiveMinutes, WardResolution::Hour] {
        let found = ok(store.blocks("pal", resolution, at(0), at(9_999), 9).await);
        assert_eq!(found, [ward_block("pal", resolution, 0)]);
        assert_eq!(ok(store.blocks("ark", resolution, at(0), at(9_999), 9).await), []);
    }
    // A roll-up that was kept too early is replaced by the whole one.
    let whole =
        WardBlock { data: Arc::from(&b"whole"[..]), ..ward_block("pal", WardResolution::Hour, 0) };
    flush(&store, WardBatch { blocks: vec![whole.clone()], ..WardBatch::default() }).await;
    assert_eq!(ok(store.blocks("pal", WardResolution::Hour, at(0), at(1), 9).await), [whole]);
}

async fn events_are_paged_newest_first(store: impl WardHistory) {
    // Told late: its place is where it happened.
    for second in [1, 2, 3, 5, 6, 4] {
        let ward = if second % 2 == 0 { "even" } else { "odd" };
        let batch = WardBatch { events: vec![event(ward, second)], ..WardBatch::default() };
        ok(store.flush(Arc::new(batch), Durability::Disk).await);
    }
    let page = ok(store.events(None, None, 2).await);
    assert_eq!(page, [event("even", 6), event("odd", 5)]);
    let page = ok(store.events(None, Some(page[1].place), 2).await);
    assert_eq!(page, [event("even", 4), event("odd", 3)]);
    let page = ok(store.events(Some("odd"), Some(WardPlace::first_at(at(5))), 9).await);
    assert_eq!(page, [event("odd", 3), event("odd", 1)]);
    assert_eq!(ok(store.events(Some("nobody"), None, 9).await), []);
    assert_eq!(page[0].place.at(), at(3));
}

async fn visits_are_told_anew_until_they_end(store: impl WardHistory) {
    let (first, second) = (visit("pal", "보낸이", 1), visit("pal", "other", 2));
    let batch = WardBatch { visits: vec![first.clone(), second.clone()], ..WardBatch::default() };
    flush(&store, batch).await;
    assert_eq!(ok(store.open_visits("pal", 9).await), [first.clone(), second.clone()]);
    let ended = WardVisit {
        player: Some(Arc::from("steam_1")),
        seen: at(50),
        left: Some(at(60)),
        ..first.clone()
    };
    flush(&store, WardBatch { visits: vec![ended.clone()], ..WardBatch::default() }).await;
    let open = ok(store.open_visits("pal", 9).await);
    assert_eq!(open, std::slice::from_ref(&second));
    assert_eq!(ok(store.open_visits("ark", 9).await), []);
    assert_eq!(ok(store.visits(Some("pal"), None, 9).await), [second.clone(), ended.clone()]);
    assert_eq!(ok(store.visits(None, Some(second.place), 9).await), [ended]);
}

async fn only_higher_peaks_are_kept(store: impl WardHistory) {
    let peak =
        |series, value, second| WardPeak { ward: Arc::from("pal"), series, value, at: at(second) };
    let batch = |peaks| WardBatch { peaks, ..WardBatch::default() };
    flush(&store, batch(vec![peak(5, 7, 1), peak(1, u32::MAX, 1)])).await;
    flush(&store, batch(vec![peak(5, 6, 2), peak(1, 1, 2)])).await;
    assert_eq!(ok(store.peaks("pal").await), [peak(1, u32::MAX, 1), peak(5, 7, 1)]);
    flush(&store, batch(vec![peak(5, 8, 3)])).await;
    assert_eq!(ok(store.peaks("pal").await), [peak(1, u32::MAX, 1), peak(5, 8, 3)]);
    assert_eq!(ok(store.peaks("ark").await), []);
}

async fn a_batch_told_again_changes_nothing(store: impl WardHistory) {
    let batch = Arc::new(WardBatch {
        records: vec![record("pal", "life", "{}")],
        blocks: vec![ward_block("pal", WardResolution::Raw, 0)],
        events: vec![event("pal", 1)],
        visits: vec![visit("pal", "x", 1)],
        ..WardBatch::default()
    });
    for _ in 0..3 {
        ok(store.flush(Arc::clone(&batch), Durability::Disk).await);
    }
    ok(store.flush(Arc::default(), Durability::Os).await);
    assert_eq!(ok(store.load_records().await), batch.records);
    let blocks = ok(store.blocks("pal", WardResolution::Raw, at(0), at(9), 9).await);
    assert_eq!(blocks, batch.blocks);
    assert_eq!(ok(store.events(None, None, 9).await), batch.events);
    assert_eq!(ok(store.visits(None, None, 9).await), batch.visits);
}

async fn what_is_old_is_forgotten_in_small_steps(store: impl WardHistory) {
    let batch = |second: i64| WardBatch {
        blocks: WardResolution::ALL.map(|of| ward_block("pal", of, second)).to_vec(),
        events: vec![event("pal", second)],
        visits: vec![
            WardVisit { left: Some(at(second)), ..visit("pal", "gone", second) },
            visit("pal", "stays", second + 1_000),
        ],
        ..WardBatch::default()
    };
    for second in 0..4 {
        flush(&store, batch(second)).await;
    }
    let blocks = WardResolution::ALL.map(WardForget::Blocks);
    for what in blocks.into_iter().chain([WardForget::Events, WardForget::Visits]) {
        assert_eq!(ok(store.forget(what, at(3), 2).await), 2, "{what:?}");
        assert_eq!(ok(store.forget(what, at(3), 2).await), 1, "{what:?}");
        assert_eq!(ok(store.forget(what, at(3), 2).await), 0, "{what:?}");
    }
    // A flush can do so on the way. Visits that last are not touched.
    let forget = WardBatch {
        forget: vec![(WardForget::Events, at(9), 5), (WardForget::Visits, at(9_999), 50)],
        ..WardBatch::default()
    };
    flush(&store, forget).await;
    assert_eq!(ok(store.events(None, None, 9).await), []);
    assert_eq!(ok(store.visits(None, None, 9).await).len(), 4);
    let left = ok(store.blocks("pal", WardResolution::Raw, at(0), at(99), 9).await);
    assert_eq!(left, [ward_block("pal", WardResolution::Raw, 3)]);
}

async fn a_batch_that_is_too_large_is_refused_as_a_whole(store: impl WardHistory) {
    let events = (0..=4_096).map(|second| event("pal", second)).collect::<Vec<_>>();
    assert_eq!(events.len(), WARD_BATCH_ROWS_MAX + 1);
    let refused =
        store.flush(Arc::new(WardBatch { events, ..WardBatch::default() }), Durability::Os).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    let large = "x".repeat(WARD_BODY_BYTES_MAX + 1);
    let refused = store.save_record(&record("pal", "life", &large)).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    assert_eq!(ok(store.events(None, None, 1).await), []);
    assert_eq!(ok(store.load_records().await), []);
    let many = (0..4_096).map(|second| event("pal", second)).collect();
    flush(&store, WardBatch { events: many, ..WardBatch::default() }).await;
    assert_eq!(ok(store.events(None, None, 9_999).await).len(), 4_096);
}
