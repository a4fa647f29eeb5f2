//! Durable subscriptions: the server keeps where a client stands, as the last publication of a channel
//! that nobody else can name.

use std::collections::BTreeSet;
use std::time::Duration;

use naru_domain::ports::{HistoryQuery, Post};
use naru_domain::{ChannelName, Position};
use naru_wire::stomp::session::Subscribe;
use naru_wire::stomp::{parse_position, position_text};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::connection::Talk;
use super::names::DURABLE_NAMESPACE;
use super::trouble::Trouble;

/// How long a position may be ahead of what is kept of it, unless a receipt asks for more.
pub(super) const SAVE_AFTER: Duration = Duration::from_secs(1);

/// Where a durable subscription stands.
pub(super) struct Durable {
    channel: ChannelName,
    /// The last publication that was handed to the connection.
    given: Option<Position>,
    /// Offsets that were handed over and not acknowledged.
    open: BTreeSet<u64>,
    saved: Option<Position>,
}

impl Durable {
    pub(super) fn new(channel: ChannelName, saved: Option<Position>) -> Durable {
        Durable { channel, given: None, open: BTreeSet::new(), saved }
    }

    /// The position that was kept.
    pub(super) fn saved(&self) -> Option<Position> {
        self.saved
    }

    /// The subscription begins behind this.
    pub(super) fn begin(&mut self, position: Position) {
        self.given.get_or_insert(position);
    }

    pub(super) fn delivered(&mut self, position: Position, needs_ack: bool) {
        if self.given.is_some_and(|given| given.epoch != position.epoch) {
            self.open.clear();
        }
        self.given = Some(position);
        if needs_ack {
            self.open.insert(position.offset.0);
        }
    }

    pub(super) fn settled(&mut self, offset: u64) {
        self.open.remove(&offset);
    }

    /// Up to where everything is done.
    fn position(&self) -> Option<Position> {
        let mut position = self.given?;
        if let Some(first) = self.open.first() {
            position.offset.0 = first.saturating_sub(1);
        }
        Some(position)
    }

    /// What is to be kept, if it is not.
    pub(super) fn unsaved(&self) -> Option<Position> {
        self.position().filter(|position| Some(*position) != self.saved)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Talk<S> {
    /// Where a durable subscription stood, if this is one.
    pub(super) async fn durable(&self, subscribe: &Subscribe) -> Result<Option<Durable>, Trouble> {
        let Some(id) = subscribe.durable_id() else { return Ok(None) };
        let Some(party) = self.party.as_ref() else { return Err(Trouble::internal()) };
        let user = &party.caller.user;
        if user.is_empty() {
            return Err(Trouble::forbidden("a durable subscription needs a user"));
        }
        // With its length, so that no other user and id are written the same.
        let name = format!("{DURABLE_NAMESPACE}:{}:{user}:{id}", user.len());
        let channel = ChannelName::parse(&name);
        let channel = channel.map_err(|error| Trouble::unknown_destination(error.to_string()))?;
        let newest = HistoryQuery { since: None, limit: usize::MAX };
        let page = self.shared.ports.hub.history(&channel, newest).await;
        let page = page.map_err(|error| Trouble::from(&error))?;
        let saved = page.publications.last();
        let saved = saved.and_then(|saved| parse_position(std::str::from_utf8(&saved.data).ok()?));
        Ok(Some(Durable::new(channel, saved)))
    }

    /// Whether a position is to be kept.
    pub(super) fn has_unsaved(&self) -> bool {
        let Some(party) = &self.party else { return false };
        party
            .subs
            .iter()
            .any(|sub| sub.durable.as_ref().is_some_and(|each| each.unsaved().is_some()))
    }

    /// Keeps where durable subscriptions stand.
    pub(super) async fn save_positions(&mut self) -> Result<(), Trouble> {
        let Some(party) = self.party.as_mut() else { return Ok(()) };
        for durable in party.subs.iter_mut().filter_map(|sub| sub.durable.as_mut()) {
            let Some(position) = durable.unsaved() else { continue };
            let post = Post::new(position_text(position));
            match self.shared.ports.hub.publish(&durable.channel, post).await {
                Ok(_kept) => durable.saved = Some(position),
                Err(error) => {
                    debug!(target: "naru::stomp", %error, "a position was not kept");
                    return Err(Trouble::from(&error));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use naru_domain::{Epoch, Offset};

    use super::*;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    #[test]
    fn a_position_never_passes_what_is_open() {
        let mut durable = Durable::new(ChannelName::parse("durable:a").unwrap(), None);
        assert_eq!(durable.unsaved(), None);
        durable.begin(at(1, 3));
        assert_eq!(durable.unsaved(), Some(at(1, 3)));
        for offset in 4..=6 {
            durable.delivered(at(1, offset), true);
        }
        assert_eq!(durable.position(), Some(at(1, 3)));
        durable.settled(5);
        assert_eq!(durable.position(), Some(at(1, 3)));
        durable.settled(4);
        assert_eq!(durable.position(), Some(at(1, 5)));
        durable.settled(6);
        assert_eq!(durable.position(), Some(at(1, 6)));
        durable.saved = durable.position();
        assert_eq!(durable.unsaved(), None);
        durable.delivered(at(2, 1), false);
        assert_eq!(durable.unsaved(), Some(at(2, 1)));
    }
}
