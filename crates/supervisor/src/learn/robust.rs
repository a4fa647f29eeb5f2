//! Statistics that a few wild values cannot move: medians, Huber's regression, the Theil–Sen trend. Pure
//! functions over slices.

/// Turns a median of absolute deviations into a standard deviation, if values are normal.
pub(super) const MAD_TO_SIGMA: f64 = 1.4826;
/// Huber's bend: 95 % as efficient as least squares where nothing is wild (Huber 1964).
const HUBER_BEND: f64 = 1.345;
/// Weights settle well before that on all simulated wards.
const HUBER_ROUNDS: usize = 12;

/// The median; it reorders the slice.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The value below which `share` of them lie; it reorders the slice.
pub(super) fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let at = floor_index(share * (values.len() - 1) as f64 + 0.5).min(values.len() - 1);
    let (_, value, _) = values.select_nth_unstable_by(at, f64::total_cmp);
    Some(*value)
}

/// A float as an index: below zero and NaN become zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates, and indices are small"
)]
pub(super) fn floor_index(value: f64) -> usize {
    value as usize
}

/// Single precision is enough for what is kept.
#[expect(clippy::cast_possible_truncation, reason = "precision is given up on purpose")]
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}

/// A straight line through points, with its doubts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Line {
    pub(super) intercept: f64,
    pub(super) slope: f64,
    /// Half widths of the 95 % intervals.
    pub(super) intercept_error: f64,
    pub(super) slope_error: f64,
    /// Robust standard deviation of what the line leaves over.
    pub(super) sigma: f64,
}

/// Huber's regression of y on x. Points come in the order of time: neighbours that resemble each other make
/// the intervals wider. A line without slope where x hardly changes.
pub(super) fn huber(points: &[(f64, f64)], x_range_min: f64) -> Option<Line> {
    if points.len() < 8 {
        return None;
    }
    let mut left: Vec<f64> = points.iter().map(|point| point.1).collect();
    let middle = median(&mut left)?;
    let (low, high) = range(points);
    let mut line = Line { intercept: middle, ..Line::default() };
    let sloped = high - low >= x_range_min;
    for round in 0..HUBER_ROUNDS {
        line.sigma = scale(points, &line, &mut left);
        let bend = HUBER_BEND * line.sigma.max(f64::MIN_POSITIVE);
        // The first round takes all points as they are: the median alone knows nothing of the slope yet.
        let weigh = |rest: f64| if round == 0 { 1.0 } else { (bend / rest.abs()).min(1.0) };
        let before = line;
        weighted(points, &mut line, sloped, weigh);
        if (before.slope - line.slope).abs() <= 1e-6 * line.slope.abs()
            && (before.intercept - line.intercept).abs() <= 1e-6 * line.intercept.abs()
        {
            break;
        }
    }
    line.sigma = scale(points, &line, &mut left);
    widen(points, &mut line, sloped);
    Some(line)
}

fn range(points: &[(f64, f64)]) -> (f64, f64) {
    points
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.0), high.max(point.0)))
}

fn rest(point: &(f64, f64), line: &Line) -> f64 {
    point.1 - line.intercept - line.slope * point.0
}

fn scale(points: &[(f64, f64)], line: &Line, left: &mut Vec<f64>) -> f64 {
    left.clear();
    left.extend(points.iter().map(|point| rest(point, line).abs()));
    median(left).unwrap_or(0.0) * MAD_TO_SIGMA
}

fn weighted(points: &[(f64, f64)], line: &mut Line, sloped: bool, weigh: impl Fn(f64) -> f64) {
    let mut sums = [0.0; 5];
    for point in points {
        let weight = weigh(rest(point, line));
        for (sum, term) in
            sums.iter_mut().zip([1.0, point.0, point.1, point.0 * point.0, point.0 * point.1])
        {
            *sum += weight * term;
        }
    }
    let [weight, x, y, xx, xy] = sums;
    if weight <= 0.0 {
        return;
    }
    let spread = xx - x * x / weight;
    line.slope = if sloped && spread > 0.0 { (xy - x * y / weight) / spread } else { 0.0 };
    line.intercept = (y - line.slope * x) / weight;
}

