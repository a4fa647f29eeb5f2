//! Which publications were made with which idempotency keys, within a window of time and number.
//!
//! Plain data; `now` is an argument.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use naru_domain::{ChannelName, Position};

use crate::session::Moment;

type Key = (ChannelName, Arc<str>);

/// The window. The oldest keys are forgotten first.
#[derive(Debug)]
pub(crate) struct KeyWindow {
    positions: HashMap<Key, (Position, Moment)>,
    order: VecDeque<(Moment, Key)>,
    age_max: Duration,
    count_max: usize,
}

impl KeyWindow {
    pub(crate) fn new(age_max: Duration, count_max: usize) -> KeyWindow {
        KeyWindow { positions: HashMap::new(), order: VecDeque::new(), age_max, count_max }
    }

    /// The first position that was published with this key, if it is still known.
    pub(crate) fn get(
        &self,
        channel: &ChannelName,
        key: &Arc<str>,
        now: Moment,
    ) -> Option<Position> {
        let (position, at) = self.positions.get(&(channel.clone(), Arc::clone(key)))?;
        (now.since(*at) < self.age_max).then_some(*position)
    }

    /// Remembers a key. Known ones keep their first position unless that has left the window.
    pub(crate) fn put(
        &mut self,
        channel: &ChannelName,
        key: &Arc<str>,
        position: Position,
        at: Moment,
        now: Moment,
    ) {
        self.forget_old(now);
        if self.get(channel, key, now).is_some() || now.since(at) >= self.age_max {
            return;
        }
        let key = (channel.clone(), Arc::clone(key));
        self.positions.insert(key.clone(), (position, at));
        self.order.push_back((at, key));
        while self.order.len() > self.count_max {
            self.forget_oldest();
        }
    }

    fn forget_old(&mut self, now: Moment) {
        while let Some((at, _)) = self.order.front() {
            if now.since(*at) < self.age_max {
                break;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at, key)) = self.order.pop_front() else { return };
        // The key may have been used again after it had left the window.
        if self.positions.get(&key).is_some_and(|(_, used_at)| *used_at == at) {
            self.positions.remove(&key);
        }
    }

    /// What was published with the oldest key that is still known.
    pub(crate) fn oldest(&mut self, now: Moment) -> Option<Position> {
        self.forget_old(now);
        let known = self
            .order
            .iter()
            .find_map(|(at, key)| self.positions.get(key).filter(|(_, used_at)| used_at == at));
        known.map(|(position, _)| *position)
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}
