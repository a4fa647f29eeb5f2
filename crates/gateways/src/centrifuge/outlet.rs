//! The hub's way to a Centrifuge client: publications and news as frames of its encoding, made once and
//! shared by all who speak the same; and its pings.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use naru_domain::{ChannelName, CloseReason, Membership, PartyInfo, Publication, Timestamp};
use naru_hub::{Cut, Ending, Event, Mark, Outlet, Subscribed, Taken};
use naru_wire::centrifuge::{
    self as wire, ClientInfo, DisconnectCode, Payload, Protocol, Push, UnsubscribeCode, is_json,
};
use naru_wire::delta;
use naru_wire::ws::{Opcode, encode_frame};

use super::Shared;
use crate::outgoing::Outgoing;
use crate::turns::Turn;

/// The subscriber agreed to deltas.
pub(super) const DELTA: u32 = 1;
/// It got a publication since it subscribed, which the next delta may build upon.
const HAS_BASE: u32 = 2;
/// The server subscribed it: a gap ends the connection, not the subscription.
pub(super) const SERVER_SIDE: u32 = 4;

/// Nothing is asked; the next turn pings.
const IDLE: u8 = 0;
/// The ping is not answered yet.
const PINGED: u8 = 1;
/// It is, and the time to answer is not over.
const ANSWERED: u8 = 2;

/// One client's outgoing side.
pub(super) struct ClientOutlet {
    pub(super) out: Arc<Outgoing>,
    pub(super) protocol: Protocol,
    ping: AtomicU8,
    shared: Arc<Shared>,
}

impl ClientOutlet {
    pub(super) fn new(out: Arc<Outgoing>, protocol: Protocol, shared: Arc<Shared>) -> ClientOutlet {
        ClientOutlet { out, protocol, ping: AtomicU8::new(IDLE), shared }
    }

    /// A pong came. False if nothing was asked.
    pub(super) fn ponged(&self) -> bool {
        let (from, to) = (PINGED, ANSWERED);
        self.ping.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Puts a frame of its own around what was encoded.
    pub(super) fn frame(&self, payload: &[u8]) -> Bytes {
        frame(self.protocol, payload)
    }

    fn push(&self, push: &Push<'_>) {
        match wire::encode_push(self.protocol, push) {
            Ok(payload) => {
                if self.out.push(self.frame(&payload)) == Taken::FlushDue {
                    self.out.flush();
                }
            }
            Err(_unfit) => self.close_with(DisconnectCode::InappropriateProtocol),
        }
    }

    pub(super) fn close_with(&self, code: DisconnectCode) {
        self.out.end(&Ending {
            reason: super::close_reason_of(code),
            advice: Some((u32::from(code.code()), Arc::from(code.reason()))),
        });
    }
}

/// A WebSocket frame for connections with this encoding.
pub(super) fn frame(protocol: Protocol, payload: &[u8]) -> Bytes {
    let opcode = match protocol {
        Protocol::Json => Opcode::Text,
        Protocol::Protobuf => Opcode::Binary,
    };
    encode_frame(opcode, payload)
}

/// A party as the wire has it.
pub(super) fn client_info(party: &PartyInfo) -> ClientInfo<'_> {
    ClientInfo {
        user: &party.user,
        client: &party.client,
        conn_info: &party.conn_info,
        chan_info: &party.chan_info,
    }
}

/// A payload as a client of this encoding can read it. Text that is not JSON, such as a STOMP client may
/// publish, becomes a JSON string; `None` for bytes that are neither.
pub(super) fn payload<'a>(
    protocol: Protocol,
    data: &'a [u8],
    is_delta: bool,
) -> Option<Payload<'a>> {
    if protocol == Protocol::Protobuf {
        return Some(Payload::Embedded(data));
    }
    if is_delta {
        return std::str::from_utf8(data).ok().map(|_| Payload::Quoted(data));
    }
    if is_json(data) {
        return Some(Payload::Embedded(data));
    }
    std::str::from_utf8(data).ok().map(|_| Payload::Quoted(data))
}

/// A publication as the wire has it. `delta` replaces the payload.
pub(super) fn publication<'a>(
    protocol: Protocol,
    publication: &'a Publication,
    tags: &'a Option<std::collections::BTreeMap<String, String>>,
    delta: Option<&'a [u8]>,
    takes_deltas: bool,
) -> Option<wire::Publication<'a>> {
    let data = payload(protocol, delta.unwrap_or(&publication.data), takes_deltas)?;
    let info = publication.meta.as_ref().and_then(|meta| meta.publisher.as_ref());
    Some(wire::Publication {
        data,
        info: info.map(client_info),
        offset: publication.position.offset.0,
        tags: tags.as_ref(),
        delta: delta.is_some(),
    })
}

