//! Alerts in words: what, how unusual, since when, what to do. It decides nothing.

use std::time::Duration;

use naru_domain::Timestamp;

use super::desk::Ending;
use super::words::{AlertKind, Forecast, Series};

/// What is known about an unusual value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) kind: AlertKind,
    pub(super) observed: f64,
    pub(super) expected: f64,
    pub(super) sigma: f64,
    pub(super) players: f64,
    pub(super) since: Timestamp,
    pub(super) forecast: Option<Forecast>,
    /// The machine itself was short of processor time.
    pub(super) crowded: bool,
}

/// A value in words.
pub(super) fn amount(series: Series, value: f64) -> String {
    match series {
        Series::Cpu => format!("{value:.2} cores"),
        Series::Memory => bytes(value),
        Series::TickTime => format!("{value:.1} ms"),
        Series::TickRate => format!("{value:.1} ticks a second"),
        Series::Writes => format!("{} a second", bytes(value)),
        Series::Players => format!("{value:.0} players"),
    }
}

fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let step = ((value.abs().max(1.0).log2() / 10.0).floor()).min(3.0);
    let digits = if step >= 3.0 { 2 } else { 0 };
    format!("{:.digits$} {}", value / 1_024_f64.powf(step), units[super::robust::floor_index(step)])
}

/// A length of time in words.
pub(super) fn span(length: Duration) -> String {
    let minutes = (length.as_secs() + 30) / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) if hours < 48 => format!("{hours} h {minutes:02} min"),
        (hours, _) => format!("{} days", hours / 24),
    }
}

fn seconds(length: f64) -> String {
    span(Duration::from_secs_f64(length.clamp(0.0, 1e9)))
}

/// `14:05 UTC`.
fn clock(at: Timestamp) -> String {
    let minute = at.0.div_euclid(60_000).rem_euclid(1_440);
    format!("{:02}:{:02} UTC", minute / 60, minute % 60)
}

/// The whole message.
pub(super) fn opened(case: &Case) -> String {
    let what = what(case);
    let since = clock(case.since);
    let todo = what_to_do(case);
    if case.kind.is_threshold() {
        return format!("{what}, since {since}. {todo}");
    }
    format!("{what} ({:.1} sigma), since {since}. {todo}", case.sigma)
}

fn what(case: &Case) -> String {
    let series = case.kind.series();
    let observed = amount(series, case.observed);
    let expected = amount(series, case.expected);
    let people = if case.players.is_finite() {
        format!(" with {:.0} players at this hour", case.players)
    } else {
        " at this hour".to_owned()
    };
    let share =
        if case.expected > 0.0 { (case.observed / case.expected - 1.0) * 100.0 } else { 0.0 };
    match case.kind {
        AlertKind::CpuHigh => {
            format!("It uses {observed}, {share:.0} % more than the usual {expected}{people}")
        }
        AlertKind::TickSlow => {
            format!(
                "A tick takes {observed}, {share:.0} % longer than the usual {expected}{people}"
            )
        }
        AlertKind::TickRateLow => {
            format!("It runs at {observed} instead of the usual {expected}{people}")
        }
        AlertKind::TickStalled => format!("It hardly ticks: {observed}"),
        AlertKind::MemoryHigh => {
            format!(
                "It uses {observed} of memory, {share:.0} % more than the usual {expected}{people}"
            )
        }
        AlertKind::MemoryFull => {
            format!("Memory is nearly used up: {observed} of {expected}")
        }
        AlertKind::WritesHigh => {
            format!("It writes {observed} outside of saves, usual are {expected}{people}")
        }
        AlertKind::PlayersGone => {
            format!("Nearly all players left at once: {observed} of {expected}")
        }
        AlertKind::MemoryLeak => leak(case),
    }
}

fn leak(case: &Case) -> String {
    let growth = bytes(case.observed);
    let usual = bytes(case.expected);
    let words = format!(
        "Memory grows by {growth} an hour though neither players nor saves explain it; this ward's own swings \
         stay below {usual} an hour"
    );
    match case.forecast {
        None => words,
        Some(forecast) => {
            let latest = match forecast.latest_s {
                Some(latest) => format!("{} to {}", seconds(forecast.earliest_s), seconds(latest)),
                None => format!("{} at the earliest", seconds(forecast.earliest_s)),
            };
            format!("{words}; memory is full in {} ({latest})", seconds(forecast.full_in_s))
        }
    }
}

