//! Who plays: visits from lists of names and from logs together, counts with their freshness, peaks. Pure.
//!
//! Lists and logs contradict each other for a while, since both are late: a list may have been asked for
//! before a join that the log tells already, or come from a cache (Minecraft's status is up to 5 s old).
//! So a list says nothing about what happened after it was asked for, a name that is missing must be
//! missing several times, and a poll that got no answer says nothing at all. A visit's end is a span:
//! when the player was seen last and when known to be gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use naru_domain::Timestamp;
use naru_domain::ports::WardVisit;

use super::pending::Pending;
use crate::model::WardName;

/// How patient the bookkeeping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayersSettings {
    /// A count is fresh for so long: three polls.
    pub fresh_for: Duration,
    /// Lists in a row that must lack a name that only lists told.
    pub misses: u8,
    /// And one whose join a log told: the player may still be loading.
    pub misses_after_log: u8,
    /// A name in a list is not a return for so long after a log told its leaving: lists are cached.
    pub echo: Duration,
}

impl Default for PlayersSettings {
    fn default() -> PlayersSettings {
        PlayersSettings {
            fresh_for: Duration::from_secs(35),
            misses: 2,
            misses_after_log: 3,
            echo: Duration::from_secs(10),
        }
    }
}

/// Players of one ward that are known by name at most; further ones are only counted.
const VISITS_MAX: usize = 512;
/// The longest name that is kept, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Leavings that are remembered to know echoes.
const LEFT_MAX: usize = 64;

/// Where knowledge comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A list of players.
    List,
    /// The game's log, or an event that it pushed.
    Log,
    /// The game ended.
    End,
}

/// A player as a list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The name; empty ones are only counted.
    pub name: &'a str,
    /// The lasting id, where the game tells.
    pub id: Option<&'a str>,
}

/// Something changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A player came.
    Joined {
        /// The name.
        name: Arc<str>,
        /// The lasting id, if known.
        id: Option<Arc<str>>,
        /// When, or when first seen.
        at: Timestamp,
        /// How it is known.
        by: Evidence,
    },
    /// A player went.
    Left {
        /// The name.
        name: Arc<str>,
        /// The lasting id, if known.
        id: Option<Arc<str>>,
        /// When known to be gone for the first time.
        at: Timestamp,
        /// How it is known.
        by: Evidence,
    },
    /// More players than ever before.
    Peak {
        /// How many.
        count: u32,
        /// When.
        at: Timestamp,
    },
}

/// How good a count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The game told it lately.
    Fresh,
    /// The game does not answer; the count follows its log.
    FromLog,
    /// The game told it once.
    Stale,
    /// It was never told.
    Unknown,
}

/// Players at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// How many, as far as is known.
    pub count: u32,
    /// How many fit, if the game told.
    pub max: Option<u32>,
    /// How good the count is.
    pub freshness: Freshness,
    /// When the count was true.
    pub at: Option<Timestamp>,
}

#[derive(Debug)]
struct Visit {
    visit: WardVisit,
    joined: Timestamp,
    by_log: bool,
    misses: u8,
    missed: Option<Timestamp>,
    is_listed: bool,
    is_changed: bool,
}

/// The players of one ward.
#[derive(Debug)]
pub struct Players {
    ward: Arc<str>,
    settings: PlayersSettings,
    visits: Vec<Visit>,
    ended: Vec<WardVisit>,
    left: VecDeque<(Arc<str>, Timestamp)>,
    count: Option<(u32, Timestamp)>,
    max: Option<u32>,
    has_log: bool,
    peak: u32,
}

impl Players {
    /// Nobody is known. `peak` is the highest count ever, as it was kept.
    #[must_use]
    pub fn new(ward: &WardName, settings: PlayersSettings, peak: u32) -> Players {
        Players {
            ward: Arc::from(ward.as_str()),
            settings,
            visits: Vec::new(),
            ended: Vec::new(),
            left: VecDeque::new(),
            count: None,
            max: None,
            has_log: false,
            peak,
        }
    }