/// The tags of a publication, if it has some.
pub(super) fn tags(
    publication: &Publication,
) -> Option<std::collections::BTreeMap<String, String>> {
    let meta = publication.meta.as_ref()?;
    if meta.tags.is_empty() {
        return None;
    }
    Some(meta.tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
}

/// The difference between two payloads, if it is smaller than the newer one.
pub(super) fn difference<'a>(protocol: Protocol, old: &[u8], new: &[u8]) -> Option<Cow<'a, [u8]>> {
    match protocol {
        Protocol::Protobuf => delta::create(old, new).map(Cow::Owned),
        Protocol::Json => delta::create_text(old, new).map(|text| Cow::Owned(text.into_bytes())),
    }
}

/// The encodings of a publication, as the hub tells them apart.
fn kind(protocol: Protocol, takes_deltas: bool, is_delta: bool) -> u8 {
    let base = match protocol {
        Protocol::Json => super::KIND_BASE,
        Protocol::Protobuf => super::KIND_BASE + 3,
    };
    base + u8::from(takes_deltas) + u8::from(is_delta)
}

fn encode(
    event: &Event<'_>,
    protocol: Protocol,
    takes_deltas: bool,
    is_delta: bool,
) -> Option<Bytes> {
    let each = event.publication;
    let difference = if is_delta {
        event.previous.and_then(|previous| difference(protocol, &previous.data, &each.data))
    } else {
        None
    };
    let tags = tags(each);
    let publication = publication(protocol, each, &tags, difference.as_deref(), takes_deltas)?;
    let push = Push::Publication { channel: event.channel.as_str(), publication };
    wire::encode_push(protocol, &push).ok().map(|payload| frame(protocol, &payload))
}

impl Outlet for ClientOutlet {
    fn publication(&self, event: &Event<'_>, mark: &mut Mark) -> Taken {
        let takes_deltas = mark.bits & DELTA != 0;
        let is_delta = takes_deltas
            && mark.bits & HAS_BASE != 0
            && event.previous.is_some()
            && event.publication.meta.as_ref().is_some_and(|meta| meta.is_delta);
        if takes_deltas {
            mark.bits |= HAS_BASE;
        }
        let kind = kind(self.protocol, takes_deltas, is_delta);
        let frame =
            event.encoded(kind, None, || encode(event, self.protocol, takes_deltas, is_delta));
        match frame {
            Some(frame) => self.out.offer(frame),
            None => {
                self.close_with(DisconnectCode::InappropriateProtocol);
                Taken::Skipped
            }
        }
    }

    fn membership(&self, channel: &ChannelName, membership: &Membership, _mark: &Mark) -> Taken {
        let (channel, info) = (channel.as_str(), client_info(&membership.party));
        let push = match membership.has_joined {
            true => Push::Join { channel, info },
            false => Push::Leave { channel, info },
        };
        match wire::encode_push(self.protocol, &push) {
            Ok(payload) => match self.out.offer(self.frame(&payload)) {
                // It is not kept anywhere, so it is not owed to slow readers.
                Taken::Full => Taken::Skipped,
                taken => taken,
            },
            Err(_unfit) => Taken::Skipped,
        }
    }

    fn cut(&self, channel: &ChannelName, mark: &Mark, cut: &Cut) {
        let is_ours = mark.bits & SERVER_SIDE != 0;
        let (code, reason) = match cut {
            Cut::Ordered { code, reason } => (*code, Arc::clone(reason)),
            Cut::Expired if is_ours => {
                return self.close_with(DisconnectCode::SubscriptionExpired);
            }
            Cut::InsufficientState | Cut::Slow if is_ours => {
                return self.close_with(DisconnectCode::InsufficientState);
            }
            Cut::Expired => pair(UnsubscribeCode::Expired),
            Cut::InsufficientState | Cut::Slow => pair(UnsubscribeCode::InsufficientState),
        };
        self.push(&Push::Unsubscribe { channel: channel.as_str(), code, reason: &reason });
    }

    fn entered(&self, channel: &ChannelName, subscribed: &Subscribed, is_recoverable: bool) {
        let position = subscribed.position;
        let epoch = position.epoch.to_string();
        self.push(&Push::Subscribe {
            channel: channel.as_str(),
            recoverable: is_recoverable,
            epoch: if is_recoverable { &epoch } else { "" },
            offset: if is_recoverable { position.offset.0 } else { 0 },
            positioned: is_recoverable,
            data: &[],
        });
    }

    fn server_side_bits(&self) -> Option<u32> {
        Some(SERVER_SIDE)
    }

    fn expires(&self, at: Option<Timestamp>) {
        self.out.expire(at);
    }

    fn message(&self, data: &Bytes) {
        self.push(&Push::Message { data });
    }

    fn flush(&self) {
        self.out.flush();
    }

    fn close(&self, ending: &Ending) {
        self.out.end(ending);
    }
}

fn pair(code: UnsubscribeCode) -> (u32, Arc<str>) {
    (code.code(), Arc::from(code.reason()))
}

impl Turn for ClientOutlet {
    fn turn(&self) -> Option<Duration> {
        let options = &self.shared.options;
        if self.out.is_closed() {
            return None;
        }
        if self.out.blocked_for(Instant::now()) > options.write_timeout {
            self.out.end(&Ending::from(CloseReason::SlowReader));
            return None;
        }
        match self.ping.load(Ordering::Acquire) {
            PINGED => {
                self.shared.counters.pongs_missed.increment();
                self.close_with(DisconnectCode::NoPong);
                None
            }
            ANSWERED => {
                self.ping.store(IDLE, Ordering::Release);
                Some(options.ping_interval.saturating_sub(options.pong_timeout))
            }
            _ => {
                self.ping.store(PINGED, Ordering::Release);
                self.shared.counters.pings.increment();
                if self.out.push(self.shared.ping_frame(self.protocol)) == Taken::FlushDue {
                    self.out.flush();
                }
                Some(options.pong_timeout)
            }
        }
    }
}
