//! What was said and what is said: `naru messages …`, `naru send`, `naru dead-letters …`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, Failure};
use super::phones::given;
use super::show::{Column, Screen, plain};

pub(super) const MESSAGES_EXAMPLES: &str = "\
Examples:
  naru messages list --bot demo-bot --limit 50
  naru messages search \"good morning\" --from 2026-11-01T00:00:00Z
  naru messages reply 29823748239360 \"It is done.\"";

pub(super) const SEND_EXAMPLES: &str = "\
Examples:
  naru send --device 12 --room \"Family\" \"Dinner is ready\"
  naru send --device 12 --room \"Family\" --channel-id 18384739273 --image cake.png
  naru send --device 12 --room \"Family\" --key order-17 \"Sent once, even if repeated\"";

pub(super) const DEAD_LETTERS_EXAMPLES: &str = "\
Examples:
  naru dead-letters list
  naru dead-letters replay 29823748239360
  naru dead-letters replay --all --bot demo-bot";

#[derive(Subcommand)]
pub(crate) enum Messages {
    /// List messages, newest first (of the last seven days unless told)
    List(MessageFilter),
    /// Show a message with its replies
    Show {
        /// Its id in the list
        id: i64,
    },
    /// List messages with this text in them
    Search {
        /// At least two characters
        text: String,
        #[command(flatten)]
        filter: MessageFilter,
    },
    /// Answer a message
    Reply {
        /// The message's id
        id: i64,
        #[command(flatten)]
        content: Content,
    },
}

