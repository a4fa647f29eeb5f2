//! Promises about figures kept over time.

use naru_domain::phone::KeepAlive;
use naru_domain::ports::Monitors;
use naru_domain::work::{PingSample, SystemSample};
use naru_domain::{DeviceKey, Timestamp};

use super::ok;

/// All promises of [`Monitors`].
pub async fn monitors<S: Monitors, F: Future<Output = S>>(open: impl Fn() -> F) {
    let store = open().await;
    let full = PingSample {
        device: DeviceKey(1),
        at: Timestamp(10),
        round_trip_ms: Some(42),
        figures: KeepAlive {
            sent_at: Some(Timestamp(9)),
            memory_total_mb: Some(512.5),
            memory_used_mb: Some(100.0),
            memory_percent: Some(19.5),
            queued_frames: Some(3),
            active_rooms: Some(7),
        },
    };
    let bare = |device, at| PingSample {
        device: DeviceKey(device),
        at: Timestamp(at),
        round_trip_ms: None,
        figures: KeepAlive::default(),
    };
    ok(store.add_pings(&[]).await);
    ok(store.add_pings(&[full.clone(), bare(2, 11), bare(1, 12)]).await);
    let many: Vec<PingSample> = (100..300).map(|at| bare(3, at)).collect();
    ok(store.add_pings(&many).await);
    let since = |device, since| store.pings(DeviceKey(device), Timestamp(since), 150);
    assert_eq!(ok(since(1, 0).await), [full, bare(1, 12)]);
    assert_eq!(ok(since(1, 11).await), [bare(1, 12)]);
    assert_eq!(ok(since(3, 0).await), many[..150]);

    let sample = |at: i64| SystemSample {
        at: Timestamp(at),
        node: "node-1".to_owned(),
        cpu_percent: 12.5,
        process_cpu_percent: 3.0,
        memory_total: 1 << 40,
        memory_used: 1 << 30,
        process_memory: 5,
        disk_percent: 80.25,
        connections: 100,
        queued: 2,
    };
    for at in [1, 2, 3] {
        ok(store.add_system_sample(&sample(at)).await);
    }
    assert_eq!(ok(store.system_samples(Timestamp(2), 9).await), [sample(2), sample(3)]);
    assert_eq!(ok(store.system_samples(Timestamp(0), 1).await), [sample(1)]);
}
