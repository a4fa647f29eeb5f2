//! Why a frame is refused, in words that help whoever wrote the client.

use thiserror::Error;

use crate::stomp::{BadFrame, Command, ErrorFrame, VERSIONS_SUPPORTED};

/// Which rule a client broke. Each ends the connection, as STOMP demands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum Refusal {
    #[error("no version of STOMP in common")]
    UnsupportedVersion,
    #[error("heart-beat is not two numbers with a comma between them")]
    BadHeartBeat,
    #[error("the first frame must be CONNECT, and the others must wait for CONNECTED")]
    NotConnected,
    #[error("already connected")]
    AlreadyConnected,
    #[error("clients do not send this command in this version")]
    UnexpectedCommand,
    #[error("the {header} header is missing or empty")]
    MissingHeader { header: &'static str },
    #[error("the {header} header is longer than {max} bytes")]
    NameTooLong { header: &'static str, max: usize },
    #[error("the destination is longer than {max} bytes")]
    DestinationTooLong { max: usize },
    #[error("ack must be auto, client or client-individual")]
    BadAckMode,
    #[error("last-position must be EPOCH:OFFSET, as in the position header of a MESSAGE")]
    BadPosition,
    #[error("prefetch-count must be a number from 0 to 65535")]
    BadPrefetch,
    #[error("there is a subscription of this id already")]
    DuplicateSubscription,
    #[error("more than {max} subscriptions")]
    TooManySubscriptions { max: usize },
    #[error("there is no such subscription")]
    UnknownSubscription,
    #[error("no such message was delivered on this connection")]
    UnknownMessage,
    #[error("there is a transaction of this name already")]
    DuplicateTransaction,
    #[error("more than {max} transactions")]
    TooManyTransactions { max: usize },
    #[error("there is no such transaction; it may have been open for too long")]
    UnknownTransaction,
    #[error("more than {max} frames in a transaction")]
    TooManyFramesInTransaction { max: usize },
    #[error("more than {max} bytes in open transactions")]
    TransactionTooLarge { max: usize },
}

impl Refusal {
    /// The stable name in ERROR frames, counters and docs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::UnsupportedVersion => "unsupported_version",
            Refusal::BadHeartBeat => "bad_heart_beat",
            Refusal::NotConnected => "not_connected",
            Refusal::AlreadyConnected => "already_connected",
            Refusal::UnexpectedCommand => "unexpected_command",
            Refusal::MissingHeader { .. } => "missing_header",
            Refusal::NameTooLong { .. } | Refusal::DestinationTooLong { .. } => "name_too_long",
            Refusal::BadAckMode | Refusal::BadPosition | Refusal::BadPrefetch => "bad_header",
            Refusal::DuplicateSubscription => "duplicate_subscription",
            Refusal::TooManySubscriptions { .. } => "too_many_subscriptions",
            Refusal::UnknownSubscription => "unknown_subscription",
            Refusal::UnknownMessage => "unknown_message",
            Refusal::DuplicateTransaction => "duplicate_transaction",
            Refusal::TooManyTransactions { .. } => "too_many_transactions",
            Refusal::UnknownTransaction => "unknown_transaction",
            Refusal::TooManyFramesInTransaction { .. } | Refusal::TransactionTooLarge { .. } => {
                "transaction_too_large"
            }
        }
    }
}

/// A refused frame, with what its ERROR frame needs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{command}: {refusal}")]
pub struct Fatal {
    /// Which rule it broke.
    pub refusal: Refusal,
    /// What it was.
    pub command: Command,
    /// Its `receipt` header.
    pub receipt: Option<Box<str>>,
}

impl Fatal {
    /// What to tell the client before the connection is closed.
    #[must_use]
    pub fn error_frame(&self) -> ErrorFrame {
        let version = (self.refusal == Refusal::UnsupportedVersion).then_some(VERSIONS_SUPPORTED);
        let mut body = format!("The {} frame was refused: {}.\n", self.command, self.refusal);
        if let Some(version) = version {
            body = format!("Supported protocol versions are {version}.\n");
        }
        ErrorFrame {
            message: self.refusal.to_string(),
            code: self.refusal.label(),
            receipt_id: self.receipt.clone(),
            version,
            body,
        }
    }
}

impl BadFrame {
    /// What to tell the client before the connection is closed.
    #[must_use]
    pub fn error_frame(&self) -> ErrorFrame {
        let what = self.command.map_or("What was sent", Command::name);
        ErrorFrame {
            message: self.error.to_string(),
            code: self.error.label(),
            receipt_id: self.receipt.clone(),
            version: None,
            body: format!("{what} could not be read: {}.\n", self.error),
        }
    }
}
