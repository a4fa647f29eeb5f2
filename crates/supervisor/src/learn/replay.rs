//! Runs a recording through a learner, so that anyone can see which alerts their own series would have raised.
//! A recording is CSV with a header, or JSON lines; columns that are not there are not known. It reads text
//! only, line by line; files are the caller's business.

use std::time::Duration;

use naru_domain::Timestamp;

use super::learner::{LearnSettings, Learner};
use super::words::{AlertChange, Mark, MinuteAggregate, Sample};

/// Longest line.
pub const RECORDING_LINE_BYTES_MAX: usize = 4_096;
/// A line stands for the time since the one before, but for no longer than this.
const STEP_MAX: Duration = Duration::from_secs(600);

/// Why a recording was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordingError {
    /// The first line is neither a header with `time` nor a JSON object.
    #[error("the first line is neither a CSV header with a column `time` nor a JSON object")]
    Header,
    /// A line could not be read.
    #[error("line {line}: {what}")]
    Line {
        /// From 1 on.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// One line of a recording.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// Seconds since 1970; decimals are allowed.
    time: f64,
    players: Option<f64>,
    /// Cores.
    cpu: Option<f64>,
    /// Bytes.
    rss: Option<f64>,
    /// Bytes since the line before.
    write_bytes: Option<f64>,
    tick_ms: Option<f64>,
    tick_rate: Option<f64>,
    memory_limit: Option<f64>,
    /// `started`, `stopping`, `restarted`, `save_began`, `save_ended`; or `disturbed` for five minutes.
    mark: Option<String>,
}

const COLUMNS: [&str; 9] = [
    "time",
    "players",
    "cpu",
    "rss",
    "write_bytes",
    "tick_ms",
    "tick_rate",
    "memory_limit",
    "mark",
];

/// Reads lines and feeds a learner.
pub struct Replay {
    learner: Learner,
    /// Of CSV: for each field, which of `COLUMNS`.
    header: Option<Vec<usize>>,
    line: usize,
    last: Option<Timestamp>,
    minute_began: Timestamp,
    limit: Option<u64>,
}

impl Replay {
    /// Knows nothing; the first day of a recording is what it learns from.
    #[must_use]
    pub fn new(settings: LearnSettings) -> Replay {
        let learner = Learner::new(settings);
        Replay {
            learner,
            header: None,
            line: 0,
            last: None,
            minute_began: Timestamp(0),
            limit: None,
        }
    }

    /// What was learned so far.
    #[must_use]
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// One more line. Empty ones and comments (`#`) are left out.
    ///
    /// # Errors
    /// [`RecordingError`]; the replay may go on with the next line.
    pub fn line(&mut self, text: &str) -> Result<Vec<AlertChange>, RecordingError> {
        self.line += 1;
        if text.len() > RECORDING_LINE_BYTES_MAX {
            return Err(self.wrong("longer than 4,096 bytes"));
        }
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(Vec::new());
        }
        if text.starts_with('{') {
            let row = serde_json::from_str(text);
            return row
                .map_err(|_| self.wrong("not an object of the known fields"))
                .and_then(|row| self.row(row));
        }
        let Some(header) = &self.header else {
            self.header = Some(header(text)?);
            return Ok(Vec::new());
        };
        let row = csv(header, text).map_err(|what| self.wrong(what))?;
        self.row(row)
    }

    fn wrong(&self, what: &'static str) -> RecordingError {
        RecordingError::Line { line: self.line, what }
    }

    fn row(&mut self, row: Row) -> Result<Vec<AlertChange>, RecordingError> {
        if !(0.0..=1e11).contains(&row.time) {
            return Err(self.wrong("`time` is not in seconds since 1970"));
        }
        let now = Timestamp(i64::try_from(whole(row.time * 1_000.0)).unwrap_or(i64::MAX));
        let mut changes = Vec::new();
        if let Some(mark) = &row.mark {
            let mark = mark_of(mark).ok_or_else(|| self.wrong("no such mark"))?;
            changes.extend(self.learner.mark(now, mark));
        }
        self.limit = row.memory_limit.map(whole).or(self.limit);
        let Some(last) = self.last.replace(now) else {
            self.minute_began = now;
            return Ok(changes);
        };
        if now < last {
            self.minute_began = now;
            return Ok(changes);
        }
        let elapsed = now.since(last).min(STEP_MAX);
        // Longer gaps are gaps: nobody knows what was written when.
        let written = row.write_bytes.filter(|_| elapsed < STEP_MAX);
        let sample = Sample {
            elapsed,
            cpu_cores: row.cpu.map(super::robust::narrow),
            rss_bytes: row.rss.map(whole),
            write_bytes: written.map(whole),
            tick_ms: row.tick_ms.map(super::robust::narrow),
            tick_rate: row.tick_rate.map(super::robust::narrow),
            players: row.players.map(|players| u32::try_from(whole(players)).unwrap_or(u32::MAX)),
        };
        self.learner.sample(now, &sample);
        if now.since(self.minute_began) >= Duration::from_secs(60) {
            self.minute_began = now;
            let limit = self.limit;
            let aggregate = MinuteAggregate { memory_limit_bytes: limit, ..Default::default() };
            changes.extend(self.learner.minute(now, &aggregate));
        }
        Ok(changes)
    }
}

