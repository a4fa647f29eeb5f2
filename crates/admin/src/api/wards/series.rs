//! The figures of a ward over time, from packed history: as fine as asked for, but never more points than a
//! chart can show. Points are filled while pages of the store are read, so that memory is bounded by the answer.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use naru_domain::Timestamp;
use naru_domain::ports::{WardBlock, WardHistory, WardPeak, WardResolution};
use naru_supervisor::learn::SaveWindow;
use naru_supervisor::measure::{Block, Rollup, Series};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::learned::WardSave;
use super::views::scaled;
use super::ward;
use crate::error::{ApiError, Code};
use crate::extract::{Asked, InPath, moment};
use crate::routes::{Endpoint, NODE_VIEWER, get};
use crate::state::Api;
use crate::times;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What is shown unless asked otherwise.
const SPAN_DEFAULT: Duration = HOUR;
const POINTS_DEFAULT: usize = 500;
const POINTS_MAX: usize = 2_000;
/// Blocks of one page of the store.
const PAGE_BLOCKS: usize = 200;
/// A block of samples may begin so much before a sample that it holds: a flush waits three minutes at most.
const BLOCK_REACH: Duration = Duration::from_secs(10 * 60);

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/wards/{name}/series", NODE_VIEWER, "Gives a ward's figures over time", series)
            .asks::<SeriesQuery>()
            .gives::<WardFigures>(),
    ]
}

/// Which figures.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SeriesQuery {
    /// Names with commas in between, such as `cpu_cores,memory_bytes`; all that there are unless given.
    series: Option<String>,
    /// Not before this moment.
    from: Option<String>,
    /// Instead of `from`: so many seconds before `until`; 3,600 unless given.
    last_s: Option<u64>,
    /// Before this moment; now unless given.
    until: Option<String>,
    /// `raw` (at most a day), `5m` (at most 60 days), `1h` (at most 800 days), or `auto`, which is the finest that fits: up
    /// to two hours, two days, and beyond.
    resolution: Option<String>,
    /// Points of each series at most, 2 to 2000, 500 unless given.
    points: Option<usize>,
}

/// Figures over time.
#[derive(Serialize, ToSchema)]
struct WardFigures {
    from: String,
    until: String,
    /// What they were made from: `raw`, `5m` or `1h`.
    resolution: &'static str,
    /// How long a point stands for.
    step_s: u64,
    series: Vec<WardCurve>,
    /// Known saves in this time, as far as they are remembered: the last hour's.
    saves: Vec<WardSaveMark>,
}

/// One series, in the unit that its name says.
#[derive(Serialize, ToSchema)]
struct WardCurve {
    series: &'static str,
    /// Oldest first; nothing stands where nothing was measured.
    points: Vec<WardPoint>,
    /// The highest value ever.
    peak: Option<f64>,
    peak_at: Option<String>,
}

/// A save on a chart.
#[derive(Serialize, ToSchema)]
struct WardSaveMark {
    #[serde(flatten)]
    save: WardSave,
    /// From the beginning of the chart; below zero for one that was under way.
    offset_s: i64,
    length_s: u64,
}

impl WardSaveMark {
    fn new(save: &SaveWindow, grid: &Grid) -> WardSaveMark {
        let offset_s = (save.from.0 - grid.from.0).div_euclid(1_000);
        let length_s = save.until.since(save.from).as_secs();
        WardSaveMark { save: save.into(), offset_s, length_s }
    }
}

/// A step of time.
#[derive(Serialize, ToSchema)]
struct WardPoint {
    /// When the step begins, from the beginning of the chart.
    offset_s: u64,
    /// When the step begins.
    at: String,
    mean: f64,
    /// What was not exceeded in 95 % of the time; null where the step was made from samples. Of several
    /// stretches in one step it is the largest.
    p95: Option<f64>,
    max: f64,
}

/// A span of time, how fine it is, and in which steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    from: Timestamp,
    until: Timestamp,
    resolution: WardResolution,
    step: Duration,
}

fn label(resolution: WardResolution) -> &'static str {
    match resolution {
        WardResolution::Raw => "raw",
        WardResolution::FiveMinutes => "5m",
        WardResolution::Hour => "1h",
    }
}

