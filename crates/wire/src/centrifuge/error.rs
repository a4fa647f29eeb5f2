//! Why bytes of a client are not a frame, and why a payload cannot be written to one.

/// Why a frame was refused. Each of them ends the connection with
/// [`DisconnectCode::BadRequest`](super::DisconnectCode::BadRequest); commands before it were good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame holds nothing.
    #[error("the frame is empty")]
    Empty,
    /// A command is neither an object of JSON nor a Protobuf message of this protocol.
    #[error("a command is malformed")]
    Malformed,
    /// A command is longer than [`FrameLimits::command_bytes_max`](super::FrameLimits).
    #[error("a command is too large")]
    CommandTooLarge,
    /// The frame holds more commands than [`FrameLimits::commands_max`](super::FrameLimits).
    #[error("the frame holds too many commands")]
    TooManyCommands,
    /// A command that needs an answer has the id 0.
    #[error("a command has no id")]
    MissingId,
}

impl DecodeError {
    /// All labels, so that counters can start at zero.
    pub const LABELS: [&str; 5] =
        ["empty", "malformed", "command_too_large", "too_many_commands", "missing_id"];

    /// The place of this reason in [`DecodeError::LABELS`], for counters kept in an array.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            DecodeError::Empty => 0,
            DecodeError::Malformed => 1,
            DecodeError::CommandTooLarge => 2,
            DecodeError::TooManyCommands => 3,
            DecodeError::MissingId => 4,
        }
    }

    /// The stable name for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        DecodeError::LABELS[self.index()]
    }
}

/// A payload is not JSON, or quoted text is not UTF-8, so that it cannot reach a JSON connection. That
/// connection ends with
/// [`DisconnectCode::InappropriateProtocol`](super::DisconnectCode::InappropriateProtocol); the others
/// are not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload does not fit a JSON connection")]
pub struct UnfitPayload;