/// All changes of a whole recording, in order.
///
/// # Errors
/// [`RecordingError`] at the first line that cannot be read.
pub fn replay(
    settings: LearnSettings,
    recording: &str,
) -> Result<Vec<AlertChange>, RecordingError> {
    let mut replay = Replay::new(settings);
    let mut changes = Vec::new();
    for line in recording.lines() {
        changes.extend(replay.line(line)?);
    }
    Ok(changes)
}

fn header(text: &str) -> Result<Vec<usize>, RecordingError> {
    let columns: Option<Vec<usize>> = text
        .split(',')
        .map(|name| COLUMNS.iter().position(|column| *column == name.trim()))
        .collect();
    columns.filter(|columns| columns.contains(&0)).ok_or(RecordingError::Header)
}

fn csv(header: &[usize], text: &str) -> Result<Row, &'static str> {
    let mut row = Row { time: f64::NAN, ..Row::default() };
    let mut fields = text.split(',');
    for column in header {
        let field = fields.next().ok_or("fewer fields than the header")?.trim();
        if field.is_empty() {
            continue;
        }
        if COLUMNS[*column] == "mark" {
            row.mark = Some(field.to_owned());
            continue;
        }
        let value: f64 = field.parse().map_err(|_| "not a number")?;
        let value = Some(value).filter(|value| value.is_finite() && *value >= 0.0);
        let value = value.ok_or("a number below zero or without end")?;
        match COLUMNS[*column] {
            "time" => row.time = value,
            "players" => row.players = Some(value),
            "cpu" => row.cpu = Some(value),
            "rss" => row.rss = Some(value),
            "write_bytes" => row.write_bytes = Some(value),
            "tick_ms" => row.tick_ms = Some(value),
            "tick_rate" => row.tick_rate = Some(value),
            _ => row.memory_limit = Some(value),
        }
    }
    if fields.next().is_some() {
        return Err("more fields than the header");
    }
    Ok(row)
}

fn mark_of(name: &str) -> Option<Mark> {
    Some(match name {
        "started" => Mark::Started,
        "restarted" => Mark::Restarted,
        "stopping" => Mark::Stopping,
        "save_began" => Mark::SaveBegan,
        "save_ended" => Mark::SaveEnded,
        "disturbed" => Mark::Disturbed(Duration::from_secs(300)),
        _ => return None,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole numbers are meant; the cast saturates"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::words::AlertKind;
    use super::*;

    fn opened(recording: &str) -> Vec<AlertKind> {
        let changes = replay(LearnSettings::default(), recording).unwrap();
        let opened = changes.into_iter().filter_map(|change| match change {
            AlertChange::Opened(alert) => Some(alert.kind),
            _ => None,
        });
        opened.collect()
    }

    #[test]
    fn recordings_raise_the_alerts_that_they_were_made_for() {
        use AlertKind::{CpuHigh, MemoryLeak, TickSlow};
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/");
        for (name, expected) in [
            ("quiet.csv", vec![]),
            ("saves.csv", vec![]),
            ("leak.csv", vec![MemoryLeak]),
            ("cpu.csv", vec![CpuHigh]),
            ("tick.csv", vec![TickSlow]),
        ] {
            let text = std::fs::read_to_string(format!("{folder}{name}")).unwrap();
            assert_eq!(opened(&text), expected, "{name}");
        }
    }

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "time,cpu,players,mark\n1767571200,1.5,3,\n1767571260,1.6,,started\n";
        let json = "{\"time\":1767571200,\"cpu\":1.5,\"players\":3}\n\n# a comment\n\
                    {\"time\":1767571260,\"cpu\":1.6,\"mark\":\"started\"}\n";
        let learned = |text: &str| {
            let mut replay = Replay::new(LearnSettings::default());
            text.lines().for_each(|line| assert_eq!(replay.line(line), Ok(Vec::new())));
            replay.learner().snapshot()
        };
        assert_eq!(learned(csv), learned(json));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let check = |text: &str, expected: &str| {
            let error = replay(LearnSettings::default(), text).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        check("cpu,players\n1,2\n", "column `time`");
        check("time,cpu\n1,2\nx,2\n", "line 3: not a number");
        check("time,cpu\n1\n", "line 2: fewer");
        check("time,cpu\n1,2,3\n", "line 2: more");
        check("time,cpu\n1,-2\n", "below zero");
        check("time,mark\n1,exploded\n", "no such mark");
        check("{\"time\":1,\"wrong\":2}\n", "line 1: not an object");
        check(&format!("time\n{}\n", "1".repeat(5_000)), "4,096");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_text_is_read_or_refused(text in "(\\PC|\n|,){0,200}", rows in "time,cpu,rss\n([0-9.,]{1,20}\n){0,8}") {
            super::super::checks::check_replay(text.as_bytes());
            super::super::checks::check_replay(rows.as_bytes());
        }
    }
}
