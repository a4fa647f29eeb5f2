//! What is said to games: commands, announcements, saves, and the pushes that some games send back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use naru_games::{Endpoint, Event, Protocol};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::charge::{SharedTeller, TELL_TIMEOUT};
use super::handle::{Reply, WardError};
use super::keeper::KeeperAsk;
use super::news::{Happened, Teller};
use super::supervisor::Supervisor;
use crate::keeper::Target;
use crate::learn::Mark;
use crate::life::{Evidence, Input, Origin};
use crate::model::WardName;
use crate::profile::format::{StatusProtocol, Via};
use crate::profile::plugin::{Plugin, Request};
use crate::profile::template::Words;
use crate::profile::ward::{Act, Means, SaveAct};

/// Between two connections to a game that pushes.
const PUSH_PAUSE: Duration = Duration::from_secs(5);
/// Who is named as the sender of what Naru says by itself.
const NARU: &str = "naru";

/// Something that will have been said, with its answer, or why not.
pub(super) type Said = std::pin::Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

impl Supervisor {
    /// Says something to a ward's game. The future does it; making it says nothing yet.
    pub(super) fn say(&mut self, name: &WardName, act: &Act, words: &Words<'_>) -> Said {
        let text = act.text.render(words);
        let (seconds, message) = (words.seconds, words.message.to_owned());
        self.say_text(name, &act.means, text, (seconds, message))
    }

    fn say_text(
        &mut self,
        name: &WardName,
        means: &Means,
        text: String,
        (seconds, message): (u64, String),
    ) -> Said {
        let Some(charge) = self.charges.get_mut(name) else {
            return Box::pin(async { Err("there is no such ward".to_owned()) });
        };
        match means {
            Means::Console => {
                if let Some(follower) = &mut charge.follower {
                    follower.echo(self.ports.clock.now(), &Arc::from(NARU), &text);
                }
                input(charge.hold.asks.clone(), text)
            }
            Means::Signal(signal) => {
                let (asks, process) = (charge.hold.asks.clone(), charge.hold.process.clone());
                let number = signal.number();
                Box::pin(async move {
                    match (asks, process) {
                        (Some(asks), _) => {
                            by_keeper(&asks, |reply| KeeperAsk::Signal(number, Target::Game, reply))
                                .await
                        }
                        (None, Some(process)) => crate::host::Handle::open(&process)
                            .and_then(|handle| handle.signal(number))
                            .map_err(|error| error.to_string()),
                        (None, None) => Err("it does not run".to_owned()),
                    }
                    .map(|()| String::new())
                })
            }
            Means::Kill => Box::pin(async { Err("a kill is not said".to_owned()) }),
            Means::Plugin => match charge.plugin.clone() {
                Some(plugin) => plugin_says(plugin, text, seconds, message),
                None => Box::pin(async { Err("it has no plugin".to_owned()) }),
            },
            Means::Net { via, at, secret } => {
                let text = match via {
                    Via::Palworld => palworld(&text, seconds, &message),
                    _ => text,
                };
                let teller = match charge.tellers.get(via) {
                    Some(teller) => Arc::clone(teller),
                    None => match net_teller(*via, *at, secret.reveal()) {
                        Ok(teller) => {
                            charge.tellers.insert(*via, Arc::clone(&teller));
                            teller
                        }
                        Err(error) => return Box::pin(async move { Err(error) }),
                    },
                };
                Box::pin(async move {
                    let told = async { teller.lock().await.tell(&text).await };
                    match timeout(TELL_TIMEOUT * 2, told).await {
                        Ok(Ok(answer)) => Ok(answer),
                        // A command that ends the server often ends the connection, too: the exit tells.
                        Ok(Err(naru_games::TellError::Unsure(_))) => Ok(String::new()),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err("it did not answer in time".to_owned()),
                    }
                })
            }
        }
    }

    /// Tells the players how long is left.
    pub(super) fn announce_stop(&mut self, name: &WardName, left: Duration, reason: &str) {
        let Some(charge) = self.charges.get(name) else { return };
        let mut message = charge.ward.countdown.message(left);
        if !reason.is_empty() {
            message = format!("{message} ({reason})");
        }
        self.announce(name, message);
    }

