//! What was learned of a ward, as it crosses the wire.

use naru_supervisor::learn::{
    Alert, BaselineView, CostPerPlayer, Forecast, LearnedView, SaveSource, SaveView, SaveWindow,
    Series, TrendView,
};
use naru_supervisor::model::Severity;
use serde::Serialize;
use utoipa::ToSchema;

use crate::times;

/// Something is wrong.
#[derive(Serialize, ToSchema)]
pub(super) struct WardAlert {
    /// Such as `cpu_high`, `memory_leak`, `tick_slow`.
    #[schema(value_type = String)]
    kind: naru_supervisor::learn::AlertKind,
    /// `cpu_cores`, `memory_bytes`, `tick_ms`, `ticks_per_second`, `written_bytes_per_second` or `players`.
    series: &'static str,
    /// `info`, `warning` or `critical`.
    severity: &'static str,
    /// When it began, as far as that can be told.
    since: String,
    /// How many robust standard deviations from what is usual; 0 for fixed thresholds.
    how_unusual: f64,
    /// What would have been usual, in the unit of the series (a leak: bytes an hour).
    expected: f64,
    observed: f64,
    /// When memory is full, for a leak with a known limit.
    forecast: Option<WardForecast>,
    /// All of it for people.
    text: String,
}

/// When memory will be used up if it goes on like this.
#[derive(Serialize, ToSchema)]
pub(super) struct WardForecast {
    bytes_per_hour: f64,
    /// From now: the best guess.
    full_in_s: f64,
    earliest_s: f64,
    /// Null when it may never fill.
    latest_s: Option<f64>,
}

