//! A hub with a gateway, and a client that speaks JSON over a WebSocket that others wrote.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use naru_domain::clock::ManualClock;
use naru_domain::ports::{
    Credentials, NamespaceOptions, Post, SubscribeClaims, SubscribeGrant, TokenError, TokenVerifier,
};
use naru_domain::{ChannelName, Durability, Position, PublicationMeta, Timestamp};
use naru_gateways::centrifuge::{ClientGateway, ClientOptions, Opening, PERSONAL_NAMESPACE};
use naru_gateways::connections::Socket;
use naru_hub::access::{Namespace, Namespaces};
use naru_hub::{Hub, HubOptions, LocalBus, LocalBusOptions};
use naru_wire::centrifuge::Protocol;
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything; the clock is paused, so that waiting costs nothing.
const SOON: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) gateway: ClientGateway,
    _tasks: JoinSet<()>,
}

/// `kept:` keeps 100 and lets everybody in; `present:` tells who comes and goes; `tagged:` allows filters and deltas, too; `closed:` allows nothing.
fn namespaces() -> (Namespaces, HashMap<String, NamespaceOptions>) {
    let kept = Namespace {
        has_history: true,
        force_recovery: true,
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        ..Namespace::default()
    };
    let named = HashMap::from([
        (
            "present".to_owned(),
            Namespace { join_leave: true, force_push_join_leave: true, ..kept.clone() },
        ),
        (
            "tagged".to_owned(),
            Namespace { allow_tags_filter: true, allow_fossil_delta: true, ..kept.clone() },
        ),
        ("kept".to_owned(), kept),
        ("closed".to_owned(), Namespace::default()),
        (PERSONAL_NAMESPACE.to_owned(), Namespace::personal()),
    ]);
    let keeping = |history_size| NamespaceOptions {
        history_size,
        durability: Durability::Memory,
        ..NamespaceOptions::default()
    };
    let options = [("kept", 100), ("present", 100), ("tagged", 100), (PERSONAL_NAMESPACE, 100)];
    let options = options.map(|(name, size)| (name.to_owned(), keeping(size)));
    (Namespaces { default: Namespace::default(), named }, HashMap::from(options))
}

impl World {
    pub(crate) fn new() -> World {
        World::with(ClientOptions { allow_anonymous: true, ..ClientOptions::default() })
    }

    pub(crate) fn with(options: ClientOptions) -> World {
        let clock = Arc::new(ManualClock::new(START));
        let (rules, kept) = namespaces();
        let bus = LocalBusOptions { namespaces: kept, ..LocalBusOptions::default() };
        let (bus, events) = LocalBus::new(bus, None, clock.clone());
        let hub = Hub::new(HubOptions::default(), Arc::new(bus), events, None, clock.clone());
        let tokens: Arc<dyn TokenVerifier> = Arc::new(Tokens);
        let gateway = ClientGateway::new(
            options,
            hub.clone(),
            Arc::new(ArcSwap::from_pointee(rules)),
            Arc::new(ArcSwap::from_pointee(tokens)),
            None,
            clock,
        );
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (running, ending) = (hub.clone(), stop.clone());
        tasks.spawn(async move { running.run(ending).await });
        tasks.spawn(gateway.clone().run(stop));
        World { hub, gateway, _tasks: tasks }
    }

    /// A client that said nothing.
    pub(crate) async fn open(&self) -> Client {
        let (near, far) = duplex(64 * 1024);
        let peer = SocketAddr::from(([192, 0, 2, 1], 4000));
        let opening = Opening {
            peer,
            protocol: Protocol::Json,
            deflate_window_bits: None,
            headers: Vec::new(),
        };
        let permit = self.gateway.admit(peer).unwrap();
        let socket = Socket::Boxed(Box::new(far));
        self.gateway.serve(permit, opening, async move { Some((socket, BytesMut::new())) });
        let ws = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        Client { ws, last_id: 0 }
    }

    /// A client of this user, and what its connect was answered with.
    pub(crate) async fn user(&self, name: &str) -> (Client, Value) {
        self.connect(json!({ "token": format!("token-of-{name}") })).await
    }

