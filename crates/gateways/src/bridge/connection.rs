//! One connection of a phone, from its first byte to its last: who is it, what does it say, what is it
//! owed. One task owns the socket and alone reads, writes and knows why it ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use naru_domain::ports::PhoneLine;
use naru_domain::{
    BotName, CloseReason, Delivery, DeliveryBody, DeviceId, Dialect, MediaItem, Offset, PhoneReply,
    ReplyBody, Timestamp, phone::PhoneHello,
};
use naru_hub::{Attachment, Wake};
use naru_wire::bridge::{self as wire, Auth, Frame, LineScan};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Shared;
use super::counters::BadFrame;
use super::guard::{self, Distrust};
use crate::limits::FrameRate;

/// The wheel's turn: time for a ping and a look at the deadlines.
pub(crate) const POKE_PING: u32 = 1;
/// The listener stops.
pub(crate) const POKE_STOP: u32 = 2;

/// How much is encoded before the socket must have taken some of it.
const OUT_HIGH_BYTES: usize = 256 * 1024;
/// Deliveries taken from the mailbox at once.
const TAKE_COUNT_MAX: usize = 512;
/// What one read takes at the most. The buffer is shared by all connections of a thread, so an idle
/// connection has none.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A goodbye may take so long: phones hang up at once when their stream ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(3);
/// A message of a phone that is gone may wait so long for room in the queue.
const LAST_WAIT: Duration = Duration::from_secs(300);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Serves the connection until it ends and says why it did.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) -> CloseReason {
    let mut socket = Socket { io, input: Vec::new(), scanned: 0 };
    // Boxed, because it is over in milliseconds and would make the long-lived future larger.
    let identified = Box::pin(async {
        let identify = identify(&mut socket, peer, shared);
        tokio::select! {
            () = stop.cancelled() => Err(CloseReason::Shutdown),
            identified = timeout(shared.options.handshake_timeout, identify) => {
                identified.unwrap_or(Err(CloseReason::HandshakeTimeout))
            }
        }
    })
    .await;
    let identified = match identified {
        Ok(identified) => identified,
        Err(reason) => return reason,
    };
    match Box::pin(Phone::enter(socket, identified, peer, shared)).await {
        Ok(phone) => {
            if stop.is_cancelled() {
                // The wheel's last poke may have come before this phone was on it.
                return CloseReason::Shutdown;
            }
            shared.counters.phones.add(1);
            let reason = phone.serve().await;
            shared.counters.phones.add(-1);
            reason
        }
        Err(reason) => reason,
    }
}

/// The transport with what was read from it and not used yet.
struct Socket<S> {
    io: S,
    input: Vec<u8>,
    /// How far `input` was searched for the end of a line.
    scanned: usize,
}

impl<S: AsyncRead + Unpin> Socket<S> {
    /// Reads what is there. `Ok(0)` is the end of the stream. Cancel safe.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {
                    self.input.extend_from_slice(buffer.filled());
                    Poll::Ready(Ok(buffer.filled().len()))
                }
            }
        })
    }

    /// Forgets what was used; an empty buffer is given back to the allocator.
    fn consume(&mut self, used: usize) {
        if used == self.input.len() {
            self.input = Vec::new();
        } else {
            self.input.drain(..used);
        }
        self.scanned = self.scanned.saturating_sub(used);
    }
}

