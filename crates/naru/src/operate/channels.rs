//! Channels from the operator's seat: `naru channel …`, `naru publish`, `naru subscribe`.

use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};

use super::client::{Client, Failure};
use super::phones::given;
use super::show::{Column, Screen, plain};

pub(super) const CHANNEL_EXAMPLES: &str = "\
Examples:
  naru channel list --pattern 'chat:*'
  naru channel history chat:lobby --limit 20 --reverse
  naru channel presence chat:lobby
  naru channel clear chat:lobby";

pub(super) const PUBLISH_EXAMPLES: &str = "\
Examples:
  naru publish chat:lobby '{\"text\": \"hello\"}'
  naru publish chat:lobby 'plain text becomes a JSON string'
  naru publish chat:lobby --key order-17 '{\"sent\": \"once, even if repeated\"}'
  date | naru publish chat:lobby -";

pub(super) const SUBSCRIBE_EXAMPLES: &str = "\
Examples:
  naru subscribe chat:lobby
  naru subscribe chat:lobby --since 120        # and everything after offset 120, if history has it
  naru subscribe chat:lobby --count 1 --json   # one publication, for scripts";

/// The server sends at least an empty line in this time.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Between two attempts to come back to a channel.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often that is tried before giving up.
pub(super) const RETRIES_MAX: u32 = 60;
/// The largest publication that is read from standard input; the server takes less unless told otherwise.
const INPUT_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Subcommand)]
pub(crate) enum Channels {
    /// List channels that somebody is subscribed to
    List {
        /// Only those that fit; `*` stands for anything
        #[arg(long)]
        pattern: Option<String>,
    },
    /// Show what a channel keeps
    History {
        /// The channel
        channel: String,
        /// Publications at most
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Only what came after this offset (before it with --reverse)
        #[arg(long, value_name = "OFFSET")]
        since: Option<u64>,
        /// The epoch that the offset belongs to
        #[arg(long, requires = "since")]
        epoch: Option<String>,
        /// The newest first
        #[arg(long)]
        reverse: bool,
    },
    /// Show who is in a channel
    Presence {
        /// The channel
        channel: String,
    },
    /// Forget what a channel keeps; its position stays
    Clear {
        /// The channel
        channel: String,
    },
    /// Subscribe a user's connections to a channel
    Subscribe(Who),
    /// End a user's subscription to a channel
    Unsubscribe(Who),
}

/// A user's connections and a channel.
#[derive(Args)]
pub(crate) struct Who {
    /// The channel
    channel: String,
    /// The user
    #[arg(long)]
    user: String,
    /// Only this connection of the user
    #[arg(long)]
    client: Option<String>,
}

#[derive(Args)]
pub(crate) struct Publish {
    /// The channel
    channel: String,
    /// What to publish: JSON as it is, other text as a JSON string; `-` reads standard input
    data: String,
    /// Publish the bytes as they are, whatever they are
    #[arg(long)]
    binary: bool,
    /// Deliver it without keeping it
    #[arg(long)]
    skip_history: bool,
    /// A name and a value that travel with it (repeatable)
    #[arg(long = "tag", value_name = "NAME=VALUE")]
    tags: Vec<String>,
    /// A retry with the same key publishes nothing again
    #[arg(long)]
    key: Option<String>,
}

#[derive(Args)]
pub(crate) struct Subscribe {
    /// The channel
    channel: String,
    /// Begin behind this offset instead of with what comes
    #[arg(long, value_name = "OFFSET")]
    since: Option<u64>,
    /// The epoch that the offset belongs to
    #[arg(long, requires = "since")]
    epoch: Option<String>,
    /// End after so many publications
    #[arg(long)]
    count: Option<u64>,
}