    /// A client that connects so.
    pub(crate) async fn connect(&self, request: Value) -> (Client, Value) {
        let mut client = self.open().await;
        let reply = client.ask("connect", request).await;
        assert!(reply["connect"].is_object(), "{reply}");
        (client, reply["connect"].clone())
    }

    /// Publishes as the server would.
    pub(crate) async fn publish(&self, channel: &str, data: Value) -> Position {
        let channel = ChannelName::parse(channel).unwrap();
        self.hub.publish(&channel, Post::new(data.to_string())).await.unwrap()
    }

    /// The same with a tag `k`.
    pub(crate) async fn publish_tagged(&self, channel: &str, data: Value, tag: &str) -> Position {
        let channel = ChannelName::parse(channel).unwrap();
        let tags = vec![("k".into(), tag.into())];
        let meta = Some(Arc::new(PublicationMeta { tags, ..PublicationMeta::default() }));
        let post = Post { meta, ..Post::new(data.to_string()) };
        self.hub.publish(&channel, post).await.unwrap()
    }
}

/// The token `token-of-NAME` is good for NAME, and `token-of-NAME-in-CHANNEL` subscribes it to the channel
/// at once, or lets it in there.
struct Tokens;

fn claims(token: &str) -> Result<(String, Option<String>), TokenError> {
    let rest = token.strip_prefix("token-of-").ok_or(TokenError::Invalid)?;
    Ok(match rest.split_once("-in-") {
        Some((user, channel)) => (user.to_owned(), Some(channel.to_owned())),
        None => (rest.to_owned(), None),
    })
}

impl TokenVerifier for Tokens {
    fn connect(&self, token: &str, _now: Timestamp) -> Result<Credentials, TokenError> {
        let (user, channel) = claims(token)?;
        let channels = channel.map(|name| (name, SubscribeGrant::default())).into_iter().collect();
        Ok(Credentials { user, channels, ..Credentials::default() })
    }

    fn subscribe(&self, token: &str, _now: Timestamp) -> Result<SubscribeClaims, TokenError> {
        let (user, channel) = claims(token)?;
        let channel = channel.ok_or(TokenError::Invalid)?;
        Ok(SubscribeClaims { user, channel, ..SubscribeClaims::default() })
    }
}

/// A client.
pub(crate) struct Client {
    ws: WebSocketStream<DuplexStream>,
    last_id: u32,
}

/// How a connection ended.
pub(crate) type Close = (u16, String);

impl Client {
    /// Sends a command and returns its id.
    pub(crate) async fn send(&mut self, command: &str, request: Value) -> u32 {
        self.last_id += 1;
        let text = json!({ "id": self.last_id, command: request }).to_string();
        self.ws.send(Message::text(text)).await.unwrap();
        self.last_id
    }

    /// Sends what is a frame of its own.
    pub(crate) async fn send_text(&mut self, text: String) {
        self.ws.send(Message::text(text)).await.unwrap();
    }

    /// Sends a command and waits for its reply, which is the next thing that comes.
    pub(crate) async fn ask(&mut self, command: &str, request: Value) -> Value {
        let id = self.send(command, request).await;
        let reply = self.next().await.expect("the connection ended");
        assert_eq!(reply["id"], id, "{reply}");
        reply
    }

    /// The code of the error that answers a command.
    pub(crate) async fn refused(&mut self, command: &str, request: Value) -> u64 {
        let reply = self.ask(command, request).await;
        reply["error"]["code"].as_u64().unwrap_or_else(|| panic!("not refused: {reply}"))
    }

    /// What comes next but pings; or how the connection ended.
    pub(crate) async fn next(&mut self) -> Result<Value, Close> {
        loop {
            match timeout(SOON, self.ws.next()).await.expect("nothing came") {
                Some(Ok(Message::Text(text))) if text.as_str() == "{}" => {
                    self.ws.send(Message::text("{}")).await.unwrap();
                }
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err((frame.code.into(), frame.reason.as_str().to_owned()));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The payload of the publication that comes next in this channel.
    pub(crate) async fn publication(&mut self, channel: &str) -> Value {
        let push = self.next().await.expect("the connection ended");
        assert_eq!(push["push"]["channel"], channel, "{push}");
        push["push"]["pub"]["data"].clone()
    }
}
