//! Who may connect, how often, and how fast: plain data changed by plain functions that take `now`.
//! Knows no socket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use naru_domain::metrics::{Counter, MetricSink, MetricSource};
use parking_lot::Mutex;

/// What a listener allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Connections together.
    pub connections_max: usize,
    /// Connections from one address (IPv6: one /64).
    pub per_address_max: usize,
    /// Connection attempts from one address in a minute.
    pub attempts_per_minute: usize,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The listener is full.
    Total,
    /// The address has as many as it may have.
    PerAddress,
    /// The address tries too often.
    Attempts,
}

#[derive(Debug, Default)]
struct Address {
    open: usize,
    attempts: usize,
    window_start: Option<Instant>,
}

#[derive(Debug, Default)]
struct Doorbook {
    open: usize,
    addresses: HashMap<IpAddr, Address>,
    swept_at: Option<Instant>,
}

/// Counts connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    book: Arc<Mutex<Doorbook>>,
}

/// A place for one connection; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    address: IpAddr,
    book: Arc<Mutex<Doorbook>>,
}

const ATTEMPT_WINDOW: Duration = Duration::from_secs(60);

impl Admission {
    /// Nobody is connected yet.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Admission {
        Admission { limits, book: Arc::default() }
    }

    /// Asks for a place. Attempts count even when they are refused, or a refused peer could go on
    /// trying for free.
    pub fn admit(&self, peer: IpAddr, now: Instant) -> Result<Permit, Refused> {
        let key = address_key(peer);
        let mut book = self.book.lock();
        book.sweep(now);
        let total = book.open;
        let address = book.addresses.entry(key).or_default();
        match address.window_start {
            Some(start) if now.duration_since(start) < ATTEMPT_WINDOW => {}
            _ => {
                address.window_start = Some(now);
                address.attempts = 0;
            }
        }
        address.attempts += 1;
        if address.attempts > self.limits.attempts_per_minute {
            return Err(Refused::Attempts);
        }
        if total >= self.limits.connections_max {
            return Err(Refused::Total);
        }
        if address.open >= self.limits.per_address_max {
            return Err(Refused::PerAddress);
        }
        address.open += 1;
        book.open += 1;
        Ok(Permit { address: key, book: Arc::clone(&self.book) })
    }

    /// How many are connected.
    #[must_use]
    pub fn open(&self) -> usize {
        self.book.lock().open
    }
}

impl Doorbook {
    /// Forgets addresses without connections whose window is over, once a window: so the map is bounded
    /// by the attempts that the kernel lets through in one.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now.duration_since(at) < ATTEMPT_WINDOW) {
            return;
        }
        self.swept_at = Some(now);
        self.addresses.retain(|_, address| {
            address.open > 0
                || address
                    .window_start
                    .is_some_and(|start| now.duration_since(start) < ATTEMPT_WINDOW)
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut book = self.book.lock();
        book.open -= 1;
        if let Some(address) = book.addresses.get_mut(&self.address) {
            address.open -= 1;
        }
    }
}

/// One customer is one IPv4 address or one IPv6 /64; mapped addresses count as IPv4.
fn address_key(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

/// A token bucket for one connection: `burst` at once, then `per_second`. 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct FrameRate {
    /// Frames' worth of time already used up, as the moment when the bucket will be full again.
    full_at: Instant,
}

impl FrameRate {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Instant) -> FrameRate {
        FrameRate { full_at: now }
    }

    /// Takes `frames` tokens. When more were taken than are there, says how long to stop reading: the
    /// frames themselves are kept, because a phone never sends them again.
    pub fn take(
        &mut self,
        frames: u32,
        per_second: u32,
        burst: u32,
        now: Instant,
    ) -> Option<Duration> {
        if per_second == 0 {
            return None;
        }
        let cost = Duration::from_secs(1) / per_second * frames;
        self.full_at = self.full_at.max(now) + cost;
        let depth = Duration::from_secs(1) / per_second * burst;
        let behind = self.full_at.duration_since(now);
        (behind > depth).then(|| behind - depth)
    }
}

/// The buckets of users, which all connections of a user share, whatever protocol they speak. A bucket lives
/// as long as its connections, so there are never more of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct UserRates {
    inner: Arc<UserBook>,
}