    /// Goes on with visits that were open before a restart, if the game still is the same process. If it
    /// is another one, [`Players::ended`] follows.
    pub fn restore(&mut self, open: Vec<WardVisit>) {
        self.visits.extend(open.into_iter().take(VISITS_MAX).map(|visit| Visit {
            joined: visit.place.at(),
            visit,
            by_log: false,
            misses: 0,
            missed: None,
            is_listed: false,
            is_changed: false,
        }));
    }

    /// The game answered with a count, and names where it tells them. `asked` is when the question was
    /// sent. A list that is not `complete` says who is there, not who is not.
    pub fn listed(
        &mut self,
        (asked, now): (Timestamp, Timestamp),
        (count, max): (u32, Option<u32>),
        names: &[Listed<'_>],
        is_complete: bool,
        pending: &mut Pending,
        changes: &mut Vec<Change>,
    ) {
        self.count = Some((count, now));
        self.max = max.or(self.max);
        self.visits.iter_mut().for_each(|visit| visit.is_listed = false);
        for listed in names.iter().filter(|listed| !listed.name.is_empty()) {
            self.see(listed, (asked, now), pending, changes);
        }
        if is_complete || count == 0 {
            self.miss(asked, changes);
        }
        self.raise_peak(count, now, changes);
    }

    /// A name is in a list: one visit that is not in it yet goes on, or a new one begins.
    fn see(
        &mut self,
        listed: &Listed<'_>,
        (asked, now): (Timestamp, Timestamp),
        pending: &mut Pending,
        changes: &mut Vec<Change>,
    ) {
        let name = clip(listed.name);
        if let Some(visit) = self
            .visits
            .iter_mut()
            .find(|visit| !visit.is_listed && is_same(&visit.visit, name, listed.id))
        {
            visit.is_listed = true;
            (visit.misses, visit.missed) = (0, None);
            visit.visit.seen = visit.visit.seen.max(asked);
            if visit.visit.player.is_none() && listed.id.is_some() {
                visit.visit.player = listed.id.map(Arc::from);
                visit.is_changed = true;
            }
            return;
        }
        let echo = self.settings.echo;
        let is_echo =
            |(left, at): &(Arc<str>, Timestamp)| **left == *name && asked <= at.plus(echo);
        if !self.left.iter().any(is_echo) {
            self.open(name, listed.id, now, Evidence::List, pending, changes);
        }
    }

    /// Visits that a complete list did not have.
    fn miss(&mut self, asked: Timestamp, changes: &mut Vec<Change>) {
        let PlayersSettings { misses, misses_after_log, .. } = self.settings;
        let mut at = 0;
        while at < self.visits.len() {
            let visit = &mut self.visits[at];
            // Who came after the question cannot be in the answer.
            if visit.is_listed || visit.joined > asked {
                at += 1;
                continue;
            }
            visit.misses += 1;
            let missed = *visit.missed.get_or_insert(asked);
            let needed = if visit.by_log { misses_after_log } else { misses };
            if visit.misses >= needed {
                self.close(at, missed, Evidence::List, changes);
            } else {
                at += 1;
            }
        }
    }

    /// The log told of a join.
    pub fn joined(
        &mut self,
        at: Timestamp,
        name: &str,
        id: Option<&str>,
        pending: &mut Pending,
        changes: &mut Vec<Change>,
    ) {
        self.has_log = true;
        let name = clip(name);
        if name.is_empty() {
            return;
        }
        self.left.retain(|(left, _)| **left != *name);
        if let Some(visit) = self.visits.iter_mut().find(|visit| is_same(&visit.visit, name, id)) {
            // A list was faster, or a leaving was lost and the player is back: one visit, either way.
            visit.by_log = true;
            (visit.misses, visit.missed) = (0, None);
            visit.visit.seen = visit.visit.seen.max(at);
            return;
        }
        self.open(name, id, at, Evidence::Log, pending, changes);
        let known = u32::try_from(self.visits.len()).unwrap_or(u32::MAX);
        self.raise_peak(known, at, changes);
    }

    /// The log told of a leaving. Nobody of that name is there: then it was told before, or we came later.
    pub fn left(&mut self, at: Timestamp, name: &str, changes: &mut Vec<Change>) {
        self.has_log = true;
        let name = clip(name);
        if let Some(found) = self.visits.iter().position(|visit| &*visit.visit.name == name) {
            self.visits[found].visit.seen = at;
            self.close(found, at, Evidence::Log, changes);
        }
        if self.left.len() == LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back((Arc::from(name), at));
    }

    /// The game ended: so did all visits.
    pub fn ended(&mut self, at: Timestamp, changes: &mut Vec<Change>) {
        while !self.visits.is_empty() {
            self.close(0, at, Evidence::End, changes);
        }
        self.count = Some((0, at));
        self.left.clear();
    }

    /// How many there are.
    #[must_use]
    pub fn now(&self, now: Timestamp) -> Now {
        let known = u32::try_from(self.visits.len()).unwrap_or(u32::MAX);
        let of = |count, freshness, at| Now { count, max: self.max, freshness, at };
        match self.count {
            Some((count, at)) if now.since(at) <= self.settings.fresh_for => {
                of(count, Freshness::Fresh, Some(at))
            }
            _ if self.has_log => of(known, Freshness::FromLog, Some(now)),
            Some((count, at)) => of(count, Freshness::Stale, Some(at)),
            None => of(known, Freshness::Unknown, None),
        }
    }

    /// Names of those who are there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.visits.iter().map(|visit| &*visit.visit.name)
    }

