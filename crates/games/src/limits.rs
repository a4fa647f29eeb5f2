//! What is taken from a game server at most. A server is a stranger: it may be modified, broken or somebody
//! else's program on the same port.

/// Names of players that one answer keeps. More are counted where the protocol counts, but not listed:
/// the largest public servers of these games hold some hundreds.
pub const NAMES_MAX: usize = 1_000;

/// Characters of one player's name or id.
pub const NAME_CHARS_MAX: usize = 64;

/// Characters of the name of a server, its map and its version.
pub const TITLE_CHARS_MAX: usize = 256;

/// Bytes of one datagram: the largest that UDP over IPv4 can carry. Some games send their list of players
/// in one datagram far above 1,400 bytes.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Bytes of an answer put together from several datagrams.
pub const ASSEMBLED_BYTES_MAX: usize = 256 * 1024;

/// Parts of an answer put together from several datagrams.
pub const PARTS_MAX: usize = 64;

/// Bytes of the answer to a told command; what comes after is an error, not a cut.
pub const TOLD_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a command. What one protocol takes may be less.
pub const COMMAND_BYTES_MAX: usize = 4_000;

/// Bytes of the body of a HTTP answer or of a WebSocket message.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the JSON of a Minecraft status. Its picture alone may have some tens of thousands.
pub const STATUS_JSON_BYTES_MAX: usize = 64 * 1024;

/// Events of a management connection that wait while a question is being answered.
pub const EVENTS_WAITING_MAX: usize = 256;

const _: () = assert!(COMMAND_BYTES_MAX < TOLD_BYTES_MAX);
const _: () = assert!(DATAGRAM_BYTES_MAX < ASSEMBLED_BYTES_MAX);
