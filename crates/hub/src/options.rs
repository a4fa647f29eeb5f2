//! What can be set about the hub. The binary fills it from the configuration.

use std::time::Duration;

use crate::mailbox::MailboxLimits;

/// The hub's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// The bounds of each session's mailbox.
    pub mailbox: MailboxLimits,
    /// Channels that one client may be subscribed to (guessed).
    pub subscriptions_per_client_max: usize,
    /// Connections that one user may have (guessed).
    pub connections_per_user_max: usize,
    /// Publications that a recovery may replay; more are answered with `NotRecovered` (guessed).
    pub recovery_publications_max: usize,
    /// Publications held back for one subscriber while its recovery reads history (guessed).
    pub recovery_buffer_max: usize,
    /// How long reading history for a recovery or a repair may take.
    pub history_timeout: Duration,
    /// How often the live flow of channels with positions is compared with their history; zero means
    /// never.
    pub position_check_interval: Duration,
}

impl Default for HubOptions {
    fn default() -> HubOptions {
        HubOptions {
            mailbox: MailboxLimits::default(),
            subscriptions_per_client_max: 128,
            connections_per_user_max: 1_000,
            recovery_publications_max: 1_000,
            recovery_buffer_max: 1_000,
            history_timeout: Duration::from_secs(5),
            position_check_interval: Duration::from_secs(40),
        }
    }
}
