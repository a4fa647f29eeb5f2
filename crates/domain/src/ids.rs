//! Names and numbers that identify things. `parse` where input may be wrong, `new` where it cannot be.

use std::fmt;
use std::sync::Arc;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was left after trimming.
    #[error("the name is empty")]
    Empty,
    /// Longer than `max` bytes.
    #[error("the name has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// It contains a control character.
    #[error("the name contains a control character")]
    ControlCharacter,
}

fn check(raw: &str, bytes_max: usize) -> Result<Arc<str>, NameError> {
    if raw.is_empty() {
        return Err(NameError::Empty);
    }
    if raw.len() > bytes_max {
        return Err(NameError::TooLong { bytes: raw.len(), max: bytes_max });
    }
    if raw.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    Ok(Arc::from(raw))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest name, in bytes of UTF-8.
            pub const LEN_BYTES_MAX: usize = $max;

            /// The only way in, so whoever holds one need not check again.
            pub fn parse(raw: &str) -> Result<$name, NameError> {
                check(raw, Self::LEN_BYTES_MAX).map($name)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The name a bot's phones announce. 1 to 128 bytes without control characters.
    BotName, 128
}
text_id! {
    /// What a phone calls itself (its Android id). 1 to 128 bytes without control characters.
    DeviceId, 128
}

impl DeviceId {
    /// Some scripts send this when they cannot read the real id. Such a phone is never approved,
    /// since two of them could not be told apart.
    pub const UNKNOWN: &str = "unknown";

    /// Whether the phone could not tell its id.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.as_str() == Self::UNKNOWN
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number_id! {
    /// The store's number for a (bot name, device id) pair: small, dense, never reused.
    DeviceKey, i64
}
number_id! {
    /// The store's number for a room, that is a (device, KakaoTalk channel id) pair.
    RoomKey, i64
}
number_id! {
    /// A message: rises with time and stays below 2^53, so that JavaScript can hold it.
    MessageId, i64
}
number_id! {
    /// A schedule's number in the store.
    ScheduleId, i64
}
number_id! {
    /// A session of this node.
    SessionId, u64
}
number_id! {
    /// Which attachment of a session this is; an older one may do nothing any more.
    Generation, u64
}

number_id! {
    /// A message of a work queue: rises in the order of the queues, unique among those of one life of
    /// the server and among all that are kept.
    WorkNumber, u64
}

/// Hands out message ids: the wall clock in milliseconds times 4096 plus a count, never going back.
#[derive(Debug)]
pub struct MessageIds(std::sync::atomic::AtomicI64);

impl MessageIds {
    /// Starts above `highest_used`, so that a clock set back cannot repeat an id.
    #[must_use]
    pub fn above(highest_used: MessageId) -> MessageIds {
        MessageIds(std::sync::atomic::AtomicI64::new(highest_used.0))
    }

    /// The next id: above all earlier ones, and near `now` unless the clock went back.
    pub fn next(&self, now: crate::Timestamp) -> MessageId {
        use std::sync::atomic::Ordering::Relaxed;
        // 2020-01-01, so that 41 bits of milliseconds last until 2089.
        const START_MS: i64 = 1_577_836_800_000;
        let floor = (now.0 - START_MS).max(0) << 12;
        let mut last = self.0.load(Relaxed);
        loop {
            let next = floor.max(last + 1);
            match self.0.compare_exchange_weak(last, next, Relaxed, Relaxed) {
                Ok(_) => return MessageId(next),
                Err(seen) => last = seen,
            }
        }
    }
}
