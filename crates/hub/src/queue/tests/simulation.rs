//! Random steps, faults and crashes against a naive account of what was promised. A seed replays.

use std::collections::{BTreeMap, BTreeSet};

use naru_testkit::bus_contract::Fault;
use naru_testkit::memory_work::MemoryWork;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::kept::{Life, open};
use super::*;

const LIMITS: QueueLimits = QueueLimits {
    count_max: 40,
    bytes_max: 10_000,
    total_bytes_max: 100_000,
    deliveries_max: 4,
    work_time_max: Duration::from_secs(60),
    queues_max: 4,
    keys_age_max: Duration::from_secs(600),
    keys_count_max: 100,
    commit_queue_max: 16,
    commit_count_max: 8,
    store_timeout: Duration::from_secs(10),
    note_delay: Duration::from_millis(200),
};

/// What was promised, by the body of the message.
#[derive(Default)]
struct Account {
    /// Accepted and not done: there, whatever happens.
    open: BTreeSet<u64>,
    /// Done or buried in this life: not to be seen before the next.
    done: BTreeSet<u64>,
    /// There or not: refused without a clear end, or done just before a crash.
    unclear: BTreeSet<u64>,
    /// How often each was delivered at least.
    deliveries: BTreeMap<u64, u32>,
}

struct World {
    random: StdRng,
    store: Arc<MemoryWork>,
    life: Life,
    consumers: Vec<Consumer>,
    held: Vec<(usize, Taken)>,
    account: Account,
    next: u64,
}

fn number_of(taken: &Taken) -> u64 {
    body(taken).parse().unwrap()
}

impl World {
    async fn new(seed: u64) -> World {
        let store = Arc::new(MemoryWork::default());
        let life = open(&store, LIMITS).await;
        let mut world = World {
            random: StdRng::seed_from_u64(seed),
            store,
            life,
            consumers: Vec::new(),
            held: Vec::new(),
            account: Account::default(),
            next: 0,
        };
        world.join();
        world
    }

    fn join(&mut self) {
        self.consumers = (0..3).map(|_| consumer(&self.life.queues).0).collect();
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..30 => self.send().await,
            30..55 => self.take(),
            55..75 => self.consume(),
            75..80 => self.refuse(),
            80..87 => self.settle().await,
            87..92 => self.fail(),
            92..95 => self.bury(),
            95..97 => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => self.crash().await,
        }
    }

    async fn send(&mut self) {
        self.next += 1;
        if self.life.send(self.next).await.is_ok() {
            self.account.open.insert(self.next);
        } else {
            self.account.unclear.insert(self.next);
        }
    }

    fn take(&mut self) {
        let who = self.random.random_range(0..self.consumers.len());
        let Some(taken) = self.consumers[who].take() else { return };
        let number = number_of(&taken);
        let is_known = self.account.unclear.remove(&number);
        let is_new = self.account.open.insert(number);
        assert!(is_known || !is_new, "{number} was not to be seen");
        assert!(self.held.iter().all(|(_, other)| number_of(other) != number), "two have {number}");
        let seen = self.account.deliveries.entry(number).or_default();
        assert!(*seen == 0 || taken.is_redelivered, "{number} came again without a mark");
        *seen += 1;
        assert!(taken.delivery <= *seen, "{number} was delivered less often");
        assert!(taken.delivery <= LIMITS.deliveries_max);
        self.held.push((who, taken));
    }

    fn pick(&mut self) -> Option<(usize, Taken)> {
        let count = self.held.len();
        (count > 0).then(|| self.held.swap_remove(self.random.random_range(0..count)))
    }

    fn consume(&mut self) {
        let Some((who, taken)) = self.pick() else { return };
        assert!(self.consumers[who].consumed(taken.number));
        let number = number_of(&taken);
        self.account.open.remove(&number);
        self.account.done.insert(number);
    }

    fn refuse(&mut self) {
        let Some((who, taken)) = self.pick() else { return };
        assert!(self.consumers[who].refused(taken.number));
    }

    async fn settle(&mut self) {
        if self.life.queues.settled(Durability::Disk).await.is_ok() {
            self.account.done.clear();
        }
    }

    fn fail(&mut self) {
        let fault = if self.random.random() { Fault::Refuse } else { Fault::KeepAndRefuse };
        self.store.fail_next(fault);
    }

    fn bury(&mut self) {
        for letter in self.life.queues.sweep() {
            let number = std::str::from_utf8(&letter.publication.data).unwrap().parse().unwrap();
            let is_known = self.account.unclear.remove(&number);
            assert!(self.account.open.remove(&number) || is_known, "{number} was not to die");
            self.account.done.insert(number);
            self.life.queues.buried(&letter);
        }
    }

    async fn crash(&mut self) {
        self.consumers.clear();
        self.held.clear();
        self.life = open(&self.store, LIMITS).await;
        self.account.unclear.append(&mut self.account.done);
        self.join();
    }

    /// All that was promised is still to be had, in order.
    async fn finish(mut self) {
        self.crash().await;
        let left: Vec<Taken> = std::iter::from_fn(|| self.consumers[0].take()).collect();
        let numbers: Vec<u64> = left.iter().map(number_of).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        let dead =
            self.life.queues.sweep().into_iter().map(|letter| {
                std::str::from_utf8(&letter.publication.data).unwrap().parse().unwrap()
            });
        let found: BTreeSet<u64> = numbers.into_iter().chain(dead).collect();
        let lost: Vec<_> = self.account.open.difference(&found).collect();
        assert!(lost.is_empty(), "{lost:?} were lost");
        let strange = found.difference(&self.account.open);
        let strange: Vec<_> =
            strange.filter(|number| !self.account.unclear.contains(number)).collect();
        assert!(strange.is_empty(), "{strange:?} were not to be seen");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_what_was_accepted_is_there_and_what_was_settled_is_not() {
    for seed in 0..200 {
        let mut world = World::new(seed).await;
        for _ in 0..150 {
            world.step().await;
        }
        world.finish().await;
    }
}
