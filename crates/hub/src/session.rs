//! The life of one session: active, suspended or closed; which connection may act for it; where its
//! stream stands; and what the delivery journal must be told.
//!
//! Plain data changed by plain functions that take `now`. It knows no locks, tasks, wakers or channels.

use std::time::Duration;

use naru_domain::{CloseReason, Delivery, Generation, Offset};

use crate::mailbox::{Mailbox, MailboxLimits, Pushed, Tally};

/// A moment of the node's own monotonic time, in milliseconds since the hub was made. Unlike wall time it
/// never jumps, so nobody's suspension ends early because somebody set a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment plus `duration`; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Moment {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(ms))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// A connection acts for it.
    Active,
    /// It waits for its next connection.
    Suspended {
        /// Until then; `None` means for ever.
        until: Option<Moment>,
    },
    /// It has ended.
    Closed(CloseReason),
}

impl SessionState {
    /// The name in lists and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            SessionState::Active => "active",
            SessionState::Suspended { .. } => "suspended",
            SessionState::Closed(_) => "closed",
        }
    }
}

/// The session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub CloseReason);

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    state: SessionState,
    generation: Generation,
    mailbox: Mailbox,
}

impl Session {
    /// A suspended session that nobody was attached to yet.
    #[must_use]
    pub fn new(handed_over: Offset, until: Option<Moment>) -> Session {
        Session {
            state: SessionState::Suspended { until },
            generation: Generation(0),
            mailbox: Mailbox::starting_after(handed_over),
        }
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// The newest attachment; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What waits.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Whether the attachment `generation` still acts for the session.
    #[must_use]
    pub fn is_current(&self, generation: Generation) -> bool {
        self.state == SessionState::Active && self.generation == generation
    }

    /// A connection takes the session over. An older attachment can do nothing any more, and what it
    /// took without handing it over is there again.
    pub fn attach(&mut self, tally: &mut Tally) -> Result<Generation, Ended> {
        if let SessionState::Closed(reason) = self.state {
            return Err(Ended(reason));
        }
        self.mailbox.rewind(tally);
        self.state = SessionState::Active;
        self.generation = Generation(self.generation.0 + 1);
        Ok(self.generation)
    }

    /// The attachment ends; the session waits for the next one until `until`. Returns where the stream
    /// really stands, or `None` from an attachment that was replaced.
    pub fn detach(
        &mut self,
        generation: Generation,
        until: Option<Moment>,
        tally: &mut Tally,
    ) -> Option<Offset> {
        if !self.is_current(generation) {
            return None;
        }
        self.mailbox.rewind(tally);
        self.state = SessionState::Suspended { until };
        Some(self.mailbox.handed_over())
    }

    /// Takes a delivery in. `Err` if the session has ended.
    pub fn deliver(
        &mut self,
        delivery: Delivery,
        limits: &MailboxLimits,
        tally: &mut Tally,
    ) -> Result<Pushed, Ended> {
        if let SessionState::Closed(reason) = self.state {
            return Err(Ended(reason));
        }
        let reader_is_there = self.state == SessionState::Active;
        Ok(self.mailbox.push(delivery, reader_is_there, limits, tally))
    }

    /// See [`Mailbox::take`]. A replaced attachment gets nothing.
    pub fn take(
        &mut self,
        generation: Generation,
        count_max: usize,
        bytes_max: usize,
        out: &mut Vec<Delivery>,
    ) -> usize {
        if !self.is_current(generation) {
            return 0;
        }
        self.mailbox.take(count_max, bytes_max, out)
    }

    /// See [`Mailbox::hand_over`]. `None` from a replaced attachment, whose word counts no more.
    pub fn hand_over(&mut self, generation: Generation, offset: Offset) -> Option<u64> {
        self.is_current(generation).then(|| self.mailbox.hand_over(offset))
    }

    /// Ends the session if its time is over. Otherwise says when to look again, if ever.
    pub fn expire(&mut self, now: Moment) -> Expiry {
        match self.state {
            SessionState::Suspended { until: Some(until) } if until <= now => {
                self.close(CloseReason::Idle);
                Expiry::Expired
            }
            SessionState::Suspended { until: Some(until) } => Expiry::Later(until),
            _ => Expiry::Never,
        }
    }

    /// Ends the session. Its mailbox is dropped.
    pub fn close(&mut self, reason: CloseReason) {
        if !matches!(self.state, SessionState::Closed(_)) {
            self.state = SessionState::Closed(reason);
            self.mailbox.clear();
        }
    }
}

/// What the expiry timer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The session ended just now.
    Expired,
    /// Its time is not over: look again then.
    Later(Moment),
    /// Nothing to wait for: it is active, closed, or suspended for ever.
    Never,
}

/// What the delivery journal says about one session's stream, and who may change it. Kept apart from the
/// [`Session`], so that a slow write of the journal never holds up who delivers.
///
/// Each function returns the offset that has to be recorded, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalCursor {
    generation: Generation,
    recorded: Offset,
}

impl JournalCursor {
    /// The journal says `recorded`, and nobody is attached.
    #[must_use]
    pub fn new(recorded: Offset) -> JournalCursor {
        JournalCursor { generation: Generation(0), recorded }
    }

    /// What the journal says.
    #[must_use]
    pub fn recorded(&self) -> Offset {
        self.recorded
    }

    /// The attachment is about to write, or has written, the stream up to `offset`.
    pub fn announce(&mut self, generation: Generation, offset: Offset) -> Option<Offset> {
        if generation != self.generation || offset <= self.recorded {
            return None;
        }
        self.recorded = offset;
        Some(offset)
    }

    /// Less was written than announced: the stream really stands at `real`.
    pub fn correct(&mut self, generation: Generation, real: Offset) -> Option<Offset> {
        if generation != self.generation || real >= self.recorded {
            return None;
        }
        self.recorded = real;
        Some(real)
    }

    /// A new attachment takes over where the stream really stands. Older ones change nothing from now on.
    pub fn take_over(&mut self, generation: Generation, real: Offset) -> Option<Offset> {
        if generation <= self.generation {
            return None;
        }
        self.generation = generation;
        self.correct(generation, real)
    }
}
