//! The one task that decides what is kept: it gathers accepted messages and endings into batches, keeps
//! each batch in one commit, and only then starts work on the messages and lets the replies leave.
//!
//! It gives out the offsets of every phone's stream, so their order is the order in the store. Whatever
//! the store says, it never goes on past a batch that was not kept: the queue in front of it fills, and
//! the phones wait.

mod keep;
mod keys;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use naru_domain::work::{MessageRecord, MessageState};
use naru_domain::{DeviceKey, MessageId, Offset, PhoneReply};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::core::{Conclusion, Core, Ending, Tally, count, delivery, now};
use crate::handler::SendError;
use crate::room_channel::Source;
use crate::roster::{DeviceEntry, Work};
use crate::scheduler::Ticket;
pub(crate) use keys::SentKeys;
pub(crate) use plan::keyed_send;
use plan::{Answer, Plan};

/// Messages accepted in one commit (guessed: 512 rows are one page of work for SQLite).
const ACCEPTS_PER_BATCH_MAX: usize = 512;
/// Other entries in one commit; each may carry 16 MiB of pictures.
const OPS_PER_BATCH_MAX: usize = 64;

/// Room in the channel of operations. Workers wait when it is full.
pub(crate) const OPS_QUEUE_MAX: usize = 64;
/// Room in the channel of arrivals, in front of the scheduler's own queue.
pub(crate) const ACCEPTS_QUEUE_MAX: usize = 1_024;

/// What the ledger task is asked to do, beside accepting messages.
#[derive(Debug)]
pub(crate) enum LedgerOp {
    /// A worker is done with a message, or it was taken from it.
    Finished(Finished),
    /// Replies that answer no message, or come later than the answer.
    Send(SendOp),
    /// A dead message was revived: work on it again.
    Again(Arc<Work>),
    /// Streams that were handed over up to the offset.
    Delivered(Vec<(DeviceKey, Offset)>),
    /// Where a phone's stream ends.
    LastOffset(DeviceKey, oneshot::Sender<Offset>),
    /// Answered when everything before it is kept.
    Flush(oneshot::Sender<()>),
}

/// The end of work on a message.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ticket: Ticket,
    pub(crate) settled: Settled,
}

/// What a message came to.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) work: Arc<Work>,
    pub(crate) ending: Ending,
}

/// Replies to keep and send.
#[derive(Debug)]
pub(crate) struct SendOp {
    pub(crate) entry: Arc<DeviceEntry>,
    pub(crate) replies: Vec<PhoneReply>,
    /// Where they come from. A message in it is answered late.
    pub(crate) source: Source,
    /// The same key gives the same result, and sends once.
    pub(crate) key: Option<Arc<str>>,
    pub(crate) answer: oneshot::Sender<Result<Vec<Offset>, SendError>>,
}

/// The task's state. It survives a panic of the task, so that nothing in its hands is lost.
pub(crate) struct LedgerTask {
    core: Arc<Core>,
    accepts: mpsc::Receiver<Arc<Work>>,
    ops: mpsc::Receiver<LedgerOp>,
    accept_buffer: Vec<Arc<Work>>,
    op_buffer: Vec<LedgerOp>,
    /// Messages taken from the channel so far.
    taken_count: u64,
    /// Who waits until so many are kept.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    offsets: HashMap<DeviceKey, Offset>,
    keys: SentKeys,
    /// The batch that is being kept.
    plan: Option<Plan>,
}

impl LedgerTask {
    pub(crate) fn new(
        core: Arc<Core>,
        accepts: mpsc::Receiver<Arc<Work>>,
        ops: mpsc::Receiver<LedgerOp>,
        offsets: HashMap<DeviceKey, Offset>,
    ) -> LedgerTask {
        LedgerTask {
            core,
            accepts,
            ops,
            accept_buffer: Vec::new(),
            op_buffer: Vec::new(),
            taken_count: 0,
            flushes: Vec::new(),
            offsets,
            keys: SentKeys::default(),
            plan: None,
        }
    }

    /// Works until told to stop; what was handed over by then is kept first, and nothing else is taken.
    pub(crate) async fn run(&mut self, stop: &CancellationToken) {
        self.core.metrics.ledger_healthy.set(1);
        loop {
            if let Some(plan) = self.plan.as_ref() {
                let Some(kept) = keep::keep(&self.core, &plan.batch).await else { return };
                if let Some(plan) = self.plan.take() {
                    self.carry_out(plan, &kept);
                }
            }
            if self.accept_buffer.is_empty()
                && self.op_buffer.is_empty()
                && !self.fill(stop).await
                && !self.fill_last().await
            {
                return;
            }
            self.plan = Some(self.draw_up());
        }
    }

