//! Frames to commands: splits a frame, bounds it, and says which of a command's fields counts.

use bytes::{Buf, Bytes};
use prost::Message;

use super::command::{
    Command, ConnectRequest, HistoryRequest, PublishRequest, RefreshRequest, Request, RpcRequest,
    SubRefreshRequest, SubscribeRequest,
};
use super::{DecodeError, Protocol, json_in};

/// How much one frame may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLimits {
    /// Commands in one frame.
    pub commands_max: usize,
    /// Bytes of one command, without its length prefix or line end.
    pub command_bytes_max: usize,
}

impl FrameLimits {
    /// The size is the one Centrifugo's users know. The number is ours: a browser subscribes to all its
    /// channels (128 by default) in the frame that connects, and nobody should need eight times that.
    pub const DEFAULT: FrameLimits = FrameLimits { commands_max: 1024, command_bytes_max: 65_536 };
}

impl Default for FrameLimits {
    fn default() -> FrameLimits {
        FrameLimits::DEFAULT
    }
}

/// Reads the commands of a frame, one by one and in order. Payloads are slices of the frame, so who
/// keeps one for long keeps the whole frame and should copy.
#[must_use]
pub fn decode_frame(protocol: Protocol, frame: Bytes, limits: FrameLimits) -> Commands {
    let state = if frame.is_empty() { State::Empty } else { State::Reading };
    Commands { protocol, rest: frame, limits, count: 0, state }
}

/// The commands of a frame. After an error there is nothing more to come.
#[derive(Debug)]
pub struct Commands {
    protocol: Protocol,
    rest: Bytes,
    limits: FrameLimits,
    count: usize,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Empty,
    Reading,
    Done,
}

impl Iterator for Commands {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.state {
            State::Done => return None,
            State::Empty => {
                self.state = State::Done;
                return Some(Err(DecodeError::Empty));
            }
            State::Reading => (),
        }
        let command = self.read();
        if command.is_err() || self.rest.is_empty() {
            self.state = State::Done;
        }
        Some(command)
    }
}

impl std::iter::FusedIterator for Commands {}

impl Commands {
    fn read(&mut self) -> Result<Command, DecodeError> {
        self.count += 1;
        if self.count > self.limits.commands_max {
            return Err(DecodeError::TooManyCommands);
        }
        match self.protocol {
            Protocol::Json => self.read_line(),
            Protocol::Protobuf => self.read_delimited(),
        }
    }

    fn read_line(&mut self) -> Result<Command, DecodeError> {
        let end = memchr::memchr(b'\n', &self.rest);
        let line = self.rest.split_to(end.unwrap_or(self.rest.len()));
        if end.is_some() {
            self.rest.advance(1);
        }
        if line.len() > self.limits.command_bytes_max {
            return Err(DecodeError::CommandTooLarge);
        }
        json_in::read_command(&line)?.choose()
    }

    fn read_delimited(&mut self) -> Result<Command, DecodeError> {
        let len = prost::decode_length_delimiter(&mut self.rest)
            .map_err(|_error| DecodeError::Malformed)?;
        if len > self.limits.command_bytes_max {
            return Err(DecodeError::CommandTooLarge);
        }
        if len > self.rest.len() {
            return Err(DecodeError::Malformed);
        }
        let message = self.rest.split_to(len);
        RawCommand::decode(message).map_err(|_error| DecodeError::Malformed)?.choose()
    }
}

/// A command as it is on the wire: any number of its fields may be set.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawCommand {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    #[prost(message, optional, boxed, tag = "4")]
    pub(super) connect: Option<Box<ConnectRequest>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub(super) subscribe: Option<Box<SubscribeRequest>>,
    #[prost(message, optional, tag = "6")]
    pub(super) unsubscribe: Option<ChannelRequest>,
    #[prost(message, optional, tag = "7")]
    pub(super) publish: Option<PublishRequest>,
    #[prost(message, optional, tag = "8")]
    pub(super) presence: Option<ChannelRequest>,
    #[prost(message, optional, tag = "9")]
    pub(super) presence_stats: Option<ChannelRequest>,
    #[prost(message, optional, tag = "10")]
    pub(super) history: Option<HistoryRequest>,
    #[prost(message, optional, tag = "11")]
    pub(super) ping: Option<PingRequest>,
    #[prost(message, optional, tag = "12")]
    pub(super) send: Option<SendRequest>,
    #[prost(message, optional, tag = "13")]
    pub(super) rpc: Option<RpcRequest>,
    #[prost(message, optional, tag = "14")]
    pub(super) refresh: Option<RefreshRequest>,
    #[prost(message, optional, tag = "15")]
    pub(super) sub_refresh: Option<SubRefreshRequest>,
}

/// The requests that only name a channel.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ChannelRequest {
    #[prost(string, tag = "1")]
    pub(super) channel: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PingRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SendRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) data: Bytes,
}

impl RawCommand {
    /// Says which field counts: the first in the protocol's order.
    fn choose(self) -> Result<Command, DecodeError> {
        let id = self.id;
        if id == 0 && self.send.is_none() {
            return Ok(Command { id, request: Request::Pong });
        }
        let request = self.first();
        if id == 0 && !matches!(request, Request::Send { .. }) {
            return Err(DecodeError::MissingId);
        }
        Ok(Command { id, request })
    }

    fn first(self) -> Request {
        if let Some(connect) = self.connect {
            Request::Connect(connect)
        } else if let Some(subscribe) = self.subscribe {
            Request::Subscribe(subscribe)
        } else if let Some(ChannelRequest { channel }) = self.unsubscribe {
            Request::Unsubscribe { channel }
        } else if let Some(publish) = self.publish {
            Request::Publish(publish)
        } else if let Some(ChannelRequest { channel }) = self.presence {
            Request::Presence { channel }
        } else if let Some(ChannelRequest { channel }) = self.presence_stats {
            Request::PresenceStats { channel }
        } else if let Some(history) = self.history {
            Request::History(history)
        } else if let Some(rpc) = self.rpc {
            Request::Rpc(rpc)
        } else if let Some(SendRequest { data }) = self.send {
            Request::Send { data }
        } else if let Some(refresh) = self.refresh {
            Request::Refresh(refresh)
        } else if let Some(sub_refresh) = self.sub_refresh {
            Request::SubRefresh(sub_refresh)
        } else if self.ping.is_some() {
            Request::Ping
        } else {
            Request::Nothing
        }
    }
}