#[derive(Debug, Default)]
struct UserBook {
    per_second: u32,
    burst: u32,
    users: Mutex<HashMap<Arc<str>, UserEntry>>,
    delayed_reads: Counter,
    ended: Counter,
}

#[derive(Debug)]
struct UserEntry {
    connections: usize,
    bucket: Arc<Mutex<FrameRate>>,
}

/// One connection's hold on the bucket of its user.
#[derive(Debug)]
pub struct UserShare {
    user: Arc<str>,
    bucket: Arc<Mutex<FrameRate>>,
    rates: UserRates,
}

/// How a connection goes on after what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It is read on.
    Go,
    /// It is read on after a pause.
    Pause(Duration),
    /// It ends: its user has said more than pauses can make good.
    End,
}

/// A user who is so far ahead of its rate is cut off: pauses that long would look like a dead link.
const USER_PAUSE_MAX: Duration = Duration::from_secs(5);

impl UserRates {
    /// So many commands and frames a second from all connections of a user together, and so many at once.
    /// 0 a second is no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> UserRates {
        UserRates { inner: Arc::new(UserBook { per_second, burst, ..UserBook::default() }) }
    }

    /// Takes a connection of `user` in. `None` if it is not limited: anonymous ones have nothing in common
    /// but an address.
    #[must_use]
    pub fn join(&self, user: &Arc<str>, now: Instant) -> Option<UserShare> {
        if self.inner.per_second == 0 || user.is_empty() {
            return None;
        }
        let mut users = self.inner.users.lock();
        let entry = users.entry(Arc::clone(user)).or_insert_with(|| UserEntry {
            connections: 0,
            bucket: Arc::new(Mutex::new(FrameRate::new(now))),
        });
        entry.connections += 1;
        let bucket = Arc::clone(&entry.bucket);
        Some(UserShare { user: Arc::clone(user), bucket, rates: self.clone() })
    }
}

impl UserShare {
    /// Takes tokens for what one connection said.
    fn take(&self, frames: u32, now: Instant) -> Pace {
        let book = &self.rates.inner;
        match self.bucket.lock().take(frames, book.per_second, book.burst, now) {
            None => Pace::Go,
            Some(pause) if pause > USER_PAUSE_MAX => {
                book.ended.increment();
                Pace::End
            }
            Some(pause) => {
                book.delayed_reads.increment();
                Pace::Pause(pause)
            }
        }
    }

    /// How a connection goes on, given what its own bucket says and what it takes from its user's.
    #[must_use]
    pub fn pace(
        share: Option<&UserShare>,
        own: Option<Duration>,
        frames: u32,
        now: Instant,
    ) -> Pace {
        let of_user = share.map_or(Pace::Go, |share| share.take(frames, now));
        match (own, of_user) {
            (_, Pace::End) => Pace::End,
            (None, pace) => pace,
            (Some(own), Pace::Go) => Pace::Pause(own),
            (Some(own), Pace::Pause(pause)) => Pace::Pause(own.max(pause)),
        }
    }
}

impl Drop for UserShare {
    fn drop(&mut self) {
        let mut users = self.rates.inner.users.lock();
        if let Some(entry) = users.get_mut(&self.user) {
            entry.connections -= 1;
            if entry.connections == 0 {
                users.remove(&self.user);
            }
        }
    }
}

impl MetricSource for UserRates {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let book = &self.inner;
        let help = "Reads paused by the rate of a user, over all of its connections";
        sink.counter("user_delayed_reads", help, &[], book.delayed_reads.get());
        let help = "Connections ended because their user was too far ahead of its rate";
        sink.counter("user_rate_ended", help, &[], book.ended.get());
        let users = i64::try_from(book.users.lock().len()).unwrap_or(i64::MAX);
        sink.gauge("user_rates", "Users whose rate is watched", &[], users);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_user_share_a_bucket_that_goes_with_the_last_of_them() {
        let (rates, now) = (UserRates::new(10, 10), Instant::now());
        let bo: Arc<str> = Arc::from("bo");
        let (phone, tablet) = (rates.join(&bo, now).unwrap(), rates.join(&bo, now).unwrap());
        let al = rates.join(&Arc::from("al"), now).unwrap();
        assert_eq!(phone.take(10, now), Pace::Go);
        assert_eq!(tablet.take(1, now), Pace::Pause(Duration::from_millis(100)));
        assert_eq!(al.take(10, now), Pace::Go, "somebody else is not concerned");
        assert_eq!(phone.take(100, now), Pace::End);
        drop((phone, al));
        assert_eq!(rates.inner.users.lock().len(), 1);
        drop(tablet);
        assert_eq!(rates.inner.users.lock().len(), 0);
        assert!(rates.join(&Arc::from(""), now).is_none());
        assert!(UserRates::default().join(&bo, now).is_none());
    }

