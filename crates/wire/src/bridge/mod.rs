//! The bridge protocol: what MessengerBot R phones write and read. `docs/protocols/bridge.md` is the
//! specification.
//!
//! One frame is one line: a JSON object, in the raw dialect followed by raw text, then LF.
//!
//! - [`next_line`] finds the frames in a buffer,
//! - [`decode`] reads one frame of a phone, borrowing from the line,
//! - [`SigningKey`] checks the signature of an [`Auth`] object,
//! - `encode_*` append frames for a phone in its dialect.
//!
//! It must not know connections, clocks (`now` is an argument), approval, or whether a signature is
//! too old or was seen before.

mod auth;
mod decode;
mod dialect;
mod encode;
mod error;
mod frame;
mod json;
mod line;
mod text;

pub use auth::{Auth, SigningKey};
pub use decode::{NAME_BYTES_MAX, decode};
pub use dialect::{HelloForm, choose_dialect};
pub use encode::{
    EncodeError, FRAME_PAD_UNITS, TEXT_GUARD, Welcome, encode_ping, encode_reply, encode_welcome,
    split_media,
};
pub use error::FrameError;
pub use frame::{Chat, Frame, Hello};
pub use json::NESTING_MAX;
pub use line::{LineScan, next_line};
pub use text::{split_text, utf16_units};
