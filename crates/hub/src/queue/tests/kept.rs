//! Queues that outlive the process: what is kept when, what a crash leaves, and what happens while the
//! store fails.

use naru_testkit::bus_contract::Fault;
use naru_testkit::memory_work::MemoryWork;
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio_util::sync::CancellationToken;

use super::*;

/// Queues over a store that is the test's. Dropped, they are dead at once.
pub(super) struct Life {
    pub(super) queues: Queues,
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
}

pub(super) async fn open(store: &Arc<MemoryWork>, limits: QueueLimits) -> Life {
    open_at(store, limits, Timestamp(0)).await
}

async fn open_at(store: &Arc<MemoryWork>, limits: QueueLimits, now: Timestamp) -> Life {
    let queues = Queues::open(limits, Arc::clone(store) as _, now).await.unwrap();
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let (running, ending) = (queues.clone(), stop.clone());
    tasks.spawn(async move { running.run(ending).await });
    Life { queues, stop, tasks }
}

async fn fresh() -> (Arc<MemoryWork>, Life) {
    let store = Arc::new(MemoryWork::default());
    let life = open(&store, QueueLimits::default()).await;
    (store, life)
}

impl Life {
    pub(super) async fn send(&self, body: u64) -> Result<(), SendError> {
        self.queues.send(&q(), message(body), Durability::Disk).await
    }

    async fn send_keyed(&self, body: u64, key: &str) -> Result<(), SendError> {
        let keyed = Publication { key: Some(key.into()), ..message(body) };
        self.queues.send(&q(), keyed, Durability::Disk).await
    }

    /// A send that goes on while the test does other things. It has been asked for when this returns.
    async fn sending(&self, body: u64) -> JoinHandle<Result<(), SendError>> {
        let queues = self.queues.clone();
        #[expect(clippy::disallowed_methods, reason = "the handle is awaited by the test")]
        let sending =
            tokio::spawn(async move { queues.send(&q(), message(body), Durability::Disk).await });
        yield_now().await;
        sending
    }