    /// The highest count ever.
    #[must_use]
    pub fn peak(&self) -> u32 {
        self.peak
    }

    /// Hands visits with news to what waits to be kept.
    pub fn drain(&mut self, pending: &mut Pending) {
        for visit in self.visits.iter_mut().filter(|visit| visit.is_changed) {
            visit.is_changed = false;
            pending.add_visit(visit.visit.clone());
        }
        self.ended.drain(..).for_each(|visit| pending.add_visit(visit));
    }

    fn open(
        &mut self,
        name: &str,
        id: Option<&str>,
        at: Timestamp,
        by: Evidence,
        pending: &mut Pending,
        changes: &mut Vec<Change>,
    ) {
        if self.visits.len() >= VISITS_MAX {
            return;
        }
        let (name, id): (Arc<str>, Option<Arc<str>>) = (Arc::from(name), id.map(Arc::from));
        let visit = WardVisit {
            place: pending.place(at),
            ward: Arc::clone(&self.ward),
            name: Arc::clone(&name),
            player: id.clone(),
            seen: at,
            left: None,
        };
        self.visits.push(Visit {
            visit,
            joined: at,
            by_log: by == Evidence::Log,
            misses: 0,
            missed: None,
            is_listed: true,
            is_changed: true,
        });
        changes.push(Change::Joined { name, id, at, by });
    }

    fn close(&mut self, at: usize, left: Timestamp, by: Evidence, changes: &mut Vec<Change>) {
        let mut visit = self.visits.remove(at).visit;
        if by == Evidence::End {
            visit.seen = left;
        }
        visit.seen = visit.seen.min(left);
        visit.left = Some(left);
        changes.push(Change::Left {
            name: Arc::clone(&visit.name),
            id: visit.player.clone(),
            at: left,
            by,
        });
        // Bounded: whoever never drains loses the oldest.
        if self.ended.len() == VISITS_MAX {
            self.ended.remove(0);
        }
        self.ended.push(visit);
    }

    fn raise_peak(&mut self, count: u32, at: Timestamp, changes: &mut Vec<Change>) {
        if count > self.peak {
            self.peak = count;
            changes.push(Change::Peak { count, at });
        }
    }
}

/// Whether a visit is that player's: by id if both are known, else by name.
fn is_same(visit: &WardVisit, name: &str, id: Option<&str>) -> bool {
    match (visit.player.as_deref(), id) {
        (Some(known), Some(id)) => known == id,
        _ => &*visit.name == name,
    }
}

fn clip(name: &str) -> &str {
    let mut bytes = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(bytes) {
        bytes -= 1;
    }
    &name[..bytes]
}

#[cfg(test)]
mod tests;
