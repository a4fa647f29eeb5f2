//! What operators may set for one bot: one JSON document per bot, created at first contact.
//!
//! Unknown fields are refused with their path, so that a mistyped name is not silently without effect.

use std::time::Duration;

use naru_domain::limits::HOOK_ATTEMPTS_MAX;
use naru_domain::work::MessageRecord;
use serde::{Deserialize, Serialize};

/// What stands for a secret in documents that are shown.
const MASK: &str = "********";

/// The settings of one bot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Who may use the commands for admins.
    pub admins: Vec<Admin>,
    /// Whether messages without a channel id (the legacy path of 3.2.x scripts) may be answered. Their
    /// rooms cannot be told apart from others of the same name, and are not approved one by one.
    pub reply_without_channel_id: bool,
    /// Which built-in commands are on.
    pub commands: CommandSwitches,
    /// Where messages go that are no command.
    pub webhook: Option<WebhookSettings>,
    /// What is kept of the talk.
    pub chat_log: ChatLogSettings,
    /// How replies are made ready.
    pub replies: ReplySettings,
}

/// A person who may use the commands for admins. Every field that is given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// The hash that stands for the person in a room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_hash: Option<String>,
    /// The person's name. People choose their names themselves: only together with `channel_id`, the
    /// id of a room whose members are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// Only in the room with this channel id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
}

impl Admin {
    fn matches(&self, message: &MessageRecord) -> bool {
        let fits = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == found)
        };
        (self.user_hash.is_some() || self.sender.is_some())
            && fits(&self.user_hash, message.user_hash.as_deref())
            && fits(&self.sender, Some(&message.sender))
            && fits(&self.channel_id, Some(&message.channel_id))
    }
}

/// Which built-in commands are on: all but the named ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandSwitches {
    /// Names of commands that are off, such as `echo`.
    pub disabled: Vec<String>,
}

impl CommandSwitches {
    /// Whether the command is on.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        !self.disabled.iter().any(|disabled| disabled == name)
    }
}

/// A program behind a url that answers for the bot.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSettings {
    /// Where messages are posted.
    pub url: String,
    /// What signs them. Shown as asterisks; a document that has the asterisks keeps the secret.
    pub secret: String,
    /// The secret before, while both sides change over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secret: Option<String>,
    /// How long one call may take, in milliseconds; 100 to 280,000. Without it, and without the two
    /// below, what the installation says holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Calls per message, retries included; 1 to [`HOOK_ATTEMPTS_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// Calls in flight at once; 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The url may hold a secret as well.
        f.debug_struct("WebhookSettings")
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// What is kept of the talk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatLogSettings {
    /// Whether messages that nobody answers are kept. Messages that are worked on are always kept until
    /// they end, since they must survive a crash.
    pub enabled: bool,
}

impl Default for ChatLogSettings {
    fn default() -> ChatLogSettings {
        ChatLogSettings { enabled: true }
    }
}

/// How replies are made ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplySettings {
    /// The pause between several replies to one message, in milliseconds; 0 to 60,000.
    pub pause_ms: u32,
    /// Pictures wider than this are made smaller; 0 leaves them as they are.
    pub image_width: u32,
}

impl ReplySettings {
    /// The longest pause: a phone's later replies wait behind it.
    pub const PAUSE_MS_MAX: u32 = 60_000;

    /// The pause between several replies to one message.
    #[must_use]
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_ms.into())
    }
}

impl Default for ReplySettings {
    fn default() -> ReplySettings {
        ReplySettings { pause_ms: 0, image_width: 900 }
    }
}