/// How fine, and how far a request may reach so.
fn fineness(resolution: WardResolution) -> (Duration, Duration) {
    match resolution {
        WardResolution::Raw => (Duration::from_secs(1), DAY),
        WardResolution::FiveMinutes => (Duration::from_secs(300), DAY * 60),
        WardResolution::Hour => (HOUR, DAY * 800),
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Grid {
    fn new(query: &SeriesQuery, now: Timestamp) -> Result<Grid, ApiError> {
        let bad = |message: String| Err(ApiError::new(Code::BadQuery, message));
        let until = moment("until", query.until.as_deref())?.unwrap_or(now);
        let from = moment("from", query.from.as_deref())?;
        if from.is_some() && query.last_s.is_some() {
            return bad("either `from` or `last_s`".to_owned());
        }
        let last = query.last_s.map_or(SPAN_DEFAULT, Duration::from_secs);
        let from = from.unwrap_or_else(|| until.minus(last));
        if from >= until {
            return bad("`from` comes before `until`".to_owned());
        }
        let span = until.since(from);
        let resolution = match query.resolution.as_deref().unwrap_or("auto") {
            "auto" if span <= HOUR * 2 => WardResolution::Raw,
            "auto" if span <= DAY * 2 => WardResolution::FiveMinutes,
            "auto" | "1h" => WardResolution::Hour,
            "raw" => WardResolution::Raw,
            "5m" => WardResolution::FiveMinutes,
            _ => return bad("`resolution` is auto, raw, 5m or 1h".to_owned()),
        };
        let (finest, longest) = fineness(resolution);
        if span > longest {
            let (label, days) = (label(resolution), longest.as_secs() / DAY.as_secs());
            return bad(format!(
                "with the resolution {label} at most {days} days can be asked for"
            ));
        }
        let points = query.points.unwrap_or(POINTS_DEFAULT);
        if !(2..=POINTS_MAX).contains(&points) {
            return bad(format!("`points` is 2 to {POINTS_MAX}"));
        }
        // A whole number of the finest steps, so that each stretch lies in one step. The first one begins
        // before `from`, so there is one more than fit into the span.
        let gaps = u128::try_from(points - 1).unwrap_or(1);
        let steps = span.as_millis().div_ceil(gaps * finest.as_millis());
        let step = finest.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
        let from = Timestamp(from.0.div_euclid(millis(step)) * millis(step));
        Ok(Grid { from, until, resolution, step })
    }

    /// Which point a moment belongs to.
    fn index(&self, at: Timestamp) -> Option<usize> {
        if at < self.from || at >= self.until {
            return None;
        }
        usize::try_from((at.0 - self.from.0) / millis(self.step)).ok()
    }
}

/// What a point is made of.
#[derive(Clone, Copy, Default)]
struct Sum {
    count: f64,
    total: f64,
    p95: Option<u32>,
    max: u32,
}

/// The points of all series that are wanted.
struct Curves {
    grid: Grid,
    wanted: Vec<Series>,
    sums: Vec<Vec<Sum>>,
}

impl Curves {
    fn new(grid: Grid, wanted: Vec<Series>) -> Curves {
        let sums = wanted.iter().map(|_| Vec::new()).collect();
        Curves { grid, wanted, sums }
    }

    fn add(&mut self, series: Series, at: Timestamp, part: Sum) {
        let Some(place) = self.wanted.iter().position(|wanted| *wanted == series) else { return };
        let Some(index) = self.grid.index(at) else { return };
        let sums = &mut self.sums[place];
        if sums.len() <= index {
            sums.resize(index + 1, Sum::default());
        }
        let sum = &mut sums[index];
        sum.count += part.count;
        sum.total += part.total;
        sum.max = sum.max.max(part.max);
        sum.p95 = sum.p95.max(part.p95);
    }

    /// Takes a block in. A damaged one is left out, as the supervisor itself does.
    fn take(&mut self, block: &WardBlock) {
        if block.resolution == WardResolution::Raw {
            let Ok(block) = Block::decode(&block.data) else { return };
            for column in &block.columns {
                for point in &column.points {
                    let (total, max) = (f64::from(point.value), point.value);
                    let part = Sum { count: 1.0, total, p95: None, max };
                    self.add(column.series, point.at, part);
                }
            }
            return;
        }
        let Ok(rollup) = Rollup::decode(block.resolution, block.start, &block.data) else { return };
        for (series, summary) in &rollup.series {
            let count = f64::from(summary.count);
            let total = summary.mean * count;
            let part = Sum { count, total, p95: Some(summary.p95), max: summary.max };
            self.add(*series, block.start, part);
        }
    }

    async fn read(&mut self, history: &dyn WardHistory, ward: &str) -> Result<(), ApiError> {
        let Grid { from, until, resolution, .. } = self.grid;
        let mut next = match resolution {
            WardResolution::Raw => from.minus(BLOCK_REACH),
            WardResolution::FiveMinutes | WardResolution::Hour => from,
        };
        loop {
            let blocks = history.blocks(ward, resolution, next, until, PAGE_BLOCKS).await?;
            blocks.iter().for_each(|block| self.take(block));
            match blocks.last() {
                // Keys are seconds: the next one begins at least one later.
                Some(last) if blocks.len() >= PAGE_BLOCKS => {
                    next = last.start.plus(Duration::from_secs(1));
                }
                _ => return Ok(()),
            }
        }
    }

    fn show(&self, peaks: &[WardPeak], with_empty: bool) -> Vec<WardCurve> {
        let curves = self.wanted.iter().zip(&self.sums).map(|(series, sums)| {
            let peak = peaks.iter().find(|peak| peak.series == series.number());
            WardCurve {
                series: series.label(),
                points: self.points(*series, sums),
                peak: peak.map(|peak| scaled(*series, peak.value)),
                peak_at: peak.map(|peak| times::show(peak.at)),
            }
        });
        curves.filter(|curve| with_empty || !curve.points.is_empty()).collect()
    }

    fn points(&self, series: Series, sums: &[Sum]) -> Vec<WardPoint> {
        let measured = sums.iter().zip(0u32..).filter(|(sum, _)| sum.count > 0.0);
        measured
            .map(|(sum, index)| (sum, self.grid.step * index))
            .map(|(sum, offset)| WardPoint {
                offset_s: offset.as_secs(),
                at: times::show(self.grid.from.plus(offset)),
                mean: sum.total / sum.count * series.scale(),
                p95: sum.p95.map(|p95| scaled(series, p95)),
                max: scaled(series, sum.max),
            })
            .collect()
    }
}

fn wanted(query: &SeriesQuery) -> Result<Vec<Series>, ApiError> {
    let Some(names) = &query.series else { return Ok(Series::ALL.to_vec()) };
    let mut wanted = Vec::new();
    for name in names.split(',').map(str::trim) {
        let found = Series::ALL.into_iter().find(|series| series.label() == name);
        let found = found.ok_or_else(|| {
            let known: Vec<&str> = Series::ALL.iter().map(|series| series.label()).collect();
            let message = format!("`series` is one or several of {}", known.join(", "));
            ApiError::new(Code::BadQuery, message)
        })?;
        if !wanted.contains(&found) {
            wanted.push(found);
        }
    }
    Ok(wanted)
}

async fn series(
    State(api): State<Api>,
    InPath(name): InPath<String>,
    Asked(query): Asked<SeriesQuery>,
) -> Result<Json<WardFigures>, ApiError> {
    let (grid, wanted) = (Grid::new(&query, api.now())?, wanted(&query)?);
    let asked = ward(&api, &name).await?;
    let name = asked.name.as_str();
    let mut curves = Curves::new(grid, wanted);
    curves.read(asked.wards.history.as_ref(), name).await?;
    let peaks = asked.wards.history.peaks(name).await?;
    let saves = asked.wards.control.show(asked.name.clone()).await?.saves;
    let saves = saves.iter().filter(|save| save.until >= grid.from && save.from < grid.until);
    Ok(Json(WardFigures {
        from: times::show(grid.from),
        until: times::show(grid.until),
        resolution: label(grid.resolution),
        step_s: grid.step.as_secs(),
        series: curves.show(&peaks, query.series.is_some()),
        saves: saves.map(|save| WardSaveMark::new(save, &grid)).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_267_898_123);

    fn grid(
        span: Duration,
        resolution: Option<&str>,
        points: Option<usize>,
    ) -> Result<Grid, ApiError> {
        let query = SeriesQuery {
            series: None,
            last_s: None,
            from: Some(times::show(NOW.minus(span))),
            until: Some(times::show(NOW)),
            resolution: resolution.map(str::to_owned),
            points,
        };
        Grid::new(&query, NOW)
    }

    #[test]
    fn no_span_at_any_resolution_gives_more_points_than_asked_for() {
        for seconds in [1, 59, 3_600, 7_200, 7_201, 86_400, 172_801, 3_000_000, 69_000_000] {
            for points in [2, 3, 7, 500, 2_000] {
                let span = Duration::from_secs(seconds);
                let grid = grid(span, None, Some(points)).unwrap();
                let last = grid.index(Timestamp(NOW.0 - 1)).unwrap();
                assert!(last < points, "{seconds} s, {points} points: {last}");
                let (finest, _) = fineness(grid.resolution);
                assert_eq!(grid.step.as_secs() % finest.as_secs(), 0);
                assert_eq!(grid.from.0 % millis(grid.step), 0, "roll-ups lie in one step");
                assert!(grid.from <= NOW.minus(span));
            }
        }
    }

    #[test]
    fn the_finest_resolution_that_fits_is_chosen_and_too_long_ones_are_refused() {
        let check = |span: Duration, asked: Option<&str>, found: Option<WardResolution>| {
            let grid = grid(span, asked, None);
            assert_eq!(grid.ok().map(|grid| grid.resolution), found, "{span:?} {asked:?}");
        };
        check(HOUR, None, Some(WardResolution::Raw));
        check(HOUR * 3, Some("auto"), Some(WardResolution::FiveMinutes));
        check(DAY * 3, None, Some(WardResolution::Hour));
        check(DAY, Some("raw"), Some(WardResolution::Raw));
        check(DAY * 2, Some("raw"), None);
        check(DAY * 61, Some("5m"), None);
        check(DAY * 801, Some("1h"), None);
        check(HOUR, Some("2m"), None);
        assert!(grid(HOUR, None, Some(1)).is_err() && grid(HOUR, None, Some(2_001)).is_err());
        assert!(grid(Duration::ZERO, None, None).is_err());
    }
}
