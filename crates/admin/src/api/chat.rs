//! Channels and clients for back ends: the server API that users of Centrifugo know, one POST a method.
//!
//! Answers are `{"result": …}` or `{"error": {"code", "message"}}` with status 200, as those users'
//! libraries expect; with `X-Centrifugo-Error-Mode: transport` errors have a status of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use naru_domain::ports::{BusError, Post};
use naru_domain::{ChannelName, CloseReason, Offset, PartyInfo, PublicationMeta, Version};
use naru_hub::access::{NameRefused, Namespace};
use naru_hub::{
    Client, Cut, Ending, Mark, PageError, PageQuery, Recover, SubscribeError, SubscribeSpec,
    Subscribed, Traits,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::extract::Body;
use crate::routes::{Endpoint, NODE_OPERATOR, NODE_VIEWER, post};
use crate::services::Chat;
use crate::state::Api;

/// Channels of one broadcast, commands of one batch, tags of one publication.
const MANY_MAX: usize = 1_000;
const TAGS_MAX: usize = 64;
const VERSION_EPOCH_BYTES_MAX: usize = 255;

/// Why a method has no result. The codes are those of the client protocol.
struct Fault(u32, &'static str);

const INTERNAL: Fault = Fault(100, "internal server error");
const UNKNOWN_CHANNEL: Fault = Fault(102, "unknown channel");
const NOT_FOUND: Fault = Fault(104, "method not found");
const LIMIT: Fault = Fault(106, "limit exceeded");
const BAD_REQUEST: Fault = Fault(107, "bad request");
const NOT_AVAILABLE: Fault = Fault(108, "not available");
const UNRECOVERABLE: Fault = Fault(112, "unrecoverable position");

type Outcome = Result<Value, Fault>;

macro_rules! methods {
    ($($name:ident $access:ident $body:ty, $summary:literal;)*) => {
        pub(crate) fn endpoints() -> Vec<Endpoint> {
            $(
                async fn $name(
                    State(api): State<Api>,
                    headers: HeaderMap,
                    Body(body): Body<Box<RawValue>>,
                ) -> Result<Response, ApiError> {
                    answer(&api, &headers, stringify!($name), &body).await
                }
            )*
            vec![$(
                post(concat!("/api/", stringify!($name)), $access, $summary, $name)
                    .takes::<$body>()
                    .gives::<Answered>(),
            )*]
        }
    };
}

methods! {
    publish NODE_OPERATOR PublishBody, "Publishes into a channel";
    broadcast NODE_OPERATOR PublishBody, "Publishes the same into several channels";
    subscribe NODE_OPERATOR SubscribeBody, "Subscribes a user's connections to a channel";
    unsubscribe NODE_OPERATOR WhoBody, "Ends subscriptions of a user";
    disconnect NODE_OPERATOR DisconnectBody, "Ends connections of a user";
    presence NODE_VIEWER ChannelBody, "Who is in a channel";
    presence_stats NODE_VIEWER ChannelBody, "How many are in a channel";
    history NODE_VIEWER HistoryBody, "What a channel keeps";
    history_remove NODE_OPERATOR ChannelBody, "Forgets what a channel keeps";
    channels NODE_VIEWER ChannelsBody, "Channels that somebody is subscribed to";
    info NODE_VIEWER NothingBody, "What this node is and how busy";
    batch NODE_OPERATOR BatchBody, "Several of these in one request";
}

/// `result` or `error`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Answered {
    /// What the method gives.
    result: Option<Map<String, Value>>,
    /// Why it gives nothing.
    error: Option<FaultView>,
}

/// A refusal.
#[derive(Serialize, ToSchema)]
pub(crate) struct FaultView {
    /// As in the client protocol.
    code: u32,
    /// For people.
    message: String,
}

/// What is published, and where. `channel` for one, `channels` for a broadcast.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PublishBody {
    /// Where.
    #[serde(default)]
    channel: String,
    /// Where, for a broadcast; at most 1,000.
    #[serde(default)]
    channels: Vec<String>,
    /// Any JSON, kept byte for byte.
    #[schema(value_type = Object)]
    data: Option<Box<RawValue>>,
    /// Any bytes in base64, instead of `data`.
    b64data: Option<String>,
    /// Deliver it without keeping it.
    #[serde(default)]
    skip_history: bool,
    /// Names and values that travel with it.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// The same key within the window publishes once and gives the first position.
    idempotency_key: Option<String>,
    /// Subscribers who agreed to it may get a difference.
    #[serde(default)]
    delta: bool,
    /// Not published if one with this version or a newer one was, in channels with history; 0 for none.
    #[serde(default)]
    version: u64,
    /// Versions are compared within one epoch only; at most 255 bytes.
    #[serde(default)]
    version_epoch: String,
}

