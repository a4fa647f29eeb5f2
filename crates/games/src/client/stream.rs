//! A TCP connection and what came over it but is not read yet.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::AskError;

/// Unread bytes of an idle connection. Who sends more without being asked is not the server we think.
const UNASKED_BYTES_MAX: usize = 64 * 1024;

/// How much is read at once.
const READ_BYTES: usize = 4 * 1024;

pub(super) struct StreamLine {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl StreamLine {
    pub(super) async fn connect(address: SocketAddr) -> Result<StreamLine, AskError> {
        let stream = TcpStream::connect(address).await?;
        // Questions are small and alone: Nagle's algorithm would only hold them back.
        stream.set_nodelay(true)?;
        Ok(StreamLine { stream, buffer: Vec::new() })
    }

    /// For connections that a server closes when it ends: once we close our side, too, nothing of them is left.
    /// Otherwise the server's port would be taken for a minute after it ended (seen with Teeworlds, which does not
    /// ask to bind past such connections), and it could not be started again at once.
    pub(super) async fn connect_to_admin(address: SocketAddr) -> Result<StreamLine, AskError> {
        let line = StreamLine::connect(address).await?;
        line.stream.set_zero_linger()?;
        Ok(line)
    }

    /// Whether an idle connection can still be used: it is not closed, and nobody floods it.
    pub(super) fn is_alive(&mut self) -> bool {
        let mut chunk = [0; 1024];
        loop {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            if self.buffer.len() > UNASKED_BYTES_MAX {
                return false;
            }
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), AskError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Waits for more bytes.
    pub(super) async fn fill(&mut self) -> Result<(), AskError> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(AskError::Closed),
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.buffer.drain(..count.min(self.buffer.len()));
    }
}
