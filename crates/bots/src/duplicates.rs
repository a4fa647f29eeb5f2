//! Which messages were heard before: by (device, log id), and the id-less copies that old scripts send.
//!
//! Plain data; `now` is an argument. It only remembers: what happens to a duplicate is decided elsewhere.
//! The unique index of the store stands behind it, so forgetting early costs a lookup, not a double answer.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use naru_domain::DeviceKey;

/// The log ids heard within a window of time, at most so many.
///
/// Kept in two generations: ids go into the younger one, and when that is a window old or holds half of
/// what is allowed, it becomes the older one and the older one is forgotten as a whole. So an id is known
/// for one to two windows, and forgetting costs nothing an id.
#[derive(Debug)]
pub(crate) struct RecentIds {
    window: Duration,
    generation_max: usize,
    young: Ids,
    old: Ids,
    young_since: Option<Instant>,
}

/// One generation. Numbers, which nearly all ids are, take 16 bytes each.
#[derive(Debug, Default)]
struct Ids {
    numbers: HashSet<(DeviceKey, u64), RandomState>,
    texts: HashSet<(DeviceKey, Box<str>), RandomState>,
}

impl Ids {
    fn contains(&self, device: DeviceKey, id: &LogId) -> bool {
        match id {
            LogId::Number(number) => self.numbers.contains(&(device, *number)),
            // Rare, so the copy for the key does not matter.
            LogId::Text(text) => self.texts.contains(&(device, text.clone())),
        }
    }

    fn insert(&mut self, device: DeviceKey, id: LogId) {
        match id {
            LogId::Number(number) => drop(self.numbers.insert((device, number))),
            LogId::Text(text) => drop(self.texts.insert((device, text))),
        }
    }

    fn len(&self) -> usize {
        self.numbers.len() + self.texts.len()
    }
}

/// Log ids are decimal numbers in practice; anything else is kept as text, so that no two ids are ever
/// taken for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum LogId {
    Number(u64),
    Text(Box<str>),
}

impl LogId {
    fn of(raw: &str) -> LogId {
        let is_canonical = !raw.is_empty()
            && raw.bytes().all(|byte| byte.is_ascii_digit())
            && (raw.len() == 1 || !raw.starts_with('0'));
        match raw.parse() {
            Ok(number) if is_canonical => LogId::Number(number),
            _ => LogId::Text(raw.into()),
        }
    }
}

impl RecentIds {
    /// An empty one.
    pub(crate) fn new(window: Duration, entries_max: usize) -> RecentIds {
        let generation_max = (entries_max / 2).max(1);
        let (young, old) = (Ids::default(), Ids::default());
        RecentIds { window, generation_max, young, old, young_since: None }
    }

    /// Whether this id is new; if so it is known from now on.
    pub(crate) fn insert(&mut self, device: DeviceKey, log_id: &str, now: Instant) -> bool {
        self.expire(now);
        let id = LogId::of(log_id);
        if self.young.contains(device, &id) || self.old.contains(device, &id) {
            return false;
        }
        if self.young.len() >= self.generation_max {
            self.age(now);
        }
        self.young_since.get_or_insert(now);
        self.young.insert(device, id);
        true
    }

    /// Forgets what is older than two windows.
    pub(crate) fn expire(&mut self, now: Instant) {
        let Some(since) = self.young_since else { return };
        let age = now.saturating_duration_since(since);
        if age > self.window {
            self.age(now);
        }
        if age > self.window * 2 {
            self.age(now);
        }
    }

    /// Forgets the older generation, or all if there is only one: memory is short and the store knows the
    /// ids, too.
    pub(crate) fn shed(&mut self) {
        if self.old.len() == 0 {
            self.young = Ids::default();
            self.young_since = None;
        }
        self.old = Ids::default();
    }

    /// How many ids are known.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn age(&mut self, now: Instant) {
        self.old = std::mem::take(&mut self.young);
        // A busy table does not have to grow from nothing again.
        if self.old.len() >= self.generation_max {
            self.young.numbers.reserve(self.old.numbers.len());
        }
        self.young_since = (self.old.len() > 0).then_some(now);
    }
}

/// Pairs the complete and the id-less copy of one chat message of one device (scripts 3.2.x send both in
/// some settings of the app). `C` is an id-less message that is held back for its complete copy.
#[derive(Debug)]
pub(crate) struct Copies<C> {
    window: Duration,
    hasher: RandomState,
    complete: VecDeque<(Instant, u64)>,
    /// Id-less messages that were let through, for complete copies that come after them.
    passed: VecDeque<(Instant, u64)>,
    held: VecDeque<(Instant, u64, C)>,
}

impl<C> Copies<C> {
    /// Entries of each kind; more within two seconds is a flood, and a copy may then be logged twice.
    const ENTRIES_MAX: usize = 64;

    /// An empty one.
    pub(crate) fn new(window: Duration) -> Copies<C> {
        Copies {
            window,
            hasher: RandomState::default(),
            complete: VecDeque::new(),
            passed: VecDeque::new(),
            held: VecDeque::new(),
        }
    }

    /// A message with ids came. The id-less copy that was held for it, if any, is dropped; `true` says
    /// that an id-less copy of it was worked on already, so this one must not be.
    pub(crate) fn complete(&mut self, room: &str, text: &str, now: Instant) -> Merged {
        let key = self.hasher.hash_one((room, text));
        self.forget_old(now);
        if let Some(place) = self.passed.iter().position(|(_, of)| *of == key) {
            self.passed.remove(place);
            return Merged::AlreadyWorkedOn;
        }
        if let Some(place) = self.held.iter().position(|(_, of, _)| *of == key) {
            self.held.remove(place);
            return Merged::HeldCopyDropped;
        }
        if self.complete.len() >= Self::ENTRIES_MAX {
            self.complete.pop_front();
        }
        self.complete.push_back((now, key));
        Merged::No
    }