    /// Tells the players something by the first way that works.
    pub(super) fn announce(&mut self, name: &WardName, message: String) {
        let said = self.announcing(name, &message);
        let ward = name.clone();
        self.tasks.spawn(async move {
            if let Err(error) = said.await {
                tracing::debug!(target: "naru::wards", %ward, %error, "players were not told");
            }
        });
    }

    /// The same, for somebody who wants to know whether it went well.
    pub(super) fn announcing(&mut self, name: &WardName, message: &str) -> Said {
        let Some(charge) = self.charges.get(name) else {
            return Box::pin(async { Err("there is no such ward".to_owned()) });
        };
        let acts = charge.ward.announce.clone();
        if acts.is_empty() {
            return Box::pin(async {
                Err("this game has no way to tell players something".into())
            });
        }
        let words = Words { message, ..Words::default() };
        let ways: Vec<Said> = acts.iter().map(|act| self.say(name, act, &words)).collect();
        Box::pin(first_that_works(ways))
    }

    /// Asks the game to save, by the first way that works. What proves that it did comes later, or with the
    /// answer.
    pub(super) fn ask_to_save(&mut self, name: &WardName) {
        // What the log said before is about an earlier save.
        self.read_console(name, false);
        let Some(charge) = self.charges.get_mut(name) else { return };
        let saves = charge.ward.save.clone();
        let files = saves.iter().find_map(|save| save.by_files.clone());
        charge.saving.files = files.map(|pattern| {
            let before = super::evidence::changed_at(&pattern);
            (pattern, before.unwrap_or(std::time::UNIX_EPOCH))
        });
        charge.saving.is_asked = true;
        let teller = self.teller(name, self.charges[name].entry);
        let words = Words::default();
        let ways: Vec<(SaveAct, Said)> = saves
            .into_iter()
            .map(|save| {
                let said = self.say(name, &save.act, &words);
                (save, said)
            })
            .collect();
        self.tasks.spawn(async move {
            let mut result = Err("this game has no way to be asked to save".to_owned());
            for (save, said) in ways {
                match said.await {
                    Ok(answer) => {
                        let is_proof =
                            save.by_answer.is_some_and(|proof| proof.is_match(answer.as_bytes()));
                        result = Ok(is_proof);
                        break;
                    }
                    Err(error) => result = Err(error),
                }
            }
            teller.tell(Happened::SaveAsked { result }).await;
        });
    }

    pub(super) fn save_asked(&mut self, name: &WardName, result: Result<bool, String>) {
        match result {
            Ok(true) => self.saved(name),
            Ok(false) => {}
            Err(error) => {
                if let Some(charge) = self.charges.get_mut(name) {
                    charge.saving.is_asked = false;
                    for (_, caller) in charge.saving.callers.drain(..) {
                        drop(caller.send(Err(WardError::Unavailable(error.clone()))));
                    }
                }
                self.feed(name, Input::SaveFailed(error));
            }
        }
    }

    /// A save is complete: somebody said so, or a file shows it.
    pub(super) fn saved(&mut self, name: &WardName) {
        if let Some(charge) = self.charges.get_mut(name) {
            charge.saving.is_asked = false;
            charge.saving.files = None;
            for (_, caller) in charge.saving.callers.drain(..) {
                drop(caller.send(Ok(())));
            }
        }
        self.learn_mark(name, Mark::SaveEnded);
        self.feed(name, Input::Saved);
    }

    /// A save began.
    pub(super) fn save_began(&mut self, name: &WardName) {
        self.learn_mark(name, Mark::SaveBegan);
        self.feed(name, Input::SaveBegan);
    }

