//! What a frame is: a command, headers, a body. Knows nothing of bytes on the wire.

use std::fmt;

use bytes::Bytes;

/// What a frame asks for. The names are case sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the specification")]
pub enum Command {
    Connect,
    Stomp,
    Send,
    Subscribe,
    Unsubscribe,
    Ack,
    Nack,
    Begin,
    Commit,
    Abort,
    Disconnect,
    Connected,
    Message,
    Receipt,
    Error,
}

impl Command {
    /// Every command, those of clients first.
    pub const ALL: [Command; 15] = [
        Command::Connect,
        Command::Stomp,
        Command::Send,
        Command::Subscribe,
        Command::Unsubscribe,
        Command::Ack,
        Command::Nack,
        Command::Begin,
        Command::Commit,
        Command::Abort,
        Command::Disconnect,
        Command::Connected,
        Command::Message,
        Command::Receipt,
        Command::Error,
    ];
    /// The longest name, in bytes.
    pub(super) const NAME_BYTES_MAX: usize = 11;

    /// The command of that name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Command> {
        Command::ALL.into_iter().find(|command| command.name().as_bytes() == name)
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Command::Connect => "CONNECT",
            Command::Stomp => "STOMP",
            Command::Send => "SEND",
            Command::Subscribe => "SUBSCRIBE",
            Command::Unsubscribe => "UNSUBSCRIBE",
            Command::Ack => "ACK",
            Command::Nack => "NACK",
            Command::Begin => "BEGIN",
            Command::Commit => "COMMIT",
            Command::Abort => "ABORT",
            Command::Disconnect => "DISCONNECT",
            Command::Connected => "CONNECTED",
            Command::Message => "MESSAGE",
            Command::Receipt => "RECEIPT",
            Command::Error => "ERROR",
        }
    }

    /// Whether frames of this command may have a body.
    #[must_use]
    pub fn may_have_body(self) -> bool {
        matches!(self, Command::Send | Command::Message | Command::Error)
    }

    /// Whether the headers of these frames go as they are in every version. `STOMP` is handled in
    /// the same manner as `CONNECT`; stompjs and stomp.py escape neither.
    pub(super) fn is_never_escaped(self) -> bool {
        matches!(self, Command::Connect | Command::Stomp | Command::Connected)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The headers of a frame in their order, unescaped. Of a repeated header only the first counts,
/// and only that one is kept.
///
/// Two allocations whatever their number: one text with all names and values, one list of borders.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    text: String,
    /// Where the name and where the value of each header end in `text`.
    ends: Vec<(u32, u32)>,
}

/// Headers whose values `Debug` shows. All others may be secrets: `passcode`, `Authorization`, and
/// whatever a client thinks of.
const SHOWN: [&str; 16] = [
    "accept-version",
    "ack",
    "content-length",
    "content-type",
    "destination",
    "heart-beat",
    "host",
    "id",
    "message",
    "message-id",
    "receipt",
    "receipt-id",
    "server",
    "subscription",
    "transaction",
    "version",
];

impl Headers {
    /// No headers. Allocates nothing.
    #[must_use]
    pub fn new() -> Headers {
        Headers::default()
    }

    /// The value of a header, or `None` if it is missing.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let (name_end, value_end) = (name_end as usize, value_end as usize);
            let header = (&self.text[start..name_end], &self.text[name_end..value_end]);
            start = value_end;
            header
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// About how many bytes they hold, for limits.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.text.len() + self.ends.len() * size_of::<(u32, u32)>()
    }

    /// Adds a header, unless there is one of that name. Returns whether it was added.
    ///
    /// # Panics
    /// When all of them together reach 4 GiB; a decoder's limits are far below that.
    pub fn add(&mut self, name: &str, value: &str) -> bool {
        self.add_with(|text| text.push_str(name), |text| text.push_str(value))
    }

    /// The same for a name and a value that are still being unescaped.
    pub(super) fn add_with(
        &mut self,
        write_name: impl FnOnce(&mut String),
        write_value: impl FnOnce(&mut String),
    ) -> bool {
        let start = self.text.len();
        write_name(&mut self.text);
        let name_end = self.text.len();
        if self.get(&self.text[start..]).is_some() {
            self.text.truncate(start);
            return false;
        }
        write_value(&mut self.text);
        let border = |at| u32::try_from(at).expect("invariant: a frame is far below 4 GiB");
        self.ends.push((border(name_end), border(self.text.len())));
        true
    }

    /// Room for what a usual frame has, so that reading one does not grow step by step.
    pub(super) fn reserve(&mut self, text_bytes: usize) {
        self.text.reserve(text_bytes);
        self.ends.reserve(8);
    }

    /// The same headers without spaces around names and values, as STOMP 1.0 is written.
    #[must_use]
    pub fn trimmed(&self) -> Headers {
        let mut headers = Headers::new();
        headers.reserve(self.text.len());
        for (name, value) in self.iter() {
            headers.add(trim(name), trim(value));
        }
        headers
    }
}

/// Takes the padding away that the examples of STOMP 1.0 show.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| {
            let is_shown = SHOWN.contains(&name);
            (name, if is_shown { value } else { "(not shown)" })
        };
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.add(name, value);
        }
        headers
    }
}

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it asks for.
    pub command: Command,
    /// Its headers, unescaped.
    pub headers: Headers,
    /// Its body: an allocation of its own, so that keeping it keeps nothing else.
    pub body: Bytes,
}

impl Frame {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("command", &self.command)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
