//! Servers for tests: each runs in a task of its own until its guard is dropped, on a port that the system
//! chose, and remembers what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use naru_games::{AskError, Asker, Endpoint, Protocol, Secret, Status, Want, asker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Far more than loopback takes, so that only a missing answer ends in a timeout.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);
/// For questions that will not be answered.
pub(crate) const SHORT: Duration = Duration::from_millis(400);

pub(crate) fn hex(raw: &str) -> Vec<u8> {
    let digits: Vec<u8> = raw.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits")
    };
    digits.chunks(2).map(pair).collect()
}

pub(crate) fn endpoint(address: SocketAddr, timeout: Duration) -> Endpoint {
    Endpoint { address, password: Some(Secret::new("hunter2")), timeout }
}

pub(crate) fn ask_of(protocol: Protocol, address: SocketAddr, timeout: Duration) -> Box<dyn Asker> {
    asker(protocol, endpoint(address, timeout)).expect("a protocol that asks")
}

/// One question to a fresh client.
pub(crate) async fn asked(
    protocol: Protocol,
    address: SocketAddr,
    want: Want,
) -> Result<Status, AskError> {
    ask_of(protocol, address, PATIENT).ask(want).await
}

pub(crate) fn names(status: &Status) -> Option<Vec<&str>> {
    status.names.as_ref().map(|names| names.iter().map(|it| &*it.name).collect())
}

/// What a server was sent, and how often it was connected to.
#[derive(Clone)]
pub(crate) struct Log {
    entries: Arc<Mutex<Vec<Vec<u8>>>>,
    count: watch::Sender<usize>,
}

impl Log {
    fn new() -> Log {
        Log { entries: Arc::default(), count: watch::Sender::new(0) }
    }

    pub(crate) fn add(&self, entry: &[u8]) {
        self.entries.lock().expect("no panics").push(entry.to_vec());
        self.count.send_modify(|count| *count += 1);
    }

    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.entries.lock().expect("no panics").clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }

    /// Waits until that many entries are there.
    pub(crate) async fn reaches(&self, wanted: usize) {
        let mut count = self.count.subscribe();
        let reached = count.wait_for(|count| *count >= wanted);
        let reached = tokio::time::timeout(PATIENT, reached).await.expect("in time");
        drop(reached.expect("the sender lives"));
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) log: Log,
    _task: JoinSet<()>,
}

/// Answers each datagram with those that `answer` gives.
pub(crate) async fn udp(mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    let log = Log::new();
    let mut task = JoinSet::new();
    let seen = log.clone();
    task.spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer).await {
            let request = &buffer[..count];
            let answers = answer(request);
            seen.add(request);
            for answer in answers {
                socket.send_to(&answer, peer).await.expect("loopback takes it");
            }
        }
    });
    Server { address, log, _task: task }
}

/// Serves each connection with `serve`, which also gets the connection's number, from 0. The log counts
/// connections unless `serve` writes into it, too.
pub(crate) async fn tcp<F, S>(serve: S) -> Server
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream, usize, Log) -> F + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let log = Log::new();
    let mut task = JoinSet::new();
    let seen = log.clone();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("a socket");
            connections.spawn(serve(stream, number, seen.clone()));
            number += 1;
        }
    });
    Server { address, log, _task: task }
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound")
}

/// Reads until the bytes so far are whole in the eyes of `whole`; `None` once the peer closes.
pub(crate) async fn read_until<T>(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    mut whole: impl FnMut(&[u8]) -> Option<(T, usize)>,
) -> Option<T> {
    loop {
        if let Some((found, used)) = whole(buffer) {
            buffer.drain(..used);
            return Some(found);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Writes byte by byte, each in a segment of its own as far as the kernel lets it.
pub(crate) async fn write_slowly(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Holds the connection open until the peer leaves.
pub(crate) async fn hold(mut stream: TcpStream) {
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
}
