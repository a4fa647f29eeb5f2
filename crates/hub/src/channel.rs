//! How one subscriber follows one channel: what it has, what is held back while its history is read, and
//! how history and live flow become one stream without a loss or a repeat.
//!
//! Plain data. It knows no bus, tasks or sessions.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use naru_domain::ports::HistoryPage;
use naru_domain::{Offset, Position, Publication};

/// What to do with a live publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Deliver it now.
    Deliver,
    /// It waits until history has been read.
    Held,
    /// The subscriber has it already.
    Repeat,
    /// Something before it is missing: read history first.
    Hole,
}

/// A subscriber's place in a channel.
#[derive(Clone, Debug)]
pub struct Follower {
    /// What it has; `None` takes the next publication as the start.
    position: Option<Position>,
    /// Present while history is being read for its subscription.
    joining: Option<Box<Held>>,
}

/// Live publications that came while history was being read.
#[derive(Clone, Debug, Default)]
struct Held {
    publications: VecDeque<Arc<Publication>>,
    /// Some did not fit, or never came: history has to be read again.
    is_incomplete: bool,
}

impl Follower {
    /// Somebody whose subscription is being prepared.
    #[must_use]
    pub fn joining() -> Follower {
        Follower { position: None, joining: Some(Box::default()) }
    }

    /// What it has. `None` while it joins.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether its subscription is still being prepared.
    #[must_use]
    pub fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// A publication came from the bus. `held_max` bounds what is held back.
    pub fn offer(&mut self, publication: &Arc<Publication>, held_max: usize) -> Offer {
        if let Some(held) = &mut self.joining {
            if held.publications.len() >= held_max {
                held.publications.clear();
                held.is_incomplete = true;
            }
            if !held.is_incomplete {
                held.publications.push_back(Arc::clone(publication));
            }
            return Offer::Held;
        }
        let offer = follows(self.position, publication.position);
        if offer == Offer::Deliver && is_numbered(publication) {
            self.position = Some(publication.position);
        }
        offer
    }

    /// Something was missed that cannot be seen from the offsets.
    pub fn missed(&mut self) {
        if let Some(held) = &mut self.joining {
            held.publications.clear();
            held.is_incomplete = true;
        }
    }

    /// History has been read for the subscription: joins it with what was held back. On `ReadAgain` the
    /// follower keeps joining, and from now on it holds what comes after.
    pub fn join(&mut self, since: Option<Position>, page: &HistoryPage) -> Joined {
        let Some(held) = &mut self.joining else { return Joined::NotJoining };
        if held.is_incomplete {
            **held = Held::default();
            return Joined::ReadAgain;
        }
        let (mut position, mut publications) = match since {
            None => (page.top, Vec::new()),
            Some(_) if !page.complete => (page.top, Vec::new()),
            Some(since) => {
                let last = page.publications.last().map_or(since, |last| last.position);
                (last, page.publications.clone())
            }
        };
        for publication in &held.publications {
            match follows(Some(position), publication.position) {
                Offer::Deliver => {
                    if is_numbered(publication) {
                        position = publication.position;
                    }
                    publications.push(Arc::clone(publication));
                }
                Offer::Repeat | Offer::Held => {}
                Offer::Hole => {
                    **held = Held::default();
                    return Joined::ReadAgain;
                }
            }
        }
        self.joining = None;
        self.position = Some(position);
        Joined::Live { publications, position }
    }

    /// A repair found that publications after what this follower has are gone for good. The stream goes
    /// on behind `new`.
    pub fn skip_to(&mut self, new: Position) {
        self.position = Some(new);
    }

    /// Nobody can say what is missing: the next publication is the start.
    pub fn skip_unknown(&mut self) {
        self.position = None;
    }
}

/// What became of a subscription whose history was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The follower is live. These come first, in order.
    Live {
        /// From history and from what was held back.
        publications: Vec<Arc<Publication>>,
        /// What it has after them.
        position: Position,
    },
    /// History and live flow do not meet: read history again.
    ReadAgain,
    /// It is live already.
    NotJoining,
}

/// Whether a publication has a place in its channel. One that is not kept has none, and moves nobody.
fn is_numbered(publication: &Publication) -> bool {
    publication.position.offset != Offset(0)
}

/// Whether a publication is the next one behind `position`.
#[must_use]
pub fn follows(position: Option<Position>, publication: Position) -> Offer {
    let Some(position) = position else { return Offer::Deliver };
    if publication.offset == Offset(0) {
        // Not kept, so it has no place: it goes to whoever is there when it comes.
        return Offer::Deliver;
    }
    if publication.epoch != position.epoch {
        // A new life of the channel; what was lost of the old one is not known. Only a history that
        // says so may lead over.
        return Offer::Hole;
    }
    if publication.offset <= position.offset {
        Offer::Repeat
    } else if publication.offset == position.offset.next() {
        Offer::Deliver
    } else {
        Offer::Hole
    }
}
