//! Why a client's bytes are not WebSocket, and the close code that says so to the client.

/// Why a connection cannot go on. Each reason has a close code for the client and a label for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A reserved bit is set that no negotiated extension uses, or where it may not stand.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// An opcode that the protocol does not define.
    #[error("the opcode is reserved")]
    ReservedOpcode,
    /// A frame without a mask; clients must mask.
    #[error("the frame is not masked")]
    NotMasked,
    /// A length above 2^63.
    #[error("the length has its highest bit set")]
    BadLength,
    /// A control frame with more than 125 bytes.
    #[error("the control frame is too long")]
    ControlTooLong,
    /// A control frame in fragments.
    #[error("the control frame is fragmented")]
    ControlFragmented,
    /// A continuation of nothing.
    #[error("a continuation without a message")]
    StrayContinuation,
    /// A new message before the one in fragments was finished.
    #[error("a new message inside of a fragmented one")]
    MessageUnfinished,
    /// More than [`EMPTY_FRAGMENTS_MAX`](super::EMPTY_FRAGMENTS_MAX) fragments in a row said nothing.
    #[error("too many empty fragments in a row")]
    EmptyFragments,
    /// A close frame with half a code, or with a code that may not be sent.
    #[error("the close frame has no usable code")]
    BadClose,
    /// Text, or the reason of a close frame, is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// What was compressed cannot be inflated.
    #[error("the compressed data is broken")]
    BadDeflate,
    /// The message, announced or inflated, is larger than allowed.
    #[error("the message is too large")]
    TooLarge,
}

impl WsError {
    /// All labels, so that counters can start at zero.
    pub const LABELS: [&str; 13] = [
        "reserved_bits",
        "reserved_opcode",
        "not_masked",
        "bad_length",
        "control_too_long",
        "control_fragmented",
        "stray_continuation",
        "message_unfinished",
        "empty_fragments",
        "bad_close",
        "not_utf8",
        "bad_deflate",
        "too_large",
    ];

    /// The place of this reason in [`WsError::LABELS`], for counters kept in an array.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            WsError::ReservedBits => 0,
            WsError::ReservedOpcode => 1,
            WsError::NotMasked => 2,
            WsError::BadLength => 3,
            WsError::ControlTooLong => 4,
            WsError::ControlFragmented => 5,
            WsError::StrayContinuation => 6,
            WsError::MessageUnfinished => 7,
            WsError::EmptyFragments => 8,
            WsError::BadClose => 9,
            WsError::NotUtf8 => 10,
            WsError::BadDeflate => 11,
            WsError::TooLarge => 12,
        }
    }

    /// The stable name for metrics and logs, and the reason in our close frame.
    #[must_use]
    pub fn label(self) -> &'static str {
        WsError::LABELS[self.index()]
    }

    /// The code of the close frame that tells the client (RFC 6455, section 7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            WsError::NotUtf8 | WsError::BadDeflate => 1007,
            WsError::EmptyFragments => 1008,
            WsError::TooLarge => 1009,
            _ => 1002,
        }
    }
}
