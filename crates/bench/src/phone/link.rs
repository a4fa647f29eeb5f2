//! The life of a phone's connection: connect, say hello, flush the queue, read, answer, break off,
//! come back after the real pauses. One task owns it; orders come in and events go out by channels.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::event::{Event, MediaItem};
use super::lines::Lines;
use super::media;
use super::queue::{FLUSH_FRAMES_MAX, FrameQueue, back_off};
use crate::proto::down::{self, Down, Item};
use crate::proto::up::{self, Chat, Monitoring};
use crate::proto::{Dialect, Identity, Script, Signer};
use crate::wall;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Real phones wait for ever; a simulated one should rather say that the server does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// 3.3.1 gives up when its handshake is not accepted within this time.
const TYPED_WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
const TYPED_HEARTBEAT: Duration = Duration::from_secs(30);
/// 3.3.1 sends its chat once a second.
const TYPED_FLUSH: Duration = Duration::from_secs(1);

/// What the person or script at the phone wants.
#[derive(Debug)]
pub(super) enum Order {
    Say(Chat),
    /// A line as it is, LF added; lost when not connected.
    Raw(String),
    /// Cut the connection; come back after the real pause.
    Drop,
    /// Cut the connection, if there is one, and come back at once.
    Reconnect,
}

/// How this phone behaves.
pub(super) struct Habits {
    pub(super) servers: Vec<String>,
    pub(super) script: Script,
    pub(super) tls: Option<TlsConnector>,
    /// Send the second, id-less copy that older scripts send in some app settings.
    pub(super) legacy_copies: bool,
    /// Be as busy with media as a real phone.
    pub(super) media_wait: bool,
    pub(super) save_media: Option<PathBuf>,
}

/// A phone and its queue.
pub(super) struct Link {
    habits: Habits,
    identity: Identity,
    signer: Signer,
    queue: FrameQueue,
    events: mpsc::Sender<Event>,
    server: usize,
    /// Attempts since the last TCP connection.
    attempts: u32,
    rooms: std::collections::BTreeSet<String>,
    media_count: usize,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection.
struct Line {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    lines: Lines,
    /// The receive thread sleeps until then.
    busy_until: Option<tokio::time::Instant>,
    welcomed: bool,
}

/// Why a connection ended.
enum End {
    /// After the pause of the scripts.
    Broken(String),
    /// At once: somebody asked for it.
    Reconnect,
    /// The phone was switched off.
    Off,
}

impl Link {
    pub(super) fn new(
        habits: Habits,
        identity: Identity,
        signer: Signer,
        events: mpsc::Sender<Event>,
    ) -> Link {
        Link {
            habits,
            identity,
            signer,
            queue: FrameQueue::default(),
            events,
            server: 0,
            attempts: 0,
            rooms: std::collections::BTreeSet::new(),
            media_count: 0,
        }
    }

