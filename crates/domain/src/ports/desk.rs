//! The desk: where the bridge gateway hands over what phones say. Implemented by bot work.

use std::sync::Arc;

use async_trait::async_trait;

use crate::phone::{KeepAlive, PhoneChat, PhoneHello};
use crate::{DeviceKey, SessionId};

/// Why the desk cannot take something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// The store does not answer; the phone should stay and try again.
    #[error("the desk is unavailable: {reason}")]
    Unavailable {
        /// What failed, without secrets.
        reason: String,
    },
    /// No more devices are taken (a limit of the installation).
    #[error("the limit of known devices is reached")]
    TooManyDevices,
}

/// Where phones are received.
#[async_trait]
pub trait PhoneDesk: Send + Sync + 'static {
    /// A phone said who it is (in a handshake, or in a signed frame before one). Looks it up or
    /// creates it as `pending`, refreshes what it announced, and gives the line to talk on. May be
    /// called again for the same connection; harmless.
    async fn hello(&self, hello: PhoneHello) -> Result<Arc<dyn PhoneLine>, DeskError>;
}

/// One identified phone. Lives as long as somebody holds it, across connections.
#[async_trait]
pub trait PhoneLine: Send + Sync + 'static {
    /// The device's number.
    fn device(&self) -> DeviceKey;

    /// The hub session that holds the replies for this phone.
    fn session(&self) -> SessionId;

    /// Whether the device is approved right now.
    fn is_approved(&self) -> bool;

    /// The largest frame this phone may send, if it has a limit of its own.
    fn frame_bytes_max(&self) -> Option<usize>;

    /// Takes a chat message without waiting, in the order of the calls. Gives it back when the queue
    /// is full: the gateway then stops reading from this phone and calls [`PhoneLine::chat_when_room`].
    fn chat(&self, chat: Box<PhoneChat>) -> Result<(), Box<PhoneChat>>;

    /// Waits for room in the queue, then takes the message. Not cancel safe: dropping the future
    /// before it ends loses the message.
    async fn chat_when_room(&self, chat: Box<PhoneChat>);

    /// Takes a keep-alive answer. Never waits; samples are dropped (and counted) under pressure.
    fn keep_alive(&self, answer: KeepAlive);
}
