//! What the application is asked, and when the same may be asked again.

use naru_outbound::CallError;

/// One kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// May this connection in?
    Connect,
    /// Does it go on?
    Refresh,
    /// May it subscribe?
    Subscribe,
    /// Does the subscription go on?
    SubRefresh,
    /// May it publish this?
    Publish,
    /// A call.
    Rpc,
    /// A message without an answer.
    Message,
    /// A connection ended.
    Disconnected,
}

impl Event {
    /// All of them, in the order of their numbers.
    pub const ALL: [Event; 8] = [
        Event::Connect,
        Event::Refresh,
        Event::Subscribe,
        Event::SubRefresh,
        Event::Publish,
        Event::Rpc,
        Event::Message,
        Event::Disconnected,
    ];

    /// Its name in the configuration, in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Event::Connect => "connect",
            Event::Refresh => "refresh",
            Event::Subscribe => "subscribe",
            Event::SubRefresh => "sub_refresh",
            Event::Publish => "publish",
            Event::Rpc => "rpc",
            Event::Message => "message",
            Event::Disconnected => "disconnected",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// Whether the same may be asked again at once after this failure. A question changes nothing; what
    /// changes something is repeated only if not a byte of it was sent.
    pub(crate) fn may_repeat(self, error: &CallError) -> bool {
        match self {
            Event::Connect
            | Event::Refresh
            | Event::Subscribe
            | Event::SubRefresh
            | Event::Disconnected => error.may_retry(),
            Event::Publish | Event::Rpc | Event::Message => {
                matches!(error, CallError::Connect { .. })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_stand_at_their_own_index() {
        for (index, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event.index(), index, "{}", event.label());
        }
    }

    #[test]
    fn what_changes_something_is_repeated_only_when_nothing_was_sent() {
        let refused = CallError::Connect { reason: "refused".to_owned() };
        let broken = CallError::Broken { reason: "reset".to_owned() };
        for event in Event::ALL {
            assert!(event.may_repeat(&refused), "{}", event.label());
            let is_question = !matches!(event, Event::Publish | Event::Rpc | Event::Message);
            assert_eq!(event.may_repeat(&broken), is_question, "{}", event.label());
        }
    }
}
