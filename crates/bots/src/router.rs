//! Who answers: a built-in command, else the bot's webhook, else nobody.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::{BotName, Clock};
use naru_outbound::{CallLimits, RetryOptions, Secrets};
use tracing::error;

use crate::command::{Commands, ConnectedPhone, ReloadReport, Services};
use crate::core::Core;
use crate::handler::{Handler, HandlerError, Incoming, Outcome};
use crate::hook::{HookError, Webhook, WebhookOptions};
use crate::media::MediaOptions;
use crate::roster::{BotConfig, BotEntry};
use crate::settings::Settings;

/// How long a webhook's message may take below the limit per message, so that its own reason is told.
const WEBHOOK_MARGIN: Duration = Duration::from_secs(10);

/// The handler of the installation.
pub(crate) struct Router {
    core: Weak<Core>,
    commands: Commands,
}

impl Router {
    pub(crate) fn new(core: Weak<Core>, clock: Arc<dyn Clock>) -> Router {
        let services = Arc::new(CoreServices(core.clone()));
        Router { core, commands: Commands::built_in(services, clock) }
    }

    fn bot(&self, incoming: &Incoming) -> Option<Arc<BotEntry>> {
        self.core.upgrade()?.roster.bot(&incoming.bot)
    }
}

#[async_trait]
impl Handler for Router {
    fn immediate(&self, incoming: &Incoming) -> Option<Outcome> {
        let bot = self.bot(incoming)?;
        let config = bot.config.load();
        match self.commands.immediate(incoming, &config.settings) {
            Some(outcome) => outcome,
            None if config.webhook.is_some() => None,
            None => Some(Outcome::unhandled()),
        }
    }

    async fn handle(&self, incoming: Incoming) -> Result<Outcome, HandlerError> {
        let Some(bot) = self.bot(&incoming) else {
            return Err(HandlerError::dead("the node is stopping"));
        };
        let config = bot.config.load_full();
        if let Some(answered) = self.commands.run(&incoming, &config.settings).await {
            return answered;
        }
        match &config.webhook {
            Some(webhook) => webhook.handle(incoming).await,
            None => Ok(Outcome::unhandled()),
        }
    }
}

/// What commands ask of the core. Weak, since the core owns the handler.
struct CoreServices(Weak<Core>);

#[async_trait]
impl Services for CoreServices {
    fn connected(&self, bot: &BotName) -> Vec<ConnectedPhone> {
        let Some(core) = self.0.upgrade() else { return Vec::new() };
        let mut phones = Vec::new();
        for entry in core.roster.devices().iter().filter(|entry| entry.bot.name == *bot) {
            if let Some(state) = core.sessions.state(entry.session())
                && let Some(peer) = state.peer
            {
                phones.push(ConnectedPhone {
                    label: state.label,
                    peer,
                    connected_for: state.connected_for.unwrap_or_default(),
                    queued: state.queued,
                });
            }
        }
        phones.sort_by(|a, b| a.label.cmp(&b.label));
        phones
    }

    async fn reload(&self) -> Result<ReloadReport, String> {
        let core = self.0.upgrade().ok_or("the node is stopping")?;
        crate::operate::reload(&core).await.map_err(|error| error.to_string())
    }
}

/// Makes a bot's configuration from its document. A document that cannot be used (it was checked when it
/// was set, so somebody changed it in the database) leaves the bot with the defaults.
pub(crate) fn config_of(
    core: &Core,
    bot: &BotName,
    document: &str,
    revision: i64,
    before: Option<&BotConfig>,
) -> BotConfig {
    let settings = Settings::parse(document).unwrap_or_else(|error| {
        error!(target: "naru::bots", %bot, %error, "settings cannot be used; defaults apply");
        Settings::default()
    });
    let webhook = webhook_of(core, bot, &settings, before).unwrap_or_else(|error| {
        error!(target: "naru::hooks", %bot, %error, "the webhook cannot be used");
        None
    });
    let width_max = match settings.replies.image_width {
        0 => u32::MAX,
        width => width,
    };
    let options = MediaOptions { width_max, ..MediaOptions::default() };
    let kitchen = core.kitchen.with_options(options);
    BotConfig { settings, revision, webhook, kitchen }
}

/// The webhook of these settings; the one before stays (with its breaker) if nothing about it changed.
pub(crate) fn webhook_of(
    core: &Core,
    bot: &BotName,
    settings: &Settings,
    before: Option<&BotConfig>,
) -> Result<Option<Arc<Webhook>>, HookError> {
    let Some(wanted) = &settings.webhook else { return Ok(None) };
    if let Some(before) = before
        && before.settings.webhook.as_ref() == Some(wanted)
        && before.webhook.is_some()
    {
        return Ok(before.webhook.clone());
    }
    let mut secrets = Secrets::new(&wanted.secret);
    if let Some(previous) = &wanted.previous_secret {
        secrets = secrets.with_previous(previous);
    }
    let bounds = core.options.hook_bounds;
    let asked_ms = wanted.timeout_ms.map(u64::from).map(Duration::from_millis);
    let total_timeout = asked_ms.unwrap_or(bounds.call.total_timeout);
    let in_flight_max = match wanted.in_flight_max {
        Some(asked) => usize::try_from(asked).unwrap_or(1),
        None => bounds.in_flight_max,
    };
    let attempts_max = wanted.attempts_max.unwrap_or(bounds.attempts_max);
    let message_timeout = core.options.timeout.saturating_sub(WEBHOOK_MARGIN).max(total_timeout);
    let defaults = WebhookOptions::new(bot.as_str(), &wanted.url, secrets);
    let options = WebhookOptions {
        guard: core.options.hook_guard.clone(),
        call: CallLimits { total_timeout, ..bounds.call },
        in_flight_max,
        retry: RetryOptions { attempts_max, ..RetryOptions::default() },
        message_timeout,
        reply_url: core.options.reply_url.clone(),
        ..defaults
    };
    Webhook::new(options, Arc::clone(&core.clock)).map(|webhook| Some(Arc::new(webhook)))
}
