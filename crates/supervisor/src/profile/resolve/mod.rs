//! Puts a profile and what the operator said of a ward together, so that nothing is left open: every placeholder is
//! filled, every pattern compiled, every way that is not to be had here left out by name. All mistakes at once.

mod ways;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};

use super::check::check_ward;
use super::format::{self, Profile, System};
use super::log::LogPatterns;
use super::read::Problem;
use super::shipped;
use super::spec::{STOP_MESSAGE, WardSpec};
use super::template::Names;
use super::units::{Secret, Span, read_secret_file};
use super::ward::{
    Act, Attach, Countdown, CrashFileRule, ExitRules, HangRules, Launch, LaunchFile, PlayerActs,
    PluginRule, ReadyRule, ResolvedPort, Signal, Source, Ward,
};
use crate::model::WardName;

/// The system that a ward is put together for.
pub type Platform = System;

impl Platform {
    /// The one that this program runs on. What is no Windows is taken for Linux.
    #[must_use]
    pub fn here() -> Platform {
        if cfg!(windows) { Platform::Windows } else { Platform::Linux }
    }
}

/// What a ward stands in.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The system.
    pub platform: Platform,
    /// Whether games can be started as other users.
    pub is_root: bool,
    /// The folder of all wards, `DATA_DIR/wards`.
    pub wards_dir: PathBuf,
}

/// Loads the profile and the secrets and resolves. Blocking: it reads files.
pub fn prepare(spec: &WardSpec, around: &Surroundings) -> Result<Ward, Vec<Problem>> {
    let secrets = load_secrets(spec);
    let profile = shipped::load(&spec.profile, &spec.overrides);
    match (profile, secrets) {
        (Ok(profile), Ok(secrets)) => resolve(spec, &profile, &secrets, around),
        (profile, secrets) => {
            let mut problems = check_ward(spec);
            problems.extend(profile.err().unwrap_or_default());
            problems.extend(secrets.err().unwrap_or_default());
            Err(problems)
        }
    }
}

/// The ward's secrets by name, those in files read. Blocking.
pub fn load_secrets(spec: &WardSpec) -> Result<BTreeMap<String, Secret>, Vec<Problem>> {
    let mut secrets = BTreeMap::new();
    let mut problems = Vec::new();
    for (key, value) in &spec.secrets {
        let (name, secret) = match key.strip_suffix("_file") {
            Some(name) => (name, read_secret_file(value.reveal())),
            None => (key.as_str(), Ok(value.clone())),
        };
        let at = format!("secrets.{key}");
        match secret {
            Ok(secret) if secret.is_empty() => problems.push(Problem::new(at, "is empty")),
            Ok(secret) => {
                if secrets.insert(name.to_owned(), secret).is_some() {
                    problems.push(Problem::new(at, format!("give either {name} or {name}_file")));
                }
            }
            Err(message) => problems.push(Problem::new(at, message)),
        }
    }
    if problems.is_empty() { Ok(secrets) } else { Err(problems) }
}

/// Puts them together. It reads no file.
pub fn resolve(
    spec: &WardSpec,
    profile: &Profile,
    secrets: &BTreeMap<String, Secret>,
    around: &Surroundings,
) -> Result<Ward, Vec<Problem>> {
    let mut resolver = Resolver::new(spec, profile, secrets, around);
    let ward = resolver.ward();
    match ward {
        Some(mut ward) if resolver.problems.is_empty() => {
            ward.warnings = resolver.warnings;
            ward.left_out = resolver.left_out;
            Ok(ward)
        }
        _ => Err(resolver.problems),
    }
}

struct Resolver<'a> {
    spec: &'a WardSpec,
    profile: &'a Profile,
    secrets: &'a BTreeMap<String, Secret>,
    around: &'a Surroundings,
    address: IpAddr,
    dir: PathBuf,
    ports: BTreeMap<String, ResolvedPort>,
    /// For what is said; without secrets.
    names: Names,
    /// For what is started; with secrets.
    launch_names: Names,
    is_launched: bool,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    left_out: Vec<Problem>,
}

