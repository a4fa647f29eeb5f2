//! Where destinations lead: which channel stands behind each, and what a subscriber calls it. Pure
//! functions; rights are looked at elsewhere.

use naru_domain::ChannelName;
use naru_wire::stomp::Destination;

use super::trouble::Trouble;

/// The namespace of the channels behind `/user/queue/NAME`.
pub const USER_NAMESPACE: &str = "user";
/// The namespace of the channels behind `/temp-queue/NAME`. No client may name it otherwise.
pub const TEMP_NAMESPACE: &str = "temp-queue";
/// The namespace whose rules hold for `/queue/NAME`.
pub const QUEUE_NAMESPACE: &str = "queue";
/// The namespace of the channels that messages go to which nobody could do.
pub const DEAD_NAMESPACE: &str = "dead-letters";
/// The namespace of the channels that keep where durable subscriptions stand. No client may name it.
pub const DURABLE_NAMESPACE: &str = "durable";
/// A queue's name; with what stands before it, it is the name of a channel.
const QUEUE_BYTES_MAX: usize = 240;
/// How many hexadecimal digits name a connection in `/temp-queue/TOKEN/NAME`.
const TOKEN_DIGITS: usize = 32;

/// Which kind of destination a channel was reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `/topic/NAME`
    Topic,
    /// `/user/queue/NAME`
    User,
    /// `/temp-queue/NAME`
    Temp,
}

impl Class {
    pub(super) const ALL: [Class; 3] = [Class::Topic, Class::User, Class::Temp];

    /// What its subscribers call a channel.
    pub(super) fn destination(self, channel: &ChannelName) -> String {
        let name = channel.as_str();
        match self {
            Class::Topic => format!("/topic/{name}"),
            Class::User => {
                let rest = name.split_once('/').map_or(name, |(_, rest)| rest);
                let queue = rest.rsplit_once('#').map_or(rest, |(queue, _)| queue);
                format!("/user/queue/{queue}")
            }
            Class::Temp => {
                let rest = name.split_once('/').map_or(name, |(_, rest)| rest);
                format!("/temp-queue/{rest}")
            }
        }
    }
}

/// Takes a destination apart, or says that it is none of ours.
pub(super) fn parse(destination: &str) -> Result<Destination<'_>, Trouble> {
    Destination::parse(destination).ok_or_else(|| {
        Trouble::unknown_destination(
            "a destination begins with /topic/, /queue/, /app/, /user/queue/ or /temp-queue/",
        )
    })
}

/// The channel of a name that a client gave.
pub(super) fn channel(name: &str, bytes_max: usize) -> Result<ChannelName, Trouble> {
    if name.len() > bytes_max {
        let message = format!("a channel's name is longer than {bytes_max} bytes");
        return Err(Trouble::unknown_destination(message));
    }
    ChannelName::parse(name).map_err(|error| Trouble::unknown_destination(error.to_string()))
}

/// The channel in which a user finds what is meant for it alone: `user:queue/NAME#USER`. Users of other
/// protocols find it by that name, since it lists them.
pub(super) fn user_channel(user: &str, name: &str) -> Result<ChannelName, Trouble> {
    // The name of the channel ends with the one user who may listen.
    if user.is_empty() || user.contains(['#', ',']) {
        return Err(Trouble::forbidden("a user without such a name has no queues"));
    }
    if name.contains('#') {
        return Err(Trouble::unknown_destination("a user's queue has no # in its name"));
    }
    channel(&format!("{USER_NAMESPACE}:queue/{name}#{user}"), ChannelName::LEN_BYTES_MAX)
}

/// The name by which rules know a queue.
pub(super) fn queue_channel(name: &str) -> Result<ChannelName, Trouble> {
    if name.len() > QUEUE_BYTES_MAX {
        let message = format!("a queue's name is longer than {QUEUE_BYTES_MAX} bytes");
        return Err(Trouble::unknown_destination(message));
    }
    channel(&format!("{QUEUE_NAMESPACE}:{name}"), ChannelName::LEN_BYTES_MAX)
}

/// The channel of a reply queue. `name` is what a client wrote behind `/temp-queue/`: its own queue, or
/// one that a `reply-to` header showed, which begins with the token of the connection that reads it.
pub(super) fn temp_channel(own_token: &str, name: &str) -> Result<ChannelName, Trouble> {
    let whole = match split_token(name) {
        Some(_) => format!("{TEMP_NAMESPACE}:{name}"),
        None => format!("{TEMP_NAMESPACE}:{own_token}/{name}"),
    };
    channel(&whole, ChannelName::LEN_BYTES_MAX)
}

/// What `reply-to` becomes for those who answer: the same queue, by a name that leads there from any
/// connection.
pub(super) fn reply_to(own_token: &str, value: &str) -> Option<String> {
    match Destination::parse(value)? {
        Destination::TempQueue(name) if split_token(name).is_none() => {
            Some(format!("/temp-queue/{own_token}/{name}"))
        }
        _ => None,
    }
}

fn split_token(name: &str) -> Option<(&str, &str)> {
    let (token, rest) = name.split_once('/')?;
    let is_token = token.len() == TOKEN_DIGITS
        && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_token && !rest.is_empty()).then_some((token, rest))
}

/// A new token, which nobody can guess.
pub(super) fn new_token() -> Box<str> {
    format!("{:032x}", rand::random::<u128>()).into_boxed_str()
}

/// Whether a reply queue is one that only its own connection may read.
pub(super) fn is_foreign(own_token: &str, name: &str) -> bool {
    split_token(name).is_some_and(|(token, _)| token != own_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_queue_is_a_channel_that_lists_its_user() {
        let channel = user_channel("ann", "replies").unwrap();
        assert_eq!(channel.as_str(), "user:queue/replies#ann");
        assert_eq!(Class::User.destination(&channel), "/user/queue/replies");
        for user in ["", "a#b", "a,b"] {
            assert_eq!(user_channel(user, "replies").unwrap_err().code, "forbidden");
        }
        assert!(user_channel("ann", "replies#bob").is_err());
    }

    #[test]
    fn a_reply_queue_has_a_name_that_leads_to_it_from_elsewhere() {
        let (own, other) = (new_token(), new_token());
        let channel = temp_channel(&own, "a/b").unwrap();
        assert_eq!(Class::Temp.destination(&channel), "/temp-queue/a/b");
        let shown = reply_to(&own, "/temp-queue/a/b").unwrap();
        let Some(Destination::TempQueue(name)) = Destination::parse(&shown) else { panic!() };
        assert_eq!(temp_channel(&other, name).unwrap(), channel);
        assert!(is_foreign(&other, name) && !is_foreign(&own, name));
        assert_ne!(temp_channel(&other, "a/b").unwrap(), channel);
        assert_eq!(reply_to(&own, "/topic/a"), None);
    }
}
