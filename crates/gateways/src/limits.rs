//! Who may connect, how often, and how fast: plain data changed by plain functions that take `now`.
//! Knows no socket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

#[cfg(test)]
mod tests {
    use super::*;

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
