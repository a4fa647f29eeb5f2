//! `naru bench floor`: the least that a chat server over these sockets could do, to compare with.
//!
//! One thread, one epoll, no tasks, no timers. WebSocket upgrade, subscribe, publish, and one write
//! per delivery (or one per subscriber and wake-up). Positions and a short history, so that storms
//! have a floor too. No login, rights, limits, heart-beats or storage. It shares no code with the
//! servers that it is compared with.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::dialect::Dialect;
use super::{Target, Workload, ws};
use crate::text_table::note;

const LISTENER: Token = Token(usize::MAX);
const STOPPER: Token = Token(usize::MAX - 1);
const EVENTS_MAX: usize = 1024;
const READ_BYTES: usize = 256 << 10;
const BACKLOG: i32 = 4096;

/// Options of the bare server; with a workload, the load is aimed at one instead.
#[derive(clap::Args, Clone)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FloorArgs {
    /// How to serve.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// What clients do to a bare server that runs already.
    #[command(subcommand)]
    pub workload: Option<Workload<FloorTarget>>,
}

/// How the bare server serves.
#[derive(clap::Args, Clone)]
pub struct ServeArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:1600", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// How deliveries are written
    #[arg(long, default_value = "each", value_name = "MODE")]
    pub mode: Mode,
    /// Length of a delivered WebSocket frame: what the server to compare with sends
    #[arg(long, default_value_t = 250, value_name = "BYTES")]
    pub frame_bytes: usize,
    /// Publications of each channel that subscribers can come back for
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub history: usize,
}

/// How deliveries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One write for each.
    Each,
    /// One write for all that a subscriber gets in one wake-up.
    Batch,
}

/// Which bare server.
#[derive(clap::Args, Clone)]
pub struct FloorTarget {
    /// Address: ws://HOST:PORT/
    #[arg(long, default_value = "ws://127.0.0.1:1600/")]
    pub url: String,
}

impl Target for FloorTarget {
    fn url(&self) -> &str {
        &self.url
    }

    fn dialect(&self) -> Dialect {
        Dialect::Floor
    }

    fn name(&self) -> &'static str {
        "floor"
    }
}

/// Serves until the process is killed, or runs a workload.
///
/// # Errors
/// When the address cannot be bound, or the workload cannot begin.
pub fn run(args: FloorArgs) -> anyhow::Result<ExitCode> {
    if let Some(workload) = args.workload {
        return super::run(workload);
    }
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
    let floor = Floor::bind(&args.serve)?;
    note(&format!("floor listens on {}, pid {}", floor.address()?, std::process::id()));
    floor.serve()?;
    Ok(ExitCode::SUCCESS)
}

/// A bare server.
pub struct Floor {
    poll: Poll,
    listener: TcpListener,
    stop: Stop,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    rooms: Vec<Room>,
    names: HashMap<Box<[u8]>, usize>,
    mode: Mode,
    frame_bytes: usize,
    history: usize,
    /// Rooms with a batch to write. Only in [`Mode::Batch`].
    dirty: Vec<usize>,
    /// Input that is no whole frame yet, and output that a socket did not take. Hardly ever any.
    pending: HashMap<usize, Vec<u8>>,
    unsent: HashMap<usize, Vec<u8>>,
    frame: Vec<u8>,
    reply: Vec<u8>,
}

/// Ends a [`Floor::serve`] from another thread.
#[derive(Clone)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stop {
    /// Asks the server to return.
    ///
    /// # Errors
    /// When the server cannot be woken.
    pub fn stop(&self) -> io::Result<()> {
        self.asked.store(true, Ordering::Relaxed);
        self.waker.wake()
    }
}

struct Peer {
    stream: TcpStream,
    upgraded: bool,
    /// The room and the place among its members.
    room: Option<(u32, u32)>,
}

#[derive(Default)]
struct Room {
    members: Vec<u32>,
    /// Frames since the last wake-up. Only in [`Mode::Batch`].
    batch: Vec<u8>,
    /// The last frames; the newest has the position `next - 1`.
    history: VecDeque<Box<[u8]>>,
    next: u64,
}

