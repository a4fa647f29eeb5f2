//! The connections of a gateway for chat clients: who gets a place, how long one may say nothing of who it
//! is, and how all are told to go. Knows no protocol.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use naru_domain::ports::{Backend, Caller, Refreshed, Refusal};
use naru_domain::{CloseReason, Timestamp};
use naru_hub::Hub;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{Admission, AdmissionLimits, Permit, Refused};

/// So many clients are told to go at once, and then so many others.
const FAREWELLS_AT_ONCE: usize = 64;

/// A connection's byte stream.
pub enum Socket {
    /// Plain TCP: others than its task may write to it.
    Plain(TcpStream),
    /// Anything else, such as TLS.
    Boxed(Box<dyn Io>),
}

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Io for T {}

/// The connections of one gateway.
#[derive(Clone)]
pub(crate) struct Connections {
    /// What the hub calls clients of the gateway.
    kind: &'static str,
    hub: Hub,
    admission: Admission,
    farewell_spread: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    pub(crate) fn new(
        kind: &'static str,
        hub: Hub,
        limits: AdmissionLimits,
        farewell_spread: Duration,
    ) -> Connections {
        Connections {
            kind,
            hub,
            admission: Admission::new(limits),
            farewell_spread,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Asks for a place for a connection.
    pub(crate) fn admit(&self, peer: SocketAddr) -> Result<Permit, Refused> {
        if self.stop.is_cancelled() {
            return Err(Refused::Total);
        }
        self.admission.admit(peer.ip(), Instant::now())
    }

    /// Serves a connection once `opened` gives its socket, with what was read from it already.
    pub(crate) fn serve<T>(
        &self,
        permit: Permit,
        opened: impl Future<Output = Option<(Socket, BytesMut)>> + Send + 'static,
        talk: impl FnOnce(Socket, BytesMut, CancellationToken) -> T + Send + 'static,
    ) where
        T: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            // Boxed: it is gone when the connection is idle.
            let Some((socket, leftover)) = Box::pin(opened).await else { return };
            talk(socket, leftover, stop).await;
            drop(permit);
        });
    }

    /// Does the gateway's `chores` until told to stop; then tells everybody to go, spread over a while, and
    /// waits for their connections to end, with the chores still done. The caller bounds that wait.
    pub(crate) async fn run<T: Future<Output = ()>>(
        &self,
        stop: CancellationToken,
        chores: impl FnOnce(CancellationToken) -> T,
    ) {
        let over = CancellationToken::new();
        let chores = chores(over.clone());
        tokio::pin!(chores);
        tokio::select! {
            () = stop.cancelled() => {}
            () = &mut chores => {}
        }
        self.stop.cancel();
        self.tasks.close();
        let farewell = async {
            self.say_goodbye().await;
            self.tasks.wait().await;
            over.cancel();
        };
        tokio::join!(farewell, chores);
    }

    async fn say_goodbye(&self) {
        let clients = self.hub.all_clients();
        let clients: Vec<_> =
            clients.into_iter().filter(|client| client.kind() == self.kind).collect();
        let batches = clients.chunks(FAREWELLS_AT_ONCE);
        let pause = self.farewell_spread / u32::try_from(batches.len()).unwrap_or(u32::MAX).max(1);
        for (i, batch) in batches.enumerate() {
            if i > 0 {
                sleep(pause).await;
            }
            for client in batch {
                client.close(&CloseReason::Shutdown.into());
            }
        }
    }
}

/// Gives a client until the limit to say who it is.
pub(crate) async fn introduced<E: From<CloseReason>>(
    introduction: impl Future<Output = Result<(), E>>,
    limit: Duration,
    stop: CancellationToken,
) -> Result<(), E> {
    tokio::select! {
        () = stop.cancelled() => Err(CloseReason::Shutdown.into()),
        introduced = timeout(limit, introduction) => match introduced {
            Ok(introduced) => introduced,
            Err(_elapsed) => Err(CloseReason::HandshakeTimeout.into()),
        },
    }
}

/// What one connection may keep of its headers, in bytes.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// The headers that the application wants to see, as far as they fit. What came `before` counts, too, and
/// cannot be replaced: a browser sends it, or a proxy that is trusted.
pub fn passed_headers<'a>(
    backend: Option<&Arc<dyn Backend>>,
    before: &[(String, String)],
    offered: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    match backend {
        Some(backend) => pass(|name| backend.wants_header(name), before, offered),
        None => before.to_vec(),
    }
}

