//! What bot work needs of the hub: one session per phone, and its stream of replies.

use std::time::Duration;

use naru_domain::{Delivery, DeviceKey, Offset, SessionId};

/// A phone's session as it is opened.
#[derive(Clone, Debug)]
pub struct PhoneSession {
    /// The phone.
    pub device: DeviceKey,
    /// For people: bot and device.
    pub label: String,
    /// Whether what is handed over is recorded in the journal (when the stream is in the store).
    pub is_recorded: bool,
    /// The stream up to here was handed over before.
    pub handed_over: Offset,
    /// To send first.
    pub retained: Vec<Delivery>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The session has it.
    Taken,
    /// Its bounds did not allow it.
    Dropped,
    /// There is no such session (any more).
    NoSession,
}

/// One phone's session as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The session.
    pub session: SessionId,
    /// The phone.
    pub device: DeviceKey,
    /// As it was opened.
    pub label: String,
    /// The address of the connection, if there is one.
    pub peer: Option<String>,
    /// How long the connection lives.
    pub connected_for: Option<Duration>,
    /// Replies that wait.
    pub queued: usize,
    /// The stream was handed over up to here.
    pub handed_over: Offset,
}

/// The sessions of phones. Implemented by the hub; no call waits.
pub trait PhoneSessions: Send + Sync + 'static {
    /// Finds or creates the session of a phone.
    fn open(&self, phone: PhoneSession) -> SessionId;
    /// Puts a reply into the phone's stream, in the order of the offsets.
    fn deliver(&self, session: SessionId, delivery: Delivery) -> Handed;
    /// One session.
    fn state(&self, session: SessionId) -> Option<SessionState>;
    /// Ends a session that nobody is connected to.
    fn forget(&self, session: SessionId);
}
