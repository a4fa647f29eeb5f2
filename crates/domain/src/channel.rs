//! What a channel's name says by itself: namespace, token required, listed users.
//!
//! Plain text functions. Which namespaces exist, and what they allow, is decided elsewhere.

/// A channel's name taken apart. The name itself, marks included, stays what identifies the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelParts<'a> {
    /// The name begins with `$`: nobody may subscribe without a token.
    pub needs_token: bool,
    /// What stands before the first `:`, without the `$`; `None` for the options without namespace.
    pub namespace: Option<&'a str>,
    /// What stands after the namespace, the list of users included.
    pub rest: &'a str,
    /// What stands after the last `#`: the ids of the only users that may subscribe, with commas.
    users: Option<&'a str>,
}

impl<'a> ChannelParts<'a> {
    /// Takes `name` apart.
    #[must_use]
    pub fn of(name: &'a str) -> ChannelParts<'a> {
        let (needs_token, bare) = match name.strip_prefix('$') {
            Some(bare) => (true, bare),
            None => (false, name),
        };
        let (namespace, rest) = match bare.split_once(':') {
            Some((namespace, rest)) => (Some(namespace), rest),
            None => (None, bare),
        };
        let users = bare.rsplit_once('#').map(|(_before, users)| users);
        ChannelParts { needs_token, namespace, rest, users }
    }

    /// Whether the name lists its users.
    #[must_use]
    pub fn is_user_limited(&self) -> bool {
        self.users.is_some()
    }

    /// The listed users.
    pub fn users(&self) -> impl Iterator<Item = &'a str> {
        self.users.into_iter().flat_map(|users| users.split(','))
    }

    /// Whether the name lists `user`. The anonymous user `""` is never listed.
    #[must_use]
    pub fn lists(&self, user: &str) -> bool {
        !user.is_empty() && self.users().any(|listed| listed == user)
    }

    /// The name of the channel that belongs to `user` alone: `#42`, or `people:#42`. `None` for users
    /// without a name and for ids with a comma or `#`, for which such a channel would list somebody else.
    #[must_use]
    pub fn personal(namespace: Option<&str>, user: &str) -> Option<String> {
        if user.is_empty() || user.contains([',', '#']) {
            return None;
        }
        Some(match namespace {
            Some(namespace) => format!("{namespace}:#{user}"),
            None => format!("#{user}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channels_name_says_its_namespace_and_whether_a_token_is_needed() {
        let check = |name, needs_token, namespace, rest| {
            let parts = ChannelParts::of(name);
            assert_eq!(
                (parts.needs_token, parts.namespace, parts.rest),
                (needs_token, namespace, rest),
                "{name}"
            );
        };
        check("news", false, None, "news");
        check("chat:1", false, Some("chat"), "1");
        check("chat:a:b", false, Some("chat"), "a:b");
        check("$chat:1", true, Some("chat"), "1");
        check("$news", true, None, "news");
        check("", false, None, "");
        check("$", true, None, "");
        check(":x", false, Some(""), "x");
        check("a$b:c", false, Some("a$b"), "c");
    }

    #[test]
    fn a_channels_name_may_list_its_only_users() {
        let lists = |name, user| ChannelParts::of(name).lists(user);
        assert!(lists("dialog#42,43", "42") && lists("dialog#42,43", "43"));
        assert!(!lists("dialog#42,43", "4") && !lists("dialog#42,43", "42,43"));
        assert!(!lists("dialog#42,43", "") && !lists("dialog#", "") && !lists("dialog#1,", ""));
        assert!(lists("a#1#2", "2") && !lists("a#1#2", "1"));
        assert!(lists("chat:room#7", "7") && lists("#7", "7"));
        assert!(!ChannelParts::of("dialog").is_user_limited());
        assert!(ChannelParts::of("dialog#").is_user_limited());
        assert_eq!(ChannelParts::of("d#1,2").users().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_personal_channel_lists_its_user_and_nobody_else() {
        assert_eq!(ChannelParts::personal(None, "42").as_deref(), Some("#42"));
        assert_eq!(ChannelParts::personal(Some("people"), "42").as_deref(), Some("people:#42"));
        for user in ["", "1,2", "a#b"] {
            assert_eq!(ChannelParts::personal(None, user), None);
        }
        let name = ChannelParts::personal(Some("people"), "a:b").unwrap();
        assert!(ChannelParts::of(&name).lists("a:b"));
    }
}
