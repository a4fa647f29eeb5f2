//! WebSocket connections for the gateways that speak over them.
//!
//! - [`upgrade`] answers an HTTP request and gives the bare socket once hyper lets go of it,
//! - [`WsConnection`] is that socket with the codec on top, polled by the one task that owns it.
//!
//! Knows nothing of STOMP, Centrifuge or sessions. `docs/protocols/websocket.md` has the rules.

mod connection;
mod upgrade;

pub use connection::{PONGS_WAITING_MAX, WsConnection, WsEvent, WsOptions};
pub use naru_wire::ws::{
    Deflater, HandshakeError, MessageKind, Opcode, WsError, encode_close, encode_frame,
};
pub use upgrade::{UpgradeError, Upgrading, refusal, upgrade};
