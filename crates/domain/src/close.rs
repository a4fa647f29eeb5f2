//! Why a connection or a session ended: one enum for the log field, the metric label and the docs.

/// Why a connection ended. Each reason has one stable label and one answer to "may the peer return?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side.
    PeerClosed,
    /// The transport failed (reset, broken pipe, TLS error).
    ConnectionLost,
    /// No handshake within the time allowed.
    HandshakeTimeout,
    /// Nothing was heard for too long, keep-alives included.
    Idle,
    /// The peer took no bytes for longer than the write timeout.
    SlowReader,
    /// A newer connection with the same identity took over.
    Replaced,
    /// A frame was larger than the limit.
    FrameTooLarge,
    /// Too many frames in too short a time.
    RateLimited,
    /// Too many unusable frames.
    Malformed,
    /// The listener or the address has as many connections as it may have.
    TooManyConnections,
    /// An operator closed it.
    Kicked,
    /// The node is shutting down.
    Shutdown,
    /// Its credentials are not good, or do not allow what it does.
    Refused,
    /// Its credentials ran out and it brought no new ones.
    Expired,
    /// It missed something that only a new beginning can make good.
    OutOfSync,
    /// A defect of ours ended it.
    Internal,
}

impl CloseReason {
    /// Every reason, for the docs and the metrics.
    pub const ALL: [CloseReason; 16] = [
        CloseReason::PeerClosed,
        CloseReason::ConnectionLost,
        CloseReason::HandshakeTimeout,
        CloseReason::Idle,
        CloseReason::SlowReader,
        CloseReason::Replaced,
        CloseReason::FrameTooLarge,
        CloseReason::RateLimited,
        CloseReason::Malformed,
        CloseReason::TooManyConnections,
        CloseReason::Kicked,
        CloseReason::Shutdown,
        CloseReason::Refused,
        CloseReason::Expired,
        CloseReason::OutOfSync,
        CloseReason::Internal,
    ];

    /// The stable name in logs, metrics and docs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::ConnectionLost => "connection_lost",
            CloseReason::HandshakeTimeout => "handshake_timeout",
            CloseReason::Idle => "idle",
            CloseReason::SlowReader => "slow_reader",
            CloseReason::Replaced => "replaced",
            CloseReason::FrameTooLarge => "frame_too_large",
            CloseReason::RateLimited => "rate_limited",
            CloseReason::Malformed => "malformed",
            CloseReason::TooManyConnections => "too_many_connections",
            CloseReason::Kicked => "kicked",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Refused => "refused",
            CloseReason::Expired => "expired",
            CloseReason::OutOfSync => "out_of_sync",
            CloseReason::Internal => "internal",
        }
    }

    /// Whether the peer may connect again at once and expect to be served.
    #[must_use]
    pub fn may_reconnect(self) -> bool {
        !matches!(self, CloseReason::Kicked | CloseReason::Replaced | CloseReason::Refused)
    }
}
