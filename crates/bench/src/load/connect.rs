//! Opens connections of load phones and keeps the clock of a run.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};

use crate::wall;

/// What real phones allow for a connection to be accepted.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Nanoseconds since a run began, and the wall time that belongs to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunClock {
    epoch: Instant,
    epoch_unix_ms: u64,
}

impl RunClock {
    pub(crate) fn start() -> RunClock {
        RunClock { epoch: Instant::now(), epoch_unix_ms: wall::unix_ms() }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn unix_ms(&self, now_ns: u64) -> u64 {
        self.epoch_unix_ms + now_ns / 1_000_000
    }

    pub(crate) fn run_digits(&self) -> u64 {
        super::frames::run_digits(self.epoch_unix_ms)
    }
}

/// Connects within the five seconds that a real phone waits.
pub(crate) async fn open(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(address))
        .await
        .map_err(|_elapsed| io::Error::new(io::ErrorKind::TimedOut, "connect timed out"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
