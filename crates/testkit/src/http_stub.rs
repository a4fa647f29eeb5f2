//! An HTTP server that misbehaves as it is told, on a port of its own: for callers that must survive it. It
//! knows nothing of what is said to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What a stub does with one connection once it has read the request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Sends a head and then one byte at a time for ever.
    Drip,
    /// Sends a head without a length and then bytes for ever, as fast as it can.
    Endless,
    /// Stays silent.
    Hang,
    /// Closes without a word.
    Close,
}

/// One request as the stub read it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The request line and the headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The server: the n-th request gets the n-th act, later ones the last.
#[derive(Debug)]
pub struct Stub {
    address: SocketAddr,
    log: Arc<Log>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    came: Notify,
}

impl Stub {
    /// One on 127.0.0.1.
    ///
    /// # Panics
    ///
    /// If there is no free port, or nothing to do.
    pub async fn start(acts: Vec<Act>) -> Stub {
        Stub::at(SocketAddr::from(([127, 0, 0, 1], 0)), acts).await
    }

    /// One at this address, such as that of one that was dropped.
    ///
    /// # Panics
    ///
    /// If the address is taken, or there is nothing to do.
    pub async fn at(address: SocketAddr, acts: Vec<Act>) -> Stub {
        assert!(!acts.is_empty(), "a stub has to do something");
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let log = Arc::new(Log::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acts, Arc::clone(&log)));
        Stub { address, log, _tasks: tasks }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The url of this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().clone()
    }

    /// Waits until it has seen so many requests.
    pub async fn wait_for(&self, count: usize) -> Vec<Seen> {
        loop {
            let came = self.log.came.notified();
            let seen = self.seen();
            if seen.len() >= count {
                return seen;
            }
            came.await;
        }
    }
}

async fn serve(listener: TcpListener, acts: Vec<Act>, log: Arc<Log>) {
    let mut connections = JoinSet::new();
    let count = Arc::new(AtomicUsize::new(0));
    while let Ok((socket, _)) = listener.accept().await {
        let (acts, log, count) = (acts.clone(), Arc::clone(&log), Arc::clone(&count));
        connections.spawn(async move {
            let mut socket = socket;
            let Some(request) = read_request(&mut socket).await else { return };
            log.seen.lock().push(request);
            log.came.notify_waiters();
            let which = count.fetch_add(1, SeqCst).min(acts.len() - 1);
            act(&mut socket, &acts[which]).await;
        });
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let seen = Seen { head, body: Vec::new() };
    let length: usize = seen.header("content-length").map_or(0, |value| value.parse().unwrap_or(0));
    while bytes.len() < head_end + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { body: bytes[head_end..].to_vec(), ..seen })
}

async fn act(socket: &mut TcpStream, act: &Act) {
    // A client that gave up is what most of these are about.
    match act {
        Act::Send(bytes) => drop(socket.write_all(bytes).await),
        Act::Close => {}
        Act::Hang => std::future::pending().await,
        Act::Drip => {
            let mut next: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
            while socket.write_all(next).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                next = b" ";
            }
        }
        Act::Endless => {
            let head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            let mut open = socket.write_all(head).await.is_ok();
            while open {
                open = socket.write_all(&[b' '; 16_384]).await.is_ok();
            }
        }
    }
}

/// An answer with this status, these headers (each with its line break) and this body.
#[must_use]
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Act {
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    Act::Send([head.as_bytes(), body].concat())
}

/// A good answer with this JSON.
#[must_use]
pub fn ok(body: &str) -> Act {
    answer("200 OK", "content-type: application/json\r\n", body.as_bytes())
}