    /// Files that prove a save, and callers who waited long enough.
    pub(super) fn look_at_saves(&mut self, name: &WardName, now: Instant) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        charge.saving.callers.retain(|(_, caller)| !caller.is_closed());
        let late = |(until, _): &(Instant, _)| *until <= now;
        while let Some(at) = charge.saving.callers.iter().position(late) {
            let (_, caller) = charge.saving.callers.swap_remove(at);
            let error = "the game was asked, and nothing shows that it saved".to_owned();
            drop(caller.send(Err(WardError::Unavailable(error))));
        }
        let newer = charge.saving.files.as_ref().is_some_and(|(pattern, before)| {
            super::evidence::changed_at(pattern).is_some_and(|changed| changed > *before)
        });
        if newer {
            self.saved(name);
        }
    }

    /// Somebody wants a save, and its proof.
    pub(super) fn save_for(&mut self, name: &WardName, reply: Reply<()>) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let within = charge.ward.save.iter().map(|save| save.within).max();
        let Some(within) = within.filter(|_| charge.is_up()) else {
            let why = if charge.is_up() {
                "this game cannot be asked to save"
            } else {
                "it does not run"
            };
            drop(reply.send(Err(WardError::Unavailable(why.to_owned()))));
            return;
        };
        let begins = charge.saving.callers.is_empty() && !charge.saving.is_asked;
        let (caller, waits) = oneshot::channel();
        charge.saving.callers.push((Instant::now() + within, caller));
        self.tasks.spawn(async move {
            drop(reply.send(waits.await.unwrap_or(Err(WardError::Ended))));
        });
        if begins {
            self.ask_to_save(name);
        }
    }

    /// A line that an operator says to the game.
    pub(super) fn command(
        &mut self,
        name: &WardName,
        line: String,
        by: &str,
        reply: Reply<String>,
    ) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let refuse = |reply: Reply<String>, error: WardError| drop(reply.send(Err(error)));
        if line.is_empty() || line.chars().any(char::is_control) {
            let why = "a command is one line without control characters".to_owned();
            return refuse(reply, WardError::Invalid(why));
        }
        if !charge.is_up() {
            return refuse(reply, WardError::Unavailable("it does not run".to_owned()));
        }
        let now = self.ports.clock.now();
        if let Some(follower) = &mut charge.follower {
            follower.echo(now, &Arc::from(by), &line);
        }
        // Not every game says in its log that it was told to end.
        let ends_it = charge.ward.stop.iter().any(|rung| {
            let is_said = matches!(rung.act.means, Means::Console | Means::Net { .. });
            is_said && rung.act.text.render(&Words::default()).trim() == line.trim()
        });
        let entered = line.clone();
        let said = match command_means(charge) {
            Some(Means::Console) => input(charge.hold.asks.clone(), line),
            Some(means) => self.say_text(name, &means, line, (0, String::new())),
            None => {
                return refuse(
                    reply,
                    WardError::Unavailable(
                        "this game takes no commands: it has no console, RCON or plugin".into(),
                    ),
                );
            }
        };
        self.tasks.spawn(async move {
            drop(reply.send(said.await.map_err(WardError::Unavailable)));
        });
        if ends_it {
            let origin = Origin::InGame;
            let evidence = Evidence::StopLine { origin, line: format!("{by} entered `{entered}`") };
            self.feed(name, Input::Evidence { evidence, age: Duration::ZERO, launch: None });
        }
        self.wake_followers(name);
    }

    /// What the game pushed.
    pub(super) fn pushed(&mut self, name: &WardName, event: Event) {
        let now = self.ports.clock.now();
        let mut changes = Vec::new();
        let Some(charge) = self.charges.get_mut(name) else { return };
        match event {
            Event::Started => {
                let how = "the server pushed that it has started".to_owned();
                self.feed(name, Input::Ready { how });
            }
            Event::Stopping => {
                let evidence = Evidence::PushedStopping;
                self.feed(name, Input::Evidence { evidence, age: Duration::ZERO, launch: None });
            }
            Event::Saving => self.save_began(name),
            Event::Saved => self.saved(name),
            Event::Joined(player) => {
                let id = player.id.as_deref();
                charge.players.joined(now, &player.name, id, &mut self.pending, &mut changes);
            }
            Event::Left(player) => charge.players.left(now, &player.name, &mut changes),
            Event::Status(_) => self.feed(name, Input::ProbeAnswered),
        }
        self.players_changed(name, &changes);
    }

    /// Takes what a game pushes, if it does.
    pub(super) fn take_pushes(&mut self, name: &WardName) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        let source = charge.ward.status.iter().find(|source| {
            source.protocol == StatusProtocol::MinecraftManagement && source.at.is_some()
        });
        let Some((at, source)) = source.and_then(|source| Some((source.at?, source))) else {
            return;
        };
        let endpoint = Endpoint {
            address: at,
            password: Some(naru_games::Secret::new(source.secret.reveal())),
            timeout: source.timeout,
        };
        let teller = self.teller(name, self.charges[name].entry);
        let task = self.tasks.spawn(watch_pushes(endpoint, teller)).abort_handle();
        if let Some(charge) = self.charges.get_mut(name)
            && let Some(before) = charge.hold.pushes.replace(task)
        {
            before.abort();
        }
    }
}