impl<'a> Resolver<'a> {
    fn new(
        spec: &'a WardSpec,
        profile: &'a Profile,
        secrets: &'a BTreeMap<String, Secret>,
        around: &'a Surroundings,
    ) -> Resolver<'a> {
        let mut resolver = Resolver {
            spec,
            profile,
            secrets,
            around,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            dir: PathBuf::new(),
            ports: BTreeMap::new(),
            names: Names::default(),
            launch_names: Names::default(),
            is_launched: spec.attach.is_none() || !spec.command.is_empty(),
            problems: check_ward(spec),
            warnings: Vec::new(),
            left_out: Vec::new(),
        };
        resolver.set_address();
        resolver.set_ports();
        resolver.set_names();
        resolver
    }

    fn wrong(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(key, message));
    }

    fn set_address(&mut self) {
        match self.spec.address.parse() {
            Ok(address) => self.address = address,
            Err(_) => {
                let message =
                    format!("`{}` is no IP address, such as 127.0.0.1", self.spec.address);
                self.wrong("address", message);
            }
        }
    }

    fn set_ports(&mut self) {
        for name in self.spec.ports.keys() {
            if !self.profile.ports.contains_key(name) {
                let known: Vec<&str> = self.profile.ports.keys().map(String::as_str).collect();
                let known = match known.as_slice() {
                    [] => "the profile has none: add it under `override.ports`".to_owned(),
                    known => format!("the profile has {}", known.join(", ")),
                };
                self.wrong(format!("ports.{name}"), format!("there is no such port; {known}"));
            }
        }
        for (name, port) in &self.profile.ports {
            let is_said = self.spec.ports.contains_key(name) || self.secrets.contains_key(name);
            if port.optional && !is_said {
                continue;
            }
            match self.port_number(name, 0) {
                Ok(Some(0)) => self.wrong(format!("ports.{name}"), "is 1 to 65535"),
                Ok(Some(number)) => {
                    let resolved = ResolvedPort { number, protocol: port.protocol };
                    self.ports.insert(name.clone(), resolved);
                }
                Ok(None) => {
                    self.wrong(format!("ports.{name}"), "is missing: the profile has no default")
                }
                Err(message) => self.wrong(format!("ports.{name}"), message),
            }
        }
    }

    /// The number that the operator said, or that follows another one, or the default.
    fn port_number(&self, name: &str, depth: usize) -> Result<Option<u16>, String> {
        if let Some(said) = self.spec.ports.get(name) {
            return Ok(Some(*said));
        }
        let Some(port) = self.profile.ports.get(name) else {
            return Err(format!("follows `{name}`, which does not exist"));
        };
        if port.follows.is_empty() {
            return Ok(port.default);
        }
        if depth > self.profile.ports.len() {
            return Err("follows itself".to_owned());
        }
        let Some(leader) = self.port_number(&port.follows, depth + 1)? else {
            return Ok(port.default);
        };
        leader.checked_add(port.plus).map(Some).ok_or_else(|| "is beyond 65535".to_owned())
    }

    fn set_names(&mut self) {
        let mut names: Vec<(String, String)> = vec![
            ("name".to_owned(), self.spec.name.clone()),
            ("address".to_owned(), self.address.to_string()),
        ];
        for (name, port) in &self.ports {
            names.push((format!("port.{name}"), port.number.to_string()));
        }
        for (name, value) in &self.profile.vars {
            names.push((format!("var.{name}"), value.clone()));
        }
        for (name, value) in names {
            self.names.set(name.clone(), value.clone());
            self.launch_names.set(name, value);
        }
        self.dir = self.folder();
        let dir = self.dir.display().to_string();
        self.names.set("dir", dir.clone());
        self.launch_names.set("dir", dir);
        for (name, secret) in self.secrets {
            self.launch_names.set(format!("secret.{name}"), secret.reveal());
        }
    }

    fn folder(&mut self) -> PathBuf {
        let said = match (&self.spec.dir, self.profile.dir.as_str()) {
            (Some(dir), _) => dir.clone(),
            (None, "") => self.around.wards_dir.join(&self.spec.name).join("files"),
            (None, hint) => PathBuf::from(self.fill("profile.dir", hint)),
        };
        // The game runs in another folder than Naru.
        std::path::absolute(&said).unwrap_or(said)
    }

    fn fill(&mut self, key: &str, raw: &str) -> String {
        match self.names.fill(raw) {
            Ok(text) => text,
            Err(message) => {
                self.wrong(key, message);
                String::new()
            }
        }
    }

    fn fill_launch(&mut self, key: &str, raw: &str) -> String {
        match self.launch_names.fill(raw) {
            Ok(text) => text,
            Err(message) => {
                self.wrong(key, message);
                String::new()
            }
        }
    }

    fn ward(&mut self) -> Option<Ward> {
        let profile = self.profile;
        let spec = self.spec;
        let name =
            WardName::parse(&spec.name).map_err(|error| self.wrong("name", error.to_string())).ok();
        let launch = self.launch();
        let attach = self.attach();
        let log = LogPatterns::new(&profile.log, &profile.ready).map_err(|problems| {
            self.problems.extend(problems.into_iter().map(|problem| problem.below("profile")));
        });
        let stop = self.stop();
        let log_files: Vec<String> =
            (profile.log.files.iter()).map(|file| self.fill("profile.log.files", file)).collect();
        let plugin = self.plugin();
        let status = self.status();
        let save = self.saves();
        let hold = profile.hold.as_ref().and_then(|hold| self.hold(hold));
        let announce = self.acts("announce", &profile.announce);
        let players = PlayerActs {
            kick: self.acts("players.kick", &profile.players.kick),
            ban: self.acts("players.ban", &profile.players.ban),
            unban: self.acts("players.unban", &profile.players.unban),
            list: self.acts("players.list", &profile.players.list),
        };
        let exit = self.exit();
        self.warn_of_countdowns(&announce);
        let log = log.ok()?;
        self.warn_of_ready(&log, &status);
        Some(Ward {
            name: name?,
            profile: spec.profile.clone(),
            title: profile.title.clone(),
            launch,
            attach,
            dir: self.dir.clone(),
            process: profile.process.clone(),
            ports: self.ports.clone(),
            secrets: self.secrets.clone(),
            autostart: spec.autostart,
            ready: ReadyRule {
                by_log: log.knows_ready(),
                by_answer: profile.ready.answer && !status.is_empty(),
                deadline: profile.ready.deadline.0,
            },
            restart: spec.restart.clone(),
            stop,
            countdown: self.countdown(),
            save,
            hold,
            announce,
            players,
            status,
            log_files,
            log,
            exit,
            hang: self.hang(),
            saves: profile.saves.clone(),
            cost: profile.cost.clone(),
            priority: spec.priority.clone(),
            schedules: spec.schedule.clone(),
            backup: spec.backup.clone(),
            webhooks: spec.webhooks.clone(),
            metrics: spec.metrics,
            console: spec.console.clone(),
            plugin,
            warnings: Vec::new(),
            left_out: Vec::new(),
        })
    }

    fn launch(&mut self) -> Option<Launch> {
        if !self.is_launched {
            return None;
        }
        let (key, command) = match self.spec.command.as_slice() {
            [] => ("profile.command", &self.profile.command),
            _ => ("command", &self.spec.command),
        };
        if command.iter().any(|arg| arg.contains("{secret.")) {
            let message = "has a secret in it, which every user of this machine can read";
            self.warnings.push(Problem::new(key, message));
        }
        let mut words: Vec<String> =
            command.iter().map(|word| self.fill_launch(key, word)).collect();
        if words.first().is_none_or(String::is_empty) {
            self.wrong(
                "command",
                "is missing: give program and arguments, or `attach` to a running server",
            );
            return None;
        }
        if words.iter().any(|word| word.contains('\0')) {
            self.wrong(key, "has a zero byte in it");
        }
        let program = words.remove(0);
        if self.spec.user.is_some() && !self.around.is_root {
            self.wrong("user", "only root can start a game as another user: leave it out");
        }
        let mut environment = BTreeMap::new();
        for (name, raw) in &self.profile.environment {
            environment.insert(name.clone(), self.fill_launch("profile.environment", raw));
        }
        for (name, raw) in &self.spec.env {
            let at = format!("env.{name}");
            environment.insert(name.clone(), self.fill_launch(&at, raw));
        }
        for name in environment.keys().filter(|name| name.is_empty() || name.contains(['=', '\0']))
        {
            self.problems.push(Problem::new("env", format!("`{name}` is no name of a variable")));
        }
        let files = self.profile.file.iter().filter_map(|file| self.launch_file(file)).collect();
        Some(Launch {
            program,
            args: words,
            dir: self.dir.clone(),
            environment: environment.into_iter().collect(),
            user: self.spec.user.clone(),
            stdin: self.profile.stdin,
            files,
        })
    }

    fn launch_file(&mut self, file: &format::FileText) -> Option<LaunchFile> {
        let path = self.fill("profile.file", &file.path);
        let is_below =
            Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !is_below {
            self.wrong("profile.file", format!("`{path}` does not stand below the ward's folder"));
            return None;
        }
        let mut text = String::new();
        for line in &file.lines {
            if self.is_without(line) {
                continue;
            }
            let line = self.fill_launch("profile.file", line);
            if line.contains(['\r', '\n']) {
                // A secret with a line break would write a second setting.
                self.wrong("profile.file", format!("a line of {path} has a line break in it"));
            }
            text.push_str(&line);
            text.push('\n');
        }
        Some(LaunchFile { path: self.dir.join(path), text: Secret::new(text) })
    }

    /// Whether a line speaks of a secret that was not given, or of a port that is not in use.
    fn is_without(&self, line: &str) -> bool {
        let names =
            |kind: &'static str| line.split(kind).skip(1).filter_map(|rest| rest.split('}').next());
        names("{secret.").any(|name| !self.secrets.contains_key(name))
            || names("{port.")
                .any(|name| self.profile.ports.contains_key(name) && !self.ports.contains_key(name))
    }

    fn attach(&mut self) -> Option<Attach> {
        let attach = self.spec.attach.as_ref()?;
        // Exactly one is given, or `check` has said so.
        let by_file = attach.pid_file.clone().map(Attach::PidFile);
        let by_name = || attach.name.clone().map(Attach::Name);
        let by_port = || attach.port.map(Attach::Port);
        let by_command = || attach.command.clone().map(Attach::Command);
        by_file.or_else(by_name).or_else(by_port).or_else(by_command)
    }

    fn exit(&mut self) -> ExitRules {
        let exit = &self.profile.exit;
        let mut stop_signals = Vec::new();
        for raw in &exit.stop_signals {
            match Signal::parse(raw) {
                Some(signal) => stop_signals.push(signal.number()),
                None => self.wrong("profile.exit.stop_signals", format!("`{raw}` is not known")),
            }
        }
        let twice = exit
            .crash_codes
            .iter()
            .find(|code| exit.clean_codes.contains(code) || exit.stop_codes.contains(code));
        if let Some(code) = twice {
            let message = format!("{code} is a crash and an orderly end at once");
            self.wrong("profile.exit.crash_codes", message);
        }
        let mut crash_files = Vec::new();
        for file in &exit.crash_file {
            let path = self.fill("profile.exit.crash_file", &file.path);
            let (after, until) = (file.after.clone(), file.until.clone());
            crash_files.push(CrashFileRule { path, after, until });
        }
        ExitRules {
            clean_codes: exit.clean_codes.clone(),
            stop_codes: exit.stop_codes.clone(),
            stop_signals,
            crash_codes: exit.crash_codes.clone(),
            is_meaningless: exit.meaningless,
            crash_files,
        }
    }

    fn hang(&self) -> Option<HangRules> {
        let hang = &self.profile.hang;
        self.spec.hang.enabled.then(|| HangRules {
            after: self.spec.hang.after.0,
            misses: hang.misses,
            uptime_frozen: hang.uptime_frozen,
            tick_zero: hang.tick_zero,
            log_silence: hang.log_silence.map(|silence| silence.0),
        })
    }

    fn plugin(&mut self) -> Option<PluginRule> {
        let plugin = self.profile.plugin.as_ref()?;
        let command: Vec<String> =
            plugin.command.iter().map(|word| self.fill("profile.plugin.command", word)).collect();
        if command.first().is_none_or(String::is_empty) {
            self.wrong("profile.plugin.command", "is missing");
        }
        if plugin.deadline.0.is_zero() || plugin.deadline > Span::seconds(60) {
            let message = format!("{} is outside 1ms to 1m", plugin.deadline);
            self.wrong("profile.plugin.deadline", message);
        }
        if !(1..=10).contains(&plugin.tries) {
            self.wrong("profile.plugin.tries", format!("{} is outside 1 to 10", plugin.tries));
        }
        Some(PluginRule { command, deadline: plugin.deadline.0, tries: plugin.tries })
    }

    fn countdown(&self) -> Countdown {
        let stop = &self.spec.stop;
        let template = match stop.message.as_str() {
            "" => STOP_MESSAGE.to_owned(),
            said => said.to_owned(),
        };
        Countdown { steps: stop.countdown.iter().map(|step| step.0).collect(), template }
    }

    fn warn_of_countdowns(&mut self, announce: &[Act]) {
        let counts = !self.spec.stop.countdown.is_empty()
            || self.spec.schedule.iter().any(|schedule| schedule.countdown.is_some());
        if counts && announce.is_empty() {
            let message = "players cannot be told: no way to announce is to be had";
            self.warnings.push(Problem::new("stop.countdown", message));
        }
    }

    fn warn_of_ready(&mut self, log: &LogPatterns, status: &[Source]) {
        let answers = self.profile.ready.answer && !status.is_empty();
        let is_said = self.profile.ready.answer || !self.profile.ready.log.is_empty();
        if is_said && !answers && !log.knows_ready() && !self.profile.status.is_empty() {
            let message = "nothing tells that it has started: it counts as started when it runs";
            self.warnings.push(Problem::new("ready", message));
        }
    }
}