pub(super) async fn channels(
    command: Channels,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    match command {
        Channels::List { pattern } => {
            const COLUMNS: [Column; 2] = [
                ("CHANNEL", |row| plain(&row["channel"])),
                ("CLIENTS", |row| plain(&row["clients"])),
            ];
            let body = json!({ "pattern": pattern.unwrap_or_default() });
            let found = call(client, "channels", &body).await?;
            let rows = found["channels"].as_object().into_iter().flatten().map(
                |(name, figures)| json!({ "channel": name, "clients": figures["num_clients"] }),
            );
            let rows: Vec<Value> = rows.collect();
            screen.table(&json!({ "items": rows, "next": null }), &COLUMNS)
        }
        Channels::History { channel, limit, since, epoch, reverse } => {
            let since =
                since.map(|offset| json!({ "offset": offset, "epoch": epoch.unwrap_or_default() }));
            let body =
                json!({ "channel": channel, "limit": limit, "since": since, "reverse": reverse });
            let found = call(client, "history", &body).await?;
            if screen.is_json() {
                return screen.json(&found);
            }
            const COLUMNS: [Column; 3] = [
                ("OFFSET", |row| plain(&row["offset"])),
                ("FROM", |row| plain(&row["info"]["user"])),
                ("DATA", payload),
            ];
            let page = json!({ "items": found["publications"], "next": null });
            screen.table(&page, &COLUMNS)?;
            let (offset, epoch) = (plain(&found["offset"]), plain(&found["epoch"]));
            screen.line(&format!("The channel is at offset {offset} of epoch {epoch}."))
        }
        Channels::Presence { channel } => {
            const COLUMNS: [Column; 3] = [
                ("CLIENT", |row| plain(&row["client"])),
                ("USER", |row| plain(&row["user"])),
                ("INFO", |row| plain(&row["conn_info"])),
            ];
            let found = call(client, "presence", &json!({ "channel": channel })).await?;
            let rows: Vec<_> = found["presence"].as_object().into_iter().flatten().collect();
            let rows: Vec<_> = rows.into_iter().map(|(_, row)| row.clone()).collect();
            screen.table(&json!({ "items": rows, "next": null }), &COLUMNS)
        }
        Channels::Clear { channel } => {
            let done = call(client, "history_remove", &json!({ "channel": channel })).await?;
            screen.done("The channel's history is empty.", &done)
        }
        Channels::Subscribe(who) => {
            let done = call(client, "subscribe", &who.body()).await?;
            screen.done("The user's connections are subscribed.", &done)
        }
        Channels::Unsubscribe(who) => {
            let done = call(client, "unsubscribe", &who.body()).await?;
            screen.done("The user's connections are not subscribed any more.", &done)
        }
    }
}

impl Who {
    fn body(&self) -> Value {
        let client = self.client.as_deref().unwrap_or_default();
        json!({ "channel": self.channel, "user": self.user, "client": client })
    }
}

pub(super) async fn publish(
    command: Publish,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    let data = if command.data == "-" {
        let mut read = Vec::new();
        let mut input = std::io::stdin().lock().take(INPUT_BYTES_MAX);
        input.read_to_end(&mut read).map_err(|error| Failure::Failed(error.to_string()))?;
        read
    } else {
        command.data.into_bytes()
    };
    let mut body = Map::new();
    body.insert("channel".to_owned(), command.channel.into());
    if command.binary {
        body.insert("b64data".to_owned(), STANDARD.encode(&data).into());
    } else {
        let data = serde_json::from_slice(&data).or_else(|_| {
            let text = String::from_utf8(data).map_err(|_| {
                Failure::Usage("this is no text: publish it with --binary".to_owned())
            })?;
            Ok(Value::String(text.trim_end_matches('\n').to_owned()))
        })?;
        body.insert("data".to_owned(), data);
    }
    let mut tags = Map::new();
    for tag in &command.tags {
        let (name, value) = tag
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("--tag {tag}: write NAME=VALUE")))?;
        tags.insert(name.to_owned(), value.into());
    }
    body.insert("tags".to_owned(), tags.into());
    body.insert("skip_history".to_owned(), command.skip_history.into());
    body.extend(command.key.map(|key| ("idempotency_key".to_owned(), key.into())));
    let done = call(client, "publish", &Value::Object(body)).await?;
    match done["offset"].as_u64() {
        Some(offset) => screen.done(&format!("Published at offset {offset}."), &done),
        None => screen.done("Published.", &done),
    }
}

