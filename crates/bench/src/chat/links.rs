//! The connections of a chat run: one thread, one epoll, one buffer for all. Brings connections up,
//! keeps them alive and hands what came to a [`Sink`]; what it means for a run is the sink's business.
//!
//! Raw readiness instead of a task per connection: nineteen thousand connections and a million
//! deliveries a second must fit on one core beside nothing else.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::net::TcpStream;
use mio::{Events, Interest as Ready, Poll, Token};
use socket2::{Domain, SockAddr, Socket, Type};

use super::dialect::{Dialect, Interest, Said, Standing, Topic};
use super::mark::{Found, Mark, Marks};
use super::url::{Transport, Url};
use super::ws;
use crate::load::connect::RunClock;

const SCRATCH_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 1024;
/// A connection that keeps us waiting this long ends the run.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
/// Unfinished input beyond this ends the connection: no run asks for so much.
const PENDING_BYTES_MAX: usize = ws::FRAME_BYTES_MAX + 16;

/// Whom the connections report to.
pub(super) trait Sink {
    /// One of our bodies came.
    fn delivered(&mut self, link: usize, mark: Mark, now_ns: u64);
    /// One of our bodies came and is not whole.
    fn spoilt(&mut self);
    /// Logged in, and subscribed if that was wanted.
    fn ready(&mut self, _link: usize, _standing: Standing) {}
    /// A publication said where it stands; only for those who wanted to know.
    fn positioned(&mut self, _link: usize, _position: &str) {}
    /// A publish was acknowledged.
    fn accepted(&mut self, _link: usize, _request: u64, _now_ns: u64) {}
    /// The connection is over. `asked` says whether we wanted that.
    fn ended(&mut self, _link: usize, _asked: bool) {}
}

/// What all connections together went through.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) ready: u64,
    /// Ended without being asked to.
    pub(super) cut: u64,
    pub(super) refused: u64,
    /// The first refusal or reason of an end.
    pub(super) first_fault: Option<String>,
    pub(super) reads: u64,
    pub(super) bytes: u64,
    /// Pings and heart-beats that the server sent.
    pub(super) beats: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Away,
    Connecting,
    Upgrading,
    LoggingIn,
    Ready,
    Leaving,
}

struct Link {
    stream: Option<TcpStream>,
    stage: Stage,
    topic: Option<u32>,
    /// Recover from here once logged in.
    after: Option<Box<str>>,
    /// Input that is no whole frame yet. Mostly empty, and without memory.
    pending: Vec<u8>,
    outgoing: Vec<u8>,
}

/// How connections are made.
pub(super) struct Manner {
    pub(super) url: Url,
    pub(super) dialect: Dialect,
    /// Number of local addresses (127.0.1.0 on) to connect from; 0 leaves the choice to the system.
    pub(super) sources: u16,
    /// Connections under way at once.
    pub(super) connecting_max: usize,
    pub(super) text_bytes: usize,
    /// Remember positions, and ask for subscriptions that can be recovered.
    pub(super) interested: bool,
    pub(super) topics: Vec<String>,
}

/// All connections of a run.
pub(super) struct Links {
    manner: Manner,
    poll: Poll,
    events: Events,
    links: Vec<Link>,
    pub(super) counts: Counts,
    pub(super) clock: RunClock,
    marks: Marks,
    keys: ws::MaskKeys,
    upgrade: Vec<u8>,
    scratch: Vec<u8>,
    message: Vec<u8>,
    /// WebSocket messages in several frames, and units in several messages. Hardly ever any.
    assembly: HashMap<usize, Vec<u8>>,
    opened: u64,
    beats: Beats,
}

/// Whose heart-beat is next, and since when.
struct Beats {
    since: Instant,
    sent: u64,
}

impl Links {
    pub(super) fn new(manner: Manner, count: usize) -> anyhow::Result<Links> {
        let need = u64::try_from(count).unwrap_or(u64::MAX).saturating_add(64);
        let granted = rlimit::increase_nofile_limit(need).context("cannot raise the file limit")?;
        if granted < need {
            bail!("{count} connections need {need} open files, and {granted} are allowed");
        }
        let (url, dialect) = (&manner.url, &manner.dialect);
        let upgrade = ws::request(&url.authority, &url.path, dialect.subprotocol());
        let clock = RunClock::start();
        let links = std::iter::repeat_with(|| Link {
            stream: None,
            stage: Stage::Away,
            topic: None,
            after: None,
            pending: Vec::new(),
            outgoing: Vec::new(),
        });
        Ok(Links {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            links: links.take(count).collect(),
            counts: Counts::default(),
            marks: Marks::new(manner.text_bytes),
            keys: ws::MaskKeys::new(clock.unix_ms(0)),
            clock,
            upgrade,
            scratch: vec![0; SCRATCH_BYTES],
            message: Vec::new(),
            assembly: HashMap::new(),
            opened: 0,
            beats: Beats { since: Instant::now(), sent: 0 },
            manner,
        })
    }