#[derive(Args)]
pub(crate) struct MessageFilter {
    /// Only this bot's
    #[arg(long)]
    bot: Option<String>,
    /// Only of the phone with this id
    #[arg(long)]
    device: Option<i64>,
    /// Only of the room with this id
    #[arg(long)]
    room: Option<i64>,
    /// Only in this state
    #[arg(long, value_parser = ["pending", "done", "dead", "logged"])]
    state: Option<String>,
    /// Not before this moment, such as 2026-11-01T00:00:00Z
    #[arg(long)]
    from: Option<String>,
    /// Before this moment
    #[arg(long)]
    until: Option<String>,
    /// Rows at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

impl MessageFilter {
    fn query(self, search: Option<String>) -> Vec<(&'static str, String)> {
        given([
            ("bot", self.bot),
            ("device", self.device.map(|device| device.to_string())),
            ("room", self.room.map(|room| room.to_string())),
            ("state", self.state),
            ("from", self.from),
            ("until", self.until),
            ("search", search),
        ])
    }
}

/// What to say.
#[derive(Args)]
pub(crate) struct Content {
    /// The text
    #[arg(required_unless_present_any = ["image", "image_url"], conflicts_with_all = ["image", "image_url"])]
    text: Option<String>,
    /// A picture file (repeatable)
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// The address of a picture that the phone fetches itself (repeatable)
    #[arg(long, value_name = "URL")]
    image_url: Vec<String>,
    /// How long the phone waits with the pictures, in milliseconds
    #[arg(long, value_name = "MS")]
    wait_ms: Option<u64>,
    /// A retry with the same key sends nothing again
    #[arg(long)]
    key: Option<String>,
}

impl Content {
    fn reply(&self) -> Result<Value, Failure> {
        let mut reply = Map::new();
        if let Some(text) = &self.text {
            reply.insert("text".to_owned(), text.as_str().into());
        } else {
            let files = self.image.iter().map(|path| picture(path));
            let links = self.image_url.iter().map(|url| Ok(json!({ "url": url })));
            let images: Vec<Value> = files.chain(links).collect::<Result<_, _>>()?;
            reply.insert("images".to_owned(), images.into());
        }
        reply.extend(self.wait_ms.map(|wait| ("wait_ms".to_owned(), wait.into())));
        Ok(Value::Object(reply))
    }
}

/// The largest picture that is read: the server takes 16 MiB a reply.
const PICTURE_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(super) fn file_in_base64(path: &Path) -> Result<String, Failure> {
    let wrong = |reason: String| Failure::Usage(format!("{}: {reason}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > PICTURE_BYTES_MAX {
        return Err(wrong(format!("larger than {PICTURE_BYTES_MAX} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    Ok(STANDARD.encode(bytes))
}

fn picture(path: &Path) -> Result<Value, Failure> {
    file_in_base64(path).map(|file| json!({ "base64": file }))
}

const COLUMNS: [Column; 7] = [
    ("ID", |row| plain(&row["id"])),
    ("AT", |row| plain(&row["received_at"])),
    ("BOT", |row| plain(&row["bot"])),
    ("ROOM", |row| plain(&row["room_name"])),
    ("SENDER", |row| plain(&row["sender"])),
    ("STATE", |row| plain(&row["state"])),
    ("TEXT", |row| plain(&row["text"])),
];

pub(super) async fn messages(
    command: Messages,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    let (filter, search) = match command {
        Messages::List(filter) => (filter, None),
        Messages::Search { text, filter } => (filter, Some(text)),
        Messages::Show { id } => return show(id, client, screen).await,
        Messages::Reply { id, content } => {
            let body = json!({ "replies": [content.reply()?], "idempotency_key": content.key });
            let path = ["api", "messages", &id.to_string(), "replies"];
            let sent = client.post(&path, &body).await?;
            return screen.done("The reply is on its way.", &sent);
        }
    };
    let limit = filter.limit;
    let page = client.list(&["api", "messages"], &filter.query(search), limit).await?;
    screen.table(&page, &COLUMNS)
}

async fn show(id: i64, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let found = client.get(&["api", "messages", &id.to_string()], &[]).await?;
    if screen.is_json() {
        return screen.json(&found);
    }
    screen.record(&found["message"])?;
    screen.line("\nReplies:")?;
    const REPLY_COLUMNS: [Column; 5] = [
        ("OFFSET", |row| plain(&row["offset"])),
        ("AT", |row| plain(&row["at"])),
        ("KIND", |row| plain(&row["kind"])),
        ("ITEMS", |row| row["items"].as_array().map_or(0, Vec::len).to_string()),
        ("TEXT", |row| plain(&row["text"])),
    ];
    screen.table(&json!({ "items": found["replies"], "next": null }), &REPLY_COLUMNS)
}

#[derive(Args)]
pub(crate) struct Send {
    /// The id of the phone that sends
    #[arg(long)]
    device: i64,
    /// The room's name
    #[arg(long)]
    room: String,
    /// The room's channel id; needed for pictures
    #[arg(long, default_value = "")]
    channel_id: String,
    #[command(flatten)]
    content: Content,
}

pub(super) async fn send(command: Send, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let body = json!({
        "device": command.device, "room": command.room, "channel_id": command.channel_id,
        "reply": command.content.reply()?, "idempotency_key": command.content.key,
    });
    let sent = client.post(&["api", "send"], &body).await?;
    screen.done("The message is on its way.", &sent)
}

#[derive(Subcommand)]
pub(crate) enum DeadLetters {
    /// List messages that failed for good, newest first
    List(DeadLetterFilter),
    /// Work off one, or all that fit
    Replay(Replay),
}

#[derive(Args)]
pub(crate) struct DeadLetterFilter {
    /// Only this bot's
    #[arg(long)]
    bot: Option<String>,
    /// Only of the phone with this id
    #[arg(long)]
    device: Option<i64>,
    /// Only of the room with this id
    #[arg(long)]
    room: Option<i64>,
    /// Rows at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Args)]
pub(crate) struct Replay {
    /// Ids in the list
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<i64>,
    /// All that fit, 1000 at a time
    #[arg(long)]
    all: bool,
    /// With --all: only this bot's
    #[arg(long, requires = "all")]
    bot: Option<String>,
    /// With --all: only of the phone with this id
    #[arg(long, requires = "all")]
    device: Option<i64>,
    /// With --all: only of the room with this id
    #[arg(long, requires = "all")]
    room: Option<i64>,
}

pub(super) async fn dead_letters(
    command: DeadLetters,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    const COLUMNS: [Column; 6] = [
        ("ID", |row| plain(&row["id"])),
        ("AT", |row| plain(&row["received_at"])),
        ("BOT", |row| plain(&row["bot"])),
        ("ROOM", |row| plain(&row["room_name"])),
        ("FAILURE", |row| plain(&row["failure"])),
        ("TEXT", |row| plain(&row["text"])),
    ];
    match command {
        DeadLetters::List(filter) => {
            let query = given([
                ("bot", filter.bot),
                ("device", filter.device.map(|device| device.to_string())),
                ("room", filter.room.map(|room| room.to_string())),
            ]);
            let page = client.list(&["api", "dead-letters"], &query, filter.limit).await?;
            screen.table(&page, &COLUMNS)
        }
        DeadLetters::Replay(replay) if replay.all => replay_all(replay, client, screen).await,
        DeadLetters::Replay(replay) => {
            for id in replay.ids {
                let path = ["api", "dead-letters", &id.to_string(), "replay"];
                let done = client.post(&path, &json!({})).await?;
                screen.done(&format!("Message {id} is in work again."), &done)?;
            }
            Ok(())
        }
    }
}

async fn replay_all(replay: Replay, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let body = json!({ "bot": replay.bot, "device": replay.device, "room": replay.room });
    let done = client.post(&["api", "dead-letters", "replay"], &body).await?;
    let failed = done["failed"].as_array().map_or(0, Vec::len);
    let more = if done["more"] == json!(true) { " There may be more: repeat this." } else { "" };
    let sentence =
        format!("{} messages are in work again, {failed} could not be.{more}", done["replayed"]);
    screen.done(&sentence, &done)?;
    if failed > 0 {
        return Err(Failure::Failed(format!("{failed} messages could not be replayed")));
    }
    Ok(())
}
