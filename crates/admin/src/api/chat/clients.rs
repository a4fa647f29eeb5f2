//! Connections of users: which they are subscribed to for the server's sake, and how they are ended.

use std::sync::Arc;

use bytes::Bytes;
use naru_domain::{ChannelName, CloseReason, Timestamp};
use naru_hub::{
    Client, Cut, Ending, Mark, Recover, SubscribeError, SubscribeSpec, Subscribed, Traits,
};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{BAD_REQUEST, INTERNAL, LIMIT, Outcome, owners_fault, place};
use crate::services::Chat;

/// Whose connections, and which channel.
#[derive(Deserialize, ToSchema)]
pub(crate) struct WhoBody {
    /// The user.
    #[serde(default)]
    user: String,
    /// One connection of it.
    #[serde(default)]
    client: String,
    /// Which channel; all if there is none.
    #[serde(default)]
    channel: String,
}

/// A subscription that the server begins.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SubscribeBody {
    /// The user.
    #[serde(default)]
    user: String,
    /// One connection of it.
    #[serde(default)]
    client: String,
    /// Which channel.
    #[serde(default)]
    channel: String,
    /// Shown to the others of the channel.
    #[schema(value_type = Object)]
    info: Option<Box<RawValue>>,
}

/// Connections to end.
#[derive(Deserialize, ToSchema)]
pub(crate) struct DisconnectBody {
    /// The user.
    #[serde(default)]
    user: String,
    /// One connection of it.
    #[serde(default)]
    client: String,
    /// Connections that stay.
    #[serde(default)]
    whitelist: Vec<String>,
    /// What they are told instead of 3503.
    disconnect: Option<AdviceBody>,
}

/// A code and a reason.
#[derive(Deserialize, ToSchema)]
pub(crate) struct AdviceBody {
    /// 3000 to 4999.
    code: u32,
    /// For people.
    reason: String,
}

/// When connections run out.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RefreshBody {
    /// The user.
    #[serde(default)]
    user: String,
    /// One connection of it.
    #[serde(default)]
    client: String,
    /// Connections here have no sessions: one that is named fits none.
    #[serde(default)]
    session: String,
    /// They have run out already.
    #[serde(default)]
    expired: bool,
    /// When they run out, in seconds since 1970; 0 is never.
    #[serde(default)]
    expire_at: i64,
}

/// The connections that are meant: all of a user, or one of them.
fn clients(chat: &Chat, user: &str, client: &str) -> Vec<Arc<Client>> {
    if client.is_empty() {
        return chat.hub.clients_of(user);
    }
    let found = chat.hub.client(client);
    found.into_iter().filter(|each| user.is_empty() || *each.info().user == *user).collect()
}

pub(super) async fn subscribe(chat: &Chat, body: SubscribeBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    let is_positioned =
        namespace.has_history && (namespace.force_recovery || namespace.force_positioning);
    let is_recoverable = namespace.has_history && namespace.force_recovery;
    let info = body.info.map_or_else(Bytes::new, |raw| Bytes::from(raw.get().to_owned()));
    for client in clients(chat, &body.user, &body.client) {
        let Some(bits) = client.outlet().server_side_bits() else { continue };
        let spec = SubscribeSpec {
            channel: channel.clone(),
            recover: Recover::Nothing,
            must_recover: false,
            mark: Mark { variant: None, bits },
            traits: Traits {
                is_positioned,
                gets_membership: namespace.join_leave && namespace.force_push_join_leave,
                shows_membership: namespace.join_leave,
                is_present: namespace.presence,
                is_server_side: true,
            },
            filter: None,
            chan_info: info.clone(),
        };
        let outlet = Arc::clone(client.outlet());
        let ready = |subscribed: &Subscribed| {
            outlet.entered(&channel, subscribed, is_recoverable);
        };
        match chat.hub.subscribe(&client, spec, ready).await {
            // A client that has gone or has it already is as it should be.
            Ok(_) | Err(SubscribeError::Gone | SubscribeError::AlreadySubscribed) => {
                client.outlet().flush();
            }
            Err(SubscribeError::TooMany { .. }) => return Err(LIMIT),
            Err(SubscribeError::NotRecovered | SubscribeError::Bus(_)) => return Err(INTERNAL),
            Err(SubscribeError::Owner(error)) => return Err(owners_fault(&error)),
        }
    }
    Ok(json!({}))
}

pub(super) fn unsubscribe(chat: &Chat, body: &WhoBody) -> Outcome {
    let cut = Cut::Ordered { code: 2000, reason: Arc::from("server unsubscribe") };
    for client in clients(chat, &body.user, &body.client) {
        let channels = if body.channel.is_empty() {
            client.channels()
        } else {
            vec![ChannelName::parse(&body.channel).map_err(|_| BAD_REQUEST)?]
        };
        for channel in channels {
            chat.hub.cut(&client, &channel, &cut);
        }
    }
    Ok(json!({}))
}

pub(super) fn disconnect(chat: &Chat, body: &DisconnectBody) -> Outcome {
    let advice = match &body.disconnect {
        Some(advice) if !(3000..=4999).contains(&advice.code) => return Err(BAD_REQUEST),
        Some(advice) => Some((advice.code, Arc::from(advice.reason.as_str()))),
        None => None,
    };
    let ending = Ending { reason: CloseReason::Kicked, advice };
    for client in clients(chat, &body.user, &body.client) {
        if !body.whitelist.iter().any(|kept| **kept == *client.info().client) {
            client.close(&ending);
        }
    }
    Ok(json!({}))
}

/// The last second of the year 9999: later moments are a mistake in the unit.
const SECONDS_MAX: i64 = 253_402_300_799;

pub(super) fn refresh(chat: &Chat, body: &RefreshBody, now: Timestamp) -> Outcome {
    let expires_at = match body.expire_at {
        0 => None,
        seconds if (1..=SECONDS_MAX).contains(&seconds) => Some(Timestamp(seconds * 1_000)),
        _ => return Err(BAD_REQUEST),
    };
    if !body.session.is_empty() {
        return Ok(json!({}));
    }
    let is_over = body.expired || expires_at.is_some_and(|at| at <= now);
    for client in clients(chat, &body.user, &body.client) {
        if is_over {
            client.close(&CloseReason::Expired.into());
        } else {
            client.outlet().expires(expires_at);
        }
    }
    Ok(json!({}))
}
