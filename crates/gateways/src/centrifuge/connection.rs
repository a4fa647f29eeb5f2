//! One connection of a Centrifuge client, from the upgrade to the last byte. One task reads; whatever is
//! said to the client goes through its [`Outgoing`].

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use naru_domain::ports::{Caller, ChannelRight};
use naru_domain::{ChannelName, CloseReason, Timestamp};
use naru_hub::{Connected, Ending};
use naru_wire::centrifuge::{
    self as wire, Answer, DisconnectCode, FrameLimits, Protocol, Reply, ReplyError, Request,
};
use naru_wire::ws::WsError;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::commands::Publishing;
use super::emulation::Emulated;
use super::outlet::{ClientOutlet, frame};
use super::{ClientGateway, Opening, Shared};
use crate::connections::{Socket, introduced, report_gone};
use crate::limits::{FrameRate, Pace, UserShare};
use crate::outgoing::{END, EXPIRES, Outgoing, SharedTcp};
use crate::ws::{WsConnection, WsEvent};

/// After our close frame the client may take so long to answer it.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection ends from inside.
pub(super) type End = Ending;

/// Serves the connection until it ends.
pub(super) async fn run(
    socket: Socket,
    leftover: BytesMut,
    opening: Opening,
    emulated: Option<Emulated>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let bytes_max = shared.options.queue_bytes_max;
    shared.counters.accepted.increment();
    shared.counters.connections.add(1);
    let options = ClientGateway::ws_options(&shared, &opening);
    let emulated = emulated.map(Box::new);
    let reason = match socket {
        Socket::Plain(tcp) => {
            let tcp = Arc::new(tcp);
            let out = Arc::new(Outgoing::new(Some(Arc::clone(&tcp)), bytes_max));
            let ws = WsConnection::sharing(SharedTcp(tcp), Arc::clone(&out), leftover, options);
            Talk::new(ws, out, opening, emulated, shared.clone()).run(stop).await
        }
        Socket::Boxed(io) => {
            let out = Arc::new(Outgoing::new(None, bytes_max));
            let ws = WsConnection::sharing(io, Arc::clone(&out), leftover, options);
            Talk::new(ws, out, opening, emulated, shared.clone()).run(stop).await
        }
    };
    shared.counters.connections.add(-1);
    shared.counters.closed(reason);
}

/// A connection and what is known of who speaks on it.
pub(super) struct Talk<S> {
    ws: WsConnection<S>,
    pub(super) out: Arc<Outgoing>,
    pub(super) shared: Arc<Shared>,
    pub(super) outlet: Arc<ClientOutlet>,
    pub(super) opening: Box<Opening>,
    /// Set if there is no WebSocket at the other end.
    pub(super) emulated: Option<Box<Emulated>>,
    pub(super) party: Option<Box<Party>>,
    rate: FrameRate,
    /// What the client published in one go, with the ids of its commands: it is on its way together, so
    /// that the bus can keep it together. Never locked: that only makes the whole shareable.
    pub(super) publishing: Mutex<Vec<(u32, Publishing)>>,
    /// Set while reading is paused, or until the next thing of this client runs out.
    pause: Option<Pin<Box<Sleep>>>,
}

/// A client that said who it is.
pub(super) struct Party {
    pub(super) connected: Connected,
    pub(super) caller: Caller,
    /// What it may do besides what namespaces let everybody do.
    pub(super) rights: Vec<ChannelRight>,
    /// What its user may say, on all connections together.
    pub(super) share: Option<UserShare>,
    /// When its credentials run out, and how that is noticed.
    pub(super) expires_at: Option<Timestamp>,
    /// The back end is asked for new ones, not the client.
    pub(super) is_refreshed_by_backend: bool,
    /// Subscriptions that run out.
    pub(super) running_out: Vec<RunningOut>,
    /// Wakes the task when the first of them does.
    pub(super) alarm: Option<Pin<Box<Sleep>>>,
}