    #[test]
    fn the_longer_pause_counts() {
        let (rates, now) = (UserRates::new(10, 10), Instant::now());
        let share = rates.join(&Arc::from("bo"), now);
        let pace = |own, frames| UserShare::pace(share.as_ref(), own, frames, now);
        let (short, long) = (Duration::from_millis(10), Duration::from_secs(9));
        assert_eq!(pace(None, 5), Pace::Go);
        assert_eq!(pace(Some(short), 5), Pace::Pause(short));
        assert_eq!(pace(Some(short), 2), Pace::Pause(Duration::from_millis(200)));
        assert_eq!(pace(Some(long), 1), Pace::Pause(long));
        assert_eq!(UserShare::pace(None, None, 1_000, now), Pace::Go);
    }

    fn admission(connections_max: usize, per_address_max: usize, attempts: usize) -> Admission {
        Admission::new(AdmissionLimits {
            connections_max,
            per_address_max,
            attempts_per_minute: attempts,
        })
    }

    fn ip(raw: &str) -> IpAddr {
        raw.parse().unwrap()
    }

    #[test]
    fn a_place_is_given_back_when_its_permit_is_dropped() {
        let door = admission(1, 1, 100);
        let now = Instant::now();
        let permit = door.admit(ip("192.0.2.1"), now).unwrap();
        assert_eq!(door.admit(ip("192.0.2.2"), now).unwrap_err(), Refused::Total);
        drop(permit);
        assert!(door.admit(ip("192.0.2.2"), now).is_ok());
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let door = admission(10, 2, 100);
        let now = Instant::now();
        let _a = door.admit(ip("192.0.2.1"), now).unwrap();
        let _b = door.admit(ip("::ffff:192.0.2.1"), now).unwrap();
        assert_eq!(door.admit(ip("192.0.2.1"), now).unwrap_err(), Refused::PerAddress);
        assert!(door.admit(ip("192.0.2.2"), now).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_prefix_count_together() {
        let door = admission(10, 1, 100);
        let now = Instant::now();
        let _a = door.admit(ip("2001:db8:1:2::1"), now).unwrap();
        assert_eq!(door.admit(ip("2001:db8:1:2::ffff"), now).unwrap_err(), Refused::PerAddress);
        assert!(door.admit(ip("2001:db8:1:3::1"), now).is_ok());
    }

    #[test]
    fn attempts_are_counted_a_minute_and_forgotten_after_it() {
        let door = admission(10, 10, 2);
        let now = Instant::now();
        drop(door.admit(ip("192.0.2.1"), now).unwrap());
        drop(door.admit(ip("192.0.2.1"), now).unwrap());
        assert_eq!(door.admit(ip("192.0.2.1"), now).unwrap_err(), Refused::Attempts);
        assert!(door.admit(ip("192.0.2.1"), now + ATTEMPT_WINDOW).is_ok());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let door = admission(1000, 10, 10);
        let now = Instant::now();
        for n in 0..=255_u8 {
            drop(door.admit(IpAddr::from([192, 0, 2, n]), now).unwrap());
        }
        drop(door.admit(ip("198.51.100.1"), now + ATTEMPT_WINDOW).unwrap());
        assert_eq!(door.book.lock().addresses.len(), 1);
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let now = Instant::now();
        let mut rate = FrameRate::new(now);
        for _ in 0..10 {
            assert_eq!(rate.take(1, 10, 10, now), None);
        }
        let pause = rate.take(1, 10, 10, now).unwrap();
        assert_eq!(pause, Duration::from_millis(100));
        assert_eq!(rate.take(1, 10, 10, now + Duration::from_secs(2)), None);
    }
}