/// Who the phone is: from its handshake, or from a signed frame that came before one, which is then
/// left in the input. Frames that say neither are counted and skipped.
async fn identify<S: AsyncRead + Unpin>(
    socket: &mut Socket<S>,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<Identified, CloseReason> {
    let max = shared.options.frame_bytes_max;
    let mut bad_frames = 0;
    loop {
        loop {
            let (end, next) = match wire::next_line(&socket.input, socket.scanned, max) {
                LineScan::Line { end, next } => (end, next),
                LineScan::NeedMore { scanned } => {
                    socket.scanned = scanned;
                    break;
                }
                LineScan::TooLong => return Err(CloseReason::FrameTooLarge),
            };
            match first_frame(&socket.input[..end], peer, shared) {
                First::Hello(identified) => {
                    socket.consume(next);
                    return Ok(identified);
                }
                First::Signed(identified) => return Ok(identified),
                First::Nothing => {}
                First::Bad => {
                    bad_frames += 1;
                    if bad_frames > shared.options.bad_frames_max {
                        return Err(CloseReason::Malformed);
                    }
                }
            }
            socket.consume(next);
            socket.scanned = 0;
        }
        match poll_fn(|cx| socket.poll_fill(cx)).await {
            Ok(0) => return Err(CloseReason::PeerClosed),
            Ok(bytes) => shared.counters.bytes_in.add(bytes as u64),
            Err(_) => return Err(CloseReason::ConnectionLost),
        }
    }
}

/// A phone's announcement, and whether it is to be answered with a welcome.
struct Identified {
    hello: PhoneHello,
    welcome: bool,
}

enum First {
    Hello(Identified),
    Signed(Identified),
    Nothing,
    Bad,
}

fn first_frame(line: &[u8], peer: SocketAddr, shared: &Shared) -> First {
    if line.is_empty() {
        return First::Nothing;
    }
    match wire::decode(line) {
        Ok(Frame::Hello(hello)) => {
            if hello.dialect == Dialect::Typed {
                // The only frame of that dialect that is signed, so the signature decides here.
                let now = shared.clock.now();
                let checked = match &hello.auth {
                    Some(auth) => guard::check_signature(&shared.keys.load(), auth, now),
                    None => Err(Distrust::Missing),
                };
                if let Err(why) = checked {
                    shared.counters.distrusted(why);
                    return First::Bad;
                }
            }
            match announce(&hello, peer) {
                Some(hello) => First::Hello(Identified { hello, welcome: true }),
                None => {
                    shared.counters.hellos_refused.increment();
                    First::Bad
                }
            }
        }
        Ok(Frame::Chat { auth, .. } | Frame::KeepAlive { auth, .. }) => {
            let Some(auth) = auth else {
                shared.counters.distrusted(Distrust::Missing);
                return First::Bad;
            };
            let checked = guard::check_signature(&shared.keys.load(), &auth, shared.clock.now());
            if let Err(why) = checked {
                shared.counters.distrusted(why);
                return First::Bad;
            }
            match announce_by_signature(&auth, peer) {
                Some(hello) => First::Signed(Identified { hello, welcome: false }),
                None => First::Bad,
            }
        }
        Ok(Frame::Unknown { .. }) => {
            shared.counters.unknown_events.increment();
            First::Nothing
        }
        Ok(_) => First::Nothing,
        Err(error) => {
            shared.counters.bad_frame(BadFrame::Broken(error));
            First::Bad
        }
    }
}

fn announce(hello: &wire::Hello<'_>, peer: SocketAddr) -> Option<PhoneHello> {
    Some(PhoneHello {
        bot: BotName::parse(&hello.bot_name).ok()?,
        device: device_id(&hello.device_id)?,
        version: clip(&hello.version),
        client_type: clip(&hello.client_type),
        device_info: clip(&hello.device_info),
        device_ip: clip(&hello.device_ip),
        peer: peer.ip(),
        dialect: hello.dialect,
    })
}

fn announce_by_signature(auth: &Auth<'_>, peer: SocketAddr) -> Option<PhoneHello> {
    Some(PhoneHello {
        bot: BotName::parse(&auth.bot_name).ok()?,
        device: device_id(&auth.device_id)?,
        version: clip(&auth.version),
        client_type: clip(&auth.client_type),
        device_info: String::new(),
        device_ip: clip(&auth.ip_address),
        peer: peer.ip(),
        dialect: wire::choose_dialect(&auth.version, wire::HelloForm::Event),
    })
}

fn device_id(raw: &str) -> Option<DeviceId> {
    let raw = if raw.is_empty() { DeviceId::UNKNOWN } else { raw };
    DeviceId::parse(raw).ok()
}

/// What is only shown to people is cut, not refused.
fn clip(raw: &str) -> String {
    raw.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A frame in the output whose delivery counts as handed over when its last byte was written.
struct Mark {
    offset: Offset,
    /// Bytes of the connection's output up to and including this frame.
    end: u64,
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An identified phone on its connection.
struct Phone<'a, S> {
    socket: Socket<S>,
    shared: &'a Arc<Shared>,
    line: Arc<dyn PhoneLine>,
    attachment: Attachment,
    bot: BotName,
    device: DeviceId,
    dialect: Dialect,
    peer: SocketAddr,
    output: Vec<u8>,
    /// Bytes of `output` that were written.
    output_from: usize,
    /// Bytes written since the connection began.
    written: u64,
    marks: VecDeque<Mark>,
    /// Whether the journal knows the last mark.
    is_announced: bool,
    rate: FrameRate,
    bad_frames: u32,
    heard_at: Instant,
    /// Wall time of the read whose frames are being handled.
    read_at: Timestamp,
    /// Since when the socket takes nothing, while there is something to take.
    stalled_at: Instant,
    /// Until when the phone sleeps in media that we sent, as far as we can tell.
    asleep_until: Instant,
    /// Set while reading is paused: by a full queue or by the frame rate.
    waiting: Option<Waiting>,
}

/// Why the connection's task woke up.
enum Event {
    Wake(Wake),
    Filled(io::Result<usize>),
    Written(io::Result<usize>),
    MayReadAgain,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Phone<'a, S> {
    /// Greets the phone at the desk, takes its session and answers the handshake.
    ///
    /// On the heap, so that the future that lives as long as the connection holds a pointer and not
    /// several places for a value that moves: that was the larger part of an idle phone's memory.
    async fn enter(
        socket: Socket<S>,
        identified: Identified,
        peer: SocketAddr,
        shared: &'a Arc<Shared>,
    ) -> Result<Box<Phone<'a, S>>, CloseReason> {
        let Identified { hello, welcome } = identified;
        let (bot, device, dialect) = (hello.bot.clone(), hello.device.clone(), hello.dialect);
        let line = match shared.desk.hello(hello).await {
            Ok(line) => line,
            Err(error) => {
                // Closing makes the phone try again in 4 s, which is what we want of it.
                debug!(target: "naru::bridge", bot = %bot, %error, "handshake not served");
                return Err(CloseReason::Internal);
            }
        };
        let session = line.session();
        let taken = shared.hub.session(session).is_some_and(|view| view.is_attached());
        if taken && let Some(pause) = shared.takeover(line.device(), Instant::now()) {
            sleep(pause).await;
        }
        let attachment =
            shared.hub.attach(session, &peer.to_string()).map_err(|_gone| CloseReason::Internal)?;
        info!(
            target: "naru::bridge", bot = %bot, session = session.0, device = %device, %peer,
            dialect = dialect.label(), approved = line.is_approved(), "phone connected",
        );
        shared.wheel.add(attachment.poker(), rand_fraction(session.0));
        let now = Instant::now();
        let mut phone = Box::new(Phone {
            socket,
            shared,
            line,
            attachment,
            bot,
            device,
            dialect,
            peer,
            output: Vec::new(),
            output_from: 0,
            written: 0,
            marks: VecDeque::new(),
            is_announced: true,
            rate: FrameRate::new(now),
            bad_frames: 0,
            heard_at: now,
            read_at: shared.clock.now(),
            stalled_at: now,
            asleep_until: now,
            waiting: None,
        });
        if welcome {
            phone.welcome();
        }
        Ok(phone)
    }

    /// Talks until the connection ends.
    async fn serve(mut self: Box<Self>) -> CloseReason {
        // What came with the handshake is already here.
        let mut ended = self.use_input().err();
        while ended.is_none() {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            ended = self.on_event(event).err();
        }
        let reason = ended.unwrap_or(CloseReason::Internal);
        // Boxed: it comes once, and its state would be carried all along.
        Box::pin(self.leave(reason)).await;
        reason
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // With a full output the mailbox waits; closing and pokes still come through.
        if let Poll::Ready(wake) = self.attachment.poll_wake(cx) {
            return Poll::Ready(Event::Wake(wake));
        }
        if self.output_from < self.output.len() {
            self.announce();
            let pending = &self.output[self.output_from..];
            if let Poll::Ready(written) = Pin::new(&mut self.socket.io).poll_write(cx, pending) {
                return Poll::Ready(Event::Written(written));
            }
            // The socket took less than was announced: the journal must not say otherwise.
            self.attachment.retract();
            self.is_announced = false;
        }
        match &mut self.waiting {
            Some(waiting) => {
                if waiting.as_mut().poll(cx).is_ready() {
                    self.waiting = None;
                    return Poll::Ready(Event::MayReadAgain);
                }
                Poll::Pending
            }
            None => self.socket.poll_fill(cx).map(Event::Filled),
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), CloseReason> {
        match event {
            Event::Wake(Wake::Closed(reason)) => return Err(reason),
            Event::Wake(Wake::Deliveries) => self.encode_deliveries(),
            Event::Wake(Wake::Poked(bits)) => {
                if bits & POKE_STOP != 0 {
                    return Err(CloseReason::Shutdown);
                }
                if bits & POKE_PING != 0 {
                    self.ping()?;
                }
            }
            Event::Filled(Ok(0)) => return Err(CloseReason::PeerClosed),
            Event::Filled(Ok(bytes)) => {
                self.shared.counters.bytes_in.add(bytes as u64);
                self.read_at = self.shared.clock.now();
                self.use_input()?;
                // Direct work has answered by now: the answers go out with the same wake-up.
                self.encode_deliveries();
            }
            Event::Written(Ok(0)) | Event::Filled(Err(_)) | Event::Written(Err(_)) => {
                return Err(CloseReason::ConnectionLost);
            }
            Event::Written(Ok(bytes)) => self.note_written(bytes),
            Event::MayReadAgain => self.use_input()?,
        }
        Ok(())
    }

    /// Handles whole lines of the input until there is none, or reading must pause.
    fn use_input(&mut self) -> Result<(), CloseReason> {
        if self.waiting.is_some() || self.socket.input.is_empty() {
            return Ok(());
        }
        let max = self.line.frame_bytes_max().unwrap_or(self.shared.options.frame_bytes_max);
        let input = std::mem::take(&mut self.socket.input);
        let mut used = 0;
        let mut scanned = self.socket.scanned;
        let mut frames = 0;
        let mut ended = Ok(());
        while self.waiting.is_none() {
            match wire::next_line(&input[used..], scanned, max) {
                LineScan::Line { end, next } => {
                    let line = &input[used..used + end];
                    used += next;
                    scanned = 0;
                    frames += 1;
                    ended = self.on_line(line);
                    if ended.is_err() {
                        break;
                    }
                }
                LineScan::NeedMore { scanned: so_far } => {
                    scanned = so_far;
                    break;
                }
                LineScan::TooLong => {
                    ended = Err(CloseReason::FrameTooLarge);
                    break;
                }
            }
        }
        self.socket.input = input;
        self.socket.scanned = scanned;
        if used > 0 {
            let scanned = self.socket.scanned;
            self.socket.consume(used);
            self.socket.scanned = scanned;
            self.heard_at = Instant::now();
        }
        ended?;
        self.slow_down(frames);
        Ok(())
    }

    /// Pauses reading when the phone sends faster than it may. Nothing is dropped: the phone would
    /// never send it again.
    fn slow_down(&mut self, frames: u32) {
        let options = &self.shared.options;
        let (rate, burst) = (options.frames_per_second, options.frames_burst);
        if let Some(pause) = self.rate.take(frames, rate, burst, self.heard_at)
            && self.waiting.is_none()
        {
            self.shared.counters.delayed_reads.increment();
            let pause: Pin<Box<Sleep>> = Box::pin(sleep(pause));
            self.waiting = Some(pause);
        }
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), CloseReason> {
        if line.is_empty() {
            return Ok(());
        }
        let frame = match wire::decode(line) {
            Ok(frame) => frame,
            Err(error) => return self.bad_frame(BadFrame::Broken(error)),
        };
        match frame {
            Frame::Chat { chat, auth } => {
                // Frames with a log id are told apart by it, behind the desk.
                let content = if chat.log_id.is_none() { Some(&*chat.text) } else { None };
                if self.is_trusted(auth.as_ref(), content) {
                    return self.on_chat(chat);
                }
            }
            Frame::KeepAlive { answer, auth } => {
                if self.is_trusted(auth.as_ref(), None) {
                    self.bad_frames = 0;
                    self.shared.counters.keep_alives.increment();
                    if let Some(sent_at) = answer.sent_at {
                        let now = self.shared.clock.now();
                        self.shared.counters.note_round_trip(sent_at, now);
                    }
                    self.line.keep_alive(answer);
                }
            }
            Frame::Hello(hello) => self.on_repeated_hello(&hello),
            // Signs of life of 3.3.1, which want no answer.
            Frame::Heartbeat | Frame::Status => {}
            Frame::Unknown { .. } => self.shared.counters.unknown_events.increment(),
        }
        Ok(())
    }

    /// Whether the frame may act: signed with the bot's key, recently, for the first time, and by the
    /// phone that this connection belongs to. Identity comes from the connection, never from the frame.
    ///
    /// `content` is what tells the frame from others with the same signature, where that matters.
    fn is_trusted(&self, auth: Option<&Auth<'_>>, content: Option<&str>) -> bool {
        let checked = match auth {
            None if self.dialect == Dialect::Typed => Ok(()),
            None => Err(Distrust::Missing),
            Some(auth) => self.check(auth, content),
        };
        if let Err(why) = checked {
            self.shared.counters.distrusted(why);
            debug!(
                target: "naru::bridge", bot = %self.bot, session = self.line.session().0,
                why = why.label(), "frame ignored",
            );
            return false;
        }
        true
    }

    fn check(&self, auth: &Auth<'_>, content: Option<&str>) -> Result<(), Distrust> {
        guard::check_signature(&self.shared.keys.load(), auth, self.read_at)?;
        // The device id is not signed and may be missing; what is there must fit.
        let is_own_device = auth.device_id.is_empty() || auth.device_id == self.device.as_str();
        if auth.bot_name != self.bot.as_str() || !is_own_device {
            return Err(Distrust::Foreign);
        }
        let signature = auth.signature_bytes().ok_or(Distrust::Bad)?;
        self.shared.replays.lock().admit(&signature, self.peer.ip(), content, self.heard_at)
    }

    fn on_chat(&mut self, chat: wire::Chat<'_>) -> Result<(), CloseReason> {
        let units_max = self.shared.options.text_units_max;
        // Never more units than bytes, so most texts need no counting.
        if chat.text.len() > units_max && wire::utf16_units(&chat.text) > units_max {
            return self.bad_frame(BadFrame::TextTooLong);
        }
        self.bad_frames = 0;
        self.shared.counters.chats.increment();
        let chat = Box::new(chat.into_phone_chat(self.read_at));
        debug!(
            target: "naru::bridge", bot = %self.bot, session = self.line.session().0,
            log_id = chat.log_id.as_deref().unwrap_or(""), "chat received",
        );
        if let Err(chat) = self.line.chat(chat) {
            self.shared.counters.full_queue_waits.increment();
            let line = Arc::clone(&self.line);
            self.waiting = Some(Box::pin(async move { line.chat_when_room(chat).await }));
        }
        Ok(())
    }

    /// A second handshake on a live connection is answered again; phones send it after queued chat.
    fn on_repeated_hello(&mut self, hello: &wire::Hello<'_>) {
        let is_same = hello.bot_name == self.bot.as_str()
            && device_id(&hello.device_id).as_ref() == Some(&self.device);
        if !is_same {
            self.shared.counters.distrusted(Distrust::Foreign);
            return;
        }
        // Chat before it gave only what a signature holds; now the phone says the rest.
        if let Some(announced) = announce(hello, self.peer) {
            self.dialect = announced.dialect;
            let (desk, line) = (Arc::clone(&self.shared.desk), Arc::clone(&self.line));
            let refresh: Waiting = Box::pin(async move {
                if let Err(error) = desk.hello(announced).await {
                    debug!(target: "naru::bridge", device = line.device().0, %error, "not refreshed");
                }
            });
            // Reading goes on when the desk has answered, so that frames stay in order.
            if self.waiting.is_none() {
                self.waiting = Some(refresh);
            }
        }
        self.welcome();
    }

    fn welcome(&mut self) {
        self.shared.counters.hellos.increment();
        let approved = self.line.is_approved();
        let welcome = wire::Welcome {
            success: true,
            approved,
            message: if approved { "approved" } else { "waiting for approval" },
            server_version: &self.shared.options.server_version,
            now: self.shared.clock.now(),
        };
        let pad_to = self.shared.options.pad_to;
        wire::encode_welcome(&mut self.output, self.dialect, &welcome, pad_to);
    }

    fn bad_frame(&mut self, why: BadFrame) -> Result<(), CloseReason> {
        self.shared.counters.bad_frame(why);
        self.bad_frames += 1;
        if self.bad_frames > self.shared.options.bad_frames_max {
            return Err(CloseReason::Malformed);
        }
        Ok(())
    }

    /// The wheel's turn: are the deadlines over, and is the phone still there?
    fn ping(&mut self) -> Result<(), CloseReason> {
        let now = Instant::now();
        let options = &self.shared.options;
        let has_output = self.output_from < self.output.len();
        if now > self.heard_at.max(self.asleep_until) + options.idle_timeout {
            return Err(CloseReason::Idle);
        }
        if has_output && now > self.stalled_at.max(self.asleep_until) + options.write_timeout {
            return Err(CloseReason::SlowReader);
        }
        if has_output {
            // It reads nothing at the moment; one more ping would only queue behind the rest.
            return Ok(());
        }
        self.stalled_at = now;
        self.shared.counters.pings.increment();
        let sent_at = self.shared.clock.now();
        let bot = self.bot.as_str();
        wire::encode_ping(&mut self.output, self.dialect, bot, sent_at, sent_at, options.pad_to);
        Ok(())
    }

    /// Turns what the mailbox holds into bytes, as far as the output has room.
    fn encode_deliveries(&mut self) {
        let room = OUT_HIGH_BYTES.saturating_sub(self.output.len() - self.output_from);
        if room == 0 {
            return;
        }
        let mut deliveries = Vec::new();
        if self.attachment.take(TAKE_COUNT_MAX, room, &mut deliveries) == 0 {
            return;
        }
        if self.output_from == self.output.len() {
            self.stalled_at = Instant::now();
        }
        let now = self.shared.clock.now();
        for delivery in &deliveries {
            self.encode(delivery, now);
        }
        self.is_announced = false;
        if self.output_from == self.output.len() {
            // Nothing of it could be encoded: there will be no write to mark it as done.
            self.note_written(0);
        }
    }

    /// Tells the journal what the next write may carry.
    fn announce(&mut self) {
        if !self.is_announced
            && let Some(last) = self.marks.back()
        {
            self.attachment.handing_over(last.offset);
            self.is_announced = true;
        }
    }

    fn encode(&mut self, delivery: &Delivery, now: Timestamp) {
        match &delivery.body {
            DeliveryBody::Phone(reply) => {
                let (bot, pad_to) = (self.bot.as_str(), self.shared.options.pad_to);
                let before = self.output.len();
                let encoded =
                    wire::encode_reply(&mut self.output, self.dialect, bot, reply, now, pad_to);
                if let Err(error) = encoded {
                    self.output.truncate(before);
                    self.shared.counters.unsendable_replies.increment();
                    debug!(
                        target: "naru::bridge", bot = %self.bot,
                        session = self.line.session().0, %error, "reply not sent",
                    );
                }
                self.note_sleep(reply);
            }
            DeliveryBody::Gap { from, to } => {
                self.shared.counters.lost_replies.add(to.0 - from.0 + 1);
                info!(
                    target: "naru::bridge", bot = %self.bot, session = self.line.session().0,
                    from = from.0, to = to.0, "replies were cut from a full mailbox",
                );
            }
        }
        if delivery.offset.0 > 0 {
            let end = self.written + (self.output.len() - self.output_from) as u64;
            self.marks.push_back(Mark { offset: delivery.offset, end });
        }
    }

    /// The phone reads nothing while it shares media, so its deadlines move.
    fn note_sleep(&mut self, reply: &PhoneReply) {
        let ReplyBody::Media { items, wait, .. } = &reply.body else { return };
        let longest_without = Duration::from_secs(15);
        let links = items.iter().filter(|item| matches!(item, MediaItem::Link(_))).count();
        let downloads = Duration::from_secs(60) * u32::try_from(links).unwrap_or(u32::MAX).min(30);
        let sleep = wait.unwrap_or(longest_without) + downloads + Duration::from_secs(2);
        self.asleep_until = self.asleep_until.max(Instant::now()) + sleep;
    }

    fn note_written(&mut self, bytes: usize) {
        self.shared.counters.bytes_out.add(bytes as u64);
        self.output_from += bytes;
        self.written += bytes as u64;
        self.stalled_at = Instant::now();
        let mut handed_over = None;
        while let Some(mark) = self.marks.front() {
            if mark.end > self.written {
                break;
            }
            handed_over = Some(mark.offset);
            self.shared.counters.replies.increment();
            self.marks.pop_front();
        }
        if let Some(offset) = handed_over {
            self.attachment.handed_over(offset);
        }
        if self.output_from == self.output.len() {
            // An idle connection keeps no buffer.
            self.output = Vec::new();
            self.output_from = 0;
            self.marks = VecDeque::new();
            self.encode_deliveries();
        }
    }

    /// Sends what is encoded and then the end of the stream, which makes the phone hang up and come back
    /// later; and reads until it does, because what it wrote before would be lost otherwise. Replies made
    /// from now on wait for its next connection.
    async fn say_goodbye(&mut self) -> io::Result<()> {
        while self.output_from < self.output.len() {
            self.announce();
            let pending = &self.output[self.output_from..];
            let written =
                poll_fn(|cx| Pin::new(&mut self.socket.io).poll_write(cx, pending)).await?;
            self.note_written(written);
        }
        self.socket.io.shutdown().await?;
        loop {
            if let Some(waiting) = self.waiting.take() {
                waiting.await;
            }
            if self.use_input().is_err() || poll_fn(|cx| self.socket.poll_fill(cx)).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn leave(mut self: Box<Self>, reason: CloseReason) {
        if reason == CloseReason::Shutdown
            && timeout(GOODBYE_TIMEOUT, self.say_goodbye()).await.is_err()
        {
            debug!(target: "naru::bridge", bot = %self.bot, "the phone did not hang up in time");
        }
        // A message that waits for room in the queue was taken from the phone, so it must not be lost.
        if let Some(waiting) = self.waiting.take()
            && timeout(LAST_WAIT, waiting).await.is_err()
        {
            self.shared.counters.lost_chats.increment();
            warn!(
                target: "naru::bridge", bot = %self.bot, session = self.line.session().0,
                "a message found no room in the queue before its connection ended",
            );
        }
        info!(
            target: "naru::bridge", bot = %self.bot, session = self.line.session().0,
            reason = reason.label(), "phone disconnected",
        );
        let Phone { attachment, .. } = *self;
        attachment.end(reason);
    }
}

/// Spreads the first pings over the interval without a source of randomness: session numbers are dense.
fn rand_fraction(session: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let mixed = session.wrapping_mul(GOLDEN) >> 40;
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit a double")]
    let fraction = mixed as f64 / f64::from(1 << 24);
    fraction
}
