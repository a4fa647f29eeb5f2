//! The Centrifuge client protocol, version 2, from the server's side: frames to commands, replies and
//! pushes to frames, in JSON and in Protobuf. The wire is described in `docs/protocols/centrifuge.md`.
//!
//! It knows the shape of what is said and the numbers that name refusals. Whether a channel exists,
//! who may do what and what a token is worth are not its business.

mod codes;
mod command;
mod decode;
mod emulation;
mod encode;
mod error;
mod filter;
mod json_in;
mod json_out;
mod proto_out;
mod reply;
mod sink;

pub use codes::{
    CLOSE_REASON_BYTES_MAX, DisconnectCode, ErrorCode, UnsubscribeCode, close_reason,
    may_reconnect, may_resubscribe,
};
pub use command::{
    Command, ConnectRequest, FilterNode, HistoryRequest, PublishRequest, RefreshRequest, Request,
    RpcRequest, StreamPosition, SubRefreshRequest, SubscribeRequest, flag,
};
pub use decode::{Commands, FrameLimits, decode_frame};
pub use emulation::{EmulationRequest, decode_emulation};
pub use encode::{
    append_encoded, append_ping, append_push, append_reply, encode_push, encode_reply, is_json,
};
pub use error::{DecodeError, UnfitPayload};
pub use filter::{FilterError, TagsFilter};
pub use reply::{
    Answer, ClientInfo, ConnectResult, HistoryResult, Payload, Publication, Push, RefreshResult,
    Reply, ReplyError, SubRefreshResult, SubscribeResult,
};

/// In which encoding a connection speaks. It is chosen when the connection opens and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One JSON object a line, in text frames.
    Json,
    /// Protobuf messages, each after its length, in binary frames.
    Protobuf,
}

impl Protocol {
    /// The WebSocket subprotocol that asks for this encoding. JSON clients may offer none.
    #[must_use]
    pub fn subprotocol(self) -> &'static str {
        match self {
            Protocol::Json => "centrifuge-json",
            Protocol::Protobuf => "centrifuge-protobuf",
        }
    }

    /// The name in hooks, logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Protocol::Json => "json",
            Protocol::Protobuf => "protobuf",
        }
    }
}
