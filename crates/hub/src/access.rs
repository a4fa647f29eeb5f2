//! Who may do what in which channel: the options of namespaces and the rules that follow from them, for
//! all protocols alike. Pure functions; tokens and backends are asked elsewhere, and their answers come in.

use std::collections::HashMap;

use naru_domain::ports::ChannelRight;
use naru_domain::{ChannelName, ChannelParts};

/// What a namespace lets clients do, besides what it keeps. The names are those that users of Centrifugo
/// know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Who is in a channel can be asked.
    pub presence: bool,
    /// Who enters and leaves is told.
    pub join_leave: bool,
    /// It is told to every subscriber, not only to those who wish it.
    pub force_push_join_leave: bool,
    /// Every subscription has a position, and a gap ends it.
    pub force_positioning: bool,
    /// Clients may wish for that.
    pub allow_positioning: bool,
    /// Every subscription can recover what it missed.
    pub force_recovery: bool,
    /// Clients may wish for that.
    pub allow_recovery: bool,
    /// A recovery gives the newest publication instead of all that were missed.
    pub is_cache: bool,
    /// With that, the newest comes with every subscription, unasked.
    pub auto_cache_recover: bool,
    /// Clients may ask for deltas of the fossil format.
    pub allow_fossil_delta: bool,
    /// Clients may ask for those publications only whose tags pass a filter.
    pub allow_tags_filter: bool,
    /// Publications are marked for deltas even if the publisher does not.
    pub delta_publish: bool,
    /// Clients with a user may subscribe by themselves.
    pub allow_subscribe_for_client: bool,
    /// Anonymous ones, too.
    pub allow_subscribe_for_anonymous: bool,
    /// Clients with a user may publish.
    pub allow_publish_for_client: bool,
    /// Subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// What is allowed holds for anonymous ones, too.
    pub allow_publish_for_anonymous: bool,
    /// As for publishing: reading history.
    pub allow_history_for_client: bool,
    /// As for publishing: reading history.
    pub allow_history_for_subscriber: bool,
    /// As for publishing: reading history.
    pub allow_history_for_anonymous: bool,
    /// As for publishing: asking who is there.
    pub allow_presence_for_client: bool,
    /// As for publishing: asking who is there.
    pub allow_presence_for_subscriber: bool,
    /// As for publishing: asking who is there.
    pub allow_presence_for_anonymous: bool,
    /// Names with `#` list the users who may subscribe.
    pub allow_user_limited_channels: bool,
    /// Names, behind the namespace, that are allowed; `None` allows ASCII.
    pub channel_pattern: Option<NamePattern>,
    /// The backend is asked who may subscribe.
    pub subscribe_proxy_enabled: bool,
    /// The backend is asked what may be published.
    pub publish_proxy_enabled: bool,
    /// The backend is asked when a subscription runs out.
    pub sub_refresh_proxy_enabled: bool,
    /// The history has places to recover from.
    pub has_history: bool,
    /// Each channel belongs to the one user that its name lists: nobody else enters, whatever a token or
    /// the backend grants, and no client publishes.
    pub is_personal: bool,
}

/// A regular expression over names, compiled by whoever reads the configuration.
#[derive(Clone)]
pub struct NamePattern {
    /// As it was written.
    pub text: String,
    /// Whether a name fits.
    pub fits: std::sync::Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl std::fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NamePattern").field(&self.text).finish()
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &NamePattern) -> bool {
        self.text == other.text
    }
}

impl Eq for NamePattern {}

/// The namespaces of a node.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// For channels without a namespace.
    pub default: Namespace,
    /// By name.
    pub named: HashMap<String, Namespace>,
}

/// Why a channel's name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameRefused {
    /// No such namespace.
    #[error("the namespace does not exist")]
    UnknownNamespace,
    /// The name does not fit the namespace's pattern, or is not ASCII where there is none.
    #[error("the channel's name is not allowed in its namespace")]
    BadName,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The user; empty for an anonymous one.
    pub user: &'a str,
    /// Whether it is subscribed to the channel.
    pub is_subscribed: bool,
    /// What its login or token lets it do there, whatever the namespace says.
    pub granted: Granted,
}

/// What a login or a token lets its connection do in one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Subscribe.
    pub subscribe: bool,
    /// Publish.
    pub publish: bool,
    /// Read history, and wish for recovery.
    pub history: bool,
    /// Ask who is there.
    pub presence: bool,
}

