//! One connection of a STOMP client, from its first byte to the last. One task reads; whatever is said
//! to the client goes through its [`Outgoing`].

use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use naru_domain::CloseReason;
use naru_hub::Ending;
use naru_wire::stomp::session::{Action, Publish, Session};
use naru_wire::stomp::{
    Command, Decoder, ErrorFrame, Event as Decoded, Frame, Version, encode_client_frame,
    encode_error, encode_receipt,
};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::connect::Party;
use super::durable::SAVE_AFTER;
use super::link::{Bare, Heard, Link, wrap};
use super::listener::prepare;
use super::outlet::{CUT, DELIVER, WORK};
use super::send::Sending;
use super::trouble::{End, Trouble};
use super::{Shared, StompOpening};
use crate::connections::{Socket, introduced, report_gone};
use crate::limits::{FrameRate, Pace, UserShare};
use crate::outgoing::{END, EXPIRES, Outgoing, SharedTcp};
use crate::ws::{WsConnection, WsOptions};

/// After our last words the client may take so long to hang up.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// SENDs of one connection that are on their way at a time.
const SENDING_MAX: usize = 256;

/// Serves the connection until it ends.
pub(super) async fn run(
    socket: Socket,
    leftover: BytesMut,
    opening: StompOpening,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let bytes_max = shared.options.queue_bytes_max;
    shared.counters.accepted.increment();
    shared.counters.connections.add(1);
    let reason = match socket {
        Socket::Plain(tcp) => {
            prepare(&tcp);
            let tcp = Arc::new(tcp);
            let out = Arc::new(Outgoing::new(Some(Arc::clone(&tcp)), bytes_max));
            Talk::new(SharedTcp(tcp), leftover, out, opening, Arc::clone(&shared)).run(stop).await
        }
        Socket::Boxed(io) => {
            let out = Arc::new(Outgoing::new(None, bytes_max));
            Talk::new(io, leftover, out, opening, Arc::clone(&shared)).run(stop).await
        }
    };
    shared.counters.connections.add(-1);
    shared.counters.closed(reason);
}

/// A connection and what is known of who speaks on it.
pub(super) struct Talk<S> {
    pub(super) link: Link<S>,
    pub(super) out: Arc<Outgoing>,
    pub(super) shared: Arc<Shared>,
    pub(super) opening: Box<StompOpening>,
    pub(super) decoder: Decoder,
    pub(super) session: Session,
    pub(super) party: Option<Box<Party>>,
    /// SENDs that came in one go, with their receipts: they are on their way together, so that
    /// the bus can keep them together. Never locked: it only makes the whole shareable.
    sending: Mutex<Vec<(Option<Box<str>>, Sending)>>,
    /// What was read together with the handshake.
    leftover: Bytes,
    rate: FrameRate,
    /// Set while reading is paused.
    pause: Option<Pin<Box<Sleep>>>,
    /// Wakes the task when a transaction or the client's credentials run out.
    alarm: Option<Pin<Box<Sleep>>>,
}

enum Event {
    Bits(u32),
    Heard(Heard),
    Alarm,
    MayReadAgain,
    /// The client has nothing more to say for now.
    NothingMore,
    /// What waited was written, and a subscription that is behind can go on.
    MayCatchUp,
    Lost,
}

