//! Phones and rooms: `naru devices …`, `naru rooms …`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::{Client, Failure};
use super::show::{Column, Screen, plain};

pub(super) const DEVICES_EXAMPLES: &str = "\
Examples:
  naru devices list --approval pending
  naru devices approve 12 --note \"Kim's new phone\"
  naru devices limit 12 --bytes 262144
  naru devices limit 12 --none";

pub(super) const ROOMS_EXAMPLES: &str = "\
Examples:
  naru rooms list --device 12
  naru rooms approve 34
  naru rooms block 35 --note spam";

#[derive(Subcommand)]
pub(crate) enum Devices {
    /// List phones
    List(DeviceFilter),
    /// Show one phone
    Show {
        /// Its id in the list
        id: i64,
    },
    /// Answer this phone from now on
    Approve(Decision),
    /// Refuse a phone that asked
    Deny(Decision),
    /// Stop answering an approved phone
    Revoke(Decision),
    /// Refuse a phone for good
    Block(Decision),
    /// Limit the frames of a phone
    Limit(FrameLimit),
}

#[derive(Args)]
pub(crate) struct DeviceFilter {
    /// Only this bot's
    #[arg(long)]
    bot: Option<String>,
    /// Only in this state
    #[arg(long, value_parser = ["pending", "approved", "denied", "revoked", "blocked"])]
    approval: Option<String>,
    /// Rows at most
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

#[derive(Args)]
pub(crate) struct Decision {
    /// Ids in the list
    #[arg(required = true, num_args = 1..)]
    ids: Vec<i64>,
    /// Why
    #[arg(long)]
    note: Option<String>,
    /// Only if nobody changed it since this revision
    #[arg(long)]
    revision: Option<i64>,
}

#[derive(Args)]
pub(crate) struct FrameLimit {
    /// The phone's id
    id: i64,
    /// The largest frame in bytes, 1024 to 1048576
    #[arg(long, conflicts_with = "none", required_unless_present = "none")]
    bytes: Option<u32>,
    /// Remove the phone's own limit
    #[arg(long)]
    none: bool,
}

const DEVICE_COLUMNS: [Column; 8] = [
    ("ID", |row| plain(&row["id"])),
    ("BOT", |row| plain(&row["bot"])),
    ("DEVICE", |row| plain(&row["device_id"])),
    ("APPROVAL", |row| plain(&row["approval"])),
    ("VERSION", |row| plain(&row["version"])),
    ("FROM", |row| plain(&row["peer_ip"])),
    ("SEEN", |row| plain(&row["seen_at"])),
    ("NOTE", |row| plain(&row["approval_note"])),
];

pub(super) async fn devices(
    command: Devices,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    match command {
        Devices::List(filter) => {
            let query = given([("bot", filter.bot), ("approval", filter.approval)]);
            let page = client.list(&["api", "devices"], &query, filter.limit).await?;
            screen.table(&page, &DEVICE_COLUMNS)
        }
        Devices::Show { id } => {
            screen.record(&client.get(&["api", "devices", &id.to_string()], &[]).await?)
        }
        Devices::Approve(who) => decide("devices", "approved", who, client, screen).await,
        Devices::Deny(who) => decide("devices", "denied", who, client, screen).await,
        Devices::Revoke(who) => decide("devices", "revoked", who, client, screen).await,
        Devices::Block(who) => decide("devices", "blocked", who, client, screen).await,
        Devices::Limit(FrameLimit { id, bytes, .. }) => {
            let body = json!({ "frame_bytes_max": bytes });
            let device = client.patch(&["api", "devices", &id.to_string()], &body).await?;
            let sentence = match bytes {
                Some(bytes) => format!("Device {id} may send frames of {bytes} bytes."),
                None => format!("Device {id} has no limit of its own any more."),
            };
            screen.done(&sentence, &device)
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Rooms {
    /// List rooms
    List(RoomFilter),
    /// Show one room
    Show {
        /// Its id in the list
        id: i64,
    },
    /// Answer in this room from now on
    Approve(Decision),
    /// Refuse a room that asked
    Deny(Decision),
    /// Stop answering in an approved room
    Revoke(Decision),
    /// Refuse a room for good
    Block(Decision),
}

#[derive(Args)]
pub(crate) struct RoomFilter {
    /// Only this bot's
    #[arg(long)]
    bot: Option<String>,
    /// Only of the phone with this id
    #[arg(long)]
    device: Option<i64>,
    /// Only in this state
    #[arg(long, value_parser = ["pending", "approved", "denied", "revoked", "blocked"])]
    approval: Option<String>,
    /// Rows at most
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

const ROOM_COLUMNS: [Column; 8] = [
    ("ID", |row| plain(&row["id"])),
    ("BOT", |row| plain(&row["bot"])),
    ("DEVICE", |row| plain(&row["device"])),
    ("NAME", |row| plain(&row["name"])),
    ("CHANNEL ID", |row| plain(&row["channel_id"])),
    ("CHANNEL", |row| plain(&row["channel"])),
    ("APPROVAL", |row| plain(&row["approval"])),
    ("NOTE", |row| plain(&row["approval_note"])),
];

pub(super) async fn rooms(command: Rooms, client: &Client, screen: &Screen) -> Result<(), Failure> {
    match command {
        Rooms::List(filter) => {
            let device = filter.device.map(|device| device.to_string());
            let query =
                given([("bot", filter.bot), ("device", device), ("approval", filter.approval)]);
            let page = client.list(&["api", "rooms"], &query, filter.limit).await?;
            screen.table(&page, &ROOM_COLUMNS)
        }
        Rooms::Show { id } => {
            screen.record(&client.get(&["api", "rooms", &id.to_string()], &[]).await?)
        }
        Rooms::Approve(which) => decide("rooms", "approved", which, client, screen).await,
        Rooms::Deny(which) => decide("rooms", "denied", which, client, screen).await,
        Rooms::Revoke(which) => decide("rooms", "revoked", which, client, screen).await,
        Rooms::Block(which) => decide("rooms", "blocked", which, client, screen).await,
    }
}

async fn decide(
    kind: &str,
    approval: &str,
    decision: Decision,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    let Decision { ids, note, revision } = decision;
    if revision.is_some() && ids.len() > 1 {
        return Err(Failure::Usage("--revision goes with one id only".to_owned()));
    }
    let mut body = Map::new();
    body.insert("approval".to_owned(), approval.into());
    body.extend(note.map(|note| ("note".to_owned(), Value::from(note))));
    body.extend(revision.map(|revision| ("revision".to_owned(), Value::from(revision))));
    let body = Value::Object(body);
    for id in ids {
        let changed = client.patch(&["api", kind, &id.to_string()], &body).await?;
        let what = kind.trim_end_matches('s');
        screen.done(&format!("The {what} {id} is {approval}."), &changed)?;
    }
    Ok(())
}

/// Only the parameters that were given.
pub(super) fn given<const N: usize>(
    parameters: [(&'static str, Option<String>); N],
) -> Vec<(&'static str, String)> {
    parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
