//! Clients that do what stock ones do: they come back by themselves, say where they were, and hold the
//! server to the promise: what they get is in order, without holes and repeats, or the hole was told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use naru_wire::stomp::{Command, Decoder, Event, Frame, Limits, Version, encode_client_frame};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::node::{Door, Site};

/// Whoever hears nothing for so long takes the link for dead; servers speak at least every 25 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a reader has of a channel.
#[derive(Default)]
pub(crate) struct Seen {
    epoch: Option<String>,
    /// Behind which its part of the channel begins.
    pub(crate) from: u64,
    pub(crate) up_to: u64,
    pub(crate) got: Vec<(u64, String)>,
    /// What it was told to be gone, both ends included.
    pub(crate) gaps: Vec<(u64, u64)>,
}

impl Seen {
    fn begin(&mut self, epoch: &str, from: u64) {
        self.epoch = Some(epoch.to_owned());
        (self.from, self.up_to) = (from, from);
    }

    fn publication(&mut self, offset: u64, text: &str) {
        assert_eq!(offset, self.up_to + 1, "a hole or a repeat that nobody told of");
        self.up_to = offset;
        self.got.push((offset, text.to_owned()));
    }

    /// Everything up to that offset is gone.
    fn lost(&mut self, up_to: u64) {
        assert!(up_to >= self.up_to, "what was read already is not gone");
        if up_to > self.up_to {
            self.gaps.push((self.up_to + 1, up_to));
            self.up_to = up_to;
        }
    }
}

/// A reader, shared with who looks at it.
#[derive(Clone)]
pub(crate) struct Reader {
    site: Arc<Site>,
    channel: &'static str,
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
}

impl Reader {
    pub(crate) fn new(site: &Arc<Site>, channel: &'static str) -> Reader {
        let site = Arc::clone(site);
        Reader { site, channel, seen: Arc::default(), changed: Arc::default() }
    }

    pub(crate) fn channel(&self) -> &'static str {
        self.channel
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock())
    }

    pub(crate) async fn until(&self, is_so: impl Fn(&Seen) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.seen(&is_so) {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock());
        self.changed.notify_waiters();
    }

    /// A Centrifuge client.
    pub(crate) async fn read_as_centrifuge(self) {
        loop {
            if let Some(mut client) = Centrifuge::connect(&self.site).await {
                self.follow_centrifuge(&mut client).await;
            }
        }
    }

    /// Until the link breaks or the server says that this has to begin anew.
    async fn follow_centrifuge(&self, client: &mut Centrifuge) -> Option<()> {
        let subscribe = self.seen(|seen| match &seen.epoch {
            None => json!({ "channel": self.channel }),
            Some(epoch) => json!({
                "channel": self.channel, "recover": true, "epoch": epoch, "offset": seen.up_to,
            }),
        });
        client.send(json!({ "id": 2, "subscribe": subscribe })).await?;
        loop {
            let said = client.next().await?;
            if said["id"] == 2 {
                self.change(|seen| subscribed(seen, &said["subscribe"]));
                if said.get("error").is_some() {
                    return None;
                }
            } else if let Some(publication) = said["push"].get("pub") {
                self.change(|seen| published(seen, publication));
            } else if said["push"].get("unsubscribe").is_some() {
                return None;
            }
        }
    }

    /// A STOMP client that keeps its position itself.
    pub(crate) async fn read_as_stomp(self) {
        loop {
            if let Some(mut client) = Stomp::connect(&self.site).await {
                self.follow_stomp(&mut client).await;
            }
        }
    }

    async fn follow_stomp(&self, client: &mut Stomp) -> Option<()> {
        let destination = format!("/topic/{}", self.channel);
        let place = self.seen(|seen| seen.epoch.as_ref().map(|e| format!("{e}:{}", seen.up_to)));
        let mut headers = vec![("id", "s"), ("destination", &destination), ("receipt", "s")];
        headers.extend(place.as_deref().map(|place| ("last-position", place)));
        client.send(Command::Subscribe, &headers, "").await?;
        loop {
            let frame = client.next().await?;
            let position = frame.header("position").and_then(|position| position.split_once(':'));
            match frame.command {
                Command::Receipt => {
                    let (epoch, offset) = position.expect("a position");
                    if place.is_none() {
                        self.change(|seen| seen.begin(epoch, offset.parse().unwrap()));
                    }
                }
                Command::Message => {
                    let (_, offset) = position.expect("a position");
                    let gap = frame.header("gap").and_then(|gap| gap.split_once('-'));
                    let text = String::from_utf8(frame.body.to_vec()).unwrap();
                    self.change(|seen| {
                        if let Some((from, to)) = gap {
                            assert_eq!(from.parse::<u64>().unwrap(), seen.up_to + 1);
                            seen.lost(to.parse().unwrap());
                        }
                        seen.publication(offset.parse().unwrap(), &text);
                    });
                }
                Command::Error => {
                    assert_eq!(frame.header("code"), Some("shutting_down"), "it did nothing wrong");
                    return None;
                }
                other => panic!("{other:?} from the server"),
            }
        }
    }
}