fn widen(points: &[(f64, f64)], line: &mut Line, sloped: bool) {
    let count = points.len() as f64;
    let bend = HUBER_BEND * line.sigma.max(f64::MIN_POSITIVE);
    let clipped = |point: &(f64, f64)| rest(point, line).clamp(-bend, bend);
    let (mut square, mut neighbours) = (0.0, 0.0);
    for (at, point) in points.iter().enumerate() {
        square += clipped(point).powi(2);
        if let Some(next) = points.get(at + 1) {
            neighbours += clipped(point) * clipped(next);
        }
    }
    let alike = if square > 0.0 { (neighbours / square).clamp(0.0, 0.98) } else { 0.0 };
    let independent = (count * (1.0 - alike) / (1.0 + alike)).max(2.0);
    let mean = points.iter().map(|point| point.0).sum::<f64>() / count;
    let variance = points.iter().map(|point| (point.0 - mean).powi(2)).sum::<f64>() / count;
    let sloped = sloped && variance > 0.0;
    let slope_error = if sloped { line.sigma / (variance * independent).sqrt() } else { 0.0 };
    let mean_part = line.sigma / independent.sqrt();
    line.slope_error = 1.96 * slope_error;
    line.intercept_error = 1.96 * (mean_part.powi(2) + (slope_error * mean).powi(2)).sqrt();
}

/// A trend by the medians of all pairs (Theil 1950, Sen 1968).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trend {
    /// The median slope.
    pub(super) slope: f64,
    /// Its 95 % interval, as if neighbours were independent.
    pub(super) low: f64,
    pub(super) high: f64,
    /// Share of the pairs that rise: 1 for a clean rise, 0.75 for a single step in the middle.
    pub(super) rising: f64,
}

/// The trend of y over x; needs six points.
pub(super) fn theil_sen(points: &[(f64, f64)], slopes: &mut Vec<f64>) -> Option<Trend> {
    if points.len() < 6 {
        return None;
    }
    slopes.clear();
    for (at, left) in points.iter().enumerate() {
        slopes.extend(points[at + 1..].iter().map(|right| (right.1 - left.1) / (right.0 - left.0)));
    }
    let pairs = slopes.len() as f64;
    let count = points.len() as f64;
    let rising = slopes.iter().filter(|slope| **slope > 0.0).count() as f64 / pairs;
    let half = 1.96 * (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt() / (2.0 * pairs);
    let low = quantile(slopes, (0.5 - half).max(0.0))?;
    let high = quantile(slopes, (0.5 + half).min(1.0))?;
    Some(Trend { slope: median(slopes)?, low, high, rising })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wobble(at: usize) -> f64 {
        // A fixed, aperiodic pattern between -1 and 1: no generator is needed for this.
        (at as f64 * 12.9898).sin()
    }

    #[test]
    fn a_tenth_of_wild_points_does_not_move_the_line() {
        let points: Vec<_> = (0..300)
            .map(|at| {
                let x = (at % 20) as f64;
                let wild = if at % 10 == 0 { 500.0 } else { 0.0 };
                (x, 3.0 + 2.0 * x + 0.1 * wobble(at) + wild)
            })
            .collect();
        let line = huber(&points, 2.0).unwrap();
        assert!((line.slope - 2.0).abs() < 0.05, "{line:?}");
        assert!((line.intercept - 3.0).abs() < 0.2, "{line:?}");
        assert!(line.sigma < 0.5, "{line:?}");
    }

    #[test]
    fn a_line_over_players_that_never_change_has_no_slope() {
        let points: Vec<_> = (0..50).map(|at| (4.0, 10.0 + wobble(at))).collect();
        let line = huber(&points, 2.0).unwrap();
        assert_eq!((line.slope, line.slope_error), (0.0, 0.0));
        assert!((line.intercept - 10.0).abs() < 0.5);
    }

    #[test]
    fn neighbours_that_resemble_each_other_widen_the_interval() {
        let noisy = |slow: usize| {
            let points: Vec<_> = (0..400)
                .map(|at| ((at % 13) as f64, (at % 13) as f64 + wobble(at / slow)))
                .collect();
            huber(&points, 2.0).unwrap().slope_error
        };
        assert!(noisy(20) > 2.0 * noisy(1), "{} {}", noisy(20), noisy(1));
    }

    #[test]
    fn a_trend_is_found_and_a_step_is_not_one() {
        let mut slopes = Vec::new();
        let leak: Vec<_> = (0..25).map(|at| (at as f64, 100.0 + 0.03 * at as f64)).collect();
        let trend = theil_sen(&leak, &mut slopes).unwrap();
        assert!((trend.slope - 0.03).abs() < 1e-9 && trend.rising > 0.99);
        let step: Vec<_> = (0..25)
            .map(|at| (at as f64, if at < 12 { 100.0 } else { 101.0 } + 0.1 * wobble(at)))
            .collect();
        assert!(theil_sen(&step, &mut slopes).unwrap().rising < 0.85);
    }

    #[test]
    fn the_median_of_nothing_is_nothing() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
    }
}
