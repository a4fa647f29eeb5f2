//! Finds the busiest stage: the histograms of all sources are read twice, and what grew most in
//! between, in seconds of work per second, is where the time goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use naru_domain::metrics::{Histogram, MetricSink, MetricSource};
use parking_lot::Mutex;

/// Two looks nearer than this would say nothing.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The earlier look is moved on when it is older than this.
const INTERVAL_MAX: Duration = Duration::from_secs(10);

/// How busy one stage was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StageLoad {
    /// The histogram's name and labels.
    pub(crate) stage: String,
    /// Seconds of work done a second: 1.0 is one worker that never rests.
    pub(crate) busy: f64,
    /// Units of work that ended a second.
    pub(crate) per_second: f64,
    /// Their mean length in milliseconds.
    pub(crate) mean_ms: f64,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    us: u64,
    count: u64,
}

#[derive(Default)]
struct Sums(HashMap<String, Sum>);

impl MetricSink for Sums {
    fn counter(&mut self, _name: &str, _help: &str, _labels: &[(&str, &str)], _value: u64) {}

    fn gauge(&mut self, _name: &str, _help: &str, _labels: &[(&str, &str)], _value: i64) {}

    fn histogram(&mut self, name: &str, _help: &str, labels: &[(&str, &str)], value: &Histogram) {
        let labels: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        let (buckets, us) = value.read();
        let stage = [&[name], labels.as_slice()].concat().join(" ");
        self.0.insert(stage, Sum { us, count: buckets.iter().sum() });
    }
}

struct Look {
    at: Instant,
    sums: Sums,
}

/// Remembers an earlier look.
#[derive(Default)]
pub(crate) struct Watch(Mutex<Option<Look>>);

impl Watch {
    /// How busy each stage was since the earlier look (or since the start), busiest first.
    pub(crate) fn loads(
        &self,
        sources: &[Arc<dyn MetricSource>],
        uptime: Duration,
        now: Instant,
    ) -> Vec<StageLoad> {
        let mut sums = Sums::default();
        for source in sources {
            source.collect(&mut sums);
        }
        let mut earlier = self.0.lock();
        let age = earlier.as_ref().map(|look| now.saturating_duration_since(look.at));
        let is_usable = age.is_some_and(|age| age >= INTERVAL_MIN);
        let (base, interval) = match (&*earlier, age) {
            (Some(look), Some(age)) if is_usable => (&look.sums.0, age),
            _ => (&HashMap::new(), uptime.max(INTERVAL_MIN)),
        };
        let loads = loads(base, &sums.0, interval);
        if age.is_none_or(|age| age >= INTERVAL_MAX) {
            *earlier = Some(Look { at: now, sums });
        }
        loads
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn loads(
    base: &HashMap<String, Sum>,
    now: &HashMap<String, Sum>,
    interval: Duration,
) -> Vec<StageLoad> {
    let seconds = interval.as_secs_f64();
    let mut loads: Vec<StageLoad> = now
        .iter()
        .filter_map(|(stage, sum)| {
            let before = base.get(stage).copied().unwrap_or_default();
            let (us, count) =
                (sum.us.saturating_sub(before.us), sum.count.saturating_sub(before.count));
            (count > 0).then(|| StageLoad {
                stage: stage.clone(),
                busy: us as f64 / 1e6 / seconds,
                per_second: count as f64 / seconds,
                mean_ms: us as f64 / 1e3 / count as f64,
            })
        })
        .collect();
    loads.sort_by(|a, b| b.busy.total_cmp(&a.busy));
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Twin {
        read: Histogram,
        store: Histogram,
    }

    impl MetricSource for Twin {
        fn collect(&self, sink: &mut dyn MetricSink) {
            sink.histogram("stage_seconds", "", &[("stage", "read")], &self.read);
            sink.histogram("stage_seconds", "", &[("stage", "store")], &self.store);
        }
    }

    #[test]
    fn the_stage_that_took_most_time_since_the_last_look_comes_first() {
        let twin = Arc::new(Twin::default());
        let sources: Vec<Arc<dyn MetricSource>> = vec![twin.clone()];
        let watch = Watch::default();
        let now = Instant::now();
        twin.read.observe(Duration::from_secs(100));
        let uptime = Duration::from_secs(200);
        assert_eq!(watch.loads(&sources, uptime, now)[0].stage, "stage_seconds read");
        for _ in 0..10 {
            twin.store.observe(Duration::from_millis(400));
        }
        let loads = watch.loads(&sources, uptime, now + Duration::from_secs(5));
        assert_eq!(loads.len(), 1, "nothing was read meanwhile");
        assert_eq!(loads[0].stage, "stage_seconds store");
        assert!((loads[0].busy - 0.8).abs() < 1e-9, "{loads:?}");
        assert!((loads[0].per_second - 2.0).abs() < 1e-9);
        assert!((loads[0].mean_ms - 400.0).abs() < 1e-9);
    }
}