/// A channel.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ChannelBody {
    /// Its name.
    #[serde(default)]
    channel: String,
}

/// Nothing.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NothingBody {}

/// Which channels.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ChannelsBody {
    /// A name with `*` for any run of characters; all without it.
    #[serde(default)]
    pattern: String,
}

/// A position.
#[derive(Deserialize, ToSchema)]
pub(crate) struct PositionBody {
    /// The offset.
    #[serde(default)]
    offset: u64,
    /// The epoch; an empty one is the present one.
    #[serde(default)]
    epoch: String,
}

/// A look at history.
#[derive(Deserialize, ToSchema)]
pub(crate) struct HistoryBody {
    /// Whose.
    #[serde(default)]
    channel: String,
    /// How many; 0 gives the position only, below 0 all.
    #[serde(default)]
    limit: i64,
    /// Only what came after it, or before it in reverse.
    since: Option<PositionBody>,
    /// Newest first.
    #[serde(default)]
    reverse: bool,
}

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

/// Several methods.
#[derive(Deserialize, ToSchema)]
pub(crate) struct BatchBody {
    /// Each an object with one key, the method, and its request.
    #[schema(value_type = Vec<Object>)]
    #[serde(default)]
    commands: Vec<BTreeMap<String, Box<RawValue>>>,
}

