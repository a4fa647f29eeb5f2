//! A channel's live flow for operators and scripts: one HTTP response that goes on, a line of JSON for each
//! event. It subscribes through the hub like any other client, but nobody sees it in the channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use naru_domain::ports::OwnerError;
use naru_domain::{ChannelName, CloseReason, Epoch, Membership, Offset, PartyInfo, Publication};
use naru_hub::{
    ClientSpec, Connected, Cut, Ending, Event, Mark, NotRecovered, Outlet, Recover, SubscribeError,
    SubscribeSpec, Subscribed, Taken, Traits,
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::chat::{party_view, publication_view};
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::Asked;
use crate::routes::{Endpoint, NODE_OPERATOR, get};
use crate::state::Api;

pub(super) const CONTENT_TYPE: &str = "application/x-ndjson";
/// What may wait for a slow reader.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// An empty line goes out after so long without another, so that both ends notice a dead link.
pub(super) const EMPTY_LINE_AFTER: Duration = Duration::from_secs(15);
/// What the hub calls such a client.
const KIND: &str = "watch";

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/api/watch", NODE_OPERATOR, "Streams what happens in a channel", watch)
            .asks::<WatchQuery>()
            .writes(CONTENT_TYPE),
    ]
}

/// Which channel, and from where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchQuery {
    /// The channel.
    channel: String,
    /// Begin behind this publication instead of with what comes.
    offset: Option<u64>,
    /// The epoch that the offset belongs to; the present one unless given.
    epoch: Option<String>,
}

async fn watch(
    State(api): State<Api>,
    caller: Caller,
    Asked(asked): Asked<WatchQuery>,
) -> Result<Response, ApiError> {
    let bad = |message: &str| ApiError::new(Code::BadQuery, message);
    let Some(chat) = &api.services.chat else {
        return Err(ApiError::new(Code::NotFound, "this node serves no channels"));
    };
    let channel = ChannelName::parse(&asked.channel).map_err(|_error| bad("no channel name"))?;
    let namespace = chat.namespaces.load().of(&channel).cloned();
    let namespace = namespace
        .map_err(|_refused| ApiError::new(Code::NotFound, "the channel's namespace is unknown"))?;
    let epoch = asked.epoch.as_deref().map(|raw| Epoch::parse(raw).ok_or(bad("no epoch")));
    let epoch = epoch.transpose()?;
    let place = Arc::clone(&api.watch_places).try_acquire_owned();
    let place = place.map_err(|_full| {
        ApiError::new(Code::Overloaded, "too many channels are watched: try again later")
    })?;
    api.audit(&caller, "channel.watch", &asked.channel, &Value::Null).await?;
    let outbox = Arc::new(Outbox::default());
    let info = PartyInfo {
        // Whom a channel belongs to wants to know who comes.
        user: Arc::clone(&caller.name),
        client: format!("{:032x}", rand::random::<u128>()).into(),
        ..PartyInfo::default()
    };
    let connected = chat.hub.connect(ClientSpec {
        info,
        kind: KIND,
        peer: caller.source.as_ref().into(),
        outlet: Arc::<Outbox>::clone(&outbox),
    });
    let connected =
        connected.map_err(|_many| ApiError::new(Code::Overloaded, "too many connections"))?;
    let spec = SubscribeSpec {
        channel,
        recover: match asked.offset {
            Some(offset) => Recover::Since { epoch, offset: Offset(offset) },
            None => Recover::Nothing,
        },
        must_recover: false,
        mark: Mark::default(),
        traits: Traits {
            is_positioned: namespace.has_history,
            gets_membership: namespace.join_leave,
            ..Traits::default()
        },
        filter: None,
        chan_info: Bytes::new(),
    };
    let began = |subscribed: &Subscribed| outbox.begin(subscribed);
    match chat.hub.subscribe(connected.client(), spec, began).await {
        Ok(_) => {}
        Err(SubscribeError::TooMany { .. }) => {
            return Err(ApiError::new(Code::Overloaded, "too many subscriptions"));
        }
        Err(SubscribeError::Owner(OwnerError::NotFound { what })) => {
            return Err(ApiError::new(Code::NotFound, format!("there is no such {what}")));
        }
        Err(SubscribeError::Owner(error)) => {
            return Err(ApiError::new(Code::Unavailable, error.to_string()));
        }
        Err(_) => return Err(ApiError::new(Code::Unavailable, "the bus does not answer")),
    }
    let flow = Flow { outbox, stop: chat.stop.clone(), _connected: connected, _place: place };
    let lines = stream::unfold(flow, |flow| async {
        let line = flow.next_line().await?;
        Some((Ok::<_, std::convert::Infallible>(line), flow))
    });
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from_stream(lines)).into_response())
}

