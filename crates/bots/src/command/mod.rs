//! Commands people type in a room: what they are called, what they take, who may use them.
//!
//! A command is declared once (`CommandSpec`); recognition, parameters, usage lines and the help text
//! follow from that. Knows nothing of queues, stores or sockets.

mod builtin;
mod parse;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_domain::{BotName, Clock};

pub use builtin::BUILT_IN;
pub use parse::{Arguments, ParseError};

use crate::handler::{HandlerError, Incoming, Outcome};
use crate::settings::Settings;

/// A command, declared.
#[derive(Debug)]
pub struct CommandSpec {
    /// Its name in settings: the prefix without `# `, blanks as `-`.
    pub name: &'static str,
    /// What a message must begin with; a blank or the end follows.
    pub prefix: &'static str,
    /// One line for people, in Korean.
    pub help: &'static str,
    /// The text after the prefix.
    pub text: TextRule,
    /// What `--name=value` it takes, anywhere after the prefix.
    pub parameters: &'static [Parameter],
    /// Who may use it.
    pub who: Who,
    /// How it is run.
    pub run: Run,
}

/// Whether a command takes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRule {
    /// No; what is there is ignored.
    None,
    /// If it likes; the name stands in the usage line.
    Optional(&'static str),
    /// It must; the name stands in the usage line.
    Required(&'static str),
}

/// One `--name=value`.
#[derive(Debug)]
pub struct Parameter {
    /// Without the dashes.
    pub name: &'static str,
    /// What stands for the value in the usage line.
    pub value_name: &'static str,
    /// What it may be.
    pub kind: ParameterKind,
}

/// What a parameter's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// Anything without blanks.
    Text,
    /// A whole number of at least `min`; above `max` it counts as `max`.
    Integer {
        /// The smallest.
        min: u32,
        /// The largest.
        max: u32,
    },
}

/// Who may use a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody in the room.
    Anyone,
    /// The admins of the bot's settings.
    Admins,
}

/// How a command is run.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Quick, without waiting and without effects: may be answered before it is queued.
    Now(fn(&Call<'_>) -> Outcome),
    /// By a worker.
    Later(Work),
}

/// What workers do for commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Draws pictures.
    Pictures,
    /// Lists the connected phones.
    ClientSummary,
    /// Reads devices, rooms and settings again.
    Reload,
}

/// One use of a command.
#[derive(Debug)]
pub struct Call<'a> {
    /// What was declared.
    pub spec: &'static CommandSpec,
    /// What was typed after the prefix.
    pub arguments: Arguments,
    /// The message.
    pub incoming: &'a Incoming,
    /// The bot's settings.
    pub settings: &'a Settings,
    /// Whether the sender is an admin of the bot.
    pub is_admin: bool,
    /// Now.
    pub now: naru_domain::Timestamp,
}

/// What commands ask of the rest of the bots.
#[async_trait]
pub trait Services: Send + Sync + 'static {
    /// The connected phones of a bot.
    fn connected(&self, bot: &BotName) -> Vec<ConnectedPhone>;
    /// Reads devices, rooms and settings again; says how many of each.
    async fn reload(&self) -> Result<ReloadReport, String>;
}

/// A connected phone, as `# client_info summary` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedPhone {
    /// Bot and device, as the session is labelled.
    pub label: String,
    /// The address it is connected from.
    pub peer: String,
    /// For how long.
    pub connected_for: Duration,
    /// Replies that wait for it.
    pub queued: usize,
}

/// What a reload read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Devices known to this process.
    pub devices: usize,
    /// Rooms known to this process.
    pub rooms: usize,
    /// Bots known to this process.
    pub bots: usize,
}

/// Where a text leads.
enum Route<'a> {
    /// It is no command.
    None,
    /// It is answered as it stands: a usage line, an error line, or a refusal.
    Answered(Outcome),
    /// It is to be run.
    Run(Call<'a>),
}

/// The commands, with what they need.
pub struct Commands {
    specs: &'static [CommandSpec],
    services: Arc<dyn Services>,
    clock: Arc<dyn Clock>,
}

impl Commands {
    /// The built-in set.
    #[must_use]
    pub fn built_in(services: Arc<dyn Services>, clock: Arc<dyn Clock>) -> Commands {
        Commands { specs: BUILT_IN, services, clock }
    }

    /// The answer, if the text is a command that can be answered at once. `Some(None)` says that it is a
    /// command for [`Commands::run`]; `None` that it is no command.
    #[must_use]
    pub fn immediate(&self, incoming: &Incoming, settings: &Settings) -> Option<Option<Outcome>> {
        match self.route(incoming, settings) {
            Route::None => None,
            Route::Answered(outcome) => Some(Some(outcome)),
            Route::Run(call) => match call.spec.run {
                Run::Now(run) => Some(Some(run(&call))),
                Run::Later(_) => Some(None),
            },
        }
    }

    /// Runs the command the text begins with; `None` if it is no command.
    pub async fn run(
        &self,
        incoming: &Incoming,
        settings: &Settings,
    ) -> Option<Result<Outcome, HandlerError>> {
        match self.route(incoming, settings) {
            Route::None => None,
            Route::Answered(outcome) => Some(Ok(outcome)),
            Route::Run(call) => Some(match call.spec.run {
                Run::Now(run) => Ok(run(&call)),
                Run::Later(Work::Pictures) => Ok(builtin::pictures(&call)),
                Run::Later(Work::ClientSummary) => {
                    Ok(builtin::client_summary(&call, self.services.as_ref()))
                }
                Run::Later(Work::Reload) => builtin::reload(self.services.as_ref()).await,
            }),
        }
    }

    fn route<'a>(&self, incoming: &'a Incoming, settings: &'a Settings) -> Route<'a> {
        let text = incoming.message.text.as_ref();
        if !text.starts_with('#') {
            return Route::None; // Nearly all chat ends here.
        }
        let found = self.specs.iter().find_map(|spec| Some((spec, parse::rest_of(spec, text)?)));
        let Some((spec, rest)) = found else { return Route::None };
        if !settings.commands.allows(spec.name) {
            return Route::None;
        }
        let is_admin = settings.is_admin(&incoming.message);
        if spec.who == Who::Admins && !is_admin {
            return Route::Answered(Outcome::text("이 명령은 관리자만 사용할 수 있습니다."));
        }
        match Arguments::parse(spec, rest) {
            Ok(arguments) => Route::Run(Call {
                spec,
                arguments,
                incoming,
                settings,
                is_admin,
                now: self.clock.now(),
            }),
            Err(error) => Route::Answered(Outcome::text(error.line(spec))),
        }
    }
}

impl CommandSpec {
    /// How it is used, on one line.
    #[must_use]
    pub fn usage(&self) -> String {
        let mut usage = self.prefix.to_owned();
        match self.text {
            TextRule::None => (),
            TextRule::Optional(name) => usage.push_str(&format!(" [{name}]")),
            TextRule::Required(name) => usage.push_str(&format!(" {name}")),
        }
        for parameter in self.parameters {
            usage.push_str(&format!(" [--{}={}]", parameter.name, parameter.value_name));
        }
        usage
    }
}

#[cfg(test)]
mod tests;
