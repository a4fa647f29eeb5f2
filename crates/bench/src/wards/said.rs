//! What Naru says of itself in `/metrics`: the conditions of the run, and figures that only it knows. Names are those
//! that operators see.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

/// What was said over a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Said {
    /// Between two samples, at the begin and at the end. Naru samples more rarely on a busy machine, and so costs less
    /// there: only figures with one second at both ends are those of the scene.
    sampled_every_ms: [f64; 2],
    /// Transactions of the store.
    transactions_per_minute: f64,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [begin, end] = self.sampled_every_ms;
        let transactions = self.transactions_per_minute;
        write!(
            f,
            "Naru sampled every {begin} ms, then {end} ms; {transactions:.2} transactions/min"
        )
    }
}

impl Said {
    pub(crate) fn between(before: &str, after: &str, span: Duration) -> anyhow::Result<Said> {
        let every = |text| number(text, "naru_supervisor_interval_milliseconds");
        let transactions = |text| number(text, "naru_supervisor_transactions_total");
        let minutes = span.as_secs_f64() / 60.0;
        Ok(Said {
            sampled_every_ms: [every(before)?, every(after)?],
            transactions_per_minute: (transactions(after)? - transactions(before)?) / minutes,
        })
    }
}

fn number(metrics: &str, name: &str) -> anyhow::Result<f64> {
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = lines.next().and_then(|value| value.parse().ok());
    value.with_context(|| format!("Naru's /metrics has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_at_both_ends() {
        let text = |every, transactions| {
            format!(
                "# HELP x y\nnaru_supervisor_interval_milliseconds {every}\n\
                 naru_supervisor_transactions_total {transactions}\n"
            )
        };
        let said = Said::between(&text(1000, 3), &text(2000, 9), Duration::from_secs(120)).unwrap();
        assert_eq!(said.sampled_every_ms, [1000.0, 2000.0]);
        assert_eq!(said.transactions_per_minute, 3.0);
        let error = Said::between("", "", Duration::from_secs(1)).unwrap_err().to_string();
        assert!(error.contains("naru_supervisor_interval_milliseconds"), "{error}");
    }
}
