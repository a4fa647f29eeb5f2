//! Why a line from a phone is not a frame. Each reason has a label that counters carry.

/// Why a line was refused. The connection survives: the caller counts it and reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Some byte is not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// The JSON breaks its grammar.
    #[error("the JSON is broken at byte {at}")]
    NotJson {
        /// Where, in bytes from the start of the line.
        at: usize,
    },
    /// The line ends inside the JSON.
    #[error("the line ends inside the JSON")]
    Truncated,
    /// The JSON nests deeper than [`NESTING_MAX`](super::NESTING_MAX).
    #[error("the JSON nests too deep")]
    TooDeep,
    /// The line starts with JSON that is not an object.
    #[error("the frame is not an object")]
    NotAnObject,
    /// A key that we read stands twice in one object, so that its meaning is not certain.
    #[error("the key {key} stands twice")]
    DuplicateKey {
        /// The key.
        key: &'static str,
    },
    /// Neither an event, nor a type, nor a bare hello.
    #[error("the frame names no event")]
    MissingEvent,
    /// Something is missing without which the frame means nothing.
    #[error("the field {field} is missing")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// Something has a type in which it means nothing.
    #[error("the field {field} has a wrong type")]
    WrongType {
        /// The field.
        field: &'static str,
    },
    /// A name is longer than [`NAME_BYTES_MAX`](super::NAME_BYTES_MAX).
    #[error("the field {field} is too long")]
    FieldTooLong {
        /// The field.
        field: &'static str,
    },
}

impl FrameError {
    /// All labels, so that counters can start at zero.
    pub const LABELS: [&str; 10] = [
        "not_utf8",
        "not_json",
        "truncated",
        "too_deep",
        "not_an_object",
        "duplicate_key",
        "missing_event",
        "missing_field",
        "wrong_type",
        "field_too_long",
    ];

    /// The place of this reason in [`FrameError::LABELS`], for counters kept in an array.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            FrameError::NotUtf8 => 0,
            FrameError::NotJson { .. } => 1,
            FrameError::Truncated => 2,
            FrameError::TooDeep => 3,
            FrameError::NotAnObject => 4,
            FrameError::DuplicateKey { .. } => 5,
            FrameError::MissingEvent => 6,
            FrameError::MissingField { .. } => 7,
            FrameError::WrongType { .. } => 8,
            FrameError::FieldTooLong { .. } => 9,
        }
    }

    /// The stable name for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        FrameError::LABELS[self.index()]
    }
}