/// Shows what comes until told to stop. A lost connection is made anew and goes on where it was.
pub(super) async fn subscribe(
    command: Subscribe,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    let mut place = Place { offset: command.since, epoch: command.epoch };
    let mut left = command.count.unwrap_or(u64::MAX);
    let mut retries = 0;
    loop {
        let query = given([
            ("channel", Some(command.channel.clone())),
            ("offset", place.offset.map(|offset| offset.to_string())),
            ("epoch", place.epoch.clone()),
        ]);
        let opened = client.lines(&["api", "watch"], &query).await;
        let why = match opened {
            Ok(mut lines) => loop {
                let line = match timeout(SILENCE_MAX, lines.next()).await {
                    Ok(Ok(Some(Value::Null))) => continue,
                    Ok(Ok(Some(line))) => line,
                    Ok(Ok(None)) => break "the connection ended".to_owned(),
                    Ok(Err(failure)) => break failure.to_string(),
                    Err(_elapsed) => break "the server is silent".to_owned(),
                };
                retries = 0;
                if let Some(why) = show(&line, &mut place, &mut left, screen)? {
                    break why;
                }
                if left == 0 {
                    return Ok(());
                }
            },
            Err(failure @ Failure::Unreachable { .. }) if place.epoch.is_some() => {
                failure.to_string()
            }
            Err(failure) => return Err(failure),
        };
        if retries == RETRIES_MAX {
            return Err(Failure::Failed(why));
        }
        retries += 1;
        screen.complain(&format!("{why}; going on from offset {}", place.offset.unwrap_or(0)));
        sleep(RETRY_PAUSE).await;
    }
}

/// Up to where the channel was shown.
struct Place {
    offset: Option<u64>,
    epoch: Option<String>,
}

/// Shows an event. What it returns says why the server ended the flow.
fn show(
    event: &Value,
    place: &mut Place,
    left: &mut u64,
    screen: &Screen,
) -> Result<Option<String>, Failure> {
    if screen.is_json() {
        screen.row(event)?;
    }
    if let Some(start) = event.get("subscribed") {
        if start["recovered"] == false {
            let why = plain(&start["reason"]);
            screen.complain(&format!("some of what was published meanwhile is gone ({why})"));
        }
        place.epoch = start["epoch"].as_str().map(str::to_owned);
        place.offset = start["offset"].as_u64();
    } else if let Some(publication) = event.get("publication") {
        // A publication that is not kept has no offset, and the channel's does not move.
        match publication["offset"].as_u64() {
            Some(offset) if offset > 0 => place.offset = Some(offset),
            _ => {}
        }
        *left -= 1;
        if !screen.is_json() {
            screen.line(&payload(publication))?;
        }
    } else if let Some(end) = event.get("end") {
        return Ok(Some(format!("the server ended it: {}", plain(&end["reason"]))));
    } else if !screen.is_json() {
        for (event, sign) in
            [("join", '+'), ("leave", '-')].map(|(name, sign)| (event.get(name), sign))
        {
            if let Some(party) = event {
                screen.line(&format!(
                    "{sign} {} {}",
                    plain(&party["user"]),
                    plain(&party["client"])
                ))?;
            }
        }
    }
    Ok(None)
}

/// What was published, in one line.
fn payload(publication: &Value) -> String {
    match &publication["b64data"] {
        Value::String(encoded) => format!("base64:{encoded}"),
        _ => plain(&publication["data"]),
    }
}

/// A method of the server API: its errors come with status 200.
async fn call(client: &Client, method: &str, body: &Value) -> Result<Value, Failure> {
    let mut answer = client.post(&["api", method], body).await?;
    let Some(error) = answer.get("error") else { return Ok(answer["result"].take()) };
    let text = format!("{} ({})", plain(&error["message"]), plain(&error["code"]));
    Err(match error["code"].as_u64() {
        Some(102) => Failure::NotFound(text),
        Some(103) => Failure::Refused(text),
        Some(106..=108) => Failure::Usage(text),
        Some(112) => Failure::Conflict(text),
        _ => Failure::Failed(text),
    })
}