    /// Waits for something to do; `false` when there is nothing and the task is to stop.
    async fn fill(&mut self, stop: &CancellationToken) -> bool {
        let room = if self.core.is_closing() {
            ACCEPTS_PER_BATCH_MAX // Hardly any of it goes to the board.
        } else {
            self.core.board.room().min(ACCEPTS_PER_BATCH_MAX)
        };
        let can_go_on = tokio::select! {
            // What is waiting is kept before the stop is heard.
            biased;
            taken = self.ops.recv_many(&mut self.op_buffer, OPS_PER_BATCH_MAX) => taken > 0,
            taken = self.accepts.recv_many(&mut self.accept_buffer, room), if room > 0 => taken > 0,
            () = stop.cancelled() => false,
        };
        while self.op_buffer.len() < OPS_PER_BATCH_MAX
            && let Ok(op) = self.ops.try_recv()
        {
            self.op_buffer.push(op);
        }
        while self.accept_buffer.len() < room
            && let Ok(work) = self.accepts.try_recv()
        {
            self.accept_buffer.push(work);
        }
        can_go_on || !self.op_buffer.is_empty() || !self.accept_buffer.is_empty()
    }

    /// Closes the channel and takes what is still in it; `false` when there is nothing left.
    async fn fill_last(&mut self) -> bool {
        self.accepts.close();
        self.accepts.recv_many(&mut self.accept_buffer, ACCEPTS_PER_BATCH_MAX).await > 0
    }

    /// Turns what was gathered into one batch. Endings come before new messages, so that a room whose
    /// work just ended may be answered at once, behind the earlier replies.
    fn draw_up(&mut self) -> Plan {
        let mut plan = Plan::default();
        for op in std::mem::take(&mut self.op_buffer) {
            self.add_op(&mut plan, op);
        }
        let works = std::mem::take(&mut self.accept_buffer);
        self.taken_count += count(works.len());
        for work in works {
            self.add_accept(&mut plan, work);
        }
        plan
    }

    fn add_op(&mut self, plan: &mut Plan, op: LedgerOp) {
        match op {
            LedgerOp::Finished(Finished { ticket, settled }) => {
                match self.core.board.finish(ticket, settled) {
                    Some(released) => {
                        for Settled { work, ending } in released {
                            self.add_ending(plan, &work, ending);
                        }
                    }
                    None => self.core.metrics.late_answers.increment(),
                }
            }
            LedgerOp::Send(send) => self.add_send(plan, send),
            LedgerOp::Again(work) => plan.dispatch.push(work),
            LedgerOp::Delivered(cursors) => plan.batch.delivered.extend(cursors),
            LedgerOp::LastOffset(device, answer) => {
                let last = self.offsets.get(&device).copied().unwrap_or_default();
                plan.last_offsets.push((answer, last));
            }
            LedgerOp::Flush(answer) => {
                let before = count(self.accept_buffer.len() + self.accepts.len());
                self.flushes.push((self.taken_count + before, answer));
            }
        }
    }

    fn add_accept(&mut self, plan: &mut Plan, mut work: Arc<Work>) {
        if work.record.state != MessageState::Pending {
            // Only for the log. In direct mode it was counted when it ended.
            plan.batch.accept.push(Arc::clone(&work.record));
            if !self.core.is_direct() {
                plan.tallies.push((work.record.id, Tally::Logged { withheld: 0 }));
            }
            return;
        }
        if work.is_for_next_start {
            self.core.metrics.left_for_next_start.increment();
            plan.batch.accept.push(Arc::clone(&work.record));
            return;
        }
        // A message that has to be told ends later than it is kept.
        let is_first = work.told.is_none()
            && self.core.board.is_idle(work.lane())
            && !plan.is_taken(work.lane());
        let ending = if is_first { self.core.immediate(&work) } else { None };
        let Some(ending) = ending else {
            plan.take_lane(work.lane());
            plan.batch.accept.push(Arc::clone(&work.record));
            plan.dispatch.push(work);
            return;
        };
        self.core.metrics.immediate.increment();
        self.core.metrics.stage_queue.observe(now().saturating_duration_since(work.received));
        let conclusion = self.core.conclude(&work, ending);
        let keeps_log = work.entry.bot.config.load().settings.chat_log.enabled;
        if conclusion.state == MessageState::Logged && !keeps_log {
            self.core.metrics.unlogged.increment();
            return;
        }
        // One row in its final state instead of a row and a change to it.
        plan.batch.accept.push(ended_record(&mut work, &conclusion));
        if conclusion.replies.is_empty() {
            plan.tallies.push((work.record.id, conclusion.tally));
        } else {
            self.add_settlement(plan, &work, conclusion);
        }
    }