    /// Whether a message without ids is the copy of a complete one that came just before.
    pub(crate) fn is_copy(&mut self, room: &str, text: &str, now: Instant) -> bool {
        let key = self.hasher.hash_one((room, text));
        self.forget_old(now);
        match self.complete.iter().position(|(_, of)| *of == key) {
            Some(place) => {
                self.complete.remove(place);
                true
            }
            None => false,
        }
    }

    /// Remembers that an id-less message was worked on.
    pub(crate) fn passed(&mut self, room: &str, text: &str, now: Instant) {
        if self.passed.len() >= Self::ENTRIES_MAX {
            self.passed.pop_front();
        }
        self.passed.push_back((now, self.hasher.hash_one((room, text))));
    }

    /// Holds an id-less message until its complete copy comes or the window ends. Gives back the oldest
    /// one when there are too many.
    pub(crate) fn hold(&mut self, room: &str, text: &str, copy: C, now: Instant) -> Option<C> {
        let key = self.hasher.hash_one((room, text));
        self.held.push_back((now, key, copy));
        if self.held.len() > Self::ENTRIES_MAX { self.held.pop_front().map(|h| h.2) } else { None }
    }

    /// The oldest held message whose window is over.
    pub(crate) fn release(&mut self, now: Instant) -> Option<C> {
        let (at, _, _) = self.held.front()?;
        if now.saturating_duration_since(*at) < self.window {
            return None;
        }
        self.held.pop_front().map(|held| held.2)
    }

    /// The oldest held message, whether its window is over or not.
    pub(crate) fn release_any(&mut self) -> Option<C> {
        self.held.pop_front().map(|held| held.2)
    }

    /// Whether any message is held.
    pub(crate) fn holds_any(&self) -> bool {
        !self.held.is_empty()
    }

    fn forget_old(&mut self, now: Instant) {
        for list in [&mut self.complete, &mut self.passed] {
            while let Some((at, _)) = list.front() {
                if now.saturating_duration_since(*at) <= self.window {
                    break;
                }
                list.pop_front();
            }
        }
    }
}

/// What a complete message has to do with an id-less one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// Nothing so far.
    No,
    /// A held id-less copy was dropped in its favour.
    HeldCopyDropped,
    /// The id-less copy was worked on already.
    AlreadyWorkedOn,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(2);

    #[test]
    fn an_id_is_new_once_per_device_and_window() {
        let mut ids = RecentIds::new(Duration::from_secs(600), 100);
        let now = Instant::now();
        assert!(ids.insert(DeviceKey(1), "77", now));
        assert!(!ids.insert(DeviceKey(1), "77", now));
        assert!(ids.insert(DeviceKey(2), "77", now));
        assert!(ids.insert(DeviceKey(1), "077", now), "ids are strings");
        assert!(ids.insert(DeviceKey(1), "+77", now));
        assert!(ids.insert(DeviceKey(1), "77", now + Duration::from_secs(1_201)));
    }

    #[test]
    fn the_filter_keeps_at_most_its_limit_and_at_least_half_of_it() {
        let mut ids = RecentIds::new(Duration::from_secs(600), 10);
        let now = Instant::now();
        for id in 0..100 {
            assert!(ids.insert(DeviceKey(1), &id.to_string(), now));
            assert!(ids.len() <= 10);
        }
        for id in 95..100 {
            assert!(!ids.insert(DeviceKey(1), &id.to_string(), now));
        }
        assert!(ids.insert(DeviceKey(1), "0", now), "the oldest are forgotten");
        ids.shed();
        assert!(ids.len() <= 5);
    }

    #[test]
    fn an_id_is_known_for_at_least_a_window_and_at_most_two() {
        let window = Duration::from_secs(600);
        let mut ids = RecentIds::new(window, 1_000);
        let start = Instant::now();
        assert!(ids.insert(DeviceKey(1), "first", start));
        assert!(ids.insert(DeviceKey(1), "7", start + window / 2));
        assert!(!ids.insert(DeviceKey(1), "7", start + window + window / 2));
        assert!(ids.insert(DeviceKey(1), "7", start + window * 3));
        ids.expire(start + window * 6);
        assert_eq!(ids.len(), 0);
    }

    #[test]
    fn a_copy_after_the_complete_one_is_found_once_and_only_within_the_window() {
        let mut copies = Copies::<()>::new(WINDOW);
        let now = Instant::now();
        assert_eq!(copies.complete("room", "hi", now), Merged::No);
        assert!(!copies.is_copy("other", "hi", now));
        assert!(copies.is_copy("room", "hi", now + WINDOW));
        assert!(!copies.is_copy("room", "hi", now), "each complete one has one copy");
        copies.complete("room", "hi", now);
        assert!(!copies.is_copy("room", "hi", now + WINDOW + Duration::from_millis(1)));
    }

    #[test]
    fn a_held_copy_yields_to_the_complete_one_and_is_released_otherwise() {
        let mut copies = Copies::new(WINDOW);
        let now = Instant::now();
        assert_eq!(copies.hold("room", "hi", 1, now), None);
        assert_eq!(copies.hold("room", "ho", 2, now), None);
        assert_eq!(copies.complete("room", "hi", now), Merged::HeldCopyDropped);
        assert_eq!(copies.release(now + Duration::from_secs(1)), None);
        assert_eq!(copies.release(now + WINDOW), Some(2));
        assert!(!copies.holds_any());
        copies.passed("room", "x", now);
        assert_eq!(copies.complete("room", "x", now), Merged::AlreadyWorkedOn);
    }
}
