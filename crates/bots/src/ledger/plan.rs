//! One batch in the making: what is to be kept, and what follows when it is. Plain data.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use naru_domain::work::{KeyedSend, LedgerBatch, MessageState, ReplyRecord, Settlement};
use naru_domain::{DeviceKey, MessageId, Offset, PhoneReply, Timestamp};
use tokio::sync::oneshot;

use super::SendOp;
use super::keys::SendKey;
use crate::core::{Conclusion, Tally};
use crate::handler::SendError;
use crate::room_channel::Source;
use crate::roster::{DeviceEntry, Work};
use crate::scheduler::Lane;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) batch: LedgerBatch,
    /// To be worked on once it is kept.
    pub(super) dispatch: Vec<Arc<Work>>,
    /// To be sent once it is kept, in order.
    pub(super) deliveries: Vec<Outgoing>,
    pub(super) answers: Vec<Answer>,
    /// To be counted once it is kept.
    pub(super) tallies: Vec<(MessageId, Tally)>,
    pub(super) last_offsets: Vec<(oneshot::Sender<Offset>, Offset)>,
    /// Lanes of `dispatch`: a later message of theirs must not be answered before.
    lanes: HashSet<Lane>,
}

/// Who waits for the result of a send.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) to: oneshot::Sender<Result<Vec<Offset>, SendError>>,
    pub(super) device: DeviceKey,
    pub(super) key: Option<SendKey>,
    pub(super) offsets: Vec<Offset>,
}

/// A reply that leaves.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) entry: Arc<DeviceEntry>,
    pub(super) offset: Offset,
    pub(super) reply: Arc<PhoneReply>,
    pub(super) message: Option<MessageId>,
    pub(super) source: Source,
    /// The pause before it.
    pub(super) pause: Duration,
    /// When the message it answers was received.
    pub(super) received: Option<Instant>,
}

impl Plan {
    pub(super) fn is_taken(&self, lane: Lane) -> bool {
        self.lanes.contains(&lane)
    }

    pub(super) fn take_lane(&mut self, lane: Lane) {
        self.lanes.insert(lane);
    }

    /// Adds how a message ended. `last` is the end of the phone's stream and moves.
    pub(super) fn settle(
        &mut self,
        work: &Arc<Work>,
        conclusion: Conclusion,
        last: &mut Offset,
        at: Timestamp,
    ) {
        let message = Some(work.record.id);
        self.tallies.push((work.record.id, conclusion.tally));
        let pause = work.entry.bot.config.load().settings.replies.pause();
        let mut replies = Vec::with_capacity(conclusion.replies.len());
        for (i, reply) in conclusion.replies.into_iter().enumerate() {
            let pause = if i == 0 { Duration::ZERO } else { pause };
            let record = reply_record(work.entry.key, reply, message, last, at);
            self.deliveries.push(Outgoing {
                entry: Arc::clone(&work.entry),
                offset: record.offset,
                reply: Arc::clone(&record.reply),
                message,
                source: Source::answer(work),
                pause,
                received: Some(work.received),
            });
            replies.push(record);
        }
        self.batch.settle.push(Settlement {
            message,
            state: conclusion.state,
            failure: conclusion.failure,
            replies,
            keyed: None,
        });
    }

    /// Adds replies that answer no message (or answer it late); returns their offsets.
    pub(super) fn send(&mut self, send: SendOp, last: &mut Offset, at: Timestamp) -> Vec<Offset> {
        let mut replies = Vec::with_capacity(send.replies.len());
        for reply in send.replies {
            let record = reply_record(send.entry.key, reply, send.source.message, last, at);
            self.deliveries.push(Outgoing {
                entry: Arc::clone(&send.entry),
                offset: record.offset,
                reply: Arc::clone(&record.reply),
                // A late answer is not kept or dropped together with its message.
                message: None,
                source: send.source.clone(),
                pause: Duration::ZERO,
                received: None,
            });
            replies.push(record);
        }
        let device = send.entry.key;
        let offsets: Vec<Offset> = replies.iter().map(|reply| reply.offset).collect();
        let keyed = send.key.as_ref().and_then(|key| keyed_send(device, key, &offsets, at));
        self.answers.push(Answer {
            to: send.answer,
            device,
            key: send.key.map(|key| (device, key)),
            offsets: offsets.clone(),
        });
        self.batch.settle.push(Settlement {
            message: None,
            state: MessageState::Done,
            failure: Box::from(""),
            replies,
            keyed,
        });
        offsets
    }
}

/// What the store is to know of a keyed send. Its offsets follow each other; there is at least one.
pub(crate) fn keyed_send(
    device: DeviceKey,
    key: &str,
    offsets: &[Offset],
    at: Timestamp,
) -> Option<KeyedSend> {
    let first = *offsets.first()?;
    let count = u32::try_from(offsets.len()).unwrap_or(u32::MAX);
    Some(KeyedSend { device, key: key.into(), first, count, at })
}

fn reply_record(
    device: DeviceKey,
    reply: PhoneReply,
    message: Option<MessageId>,
    last: &mut Offset,
    at: Timestamp,
) -> ReplyRecord {
    *last = last.next();
    ReplyRecord { device, offset: *last, message, at, reply: Arc::new(reply) }
}
