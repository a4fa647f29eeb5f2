//! What can be wrong with the bytes of a client. Each case ends the connection: after a broken frame
//! nobody knows where the next one begins.

use thiserror::Error;

use super::Command;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first line names no command. Also what a client of another protocol runs into.
    #[error("this is not a command of STOMP")]
    UnknownCommand,
    /// A header line without a colon.
    #[error("a header line has no colon")]
    HeaderWithoutColon,
    /// A header line that begins with its colon.
    #[error("a header has no name")]
    HeaderWithoutName,
    /// An escape sequence that this version does not have.
    #[error("a header has an escape sequence that this version of STOMP does not have")]
    UnknownEscape,
    /// Headers must be UTF-8.
    #[error("a header is not UTF-8")]
    HeaderNotUtf8,
    /// A NUL before the blank line that ends the headers.
    #[error("a NUL stands among the headers")]
    NulInHeaders,
    /// A carriage return within a line. STOMP 1.2 has an escape for it.
    #[error("a carriage return stands within a line")]
    StrayCarriageReturn,
    /// More headers than allowed.
    #[error("more than {max} headers")]
    TooManyHeaders {
        /// The limit.
        max: u32,
    },
    /// A header line longer than allowed.
    #[error("a header line of more than {max} bytes")]
    HeaderTooLong {
        /// The limit.
        max: u32,
    },
    /// The frame is larger than allowed, or says that it is going to be.
    #[error("a frame of more than {max} bytes")]
    FrameTooLarge {
        /// The limit.
        max: u32,
    },
    /// `content-length` is not a number.
    #[error("content-length is not a number")]
    BadContentLength,
    /// After `content-length` bytes of body there is no NUL.
    #[error("there is no NUL after the {content_length} bytes that content-length announced")]
    ContentLengthMismatch {
        /// What the header said.
        content_length: u32,
    },
    /// A body in a frame that has none.
    #[error("a {command} frame has no body")]
    UnexpectedBody {
        /// The frame.
        command: Command,
    },
}

impl FrameError {
    /// The stable name in ERROR frames, counters and docs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            FrameError::UnknownCommand => "unknown_command",
            FrameError::HeaderWithoutColon
            | FrameError::HeaderWithoutName
            | FrameError::NulInHeaders
            | FrameError::StrayCarriageReturn => "malformed_header",
            FrameError::UnknownEscape => "unknown_escape",
            FrameError::HeaderNotUtf8 => "not_utf8",
            FrameError::TooManyHeaders { .. } => "too_many_headers",
            FrameError::HeaderTooLong { .. } => "header_too_long",
            FrameError::FrameTooLarge { .. } => "frame_too_large",
            FrameError::BadContentLength | FrameError::ContentLengthMismatch { .. } => {
                "bad_content_length"
            }
            FrameError::UnexpectedBody { .. } => "unexpected_body",
        }
    }
}

/// A frame that could not be read, with what was understood of it before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{error}")]
pub struct BadFrame {
    /// What is wrong.
    pub error: FrameError,
    /// The command, when it was read.
    pub command: Option<Command>,
    /// Its `receipt` header, when it came before the mistake: the ERROR frame repeats it.
    pub receipt: Option<Box<str>>,
}
