//! WebSocket, the server's half: RFC 6455 and permessage-deflate (RFC 7692) without context takeover.
//! `docs/protocols/websocket.md` says what is supported and where the limits are.
//!
//! - [`check_request`] reads an upgrade request and says how it may be answered,
//! - [`Decoder`] turns bytes of a client into messages and control frames,
//! - [`encode_frame`], [`frame_header`] and [`encode_close`] make frames for clients,
//! - [`Deflater`] makes compressed frames that all connections may share.
//!
//! It must not know sockets, deadlines or what a message means.

mod decode;
mod deflate;
mod error;
mod frame;
mod handshake;
mod mask;

pub use decode::{Decoder, EMPTY_FRAGMENTS_MAX, Incoming, MessageKind};
pub use deflate::{Deflater, STREAM_ENDS_MAX};
pub use error::WsError;
pub use frame::{
    CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, FrameHeader, Opcode, encode_close, encode_frame,
    frame_header, is_close_code, joined_frame,
};
pub use handshake::{
    Accepted, DeflateOffer, HandshakeError, LIST_ITEMS_MAX, UpgradeRequest, accept_key,
    check_request,
};