/// The answer says behind which offset the subscription begins.
fn subscribed(seen: &mut Seen, reply: &Value) {
    let Some(epoch) = reply["epoch"].as_str() else { return };
    let start = reply["offset"].as_u64().unwrap_or(0);
    match &seen.epoch {
        None => seen.begin(epoch, start),
        Some(known) => {
            assert_eq!(known, epoch, "epochs survive restarts");
            assert_eq!(reply["was_recovering"], true);
            if reply["recovered"] == true {
                assert_eq!(start, seen.up_to, "it goes on where it was");
            } else {
                seen.lost(start);
            }
        }
    }
    for publication in reply["publications"].as_array().into_iter().flatten() {
        published(seen, publication);
    }
}

fn published(seen: &mut Seen, publication: &Value) {
    seen.publication(publication["offset"].as_u64().unwrap(), &publication["data"].to_string());
}

/// What publishers were told: channels and texts.
#[derive(Clone)]
pub(crate) struct Acknowledged(Arc<watch::Sender<Vec<(&'static str, String)>>>);

impl Acknowledged {
    pub(crate) fn none() -> Acknowledged {
        Acknowledged(Arc::new(watch::Sender::new(Vec::new())))
    }

    fn add(&self, channel: &'static str, text: String) {
        self.0.send_modify(|all| all.push((channel, text)));
    }

    pub(crate) fn all(&self) -> Vec<(&'static str, String)> {
        self.0.borrow().clone()
    }

    /// Waits until so many more are.
    pub(crate) async fn more(&self, count: usize) {
        let mut changes = self.0.subscribe();
        let goal = changes.borrow().len() + count;
        // The sender is ours, so it does not go before us.
        drop(changes.wait_for(|all| all.len() >= goal).await);
    }
}

/// Says each text until it is acknowledged, always with the same key.
pub(crate) async fn publish_with_keys(
    site: Arc<Site>,
    channel: &'static str,
    texts: Vec<String>,
    acknowledged: Acknowledged,
) {
    let destination = format!("/topic/{channel}");
    let mut texts = texts.into_iter().peekable();
    while texts.peek().is_some() {
        let Some(mut client) = Stomp::connect(&site).await else { continue };
        while let Some(text) = texts.peek() {
            let headers = [
                ("destination", destination.as_str()),
                ("receipt", text.as_str()),
                ("idempotency-key", text.as_str()),
            ];
            let body = json!(text).to_string();
            if client.send(Command::Send, &headers, &body).await.is_none() {
                break;
            }
            let told = client.next().await;
            let Some(frame) = told.filter(|frame| frame.command == Command::Receipt) else { break };
            assert_eq!(frame.header("receipt-id"), Some(text.as_str()));
            acknowledged.add(channel, body);
            texts.next();
        }
    }
}

/// Says each text once; what becomes of it when the link breaks before the answer is open.
pub(crate) async fn publish_once(
    site: Arc<Site>,
    channel: &'static str,
    texts: Vec<String>,
    acknowledged: Acknowledged,
) {
    let mut client = None;
    for text in texts {
        let mut connected = loop {
            match client.take() {
                Some(client) => break client,
                None => client = Centrifuge::connect(&site).await,
            }
        };
        let publish = json!({ "id": 3, "publish": { "channel": channel, "data": text } });
        if connected.send(publish).await.is_some() {
            while let Some(said) = connected.next().await {
                if said["id"] == 3 {
                    if said.get("error").is_none() {
                        acknowledged.add(channel, json!(text).to_string());
                    }
                    client = Some(connected);
                    break;
                }
            }
        }
    }
}

/// A connection of a Centrifuge client, in JSON.
struct Centrifuge {
    ws: WebSocketStream<DuplexStream>,
    heard: Vec<Value>,
}

impl Centrifuge {
    async fn connect(site: &Site) -> Option<Centrifuge> {
        let link = site.connect(Door::Centrifuge).await?;
        let ws = WebSocketStream::from_raw_socket(link, Role::Client, None).await;
        let mut client = Centrifuge { ws, heard: Vec::new() };
        client.send(json!({ "id": 1, "connect": {} })).await?;
        let said = client.next().await?;
        said.get("connect").is_some().then_some(client)
    }

    async fn send(&mut self, command: Value) -> Option<()> {
        timeout(SILENCE_MAX, self.ws.send(Message::text(command.to_string()))).await.ok()?.ok()
    }

    /// What the server says next; pings are answered. `None` at the end of the link.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(said) = self.heard.pop() {
                if said == json!({}) {
                    self.send(json!({})).await?;
                    continue;
                }
                return Some(said);
            }
            match timeout(SILENCE_MAX, self.ws.next()).await.ok()??.ok()? {
                Message::Text(text) => {
                    let said = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    self.heard = said.collect();
                    self.heard.reverse();
                }
                Message::Close(close) => {
                    let code = close.map_or(0, |close| u16::from(close.code));
                    let is_final = (3500..4000).contains(&code) || (4500..5000).contains(&code);
                    assert!(!is_final, "a client that did nothing wrong is sent away: {code}");
                    return None;
                }
                _ => {}
            }
        }
    }
}

