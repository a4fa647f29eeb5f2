//! A UDP socket that talks with one server and is used again from question to question.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use crate::error::AskError;
use crate::limits::DATAGRAM_BYTES_MAX;

/// Late answers that are thrown away before the next question. More than that in the kernel's buffer is a
/// flood, and a new socket is the shortest way out of it.
const STRAYS_MAX: usize = 64;

pub(super) struct UdpLine {
    address: SocketAddr,
    socket: Option<UdpSocket>,
    /// Zeroed memory that the kernel gives only as far as answers reach.
    buffer: Vec<u8>,
}

impl UdpLine {
    pub(super) fn new(address: SocketAddr) -> UdpLine {
        UdpLine { address, socket: None, buffer: Vec::new() }
    }

    /// Gets ready for a question: opens the socket, or empties it of what came too late for the last one.
    /// Old port-unreachable messages go the same way, or they would refuse the new question.
    pub(super) async fn ready(&mut self) -> Result<(), AskError> {
        self.ready_with(|_, _| ()).await
    }

    /// The same, looking at what came late.
    pub(super) async fn ready_with(
        &mut self,
        mut stray: impl FnMut(&UdpSocket, &[u8]),
    ) -> Result<(), AskError> {
        if self.buffer.is_empty() {
            // One more than can come, so that a full buffer means a cut datagram.
            self.buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
        }
        if let Some(socket) = &self.socket {
            for _ in 0..STRAYS_MAX {
                match socket.try_recv(&mut self.buffer) {
                    Ok(count) => stray(socket, self.buffer.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                    Err(_) => (),
                }
            }
            self.socket = None;
        }
        let any: SocketAddr = match self.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        // A connected socket takes datagrams of this server only, and hears that nobody listens.
        socket.connect(self.address).await?;
        self.socket = Some(socket);
        Ok(())
    }

    pub(super) async fn send(&self, bytes: &[u8]) -> Result<(), AskError> {
        let socket = self.socket.as_ref().ok_or(AskError::Closed)?;
        if let Err(error) = socket.send(bytes).await {
            // This may still be about an earlier datagram; if nobody listens, the second one says so, too.
            if error.kind() != std::io::ErrorKind::ConnectionRefused {
                return Err(error.into());
            }
            socket.send(bytes).await?;
        }
        Ok(())
    }

    /// Sends if it can be done at once, for words of leave that nobody waits for.
    pub(super) fn send_now(socket: &UdpSocket, bytes: &[u8]) {
        // Lost, it is as if the network had lost it.
        drop(socket.try_send(bytes));
    }

    pub(super) fn socket(&self) -> Option<&UdpSocket> {
        self.socket.as_ref()
    }

    /// The next datagram. Cancel safe.
    pub(super) async fn receive(&mut self) -> Result<&[u8], AskError> {
        let socket = self.socket.as_ref().ok_or(AskError::Closed)?;
        let count = socket.recv(&mut self.buffer).await?;
        if count > DATAGRAM_BYTES_MAX {
            return Err(AskError::TooLarge);
        }
        Ok(self.buffer.get(..count).unwrap_or_default())
    }
}
