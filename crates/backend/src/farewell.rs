//! Connections that ended, on their way to the application: a bounded queue, emptied by a few calls at once.
//! An end is told again until it was heard or is too old. Nobody's connection waits for any of this.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use naru_outbound::RetryOptions;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::calls::{Calls, Endpoint};
use crate::event::Event;
use crate::figures::Outcome;

/// Calls at once (guessed: enough for 1,000 ends a second at 10 ms each).
const AT_ONCE_MAX: usize = 10;
/// An end that was not heard for so long says nothing any more (guessed: longer than a deployment).
const AGE_MAX: Duration = Duration::from_secs(300);

/// One connection that ended.
#[derive(Debug)]
pub(crate) struct Farewell {
    pub(crate) delivery: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) ended: Instant,
}

/// Tells the application of connections that ended.
pub struct Farewells {
    calls: Arc<Calls>,
    queue: mpsc::Receiver<Farewell>,
    flush_timeout: Duration,
}

impl Farewells {
    pub(crate) fn new(
        calls: Arc<Calls>,
        queue: mpsc::Receiver<Farewell>,
        flush_timeout: Duration,
    ) -> Farewells {
        Farewells { calls, queue, flush_timeout }
    }

    /// Works until told to stop, then for a bounded time on what waits. The rest is counted as dropped.
    pub async fn run(self, stop: CancellationToken) {
        let Farewells { calls, mut queue, flush_timeout } = self;
        let mut telling = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(farewell) = queue.recv(), if telling.len() < AT_ONCE_MAX => {
                    telling.push(tell(&calls, farewell));
                }
                Some(()) = telling.next() => {}
            }
        }
        queue.close();
        let flush = async {
            loop {
                tokio::select! {
                    Some(farewell) = queue.recv(), if telling.len() < AT_ONCE_MAX => {
                        telling.push(tell(&calls, farewell));
                    }
                    Some(()) = telling.next() => {}
                    else => break,
                }
            }
        };
        if timeout(flush_timeout, flush).await.is_err() {
            let left = calls.figures.farewells_waiting.get();
            calls.figures.farewells_dropped.add(u64::try_from(left).unwrap_or(0));
            info!(target: "naru::hooks", left, "the back end was not told of all ended connections");
        }
    }
}

/// Tells of one end until it was heard.
async fn tell(calls: &Calls, farewell: Farewell) {
    if let Some(endpoint) = calls.endpoint(Event::Disconnected) {
        let is_heard = insist(calls, endpoint, &farewell).await;
        if !is_heard {
            calls.figures.farewells_dropped.increment();
        }
    }
    calls.figures.farewells_waiting.add(-1);
}

async fn insist(calls: &Calls, endpoint: &Endpoint, farewell: &Farewell) -> bool {
    let retry = RetryOptions {
        pause: Duration::from_millis(500),
        pause_max: Duration::from_secs(10),
        ..RetryOptions::default()
    };
    let mut attempt = 0_u32;
    while farewell.ended.elapsed() < AGE_MAX {
        let place = endpoint.target.place().await;
        let pass = match endpoint.target.ask() {
            Ok(pass) => pass,
            Err(wait) => {
                drop(place);
                sleep(wait).await;
                continue;
            }
        };
        attempt += 1;
        let (headers, body) = (farewell.headers.clone(), farewell.body.clone());
        let limit = endpoint.timeout();
        let told = endpoint.target.post(pass, &farewell.delivery, headers, body, limit).await;
        drop(place);
        let Err(error) = told else {
            calls.figures.count(Event::Disconnected, Outcome::Result);
            return true;
        };
        calls.figures.count(Event::Disconnected, Outcome::Failed);
        endpoint.complain(&error);
        if !Event::Disconnected.may_repeat(&error) {
            return false;
        }
        sleep(retry.pause_before(attempt + 1, rand::random(), None)).await;
    }
    false
}
