//! Connections without a WebSocket: a stream down, and requests up.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::Body;
use naru_gateways::centrifuge::{
    ClientOptions, EmulatedOpening, EventStream, Transport, Undelivered,
};
use naru_gateways::limits::Refused;
use naru_wire::centrifuge::{EmulationRequest, Protocol};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::world::World;

/// Longest wait for anything; the clock is paused, so that waiting costs nothing.
const SOON: Duration = Duration::from_secs(120);
const NODE: &str = "node-1";

fn world(options: ClientOptions) -> World {
    World::with(ClientOptions { node: NODE.to_owned(), ..options })
}

fn open(world: &World, transport: Transport, user: &str) -> Result<Streamed, Refused> {
    let peer = SocketAddr::from(([192, 0, 2, 1], 4000));
    let first = json!({ "id": 1, "connect": { "token": format!("token-of-{user}") } });
    let opening = EmulatedOpening { peer, transport, protocol: Protocol::Json };
    let permit = world.gateway.admit(peer).unwrap();
    let stream = world.gateway.open_emulated(permit, opening, first.to_string().as_bytes())?;
    Ok(Streamed { stream, transport, heard: VecDeque::new() })
}

struct Streamed {
    stream: EventStream,
    transport: Transport,
    heard: VecDeque<Value>,
}

impl Streamed {
    /// The next message; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        while self.heard.is_empty() {
            let piece = poll_fn(|cx| Pin::new(&mut self.stream).poll_frame(cx));
            let piece = timeout(SOON, piece).await.expect("nothing came")?.unwrap();
            let text = String::from_utf8(piece.into_data().unwrap().to_vec()).unwrap();
            let messages = match self.transport {
                Transport::HttpStream => text.strip_suffix('\n').unwrap().split('\n').collect(),
                Transport::Sse => {
                    let events = text.strip_suffix("\n\n").unwrap().split("\n\n");
                    events.map(|event| event.strip_prefix("data: ").unwrap()).collect::<Vec<_>>()
                }
            };
            self.heard.extend(messages.into_iter().map(|each| serde_json::from_str(each).unwrap()));
        }
        self.heard.pop_front()
    }

    /// The session that the answer to the connect names.
    async fn session(&mut self) -> String {
        let reply = self.next().await.unwrap();
        assert_eq!(reply["connect"]["node"], NODE, "{reply}");
        reply["connect"]["session"].as_str().unwrap().to_owned()
    }
}

fn post(session: &str, command: Value) -> EmulationRequest {
    let data = command.to_string().into();
    EmulationRequest { node: NODE.to_owned(), session: session.to_owned(), data }
}

#[tokio::test(start_paused = true)]
async fn commands_go_up_in_requests_and_answers_come_down_in_the_stream() {
    for transport in [Transport::HttpStream, Transport::Sse] {
        let world = world(ClientOptions::default());
        let mut bo = open(&world, transport, "bo").unwrap();
        let session = bo.session().await;
        assert_eq!(session.len(), 64);
        let subscribe = json!({ "id": 2, "subscribe": { "channel": "kept:a" } });
        world.gateway.pass_on(&post(&session, subscribe)).unwrap();
        assert_eq!(bo.next().await.unwrap()["subscribe"]["recoverable"], true);
        let large = "나루\n".repeat(50_000);
        world.publish("kept:a", json!(large)).await;
        assert_eq!(bo.next().await.unwrap()["push"]["pub"]["data"], large);
        // One that speaks of somebody else's session, or to another node, changes nothing.
        let command = || json!({ "id": 3, "unsubscribe": { "channel": "kept:a" } });
        let (own, other) = (post(&session, command()), post(&"0".repeat(64), command()));
        let elsewhere = EmulationRequest { node: "node-2".to_owned(), ..own.clone() };
        for lost in [other, elsewhere] {
            assert_eq!(world.gateway.pass_on(&lost), Err(Undelivered::UnknownSession));
        }
        world.gateway.pass_on(&own).unwrap();
        assert_eq!(bo.next().await.unwrap()["id"], 3);
    }
}

#[tokio::test(start_paused = true)]
async fn pings_are_asked_and_answered_as_anywhere() {
    let world = world(ClientOptions::default());
    let mut bo = open(&world, Transport::Sse, "bo").unwrap();
    let session = bo.session().await;
    for _ in 0..3 {
        assert_eq!(bo.next().await.unwrap(), json!({}));
        world.gateway.pass_on(&post(&session, json!({}))).unwrap();
    }
    assert_eq!(bo.next().await.unwrap(), json!({}));
    let last = bo.next().await.unwrap();
    assert_eq!(last, json!({ "push": { "disconnect": { "code": 3012, "reason": "no pong" } } }));
    assert_eq!(bo.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_stream_and_makes_room() {
    let world = world(ClientOptions { emulated_max: 1, ..ClientOptions::default() });
    let mut bo = open(&world, Transport::HttpStream, "bo").unwrap();
    let session = bo.session().await;
    assert_eq!(open(&world, Transport::HttpStream, "al").err(), Some(Refused::Total));
    let (mut watcher, _) = world.user("al").await;
    let told = json!({ "channel": "present:a" });
    watcher.ask("subscribe", told.clone()).await;
    assert_eq!(watcher.next().await.unwrap()["push"]["join"]["info"]["user"], "al");
    world.gateway.pass_on(&post(&session, json!({ "id": 2, "subscribe": told }))).unwrap();
    assert_eq!(bo.next().await.unwrap()["id"], 2);
    assert_eq!(watcher.next().await.unwrap()["push"]["join"]["info"]["user"], "bo");
    drop(bo);
    assert_eq!(watcher.next().await.unwrap()["push"]["leave"]["info"]["user"], "bo");
    let late = world.gateway.pass_on(&post(&session, json!({})));
    assert_eq!(late, Err(Undelivered::UnknownSession));
    open(&world, Transport::HttpStream, "al").unwrap().session().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_its_stream_is_cut_and_cannot_fill_our_memory() {
    let options = ClientOptions { queue_bytes_max: 64 * 1024, ..ClientOptions::default() };
    let world = world(options);
    let mut bo = open(&world, Transport::HttpStream, "bo").unwrap();
    let session = bo.session().await;
    let subscribe = json!({ "id": 2, "subscribe": { "channel": "kept:a" } });
    world.gateway.pass_on(&post(&session, subscribe)).unwrap();
    assert_eq!(bo.next().await.unwrap()["id"], 2);
    for _ in 0..50 {
        world.publish("kept:a", json!("x".repeat(10_000))).await;
    }
    // Its requests are not taken without end either.
    let history = || post(&session, json!({ "id": 3, "history": { "channel": "kept:a" } }));
    let refused = loop {
        match world.gateway.pass_on(&history()) {
            Ok(()) => tokio::task::yield_now().await,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Undelivered::TooMany);
    // It is not read for longer than anybody waits, and then its connection is gone.
    for _ in 0..60 {
        if world.hub.clients_of("bo").is_empty() {
            break;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(world.hub.clients_of("bo").is_empty());
    assert_eq!(world.gateway.pass_on(&history()), Err(Undelivered::UnknownSession));
    let mut bytes = 0;
    while let Some(message) = bo.next().await {
        bytes += message.to_string().len();
    }
    assert!(bytes < 200_000, "{bytes}");
}