impl Granted {
    /// What these rights allow in a channel.
    #[must_use]
    pub fn of(rights: &[ChannelRight], channel: &ChannelName) -> Granted {
        let mut granted = Granted::default();
        for right in rights {
            let is_meant = if right.is_pattern {
                fits(&right.channels, channel.as_str())
            } else {
                *right.channels == *channel.as_str()
            };
            if is_meant {
                granted.subscribe |= right.subscribe;
                granted.publish |= right.publish;
                granted.history |= right.history;
                granted.presence |= right.presence;
            }
        }
        granted
    }
}

/// Whether a client may subscribe, as far as that can be told without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaySubscribe {
    /// It may.
    Yes,
    /// The backend decides.
    AskBackend,
    /// It may not.
    No,
}

impl Namespaces {
    /// The options of a channel, if its name is allowed.
    pub fn of(&self, channel: &ChannelName) -> Result<&Namespace, NameRefused> {
        let parts = ChannelParts::of(channel.as_str());
        let namespace = match parts.namespace {
            None => &self.default,
            Some(name) => self.named.get(name).ok_or(NameRefused::UnknownNamespace)?,
        };
        let fits = match &namespace.channel_pattern {
            Some(pattern) => (pattern.fits)(parts.rest),
            None => channel.as_str().is_ascii(),
        };
        if fits { Ok(namespace) } else { Err(NameRefused::BadName) }
    }
}

impl Namespace {
    /// The rules of channels that belong to one user each, and in which only the server speaks.
    #[must_use]
    pub fn personal() -> Namespace {
        // Ids of users may hold whatever a channel's name may hold.
        let any = NamePattern { text: String::new(), fits: std::sync::Arc::new(|_| true) };
        Namespace {
            is_personal: true,
            has_history: true,
            force_recovery: true,
            force_positioning: true,
            allow_history_for_subscriber: true,
            channel_pattern: Some(any),
            ..Namespace::default()
        }
    }

    /// Whether the channel is somebody else's, so that no right that was granted counts.
    #[must_use]
    pub fn is_closed_to(&self, channel: &ChannelName, user: &str) -> bool {
        if !self.is_personal {
            return false;
        }
        let parts = ChannelParts::of(channel.as_str());
        user.is_empty() || parts.needs_token || parts.rest.strip_prefix('#') != Some(user)
    }

    /// Whether a client may subscribe by itself. A token that names the channel needs no asking.
    #[must_use]
    pub fn may_subscribe(
        &self,
        channel: &ChannelName,
        user: &str,
        granted: Granted,
    ) -> MaySubscribe {
        if self.is_personal {
            let is_own = !self.is_closed_to(channel, user);
            return if is_own { MaySubscribe::Yes } else { MaySubscribe::No };
        }
        if granted.subscribe {
            return MaySubscribe::Yes;
        }
        let parts = ChannelParts::of(channel.as_str());
        if parts.needs_token {
            return MaySubscribe::No;
        }
        let is_limited = self.allow_user_limited_channels && parts.is_user_limited();
        if is_limited {
            return if parts.lists(user) { MaySubscribe::Yes } else { MaySubscribe::No };
        }
        if self.subscribe_proxy_enabled {
            return MaySubscribe::AskBackend;
        }
        let allowed = self.allow_subscribe_for_client
            && (!user.is_empty() || self.allow_subscribe_for_anonymous);
        if allowed { MaySubscribe::Yes } else { MaySubscribe::No }
    }

    /// Whether a client may publish.
    #[must_use]
    pub fn may_publish(&self, asker: Asker<'_>) -> bool {
        let is_allowed = asker.granted.publish
            || allows(
                asker,
                self.allow_publish_for_client,
                self.allow_publish_for_subscriber,
                self.allow_publish_for_anonymous,
            );
        is_allowed && !self.is_personal
    }

    /// Whether a client may read history.
    #[must_use]
    pub fn may_read_history(&self, asker: Asker<'_>) -> bool {
        asker.granted.history
            || allows(
                asker,
                self.allow_history_for_client,
                self.allow_history_for_subscriber,
                self.allow_history_for_anonymous,
            )
    }

    /// Whether a client may ask who is there.
    #[must_use]
    pub fn may_see_presence(&self, asker: Asker<'_>) -> bool {
        asker.granted.presence
            || allows(
                asker,
                self.allow_presence_for_client,
                self.allow_presence_for_subscriber,
                self.allow_presence_for_anonymous,
            )
    }

    /// Whether a subscription can recover, given the client's wish.
    #[must_use]
    pub fn recovers(&self, is_wished: bool, asker: Asker<'_>) -> bool {
        let may_wish = self.allow_recovery || self.may_read_history(asker);
        self.has_history && (self.force_recovery || (is_wished && may_wish))
    }

