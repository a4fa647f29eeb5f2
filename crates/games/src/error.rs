//! What can go wrong between us and a game server, split by what a supervisor makes of it.

use std::io;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nothing (or not everything) came before the deadline. The server may be busy, frozen or starting.
    #[error("no answer in time")]
    Timeout,
    /// Nobody listens on that port.
    #[error("connection refused")]
    Refused,
    /// The server does not take our password, or wants one and we have none.
    #[error("the server refuses the password")]
    Unauthorized,
    /// Something else came than the protocol knows: another program, another version, or a broken one.
    #[error("unreadable answer: {0}")]
    Malformed(&'static str),
    /// The answer exceeds our limits.
    #[error("the answer is too large")]
    TooLarge,
    /// The server closed the connection in the middle.
    #[error("the server closed the connection")]
    Closed,
    /// Protocol or server cannot do this; asking again will not help.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// This machine's own trouble with the socket, such as no free descriptors or no route.
    #[error("socket error: {0}")]
    Socket(io::ErrorKind),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> AskError {
        error.kind().into()
    }
}

impl From<io::ErrorKind> for AskError {
    fn from(kind: io::ErrorKind) -> AskError {
        match kind {
            io::ErrorKind::ConnectionRefused => AskError::Refused,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => AskError::Closed,
            io::ErrorKind::TimedOut => AskError::Timeout,
            kind => AskError::Socket(kind),
        }
    }
}

/// Why a command was not answered. The split says whether it may be told again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The server did not get the command, or refused it unread: telling it again is safe.
    #[error("not told: {0}")]
    NotDone(AskError),
    /// It was sent and no answer came: the server may have carried it out. The usual end of a stop command.
    #[error("told, but not answered: {0}")]
    Unsure(AskError),
    /// The server answered that it will not do this, in its own words.
    #[error("the server declines: {0}")]
    Declined(String),
    /// This text is no command of this protocol. Nothing was sent.
    #[error("not a command: {0}")]
    Unfit(&'static str),
}

impl TellError {
    /// The trouble on the wire, if it was one.
    pub fn trouble(&self) -> Option<&AskError> {
        match self {
            TellError::NotDone(error) | TellError::Unsure(error) => Some(error),
            TellError::Declined(_) | TellError::Unfit(_) => None,
        }
    }
}