    fn add_ending(&mut self, plan: &mut Plan, work: &Arc<Work>, ending: Ending) {
        let conclusion = self.core.conclude(work, ending);
        self.add_settlement(plan, work, conclusion);
    }

    fn add_settlement(&mut self, plan: &mut Plan, work: &Arc<Work>, conclusion: Conclusion) {
        let last = self.offsets.entry(work.entry.key).or_default();
        plan.settle(work, conclusion, last, self.core.clock.now());
    }

    fn add_send(&mut self, plan: &mut Plan, send: SendOp) {
        let key = send.key.as_ref().map(|key| (send.entry.key, Arc::clone(key)));
        if let Some(offsets) = key.as_ref().and_then(|key| self.keys.get(key)) {
            let (device, offsets) = (send.entry.key, offsets.clone());
            plan.answers.push(Answer { to: send.answer, device, key, offsets });
            return;
        }
        let last = self.offsets.entry(send.entry.key).or_default();
        self.core.metrics.replies.add(count(send.replies.len()));
        let offsets = plan.send(send, last, self.core.clock.now());
        if let Some(key) = key {
            self.keys.insert(key, offsets);
        }
    }

    /// The batch is kept: start work, let replies leave, answer those who wait.
    fn carry_out(&mut self, plan: Plan, kept: &keep::Kept) {
        let core = &self.core;
        core.metrics.duplicates_store.add(count(kept.duplicates.len()));
        let received = now();
        let is_out = |message: Option<MessageId>| {
            message.is_some_and(|id| kept.duplicates.contains(&id) || kept.refused.contains(&id))
        };
        let dispatch: Vec<_> =
            plan.dispatch.into_iter().filter(|work| !is_out(Some(work.record.id))).collect();
        dispatch.iter().for_each(|work| core.teller.message(core, work));
        if !dispatch.is_empty() {
            core.board.push_kept(dispatch, received);
        }
        for (message, tally) in plan.tallies {
            if !is_out(Some(message)) {
                core.tally(tally);
            }
        }
        let (waiting, in_work) = core.board.depth();
        core.show_queue(waiting, in_work);
        for out in plan.deliveries {
            let is_refused = kept.refused_replies.contains(&(out.entry.key, out.offset));
            if is_out(out.message) || is_refused {
                continue;
            }
            core.teller.reply(core, &out.entry, &out.source, out.offset, &out.reply);
            core.deliver(&out.entry, delivery(out.offset, out.reply), out.pause);
            if let Some(since) = out.received {
                core.metrics.stage_reply.observe(received.saturating_duration_since(since));
            }
        }
        // Who asked may have gone away; the result stands all the same.
        for Answer { to, device, key, offsets } in plan.answers {
            let is_refused = offsets.iter().any(|o| kept.refused_replies.contains(&(device, *o)));
            let reason = || "the store refused it".to_owned();
            let result = if is_refused {
                if let Some(key) = key {
                    self.keys.remove(&key);
                }
                Err(SendError::Unavailable { reason: reason() })
            } else {
                Ok(offsets)
            };
            to.send(result).ok();
        }
        for (answer, last) in plan.last_offsets {
            answer.send(last).ok();
        }
        let is_kept = |(until, _): &mut (u64, _)| *until <= self.taken_count;
        for (_, answer) in self.flushes.extract_if(.., is_kept) {
            answer.send(()).ok();
        }
    }
}

/// The record of a message that ended before it was kept.
fn ended_record(work: &mut Arc<Work>, conclusion: &Conclusion) -> Arc<MessageRecord> {
    let end = |record: &mut MessageRecord| {
        record.state = conclusion.state;
        record.failure.clone_from(&conclusion.failure);
    };
    // Nobody else holds it yet, unless the handler kept a part of what it was asked.
    if let Some(record) = Arc::get_mut(work).and_then(|work| Arc::get_mut(&mut work.record)) {
        end(record);
        return Arc::clone(&work.record);
    }
    let mut record = MessageRecord::clone(&work.record);
    end(&mut record);
    Arc::new(record)
}