/// Tells what is pushed until it is aborted. A server that is still starting refuses at first.
async fn watch_pushes(endpoint: Endpoint, teller: Teller) {
    let mut watcher = naru_games::Watcher::new(endpoint);
    loop {
        match watcher.next().await {
            Ok(event) => teller.tell(Happened::Pushed(event)).await,
            Err(_) => sleep(PUSH_PAUSE).await,
        }
    }
}

/// The way by which an operator's commands go: the console, or else the protocol of the ward's own acts.
fn command_means(charge: &super::charge::Charge) -> Option<Means> {
    let ward = &charge.ward;
    if charge.hold.asks.is_some() && ward.launch.as_ref().is_some_and(|launch| launch.stdin) {
        return Some(Means::Console);
    }
    let takes_lines = |means: &&Means| {
        matches!(means, Means::Plugin)
            || matches!(means, Means::Net { via: Via::Rcon | Via::Quake3Rcon | Via::Econ, .. })
    };
    let saves = ward.save.iter().map(|save| &save.act.means);
    let stops = ward.stop.iter().map(|rung| &rung.act.means);
    let all = ward.announce.iter().chain(&ward.players.list).map(|act| &act.means);
    all.chain(saves).chain(stops).find(takes_lines).cloned()
}

async fn first_that_works(ways: Vec<Said>) -> Result<String, String> {
    let mut last = Err("there is no way".to_owned());
    for said in ways {
        last = said.await;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn by_keeper(
    asks: &tokio::sync::mpsc::Sender<KeeperAsk>,
    ask: impl FnOnce(oneshot::Sender<Result<(), crate::keeper::RequestError>>) -> KeeperAsk,
) -> Result<(), String> {
    let (reply, answer) = oneshot::channel();
    let gone = || "its keeper has ended".to_owned();
    asks.send(ask(reply)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?.map_err(|error| error.to_string())
}

fn input(asks: Option<tokio::sync::mpsc::Sender<KeeperAsk>>, line: String) -> Said {
    Box::pin(async move {
        let asks = asks.ok_or("it has no console: Naru did not start it")?;
        by_keeper(&asks, |reply| KeeperAsk::Input(line, reply)).await?;
        Ok(String::new())
    })
}

fn plugin_says(plugin: Arc<Mutex<Plugin>>, text: String, seconds: u64, message: String) -> Said {
    Box::pin(async move {
        let request = match text.as_str() {
            "stop" => Request::Stop { seconds, message },
            "save" => Request::Save,
            "announce" => Request::Announce { message },
            _ => Request::Command { line: text },
        };
        let answer = plugin.lock().await.call(&request).await;
        answer.map(|answer| answer.text.unwrap_or_default()).map_err(|error| error.to_string())
    })
}

/// A verb of Palworld's REST API with what belongs to it. Players are named by the words themselves.
fn palworld(verb: &str, seconds: u64, message: &str) -> String {
    match verb {
        // A wait of zero is refused by the game.
        "shutdown" => {
            let body = serde_json::json!({ "waittime": seconds.max(1), "message": message });
            format!("shutdown {body}")
        }
        "announce" => format!("announce {}", serde_json::json!({ "message": message })),
        other => other.to_owned(),
    }
}

fn net_teller(via: Via, at: std::net::SocketAddr, secret: &str) -> Result<SharedTeller, String> {
    let protocol: Protocol = via.as_str().parse().map_err(|_| "no protocol for commands")?;
    let endpoint = Endpoint {
        address: at,
        password: (!secret.is_empty()).then(|| naru_games::Secret::new(secret)),
        timeout: TELL_TIMEOUT,
    };
    let teller = naru_games::teller(protocol, endpoint).map_err(|error| error.to_string())?;
    Ok(Arc::new(Mutex::new(teller)))
}
