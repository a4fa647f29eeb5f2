//! The numbers that name refusals and ends, with their texts, and what clients make of them.

use std::borrow::Cow;

use super::encode::is_json;

/// Errors in replies. Applications use 400 to 1999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 100: our fault.
    Internal,
    /// 101: nobody may do this without saying who they are.
    Unauthorized,
    /// 102: the namespace does not exist.
    UnknownChannel,
    /// 103: not allowed.
    PermissionDenied,
    /// 104: no such method.
    MethodNotFound,
    /// 105: the subscription stands already.
    AlreadySubscribed,
    /// 106: too many of something.
    LimitExceeded,
    /// 107: the request means nothing.
    BadRequest,
    /// 108: the channel does not have this.
    NotAvailable,
    /// 109: the token is too old; a new one will do.
    TokenExpired,
    /// 110: the credentials are too old.
    Expired,
    /// 111: too many requests.
    TooManyRequests,
    /// 112: the position is out of reach.
    UnrecoverablePosition,
    /// 113: two paginations at once.
    ConcurrentPagination,
}

impl ErrorCode {
    /// All of them, in order.
    pub const ALL: [ErrorCode; 14] = [
        ErrorCode::Internal,
        ErrorCode::Unauthorized,
        ErrorCode::UnknownChannel,
        ErrorCode::PermissionDenied,
        ErrorCode::MethodNotFound,
        ErrorCode::AlreadySubscribed,
        ErrorCode::LimitExceeded,
        ErrorCode::BadRequest,
        ErrorCode::NotAvailable,
        ErrorCode::TokenExpired,
        ErrorCode::Expired,
        ErrorCode::TooManyRequests,
        ErrorCode::UnrecoverablePosition,
        ErrorCode::ConcurrentPagination,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        self.row().0
    }

    /// The text on the wire.
    #[must_use]
    pub fn message(self) -> &'static str {
        self.row().1
    }

    /// Whether SDKs try again by themselves. Besides these they do so for 109, with a new token.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(
            self,
            ErrorCode::Internal | ErrorCode::TooManyRequests | ErrorCode::ConcurrentPagination
        )
    }

    fn row(self) -> (u32, &'static str) {
        match self {
            ErrorCode::Internal => (100, "internal server error"),
            ErrorCode::Unauthorized => (101, "unauthorized"),
            ErrorCode::UnknownChannel => (102, "unknown channel"),
            ErrorCode::PermissionDenied => (103, "permission denied"),
            ErrorCode::MethodNotFound => (104, "method not found"),
            ErrorCode::AlreadySubscribed => (105, "already subscribed"),
            ErrorCode::LimitExceeded => (106, "limit exceeded"),
            ErrorCode::BadRequest => (107, "bad request"),
            ErrorCode::NotAvailable => (108, "not available"),
            ErrorCode::TokenExpired => (109, "token expired"),
            ErrorCode::Expired => (110, "expired"),
            ErrorCode::TooManyRequests => (111, "too many requests"),
            ErrorCode::UnrecoverablePosition => (112, "unrecoverable position"),
            ErrorCode::ConcurrentPagination => (113, "concurrent pagination"),
        }
    }
}

/// Ends of connections: codes of the close frame, or of the `disconnect` push where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectCode {
    /// 3000: closed without advice. Never sent.
    ConnectionClosed,
    /// 3001: this node goes down.
    Shutdown,
    /// 3004: our fault.
    InternalError,
    /// 3005: the credentials ran out.
    ConnectionExpired,
    /// 3006: a server-side subscription ran out.
    SubscriptionExpired,
    /// 3008: the client reads too slowly.
    Slow,
    /// 3009: writing failed.
    WriteError,
    /// 3010: a gap that only a new connection can close.
    InsufficientState,
    /// 3011: an operator or application wants it to come back.
    ForceReconnect,
    /// 3012: a ping was not answered.
    NoPong,
    /// 3013: too many requests.
    TooManyRequests,
    /// 3014: what the client remembers is worth nothing: it drops its token and positions, too.
    StateInvalidated,
    /// 3500: the token is not good.
    InvalidToken,
    /// 3501: what was sent breaks the protocol.
    BadRequest,
    /// 3502: it did not say who it is in time.
    Stale,
    /// 3503: an operator or application ended it.
    ForceDisconnect,
    /// 3504: too many connections.
    ConnectionLimit,
    /// 3505: too many channels.
    ChannelLimit,
    /// 3506: a payload does not fit the connection's encoding.
    InappropriateProtocol,
    /// 3507: not allowed.
    PermissionDenied,
    /// 3508: this server does not have it.
    NotAvailable,
    /// 3509: too many errors.
    TooManyErrors,
}

