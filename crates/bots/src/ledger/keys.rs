//! The newest keyed sends and their results. The store knows them for longer; this knows them before they
//! are kept, so that two calls with one key at the same time send once. Plain data, bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use naru_domain::{DeviceKey, Offset};

/// Results that are remembered (guessed: far more than calls are in flight).
const KEYS_MAX: usize = 10_000;

/// Whose key it is, and the key.
pub(crate) type SendKey = (DeviceKey, Arc<str>);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SentKeys {
    results: HashMap<SendKey, Vec<Offset>>,
    by_age: VecDeque<SendKey>,
}

impl SentKeys {
    pub(crate) fn get(&self, key: &SendKey) -> Option<&Vec<Offset>> {
        self.results.get(key)
    }

    pub(crate) fn insert(&mut self, key: SendKey, offsets: Vec<Offset>) {
        if self.by_age.len() >= KEYS_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.results.remove(&oldest);
        }
        self.by_age.push_back(key.clone());
        self.results.insert(key, offsets);
    }

    /// The store refused what was sent: the key may be used again.
    pub(crate) fn remove(&mut self, key: &SendKey) {
        if self.results.remove(key).is_some() {
            self.by_age.retain(|known| known != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_keys_are_forgotten_first_and_refused_ones_at_once() {
        let key = |n: usize| (DeviceKey(1), Arc::from(n.to_string()));
        let mut keys = SentKeys::default();
        for n in 0..=KEYS_MAX {
            keys.insert(key(n), vec![Offset(7)]);
        }
        assert_eq!(keys.get(&key(0)), None);
        assert_eq!(keys.get(&key(1)), Some(&vec![Offset(7)]));
        keys.remove(&key(1));
        assert_eq!(keys.get(&key(1)), None);
        keys.insert(key(1), vec![Offset(8)]);
        keys.insert(key(KEYS_MAX + 1), vec![Offset(9)]);
        assert_eq!(keys.get(&key(1)), Some(&vec![Offset(8)]), "it is one of the newest now");
        assert_eq!(keys.results.len(), KEYS_MAX);
        assert_eq!(keys.by_age.len(), KEYS_MAX);
    }
}
