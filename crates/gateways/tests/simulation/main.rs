//! A seeded simulation of the hub with both gateways: links that break at any byte or swallow everything,
//! stops and crashes of the node, a store that fails, histories that run out.
//!
//! The oracle is the promise: each reader sees each acknowledged publication once and in order, or is told
//! the gap; what was published with a key stands in the channel once. A failing seed is printed; put it
//! into [`REPLAY`] to run it alone. Time is virtual, so that minutes of silence cost nothing.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure ends the seed"
)]

mod clients;
mod node;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use naru_testkit::bus_contract::Fault;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use clients::{Acknowledged, Reader, publish_once, publish_with_keys};
use node::{KEPT, SHORT, Site};

/// A seed to run alone.
const REPLAY: Option<u64> = None;
/// More were run by hand; these take seconds.
const SIMULATED: std::ops::Range<u64> = 0..60;
/// What each publisher says.
const TEXTS: usize = 30;
/// Longest virtual time of anything: far beyond all timers of both sides.
const LONG: Duration = Duration::from_secs(24 * 3_600);

#[test]
fn every_reader_sees_what_was_acknowledged_once_and_in_order_or_is_told_the_gap() {
    let seeds = REPLAY.map_or(SIMULATED, |seed| seed..seed + 1);
    let mut told = Told::default();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(one) => told.add(&one),
            Err(panic) => {
                print_seed(seed);
                resume_unwind(panic);
            }
        }
    }
    // A simulation in which nothing goes wrong shows nothing.
    assert!(REPLAY.is_some() || (told.gaps > 0 && told.read > 0), "{told:?}");
}

#[expect(clippy::print_stderr, reason = "a person has to read which seed failed")]
fn print_seed(seed: u64) {
    eprintln!("the failing seed is {seed}");
}

/// What happened, added up.
#[derive(Debug, Default)]
struct Told {
    read: usize,
    gaps: usize,
}

impl Told {
    fn add(&mut self, other: &Told) {
        self.read += other.read;
        self.gaps += other.gaps;
    }
}

fn run(seed: u64) -> Told {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime
        .unwrap()
        .block_on(async { timeout(LONG, live(seed)).await.expect("it comes to an end") })
}

async fn live(seed: u64) -> Told {
    let site = Arc::new(Site::new(seed));
    site.start().await;
    let acknowledged = Acknowledged::none();
    let mut readers = Vec::new();
    let mut reading = JoinSet::new();
    for channel in [KEPT, SHORT] {
        for _ in 0..site.random(1..3) {
            readers.push(Reader::new(&site, channel));
            reading.spawn(readers.last().unwrap().clone().read_as_centrifuge());
            readers.push(Reader::new(&site, channel));
            reading.spawn(readers.last().unwrap().clone().read_as_stomp());
        }
    }
    let texts = |who: &str| (0..TEXTS).map(|number| format!("{who} {number}")).collect();
    let mut publishing = JoinSet::new();
    for (channel, who) in [(KEPT, "k"), (SHORT, "s")] {
        let with_keys = texts(&format!("{who} keyed"));
        publishing.spawn(publish_with_keys(site.clone(), channel, with_keys, acknowledged.clone()));
        let once = texts(&format!("{who} once"));
        publishing.spawn(publish_once(site.clone(), channel, once, acknowledged.clone()));
    }
    tokio::select! {
        () = trouble(&site, &acknowledged) => unreachable!("there is always more"),
        () = all(&mut publishing) => {}
        () = all(&mut reading) => unreachable!("readers read on"),
    }
    site.crash().await;
    site.start().await;
    site.calm_down();
    for channel in [KEPT, SHORT] {
        site.publish(channel, "\"the last\"").await;
    }
    for reader in &readers {
        let last = *site.ledger.truth(reader.channel()).keys().next_back().unwrap();
        tokio::select! {
            () = reader.until(|seen| seen.up_to == last) => {}
            () = all(&mut reading) => unreachable!("readers read on"),
        }
    }
    judge(&site, &readers, &acknowledged)
}

/// Waits for all, and panics with the first that does.
async fn all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            resume_unwind(error.into_panic());
        }
    }
}

/// What goes wrong on the server's side.
async fn trouble(site: &Site, acknowledged: &Acknowledged) {
    loop {
        acknowledged.more(usize::try_from(site.random(0..8)).unwrap()).await;
        // Not only in the moment of an answer.
        turns(site).await;
        match site.random(0..8) {
            0 => {
                site.stop().await;
                turns(site).await;
                site.start().await;
            }
            1 => {
                site.crash().await;
                turns(site).await;
                site.start().await;
            }
            2 => site.expire(SHORT).await,
            3 => site.ledger.store.fail_next(Fault::Refuse),
            4 => site.ledger.store.fail_next(Fault::KeepAndRefuse),
            _ => {}
        }
    }
}

/// Lets others do something.
async fn turns(site: &Site) {
    for _ in 0..site.random(0..40) {
        yield_now().await;
    }
}

fn judge(site: &Site, readers: &[Reader], acknowledged: &Acknowledged) -> Told {
    let mut told = Told::default();
    let truths: BTreeMap<&str, BTreeMap<u64, String>> =
        [KEPT, SHORT].map(|channel| (channel, site.ledger.truth(channel))).into();
    for reader in readers {
        let truth = &truths[reader.channel()];
        reader.seen(|seen| {
            for (offset, text) in &seen.got {
                assert_eq!(truth[offset], *text, "another text at {offset}");
            }
            let missing: u64 = seen.gaps.iter().map(|(from, to)| to - from + 1).sum();
            let all = truth.range(seen.from + 1..).count() as u64;
            assert_eq!(seen.got.len() as u64 + missing, all, "everything was read or told");
            if reader.channel() == KEPT {
                assert_eq!(seen.gaps, [], "the history has it all");
            }
            told.read += seen.got.len();
            told.gaps += seen.gaps.len();
        });
    }
    for (channel, text) in &acknowledged.all() {
        let count = truths[channel].values().filter(|kept| *kept == text).count();
        assert!(count >= 1, "{text} was acknowledged and is nowhere");
        assert!(*channel != KEPT || count == 1, "{text} stands in the channel {count} times");
    }
    told
}
