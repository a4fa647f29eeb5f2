//! Channels and clients for back ends: the server API that users of Centrifugo know, one POST a method.
//!
//! Answers are `{"result": …}` or `{"error": {"code", "message"}}` with status 200, as those users'
//! libraries expect; with `X-Centrifugo-Error-Mode: transport` errors have a status of their own.

mod channels;
mod clients;
mod history;
mod publish;
mod rpc;

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use naru_domain::ports::{BusError, OwnerError};
use naru_domain::{ChannelName, PartyInfo};
use naru_hub::access::{NameRefused, Namespace};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use self::channels::ChannelsBody;
use self::clients::{DisconnectBody, RefreshBody, SubscribeBody, WhoBody};
use self::history::HistoryBody;
pub(crate) use self::history::publication_view;
use self::publish::PublishBody;
use self::rpc::RpcBody;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::Body;
use crate::mask;
use crate::routes::{Endpoint, NODE_OPERATOR, NODE_VIEWER, post};
use crate::services::Chat;
use crate::state::Api;

/// Channels of one broadcast, commands of one batch.
const MANY_MAX: usize = 1_000;

/// Why a method has no result. The codes are those of the client protocol.
struct Fault(u32, Cow<'static, str>);

impl Fault {
    const fn new(code: u32, message: &'static str) -> Fault {
        Fault(code, Cow::Borrowed(message))
    }
}

const INTERNAL: Fault = Fault::new(100, "internal server error");
const UNKNOWN_CHANNEL: Fault = Fault::new(102, "unknown channel");
const NOT_ALLOWED: Fault = Fault::new(103, "permission denied");
const NOT_FOUND: Fault = Fault::new(104, "method not found");
const LIMIT: Fault = Fault::new(106, "limit exceeded");
const BAD_REQUEST: Fault = Fault::new(107, "bad request");
const NOT_AVAILABLE: Fault = Fault::new(108, "not available");
const UNRECOVERABLE: Fault = Fault::new(112, "unrecoverable position");

type Outcome = Result<Value, Fault>;

macro_rules! methods {
    ($($name:ident $access:ident $body:ty, $summary:literal;)*) => {
        pub(crate) fn endpoints() -> Vec<Endpoint> {
            $(
                async fn $name(
                    State(api): State<Api>,
                    caller: Caller,
                    headers: HeaderMap,
                    Body(body): Body<Box<RawValue>>,
                ) -> Result<Response, ApiError> {
                    answer(&api, &caller, &headers, stringify!($name), &body).await
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
    refresh NODE_OPERATOR RefreshBody, "Says when connections of a user run out";
    rpc NODE_OPERATOR RpcBody, "Calls the application";
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

/// Several methods.
#[derive(Deserialize, ToSchema)]
pub(crate) struct BatchBody {
    /// Each an object with one key, the method, and its request.
    #[schema(value_type = Vec<Object>)]
    #[serde(default)]
    commands: Vec<BTreeMap<String, Box<RawValue>>>,
}

/// Who asks whom.
struct Asked<'a> {
    api: &'a Api,
    caller: &'a Caller,
    chat: &'a Chat,
}

impl Asked<'_> {
    /// What is done to a channel that belongs to a part of the server stands in the audit log: people's
    /// talk goes through it.
    async fn record(&self, channel: &ChannelName, action: &str) -> Result<(), Fault> {
        if !self.chat.hub.is_owned(channel) {
            return Ok(());
        }
        let object = format!("channel:{channel}");
        let recorded = self.api.audit(self.caller, action, &object, &json!({})).await;
        recorded.map_err(|_unrecorded| INTERNAL)
    }

    /// The same for who reads what was said there, which is not for those who see it masked elsewhere.
    async fn look(&self, channel: &ChannelName, rows: usize) -> Result<(), Fault> {
        if !self.chat.hub.is_owned(channel) {
            return Ok(());
        }
        if !mask::sees_all(self.caller.role) {
            return Err(NOT_ALLOWED);
        }
        let object = format!("channel:{channel}");
        let looked = self.api.looked_at(self.caller, "channel.history", &object, rows, json!({}));
        looked.await.map_err(|_unrecorded| INTERNAL)
    }
}

async fn answer(
    api: &Api,
    caller: &Caller,
    headers: &HeaderMap,
    method: &str,
    body: &RawValue,
) -> Result<Response, ApiError> {
    let outcome = match &api.services.chat {
        None => Err(NOT_AVAILABLE),
        Some(chat) => {
            let asked = Asked { api, caller, chat };
            match method {
                "batch" => batch(&asked, body).await,
                _ => call(&asked, method, body).await.map(|result| json!({ "result": result })),
            }
        }
    };
    let Fault(code, message) = match outcome {
        Ok(answer) => return Ok(Json(answer).into_response()),
        Err(fault) => fault,
    };
    let error = json!({ "code": code, "message": message });
    let mode = headers.get("x-centrifugo-error-mode").and_then(|mode| mode.to_str().ok());
    if mode == Some("transport") {
        let status = match code {
            102 | 104 => StatusCode::NOT_FOUND,
            103 => StatusCode::FORBIDDEN,
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

async fn call(asked: &Asked<'_>, method: &str, body: &RawValue) -> Outcome {
    let chat = asked.chat;
    match method {
        "publish" => publish::publish(asked, &read(body)?).await,
        "broadcast" => publish::broadcast(asked, &read(body)?).await,
        "subscribe" => clients::subscribe(chat, read(body)?).await,
        "unsubscribe" => clients::unsubscribe(chat, &read(body)?),
        "disconnect" => clients::disconnect(chat, &read(body)?),
        "refresh" => clients::refresh(chat, &read(body)?, asked.api.services.clock.now()),
        "rpc" => rpc::rpc(chat, &read(body)?).await,
        "presence" => channels::presence(chat, &read(body)?),
        "presence_stats" => channels::presence_stats(chat, &read(body)?),
        "history" => history::history(asked, read(body)?).await,
        "history_remove" => history::history_remove(asked, &read(body)?).await,
        "channels" => Ok(channels::channels(chat, &read(body)?)),
        "info" => Ok(info(chat)),
        _ => Err(NOT_FOUND),
    }
}

async fn batch(asked: &Asked<'_>, body: &RawValue) -> Outcome {
    let BatchBody { commands } = read(body)?;
    if commands.len() > MANY_MAX {
        return Err(LIMIT);
    }
    let mut replies = Vec::with_capacity(commands.len());
    for command in &commands {
        let (method, body) = command.iter().next().ok_or(BAD_REQUEST)?;
        let reply = match call(asked, method, body).await {
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

/// A party as back ends see it.
pub(crate) fn party_view(party: &PartyInfo) -> Value {
    let mut view = json!({ "user": *party.user, "client": *party.client });
    for (name, raw) in [("conn_info", &party.conn_info), ("chan_info", &party.chan_info)] {
        if let Ok(value) = serde_json::from_slice::<Value>(raw) {
            view[name] = value;
        }
    }
    view
}

/// What the owner of a channel says.
fn owners_fault(error: &OwnerError) -> Fault {
    let code = match error {
        OwnerError::NotFound { .. } => 102,
        OwnerError::Forbidden { .. } => 103,
        OwnerError::Invalid { .. } => 107,
        OwnerError::Unavailable { .. } => 100,
    };
    Fault(code, error.to_string().into())
}

fn fault_of(error: &BusError) -> Fault {
    match error {
        BusError::TooLarge { .. } => LIMIT,
        BusError::Unavailable { .. } => INTERNAL,
    }
}
