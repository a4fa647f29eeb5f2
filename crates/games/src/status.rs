//! What a game server says about itself. A field that the server did not send is `None`, never a guess.

use std::time::Duration;

/// What is asked for. More costs the game more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// How many play, and what else comes with the cheapest question.
    Counts,
    /// Also who they are, where the protocol tells.
    Players,
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// People on the server. Where the protocol does not tell bots from people (`bots` is then `None`), all.
    pub players: Option<u32>,
    /// Computer players.
    pub bots: Option<u32>,
    /// Places for players.
    pub players_max: Option<u32>,
    /// Who plays: without known bots, at most [`crate::limits::NAMES_MAX`]. `None` if not asked or not told.
    pub names: Option<Vec<Player>>,
    /// The server's name or message of the day, in one line of plain text.
    pub name: Option<String>,
    /// Map or world.
    pub map: Option<String>,
    /// The version of the game.
    pub version: Option<String>,
    /// How fast the game's loop runs.
    pub tick: Option<Tick>,
    /// How long the server says that it runs.
    pub uptime: Option<Duration>,
    /// From the last question sent to its answer: neither connecting nor waiting for our turn.
    pub answered_in: Option<Duration>,
}

/// One player as the server names them: text of strangers, cleaned and cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Player {
    /// What stays when the name changes, if the protocol has it.
    pub id: Option<String>,
    /// The name shown in the game.
    pub name: String,
}

/// The speed of the game's loop.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    /// Rounds per second.
    pub per_second: Option<f32>,
    /// Milliseconds that a round takes.
    pub milliseconds: Option<f32>,
}

/// Something that a game server tells by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It has started and takes players.
    Started,
    /// It is about to stop, on purpose.
    Stopping,
    /// It begins to save.
    Saving,
    /// It has saved.
    Saved,
    /// Somebody came.
    Joined(Player),
    /// Somebody went.
    Left(Player),
    /// Its heartbeat.
    Status(Box<Status>),
}

impl Status {
    /// Takes what `other` knows and this one does not.
    pub(crate) fn fill_from(&mut self, other: Status) {
        self.players = self.players.or(other.players);
        self.bots = self.bots.or(other.bots);
        self.players_max = self.players_max.or(other.players_max);
        self.names = self.names.take().or(other.names);
        self.name = self.name.take().or(other.name);
        self.map = self.map.take().or(other.map);
        self.version = self.version.take().or(other.version);
        self.tick = self.tick.or(other.tick);
        self.uptime = self.uptime.or(other.uptime);
        self.answered_in = self.answered_in.or(other.answered_in);
    }
}