fn pass<'a>(
    wants: impl Fn(&str) -> bool,
    before: &[(String, String)],
    offered: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<(String, String)> {
    let mut passed = before.to_vec();
    let length = |(name, value): &(String, String)| name.len() + value.len();
    let mut left = HEADERS_BYTES_MAX.saturating_sub(before.iter().map(length).sum());
    for (name, value) in offered {
        let name = name.to_ascii_lowercase();
        let is_new = before.iter().all(|(known, _)| *known != name);
        let bytes = name.len() + value.len();
        if is_new && bytes <= left && wants(&name) {
            left -= bytes;
            passed.push((name, value.to_owned()));
        }
    }
    passed
}

/// How long a right goes on that the application could not be asked about, until it is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What became of a right that ran out.
pub(crate) enum Renewal {
    /// It goes on until then, or for good.
    Until(Option<Timestamp>),
    /// It has ended.
    Over,
    /// The connection is to end, with a code and a reason.
    Disconnect(u32, String),
}

/// What an answer about a right that ran out means. An application that does not answer ends no connection.
pub(crate) fn renewal(answer: &Result<Refreshed, Refusal>, now: Timestamp) -> Renewal {
    match answer {
        Ok(Refreshed { expired: true, .. }) => Renewal::Over,
        // One that is over already would be asked about again at once, and for ever.
        Ok(Refreshed { expires_at: Some(at), .. }) if *at <= now => Renewal::Over,
        Ok(Refreshed { expires_at, .. }) => Renewal::Until(*expires_at),
        Err(Refusal::Error { .. }) => Renewal::Until(Some(now.plus(ASK_AGAIN_AFTER))),
        Err(Refusal::Disconnect { code, reason }) => Renewal::Disconnect(*code, reason.clone()),
    }
}

/// Tells the application, if it wants to know, that a client has gone.
pub(crate) fn report_gone(backend: Option<&Arc<dyn Backend>>, gone: &Caller, reason: CloseReason) {
    if let Some(backend) = backend
        && backend.events().disconnected
    {
        backend.disconnected(gone, reason.label());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn until(answer: Result<Refreshed, Refusal>) -> Option<Option<Timestamp>> {
        match renewal(&answer, NOW) {
            Renewal::Until(at) => Some(at),
            Renewal::Over => None,
            Renewal::Disconnect(code, reason) => panic!("{code} {reason}"),
        }
    }

    #[test]
    fn a_right_goes_on_as_the_application_says() {
        let later = NOW.plus(Duration::from_secs(5));
        let goes_on = |expires_at| Ok(Refreshed { expires_at, ..Refreshed::default() });
        assert_eq!(until(goes_on(Some(later))), Some(Some(later)));
        assert_eq!(until(goes_on(None)), Some(None));
        assert_eq!(until(goes_on(Some(NOW))), None, "a moment that is over prolongs nothing");
        assert_eq!(until(Ok(Refreshed { expired: true, ..Refreshed::default() })), None);
        let end = Refusal::Disconnect { code: 4001, reason: "go".to_owned() };
        assert!(matches!(renewal(&Err(end), NOW), Renewal::Disconnect(4001, _)));
    }

    #[test]
    fn an_application_that_does_not_answer_ends_nothing_and_is_asked_again_after_a_minute() {
        let down = Refusal::Error { code: 100, message: String::new(), temporary: true };
        assert_eq!(until(Err(down)), Some(Some(NOW.plus(Duration::from_secs(60)))));
    }

    #[test]
    fn wanted_headers_are_passed_on_once_and_within_the_bound() {
        let wants = |name: &str| name.starts_with("x-");
        let known = [("x-real-ip".to_owned(), "192.0.2.1".to_owned())];
        let offered = [("X-Real-Ip", "10.0.0.1"), ("X-A", "1"), ("x-a", "2"), ("Cookie", "c")];
        let passed = pass(wants, &known, offered);
        let passed: Vec<_> = passed.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(passed, [("x-real-ip", "192.0.2.1"), ("x-a", "1"), ("x-a", "2")]);
        let long = "v".repeat(HEADERS_BYTES_MAX - 2);
        let offered = [("x-a", long.as_str()), ("x-b", "1"), ("x-c", &long)];
        assert_eq!(pass(wants, &[], offered).len(), 1, "only the small one fits");
    }
}
