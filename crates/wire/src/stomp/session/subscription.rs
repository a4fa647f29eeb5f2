//! One subscription: how it is named, and which of its deliveries wait for an ACK.

use std::collections::VecDeque;
use std::fmt;

use super::Unsettled;
use crate::stomp::ACK_ID_MARK;

/// The number of a subscription on its connection. Never used twice, unlike the client's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionKey(pub u32);

/// By what a delivery is acknowledged, unique on its connection. Written `SUBSCRIPTION-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckId {
    /// Whose delivery it is.
    pub subscription: SubscriptionKey,
    /// Which of the subscription's deliveries. The first is 1.
    pub number: u64,
}

impl AckId {
    /// Reads what [`fmt::Display`] wrote, and nothing else.
    pub(super) fn parse(text: &str) -> Option<AckId> {
        let (subscription, number) = text.split_once('-')?;
        let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_plain(subscription) || !is_plain(number) {
            return None;
        }
        let subscription = SubscriptionKey(subscription.parse().ok()?);
        Some(AckId { subscription, number: number.parse().ok()? })
    }

    /// Reads it from the end of a `message-id`, where it stands before 1.2.
    pub(super) fn parse_behind_mark(message_id: &str) -> Option<AckId> {
        AckId::parse(message_id.rsplit_once(ACK_ID_MARK)?.1)
    }
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.subscription.0, self.number)
    }
}

/// How deliveries are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Not at all.
    Auto,
    /// An ACK or NACK means this delivery and all before it.
    Client,
    /// An ACK or NACK means this delivery.
    ClientIndividual,
}

impl AckMode {
    pub(super) fn parse(name: &str) -> Option<AckMode> {
        match name {
            "auto" => Some(AckMode::Auto),
            "client" => Some(AckMode::Client),
            "client-individual" => Some(AckMode::ClientIndividual),
            _ => None,
        }
    }
}

/// How to deliver a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it is; the frame may be shared.
    Plain,
    /// With this to acknowledge it by.
    Acknowledged(AckId),
    /// Not now: as many as allowed wait for an ACK.
    WindowFull,
    /// Not at all: the subscription has ended.
    Gone,
}

/// One subscription.
#[derive(Debug)]
pub struct Subscription {
    id: Option<Box<str>>,
    destination: Box<str>,
    /// Nothing is allocated before the first delivery that must be acknowledged.
    unsettled: Option<Box<Waiting>>,
    key: SubscriptionKey,
    window: u16,
    mode: AckMode,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The number of the last delivery.
    last: u64,
    /// Number and token of those without an ACK, in the order of their numbers.
    deliveries: VecDeque<(u64, u64)>,
}

/// An emptied queue of up to this many places is kept for the next deliveries.
const PLACES_KEPT: usize = 32;

impl Subscription {
    pub(super) fn new(
        key: SubscriptionKey,
        id: Option<&str>,
        destination: &str,
        mode: AckMode,
        window: u16,
    ) -> Subscription {
        let (id, destination) = (id.map(Box::from), destination.into());
        Subscription { id, destination, unsettled: None, key, window, mode }
    }

    /// Its number.
    #[must_use]
    pub fn key(&self) -> SubscriptionKey {
        self.key
    }

    /// What the client calls it. In 1.0 it need not have an id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// To what.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// How its deliveries are acknowledged.
    #[must_use]
    pub fn mode(&self) -> AckMode {
        self.mode
    }

    /// How many deliveries wait for an ACK.
    #[must_use]
    pub fn unsettled_count(&self) -> usize {
        self.unsettled.as_ref().map_or(0, |waiting| waiting.deliveries.len())
    }

    /// Whether the next delivery would have to wait.
    #[must_use]
    pub fn is_window_full(&self) -> bool {
        self.mode != AckMode::Auto && self.unsettled_count() >= usize::from(self.window)
    }

    /// Whether a new subscription would be this one.
    pub(super) fn is_same(&self, id: Option<&str>, destination: &str) -> bool {
        match (self.id(), id) {
            (Some(have), Some(id)) => have == id,
            (None, None) => self.destination() == destination,
            _ => false,
        }
    }

    pub(super) fn deliver(&mut self, token: u64) -> Delivery {
        if self.mode == AckMode::Auto {
            return Delivery::Plain;
        }
        if self.is_window_full() {
            return Delivery::WindowFull;
        }
        let waiting = self.unsettled.get_or_insert_default();
        waiting.last += 1;
        waiting.deliveries.push_back((waiting.last, token));
        Delivery::Acknowledged(AckId { subscription: self.key, number: waiting.last })
    }

    pub(super) fn has_issued(&self, number: u64) -> bool {
        let last = self.unsettled.as_ref().map_or(0, |waiting| waiting.last);
        (1..=last).contains(&number)
    }

    /// Takes away what an ACK or NACK of `number` means, and returns the tokens.
    pub(super) fn settle(&mut self, number: u64) -> Vec<u64> {
        let Some(waiting) = &mut self.unsettled else { return Vec::new() };
        let deliveries = match self.mode {
            AckMode::Auto | AckMode::ClientIndividual => {
                waiting.remove(number).into_iter().collect()
            }
            AckMode::Client => {
                let covered = waiting.deliveries.partition_point(|&(have, _)| have <= number);
                waiting.deliveries.drain(..covered).map(|(_, token)| token).collect()
            }
        };
        waiting.shrink();
        deliveries
    }

    pub(super) fn take_back(&mut self, number: u64) -> Option<u64> {
        let waiting = self.unsettled.as_mut()?;
        let token = waiting.remove(number);
        waiting.shrink();
        token
    }

    pub(super) fn end(self) -> Unsettled {
        let deliveries = self.unsettled.map(|waiting| waiting.deliveries).unwrap_or_default();
        let deliveries = deliveries.into_iter().map(|(_, token)| token).collect();
        Unsettled { subscription: self.key, deliveries }
    }
}

impl Waiting {
    fn remove(&mut self, number: u64) -> Option<u64> {
        let at = self.deliveries.binary_search_by_key(&number, |&(have, _)| have).ok()?;
        self.deliveries.remove(at).map(|(_, token)| token)
    }

    /// A burst must not cost memory for as long as the subscription lasts.
    fn shrink(&mut self) {
        if self.deliveries.is_empty() && self.deliveries.capacity() > PLACES_KEPT {
            self.deliveries = VecDeque::new();
        }
    }
}