/// The response: it holds the subscription, and its place among those that watch.
struct Flow {
    outbox: Arc<Outbox>,
    stop: CancellationToken,
    _connected: Connected,
    _place: OwnedSemaphorePermit,
}

impl Flow {
    /// Everything that waits, at least a line; `None` behind the last one.
    async fn next_line(&self) -> Option<Bytes> {
        loop {
            let changed = self.outbox.changed.notified();
            match self.outbox.take() {
                Next::Lines(lines) => return Some(lines),
                Next::Over => return None,
                Next::Nothing => {}
            }
            tokio::select! {
                () = changed => {}
                () = self.stop.cancelled() => self.outbox.end(CloseReason::Shutdown.label(), None),
                () = tokio::time::sleep(EMPTY_LINE_AFTER) => return Some(Bytes::from_static(b"\n")),
            }
        }
    }
}

/// What waits to be written.
#[derive(Default)]
struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Bytes>,
    bytes: usize,
    is_ended: bool,
}

enum Next {
    Lines(Bytes),
    Nothing,
    Over,
}

impl Outbox {
    fn take(&self) -> Next {
        let mut waiting = self.waiting.lock();
        if waiting.lines.is_empty() {
            return if waiting.is_ended { Next::Over } else { Next::Nothing };
        }
        let mut all = Vec::with_capacity(waiting.bytes);
        waiting.bytes = 0;
        for line in waiting.lines.drain(..) {
            all.extend_from_slice(&line);
        }
        Next::Lines(all.into())
    }

    fn add(&self, line: &Bytes, is_bounded: bool) -> Taken {
        let mut waiting = self.waiting.lock();
        if waiting.is_ended {
            return Taken::Skipped;
        }
        if is_bounded && !waiting.lines.is_empty() && waiting.bytes + line.len() > WAITING_BYTES_MAX
        {
            return Taken::Full;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.clone());
        drop(waiting);
        self.changed.notify_one();
        Taken::Queued
    }

    /// How it begins. What is recovered is bounded by the hub.
    fn begin(&self, subscribed: &Subscribed) {
        let mut start = json!({
            "offset": subscribed.position.offset.0,
            "epoch": subscribed.position.epoch.to_string(),
        });
        if subscribed.was_recovering {
            start["recovered"] = json!(subscribed.not_recovered.is_none());
        }
        if let Some(why) = subscribed.not_recovered {
            start["reason"] = json!(match why {
                NotRecovered::OtherEpoch => "other_epoch",
                NotRecovered::Trimmed => "trimmed",
                NotRecovered::TooMany => "too_many",
            });
        }
        let _first = self.add(&line("subscribed", start), false);
        for publication in &subscribed.publications {
            let _recovered = self.add(&publication_line(publication), false);
        }
    }

    fn end(&self, reason: &str, advice: Option<&str>) {
        let mut end = json!({ "reason": reason });
        if let Some(advice) = advice {
            end["message"] = json!(advice);
        }
        let _last = self.add(&line("end", end), false);
        self.waiting.lock().is_ended = true;
        self.changed.notify_one();
    }
}

impl Outlet for Outbox {
    fn publication(&self, event: &Event<'_>, _mark: &mut Mark) -> Taken {
        // Nobody else speaks so, and few watch: there is nothing to share an encoding with.
        self.add(&publication_line(event.publication), true)
    }

    fn membership(&self, _channel: &ChannelName, membership: &Membership, _mark: &Mark) -> Taken {
        let what = if membership.has_joined { "join" } else { "leave" };
        self.add(&line(what, party_view(&membership.party)), true)
    }

    fn cut(&self, _channel: &ChannelName, _mark: &Mark, cut: &Cut) {
        match cut {
            Cut::InsufficientState => self.end("insufficient_state", None),
            Cut::Slow => self.end("slow", None),
            Cut::Expired => self.end("expired", None),
            Cut::Ordered { reason, .. } => self.end("unsubscribed", Some(reason)),
        }
    }

    fn entered(&self, _channel: &ChannelName, _subscribed: &Subscribed, _is_recoverable: bool) {}

    fn server_side_bits(&self) -> Option<u32> {
        None
    }

    fn message(&self, _data: &Bytes) {}

    fn flush(&self) {}

    fn close(&self, ending: &Ending) {
        let advice = ending.advice.as_ref().map(|(_, reason)| reason.as_ref());
        self.end(ending.reason.label(), advice);
    }
}

fn publication_line(publication: &Publication) -> Bytes {
    line("publication", publication_view(publication))
}

fn line(what: &str, value: Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({ what: value })))
}
