//! Bots and their settings: `naru bots …`.

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::show::{Column, Screen, plain};

pub(super) const EXAMPLES: &str = "\
Examples:
  naru bots show demo-bot
  naru bots set demo-bot replies.pause_ms=500 webhook.url='\"https://bot.example/hook\"'
  naru bots show demo-bot --json | jq .settings > s.json; naru bots set demo-bot --file s.json";

#[derive(Subcommand)]
pub(crate) enum Bots {
    /// List bots
    List,
    /// Show a bot with its settings
    Show {
        /// Its name
        name: String,
    },
    /// Change settings of a bot: some of them, or all from a file
    Set(SetSettings),
    /// Read approvals and settings again from the database
    Reload,
}

#[derive(Args)]
pub(crate) struct SetSettings {
    /// The bot's name
    name: String,
    /// What to set: PATH=JSON, such as replies.pause_ms=500; null removes it
    #[arg(value_name = "PATH=JSON", required_unless_present = "file", conflicts_with = "file")]
    changes: Vec<String>,
    /// Replace the whole document by this JSON file (`-` is standard input)
    #[arg(long)]
    file: Option<PathBuf>,
    /// Only if nobody changed it since this revision
    #[arg(long)]
    revision: Option<i64>,
}

const COLUMNS: [Column; 4] = [
    ("NAME", |row| plain(&row["name"])),
    ("REVISION", |row| plain(&row["revision"])),
    ("WEBHOOK", |row| plain(&row["settings"]["webhook"]["url"])),
    ("CHAT LOG", |row| plain(&row["settings"]["chat_log"]["enabled"])),
];

pub(super) async fn run(command: Bots, client: &Client, screen: &Screen) -> Result<(), Failure> {
    match command {
        Bots::List => {
            let page = client.list(&["api", "bots"], &[], usize::MAX).await?;
            screen.table(&page, &COLUMNS)
        }
        Bots::Show { name } => screen.record(&client.get(&["api", "bots", &name], &[]).await?),
        Bots::Set(set) => set_settings(set, client, screen).await,
        Bots::Reload => {
            let found = client.post(&["api", "reload"], &json!({})).await?;
            let sentence = format!(
                "Read again: {} devices, {} rooms, {} bots.",
                found["devices"], found["rooms"], found["bots"]
            );
            screen.done(&sentence, &found)
        }
    }
}

async fn set_settings(set: SetSettings, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let current = client.get(&["api", "bots", &set.name], &[]).await?;
    let revision = set.revision.map_or_else(|| current["revision"].clone(), Value::from);
    let settings = match &set.file {
        Some(path) => read_document(path)?,
        None => {
            let mut settings = current["settings"].clone();
            for change in &set.changes {
                apply(&mut settings, change)?;
            }
            settings
        }
    };
    let body = json!({ "settings": settings, "revision": revision });
    let bot = client.put(&["api", "bots", &set.name, "settings"], &body).await?;
    let sentence = format!("Settings of {} have revision {} now.", set.name, bot["revision"]);
    screen.done(&sentence, &bot)
}

fn read_document(path: &PathBuf) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    let wrong = |reason: String| Failure::Usage(format!("{}: {reason}", path.display()));
    read.map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

/// Sets one value in the document. What is no JSON is taken as a text, so that `a.b=hello` works.
fn apply(document: &mut Value, change: &str) -> Result<(), Failure> {
    let (path, raw) = change
        .split_once('=')
        .filter(|(path, _)| !path.is_empty() && path.split('.').all(|part| !part.is_empty()))
        .ok_or_else(|| Failure::Usage(format!("{change}: write PATH=JSON, such as a.b=5")))?;
    let value = serde_json::from_str(raw).unwrap_or_else(|_error| Value::from(raw));
    let mut place = document;
    for part in path.split('.') {
        if place.is_null() {
            *place = json!({});
        }
        let fields = place.as_object_mut().ok_or_else(|| {
            Failure::Usage(format!("{path}: there is no field in what is not an object"))
        })?;
        place = fields.entry(part).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_values_are_set_anywhere_in_the_document() {
        let mut document = json!({ "replies": { "pause_ms": 0 }, "webhook": null });
        for change in ["replies.pause_ms=500", "webhook.url=https://x/?a=b", "c.disabled=[\"x\"]"] {
            assert!(apply(&mut document, change).is_ok(), "{change}");
        }
        let wanted = json!({
            "replies": { "pause_ms": 500 }, "webhook": { "url": "https://x/?a=b" },
            "c": { "disabled": ["x"] },
        });
        assert_eq!(document, wanted);
        for wrong in ["pause", "=5", "a..b=5", "replies.pause_ms.x=1"] {
            assert!(apply(&mut document, wrong).is_err(), "{wrong}");
        }
    }
}