impl DisconnectCode {
    /// All of them, in order.
    pub const ALL: [DisconnectCode; 22] = [
        DisconnectCode::ConnectionClosed,
        DisconnectCode::Shutdown,
        DisconnectCode::InternalError,
        DisconnectCode::ConnectionExpired,
        DisconnectCode::SubscriptionExpired,
        DisconnectCode::Slow,
        DisconnectCode::WriteError,
        DisconnectCode::InsufficientState,
        DisconnectCode::ForceReconnect,
        DisconnectCode::NoPong,
        DisconnectCode::TooManyRequests,
        DisconnectCode::StateInvalidated,
        DisconnectCode::InvalidToken,
        DisconnectCode::BadRequest,
        DisconnectCode::Stale,
        DisconnectCode::ForceDisconnect,
        DisconnectCode::ConnectionLimit,
        DisconnectCode::ChannelLimit,
        DisconnectCode::InappropriateProtocol,
        DisconnectCode::PermissionDenied,
        DisconnectCode::NotAvailable,
        DisconnectCode::TooManyErrors,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self.row().0
    }

    /// The text on the wire: short, and never JSON.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.row().1
    }

    /// Whether SDKs come back by themselves.
    #[must_use]
    pub fn may_reconnect(self) -> bool {
        may_reconnect(self.code())
    }

    fn row(self) -> (u16, &'static str) {
        match self {
            DisconnectCode::ConnectionClosed => (3000, "connection closed"),
            DisconnectCode::Shutdown => (3001, "shutdown"),
            DisconnectCode::InternalError => (3004, "internal server error"),
            DisconnectCode::ConnectionExpired => (3005, "connection expired"),
            DisconnectCode::SubscriptionExpired => (3006, "subscription expired"),
            DisconnectCode::Slow => (3008, "slow"),
            DisconnectCode::WriteError => (3009, "write error"),
            DisconnectCode::InsufficientState => (3010, "insufficient state"),
            DisconnectCode::ForceReconnect => (3011, "force reconnect"),
            DisconnectCode::NoPong => (3012, "no pong"),
            DisconnectCode::TooManyRequests => (3013, "too many requests"),
            DisconnectCode::StateInvalidated => (3014, "state invalidated"),
            DisconnectCode::InvalidToken => (3500, "invalid token"),
            DisconnectCode::BadRequest => (3501, "bad request"),
            DisconnectCode::Stale => (3502, "stale"),
            DisconnectCode::ForceDisconnect => (3503, "force disconnect"),
            DisconnectCode::ConnectionLimit => (3504, "connection limit"),
            DisconnectCode::ChannelLimit => (3505, "channel limit"),
            DisconnectCode::InappropriateProtocol => (3506, "inappropriate protocol"),
            DisconnectCode::PermissionDenied => (3507, "permission denied"),
            DisconnectCode::NotAvailable => (3508, "not available"),
            DisconnectCode::TooManyErrors => (3509, "too many errors"),
        }
    }
}

/// Whether SDKs come back by themselves after a close with `code`, whoever chose it. 1009 (message too
/// big) is the one code below 3000 after which they do not.
#[must_use]
pub fn may_reconnect(code: u16) -> bool {
    !matches!(code, 1009 | 3500..=3999 | 4500..=4999)
}

/// Ends of subscriptions. Applications use 2100 to 2499 (final) and 2600 to 2999 (subscribe again).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnsubscribeCode {
    /// 2000: an operator or application ended it.
    Server,
    /// 2500: a gap; the client subscribes again and recovers.
    InsufficientState,
    /// 2501: its token ran out.
    Expired,
    /// 2502: what the client remembers is worth nothing: it drops token and position first.
    StateInvalidated,
}

impl UnsubscribeCode {
    /// All of them, in order.
    pub const ALL: [UnsubscribeCode; 4] = [
        UnsubscribeCode::Server,
        UnsubscribeCode::InsufficientState,
        UnsubscribeCode::Expired,
        UnsubscribeCode::StateInvalidated,
    ];

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            UnsubscribeCode::Server => 2000,
            UnsubscribeCode::InsufficientState => 2500,
            UnsubscribeCode::Expired => 2501,
            UnsubscribeCode::StateInvalidated => 2502,
        }
    }

    /// The text on the wire.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            UnsubscribeCode::Server => "server unsubscribe",
            UnsubscribeCode::InsufficientState => "insufficient state",
            UnsubscribeCode::Expired => "subscription expired",
            UnsubscribeCode::StateInvalidated => "state invalidated",
        }
    }

    /// Whether SDKs subscribe again by themselves.
    #[must_use]
    pub fn may_resubscribe(self) -> bool {
        may_resubscribe(self.code())
    }
}

/// Whether SDKs subscribe again by themselves after an unsubscribe push with `code`.
#[must_use]
pub fn may_resubscribe(code: u32) -> bool {
    code >= 2500
}

/// The longest reason that a close frame has room for.
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Makes a reason that an application chose fit for a close frame: never empty, never too long, and
/// never JSON, which some SDKs would take for a record of an older protocol.
#[must_use]
pub fn close_reason(raw: &str) -> Cow<'_, str> {
    if raw.is_empty() {
        return Cow::Borrowed("disconnect");
    }
    let end = raw.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
    let cut = &raw[..end];
    if !is_json(cut.as_bytes()) {
        return Cow::Borrowed(cut);
    }
    let mut reason = String::from("reason: ");
    let room = CLOSE_REASON_BYTES_MAX - reason.len();
    reason.push_str(&cut[..cut.floor_char_boundary(room)]);
    Cow::Owned(reason)
}