async fn answer(
    api: &Api,
    headers: &HeaderMap,
    method: &str,
    body: &RawValue,
) -> Result<Response, ApiError> {
    let outcome = match &api.services.chat {
        Some(chat) if method == "batch" => batch(chat, body).await.map_err(|fault| (fault, true)),
        Some(chat) => call(chat, method, body)
            .await
            .map(|result| json!({ "result": result }))
            .map_err(|fault| (fault, false)),
        None => Err((NOT_AVAILABLE, false)),
    };
    let (Fault(code, message), _) = match outcome {
        Ok(answer) => return Ok(Json(answer).into_response()),
        Err(fault) => fault,
    };
    let error = json!({ "code": code, "message": message });
    let mode = headers.get("x-centrifugo-error-mode").and_then(|mode| mode.to_str().ok());
    if mode == Some("transport") {
        let status = match code {
            102 | 104 => StatusCode::NOT_FOUND,
            107 | 108 => StatusCode::BAD_REQUEST,
            112 => StatusCode::RANGE_NOT_SATISFIABLE,
            113 => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        return Ok((status, Json(error)).into_response());
    }
    Ok(Json(json!({ "error": error })).into_response())
}

fn read<'a, T: Deserialize<'a>>(body: &'a RawValue) -> Result<T, Fault> {
    serde_json::from_str(body.get()).map_err(|_| BAD_REQUEST)
}

async fn call(chat: &Chat, method: &str, body: &RawValue) -> Outcome {
    match method {
        "publish" => publish(chat, &read(body)?).await,
        "broadcast" => broadcast(chat, &read(body)?).await,
        "subscribe" => subscribe(chat, read(body)?).await,
        "unsubscribe" => unsubscribe(chat, &read(body)?),
        "disconnect" => disconnect(chat, &read(body)?),
        "presence" => presence(chat, &read(body)?),
        "presence_stats" => presence_stats(chat, &read(body)?),
        "history" => history(chat, read(body)?).await,
        "history_remove" => history_remove(chat, &read(body)?).await,
        "channels" => Ok(channels(chat, &read(body)?)),
        "info" => Ok(info(chat)),
        _ => Err(NOT_FOUND),
    }
}

async fn batch(chat: &Chat, body: &RawValue) -> Outcome {
    let BatchBody { commands } = read(body)?;
    if commands.len() > MANY_MAX {
        return Err(LIMIT);
    }
    let mut replies = Vec::with_capacity(commands.len());
    for command in &commands {
        let (method, body) = command.iter().next().ok_or(BAD_REQUEST)?;
        let reply = match call(chat, method, body).await {
            Ok(result) => json!({ method: result }),
            Err(Fault(code, message)) => {
                json!({ "error": { "code": code, "message": message } })
            }
        };
        replies.push(reply);
    }
    Ok(json!({ "replies": replies }))
}

/// A channel with its options.
fn place(chat: &Chat, name: &str) -> Result<(ChannelName, Namespace), Fault> {
    let channel = ChannelName::parse(name).map_err(|_| BAD_REQUEST)?;
    let namespace = chat.namespaces.load().of(&channel).cloned();
    match namespace {
        Ok(namespace) => Ok((channel, namespace)),
        Err(NameRefused::UnknownNamespace) => Err(UNKNOWN_CHANNEL),
        Err(NameRefused::BadName) => Err(BAD_REQUEST),
    }
}

fn post_of(content: &PublishBody, namespace: &Namespace) -> Result<Post, Fault> {
    let data = match (&content.data, &content.b64data) {
        (_, Some(encoded)) => Bytes::from(STANDARD.decode(encoded).map_err(|_| BAD_REQUEST)?),
        (Some(raw), None) => Bytes::copy_from_slice(raw.get().as_bytes()),
        (None, None) => return Err(BAD_REQUEST),
    };
    if content.tags.len() > TAGS_MAX {
        return Err(LIMIT);
    }
    let tags =
        content.tags.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let meta = PublicationMeta {
        publisher: None,
        tags: tags.collect(),
        is_delta: content.delta || namespace.delta_publish,
        version: version_of(content, namespace)?,
    };
    let is_plain = meta == PublicationMeta::default();
    Ok(Post {
        data,
        meta: (!is_plain).then(|| Arc::new(meta)),
        key: content.idempotency_key.as_deref().map(Arc::from),
        skip_history: content.skip_history,
    })
}

/// What the back end counts with. Only a channel that remembers can say what was overtaken.
fn version_of(content: &PublishBody, namespace: &Namespace) -> Result<Option<Version>, Fault> {
    if content.version == 0 {
        return Ok(None);
    }
    if content.version_epoch.len() > VERSION_EPOCH_BYTES_MAX {
        return Err(BAD_REQUEST);
    }
    if !namespace.has_history || content.skip_history {
        return Err(NOT_AVAILABLE);
    }
    Ok(Some(Version { number: content.version, epoch: content.version_epoch.as_str().into() }))
}

async fn publish(chat: &Chat, body: &PublishBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    let post = post_of(body, &namespace)?;
    published(chat, &channel, post).await
}

async fn published(chat: &Chat, channel: &ChannelName, post: Post) -> Outcome {
    let position = chat.hub.publish(channel, post).await.map_err(|error| fault_of(&error))?;
    if position.offset == Offset(0) {
        return Ok(json!({}));
    }
    Ok(json!({ "offset": position.offset.0, "epoch": position.epoch.to_string() }))
}

async fn broadcast(chat: &Chat, body: &PublishBody) -> Outcome {
    let channels = &body.channels;
    if channels.is_empty() || (body.data.is_none() && body.b64data.is_none()) {
        return Err(BAD_REQUEST);
    }
    if channels.len() > MANY_MAX {
        return Err(LIMIT);
    }
    let mut responses = Vec::with_capacity(channels.len());
    for name in channels {
        let outcome = match place(chat, name) {
            Ok((channel, namespace)) => published(chat, &channel, post_of(body, &namespace)?).await,
            Err(fault) => Err(fault),
        };
        responses.push(match outcome {
            Ok(result) => json!({ "result": result }),
            Err(Fault(code, message)) => {
                json!({ "error": { "code": code, "message": message } })
            }
        });
    }
    Ok(json!({ "responses": responses }))
}

/// The connections that are meant: all of a user, or one of them.
fn clients(chat: &Chat, user: &str, client: &str) -> Vec<Arc<Client>> {
    if client.is_empty() {
        return chat.hub.clients_of(user);
    }
    let found = chat.hub.client(client);
    found.into_iter().filter(|each| user.is_empty() || *each.info().user == *user).collect()
}

async fn subscribe(chat: &Chat, body: SubscribeBody) -> Outcome {
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
        }
    }
    Ok(json!({}))
}