/// Headers that the receipt of a frame has besides its id.
pub(super) type Told = Vec<(&'static str, String)>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    fn new(
        io: S,
        leftover: BytesMut,
        out: Arc<Outgoing>,
        opening: StompOpening,
        shared: Arc<Shared>,
    ) -> Box<Talk<S>> {
        let limits = shared.options.frames;
        let (link, leftover) = match &opening.ws {
            None => (Link::Bare(Bare::new(io, Arc::clone(&out))), leftover.freeze()),
            Some(ws) => {
                let options = WsOptions {
                    message_bytes_max: limits.connect_bytes_max,
                    deflate_window_bits: ws.deflate_window_bits,
                };
                let ws = WsConnection::sharing(io, Arc::clone(&out), leftover, options);
                (Link::Ws(Box::new(ws)), Bytes::new())
            }
        };
        let subprotocol = opening.ws.and_then(|ws| ws.subprotocol);
        Box::new(Talk {
            link,
            out,
            opening: Box::new(opening),
            decoder: Decoder::new(limits),
            session: Session::new(Arc::clone(&shared.session_limits), subprotocol),
            party: None,
            sending: Mutex::default(),
            leftover,
            rate: FrameRate::new(Instant::now().into_std()),
            pause: None,
            alarm: None,
            shared,
        })
    }

    async fn run(mut self: Box<Self>, stop: CancellationToken) -> CloseReason {
        let end = match Box::pin(self.introduction(stop)).await {
            Ok(()) => self.talk().await,
            Err(end) => end,
        };
        // What was taken is answered before the last words; why that fails is not the client's end.
        drop(self.finish_sending().await);
        drop(self.save_positions().await);
        // Whoever publishes must not find a client that is going.
        let party = self.party.take();
        let reason = end.reason;
        drop(self.session.close());
        if let Some(party) = party {
            report_gone(self.shared.ports.backend.as_ref(), &party.caller, reason);
            debug!(
                target: "naru::stomp", client = %party.caller.client, user = %party.caller.user,
                reason = reason.label(), "client disconnected",
            );
        }
        Box::pin(self.leave(end)).await;
        reason
    }

    /// Until the client has said who it is.
    async fn introduction(&mut self, stop: CancellationToken) -> Result<(), End> {
        let limit = self.shared.options.connect_timeout;
        let introduction = async {
            let leftover = std::mem::take(&mut self.leftover);
            if !leftover.is_empty() {
                self.on_bytes(leftover).await?;
            }
            while self.party.is_none() {
                let event = poll_fn(|cx| self.poll_event(cx)).await;
                self.on_event(event).await?;
            }
            Ok(())
        };
        introduced(introduction, limit, stop).await
    }

    async fn talk(&mut self) -> End {
        loop {
            let event = poll_fn(|cx| self.poll_event(cx)).await;
            // Boxed: an idle connection must not carry the state of everything that can be asked.
            if let Err(end) = Box::pin(self.on_event(event)).await {
                return end;
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let event = self.poll_outside(cx);
        if event.is_pending() && !self.sending.get_mut().is_empty() {
            return Poll::Ready(Event::NothingMore);
        }
        event
    }

    fn poll_outside(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(bits) = self.out.poll_bits(cx) {
            return Poll::Ready(Event::Bits(bits));
        }
        let is_written = match self.link.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(Event::Lost),
            Poll::Pending => false,
        };
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            self.alarm = None;
            return Poll::Ready(Event::Alarm);
        }
        if is_written && self.may_catch_up() {
            return Poll::Ready(Event::MayCatchUp);
        }
        if let Some(pause) = &mut self.pause {
            return match pause.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.pause = None;
                    Poll::Ready(Event::MayReadAgain)
                }
                Poll::Pending => Poll::Pending,
            };
        }
        if !is_written && self.out.is_congested() {
            // Answers pile up: the client gets to ask again when it has read some.
            return Poll::Pending;
        }
        self.link.poll_heard(cx).map(Event::Heard)
    }

    async fn on_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Bits(bits) => self.on_bits(bits).await?,
            Event::Heard(Heard::Bytes(bytes)) => {
                self.heard();
                self.on_bytes(bytes).await?;
            }
            Event::Heard(Heard::Alive) => self.heard(),
            Event::MayReadAgain => {}
            Event::NothingMore => self.finish_sending().await?,
            Event::MayCatchUp => self.catch_up_all().await.map_err(|trouble| trouble.end(None))?,
            Event::Alarm => self.on_alarm().await?,
            Event::Heard(Heard::Ended) => return Err(End::quiet(CloseReason::PeerClosed)),
            Event::Heard(Heard::Failed(reason)) => return Err(End::from(reason)),
            Event::Heard(Heard::Lost) | Event::Lost => {
                return Err(End::quiet(CloseReason::ConnectionLost));
            }
        }
        // What was queued is written before anything else is looked at.
        Ok(())
    }

    async fn on_bits(&mut self, bits: u32) -> Result<(), End> {
        if bits & END != 0 {
            let ending = self.out.ending();
            return Err(End::ordered(
                &ending.unwrap_or_else(|| Ending::from(CloseReason::Internal)),
            ));
        }
        if bits & EXPIRES != 0 {
            let expires_at = self.out.ordered_expiry();
            if let Some(party) = self.party.as_mut() {
                party.expires_at = expires_at;
            }
            self.alarm = None;
            self.set_alarm();
        }
        if bits & DELIVER != 0 {
            self.deliver_all();
            self.set_alarm();
        }
        if bits & WORK != 0 {
            self.work_all();
        }
        if bits & CUT != 0 {
            self.on_cuts().await.map_err(|trouble| trouble.end(None))?;
        }
        Ok(())
    }

    fn heard(&self) {
        if let Some(party) = &self.party {
            party.outlet.heard();
        }
    }

    /// A piece of the stream: frames, or parts of them.
    async fn on_bytes(&mut self, bytes: Bytes) -> Result<(), End> {
        let read = self.on_frames(&bytes).await;
        if read.is_err() {
            // What came before something unusable is done and answered.
            self.finish_sending().await?;
        }
        let count = read?;
        self.set_alarm();
        let options = &self.shared.options;
        let (per_second, burst) = (options.frames_per_second, options.frames_burst);
        let now = Instant::now().into_std();
        let own = self.rate.take(count, per_second, burst, now);
        let share = self.party.as_ref().and_then(|party| party.share.as_ref());
        match UserShare::pace(share, own, count, now) {
            Pace::Go => Ok(()),
            Pace::Pause(pause) => {
                self.shared.counters.delayed_reads.increment();
                self.pause = Some(Box::pin(sleep(pause)));
                Ok(())
            }
            Pace::End => Err(End::from(CloseReason::RateLimited)),
        }
    }

    /// The frames of a piece. Returns how many they are.
    async fn on_frames(&mut self, mut bytes: &[u8]) -> Result<u32, End> {
        let mut count = 0;
        loop {
            match self.decoder.decode(&mut bytes) {
                Ok(None) => return Ok(count),
                Ok(Some(Decoded::HeartBeat)) => {}
                Ok(Some(Decoded::Frame(frame))) => {
                    count += 1;
                    self.shared.counters.frame(frame.command);
                    self.on_frame(frame).await?;
                }
                Err(bad) => {
                    debug!(target: "naru::stomp", error = bad.error.label(), "unusable frame");
                    return Err(End::bad_frame(&bad));
                }
            }
        }
    }

    async fn on_frame(&mut self, frame: Frame) -> Result<(), End> {
        let now = Instant::now().into_std();
        let accepted = self.session.on_frame(frame, now).map_err(|fatal| End::fatal(&fatal))?;
        let receipt = accepted.receipt;
        let may_overtake = matches!(accepted.action, Action::Settle(_)) && receipt.is_none();
        if !may_overtake && !matches!(accepted.action, Action::Send(_)) {
            self.finish_sending().await?;
        }
        let done = match accepted.action {
            Action::Nothing => Ok(Told::new()),
            Action::Connect(connect) => self.connect(connect).await,
            Action::Send(send) => return self.on_send(send, receipt).await,
            Action::Subscribe(subscribe) => self.subscribe(subscribe).await,
            Action::Unsubscribe(ended) => self.unsubscribe(&ended).await,
            Action::Settle(settle) => self.settle(&settle),
            Action::Commit(steps) => self.commit(steps).await,
            Action::Disconnect => {
                let kept = match self.save_positions().await {
                    Ok(()) if receipt.is_some() => self.keep_settled().await,
                    saved => saved,
                };
                kept.map_err(|trouble| trouble.end(receipt.clone()))?;
                self.give_receipt(receipt.as_deref(), &Told::new());
                return Err(End::quiet(CloseReason::PeerClosed));
            }
        };
        self.acknowledge(done, receipt).await
    }

    async fn on_send(&mut self, send: Publish, receipt: Option<Box<str>>) -> Result<(), End> {
        match self.send(send).await {
            Ok(Some(sending)) => self.sending.get_mut().push((receipt, sending)),
            Ok(None) if self.sending.get_mut().is_empty() => {
                return self.acknowledge(Ok(Told::new()), receipt).await;
            }
            Ok(None) => self.sending.get_mut().push((receipt, Box::pin(ready(Ok(()))))),
            Err(trouble) => return Err(trouble.end(receipt)),
        }
        if self.sending.get_mut().len() >= SENDING_MAX {
            self.finish_sending().await?;
        }
        Ok(())
    }

    /// Waits for the SENDs that are on their way, and gives their receipts in their order.
    async fn finish_sending(&mut self) -> Result<(), End> {
        if self.sending.get_mut().is_empty() {
            return Ok(());
        }
        // It takes a while: what the client waits for must not wait for it as well.
        self.out.flush();
        for (receipt, sending) in std::mem::take(self.sending.get_mut()) {
            let done = sending.await.map(|()| Told::new());
            self.acknowledge(done, receipt).await?;
        }
        Ok(())
    }

    /// Answers a frame. What a receipt says has taken effect is kept.
    async fn acknowledge(
        &mut self,
        done: Result<Told, Trouble>,
        receipt: Option<Box<str>>,
    ) -> Result<(), End> {
        let done = match (done, &receipt) {
            (Ok(told), Some(_)) if self.has_unsaved() => self.save_positions().await.map(|()| told),
            (done, _) => done,
        };
        let done = match (done, &receipt) {
            (Ok(told), Some(_)) if self.owes() => self.keep_settled().await.map(|()| told),
            (done, _) => done,
        };
        match done {
            Ok(told) => {
                self.give_receipt(receipt.as_deref(), &told);
                Ok(())
            }
            Err(trouble) => Err(trouble.end(receipt)),
        }
    }

    fn give_receipt(&self, receipt: Option<&str>, told: &Told) {
        let Some(receipt) = receipt else { return };
        let headers: Vec<_> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.say(encode_receipt(self.version(), receipt, &headers));
    }

    pub(super) fn version(&self) -> Version {
        self.session.version().unwrap_or(Version::V1_0)
    }

    pub(super) fn is_ws(&self) -> bool {
        self.opening.ws.is_some()
    }

    /// Queues a frame that is for this client alone.
    pub(super) fn say(&self, frame: Bytes) {
        let _flushed_with_the_rest = self.out.push(wrap(self.is_ws(), frame));
    }

    /// Sees to it that the task wakes when the next thing of this client runs out.
    pub(super) fn set_alarm(&mut self) {
        let transaction = self.session.next_deadline().map(Instant::from_std);
        let expiry = self.party.as_ref().and_then(|party| party.first_expiry());
        let expiry = expiry.map(|at| {
            // Wall time may jump, so the moment is looked at again when it comes.
            let wait = at.since(self.shared.ports.clock.now());
            Instant::now() + wait.clamp(Duration::from_millis(50), Duration::from_secs(3_600))
        });
        let position = self.has_unsaved().then(|| Instant::now() + SAVE_AFTER);
        let Some(first) = [transaction, expiry, position].into_iter().flatten().min() else {
            self.alarm = None;
            return;
        };
        // One that comes too early only looks again.
        if self.alarm.as_ref().is_none_or(|alarm| alarm.deadline() > first) {
            self.alarm = Some(Box::pin(sleep_until(first)));
        }
    }

    /// Something may have run out.
    async fn on_alarm(&mut self) -> Result<(), End> {
        self.session.on_time(Instant::now().into_std());
        // What fails now is tried again with the next position.
        drop(self.save_positions().await);
        self.renew_what_ran_out().await?;
        self.set_alarm();
        Ok(())
    }

    /// Says why, and lets the connection end in peace.
    async fn leave(&mut self, end: End) {
        if end.reason != CloseReason::ConnectionLost {
            let last = end.error.as_deref().map(|error| self.last_words(error, end.reason));
            let (code, reason) = close_code(end.reason);
            self.link.close(last.map(|frame| wrap(self.is_ws(), frame)), code, reason);
            // A peer that does not answer is left alone after a while.
            drop(timeout(FINISH_TIMEOUT, self.link.finish()).await);
        }
        self.out.shut();
    }

    fn last_words(&self, error: &ErrorFrame, reason: CloseReason) -> Bytes {
        self.shared.counters.error(error.code);
        let may_come_back = reason == CloseReason::Shutdown
            || (error.code == "unavailable" && error.receipt_id.is_none());
        if !may_come_back {
            return encode_error(self.session.version(), error);
        }
        // Not all at once: whoever takes over has to shake hands with each.
        let spread = u64::try_from(self.shared.options.return_spread.as_millis()).unwrap_or(0);
        let wait_ms = rand::random_range(0..=spread).to_string();
        let headers = [
            ("message", error.message.as_str()),
            ("code", error.code),
            ("retry-after-ms", &wait_ms),
            ("content-type", "text/plain"),
        ];
        encode_client_frame(self.version(), Command::Error, &headers, error.body.as_bytes())
    }
}

/// How a WebSocket says why it is closed.
fn close_code(reason: CloseReason) -> (u16, &'static str) {
    let code = match reason {
        CloseReason::PeerClosed => 1000,
        CloseReason::Shutdown => 1001,
        CloseReason::Malformed => 1002,
        CloseReason::FrameTooLarge => 1009,
        CloseReason::Internal => 1011,
        _ => 1008,
    };
    (code, reason.label())
}
