//! What each known bridge script does differently. Facts only; frames are built elsewhere.

/// How frames are shaped after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// 3.2.x and older: the line is one JSON object.
    Json,
    /// 3.3.0-a1, -a2, 3.3.2, 3.3.3: a JSON object followed by raw content.
    Raw,
    /// 3.3.1, which speaks a language of its own.
    Typed,
}

/// The shape of the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// `botName` and `version`: no device identity.
    TwoFields,
    /// The 3.1.4 family: `botName`, `version`, `deviceID`.
    ThreeFields,
    /// A bare object with all six fields.
    SixFields,
    /// `{"event":"handshake","data":{…}}`.
    Event,
    /// `{"type":"handshake",…}`.
    Typed,
}

/// One bridge script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// What `--version` calls it; also names the file it stands for.
    pub(crate) name: &'static str,
    /// The `version` it sends, which is not always its own.
    pub(crate) announces: String,
    pub(crate) hello: Hello,
    pub(crate) dialect: Dialect,
    /// The event that answers a `ping`.
    pub(crate) ping_answer: &'static str,
    /// The handshake stands at the end of the outgoing queue instead of going out first.
    pub(crate) hello_queued: bool,
    /// `media_wait_time` is honoured.
    pub(crate) media_wait_used: bool,
    /// `handshakeComplete` is looked at.
    pub(crate) answer_read: bool,
    /// Shorter lines are dropped, because a log statement cuts them and throws.
    pub(crate) line_chars_min: usize,
}

struct Row(
    &'static str,
    &'static str,
    Hello,
    Dialect,
    &'static str,
    /* hello_queued */ bool,
    /* media_wait_used */ bool,
    /* answer_read */ bool,
    /* line_chars_min */ usize,
);

#[rustfmt::skip]
const ROWS: [Row; 15] = [
    Row("2.9.0c", "2.9.0c", Hello::TwoFields, Dialect::Json, "ping", false, false, false, 0),
    Row("3.1.4", "3.1.4", Hello::ThreeFields, Dialect::Json, "ping", false, false, false, 0),
    Row("3.2.0", "3.2.0", Hello::SixFields, Dialect::Json, "ping", false, false, false, 0),
    Row("3.2.0-kkobot", "3.2.0", Hello::SixFields, Dialect::Json, "ping", false, false, false, 0),
    Row("3.2.1", "3.2.1", Hello::SixFields, Dialect::Json, "ping", false, true, true, 0),
    Row("3.2.1+", "3.2.1", Hello::SixFields, Dialect::Json, "ping", false, true, true, 0),
    Row("3.2.1+imglogshort", "3.2.1+imglogshort", Hello::ThreeFields, Dialect::Json, "ping", false, false, false, 0),
    Row("3.2.2", "3.2.1", Hello::SixFields, Dialect::Json, "ping", false, true, true, 0),
    Row("3.2.2+smartlog", "3.2.2+smartlog", Hello::ThreeFields, Dialect::Json, "ping", false, false, false, 0),
    Row("3.3.0-a1", "3.3.0", Hello::SixFields, Dialect::Raw, "ping", false, true, true, 500),
    Row("3.3.0-a2", "3.3.0", Hello::Event, Dialect::Raw, "ping", true, true, true, 0),
    Row("3.3.1", "3.3.1", Hello::Typed, Dialect::Typed, "", false, true, true, 0),
    Row("3.3.2", "3.3.2", Hello::Event, Dialect::Raw, "ping", true, true, true, 0),
    // The file bridge-v3.3.3.js announces 3.3.2; bridge.js announces 3.3.3.
    Row("3.3.3", "3.3.2", Hello::Event, Dialect::Raw, "pong", true, true, true, 0),
    Row("newest", "3.3.3", Hello::Event, Dialect::Raw, "pong", true, true, true, 0),
];

impl Script {
    /// The script that `--version` names. An unknown version of 3.x behaves like the newest script
    /// of its dialect and announces what was asked for; anything else is `None`.
    pub(crate) fn find(name: &str) -> Option<Script> {
        if let Some(row) = ROWS.iter().find(|row| row.0 == name) {
            return Some(Script::of(row));
        }
        let (major, rest) = name.split_once('.')?;
        let minor_digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        let (major, minor): (u32, u32) = (major.parse().ok()?, minor_digits.parse().ok()?);
        let model = if (major, minor) >= (3, 3) { "newest" } else { "3.2.1" };
        Some(Script { announces: name.to_owned(), ..Script::find(model)? })
    }

    /// Every name `--version` knows, for help texts.
    pub(crate) fn names() -> Vec<&'static str> {
        ROWS.iter().map(|row| row.0).collect()
    }

    fn of(row: &Row) -> Script {
        Script {
            name: row.0,
            announces: row.1.to_owned(),
            hello: row.2,
            dialect: row.3,
            ping_answer: row.4,
            hello_queued: row.5,
            media_wait_used: row.6,
            answer_read: row.7,
            line_chars_min: row.8,
        }
    }
}
