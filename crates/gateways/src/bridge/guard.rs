//! Which signed frames are believed: the key pairs per bot, the age of a signature, and signatures that
//! were seen before. Plain data and functions; no socket, no clock.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use naru_domain::{Timestamp, limits};
use naru_wire::bridge::{Auth, SigningKey};

/// The key pairs that phones may sign with. Several per bot, so that keys can be rotated.
#[derive(Default)]
pub struct BridgeKeys {
    /// For bots without keys of their own.
    pub default: Vec<SigningKey>,
    /// By bot name.
    pub bots: HashMap<String, Vec<SigningKey>>,
}

impl BridgeKeys {
    fn of(&self, bot: &str) -> &[SigningKey] {
        self.bots.get(bot).unwrap_or(&self.default)
    }
}

/// Why a frame was not believed. The frame is ignored; the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distrust {
    /// No `auth` object, or no signature in it.
    Missing,
    /// The signature does not fit the key pair.
    Bad,
    /// Signed too long ago, or in the future.
    Stale,
    /// A signature from another address than at first, or a copy of a frame without a log id.
    Replayed,
    /// Signed by another bot or device than the connection's.
    Foreign,
}

impl Distrust {
    /// All reasons, in the order of the counters.
    pub const ALL: [Distrust; 5] =
        [Distrust::Missing, Distrust::Bad, Distrust::Stale, Distrust::Replayed, Distrust::Foreign];

    /// The label in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Distrust::Missing => "missing",
            Distrust::Bad => "bad",
            Distrust::Stale => "stale",
            Distrust::Replayed => "replayed",
            Distrust::Foreign => "foreign",
        }
    }
}

/// Checks the signature and its age. Replays are another question, see [`ReplayGuard`].
pub(crate) fn check_signature(
    keys: &BridgeKeys,
    auth: &Auth<'_>,
    now: Timestamp,
) -> Result<(), Distrust> {
    if auth.signature.is_empty() {
        return Err(Distrust::Missing);
    }
    // The age first: it costs nothing, and an old capture is the cheapest attack.
    let signed_at = auth.timestamp().ok_or(Distrust::Bad)?;
    let distance = now.0.abs_diff(signed_at.0);
    if u128::from(distance) > limits::SIGNATURE_AGE_MAX.as_millis() {
        return Err(Distrust::Stale);
    }
    if keys.of(&auth.bot_name).iter().any(|key| key.verify(auth)) {
        Ok(())
    } else {
        Err(Distrust::Bad)
    }
}

/// Remembers signatures, from where they came, and what they signed for.
///
/// A signature covers neither the text nor a number: a phone that signs two frames in the same
/// millisecond signs them alike, and so may two phones of one bot. So a signature alone proves no replay.
/// What is refused is a signature that comes from another address than at first, which is how a captured
/// one would be used, and a copy of a frame without a log id. Copies of frames with one are left to the
/// duplicate filter behind the desk. No honest message is lost by either.
pub(crate) struct ReplayGuard {
    young: Seen,
    old: Seen,
    rotated_at: Instant,
    entries_max: usize,
}

/// Signature, or signature mixed with content, to a digest of the address it came from. Small on purpose:
/// it is touched with every message.
type Seen = HashMap<u64, u32, BuildHasherDefault<PassThrough>>;

/// The keys are bits of an HMAC: as random as a hash could make them.
#[derive(Default)]
struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Signatures older than this are refused as stale, so they need not be remembered. A signature may be
/// up to one age in the future, hence twice.
const REMEMBER: Duration = Duration::from_secs(2 * limits::SIGNATURE_AGE_MAX.as_secs());

impl ReplayGuard {
    /// Remembers at least the last `entries_max` signatures, or ten minutes of them if those are fewer.
    pub(crate) fn new(entries_max: usize, now: Instant) -> ReplayGuard {
        ReplayGuard { young: Seen::default(), old: Seen::default(), rotated_at: now, entries_max }
    }

    /// Whether a frame from `peer` may use the signature, which was verified before. `content` is the text
    /// of a frame that has no log id.
    pub(crate) fn admit(
        &mut self,
        signature: &[u8; 32],
        peer: IpAddr,
        content: Option<&str>,
        now: Instant,
    ) -> Result<(), Distrust> {
        if self.young.len() >= self.entries_max || now.duration_since(self.rotated_at) > REMEMBER {
            self.old = std::mem::take(&mut self.young);
            self.rotated_at = now;
        }
        let [a, b, c, d, e, f, g, h, ..] = *signature;
        let key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let peer = digest(peer);
        match self.young.get(&key).or_else(|| self.old.get(&key)).copied() {
            None => {
                self.young.insert(key, peer);
            }
            Some(first) if first != peer => return Err(Distrust::Replayed),
            Some(_) => {}
        }
        let Some(content) = content else { return Ok(()) };
        let frame = key ^ mix(content.as_bytes());
        if self.old.contains_key(&frame) || self.young.insert(frame, peer).is_some() {
            return Err(Distrust::Replayed);
        }
        Ok(())
    }
}

/// 32 bits that stand for an address.
fn digest(peer: IpAddr) -> u32 {
    let mixed = match peer {
        IpAddr::V4(v4) => mix(&v4.octets()),
        IpAddr::V6(v6) => mix(&v6.octets()),
    };
    u32::try_from(mixed >> 32).unwrap_or(u32::MAX)
}

/// Spreads bytes over 64 bits (FNV-1a). Whoever finds two texts that collide gets his own second message
/// refused.
fn mix(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(n: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        bytes
    }

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    #[test]
    fn a_signature_may_serve_several_frames_but_each_frame_only_once() {
        let now = Instant::now();
        let mut guard = ReplayGuard::new(100, now);
        assert_eq!(guard.admit(&signature(1), HOME, Some("log 1"), now), Ok(()));
        assert_eq!(guard.admit(&signature(1), HOME, Some("log 2"), now), Ok(()));
        for copy in ["log 1", "log 2"] {
            assert_eq!(guard.admit(&signature(1), HOME, Some(copy), now), Err(Distrust::Replayed));
        }
    }

    #[test]
    fn a_signature_from_another_address_is_a_captured_one() {
        let now = Instant::now();
        let mut guard = ReplayGuard::new(100, now);
        assert_eq!(guard.admit(&signature(1), HOME, Some("log 1"), now), Ok(()));
        assert_eq!(guard.admit(&signature(1), AWAY, Some("log 2"), now), Err(Distrust::Replayed));
        assert_eq!(guard.admit(&signature(2), AWAY, Some("log 3"), now), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_frames_are_remembered() {
        let now = Instant::now();
        let mut guard = ReplayGuard::new(100, now);
        for n in 0..10_000 {
            assert_eq!(guard.admit(&signature(n), HOME, Some(""), now), Ok(()));
        }
        assert!(guard.young.len() + guard.old.len() <= 202);
        for n in 9_951..10_000 {
            assert_eq!(guard.admit(&signature(n), HOME, Some(""), now), Err(Distrust::Replayed));
        }
    }

    #[test]
    fn signatures_that_would_be_stale_anyway_are_forgotten() {
        let now = Instant::now();
        let mut guard = ReplayGuard::new(100, now);
        guard.admit(&signature(1), HOME, Some(""), now).unwrap();
        let later = now + REMEMBER + Duration::from_secs(1);
        guard.admit(&signature(2), HOME, Some(""), later).unwrap();
        let much_later = later + REMEMBER + Duration::from_secs(1);
        guard.admit(&signature(3), HOME, Some(""), much_later).unwrap();
        assert_eq!(guard.admit(&signature(1), AWAY, None, much_later), Ok(()));
    }
}
