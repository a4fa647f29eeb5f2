//! Wires the channels of bots' rooms: what they keep and let clients do unless configured, which logins may
//! use them, and the audit log of those who do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use naru_bots::{BOT_NAMESPACE, ROOM_NAMESPACE};
use naru_domain::ports::{
    Audit, ChannelOwner, ChannelRight, NamespaceOptions, OwnerError, Post, StoreError,
};
use naru_domain::work::AuditEntry;
use naru_domain::{ChannelName, Clock, Durability, PartyInfo};
use naru_hub::Hub;
use naru_hub::access::{NamePattern, Namespaces};
use parking_lot::Mutex;

/// The namespaces that belong to bots.
const NAMESPACES: [&str; 2] = [ROOM_NAMESPACE, BOT_NAMESPACE];

/// Whoever watches a room, or says something in it, stands in the audit log once in so long.
const RECORD_EVERY: Duration = Duration::from_secs(3_600);
/// Who stands there already, at most; then the oldest are written once more (guessed).
const RECORDED_MAX: usize = 10_000;

/// What the channels of rooms keep unless they are configured: nothing, whatever other channels keep.
pub(crate) fn add_kept(namespaces: &mut HashMap<String, NamespaceOptions>) {
    for name in NAMESPACES {
        let nothing = NamespaceOptions {
            history_size: 0,
            history_ttl: Duration::ZERO,
            durability: Durability::Memory,
        };
        namespaces.entry(name.to_owned()).or_insert(nothing);
    }
}

/// Who may do what in them unless they are configured: nobody but those with a right of their own.
pub(crate) fn add_rules(namespaces: &mut Namespaces) {
    for name in NAMESPACES {
        let rules = namespaces.named.entry(name.to_owned()).or_default();
        // Names of bots are not always ASCII.
        rules
            .channel_pattern
            .get_or_insert_with(|| NamePattern { text: String::new(), fits: Arc::new(|_| true) });
    }
}

/// What operators and admins may do who log in with name and passcode: what they may do by the API.
pub(crate) fn operators_rights() -> Vec<ChannelRight> {
    NAMESPACES.map(|name| ChannelRight::everything(&format!("{name}:*"))).to_vec()
}

/// Gives the namespaces to their owner.
pub(crate) fn hand_over(
    hub: &Hub,
    owner: Arc<dyn ChannelOwner>,
    audit: Arc<dyn Audit>,
    clock: Arc<dyn Clock>,
) {
    let audited = Arc::new(Audited { owner, audit, clock, recorded: Mutex::default() });
    for name in NAMESPACES {
        hub.set_owner(name, Arc::clone(&audited) as _);
    }
}

/// The owner, with a record of who came: people's talk is personal data.
struct Audited {
    owner: Arc<dyn ChannelOwner>,
    audit: Arc<dyn Audit>,
    clock: Arc<dyn Clock>,
    recorded: Mutex<HashMap<Deed, Instant>>,
}

/// Who did what, and in which channel.
type Deed = (Arc<str>, &'static str, ChannelName);

impl Audited {
    /// Writes it down unless that was done a while ago. Whoever cannot be recorded may not act.
    async fn record(
        &self,
        party: &PartyInfo,
        action: &'static str,
        channel: &ChannelName,
    ) -> Result<(), OwnerError> {
        let deed = (Arc::clone(&party.user), action, channel.clone());
        let now = Instant::now();
        if self.is_recorded(&deed, now) {
            return Ok(());
        }
        let entry = AuditEntry {
            at: self.clock.now(),
            actor: if party.user.is_empty() {
                "anonymous".to_owned()
            } else {
                party.user.to_string()
            },
            source: format!("client:{}", party.client),
            action: action.to_owned(),
            object: format!("channel:{channel}"),
            detail: "{}".to_owned(),
        };
        self.audit.append_audit(&entry).await.map_err(|error: StoreError| {
            OwnerError::Unavailable { reason: format!("cannot be put on record: {error}") }
        })?;
        self.recorded.lock().insert(deed, now);
        Ok(())
    }

    fn is_recorded(&self, deed: &Deed, now: Instant) -> bool {
        let mut recorded = self.recorded.lock();
        if recorded.len() >= RECORDED_MAX {
            recorded.retain(|_, at| now.saturating_duration_since(*at) < RECORD_EVERY);
            if recorded.len() >= RECORDED_MAX {
                recorded.clear();
            }
        }
        recorded.get(deed).is_some_and(|at| now.saturating_duration_since(*at) < RECORD_EVERY)
    }
}

#[async_trait]
impl ChannelOwner for Audited {
    async fn admit(&self, channel: &ChannelName, party: &PartyInfo) -> Result<(), OwnerError> {
        self.owner.admit(channel, party).await?;
        self.record(party, "channel.watch", channel).await
    }

    async fn take(&self, channel: &ChannelName, post: Post) -> Result<(), OwnerError> {
        // The API writes down itself who called it.
        let publisher = post.meta.as_ref().and_then(|meta| meta.publisher.clone());
        if let Some(party) = publisher {
            self.record(&party, "channel.publish", channel).await?;
        }
        self.owner.take(channel, post).await
    }
}