    /// Whether a subscription has a position, given the client's wish.
    #[must_use]
    pub fn positions(&self, is_wished: bool, asker: Asker<'_>) -> bool {
        let may_wish = self.allow_positioning || self.may_read_history(asker);
        self.has_history && (self.force_positioning || (is_wished && may_wish))
    }

    /// Whether a subscriber hears who enters and leaves, given its wish.
    #[must_use]
    pub fn pushes_join_leave(&self, is_wished: bool, asker: Asker<'_>) -> bool {
        self.join_leave
            && (self.force_push_join_leave || (is_wished && self.may_see_presence(asker)))
    }
}

/// Whether a text fits a pattern in which `*` stands for any run of characters.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

fn allows(asker: Asker<'_>, client: bool, subscriber: bool, anonymous: bool) -> bool {
    let is_known = !asker.user.is_empty() || anonymous;
    is_known && (client || (subscriber && asker.is_subscribed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name).unwrap()
    }

    const NOTHING: Granted =
        Granted { subscribe: false, publish: false, history: false, presence: false };
    const BO: Asker<'_> = Asker { user: "bo", is_subscribed: false, granted: NOTHING };
    const BO_INSIDE: Asker<'_> = Asker { user: "bo", is_subscribed: true, granted: NOTHING };
    const NOBODY: Asker<'_> = Asker { user: "", is_subscribed: true, granted: NOTHING };

    #[test]
    fn nothing_is_allowed_that_was_not_said() {
        let nothing = Namespace::default();
        assert_eq!(nothing.may_subscribe(&channel("a"), "bo", NOTHING), MaySubscribe::No);
        assert!(!nothing.may_publish(BO_INSIDE));
        assert!(!nothing.may_read_history(BO_INSIDE));
        assert!(!nothing.may_see_presence(BO_INSIDE));
        assert!(!nothing.recovers(true, BO_INSIDE) && !nothing.positions(true, BO_INSIDE));
        assert!(!nothing.pushes_join_leave(true, BO_INSIDE));
    }

    #[test]
    fn subscribing_needs_a_user_unless_anonymous_ones_are_allowed() {
        let mut open = Namespace { allow_subscribe_for_client: true, ..Namespace::default() };
        assert_eq!(open.may_subscribe(&channel("a"), "bo", NOTHING), MaySubscribe::Yes);
        assert_eq!(open.may_subscribe(&channel("a"), "", NOTHING), MaySubscribe::No);
        open.allow_subscribe_for_anonymous = true;
        assert_eq!(open.may_subscribe(&channel("a"), "", NOTHING), MaySubscribe::Yes);
        assert_eq!(open.may_subscribe(&channel("$a"), "bo", NOTHING), MaySubscribe::No);
        open.subscribe_proxy_enabled = true;
        assert_eq!(open.may_subscribe(&channel("a"), "bo", NOTHING), MaySubscribe::AskBackend);
        assert_eq!(open.may_subscribe(&channel("$a"), "bo", NOTHING), MaySubscribe::No);
    }

    #[test]
    fn a_name_that_lists_users_lets_only_them_in() {
        let limited = Namespace {
            allow_user_limited_channels: true,
            allow_subscribe_for_client: true,
            subscribe_proxy_enabled: true,
            ..Namespace::default()
        };
        let dialog = channel("dialog#bo,al");
        assert_eq!(limited.may_subscribe(&dialog, "bo", NOTHING), MaySubscribe::Yes);
        assert_eq!(limited.may_subscribe(&dialog, "b", NOTHING), MaySubscribe::No);
        assert_eq!(limited.may_subscribe(&dialog, "", NOTHING), MaySubscribe::No);
        assert_eq!(
            limited.may_subscribe(&channel("people:x#al"), "al", NOTHING),
            MaySubscribe::Yes
        );
    }

    #[test]
    fn a_personal_channel_is_open_to_its_user_alone_and_nobody_publishes() {
        let personal = Namespace { allow_publish_for_client: true, ..Namespace::personal() };
        for (name, user, is_own) in [
            ("personal:#bo", "bo", true),
            ("personal:#bo", "al", false),
            ("personal:#bo", "", false),
            ("personal:#", "", false),
            ("personal:#bo,al", "bo", false),
            ("personal:x#bo", "bo", false),
            ("$personal:#bo", "bo", false),
            ("personal:#a:b", "a:b", true),
        ] {
            let channel = channel(name);
            let may = if is_own { MaySubscribe::Yes } else { MaySubscribe::No };
            assert_eq!(personal.may_subscribe(&channel, user, NOTHING), may, "{name} for {user}");
            assert_eq!(personal.is_closed_to(&channel, user), !is_own, "{name} for {user}");
        }
        assert!(!personal.may_publish(BO_INSIDE));
        assert!(personal.may_read_history(BO_INSIDE) && !personal.may_read_history(BO));
        assert!(!Namespace::default().is_closed_to(&channel("personal:#bo"), "al"));
        let named = HashMap::from([("personal".to_owned(), personal.clone())]);
        let namespaces = Namespaces { default: Namespace::default(), named };
        assert_eq!(namespaces.of(&channel("personal:#\u{b098}")), Ok(&personal));
    }

    #[test]
    fn subscribers_may_do_what_is_allowed_to_subscribers() {
        let inside = Namespace {
            allow_publish_for_subscriber: true,
            allow_history_for_subscriber: true,
            allow_presence_for_subscriber: true,
            ..Namespace::default()
        };
        assert!(inside.may_publish(BO_INSIDE) && !inside.may_publish(BO));
        assert!(inside.may_read_history(BO_INSIDE) && !inside.may_read_history(BO));
        assert!(inside.may_see_presence(BO_INSIDE) && !inside.may_see_presence(BO));
        assert!(!inside.may_publish(NOBODY));
        let anonymous = Namespace { allow_publish_for_anonymous: true, ..inside };
        assert!(anonymous.may_publish(NOBODY));
    }

    #[test]
    fn a_right_lets_its_connection_do_what_the_namespace_lets_nobody_do() {
        let closed = Namespace { has_history: true, ..Namespace::default() };
        let exact = ChannelRight {
            channels: "room:a*".into(),
            is_pattern: false,
            subscribe: true,
            ..ChannelRight::default()
        };
        let rights = [exact, ChannelRight::everything("room:bot/*")];
        let granted = |name: &str| Granted::of(&rights, &channel(name));
        assert_eq!(granted("room:other/1"), NOTHING);
        assert_eq!(granted("room:ab"), NOTHING, "no pattern unless it says so");
        assert_eq!(granted("room:a*"), Granted { subscribe: true, ..NOTHING });
        let all = granted("room:bot/12");
        let asker = Asker { granted: all, ..BO };
        assert!(closed.may_publish(asker) && closed.may_read_history(asker));
        assert!(closed.may_see_presence(asker) && closed.recovers(true, asker));
        let may = |name: &str| closed.may_subscribe(&channel(name), "", granted(name));
        assert_eq!(
            (may("room:bot/12"), may("room:other/1")),
            (MaySubscribe::Yes, MaySubscribe::No)
        );
    }

    #[test]
    fn recovery_needs_history_and_a_right_to_wish_for_it() {
        let kept = Namespace { has_history: true, ..Namespace::default() };
        assert!(!kept.recovers(true, BO));
        let allowed = Namespace { allow_recovery: true, allow_positioning: true, ..kept.clone() };
        assert!(allowed.recovers(true, BO) && !allowed.recovers(false, BO));
        assert!(allowed.positions(true, BO) && !allowed.positions(false, BO));
        let forced = Namespace { force_recovery: true, force_positioning: true, ..kept };
        assert!(forced.recovers(false, BO) && forced.positions(false, BO));
        let bare = Namespace { has_history: false, ..forced };
        assert!(!bare.recovers(true, BO) && !bare.positions(true, BO));
    }

    #[test]
    fn a_name_belongs_to_a_known_namespace_and_fits_its_pattern() {
        let digits = NamePattern {
            text: "^[0-9]+$".to_owned(),
            fits: std::sync::Arc::new(|name| name.bytes().all(|byte| byte.is_ascii_digit())),
        };
        let room = Namespace { channel_pattern: Some(digits), ..Namespace::default() };
        let named = HashMap::from([("room".to_owned(), room.clone())]);
        let namespaces = Namespaces { default: Namespace::default(), named };
        assert_eq!(namespaces.of(&channel("room:12")), Ok(&room));
        assert_eq!(namespaces.of(&channel("$room:12")), Ok(&room));
        assert_eq!(namespaces.of(&channel("room:x")), Err(NameRefused::BadName));
        assert_eq!(namespaces.of(&channel("other:1")), Err(NameRefused::UnknownNamespace));
        assert_eq!(namespaces.of(&channel("plain")), Ok(&Namespace::default()));
        assert_eq!(namespaces.of(&channel("\u{b098}")), Err(NameRefused::BadName));
    }
}