/// A connection of a STOMP client.
struct Stomp {
    io: DuplexStream,
    decoder: Decoder,
    heard: std::collections::VecDeque<Event>,
}

impl Stomp {
    async fn connect(site: &Site) -> Option<Stomp> {
        let io = site.connect(Door::Stomp).await?;
        let mut decoder = Decoder::new(Limits::default());
        decoder.set_version(Version::V1_2);
        let mut client = Stomp { io, decoder, heard: std::collections::VecDeque::new() };
        let headers = [("accept-version", "1.2"), ("host", "x"), ("heart-beat", "0,10000")];
        client.send(Command::Connect, &headers, "").await?;
        let frame = client.next().await?;
        (frame.command == Command::Connected).then_some(client)
    }

    async fn send(&mut self, command: Command, headers: &[(&str, &str)], body: &str) -> Option<()> {
        let frame = encode_client_frame(Version::V1_2, command, headers, body.as_bytes());
        timeout(SILENCE_MAX, self.io.write_all(&frame)).await.ok()?.ok()
    }

    /// The next frame; `None` at the end of the link.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.heard.pop_front() {
                Some(Event::Frame(frame)) => return Some(frame),
                Some(Event::HeartBeat) => continue,
                None => {}
            }
            let mut bytes = [0; 2048];
            let read = timeout(SILENCE_MAX, self.io.read(&mut bytes)).await.ok()?;
            let Ok(count @ 1..) = read else { return None };
            let mut rest = &bytes[..count];
            while let Some(event) = self.decoder.decode(&mut rest).expect("a readable frame") {
                self.heard.push_back(event);
            }
        }
    }
}