    /// Begins a connection in place `id`; a topic makes it a subscriber.
    pub(super) fn open(
        &mut self,
        id: usize,
        topic: Option<usize>,
        after: Option<Box<str>>,
    ) -> anyhow::Result<()> {
        let address = self.manner.url.address;
        let connect = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            // Closing resets: thousands of connections a second would else use up all ports in
            // TIME_WAIT.
            socket.set_linger(Some(Duration::ZERO))?;
            if let Some(source) = self.source() {
                socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
            }
            match socket.connect(&SockAddr::from(address)) {
                Err(error) if is_final(error.kind()) => return Err(error),
                _ => {}
            }
            Ok(TcpStream::from_std(socket.into()))
        };
        let mut stream = connect().with_context(|| format!("cannot connect to {address}"))?;
        let interest = Ready::READABLE | Ready::WRITABLE;
        self.poll.registry().register(&mut stream, Token(id), interest)?;
        self.opened += 1;
        let link = &mut self.links[id];
        link.stream = Some(stream);
        link.stage = Stage::Connecting;
        link.topic = topic.and_then(|topic| u32::try_from(topic).ok());
        link.after = after;
        Ok(())
    }

    fn source(&self) -> Option<IpAddr> {
        let sources = u64::from(self.manner.sources);
        let number = u16::try_from(self.opened.checked_rem(sources)?).unwrap_or(0);
        let [high, low] = number.to_be_bytes();
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, high.saturating_add(1), low)))
    }

    /// Opens connections `ids` and waits until all are ready.
    ///
    /// # Errors
    /// When one is refused or cut, or nothing happens for half a minute.
    pub(super) fn bring_up(
        &mut self,
        ids: std::ops::Range<usize>,
        sink: &mut impl Sink,
        mut purpose: impl FnMut(usize) -> (Option<usize>, Option<Box<str>>),
    ) -> anyhow::Result<()> {
        let (ready_before, cut_before) = (self.counts.ready, self.counts.cut);
        let wanted = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let parallel = u64::try_from(self.manner.connecting_max.max(1)).unwrap_or(u64::MAX);
        let (mut ids, mut opened) = (ids, 0);
        let mut last = (0, Instant::now());
        loop {
            let ready = self.counts.ready - ready_before;
            if ready == wanted {
                return Ok(());
            }
            if self.counts.cut > cut_before {
                let why = self.counts.first_fault.as_deref().unwrap_or("no reason given");
                bail!("connection {ready} was refused or cut: {why}");
            }
            while opened < ready.saturating_add(parallel) {
                let Some(id) = ids.next() else { break };
                let (topic, after) = purpose(id);
                self.open(id, topic, after)?;
                opened += 1;
            }
            if last.0 != ready {
                last = (ready, Instant::now());
            } else if last.1.elapsed() > PROGRESS_TIMEOUT {
                bail!("{ready} of {wanted} connections are ready and no more come");
            }
            self.turn(Duration::from_millis(100), sink)?;
        }
    }

    /// Waits for sockets at most for `timeout`, then handles everything that came.
    pub(super) fn turn(&mut self, timeout: Duration, sink: &mut impl Sink) -> anyhow::Result<()> {
        self.beat();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("cannot wait for sockets")?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let id = event.token().0;
            if event.is_writable() {
                self.writable(id, sink);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(id, event.is_read_closed() || event.is_error(), sink);
            }
        }
        self.events = events;
        Ok(())
    }

    fn writable(&mut self, id: usize, sink: &mut impl Sink) {
        if self.links[id].stage != Stage::Connecting {
            return self.flush(id);
        }
        let Some(stream) = &self.links[id].stream else { return };
        if let Ok(Some(error)) | Err(error) = stream.take_error() {
            return self.end(id, &error.to_string(), sink);
        }
        if stream.peer_addr().is_err() {
            return; // Still under way.
        }
        match self.manner.url.transport {
            Transport::WebSocket => {
                self.links[id].stage = Stage::Upgrading;
                let upgrade = std::mem::take(&mut self.upgrade);
                self.links[id].outgoing.extend_from_slice(&upgrade);
                self.upgrade = upgrade;
                self.flush(id);
            }
            Transport::Tcp => self.hello(id),
        }
    }

    fn topic<'a>(topics: &'a [String], link: &'a Link, interested: bool) -> Option<Topic<'a>> {
        let name = topics.get(usize::try_from(link.topic?).ok()?)?;
        let interest = match &link.after {
            Some(position) => Interest::After(position),
            None if interested => Interest::Recoverable,
            None => Interest::Live,
        };
        Some(Topic { name, interest })
    }

    fn hello(&mut self, id: usize) {
        let Manner { topics, interested, dialect, .. } = &self.manner;
        let topic = Self::topic(topics, &self.links[id], *interested);
        self.message.clear();
        dialect.hello(topic, &mut self.message);
        self.links[id].stage = Stage::LoggingIn;
        self.say_message(id);
    }

    fn logged_in(&mut self, id: usize, sink: &mut impl Sink) {
        let Manner { topics, interested, dialect, .. } = &self.manner;
        match Self::topic(topics, &self.links[id], *interested) {
            None => self.ready(id, Standing::default(), sink),
            Some(_) if dialect.subscribes_at_once() => {}
            Some(topic) => {
                self.message.clear();
                dialect.subscribe(topic, &mut self.message);
                self.say_message(id);
            }
        }
    }

    fn ready(&mut self, id: usize, standing: Standing, sink: &mut impl Sink) {
        let link = &mut self.links[id];
        if link.stage != Stage::LoggingIn {
            return;
        }
        link.stage = Stage::Ready;
        link.after = None;
        self.counts.ready += 1;
        sink.ready(id, standing);
    }

    fn say_message(&mut self, id: usize) {
        let message = std::mem::take(&mut self.message);
        self.queue(id, &message);
        self.message = message;
        self.flush(id);
    }

    /// Appends a message to what connection `id` has to say. [`Links::flush`] says it.
    pub(super) fn queue(&mut self, id: usize, message: &[u8]) {
        let opcode = if self.manner.dialect.is_binary() { ws::BINARY } else { ws::TEXT };
        match self.manner.url.transport {
            Transport::WebSocket => self.queue_frame(id, opcode, message),
            Transport::Tcp => self.links[id].outgoing.extend_from_slice(message),
        }
    }

    fn queue_frame(&mut self, id: usize, opcode: u8, payload: &[u8]) {
        let mask = Some(self.keys.next());
        ws::append(opcode, payload, mask, &mut self.links[id].outgoing);
    }

    /// Writes as much as the socket takes. What fails here shows when reading.
    pub(super) fn flush(&mut self, id: usize) {
        let link = &mut self.links[id];
        let Some(stream) = &mut link.stream else { return link.outgoing.clear() };
        let mut written = 0;
        while written < link.outgoing.len() {
            match stream.write(&link.outgoing[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => written = link.outgoing.len(),
            }
        }
        link.outgoing.drain(..written);
        // Subscribers say next to nothing; publishers go on needing it.
        if link.outgoing.is_empty() && link.topic.is_some() {
            link.outgoing = Vec::new();
        }
    }

    /// How many bytes connection `id` could not say yet.
    pub(super) fn unsaid(&self, id: usize) -> usize {
        self.links[id].outgoing.len()
    }

    /// Says goodbye as the protocol wants it; [`Sink::ended`] tells when it is over.
    pub(super) fn leave(&mut self, id: usize) {
        if let Some(goodbye) = self.manner.dialect.goodbye() {
            self.queue(id, goodbye);
        }
        if self.manner.url.transport == Transport::WebSocket {
            self.queue_frame(id, ws::CLOSE, &1000u16.to_be_bytes());
        }
        self.links[id].stage = Stage::Leaving;
        self.flush(id);
        let link = &self.links[id];
        if self.manner.url.transport == Transport::Tcp
            && let Some(stream) = &link.stream
            && stream.shutdown(Shutdown::Write).is_err()
        {
            // The server was faster, which shows when reading.
        }
    }

    /// Cuts the connection: the server sees a reset.
    pub(super) fn reset(&mut self, id: usize) {
        let link = &mut self.links[id];
        link.stream = None;
        link.stage = Stage::Away;
        link.after = None;
        link.pending = Vec::new();
        link.outgoing = Vec::new();
        self.assembly.remove(&id);
    }

    /// Connections that are logged in and subscribed.
    pub(super) fn alive(&self) -> usize {
        self.links.iter().filter(|link| link.stage == Stage::Ready).count()
    }

    fn end(&mut self, id: usize, why: &str, sink: &mut impl Sink) {
        let asked = matches!(self.links[id].stage, Stage::Leaving | Stage::Away);
        if self.links[id].stage == Stage::Away {
            return;
        }
        if !asked {
            self.counts.cut += 1;
            self.counts.first_fault.get_or_insert_with(|| why.to_owned());
        }
        self.reset(id);
        sink.ended(id, asked);
    }

    /// Sends the heart-beats that are due, spread evenly over time and connections.
    fn beat(&mut self) {
        let (Some(beat), Dialect::Stomp(login)) =
            (self.manner.dialect.beat(), &self.manner.dialect)
        else {
            return;
        };
        let count = u128::try_from(self.links.len()).unwrap_or(u128::MAX);
        // A tenth early, so that a busy moment makes none late.
        let interval_ms = u128::from(login.heart_beat_ms) * 9 / 10;
        let due = self.beats.since.elapsed().as_millis() * count / interval_ms.max(1);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        while self.beats.sent < due {
            let turn = u128::from(self.beats.sent) % count.max(1);
            let id = usize::try_from(turn).unwrap_or(0);
            self.beats.sent += 1;
            if self.links[id].stage != Stage::Ready {
                continue;
            }
            self.queue(id, beat);
            self.flush(id);
        }
    }

    fn read(&mut self, id: usize, to_the_end: bool, sink: &mut impl Sink) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(stream) = &mut self.links[id].stream {
            let count = match stream.read(&mut scratch) {
                Ok(0) => {
                    self.end(id, "the server closed the connection", sink);
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => {
                    self.end(id, &error.to_string(), sink);
                    break;
                }
            };
            self.counts.reads += 1;
            self.counts.bytes += u64::try_from(count).unwrap_or(0);
            let now_ns = self.clock.now_ns();
            self.take(id, &scratch[..count], now_ns, sink);
            // A short read emptied the socket (epoll(7)), unless its end has come already.
            if count < scratch.len() && !to_the_end {
                break;
            }
        }
        self.scratch = scratch;
    }

    fn take(&mut self, id: usize, bytes: &[u8], now_ns: u64, sink: &mut impl Sink) {
        if self.links[id].pending.is_empty() {
            let used = self.consume(id, bytes, now_ns, sink);
            if used < bytes.len() && self.links[id].stream.is_some() {
                self.links[id].pending.extend_from_slice(&bytes[used..]);
            }
            return;
        }
        let mut pending = std::mem::take(&mut self.links[id].pending);
        pending.extend_from_slice(bytes);
        let used = self.consume(id, &pending, now_ns, sink);
        if used < pending.len() && self.links[id].stream.is_some() {
            pending.drain(..used);
            if pending.len() > PENDING_BYTES_MAX {
                return self.end(id, "an endless frame", sink);
            }
            self.links[id].pending = pending;
        }
    }

    /// Handles what is whole in `bytes`, and returns how much that was.
    fn consume(&mut self, id: usize, bytes: &[u8], now_ns: u64, sink: &mut impl Sink) -> usize {
        let mut at = 0;
        if self.links[id].stage == Stage::Upgrading {
            match ws::response(bytes) {
                ws::Upgrade::Incomplete => return 0,
                ws::Upgrade::Refused(why) => {
                    self.end(id, &why, sink);
                    return bytes.len();
                }
                ws::Upgrade::Done(end) => at = end,
            }
            self.hello(id);
        }
        if self.manner.url.transport == Transport::Tcp {
            return self.units(id, bytes, false, now_ns, sink);
        }
        while at < bytes.len() {
            match ws::frame(&bytes[at..]) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let payload = &bytes[at + frame.start..at + frame.end];
                    self.frame(id, frame, payload, now_ns, sink);
                    at += frame.end;
                }
                Err(bad) => self.end(id, &format!("bad frame: {bad:?}"), sink),
            }
            if self.links[id].stream.is_none() {
                return bytes.len();
            }
        }
        at
    }

    fn frame(
        &mut self,
        id: usize,
        frame: ws::Frame,
        payload: &[u8],
        now_ns: u64,
        sink: &mut impl Sink,
    ) {
        match frame.opcode {
            _ if frame.mask.is_some() => self.end(id, "a masked frame of a server", sink),
            ws::TEXT | ws::BINARY if frame.fin && self.assembly.is_empty() => {
                let used = self.units(id, payload, true, now_ns, sink);
                if used < payload.len() && self.links[id].stream.is_some() {
                    self.assembly.insert(id, payload[used..].to_vec());
                }
            }
            ws::TEXT | ws::BINARY | ws::CONTINUATION => {
                let mut whole = self.assembly.remove(&id).unwrap_or_default();
                whole.extend_from_slice(payload);
                let used = match frame.fin {
                    true => self.units(id, &whole, true, now_ns, sink),
                    false => 0,
                };
                whole.drain(..used);
                if whole.len() > PENDING_BYTES_MAX {
                    return self.end(id, "an endless message", sink);
                }
                if !whole.is_empty() && self.links[id].stream.is_some() {
                    self.assembly.insert(id, whole);
                }
            }
            ws::PING => {
                self.counts.beats += 1;
                self.queue_frame(id, ws::PONG, payload);
                self.flush(id);
            }
            ws::PONG => {}
            ws::CLOSE => self.end(id, &reason(payload), sink),
            other => self.end(id, &format!("unknown opcode {other}"), sink),
        }
    }

    fn units(
        &mut self,
        id: usize,
        bytes: &[u8],
        whole: bool,
        now_ns: u64,
        sink: &mut impl Sink,
    ) -> usize {
        let mut at = 0;
        while let Some(unit) = self.manner.dialect.unit(&bytes[at..], whole) {
            self.unit(id, &bytes[at + unit.start..at + unit.end], now_ns, sink);
            at += unit.next;
            if self.links[id].stream.is_none() {
                return bytes.len();
            }
        }
        at
    }

    fn unit(&mut self, id: usize, unit: &[u8], now_ns: u64, sink: &mut impl Sink) {
        match self.manner.dialect.read(unit, self.manner.interested) {
            Said::Push => self.push(id, unit, now_ns, sink),
            Said::LoggedIn => self.logged_in(id, sink),
            Said::Subscribed(standing) => {
                self.ready(id, standing, sink);
                self.deliver(id, unit, now_ns, sink);
            }
            Said::Accepted(request) => sink.accepted(id, request, now_ns),
            Said::Ping => {
                self.counts.beats += 1;
                let pong = self.manner.dialect.pong();
                self.queue(id, pong);
                self.flush(id);
            }
            Said::Beat => self.counts.beats += 1,
            Said::Refused(why) => self.refused(id, &why, sink),
            Said::Other => {}
        }
    }

    fn refused(&mut self, id: usize, why: &str, sink: &mut impl Sink) {
        self.counts.refused += 1;
        self.counts.first_fault.get_or_insert_with(|| why.to_owned());
        if self.links[id].stage == Stage::LoggingIn {
            self.end(id, why, sink);
        }
    }

    fn push(&mut self, id: usize, unit: &[u8], now_ns: u64, sink: &mut impl Sink) {
        if !self.deliver(id, unit, now_ns, sink) {
            if let Some(why) = self.manner.dialect.fault_of_push(unit) {
                let why = why.into_owned();
                self.refused(id, &why, sink);
            }
            return;
        }
        if self.manner.interested
            && let Some(position) = self.manner.dialect.position_of_push(unit)
        {
            sink.positioned(id, position);
        }
    }

    /// Hands over every body in `unit`. False when there was none.
    fn deliver(&mut self, id: usize, unit: &[u8], now_ns: u64, sink: &mut impl Sink) -> bool {
        let mut from = 0;
        loop {
            match self.marks.find(unit, from) {
                Found::Mark(mark, next) => {
                    sink.delivered(id, mark, now_ns);
                    from = next;
                }
                Found::Spoilt => {
                    sink.spoilt();
                    return true;
                }
                Found::Nothing => return from > 0,
            }
        }
    }
}

/// Errors with which a connect has failed. Others say that it is under way, each system in its own
/// words, and a failure that comes later shows at the socket.
fn is_final(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::AddrInUse
            | Kind::AddrNotAvailable
            | Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::InvalidInput
            | Kind::NetworkUnreachable
            | Kind::PermissionDenied
    )
}

/// What a close frame says.
fn reason(payload: &[u8]) -> String {
    match payload.split_first_chunk::<2>() {
        None => "closed without a code".to_owned(),
        Some((code, why)) => {
            let code = u16::from_be_bytes(*code);
            format!("closed with {code} {}", String::from_utf8_lossy(why))
        }
    }
}
