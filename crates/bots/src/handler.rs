//! What answers a message: the trait that commands, webhooks and tests implement, and the way out for
//! replies that answer no message. Knows nothing of queues, workers or the store.

use std::sync::Arc;

use async_trait::async_trait;
use naru_domain::work::MessageRecord;
use naru_domain::{BotName, DeviceId, DeviceKey, ReplyBody};

/// A message that is to be answered.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The message as it was accepted.
    pub message: Arc<MessageRecord>,
    /// The bot that was spoken to.
    pub bot: BotName,
    /// The phone's own id.
    pub device: DeviceId,
    /// 1 for the first try; more when an earlier one ended in an error that allows another.
    pub attempt: u32,
}

/// What a handler has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The replies, in order; they go to the room the message came from.
    pub replies: Vec<ReplyBody>,
    /// The message was handled and nothing is to be said. Without replies and not silent means that
    /// nobody felt responsible: the message is then only logged.
    pub silent: bool,
}

impl Outcome {
    /// Answers with one text.
    #[must_use]
    pub fn text(text: impl Into<Box<str>>) -> Outcome {
        Outcome { replies: vec![ReplyBody::Text(text.into())], silent: false }
    }

    /// Answers with these replies; none of them means silence.
    #[must_use]
    pub fn replies(replies: Vec<ReplyBody>) -> Outcome {
        let silent = replies.is_empty();
        Outcome { replies, silent }
    }

    /// Handled, and nothing to say.
    #[must_use]
    pub fn silent() -> Outcome {
        Outcome { replies: Vec::new(), silent: true }
    }

    /// Nobody is responsible for this message.
    #[must_use]
    pub fn unhandled() -> Outcome {
        Outcome::default()
    }

    /// Whether nobody felt responsible.
    #[must_use]
    pub fn is_unhandled(&self) -> bool {
        self.replies.is_empty() && !self.silent
    }
}

/// Why a handler could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct HandlerError {
    /// For the operator, without secrets; the first 500 characters stand in the dead-letter list.
    pub reason: String,
    /// Whether another try may help and cannot do harm. A handler that retries by itself says no.
    pub retryable: bool,
}

impl HandlerError {
    /// Failed for good: the message goes to the dead letters.
    #[must_use]
    pub fn dead(reason: impl Into<String>) -> HandlerError {
        HandlerError { reason: reason.into(), retryable: false }
    }

    /// Worth another try.
    #[must_use]
    pub fn retryable(reason: impl Into<String>) -> HandlerError {
        HandlerError { reason: reason.into(), retryable: true }
    }
}

/// Answers messages. Called in order per room, with up to three messages of one room at once.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The answer at once, if it can be given without waiting and without effects anywhere else (the
    /// call may be repeated when a commit is). `None` sends the message to a worker.
    fn immediate(&self, incoming: &Incoming) -> Option<Outcome>;

    /// The answer. The future is dropped when it takes longer than the limit per message.
    async fn handle(&self, incoming: Incoming) -> Result<Outcome, HandlerError>;
}

/// Why something could not be sent to a phone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no such device or message.
    #[error("no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// The device or the room is not approved.
    #[error("the {what} is not approved")]
    NotApproved {
        /// `device` or `room`.
        what: &'static str,
    },
    /// The replies are more or larger than allowed, or empty.
    #[error("{reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// It cannot be kept now (the store does not take it, the queue is full, or the node is stopping).
    #[error("cannot be sent now: {reason}")]
    Unavailable {
        /// Why, without secrets.
        reason: String,
    },
}

/// The way to a phone for what answers no message: schedules and operators.
#[async_trait]
pub trait ReplyOut: Send + Sync + 'static {
    /// Keeps the bodies as replies to the room of the device, in order, and delivers them as soon as the
    /// phone takes them. `Ok` means kept, not shown.
    async fn send(
        &self,
        device: DeviceKey,
        room: &str,
        channel_id: &str,
        bodies: Vec<ReplyBody>,
        scheduled: bool,
    ) -> Result<(), SendError>;
}