fn unsubscribe(chat: &Chat, body: &WhoBody) -> Outcome {
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

fn disconnect(chat: &Chat, body: &DisconnectBody) -> Outcome {
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

fn presence(chat: &Chat, body: &ChannelBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.presence {
        return Err(NOT_AVAILABLE);
    }
    let present = chat.hub.presence(&channel);
    let present: Map<String, Value> =
        present.iter().map(|party| (party.client.to_string(), party_view(party))).collect();
    Ok(json!({ "presence": present }))
}

fn presence_stats(chat: &Chat, body: &ChannelBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.presence {
        return Err(NOT_AVAILABLE);
    }
    let stats = chat.hub.presence_stats(&channel);
    Ok(json!({ "num_clients": stats.clients, "num_users": stats.users }))
}

async fn history(chat: &Chat, body: HistoryBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.has_history {
        return Err(NOT_AVAILABLE);
    }
    let query = PageQuery {
        since: body.since.as_ref().map(|since| (since.offset, since.epoch.as_str())),
        limit: body.limit,
        limit_max: chat.history_max,
        reverse: body.reverse,
    };
    let page = chat.hub.history_page(&channel, query).await.map_err(|error| match error {
        PageError::OtherEpoch => UNRECOVERABLE,
        PageError::BelowTheFirst => BAD_REQUEST,
        PageError::Bus(error) => fault_of(&error),
    })?;
    let publications: Vec<Value> = page
        .publications
        .iter()
        .map(|each| {
            let mut view = json!({ "offset": each.position.offset.0 });
            match serde_json::from_slice::<Value>(&each.data) {
                Ok(data) => view["data"] = data,
                Err(_) => view["b64data"] = json!(STANDARD.encode(&each.data)),
            }
            if let Some(meta) = &each.meta {
                if let Some(publisher) = &meta.publisher {
                    view["info"] = party_view(publisher);
                }
                if !meta.tags.is_empty() {
                    let tags = meta.tags.iter();
                    let tags: Map<String, Value> =
                        tags.map(|(name, value)| (name.to_string(), json!(value))).collect();
                    view["tags"] = Value::Object(tags);
                }
            }
            view
        })
        .collect();
    Ok(json!({
        "publications": publications,
        "offset": page.top.offset.0,
        "epoch": page.top.epoch.to_string(),
    }))
}

async fn history_remove(chat: &Chat, body: &ChannelBody) -> Outcome {
    let (channel, namespace) = place(chat, &body.channel)?;
    if !namespace.has_history {
        return Err(NOT_AVAILABLE);
    }
    chat.hub.remove_history(&channel).await.map_err(|error| fault_of(&error))?;
    Ok(json!({}))
}

fn channels(chat: &Chat, body: &ChannelsBody) -> Value {
    let found = chat.hub.channels(|name| {
        body.pattern.is_empty() || naru_hub::access::fits(&body.pattern, name.as_str())
    });
    let found: Map<String, Value> = found
        .into_iter()
        .map(|(name, count)| (name.as_str().to_owned(), json!({ "num_clients": count })))
        .collect();
    json!({ "channels": found })
}

fn info(chat: &Chat) -> Value {
    let (clients, users) = chat.hub.client_count();
    let channels = chat.hub.channels(|_| true);
    let subscriptions: usize = channels.iter().map(|(_, count)| count).sum();
    json!({ "nodes": [{
        "uid": chat.node_uid,
        "name": chat.node_name,
        "version": env!("CARGO_PKG_VERSION"),
        "num_clients": clients,
        "num_users": users,
        "num_channels": channels.len(),
        "num_subs": subscriptions,
        "uptime": chat.started.elapsed().as_secs(),
    }] })
}

fn party_view(party: &PartyInfo) -> Value {
    let mut view = json!({ "user": *party.user, "client": *party.client });
    for (name, raw) in [("conn_info", &party.conn_info), ("chan_info", &party.chan_info)] {
        if let Ok(value) = serde_json::from_slice::<Value>(raw) {
            view[name] = value;
        }
    }
    view
}

fn fault_of(error: &BusError) -> Fault {
    match error {
        BusError::TooLarge { .. } => LIMIT,
        BusError::Unavailable { .. } => INTERNAL,
    }
}
