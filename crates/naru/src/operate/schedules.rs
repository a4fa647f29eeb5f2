//! Messages that are sent by the clock: `naru schedules …`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, Failure};
use super::show::{Column, Screen, plain};
use super::talk::file_in_base64;

pub(super) const EXAMPLES: &str = "\
Examples:
  naru schedules add --title Morning --device 12 --room Family --text \"Good morning\" \\
      --daily 07:30,19:00
  naru schedules add --title News --device 12 --room Family --text News --days mon,wed --times 09:00
  naru schedules add --title Once --device 12 --room Family --text Now --at 2026-12-24T18:00:00+09:00
  naru schedules add --title Half --device 12 --room Family --text Tick --cron '*/30 * * * *'
  naru schedules pause 3";

#[derive(Subcommand)]
pub(crate) enum Schedules {
    /// List schedules
    List {
        /// Rows at most
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Show one schedule
    Show {
        /// Its id in the list
        id: i64,
    },
    /// Add a schedule
    Add(Box<NewSchedule>),
    /// Remove a schedule with its log
    Remove {
        /// Its id
        id: i64,
    },
    /// Switch a schedule off
    Pause {
        /// Its id
        id: i64,
    },
    /// Switch a schedule on
    Resume {
        /// Its id
        id: i64,
    },
    /// Send what it says right now
    Run {
        /// Its id
        id: i64,
    },
    /// List its runs, newest first
    Runs {
        /// Its id
        id: i64,
        /// Rows at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
}

#[derive(Args)]
#[command(group(ArgGroup::new("when").required(true).args(["at", "daily", "times", "cron"])))]
pub(crate) struct NewSchedule {
    /// A name for people
    #[arg(long)]
    title: String,
    /// The id of the phone that sends
    #[arg(long)]
    device: i64,
    /// The room's name
    #[arg(long)]
    room: String,
    /// The room's channel id; needed for pictures
    #[arg(long, default_value = "")]
    channel_id: String,
    /// The text
    #[arg(long, default_value = "")]
    text: String,
    /// A picture file of the first group (repeatable)
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// A picture file of the second group (repeatable)
    #[arg(long, value_name = "FILE")]
    second_image: Vec<PathBuf>,
    /// Once, at this moment, such as 2026-12-24T18:00:00+09:00
    #[arg(long, value_name = "MOMENT")]
    at: Option<String>,
    /// Every day at these local times
    #[arg(long, value_name = "HH:MM", value_delimiter = ',')]
    daily: Vec<String>,
    /// On these days: mon to sun, with --times
    #[arg(long, value_name = "DAY", value_delimiter = ',', requires = "times")]
    days: Vec<String>,
    /// The local times on those days
    #[arg(long, value_name = "HH:MM", value_delimiter = ',', requires = "days")]
    times: Vec<String>,
    /// By a cron expression with five fields
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// An IANA time zone
    #[arg(long, default_value = "Asia/Seoul")]
    time_zone: String,
    /// Not before this moment
    #[arg(long, value_name = "MOMENT")]
    valid_from: Option<String>,
    /// Not after this moment
    #[arg(long, value_name = "MOMENT")]
    valid_until: Option<String>,
    /// Keep it switched off at first
    #[arg(long)]
    paused: bool,
}

impl NewSchedule {
    fn recurrence(&self) -> Value {
        if let Some(at) = &self.at {
            json!({ "kind": "once", "at": at })
        } else if let Some(cron) = &self.cron {
            json!({ "kind": "cron", "expression": cron })
        } else if self.times.is_empty() {
            json!({ "kind": "daily", "times": self.daily })
        } else {
            json!({ "kind": "weekly", "days": self.days, "times": self.times })
        }
    }

    fn body(&self) -> Result<Value, Failure> {
        let group = |paths: &[PathBuf]| -> Result<Vec<String>, Failure> {
            paths.iter().map(|path| file_in_base64(path)).collect()
        };
        Ok(json!({
            "title": self.title, "device": self.device, "room": self.room,
            "channel_id": self.channel_id, "text": self.text,
            "images": [group(&self.image)?, group(&self.second_image)?],
            "recurrence": self.recurrence(), "time_zone": self.time_zone,
            "valid_from": self.valid_from, "valid_until": self.valid_until,
            "active": !self.paused,
        }))
    }
}

const COLUMNS: [Column; 8] = [
    ("ID", |row| plain(&row["id"])),
    ("TITLE", |row| plain(&row["title"])),
    ("BOT", |row| plain(&row["bot"])),
    ("ROOM", |row| plain(&row["room"])),
    ("ACTIVE", |row| plain(&row["active"])),
    ("WHEN", |row| when(&row["recurrence"])),
    ("NEXT", |row| plain(&row["next_at"])),
    ("SENT", |row| plain(&row["sent_count"])),
];

fn when(recurrence: &Value) -> String {
    let joined = |name: &str| {
        let items = recurrence[name].as_array().into_iter().flatten();
        items.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
    };
    match recurrence["kind"].as_str() {
        Some("once") => format!("once {}", plain(&recurrence["at"])),
        Some("daily") => format!("daily {}", joined("times")),
        Some("weekly") => format!("{} {}", joined("days"), joined("times")),
        Some("cron") => format!("cron {}", plain(&recurrence["expression"])),
        _ => plain(recurrence),
    }
}

pub(super) async fn run(
    command: Schedules,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    const RUN_COLUMNS: [Column; 4] = [
        ("DUE", |row| plain(&row["due_at"])),
        ("RAN", |row| plain(&row["ran_at"])),
        ("OUTCOME", |row| plain(&row["outcome"])),
        ("NOTE", |row| plain(&row["note"])),
    ];
    match command {
        Schedules::List { limit } => {
            screen.table(&client.list(&["api", "schedules"], &[], limit).await?, &COLUMNS)
        }
        Schedules::Show { id } => {
            screen.record(&client.get(&["api", "schedules", &id.to_string()], &[]).await?)
        }
        Schedules::Add(new) => {
            let kept = client.post(&["api", "schedules"], &new.body()?).await?;
            let next = plain(&kept["next_at"]);
            screen
                .done(&format!("Schedule {} is kept; it sends next at {next}.", kept["id"]), &kept)
        }
        Schedules::Remove { id } => {
            let done = client.delete(&["api", "schedules", &id.to_string()]).await?;
            screen.done(&format!("Schedule {id} is gone."), &done)
        }
        Schedules::Pause { id } => switch(id, false, client, screen).await,
        Schedules::Resume { id } => switch(id, true, client, screen).await,
        Schedules::Run { id } => {
            let path = ["api", "schedules", &id.to_string(), "run"];
            let done = client.post(&path, &json!({})).await?;
            screen.done(&format!("Schedule {id} is sent."), &done)
        }
        Schedules::Runs { id, limit } => {
            let path = ["api", "schedules", &id.to_string(), "runs"];
            screen.table(&client.list(&path, &[], limit).await?, &RUN_COLUMNS)
        }
    }
}

async fn switch(id: i64, active: bool, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("active".to_owned(), active.into());
    let path = ["api", "schedules", &id.to_string()];
    let kept = client.patch(&path, &Value::Object(body)).await?;
    let state = if active { "on" } else { "off" };
    screen.done(&format!("Schedule {id} is {state}."), &kept)
}