/// Why a document was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// It is no JSON, or a field has the wrong type.
    #[error("{reason}")]
    Unreadable {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// It has fields that do not exist.
    #[error("unknown fields: {}", paths.join(", "))]
    UnknownFields {
        /// Where they are, such as `webhook.tiemout`.
        paths: Vec<String>,
    },
    /// A value is out of range or makes no sense.
    #[error("{path}: {reason}")]
    Invalid {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Settings {
    /// The largest document, in bytes.
    pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

    /// Reads and checks a document.
    pub fn parse(document: &str) -> Result<Settings, SettingsError> {
        if document.len() > Self::DOCUMENT_BYTES_MAX {
            let reason = format!("the document has more than {} bytes", Self::DOCUMENT_BYTES_MAX);
            return Err(SettingsError::Unreadable { reason });
        }
        // A sequence would be taken for the fields in their order.
        if !document.trim_start().starts_with('{') {
            let reason = "the document is no JSON object".to_owned();
            return Err(SettingsError::Unreadable { reason });
        }
        let mut paths = Vec::new();
        let mut json = serde_json::Deserializer::from_str(document);
        let unreadable =
            |error: serde_json::Error| SettingsError::Unreadable { reason: error.to_string() };
        let settings: Settings =
            serde_ignored::deserialize(&mut json, |path| paths.push(path.to_string()))
                .map_err(unreadable)?;
        json.end().map_err(unreadable)?;
        if !paths.is_empty() {
            return Err(SettingsError::UnknownFields { paths });
        }
        settings.check()?;
        Ok(settings)
    }

    /// The document with these settings.
    #[must_use]
    pub fn document(&self) -> String {
        serde_json::to_string(self).expect("invariant: settings have only string keys")
    }

    /// The same without secrets, for people to read and edit.
    #[must_use]
    pub fn masked(&self) -> Settings {
        let mut shown = self.clone();
        if let Some(webhook) = &mut shown.webhook {
            webhook.secret = MASK.to_owned();
            webhook.previous_secret = webhook.previous_secret.as_ref().map(|_| MASK.to_owned());
        }
        shown
    }

    /// Puts the secrets of `before` where this document only has the mask.
    pub fn unmask(&mut self, before: &Settings) {
        let (Some(webhook), Some(before)) = (&mut self.webhook, &before.webhook) else { return };
        if webhook.secret == MASK {
            webhook.secret.clone_from(&before.secret);
        }
        if webhook.previous_secret.as_deref() == Some(MASK) {
            webhook.previous_secret.clone_from(&before.previous_secret);
        }
    }

    /// Whether the sender of a message is an admin.
    #[must_use]
    pub fn is_admin(&self, message: &MessageRecord) -> bool {
        self.admins.iter().any(|admin| admin.matches(message))
    }

    fn check(&self) -> Result<(), SettingsError> {
        let invalid = |path: String, reason: &str| {
            Err(SettingsError::Invalid { path, reason: reason.to_owned() })
        };
        for (i, admin) in self.admins.iter().enumerate() {
            if admin.user_hash.is_none() && admin.sender.is_none() {
                return invalid(format!("admins[{i}]"), "needs user_hash or sender");
            }
            if admin.user_hash.is_none() && admin.channel_id.is_none() {
                let reason = "a name alone can be taken by anybody: give channel_id or user_hash";
                return invalid(format!("admins[{i}]"), reason);
            }
        }
        for (i, name) in self.commands.disabled.iter().enumerate() {
            if !crate::command::BUILT_IN.iter().any(|spec| spec.name == name) {
                return invalid(format!("commands.disabled[{i}]"), "there is no such command");
            }
        }
        if let Some(webhook) = &self.webhook {
            let ranges = [
                ("webhook.timeout_ms", webhook.timeout_ms, 100, 280_000),
                ("webhook.attempts_max", webhook.attempts_max, 1, HOOK_ATTEMPTS_MAX),
                ("webhook.in_flight_max", webhook.in_flight_max, 1, 1_000),
            ];
            for (path, value, min, max) in ranges {
                if value.is_some_and(|value| value < min || value > max) {
                    return invalid(path.to_owned(), &format!("must be from {min} to {max}"));
                }
            }
            if webhook.secret.is_empty() {
                return invalid("webhook.secret".to_owned(), "is empty");
            }
        }
        if self.replies.pause_ms > ReplySettings::PAUSE_MS_MAX {
            return invalid("replies.pause_ms".to_owned(), "at most 60000");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_the_way_through_a_document() {
        assert_eq!(Settings::parse(&Settings::default().document()), Ok(Settings::default()));
        assert_eq!(Settings::parse("{}"), Ok(Settings::default()));
    }

    #[test]
    fn unknown_fields_are_refused_with_their_paths() {
        let document = r#"{"replies":{"pause":1},"adminz":[]}"#;
        let Err(SettingsError::UnknownFields { mut paths }) = Settings::parse(document) else {
            panic!("it was taken")
        };
        paths.sort();
        assert_eq!(paths, ["adminz", "replies.pause"]);
    }

    #[test]
    fn secrets_are_shown_as_a_mask_and_kept_when_the_mask_comes_back() {
        let document = r#"{"webhook":{"url":"https://bot.example/","secret":"hush"}}"#;
        let settings = Settings::parse(document).unwrap();
        let shown = settings.masked().document();
        assert!(!shown.contains("hush") && !format!("{settings:?}").contains("hush"));
        let mut edited = Settings::parse(&shown).unwrap();
        edited.unmask(&settings);
        assert_eq!(edited, settings);
    }

    #[test]
    fn a_bot_may_set_as_many_attempts_as_the_installation() {
        let parse = |attempts: u32| {
            Settings::parse(&format!(
                r#"{{"webhook":{{"url":"https://bot.example/","secret":"x","attempts_max":{attempts}}}}}"#
            ))
        };
        assert!(parse(HOOK_ATTEMPTS_MAX).is_ok());
        assert!(parse(HOOK_ATTEMPTS_MAX + 1).is_err());
    }

    #[test]
    fn documents_that_make_no_sense_are_refused() {
        for document in [
            "",
            "[]",
            "{} x",
            r#"{"admins":[{}]}"#,
            r#"{"admins":[{"sender":"kim"}]}"#,
            r#"{"commands":{"disabled":["ehco"]}}"#,
            r#"{"replies":{"pause_ms":60001}}"#,
            r#"{"replies":{"pause_ms":-1}}"#,
            r#"{"webhook":{"url":"https://bot.example/"}}"#,
            r#"{"webhook":{"url":"https://bot.example/","secret":""}}"#,
            r#"{"webhook":{"url":"https://bot.example/","secret":"x","attempts_max":0}}"#,
        ] {
            assert!(Settings::parse(document).is_err(), "{document}");
        }
    }
}