fn label(series: Series) -> &'static str {
    match series {
        Series::Cpu => "cpu_cores",
        Series::Memory => "memory_bytes",
        Series::TickTime => "tick_ms",
        Series::TickRate => "ticks_per_second",
        Series::Writes => "written_bytes_per_second",
        Series::Players => "players",
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

impl From<&Forecast> for WardForecast {
    fn from(forecast: &Forecast) -> WardForecast {
        WardForecast {
            bytes_per_hour: forecast.bytes_per_hour,
            full_in_s: forecast.full_in_s,
            earliest_s: forecast.earliest_s,
            latest_s: forecast.latest_s,
        }
    }
}

impl From<&Alert> for WardAlert {
    fn from(alert: &Alert) -> WardAlert {
        WardAlert {
            kind: alert.kind,
            series: label(alert.series),
            severity: severity(alert.severity),
            since: times::show(alert.since),
            how_unusual: alert.how_unusual,
            expected: alert.expected,
            observed: alert.observed,
            forecast: alert.forecast.as_ref().map(WardForecast::from),
            text: alert.text.clone(),
        }
    }
}

/// What was learned of a ward.
#[derive(Serialize, ToSchema)]
pub(super) struct WardLearned {
    /// Hours of undisturbed running that are known, and how many are needed before unusual values can be
    /// told from usual ones.
    hours_known: f64,
    hours_needed: f64,
    /// What is missing, for people; empty when nothing is.
    missing: String,
    /// What is usual now.
    baselines: Vec<WardBaseline>,
    cpu_cores_per_player: WardPlayerCost,
    memory_bytes_per_player: WardPlayerCost,
    memory_trend: Option<WardTrend>,
    saves: Option<WardSaves>,
}

/// What is usual for one series now.
#[derive(Serialize, ToSchema)]
pub(super) struct WardBaseline {
    /// As in alerts.
    series: &'static str,
    /// At this hour with these players.
    expected: f64,
    /// One robust standard deviation, in the same unit.
    sigma: f64,
    /// The last minute's value.
    observed: Option<f64>,
    /// In words.
    text: String,
}

impl From<&BaselineView> for WardBaseline {
    fn from(baseline: &BaselineView) -> WardBaseline {
        WardBaseline {
            series: label(baseline.series),
            expected: baseline.expected,
            sigma: baseline.sigma,
            observed: baseline.observed,
            text: baseline.text.clone(),
        }
    }
}

/// What one player costs.
#[derive(Default, Serialize, ToSchema)]
pub(super) struct WardPlayerCost {
    /// `known`, `not_enough_variation` (the number of players changed too little) or `not_enough_data`.
    state: &'static str,
    /// Without players; null unless known, as the other three.
    base: Option<f64>,
    /// Half of the width of its 95 % interval.
    base_error: Option<f64>,
    per_player: Option<f64>,
    per_player_error: Option<f64>,
    /// Fewest and most players seen, when they changed too little.
    players_min: Option<f64>,
    players_max: Option<f64>,
}

impl From<&CostPerPlayer> for WardPlayerCost {
    fn from(cost: &CostPerPlayer) -> WardPlayerCost {
        match *cost {
            CostPerPlayer::Known { base, base_error, per_player, per_player_error } => {
                WardPlayerCost {
                    state: "known",
                    base: Some(base),
                    base_error: Some(base_error),
                    per_player: Some(per_player),
                    per_player_error: Some(per_player_error),
                    ..WardPlayerCost::default()
                }
            }
            CostPerPlayer::NotEnoughVariation { players_min, players_max } => WardPlayerCost {
                state: "not_enough_variation",
                players_min: Some(players_min),
                players_max: Some(players_max),
                ..WardPlayerCost::default()
            },
            CostPerPlayer::NotEnoughData => {
                WardPlayerCost { state: "not_enough_data", ..WardPlayerCost::default() }
            }
        }
    }
}

/// Where memory goes.
#[derive(Serialize, ToSchema)]
pub(super) struct WardTrend {
    /// Growth an hour as a share of what is used, without what players explain.
    share_per_hour: f64,
    /// Over so many minutes.
    minutes: u32,
    forecast: Option<WardForecast>,
}

impl From<&TrendView> for WardTrend {
    fn from(trend: &TrendView) -> WardTrend {
        WardTrend {
            share_per_hour: trend.per_hour,
            minutes: trend.minutes,
            forecast: trend.forecast.as_ref().map(WardForecast::from),
        }
    }
}

/// What is known of saves.
#[derive(Serialize, ToSchema)]
pub(super) struct WardSaves {
    /// `told` (by the game), `declared` (by the profile) or `learned`.
    source: &'static str,
    /// From save to save, when there is a rhythm.
    period_s: Option<f64>,
    length_s: f64,
    /// 0 to 1.
    confidence: f64,
    next: Option<WardSave>,
}

impl From<&SaveView> for WardSaves {
    fn from(saves: &SaveView) -> WardSaves {
        WardSaves {
            source: source(saves.source),
            period_s: saves.period_s,
            length_s: saves.length_s,
            confidence: saves.confidence,
            next: saves.next.as_ref().map(WardSave::from),
        }
    }
}

/// One save.
#[derive(Serialize, ToSchema)]
pub(super) struct WardSave {
    from: String,
    until: String,
    /// `told`, `declared` or `learned`.
    source: &'static str,
}

fn source(source: SaveSource) -> &'static str {
    match source {
        SaveSource::Told => "told",
        SaveSource::Declared => "declared",
        SaveSource::Learned => "learned",
    }
}

impl From<&SaveWindow> for WardSave {
    fn from(save: &SaveWindow) -> WardSave {
        WardSave {
            from: times::show(save.from),
            until: times::show(save.until),
            source: source(save.source),
        }
    }
}

impl From<&LearnedView> for WardLearned {
    fn from(learned: &LearnedView) -> WardLearned {
        WardLearned {
            hours_known: learned.warmup.hours_known,
            hours_needed: learned.warmup.hours_needed,
            missing: learned.warmup.missing.clone(),
            baselines: learned.baselines.iter().map(WardBaseline::from).collect(),
            cpu_cores_per_player: (&learned.cpu_per_player).into(),
            memory_bytes_per_player: (&learned.memory_per_player).into(),
            memory_trend: learned.memory_trend.as_ref().map(WardTrend::from),
            saves: learned.saves.as_ref().map(WardSaves::from),
        }
    }
}
