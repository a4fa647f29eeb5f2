//! STOMP 1.0, 1.1 and 1.2, the server's half. `docs/protocols/stomp.md` is the contract.
//!
//! - [`Decoder`] turns bytes, cut anywhere, into [`Frame`]s,
//! - `encode_*` build the frames of a server; [`Message`] says how deliveries are shared,
//! - [`Version`], [`HeartBeat`] and [`choose_subprotocol`] are the rules of connecting,
//! - [`session`] is what a connection may do, as a state machine without IO.
//!
//! It must not know sockets, clocks (`now` is an argument), rights, or what a destination leads to.

mod decode;
mod destination;
mod encode;
mod error;
mod escape;
mod frame;
mod negotiate;
pub mod session;

pub use decode::{Decoder, Event, Limits};
pub use destination::{Destination, parse_position, position_text};
pub use encode::{
    ACK_ID_MARK, Connected, ErrorFrame, Message, encode_client_frame, encode_connected,
    encode_error, encode_message, encode_message_start, encode_message_tail, encode_receipt,
};
pub use error::{BadFrame, FrameError};
pub use frame::{Command, Frame, Headers};
pub use negotiate::{
    HeartBeat, HeartBeatError, SUBPROTOCOLS, VERSIONS_SUPPORTED, Version, choose_subprotocol,
    negotiate,
};

/// What goes over an idle connection to show that it lives: one LF.
pub const HEART_BEAT: &[u8] = b"\n";
