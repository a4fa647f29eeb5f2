//! How destinations and positions are written. Where a destination leads is the gateway's business.

use naru_domain::{Epoch, Offset, Position};

/// A destination, taken apart by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// `/topic/NAME`: the channel of that name.
    Topic(&'a str),
    /// `/queue/NAME`: a work queue, each message for one consumer.
    Queue(&'a str),
    /// `/app/NAME`: to the application behind the server.
    App(&'a str),
    /// `/temp-queue/NAME`: a reply queue of this connection.
    TempQueue(&'a str),
    /// `/user/queue/NAME`: what is meant for whoever is logged in here.
    OwnQueue(&'a str),
    /// `/user/WHO/queue/NAME`: the same of another user, to send to.
    UserQueue {
        /// The user.
        user: &'a str,
        /// The queue.
        name: &'a str,
    },
}

impl Destination<'_> {
    /// Takes a destination apart. `None`: it has no prefix of ours, or nothing after it.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Destination<'_>> {
        let (kind, name) = raw.strip_prefix('/')?.split_once('/')?;
        if name.is_empty() {
            return None;
        }
        match kind {
            "topic" => Some(Destination::Topic(name)),
            "queue" => Some(Destination::Queue(name)),
            "app" => Some(Destination::App(name)),
            "temp-queue" => Some(Destination::TempQueue(name)),
            "user" => parse_user(name),
            _ => None,
        }
    }
}

fn parse_user(rest: &str) -> Option<Destination<'_>> {
    let (first, rest) = rest.split_once('/')?;
    // Before anything else, so that a user who is called "queue" gets nobody else's messages.
    if first == "queue" {
        return (!rest.is_empty()).then_some(Destination::OwnQueue(rest));
    }
    let name = rest.strip_prefix("queue/")?;
    let is_whole = !first.is_empty() && !name.is_empty();
    is_whole.then_some(Destination::UserQueue { user: first, name })
}

/// A position as it stands in `position` and `last-position`: `EPOCH:OFFSET`, both decimal.
#[must_use]
pub fn position_text(position: Position) -> String {
    format!("{}:{}", position.epoch.0, position.offset.0)
}

/// Reads such a position. `None`: it is none.
#[must_use]
pub fn parse_position(text: &str) -> Option<Position> {
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (epoch, offset) = text.split_once(':')?;
    Some(Position { epoch: Epoch(number(epoch)?), offset: Offset(number(offset)?) })
}
