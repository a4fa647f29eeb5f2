//! Limits that several crates share, with their origin. Their relations are checked at compile time.

use std::time::Duration;

/// The largest frame a phone may send, in bytes (old server's limit; 261 kB is the real need).
pub const BRIDGE_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// The longest chat text, in UTF-16 units, as the phone's scripts count it.
pub const CHAT_TEXT_UNITS_MAX: usize = 65_000;
/// How long a new bridge connection may take to say who it is.
pub const BRIDGE_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How far a signature's timestamp may be from our clock (old server's tolerance).
pub const SIGNATURE_AGE_MAX: Duration = Duration::from_secs(300);
/// Connections of all phones together, unless configured.
pub const BRIDGE_CONNECTIONS_MAX: usize = 1_000;

/// Deliveries a session keeps for a reader that is away or slow (guessed: an hour of a busy room).
pub const MAILBOX_DELIVERIES_MAX: usize = 10_000;
/// Bytes a session keeps for such a reader (guessed: a few sets of pictures).
pub const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The largest set of media in one reply, in bytes before base64.
pub const REPLY_MEDIA_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Items in one media reply.
pub const REPLY_MEDIA_ITEMS_MAX: usize = 30;
/// Replies that one message may have.
pub const REPLIES_PER_MESSAGE_MAX: usize = 20;

/// Calls that one message may cost a webhook, the first included, whoever sets it.
pub const HOOK_ATTEMPTS_MAX: u32 = 20;

/// Rows in one page of a list.
pub const PAGE_ROWS_MAX: usize = 1_000;
/// Rows in one page unless asked for.
pub const PAGE_ROWS_DEFAULT: usize = 100;

const _: () = assert!(REPLY_MEDIA_BYTES_MAX < MAILBOX_BYTES_MAX);
const _: () = assert!(CHAT_TEXT_UNITS_MAX * 3 * 4 / 3 < BRIDGE_FRAME_BYTES_MAX);
const _: () = assert!(PAGE_ROWS_DEFAULT <= PAGE_ROWS_MAX);