    /// The end that a signal asks for.
    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn all_bodies(consumer: &Consumer) -> Vec<String> {
    std::iter::from_fn(|| consumer.take()).map(|taken| body(&taken)).collect()
}

fn not_kept(sent: &Result<(), SendError>) -> bool {
    matches!(sent, Err(SendError::NotKept(_)))
}

#[tokio::test(start_paused = true)]
async fn a_message_is_in_the_store_before_anybody_gets_it_or_its_sender_hears_of_it() {
    let (store, life) = fresh().await;
    let (one, bell) = consumer(&life.queues);
    assert!(one.take().is_none());
    store.hold();
    let sending = life.sending(1).await;
    store.until_waiting(1).await;
    assert!(one.take().is_none() && bell.rings() == 0 && !sending.is_finished());
    assert_eq!(life.queues.depth(&q()), 1, "its room is taken");
    store.release();
    sending.await.unwrap().unwrap();
    assert_eq!((store.kept(), bell.rings()), (vec![(1, 0)], 1));
    assert_eq!(body(&one.take().unwrap()), "1");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_share_a_commit_and_keep_their_order() {
    let (store, life) = fresh().await;
    store.hold();
    let mut sending = Vec::new();
    for each in 0..20 {
        sending.push(life.sending(each).await);
    }
    store.until_waiting(1).await;
    store.release();
    for each in sending {
        each.await.unwrap().unwrap();
    }
    let sizes: Vec<_> = store.batches().iter().map(|(b, kept)| (b.add.len(), *kept)).collect();
    assert_eq!(sizes, [(1, Durability::Disk), (19, Durability::Disk)]);
    let expected: Vec<String> = (0..20).map(|each| each.to_string()).collect();
    assert_eq!(all_bodies(&consumer(&life.queues).0), expected);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_everything_is_there_that_was_not_done_for_sure() {
    let (store, life) = fresh().await;
    for each in 1..=6 {
        life.send(each).await.unwrap();
    }
    let (one, _) = consumer(&life.queues);
    let taken: Vec<Taken> = std::iter::from_fn(|| one.take()).take(4).collect();
    assert!(one.consumed(taken[0].number) && one.consumed(taken[2].number));
    life.queues.settled(Durability::Disk).await.unwrap();
    assert_eq!(store.kept(), [(2, 1), (4, 1), (5, 0), (6, 0)]);
    assert_eq!(store.batches().last().unwrap().1, Durability::Disk);
    // Done as well, but the server dies before the store hears of it.
    assert!(one.consumed(taken[1].number));
    drop(life);

    let life = open(&store, QueueLimits::default()).await;
    let (other, _) = consumer(&life.queues);
    let again: Vec<Taken> = std::iter::from_fn(|| other.take()).collect();
    let found: Vec<_> = again.iter().map(|each| (body(each), each.delivery)).collect();
    let expected = [("2", 2), ("4", 2), ("5", 1), ("6", 1)];
    assert_eq!(found, expected.map(|(body, delivery)| (body.to_owned(), delivery)));
    assert!(again.iter().all(|each| each.is_redelivered), "somebody may have had any of them");
    assert_eq!((again[0].number, again[0].life), (taken[1].number, taken[1].life));
    life.send(7).await.unwrap();
    let new = other.take().unwrap();
    assert!(!new.is_redelivered && new.number > again[3].number && new.life != again[3].life);
    // Given back by who had them before, they keep their places and are marked still.
    drop(other);
    let (third, _) = consumer(&life.queues);
    assert_eq!(all_bodies(&third), ["2", "4", "5", "6", "7"]);
}

#[tokio::test(start_paused = true)]
async fn ends_and_counts_are_kept_soon_without_anybody_asking_and_at_the_latest_at_the_end() {
    let (store, life) = fresh().await;
    for each in 1..=4 {
        life.send(each).await.unwrap();
    }
    let (one, _) = consumer(&life.queues);
    let taken: Vec<Taken> = std::iter::from_fn(|| one.take()).take(2).collect();
    one.consumed(taken[0].number);
    store.until_kept(&[(2, 1), (3, 0), (4, 0)]).await;
    let (batch, durability) = store.batches().last().unwrap().clone();
    assert_eq!(durability, Durability::Os, "nobody waits for the disk");
    assert_eq!((batch.delivered.len(), batch.done.len()), (1, 1));
    one.consumed(taken[1].number);
    drop(one.take());
    let queues = life.queues.clone();
    life.end().await;
    assert_eq!(store.kept(), [(3, 1), (4, 0)]);
    assert!(not_kept(&queues.send(&q(), message(9), Durability::Os).await), "it has ended");
    assert!(queues.settled(Durability::Os).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn while_the_store_fails_nothing_is_accepted_but_what_lives_in_memory() {
    let (store, life) = fresh().await;
    life.send(1).await.unwrap();
    let (one, _) = consumer(&life.queues);
    let taken = one.take().unwrap();
    store.set_broken(true);
    assert!(not_kept(&life.send(2).await));
    assert!(one.consumed(taken.number));
    assert!(life.queues.settled(Durability::Disk).await.is_err());
    send(&life.queues, &r(), message(3)).await.unwrap();
    assert_eq!((life.queues.depth(&q()), life.queues.depth(&r())), (0, 1));
    assert_eq!(store.kept(), [(1, 0)]);
    store.set_broken(false);
    // It is tried again by itself.
    store.until_kept(&[]).await;
    life.send(4).await.unwrap();
    assert_eq!(body(&one.take().unwrap()), "4");
}

#[tokio::test(start_paused = true)]
async fn what_the_store_kept_without_saying_so_is_taken_back() {
    let (store, life) = fresh().await;
    life.send(1).await.unwrap();
    for fault in [Fault::KeepAndRefuse, Fault::Refuse, Fault::KeepAndRefuse] {
        store.fail_next(fault);
        assert!(not_kept(&life.send_keyed(2, "k").await));
    }
    assert_eq!((store.kept(), store.keys()), (vec![(1, 0), (4, 0)], vec![4]));
    life.send_keyed(2, "k").await.unwrap();
    life.send_keyed(2, "k").await.unwrap();
    assert_eq!(store.kept(), [(1, 0), (5, 0)]);
    assert_eq!(store.keys(), [5]);
    drop(life);
    let life = open(&store, QueueLimits::default()).await;
    assert_eq!(all_bodies(&consumer(&life.queues).0), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_given_up() {
    let (store, life) = fresh().await;
    store.hold();
    let began = Instant::now();
    assert!(not_kept(&life.send(1).await));
    assert_eq!(began.elapsed(), QueueLimits::default().store_timeout);
    store.release();
    life.send(2).await.unwrap();
    assert_eq!(store.batches().last().unwrap().0.withdraw, Some(1..=1));
    assert_eq!(all_bodies(&consumer(&life.queues).0), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_counts_once_across_lives_until_it_is_forgotten() {
    let (store, life) = fresh().await;
    life.send_keyed(1, "a").await.unwrap();
    let (one, _) = consumer(&life.queues);
    assert!(one.consumed(one.take().unwrap().number));
    life.queues.settled(Durability::Disk).await.unwrap();
    assert_eq!((store.kept(), store.keys()), (vec![], vec![1]));
    drop(life);

    let limits = QueueLimits::default();
    let life = open(&store, limits).await;
    life.send_keyed(2, "a").await.unwrap();
    assert!(store.kept().is_empty(), "it was there before");
    tokio::time::advance(limits.keys_age_max).await;
    life.send_keyed(3, "a").await.unwrap();
    assert_eq!(store.kept(), [(2, 0)], "no number is used twice");
    tokio::time::advance(limits.keys_age_max).await;
    life.send(4).await.unwrap();
    assert_eq!(store.keys(), [], "what is forgotten here is forgotten there");
    drop(life);

    let later = Timestamp(0).plus(limits.keys_age_max);
    life_with_old_keys(&store, limits, later).await;
}

/// A key that is too old when the server starts.
async fn life_with_old_keys(store: &Arc<MemoryWork>, limits: QueueLimits, later: Timestamp) {
    let life = open(store, limits).await;
    life.send_keyed(5, "b").await.unwrap();
    drop(life);
    let life = open_at(store, limits, later).await;
    let before = store.kept().len();
    life.send_keyed(6, "b").await.unwrap();
    assert_eq!(store.kept().len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn keys_of_messages_that_wait_together_count_once() {
    let (store, life) = fresh().await;
    store.hold();
    let first = life.sending(0).await;
    store.until_waiting(1).await;
    let queues = &life.queues;
    let keyed = |body| Publication { key: Some("k".into()), ..message(body) };
    let (q, r) = (q(), r());
    let both = async {
        tokio::join!(
            queues.send(&q, keyed(1), Durability::Os),
            queues.send(&q, keyed(2), Durability::Os),
            queues.send(&r, keyed(3), Durability::Os),
        )
    };
    let release = async {
        yield_now().await;
        store.release();
    };
    let ((one, same, other), ()) = tokio::join!(both, release);
    assert_eq!((one, same, other), (Ok(()), Ok(()), Ok(())));
    first.await.unwrap().unwrap();
    assert_eq!((queues.depth(&q), queues.depth(&r)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_the_server_each_time_is_given_up_and_stays_until_it_is_buried() {
    let store = Arc::new(MemoryWork::default());
    let limits = QueueLimits { deliveries_max: 3, ..QueueLimits::default() };
    let life = open(&store, limits).await;
    life.send(1).await.unwrap();
    drop(life);
    for delivery in 1..=3 {
        let life = open(&store, limits).await;
        let (one, _) = consumer(&life.queues);
        assert_eq!(one.take().unwrap().delivery, delivery);
        store.until_kept(&[(1, delivery)]).await;
        drop(life);
    }
    for _ in 0..2 {
        let life = open(&store, limits).await;
        assert!(consumer(&life.queues).0.take().is_none());
        let dead = life.queues.sweep();
        assert_eq!((dead.len(), &dead[0].publication.data[..]), (1, &b"1"[..]));
        assert_eq!(store.kept(), [(1, 3)]);
    }
    let life = open(&store, limits).await;
    let dead = life.queues.sweep();
    life.queues.buried(&dead[0]);
    assert_eq!(life.queues.sweep(), []);
    life.end().await;
    assert_eq!(store.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_into_the_store_takes_room() {
    let store = Arc::new(MemoryWork::default());
    let limits = QueueLimits { count_max: 2, ..QueueLimits::default() };
    let life = open(&store, limits).await;
    store.hold();
    let sending = [life.sending(1).await, life.sending(2).await, life.sending(3).await];
    store.until_waiting(1).await;
    // The first is counted; the others wait for their turn.
    send(&life.queues, &q(), message(4)).await.unwrap();
    store.release();
    let [first, second, third] = sending;
    first.await.unwrap().unwrap();
    for refused in [second, third] {
        assert_eq!(refused.await.unwrap(), Err(QueueFull.into()));
    }
    // What is kept is loaded even if there was less room now.
    let limits = QueueLimits { count_max: 0, ..limits };
    drop(life);
    let life = open(&store, limits).await;
    assert_eq!(life.queues.depth(&q()), 1);
    assert_eq!(life.send(5).await, Err(QueueFull.into()));
}

#[tokio::test(start_paused = true)]
async fn a_commit_is_bounded_in_bytes_and_what_is_behind_a_failed_one_hears_of_it() {
    let (store, life) = fresh().await;
    let large = || Publication { data: vec![0; 10 << 20].into(), ..message(0) };
    let (q, queues) = (q(), &life.queues);
    let send = || queues.send(&q, large(), Durability::Os);
    for is_failing in [false, true] {
        store.hold();
        let first = life.sending(1).await;
        store.until_waiting(1).await;
        let three = async { tokio::join!(send(), send(), send()) };
        let release = async {
            yield_now().await;
            if is_failing {
                // The one that waits already, and the one behind it.
                store.fail_next(Fault::KeepAndRefuse);
                store.fail_next(Fault::Refuse);
            }
            store.release();
        };
        let ((one, two, three), ()) = tokio::join!(three, release);
        for sent in [first.await.unwrap(), one, two, three] {
            assert_eq!(not_kept(&sent), is_failing, "{sent:?}");
        }
    }
    let sizes: Vec<usize> = store.batches().iter().map(|(batch, _)| batch.add.len()).collect();
    assert_eq!(sizes, [1, 2, 1, 1, 2]);
    assert_eq!(life.queues.depth(&q), 4);
}

#[tokio::test]
async fn without_a_store_nothing_durable_is_accepted() {
    let queues = Queues::new(QueueLimits::default());
    assert!(not_kept(&queues.send(&q(), message(1), Durability::Os).await));
    assert!(queues.settled(Durability::Os).await.is_err());
    assert_eq!(queues.depth(&q()), 0);
}