/// A subscription that runs out.
pub(super) struct RunningOut {
    pub(super) channel: ChannelName,
    /// When something happens about it.
    pub(super) at: Timestamp,
    /// The back end is asked then; otherwise it ends.
    pub(super) asks_backend: bool,
}

enum Event {
    Bits(u32),
    Ws(WsEvent),
    Alarm,
    MayReadAgain,
    /// The client has nothing more to say for now.
    NothingMore,
    Lost,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    fn new(
        ws: WsConnection<S>,
        out: Arc<Outgoing>,
        opening: Opening,
        emulated: Option<Box<Emulated>>,
        shared: Arc<Shared>,
    ) -> Box<Talk<S>> {
        let protocol = opening.protocol;
        let outlet = ClientOutlet::new(Arc::clone(&out), protocol, Arc::clone(&shared));
        Box::new(Talk {
            ws,
            out,
            shared,
            outlet: Arc::new(outlet),
            opening: Box::new(opening),
            emulated,
            party: None,
            rate: FrameRate::new(Instant::now()),
            publishing: Mutex::default(),
            pause: None,
        })
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.opening.protocol
    }

    async fn run(mut self: Box<Self>, stop: CancellationToken) -> CloseReason {
        let ending = match Box::pin(self.introduction(stop)).await {
            Ok(()) => self.talk().await,
            Err(ending) => ending,
        };
        // What was taken is answered before the last words; why that fails is not the client's end.
        drop(self.finish_publishing().await);
        // Whoever publishes must not find a client that is going.
        let party = self.party.take();
        let reason = ending.reason;
        Box::pin(self.leave(ending)).await;
        if let Some(party) = party {
            report_gone(self.shared.backend.as_ref(), &party.caller, reason);
            debug!(
                target: "naru::client", client = %party.caller.client, user = %party.caller.user,
                reason = reason.label(), "client disconnected",
            );
        }
        reason
    }