    /// Lives until the orders end.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let why = match self.connect().await {
                Ok((server, line)) => {
                    self.attempts = 0;
                    self.tell(Event::Connected { server }).await;
                    match self.talk(line, &mut orders).await {
                        End::Off => return,
                        End::Reconnect => continue,
                        End::Broken(why) => {
                            self.attempts = 1;
                            let again_in_s = back_off(1).as_secs_f64();
                            Event::Disconnected { why, again_in_s }
                        }
                    }
                }
                Err(why) => {
                    self.attempts = self.attempts.saturating_add(1);
                    let again_in_s = back_off(self.attempts).as_secs_f64();
                    Event::ConnectFailed { why, again_in_s }
                }
            };
            self.tell(why).await;
            if !self.wait_offline(&mut orders, back_off(self.attempts)).await {
                return;
            }
        }
    }

    async fn tell(&self, event: Event) {
        // Nobody listens any more only while the phone is being switched off.
        self.events.send(event).await.unwrap_or_default();
    }

    /// Tries each server once, beginning with the one it was last connected to.
    async fn connect(&mut self) -> Result<(String, Line), String> {
        let mut failures = Vec::new();
        for _ in 0..self.habits.servers.len() {
            let server = self.habits.servers[self.server].clone();
            match tokio::time::timeout(CONNECT_TIMEOUT, self.open(&server)).await {
                Ok(Ok(line)) => return Ok((server, line)),
                Ok(Err(error)) => failures.push(format!("{server}: {error:#}")),
                Err(_elapsed) => failures.push(format!("{server}: no answer in 5 s")),
            }
            self.server = (self.server + 1) % self.habits.servers.len();
        }
        Err(failures.join("; "))
    }

    async fn open(&mut self, server: &str) -> anyhow::Result<Line> {
        let socket = TcpStream::connect(server).await?;
        self.identity.ip_address = socket.local_addr()?.ip().to_string();
        let stream: Box<dyn Stream> = match &self.habits.tls {
            Some(tls) => Box::new(tls.connect(super::tls::server_name(server)?, socket).await?),
            None => Box::new(socket),
        };
        let (reader, writer) = tokio::io::split(stream);
        Ok(Line { reader, writer, lines: Lines::default(), busy_until: None, welcomed: false })
    }

    /// Keeps what is said while there is no connection. False when the phone is switched off.
    async fn wait_offline(&mut self, orders: &mut mpsc::Receiver<Order>, pause: Duration) -> bool {
        let until = tokio::time::Instant::now() + pause;
        loop {
            match tokio::time::timeout_at(until, orders.recv()).await {
                Err(_elapsed) => return true,
                Ok(None) => return false,
                Ok(Some(Order::Reconnect)) => return true,
                Ok(Some(Order::Drop | Order::Raw(_))) => {}
                Ok(Some(Order::Say(chat))) => {
                    for frame in self.frames(&chat) {
                        self.enqueue(frame).await;
                    }
                    let waiting = self.queue.len();
                    self.tell(Event::Queued { room: chat.room, waiting }).await;
                }
            }
        }
    }

    async fn enqueue(&mut self, frame: Vec<u8>) {
        let frames = self.queue.push(Instant::now(), frame);
        if frames > 0 {
            self.tell(Event::Dropped { frames }).await;
        }
    }

    fn frames(&mut self, chat: &Chat) -> Vec<Vec<u8>> {
        self.rooms.insert(chat.room.clone());
        let (script, now_ms) = (&self.habits.script, wall::unix_ms());
        let mut frames = vec![up::chat(script, &self.identity, &self.signer, chat, now_ms)];
        if self.habits.legacy_copies {
            let hash = format!("{:x}", now_ms.wrapping_mul(0x9e37_79b9));
            frames.extend(up::legacy_copy(
                script,
                &self.identity,
                &self.signer,
                chat,
                &hash,
                now_ms,
            ));
        }
        frames
    }

    /// One connection from hello to its end.
    async fn talk(&mut self, mut line: Line, orders: &mut mpsc::Receiver<Order>) -> End {
        if let Err(error) = self.greet(&mut line).await {
            return End::Broken(format!("cannot write: {error}"));
        }
        let started = tokio::time::Instant::now();
        let mut heartbeat = tokio::time::interval_at(started + TYPED_HEARTBEAT, TYPED_HEARTBEAT);
        let mut flush = tokio::time::interval_at(started + TYPED_FLUSH, TYPED_FLUSH);
        let typed = self.habits.script.dialect == Dialect::Typed;
        loop {
            let busy_until = line.busy_until;
            let step = tokio::select! {
                order = orders.recv() => match order {
                    None => return End::Off,
                    Some(Order::Reconnect) => return End::Reconnect,
                    Some(Order::Drop) => return End::Broken("cut on request".to_owned()),
                    Some(Order::Raw(raw)) => line.write(format!("{raw}\n").as_bytes()).await,
                    Some(Order::Say(chat)) => self.say(&mut line, chat).await,
                },
                () = sleep_until(busy_until), if busy_until.is_some() => {
                    line.busy_until = None;
                    self.tell(Event::MediaDone).await;
                    Ok(())
                }
                received = line.lines.next(&mut line.reader), if busy_until.is_none() => {
                    match received {
                        Ok(Some(text)) => self.receive(&mut line, &text).await,
                        Ok(None) => return End::Broken("the server closed the connection".into()),
                        Err(error) => return End::Broken(format!("cannot read: {error}")),
                    }
                }
                _ = heartbeat.tick(), if typed && line.welcomed => {
                    line.write(&up::typed_heartbeat(wall::unix_ms())).await
                }
                _ = flush.tick(), if typed && line.welcomed => self.flush(&mut line, false).await,
                () = tokio::time::sleep_until(started + TYPED_WELCOME_TIMEOUT),
                    if typed && !line.welcomed =>
                {
                    return End::Broken("the handshake was not accepted in 5 s".to_owned());
                }
            };
            if let Err(error) = step {
                return End::Broken(error.to_string());
            }
        }
    }

    /// Hello and queued frames, in the order of the script.
    async fn greet(&mut self, line: &mut Line) -> io::Result<()> {
        let now_ms = wall::unix_ms();
        let hello = up::hello(&self.habits.script, &self.identity, &self.signer, now_ms);
        if self.habits.script.hello_queued {
            // Ten queued frames keep the handshake from leaving; it then waits with the others.
            self.enqueue(hello).await;
            return self.flush(line, true).await;
        }
        line.write(&hello).await?;
        match self.habits.script.dialect {
            Dialect::Typed => Ok(()), // Its queue waits for the handshake to be accepted.
            Dialect::Json | Dialect::Raw => self.flush(line, true).await,
        }
    }

    /// Writes up to ten queued frames. `put_twice`: a frame that fails here is put back by two
    /// functions of the script, and so is sent twice later.
    async fn flush(&mut self, line: &mut Line, put_twice: bool) -> io::Result<()> {
        let mut frames = 0;
        while frames < FLUSH_FRAMES_MAX {
            let Some((made, frame)) = self.queue.pop(Instant::now()) else { break };
            if let Err(error) = line.write(&frame).await {
                if put_twice {
                    self.queue.put_back(made, frame.clone());
                }
                self.queue.put_back(made, frame);
                return Err(error);
            }
            frames += 1;
        }
        let waiting = self.queue.len();
        let only_hello = frames == 1 && self.habits.script.hello_queued && waiting == 0;
        if frames > 0 && !only_hello {
            self.tell(Event::Flushed { frames, waiting }).await;
        }
        Ok(())
    }

    async fn say(&mut self, line: &mut Line, chat: Chat) -> io::Result<()> {
        for frame in self.frames(&chat) {
            if self.habits.script.dialect == Dialect::Typed {
                self.enqueue(frame).await;
            } else if let Err(error) = line.write(&frame).await {
                self.queue.put_back(Instant::now(), frame);
                return Err(error);
            }
        }
        self.tell(Event::Sent { room: chat.room, text: chat.text }).await;
        Ok(())
    }

    async fn receive(&mut self, line: &mut Line, text: &str) -> io::Result<()> {
        match down::decode(&self.habits.script, text) {
            Down::Ignored(why) => {
                let line = text.chars().take(200).collect();
                self.tell(Event::Ignored { why, line }).await;
            }
            Down::Welcome { success, approved, message } => {
                self.tell(Event::Welcome { success, approved, message }).await;
                return self.welcomed(line, success).await;
            }
            Down::Ping { server_timestamp } => {
                let answer = up::ping_answer(
                    &self.habits.script,
                    &self.identity,
                    &self.signer,
                    server_timestamp.as_deref(),
                    self.monitoring(),
                    wall::unix_ms(),
                );
                line.write(&answer).await?;
                self.tell(Event::PingAnswered).await;
            }
            Down::Text { event: kind, room, channel_id, text } => {
                self.tell(Event::Reply { kind, room, channel_id, text }).await;
            }
            Down::Media { room, channel_id, kind, items, wait_ms } => {
                let items = self.take_items(items).await;
                let sizes: Vec<usize> =
                    items.iter().filter(|item| item.skipped.is_none()).map(|i| i.bytes).collect();
                let busy = media::wait(&self.habits.script, wait_ms, &sizes);
                let busy = if self.habits.media_wait { busy } else { Duration::ZERO };
                let busy_s = busy.as_secs_f64();
                self.tell(Event::Media { kind, room, channel_id, items, busy_s }).await;
                if !busy.is_zero() {
                    line.busy_until = Some(tokio::time::Instant::now() + busy);
                }
            }
            Down::Command(command) => {
                if command == "status" {
                    let now_ms = wall::unix_ms();
                    line.write(&up::typed_status(&self.identity, self.monitoring(), now_ms))
                        .await?;
                }
                self.tell(Event::Command { command }).await;
            }
        }
        Ok(())
    }

    async fn welcomed(&mut self, line: &mut Line, success: bool) -> io::Result<()> {
        if !success {
            return Err(io::Error::other("the server refused the handshake"));
        }
        line.welcomed = true;
        if self.habits.script.dialect == Dialect::Typed {
            let now_ms = wall::unix_ms();
            line.write(&up::typed_status(&self.identity, self.monitoring(), now_ms)).await?;
        }
        Ok(())
    }

    fn monitoring(&self) -> Monitoring {
        Monitoring::plausible(self.queue.len(), self.rooms.len())
    }

    async fn take_items(&mut self, items: Vec<Item>) -> Vec<MediaItem> {
        self.media_count += 1;
        let mut taken = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let item = self.take_item(index + 1, item).await;
            taken.push(item.unwrap_or_else(|error| MediaItem {
                bytes: 0,
                saved: None,
                skipped: Some(format!("{error:#}")),
            }));
        }
        taken
    }

    async fn take_item(&self, index: usize, item: Item) -> anyhow::Result<MediaItem> {
        let received = media::receive(&self.habits.script, item).await?;
        let saved = match &self.habits.save_media {
            Some(folder) => Some(media::save(folder, self.media_count, index, &received).await?),
            None => None,
        };
        Ok(MediaItem { bytes: received.bytes.len(), saved, skipped: None })
    }
}

impl Line {
    async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let writing = async {
            self.writer.write_all(frame).await?;
            self.writer.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
            Ok(written) => written,
            Err(_elapsed) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the server reads nothing"))
            }
        }
    }
}

async fn sleep_until(until: Option<tokio::time::Instant>) {
    if let Some(until) = until {
        tokio::time::sleep_until(until).await;
    }
}
