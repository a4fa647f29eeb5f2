//! What goes wrong beyond the frames themselves: the rows of the second table of errors in
//! `docs/protocols/stomp.md`, and how a connection ends.

use naru_domain::CloseReason;
use naru_domain::ports::{BusError, Refusal};
use naru_hub::Ending;
use naru_hub::queue::{NotKept, SendError};
use naru_wire::stomp::session::Fatal;
use naru_wire::stomp::{BadFrame, ErrorFrame};

/// Something that was asked for and cannot be done.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) reason: CloseReason,
}

impl Trouble {
    fn new(code: &'static str, message: impl Into<String>, reason: CloseReason) -> Trouble {
        Trouble { code, message: message.into(), reason }
    }

    pub(super) fn bad_credentials(message: impl Into<String>) -> Trouble {
        Trouble::new("bad_credentials", message, CloseReason::Refused)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Trouble {
        Trouble::new("forbidden", message, CloseReason::Refused)
    }

    pub(super) fn unknown_destination(message: impl Into<String>) -> Trouble {
        Trouble::new("unknown_destination", message, CloseReason::Refused)
    }

    pub(super) fn not_available(message: impl Into<String>) -> Trouble {
        Trouble::new("not_available", message, CloseReason::Refused)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Trouble {
        Trouble::new("unavailable", message, CloseReason::Internal)
    }

    pub(super) fn queue_full(message: impl Into<String>) -> Trouble {
        Trouble::new("queue_full", message, CloseReason::Refused)
    }

    pub(super) fn too_many_subscriptions(max: usize) -> Trouble {
        let message = format!("more than {max} subscriptions");
        Trouble::new("too_many_subscriptions", message, CloseReason::Refused)
    }

    pub(super) fn internal() -> Trouble {
        Trouble::new("internal", "something went wrong in the server", CloseReason::Internal)
    }

    /// The end of the connection that this is.
    pub(super) fn end(self, receipt: Option<Box<str>>) -> End {
        let Trouble { code, message, reason } = self;
        let body = format!("{}.\n", upper_first(&message));
        let frame = ErrorFrame { message, code, receipt_id: receipt, version: None, body };
        End { reason, error: Some(Box::new(frame)) }
    }
}

impl From<&BusError> for Trouble {
    fn from(error: &BusError) -> Trouble {
        match error {
            BusError::TooLarge { bytes, max } => {
                let message = format!("a message of {bytes} bytes with its headers; {max} may be");
                Trouble::new("frame_too_large", message, CloseReason::FrameTooLarge)
            }
            BusError::Unavailable { .. } => {
                Trouble::unavailable("the message could not be kept; it may be sent again")
            }
        }
    }
}

impl From<&NotKept> for Trouble {
    fn from(_: &NotKept) -> Trouble {
        Trouble::unavailable("the store of work queues does not answer; nothing was kept")
    }
}

impl From<&SendError> for Trouble {
    fn from(error: &SendError) -> Trouble {
        match error {
            SendError::Full(_) => Trouble::queue_full("the queue is full; send again later"),
            SendError::NotKept(error) => Trouble::from(error),
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Trouble {
        match refusal {
            Refusal::Error { code: 100, .. } | Refusal::Error { temporary: true, .. } => {
                Trouble::unavailable("the application does not answer")
            }
            Refusal::Error { message, .. } => Trouble::forbidden(message),
            Refusal::Disconnect { reason, .. } => Trouble::forbidden(reason),
        }
    }
}

/// Why a connection ends from inside, and what its client is told.
#[derive(Debug)]
pub(super) struct End {
    pub(super) reason: CloseReason,
    pub(super) error: Option<Box<ErrorFrame>>,
}

impl End {
    /// Nothing need be said.
    pub(super) fn quiet(reason: CloseReason) -> End {
        End { reason, error: None }
    }

    /// The frames themselves were at fault.
    pub(super) fn bad_frame(bad: &BadFrame) -> End {
        let reason = match bad.error.label() {
            "frame_too_large" => CloseReason::FrameTooLarge,
            _ => CloseReason::Malformed,
        };
        End { reason, error: Some(Box::new(bad.error_frame())) }
    }

    /// A rule of the protocol was broken.
    pub(super) fn fatal(fatal: &Fatal) -> End {
        End { reason: CloseReason::Malformed, error: Some(Box::new(fatal.error_frame())) }
    }

    /// Somebody else ends it.
    pub(super) fn ordered(ending: &Ending) -> End {
        let (code, message) = match ending.reason {
            CloseReason::Shutdown => ("shutting_down", "the server is shutting down"),
            CloseReason::SlowReader => ("slow_reader", "the client reads too slowly"),
            CloseReason::Idle => ("gone", "no heart-beat came"),
            CloseReason::HandshakeTimeout => ("not_connected", "CONNECT did not come in time"),
            CloseReason::RateLimited => ("rate_limited", "too many frames"),
            CloseReason::FrameTooLarge => ("frame_too_large", "a message is too large"),
            CloseReason::Malformed => ("malformed_header", "the transport's rules were broken"),
            CloseReason::Expired => ("bad_credentials", "the credentials have run out"),
            CloseReason::OutOfSync => ("unavailable", "messages were lost; subscribe again"),
            CloseReason::Kicked | CloseReason::Replaced | CloseReason::Refused => {
                ("forbidden", "the connection was ended by the server")
            }
            CloseReason::TooManyConnections => ("forbidden", "too many connections of this user"),
            CloseReason::PeerClosed | CloseReason::ConnectionLost => {
                return End::quiet(ending.reason);
            }
            _ => ("internal", "something went wrong in the server"),
        };
        let message = match &ending.advice {
            Some((_, reason)) if !reason.is_empty() => reason.to_string(),
            _ => message.to_owned(),
        };
        Trouble::new(code, message, ending.reason).end(None)
    }
}

impl From<CloseReason> for End {
    fn from(reason: CloseReason) -> End {
        End::ordered(&Ending::from(reason))
    }
}

fn upper_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>());
    first.unwrap_or_default() + letters.as_str()
}
