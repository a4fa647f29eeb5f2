//! The server itself: status, sessions, queue, figures, log levels, audit log.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::phones::given;
use super::show::{Column, Screen, plain};

pub(super) const SESSIONS_EXAMPLES: &str = "\
Examples:
  naru sessions list
  naru sessions close 7       the phone may come back at once";

pub(super) const LOGS_EXAMPLES: &str = "\
Examples:
  naru logs show
  naru logs set --category bridge debug
  naru logs set --bot demo-bot trace --for-seconds 300
  naru logs set --session 7 debug";

/// Server health in one look.
pub(super) async fn status(client: &Client, screen: &Screen) -> Result<(), Failure> {
    let ready = client.get(&["health", "ready"], &[]).await?;
    let me = client.get(&["api", "me"], &[]).await?;
    let info = client.get(&["api", "info"], &[]).await?;
    let queue = client.get(&["api", "queue"], &[]).await?;
    if screen.is_json() {
        let all = json!({ "ready": ready, "me": me, "info": info, "queue": queue });
        screen.json(&all)?;
    } else {
        let problems = problems(&ready);
        let is_ready =
            if problems.is_empty() { "ready".to_owned() } else { format!("not ready: {problems}") };
        let pairs = |list: &Value| {
            let items = list.as_array().into_iter().flatten();
            let text = |item: &Value| format!("{} {}", plain(&item["name"]), plain(&item["value"]));
            items.map(text).collect::<Vec<_>>().join(", ")
        };
        let stuck = workers(&queue, "stuck");
        let busy = workers(&queue, "busy");
        screen.record(&json!({
            "server": format!("Naru {} on {}", plain(&info["version"]), plain(&info["node"])),
            "health": is_ready,
            "up": uptime(info["uptime_seconds"].as_u64().unwrap_or(0)),
            "listens": pairs(&info["listeners"]),
            "modes": pairs(&info["modes"]),
            "queue": format!(
                "{} of {} waiting, {} in work ({} parked), {busy} workers busy, {stuck} stuck",
                queue["depth"], queue["capacity"], queue["in_work"], queue["parked"],
            ),
            "you": format!("{} ({})", plain(&me["name"]), plain(&me["role"])),
        }))?;
    }
    if ready["ok"] == json!(true) {
        return Ok(());
    }
    Err(Failure::Failed("the server is not ready".to_owned()))
}

/// The probes of the server, by the names that `/health/` knows.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Probe {
    /// Should this process be replaced?
    Live,
    /// Should it get traffic?
    #[default]
    Ready,
    /// Has it come up?
    Startup,
}

/// One probe, for containers and scripts.
pub(super) async fn health(probe: Probe, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let path = match probe {
        Probe::Live => "live",
        Probe::Ready => "ready",
        Probe::Startup => "startup",
    };
    let found = client.get(&["health", path], &[]).await?;
    if screen.is_json() {
        screen.json(&found)?;
    }
    if found["ok"] == json!(true) {
        return Ok(());
    }
    Err(Failure::Failed(format!("{path}: {}", problems(&found))))
}

/// What the checks of a probe complain about.
fn problems(probe: &Value) -> String {
    let checks = probe["checks"].as_array().into_iter().flatten();
    checks.filter_map(|check| check["reason"].as_str()).collect::<Vec<_>>().join(", ")
}

fn workers(queue: &Value, state: &str) -> usize {
    let workers = queue["workers"].as_array().into_iter().flatten();
    workers.filter(|worker| worker["state"] == state).count()
}