fn what_to_do(case: &Case) -> &'static str {
    if case.crowded {
        return "The machine itself is short of processor time: look at what else runs on it before the game.";
    }
    match case.kind {
        AlertKind::CpuHigh => {
            "Look at what changed then: a mod, a new map, one player's machine or farm. If ticks suffer, restart \
             when it is empty."
        }
        AlertKind::TickSlow | AlertKind::TickRateLow => {
            "Players feel this as lag. Look at the console for what the game is busy with; a restart helps if \
             nothing there explains it."
        }
        AlertKind::TickStalled => "Look at the console; if it answers nothing, stop and start it.",
        AlertKind::MemoryLeak => {
            "Plan a restart before memory is full, best when it is empty; if it began after an update or with a \
             mod, go back."
        }
        AlertKind::MemoryHigh => {
            "Look at what was loaded: a map, a base, a mod. If it does not fall by itself, restart when it is \
             empty."
        }
        AlertKind::MemoryFull => {
            "Save and restart it now, or the system may kill it without a save."
        }
        AlertKind::WritesHigh => {
            "Look at the size of logs and saves, and at free disk space; debug logging is a common cause."
        }
        AlertKind::PlayersGone => {
            "Try to join, and look at the console and the network: they may not be able to come back."
        }
    }
}

/// The message that ends it.
pub(super) fn closed(kind: AlertKind, lasted: Duration, ending: Ending) -> String {
    let subject = match kind {
        AlertKind::CpuHigh => "Processor use",
        AlertKind::TickSlow => "The length of ticks",
        AlertKind::TickRateLow | AlertKind::TickStalled => "The tick rate",
        AlertKind::MemoryLeak => "Memory's growth",
        AlertKind::MemoryHigh | AlertKind::MemoryFull => "Memory",
        AlertKind::WritesHigh => "Writing",
        AlertKind::PlayersGone => "The number of players",
    };
    let lasted = span(lasted);
    match ending {
        Ending::Calm => format!("{subject} is usual again after {lasted}."),
        Ending::Restart => {
            format!("{subject}: over after {lasted}, because the game was stopped or started anew.")
        }
        Ending::Accepted => {
            format!("{subject} stayed like that for {lasted} and counts as usual from now on.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(kind: AlertKind) -> Case {
        Case {
            kind,
            observed: 3.1,
            expected: 1.9,
            sigma: 7.42,
            players: 12.0,
            since: Timestamp(14 * 3_600_000 + 5 * 60_000),
            forecast: None,
            crowded: false,
        }
    }

    #[test]
    fn an_alert_says_what_how_unusual_since_when_and_what_to_do() {
        assert_eq!(
            opened(&case(AlertKind::CpuHigh)),
            "It uses 3.10 cores, 63 % more than the usual 1.90 cores with 12 players at this hour (7.4 sigma), \
             since 14:05 UTC. Look at what changed then: a mod, a new map, one player's machine or farm. If ticks \
             suffer, restart when it is empty."
        );
        for kind in AlertKind::ALL {
            let text = opened(&case(kind));
            assert!(text.contains("since 14:05 UTC. "), "{text}");
            assert_eq!(text.contains("sigma"), !kind.is_threshold(), "{text}");
        }
    }

    #[test]
    fn a_leak_says_when_memory_is_full() {
        let forecast = Forecast {
            bytes_per_hour: 2e8,
            full_in_s: 12_000.0,
            earliest_s: 10_000.0,
            latest_s: Some(16_000.0),
        };
        let case = Case {
            observed: 2.1e8,
            expected: 4e7,
            forecast: Some(forecast),
            ..case(AlertKind::MemoryLeak)
        };
        let text = opened(&case);
        assert!(text.contains("grows by 200 MiB an hour"), "{text}");
        assert!(text.contains("full in 3 h 20 min (2 h 47 min to 4 h 27 min)"), "{text}");
    }

    #[test]
    fn a_crowded_machine_is_named_before_the_game() {
        let case = Case { crowded: true, ..case(AlertKind::TickSlow) };
        assert!(opened(&case).contains("what else runs on it"));
    }
}