impl Floor {
    /// Binds the address.
    ///
    /// # Errors
    /// When that fails.
    pub fn bind(args: &ServeArgs) -> anyhow::Result<Floor> {
        use socket2::{Domain, SockAddr, Socket, Type};
        let bind = || -> io::Result<TcpListener> {
            let socket = Socket::new(Domain::for_address(args.listen), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SockAddr::from(args.listen))?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener::from_std(socket.into()))
        };
        let mut listener = bind().with_context(|| format!("cannot bind {}", args.listen))?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), STOPPER)?);
        Ok(Floor {
            poll,
            listener,
            stop: Stop { asked: Arc::default(), waker },
            peers: Vec::new(),
            free: Vec::new(),
            rooms: Vec::new(),
            names: HashMap::new(),
            mode: args.mode,
            frame_bytes: args.frame_bytes,
            history: args.history,
            dirty: Vec::new(),
            pending: HashMap::new(),
            unsent: HashMap::new(),
            frame: Vec::new(),
            reply: Vec::new(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle to end it with.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// When waiting for sockets fails.
    pub fn serve(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut buffer = vec![0; READ_BYTES];
        while !self.stop.asked.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled.context("cannot wait for sockets")?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    STOPPER => {}
                    Token(id) => {
                        if event.is_writable() {
                            self.flush(id);
                        }
                        let ended = event.is_read_closed() || event.is_error();
                        if event.is_readable() || ended {
                            self.read(id, ended, &mut buffer);
                        }
                    }
                }
            }
            while let Some(room) = self.dirty.pop() {
                self.write_batch(room);
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                // The peer has gone already; others may wait behind it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let id = self.free.pop().unwrap_or(self.peers.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            let set_up = stream
                .set_nodelay(true)
                .and_then(|()| self.poll.registry().register(&mut stream, Token(id), interest));
            let peer = set_up.is_ok().then_some(Peer { stream, upgraded: false, room: None });
            if peer.is_none() {
                self.free.push(id);
            }
            match self.peers.get_mut(id) {
                Some(place) => *place = peer,
                None => self.peers.push(peer),
            }
        }
    }

    fn drop_peer(&mut self, id: usize) {
        let Some(peer) = self.peers.get_mut(id).and_then(Option::take) else { return };
        if let Some((room, place)) = peer.room {
            let members = &mut self.rooms[index(room)].members;
            members.swap_remove(index(place));
            if let Some(moved) = members.get(index(place)).copied()
                && let Some(Some(moved)) = self.peers.get_mut(index(moved))
            {
                moved.room = Some((room, place));
            }
        }
        self.pending.remove(&id);
        self.unsent.remove(&id);
        self.free.push(id);
    }

    fn read(&mut self, id: usize, to_the_end: bool, buffer: &mut [u8]) {
        while let Some(Some(peer)) = self.peers.get_mut(id) {
            let count = match peer.stream.read(buffer) {
                Ok(0) => return self.drop_peer(id),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.drop_peer(id),
            };
            let used = match self.pending.remove(&id) {
                None => {
                    let used = self.consume(id, &mut buffer[..count]);
                    if used < count {
                        self.pending.insert(id, buffer[used..count].to_vec());
                    }
                    used
                }
                Some(mut pending) => {
                    pending.extend_from_slice(&buffer[..count]);
                    let used = self.consume(id, &mut pending);
                    pending.drain(..used);
                    if !pending.is_empty() {
                        self.pending.insert(id, pending);
                    }
                    used
                }
            };
            if used == 0 && self.pending.get(&id).is_some_and(|p| p.len() > ws::FRAME_BYTES_MAX) {
                return self.drop_peer(id);
            }
            if !self.reply.is_empty() {
                let reply = std::mem::take(&mut self.reply);
                self.write(id, &reply);
                self.reply = reply;
                self.reply.clear();
            }
            if count < buffer.len() && !to_the_end {
                return;
            }
        }
    }

    /// Handles what is whole in `bytes`, and returns how much that was. Answers go to `reply`.
    fn consume(&mut self, id: usize, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        let Some(Some(peer)) = self.peers.get_mut(id) else { return bytes.len() };
        if !peer.upgraded {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return 0 };
            let head = String::from_utf8_lossy(&bytes[..end]);
            let Some(key) = ws::header(&head, "sec-websocket-key") else {
                self.drop_peer(id);
                return bytes.len();
            };
            peer.upgraded = true;
            at = end + 4;
            let accept = ws::accept_key(key.as_bytes());
            let response = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            self.reply.extend_from_slice(response.as_bytes());
        }
        while let Ok(Some(frame)) = ws::frame(&bytes[at..]) {
            let payload = &mut bytes[at + frame.start..at + frame.end];
            ws::apply_mask(frame.mask.unwrap_or_default(), payload);
            at += frame.end;
            match frame.opcode {
                ws::CLOSE => {
                    ws::append(ws::CLOSE, payload, None, &mut self.reply);
                    let reply = std::mem::take(&mut self.reply);
                    self.write(id, &reply);
                    self.drop_peer(id);
                    return bytes.len();
                }
                ws::PING => ws::append(ws::PONG, payload, None, &mut self.reply),
                _ => self.command(id, payload),
            }
        }
        at
    }

    fn command(&mut self, id: usize, payload: &[u8]) {
        match payload {
            [b'P', b' ', rest @ ..] => self.publish(rest),
            [b'Q', b' ', rest @ ..] => {
                let Some((request, rest)) = split_once(rest, b' ') else { return };
                self.publish(rest);
                let answer = [b"A ", request].concat();
                ws::append(ws::TEXT, &answer, None, &mut self.reply);
            }
            [b'S', b' ', name @ ..] => {
                self.join(id, name);
                ws::append(ws::TEXT, b"S", None, &mut self.reply);
            }
            [b'R', b' ', rest @ ..] => {
                let Some((position, name)) = split_once(rest, b' ') else { return };
                let room = self.join(id, name);
                ws::append(ws::TEXT, b"S", None, &mut self.reply);
                self.catch_up(room, position);
            }
            _ => ws::append(ws::TEXT, b"S", None, &mut self.reply),
        }
    }

    /// The room of a channel.
    fn room(&mut self, name: &[u8]) -> usize {
        if let Some(room) = self.names.get(name) {
            return *room;
        }
        self.names.insert(name.into(), self.rooms.len());
        self.rooms.push(Room::default());
        self.rooms.len() - 1
    }

    fn join(&mut self, id: usize, name: &[u8]) -> usize {
        let room = self.room(name);
        // Who comes now must not get what was published before.
        self.write_batch(room);
        if let Some(Some(peer)) = self.peers.get_mut(id)
            && peer.room.is_none()
        {
            let members = &mut self.rooms[room].members;
            peer.room = Some((short(room), short(members.len())));
            members.push(short(id));
        }
        room
    }

    fn catch_up(&mut self, room: usize, position: &[u8]) {
        let after: u64 =
            std::str::from_utf8(position).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let room = &self.rooms[room];
        let missed = usize::try_from(room.next.saturating_sub(after + 1)).unwrap_or(usize::MAX);
        let skip = room.history.len().saturating_sub(missed);
        for frame in room.history.iter().skip(skip) {
            self.reply.extend_from_slice(frame);
        }
    }

    fn publish(&mut self, content: &[u8]) {
        let Some((name, body)) = split_once(content, b'\n') else { return };
        let index = self.room(name);
        let room = &mut self.rooms[index];
        let head = format!("M {:010}\n", room.next);
        room.next += 1;
        let least = head.len() + body.len();
        // Two bytes of frame header up to 125, four above.
        let header = if self.frame_bytes <= 127 { 2 } else { 4 };
        let mut payload = Vec::with_capacity(least.max(self.frame_bytes));
        payload.extend_from_slice(head.as_bytes());
        payload.extend_from_slice(body);
        payload.resize(least.max(self.frame_bytes.saturating_sub(header)), b'.');
        self.frame.clear();
        ws::append(ws::TEXT, &payload, None, &mut self.frame);
        if self.history > 0 {
            if room.history.len() == self.history {
                room.history.pop_front();
            }
            room.history.push_back(self.frame.as_slice().into());
        }
        match self.mode {
            Mode::Each => {
                let frame = std::mem::take(&mut self.frame);
                self.write_to_all(index, &frame);
                self.frame = frame;
            }
            Mode::Batch => {
                if room.batch.is_empty() {
                    self.dirty.push(index);
                }
                room.batch.extend_from_slice(&self.frame);
            }
        }
    }

    fn write_batch(&mut self, room: usize) {
        let mut batch = std::mem::take(&mut self.rooms[room].batch);
        if !batch.is_empty() {
            self.write_to_all(room, &batch);
            batch.clear();
        }
        self.rooms[room].batch = batch;
    }

    fn write_to_all(&mut self, room: usize, bytes: &[u8]) {
        let members = std::mem::take(&mut self.rooms[room].members);
        for &member in &members {
            self.write(index(member), bytes);
        }
        self.rooms[room].members = members;
    }

    /// Writes now if nothing waits, and keeps what the socket does not take. Failures show when
    /// reading.
    fn write(&mut self, id: usize, bytes: &[u8]) {
        let Some(Some(peer)) = self.peers.get_mut(id) else { return };
        let written = if self.unsent.is_empty() || !self.unsent.contains_key(&id) {
            peer.stream.write(bytes).unwrap_or(0)
        } else {
            0
        };
        if written < bytes.len() {
            self.unsent.entry(id).or_default().extend_from_slice(&bytes[written..]);
        }
    }

    fn flush(&mut self, id: usize) {
        let Some(mut unsent) = self.unsent.remove(&id) else { return };
        let Some(Some(peer)) = self.peers.get_mut(id) else { return };
        let mut written = 0;
        while written < unsent.len() {
            match peer.stream.write(&unsent[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        unsent.drain(..written);
        if !unsent.is_empty() {
            self.unsent.insert(id, unsent);
        }
    }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, bytes)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}

fn short(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn index(short: u32) -> usize {
    usize::try_from(short).unwrap_or(usize::MAX)
}
