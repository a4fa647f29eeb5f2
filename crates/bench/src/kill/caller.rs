//! A phone of a durability run. Says each message once, on whatever connection it has, and never
//! again; comes back at once when the server dies, and keeps reading what the dead one had sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::load::gather::{Caller, Session};
use crate::load::reader::{ReadOnce, Tally};

/// Between one connection, or attempt, and the next.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What all phones of the run share.
pub(super) struct Progress {
    /// Echo replies so far.
    pub(super) answered: AtomicU64,
    /// Phones say something.
    pub(super) talking: AtomicBool,
    pub(super) stop: CancellationToken,
}

/// Lives until `stop`, over as many connections as it takes.
pub(super) async fn call(caller: Caller, pause: Duration, progress: Arc<Progress>) -> Tally {
    let mut turns = tokio::time::interval(pause);
    // What was due while the server was away is not made up for: it was never said.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tally = Tally::default();
    while !progress.stop.is_cancelled() {
        if let Ok(mut session) = caller.open().await {
            caller.greet();
            let talking = converse(&caller, &mut session, &mut turns, &progress);
            progress.stop.clone().run_until_cancelled(talking).await;
            tally.add(&session.tally);
        }
        // Also after a connection: a server that closes at once must not be hammered.
        let pause = tokio::time::sleep(CONNECT_PAUSE);
        progress.stop.clone().run_until_cancelled(pause).await;
    }
    tally
}

async fn converse(
    caller: &Caller,
    session: &mut Session,
    turns: &mut Interval,
    progress: &Progress,
) {
    loop {
        tokio::select! {
            read = session.step() => match read {
                Ok(ReadOnce::Some(echoes)) => {
                    let echoes = u64::try_from(echoes).unwrap_or(0);
                    progress.answered.fetch_add(echoes, Ordering::Relaxed);
                }
                Ok(ReadOnce::Nothing) => {}
                Ok(ReadOnce::End) | Err(_) => return,
            },
            _ = turns.tick() => {
                if progress.talking.load(Ordering::Relaxed) {
                    caller.say();
                }
            }
        }
    }
}