    /// Until the client has said who it is.
    async fn introduction(&mut self, stop: CancellationToken) -> Result<(), End> {
        let limit = self.shared.options.stale_timeout;
        let introduction = async {
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
            // Boxed: an idle connection must not carry the state of every command there is.
            if let Err(ending) = Box::pin(self.on_event(event)).await {
                return ending;
            }
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let event = self.poll_outside(cx);
        if event.is_pending() && !self.publishing.get_mut().is_empty() {
            return Poll::Ready(Event::NothingMore);
        }
        event
    }

    fn poll_outside(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(bits) = self.out.poll_bits(cx) {
            return Poll::Ready(Event::Bits(bits));
        }
        if let Some(alarm) = self.party.as_mut().and_then(|party| party.alarm.as_mut())
            && alarm.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Event::Alarm);
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_ready() {
                self.pause = None;
                return Poll::Ready(Event::MayReadAgain);
            }
        } else if !self.out.is_congested()
            && let Poll::Ready(event) = self.ws.poll_event(cx)
        {
            return Poll::Ready(Event::Ws(event));
        }
        // There is nothing more to answer for now, so what was answered goes out in one write.
        match self.ws.poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(Event::Lost),
            // The client gets to ask again when it has read some answers.
            Poll::Ready(Ok(())) if self.pause.is_none() => self.ws.poll_event(cx).map(Event::Ws),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Bits(bits) => {
                if bits & END != 0 {
                    let ending = self.out.ending();
                    return Err(ending.unwrap_or_else(|| CloseReason::Internal.into()));
                }
                if bits & EXPIRES != 0 {
                    self.on_new_expiry();
                }
                Ok(())
            }
            Event::Ws(WsEvent::Message { data, .. }) => self.on_frame(data).await,
            Event::Ws(WsEvent::Ping | WsEvent::Pong(_)) | Event::MayReadAgain => Ok(()),
            Event::Ws(WsEvent::Closed { .. } | WsEvent::Ended) => {
                Err(CloseReason::PeerClosed.into())
            }
            Event::Ws(WsEvent::Failed(error)) => Err(failed(error).into()),
            Event::Ws(WsEvent::Lost(_)) | Event::Lost => Err(CloseReason::ConnectionLost.into()),
            Event::Alarm => self.on_alarm().await,
            Event::NothingMore => self.finish_publishing().await,
        }
    }

    /// A message of the client: one command or several.
    async fn on_frame(&mut self, data: Bytes) -> Result<(), End> {
        let limits = FrameLimits {
            commands_max: self.shared.options.commands_per_frame_max,
            ..FrameLimits::default()
        };
        let mut count = 0;
        let mut is_refused = false;
        for command in wire::decode_frame(self.protocol(), data, limits) {
            let command = command.map_err(|error| {
                debug!(target: "naru::client", error = error.label(), "unusable frame");
                bad_request()
            })?;
            count += 1;
            self.shared.counters.command(&command.request);
            if is_refused {
                // What came with a refused connect is not looked at; the client hangs up.
                continue;
            }
            if self.party.is_none() {
                let Request::Connect(connect) = command.request else { return Err(bad_request()) };
                is_refused = !self.connect(command.id, *connect).await?;
            } else {
                self.on_command(command.id, command.request).await?;
            }
        }
        let options = &self.shared.options;
        let (per_second, burst) = (options.commands_per_second, options.commands_burst);
        let now = Instant::now();
        let own = self.rate.take(count, per_second, burst, now);
        let share = self.party.as_ref().and_then(|party| party.share.as_ref());
        match UserShare::pace(share, own, count, now) {
            Pace::Go => Ok(()),
            Pace::Pause(pause) => {
                self.shared.counters.delayed_reads.increment();
                self.pause = Some(Box::pin(sleep(pause)));
                Ok(())
            }
            Pace::End => Err(disconnect(DisconnectCode::TooManyRequests)),
        }
    }

    /// Answers a command.
    pub(super) fn answer(&self, id: u32, answer: Answer<'_>) -> Result<(), End> {
        self.say(&Reply::ok(id, answer))
    }

    /// Refuses a command.
    pub(super) fn refuse<'a>(&self, id: u32, error: impl Into<ReplyError<'a>>) -> Result<(), End> {
        let error = error.into();
        self.shared.counters.error(error.code());
        self.say(&Reply { id, outcome: Err(error) })
    }

    fn say(&self, reply: &Reply<'_>) -> Result<(), End> {
        let frame = self.reply_frame(reply)?;
        self.out.push_own(frame);
        Ok(())
    }

    pub(super) fn reply_frame(&self, reply: &Reply<'_>) -> Result<Bytes, End> {
        match wire::encode_reply(self.protocol(), reply) {
            Ok(payload) => Ok(frame(self.protocol(), &payload)),
            Err(_unfit) => Err(disconnect(DisconnectCode::InappropriateProtocol)),
        }
    }

    /// Says why, and lets the connection end in peace.
    async fn leave(&mut self, ending: End) {
        let is_there =
            !matches!(ending.reason, CloseReason::ConnectionLost | CloseReason::PeerClosed);
        if is_there {
            let code = super::code_of(ending.reason);
            let (code, reason) = match &ending.advice {
                Some((code, reason)) => (u16::try_from(*code).unwrap_or(3000), &**reason),
                None => (code.code(), code.reason()),
            };
            self.ws.close(code, &wire::close_reason(reason));
        }
        if ending.reason != CloseReason::ConnectionLost {
            // A peer that does not answer is left alone after a while.
            drop(timeout(FINISH_TIMEOUT, self.ws.finish()).await);
        }
        self.out.shut();
    }
}

fn failed(error: WsError) -> CloseReason {
    match error.close_code() {
        1009 => CloseReason::FrameTooLarge,
        _ => CloseReason::Malformed,
    }
}

/// Ends the connection with one of the protocol's codes.
pub(super) fn disconnect(code: DisconnectCode) -> End {
    Ending {
        reason: super::close_reason_of(code),
        advice: Some((u32::from(code.code()), Arc::from(code.reason()))),
    }
}

pub(super) fn bad_request() -> End {
    disconnect(DisconnectCode::BadRequest)
}
