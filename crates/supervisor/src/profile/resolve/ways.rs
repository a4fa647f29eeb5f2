//! The ways by which a game is told and asked: ladders, saves, holds, announcements, status. What is not to be had
//! here, because a secret or a port was not given or the system has no such thing, is left out by name.

use std::net::SocketAddr;

use super::Resolver;
use crate::profile::format::{self, Profile, Proof, StatusProtocol, System, Via};
use crate::profile::log::compile;
use crate::profile::read::Problem;
use crate::profile::template::Text;
use crate::profile::units::{Secret, Span};
use crate::profile::ward::{Act, HoldRule, Means, Rung, SaveAct, Signal, Source, StatusCommand};

/// How long a game may take to end after it was killed, where the profile does not say.
const KILL_WAIT: Span = Span::seconds(10);

impl Resolver<'_> {
    pub(super) fn stop(&mut self) -> Vec<Rung> {
        let mut ladder = Vec::new();
        for (at, rung) in self.profile.stop.iter().enumerate() {
            let key = format!("profile.stop[{at}]");
            let is_here =
                rung.platforms.is_empty() || rung.platforms.contains(&self.around.platform);
            if !is_here {
                continue;
            }
            let Some(act) = self.act(&key, rung.via, &rung.send, &rung.port) else { continue };
            let said = self.spec.stop.wait.filter(|_| rung.via != Via::Kill);
            let wait = said.unwrap_or(rung.wait);
            if wait.0.is_zero() {
                self.wrong(format!("{key}.wait"), "is missing: how long may it take?");
            }
            ladder.push(Rung { act, wait: wait.0 });
        }
        let is_gentle = ladder.iter().any(|rung: &Rung| rung.act.means != Means::Kill);
        if !is_gentle && !self.profile.stop.is_empty() {
            let reasons: Vec<String> = self.left_out.iter().map(ToString::to_string).collect();
            let message = format!("only killing it is left ({})", reasons.join("; "));
            self.warnings.push(Problem::new("stop", message));
        }
        if let Some(at) = ladder.iter().position(|rung| rung.act.means == Means::Kill) {
            ladder.truncate(at + 1);
        } else if let Some(act) = self.act("stop", Via::Kill, "", "") {
            ladder.push(Rung { act, wait: KILL_WAIT.0 });
        }
        ladder
    }

    pub(super) fn acts(&mut self, key: &str, acts: &[format::Act]) -> Vec<Act> {
        let found = acts.iter().enumerate().filter_map(|(at, act)| {
            self.act(&format!("profile.{key}[{at}]"), act.via, &act.send, &act.port)
        });
        found.collect()
    }

    /// `None` if it is not to be had here, with a note, or if it is wrong.
    fn act(&mut self, key: &str, via: Via, send: &str, port: &str) -> Option<Act> {
        let text = match Text::new(send, &self.names, &self.profile.text) {
            Ok(text) => text,
            Err(message) => {
                self.wrong(format!("{key}.send"), message);
                return None;
            }
        };
        let needs_text = !matches!(via, Via::Kill | Via::Plugin);
        if needs_text && send.is_empty() {
            self.wrong(format!("{key}.send"), "is missing");
            return None;
        }
        if via == Via::Palworld && !PALWORLD_VERBS.contains(&send) {
            let message = format!("`{send}` is none of {}", PALWORLD_VERBS.join(", "));
            self.wrong(format!("{key}.send"), message);
            return None;
        }
        let means = self.means(key, via, send, port)?;
        Some(Act { means, text })
    }

    fn means(&mut self, key: &str, via: Via, send: &str, port: &str) -> Option<Means> {
        match via {
            Via::Console if !self.is_launched => {
                self.leave_out(key, "Naru did not start it and has no hold of its console")
            }
            Via::Console if !self.profile.stdin => {
                self.wrong(format!("{key}.via"), "needs `stdin = true` in the profile");
                None
            }
            Via::Console => Some(Means::Console),
            Via::Plugin if self.profile.plugin.is_none() => {
                self.wrong(format!("{key}.via"), "needs a `[plugin]` in the profile");
                None
            }
            Via::Plugin => Some(Means::Plugin),
            Via::Kill => Some(Means::Kill),
            Via::Signal => self.signal(key, send),
            Via::Rcon | Via::Quake3Rcon | Via::Econ | Via::Palworld | Via::MinecraftManagement => {
                let (usual, secret) = usual_of(via);
                let (at, secret) = self.target(key, via.as_str(), port, usual, Some(secret))?;
                Some(Means::Net { via, at, secret })
            }
        }
    }

    fn signal(&mut self, key: &str, send: &str) -> Option<Means> {
        let Some(signal) = Signal::parse(send) else {
            let message =
                format!("`{send}` is none of SIGTERM, SIGINT, SIGQUIT, SIGHUP, ctrl-break");
            self.wrong(format!("{key}.send"), message);
            return None;
        };
        let is_here = (signal == Signal::CtrlBreak) == (self.around.platform == System::Windows);
        match is_here {
            true => Some(Means::Signal(signal)),
            false => self.leave_out(key, &format!("there is no {send} on this system")),
        }
    }

    fn leave_out<T>(&mut self, key: &str, message: &str) -> Option<T> {
        self.left_out.push(Problem::new(key, message));
        None
    }

    /// Where a protocol is spoken, and its secret.
    fn target(
        &mut self,
        key: &str,
        what: &str,
        port: &str,
        usual: &str,
        secret: Option<&str>,
    ) -> Option<(SocketAddr, Secret)> {
        let port = if port.is_empty() { usual } else { port };
        if !self.profile.ports.contains_key(port) {
            self.wrong(format!("{key}.port"), format!("the profile has no port `{port}`"));
            return None;
        }
        let Some(number) = self.ports.get(port).map(|port| port.number) else {
            let hint = secret.map(|name| format!(" or `secrets.{name}`")).unwrap_or_default();
            return self.leave_out(key, &format!("{what} needs `ports.{port}`{hint}"));
        };
        let secret = match secret {
            None => Secret::default(),
            Some(name) => match self.secrets.get(name) {
                Some(secret) => secret.clone(),
                None => {
                    let message = format!("{what} needs `secrets.{name}` or `secrets.{name}_file`");
                    return self.leave_out(key, &message);
                }
            },
        };
        Some((SocketAddr::new(self.address, number), secret))
    }

    pub(super) fn saves(&mut self) -> Vec<SaveAct> {
        let saves = &self.profile.save;
        let found: Vec<SaveAct> = (saves.iter().enumerate())
            .filter_map(|(at, save)| self.save(&format!("profile.save[{at}]"), save))
            .collect();
        if found.is_empty() && !saves.is_empty() {
            let message = "nothing can make it save before it is stopped; see what was left out";
            self.warnings.push(Problem::new("save", message));
        }
        found
    }

    fn save(&mut self, key: &str, save: &format::Save) -> Option<SaveAct> {
        // What is wrong is wrong although it is not to be had here.
        let act = self.act(key, save.via, &save.send, &save.port);
        if save.confirmed.is_empty() {
            self.wrong(format!("{key}.confirmed"), "is missing: log, answer, event or files");
        }
        let proves = |proof| save.confirmed.contains(&proof);
        if proves(Proof::Log) && self.profile.log.saved.is_empty() {
            self.wrong(format!("{key}.confirmed"), "`log` needs patterns in `log.saved`");
        }
        if proves(Proof::Files) == save.files.is_empty() {
            self.wrong(format!("{key}.files"), "belongs to `files` in `confirmed`");
        }
        let by_answer = proves(Proof::Answer)
            .then(|| self.regex(&format!("{key}.answer"), &save.answer, &[]))
            .flatten();
        let by_files =
            proves(Proof::Files).then(|| self.fill(&format!("{key}.files"), &save.files));
        Some(SaveAct {
            act: act?,
            by_log: proves(Proof::Log),
            by_event: proves(Proof::Event),
            by_answer,
            by_files,
            within: save.within.0,
        })
    }

    pub(super) fn hold(&mut self, hold: &format::Hold) -> Option<HoldRule> {
        for via in &hold.via {
            let key = "profile.hold";
            if self.means(key, *via, "", "").is_none() {
                continue;
            }
            let mut acts = |texts: &[String]| -> Vec<Act> {
                texts.iter().filter_map(|text| self.act(key, *via, text, "")).collect()
            };
            let (begin, end) = (acts(&hold.begin), acts(&hold.end));
            let ask = match hold.ask.as_str() {
                "" => None,
                ask => self.act(key, *via, ask, ""),
            };
            return Some(HoldRule { begin, ask, end, within: hold.within.0 });
        }
        None
    }

    pub(super) fn status(&mut self) -> Vec<Source> {
        let sources = &self.profile.status;
        let found: Vec<Source> = (sources.iter().enumerate())
            .filter_map(|(at, source)| self.source(&format!("profile.status[{at}]"), source))
            .collect();
        if found.is_empty() && !sources.is_empty() {
            let message = "nothing tells whether it answers; see what was left out";
            self.warnings.push(Problem::new("status", message));
        }
        found
    }

    fn source(&mut self, key: &str, source: &format::Source) -> Option<Source> {
        let command = self.status_command(key, source);
        self.check_times(key, source);
        let place = match source.protocol {
            StatusProtocol::Log => {
                let log = &self.profile.log;
                if log.joined.is_empty() || log.left.is_empty() {
                    self.wrong(key, "`log` needs patterns in `log.joined` and `log.left`");
                }
                None
            }
            StatusProtocol::Plugin if self.profile.plugin.is_none() => {
                self.wrong(key, "needs a `[plugin]` in the profile");
                None
            }
            StatusProtocol::Plugin => None,
            protocol => {
                let (usual, secret) = usual_of_status(protocol, self.profile);
                Some(self.target(key, protocol.as_str(), &source.port, usual, secret)?)
            }
        };
        let (at, secret) =
            place.map_or((None, Secret::default()), |(at, secret)| (Some(at), secret));
        Some(Source {
            protocol: source.protocol,
            at,
            secret,
            every: source.every.0,
            watched: source.watched.0,
            names: source.names.0,
            timeout: source.timeout.0,
            command,
        })
    }

    fn check_times(&mut self, key: &str, source: &format::Source) {
        let (second, hour) = (Span::seconds(1), Span::seconds(3_600));
        for (name, span) in [("every", source.every), ("watched", source.watched)] {
            // No game is asked more often: Quake 3 answers 1 a second, Minecraft's Query is cached for 5 s.
            if span < second || span > hour {
                self.wrong(format!("{key}.{name}"), format!("{span} is outside 1s to 1h"));
            }
        }
        if source.timeout.0.is_zero() || source.timeout > Span::seconds(30) {
            self.wrong(
                format!("{key}.timeout"),
                format!("{} is outside 1ms to 30s", source.timeout),
            );
        }
    }

    fn status_command(&mut self, key: &str, source: &format::Source) -> Option<StatusCommand> {
        let has_command = !source.send.is_empty();
        if (source.protocol == StatusProtocol::Rcon) != has_command {
            self.wrong(format!("{key}.send"), "belongs to `protocol = \"rcon\"`, which needs it");
            return None;
        }
        if !has_command {
            return None;
        }
        let mut pattern = |name: &str, raw: &str, groups: &[&str]| match raw {
            "" => None,
            raw => self.regex(&format!("{key}.{name}"), raw, groups),
        };
        let count = pattern("count", &source.count, &["online", "max"]);
        let player = pattern("player", &source.player, &["name", "id"]);
        let send = self.fill(&format!("{key}.send"), &source.send);
        Some(StatusCommand { send, count, player })
    }

    fn regex(&mut self, key: &str, raw: &str, groups: &[&str]) -> Option<regex::bytes::Regex> {
        let regex = match compile(raw) {
            Ok(regex) => regex,
            Err(message) => {
                self.wrong(key, message);
                return None;
            }
        };
        let unread = regex.capture_names().flatten().find(|name| !groups.contains(name));
        if let Some(name) = unread {
            self.wrong(key, format!("the group `{name}` is never read"));
        }
        Some(regex)
    }
}

/// What Palworld's API can be told.
const PALWORLD_VERBS: &[&str] = &["announce", "save", "shutdown", "stop", "kick", "ban", "unban"];

/// The usual port and the secret of a way.
fn usual_of(via: Via) -> (&'static str, &'static str) {
    match via {
        Via::Quake3Rcon => ("game", "rcon"),
        Via::Econ => ("econ", "econ"),
        Via::Palworld => ("rest", "admin"),
        Via::MinecraftManagement => ("management", "management"),
        _ => ("rcon", "rcon"),
    }
}

/// The usual port of a status protocol, and its secret if it has one.
fn usual_of_status(
    protocol: StatusProtocol,
    profile: &Profile,
) -> (&'static str, Option<&'static str>) {
    match protocol {
        StatusProtocol::Palworld => ("rest", Some("admin")),
        StatusProtocol::MinecraftManagement => ("management", Some("management")),
        StatusProtocol::Rcon => ("rcon", Some("rcon")),
        StatusProtocol::MinecraftQuery => ("query", None),
        StatusProtocol::A2s if profile.ports.contains_key("query") => ("query", None),
        _ => ("game", None),
    }
}