/// A length of time for people.
pub(super) fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min {} s", seconds % 60),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[derive(Subcommand)]
pub(crate) enum Sessions {
    /// List sessions
    List {
        /// Rows at most
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Close the connection of a session
    Close {
        /// Its id in the list
        id: u64,
    },
}

pub(super) async fn sessions(
    command: Sessions,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    const COLUMNS: [Column; 8] = [
        ("ID", |row| plain(&row["id"])),
        ("LABEL", |row| plain(&row["label"])),
        ("KIND", |row| plain(&row["kind"])),
        ("STATE", |row| plain(&row["state"])),
        ("PEER", |row| plain(&row["peer"])),
        ("SINCE", |row| plain(&row["connected_at"])),
        ("QUEUED", |row| plain(&row["queued"])),
        ("DELIVERED", |row| plain(&row["handed_over"])),
    ];
    match command {
        Sessions::List { limit } => {
            screen.table(&client.list(&["api", "sessions"], &[], limit).await?, &COLUMNS)
        }
        Sessions::Close { id } => {
            let done = client.delete(&["api", "sessions", &id.to_string()]).await?;
            let sentence = if done["closed"] == json!(true) {
                format!("The connection of session {id} is closed.")
            } else {
                format!("Session {id} had no connection.")
            };
            screen.done(&sentence, &done)
        }
    }
}

pub(super) async fn queue(client: &Client, screen: &Screen) -> Result<(), Failure> {
    let queue = client.get(&["api", "queue"], &[]).await?;
    if screen.is_json() {
        return screen.json(&queue);
    }
    let store =
        if queue["store_healthy"] == json!(true) { "" } else { "; the store takes nothing" };
    screen.line(&format!(
        "{} of {} waiting, {} in work, {} of them parked{store}",
        queue["depth"], queue["capacity"], queue["in_work"], queue["parked"]
    ))?;
    const COLUMNS: [Column; 4] = [
        ("STATE", |row| plain(&row["state"])),
        ("MESSAGE", |row| plain(&row["message"])),
        ("BOT", |row| plain(&row["bot"])),
        ("FOR MS", |row| plain(&row["busy_ms"])),
    ];
    let is_at_work = |worker: &&Value| worker["state"] != "idle";
    let workers: Vec<Value> =
        queue["workers"].as_array().into_iter().flatten().filter(is_at_work).cloned().collect();
    let idle = workers_total(&queue) - workers.len();
    screen.line(&format!("{idle} workers idle, {} at work", workers.len()))?;
    if workers.is_empty() {
        return Ok(());
    }
    screen.table(&json!({ "items": workers, "next": null }), &COLUMNS)
}

fn workers_total(queue: &Value) -> usize {
    queue["workers"].as_array().map_or(0, Vec::len)
}

#[derive(Args)]
pub(crate) struct Since {
    /// Not before this moment (the last 24 hours unless given)
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// Rows at most
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

fn megabytes(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".to_owned(), |bytes| (bytes / 1_048_576).to_string())
}

fn one_digit(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

pub(super) async fn system(since: Since, client: &Client, screen: &Screen) -> Result<(), Failure> {
    const COLUMNS: [Column; 9] = [
        ("AT", |row| plain(&row["at"])),
        ("NODE", |row| plain(&row["node"])),
        ("CPU %", |row| one_digit(&row["cpu_percent"])),
        ("OWN CPU %", |row| one_digit(&row["process_cpu_percent"])),
        ("MEMORY MB", |row| megabytes(&row["memory_used"])),
        ("OWN MB", |row| megabytes(&row["process_memory"])),
        ("DISK %", |row| one_digit(&row["disk_percent"])),
        ("PHONES", |row| plain(&row["connections"])),
        ("QUEUED", |row| plain(&row["queued"])),
    ];
    let query = given([("since", since.since)]);
    screen.table(&client.list(&["api", "system"], &query, since.limit).await?, &COLUMNS)
}

#[derive(Args)]
pub(crate) struct Pings {
    /// The phone's id
    device: i64,
    #[command(flatten)]
    since: Since,
}

pub(super) async fn pings(command: Pings, client: &Client, screen: &Screen) -> Result<(), Failure> {
    const COLUMNS: [Column; 6] = [
        ("AT", |row| plain(&row["at"])),
        ("ROUND TRIP MS", |row| plain(&row["round_trip_ms"])),
        ("MEMORY MB", |row| one_digit(&row["memory_used_mb"])),
        ("MEMORY %", |row| one_digit(&row["memory_percent"])),
        ("QUEUED", |row| plain(&row["queued_frames"])),
        ("ROOMS", |row| plain(&row["active_rooms"])),
    ];
    let device = Some(command.device.to_string());
    let query = given([("device", device), ("since", command.since.since)]);
    let page = client.list(&["api", "pings"], &query, command.since.limit).await?;
    screen.table(&page, &COLUMNS)
}

#[derive(Subcommand)]
pub(crate) enum Logs {
    /// Show the log levels
    Show,
    /// Set the level of a category, or of a bot or a session for a while
    Set(SetLevel),
}

#[derive(Args)]
#[command(group(ArgGroup::new("whose").required(true).args(["category", "bot", "session"])))]
pub(crate) struct SetLevel {
    /// Of a category: bridge, client, stomp, hub, bots, hooks, schedules, store, admin, serve
    #[arg(long)]
    category: Option<String>,
    /// Of everything about one bot
    #[arg(long)]
    bot: Option<String>,
    /// Of everything about one session
    #[arg(long)]
    session: Option<u64>,
    /// The level
    #[arg(value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    level: String,
    /// With --bot or --session: how long (600 unless given)
    #[arg(long, conflicts_with = "category")]
    for_seconds: Option<u64>,
}

pub(super) async fn logs(command: Logs, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let levels = match command {
        Logs::Show => client.get(&["api", "log-levels"], &[]).await?,
        Logs::Set(set) => {
            let body = json!({
                "category": set.category, "bot": set.bot, "session": set.session,
                "level": set.level, "for_seconds": set.for_seconds,
            });
            client.put(&["api", "log-levels"], &body).await?
        }
    };
    if screen.is_json() {
        return screen.json(&levels);
    }
    const COLUMNS: [Column; 2] =
        [("CATEGORY", |row| plain(&row["category"])), ("LEVEL", |row| plain(&row["level"]))];
    screen.table(&json!({ "items": levels["categories"], "next": null }), &COLUMNS)?;
    const FOCUS_COLUMNS: [Column; 4] = [
        ("BOT", |row| plain(&row["bot"])),
        ("SESSION", |row| plain(&row["session"])),
        ("LEVEL", |row| plain(&row["level"])),
        ("UNTIL", |row| plain(&row["until"])),
    ];
    if levels["focused"].as_array().is_some_and(|focused| !focused.is_empty()) {
        screen.line("")?;
        screen.table(&json!({ "items": levels["focused"], "next": null }), &FOCUS_COLUMNS)?;
    }
    Ok(())
}

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// List entries, newest first
    List {
        /// Rows at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Check that nobody changed the log
    Verify,
}

pub(super) async fn audit(command: Audit, client: &Client, screen: &Screen) -> Result<(), Failure> {
    const COLUMNS: [Column; 7] = [
        ("ID", |row| plain(&row["id"])),
        ("AT", |row| plain(&row["at"])),
        ("WHO", |row| plain(&row["actor"])),
        ("FROM", |row| plain(&row["source"])),
        ("WHAT", |row| plain(&row["action"])),
        ("ON", |row| plain(&row["object"])),
        ("DETAIL", |row| plain(&row["detail"])),
    ];
    match command {
        Audit::List { limit } => {
            screen.table(&client.list(&["api", "audit"], &[], limit).await?, &COLUMNS)
        }
        Audit::Verify => {
            let verdict = client.get(&["api", "audit", "verify"], &[]).await?;
            if verdict["intact"] == json!(true) {
                let sentence =
                    format!("All {} entries follow from each other.", verdict["entries"]);
                return screen.done(&sentence, &verdict);
            }
            if screen.is_json() {
                screen.json(&verdict)?;
            }
            Err(Failure::Failed(format!("the log was changed at entry {}", verdict["broken_at"])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_written_in_two_units() {
        assert_eq!(uptime(61), "1 min 1 s");
        assert_eq!(uptime(3_720), "1 h 2 min");
        assert_eq!(uptime(90_000), "1 d 1 h");
    }
}
