//! Game servers of one machine: `naru ward …`.

mod console;
mod order;
mod render;

use clap::{Args, Subcommand};
use naru_supervisor::profile::units::Span;
use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::phones::given;
use super::show::{Column, Screen, layout, plain};

pub(super) const EXAMPLES: &str = "\
Examples:
  naru ward list
  naru ward stop palworld --countdown 5m --reason 'update tonight'
  naru ward restart minecraft --no-wait
  naru ward explain minecraft           what would happen if it died now
  naru ward console minecraft --follow
  naru ward console minecraft --search 'joined the game'
  naru ward command minecraft say hello
  naru ward backup palworld
  naru ward series palworld --series cpu_cores,players --last 6h";

#[derive(Subcommand)]
pub(crate) enum Wards {
    /// List wards: phase, players, figures, alerts
    List,
    /// Show all of a ward
    Show(Name),
    /// Start a ward
    Start(Order),
    /// Stop a ward the game's way: countdown, save, then its own stop, and force only at last
    Stop(Farewell),
    /// Stop a ward and start it again
    Restart(Farewell),
    /// Kill a ward with all its processes at once; what it did not save is lost
    Kill(Order),
    /// Call off a stop or restart whose countdown still runs
    Cancel(Order),
    /// Say what would happen if it died now, and why
    Explain(Name),
    /// Show what the game printed
    #[command(after_help = console::EXAMPLES)]
    Console(console::Console),
    /// Say a command to the game, as if it was typed at its console
    Command(Words),
    /// Tell the players something
    Announce(Words),
    /// Make the game save, and wait for the proof that it did
    Save(Job),
    /// Back up a ward's files, and verify the copy
    Backup(Job),
    /// List a ward's backups, newest first
    Backups(Name),
    /// Put a backup in place of a stopped ward's files
    Restore(Restore),
    /// List what happened, newest first
    Events(Events),
    /// Show who plays, and who played
    Players(Players),
    /// Show figures over time, as a chart or a table
    #[command(after_help = SERIES_EXAMPLES)]
    Series(Series),
    /// Show what looking after wards costs this machine
    Cost,
}

const SERIES_EXAMPLES: &str = "\
Examples:
  naru ward series minecraft                                the last hour of all figures
  naru ward series minecraft --last 7d --series players
  naru ward series minecraft --from 2026-01-31T18:00:00Z --until 2026-01-31T23:00:00Z
  naru ward series minecraft --series cpu_cores --last 10m --table

Series: cpu_cores, memory_bytes, read_bytes_per_second, written_bytes_per_second, threads, players,
ticks_per_second, tick_seconds, ping_seconds";

#[derive(Args)]
pub(crate) struct Name {
    /// The ward's name in the list
    name: String,
}

#[derive(Args)]
pub(crate) struct Order {
    /// The ward's name in the list
    name: String,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
pub(crate) struct Farewell {
    #[command(flatten)]
    order: Order,
    /// How long players are told before, such as 90s or 5m; 0s for not at all [default: as configured]
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    countdown: Option<Span>,
}

/// Whether to stay until it is done.
#[derive(Args)]
pub(crate) struct Waiting {
    /// Wait until it is done (this is the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return as soon as it has begun
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
}

#[derive(Args)]
pub(crate) struct Words {
    /// The ward's name in the list
    name: String,
    /// What to say; several words are joined
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Job {
    /// The ward's name in the list
    name: String,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The ward's name in the list
    name: String,
    /// The backup's name in `naru ward backups`
    backup: String,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Args)]
pub(crate) struct Events {
    /// Only of this ward
    name: Option<String>,
    /// Rows at most
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Args)]
pub(crate) struct Players {
    /// The ward's name in the list
    name: String,
    /// Visits at most
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Args)]
pub(crate) struct Series {
    /// The ward's name in the list
    name: String,
    /// Only these
    #[arg(long, value_name = "SERIES", value_delimiter = ',')]
    series: Vec<String>,
    /// The last so long, such as 10m, 6h or 7d [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = Span::parse, conflicts_with = "from")]
    last: Option<Span>,
    /// Not before this moment
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// Before this moment
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
    /// raw, 5m, 1h, or auto
    #[arg(long, default_value = "auto")]
    resolution: String,
    /// Points of each series at most
    #[arg(long, default_value_t = 60)]
    points: usize,
    /// Print numbers instead of a chart
    #[arg(long)]
    table: bool,
}

const BACKUP_COLUMNS: [Column; 4] = [
    ("NAME", |row| plain(&row["name"])),
    ("AT", |row| plain(&row["at"])),
    ("SIZE", |row| render::amount("memory_bytes", &row["bytes"])),
    ("VERIFIED", |row| plain(&row["verified"])),
];

const EVENT_COLUMNS: [Column; 4] = [
    ("AT", |row| plain(&row["at"])),
    ("WARD", |row| plain(&row["ward"])),
    ("EVENT", |row| plain(&row["kind"])),
    ("WHAT", |row| plain(&row["text"])),
];

const VISIT_COLUMNS: [Column; 4] = [
    ("PLAYER", |row| plain(&row["name"])),
    ("CAME", |row| plain(&row["came_at"])),
    (
        "LEFT",
        |row| if row["left_at"].is_null() { "plays".to_owned() } else { plain(&row["left_at"]) },
    ),
    ("STAYED", |row| render::lasting(&row["stayed_s"])),
];

/// The path of something of a ward.
fn path<'a>(name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    ["api", "wards", name].iter().chain(rest).copied().collect()
}

pub(super) async fn run(command: Wards, client: &Client, screen: &Screen) -> Result<(), Failure> {
    match command {
        Wards::List => screen.table(&client.get(&["api", "wards"], &[]).await?, &render::COLUMNS),
        Wards::Show(Name { name }) => {
            let ward = client.get(&path(&name, &[]), &[]).await?;
            if screen.is_json() { screen.json(&ward) } else { screen.line(&render::ward(&ward)) }
        }
        Wards::Start(order) => order::give("start", order, None, client, screen).await,
        Wards::Stop(Farewell { order, countdown }) => {
            order::give("stop", order, countdown, client, screen).await
        }
        Wards::Restart(Farewell { order, countdown }) => {
            order::give("restart", order, countdown, client, screen).await
        }
        Wards::Kill(order) => order::give("kill", order, None, client, screen).await,
        Wards::Cancel(order) => order::give("cancel", order, None, client, screen).await,
        Wards::Explain(Name { name }) => {
            let found = client.get(&path(&name, &["explain"]), &[]).await?;
            if screen.is_json() {
                screen.json(&found)
            } else {
                screen.line(&render::explained(&name, &found))
            }
        }
        Wards::Console(command) => console::run(command, client, screen).await,
        Wards::Command(Words { name, words }) => {
            let body = json!({ "line": words.join(" ") });
            let done = client.post(&path(&name, &["command"]), &body).await?;
            let answer = done["answer"].as_str().unwrap_or_default();
            let sentence = if answer.is_empty() { "Said." } else { answer };
            screen.done(sentence, &done)
        }
        Wards::Announce(Words { name, words }) => {
            let body = json!({ "message": words.join(" ") });
            let done = client.post(&path(&name, &["announce"]), &body).await?;
            screen.done("The players are told.", &done)
        }
        Wards::Save(job) => order::job(&job.name, &["save"], &job.waiting, client, screen).await,
        Wards::Backup(job) => {
            order::job(&job.name, &["backups"], &job.waiting, client, screen).await
        }
        Wards::Backups(Name { name }) => {
            screen.table(&client.get(&path(&name, &["backups"]), &[]).await?, &BACKUP_COLUMNS)
        }
        Wards::Restore(Restore { name, backup, waiting }) => {
            let what = ["backups", &backup, "restore"];
            order::job(&name, &what, &waiting, client, screen).await
        }
        Wards::Events(Events { name, limit }) => {
            let page =
                client.list(&["api", "ward-events"], &given([("ward", name)]), limit).await?;
            screen.table(&page, &EVENT_COLUMNS)
        }
        Wards::Players(command) => players(command, client, screen).await,
        Wards::Series(command) => series(command, client, screen).await,
        Wards::Cost => {
            let own = client.get(&["api", "supervisor"], &[]).await?;
            if screen.is_json() { screen.json(&own) } else { screen.line(&render::cost(&own)) }
        }
    }
}

async fn players(command: Players, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let ward = client.get(&path(&command.name, &[]), &[]).await?;
    let visits = client.list(&path(&command.name, &["visits"]), &[], command.limit).await?;
    if screen.is_json() {
        return screen.json(&json!({
            "players": ward["players"], "names": ward["player_names"],
            "peak": ward["players_peak"], "visits": visits,
        }));
    }
    screen.line(&render::playing(&ward))?;
    screen.table(&visits, &VISIT_COLUMNS)
}

async fn series(command: Series, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let names = (!command.series.is_empty()).then(|| command.series.join(","));
    let query = given([
        ("series", names),
        ("last_s", command.last.map(|last| last.0.as_secs().to_string())),
        ("from", command.from),
        ("until", command.until),
        ("resolution", Some(command.resolution)),
        ("points", Some(command.points.to_string())),
    ]);
    let found = client.get(&path(&command.name, &["series"]), &query).await?;
    if screen.is_json() {
        return screen.json(&found);
    }
    if !command.table {
        return screen.line(&render::chart(&found, command.points));
    }
    let rows: Vec<Value> = render::rows(&found);
    const COLUMNS: [Column; 5] = [
        ("AT", |row| plain(&row["at"])),
        ("SERIES", |row| plain(&row["series"])),
        ("MEAN", |row| plain(&row["mean"])),
        ("P95", |row| plain(&row["p95"])),
        ("MAX", |row| plain(&row["max"])),
    ];
    let text = if rows.is_empty() { "(none)".to_owned() } else { layout(&rows, &COLUMNS) };
    screen.line(text.trim_end())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Wards,
    }

    fn parse(line: &str) -> Result<Wards, clap::Error> {
        let words = std::iter::once("ward").chain(line.split(' '));
        Line::try_parse_from(words).map(|line| line.command)
    }

    #[test]
    fn commands_wait_unless_told_otherwise_and_the_last_word_counts() {
        let check = |line: &str, no_wait: bool| match parse(line) {
            Ok(Wards::Stop(Farewell { order, .. })) => assert_eq!(order.waiting.no_wait, no_wait),
            _ => panic!("{line} is a stop"),
        };
        check("stop mine", false);
        check("stop mine --no-wait", true);
        check("stop mine --no-wait --wait", false);
        check("stop mine --wait --no-wait", true);
    }

    #[test]
    fn a_countdown_has_a_unit_and_belongs_to_stops() {
        let Ok(Wards::Restart(Farewell { countdown, .. })) = parse("restart mine --countdown 5m")
        else {
            panic!("a restart")
        };
        assert_eq!(countdown, Some(Span(Duration::from_secs(300))));
        assert!(parse("stop mine --countdown 5").is_err());
        assert!(parse("start mine --countdown 5m").is_err());
        assert!(parse("kill mine --countdown 5m").is_err());
    }

    #[test]
    fn words_for_the_game_may_look_like_options() {
        let Ok(Wards::Command(Words { name, words })) = parse("command mine say -h --json hi")
        else {
            panic!("a command")
        };
        assert_eq!((&*name, words.join(" ")), ("mine", "say -h --json hi".to_owned()));
        assert!(parse("command mine").is_err());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for line in [
            "console mine --follow --search x",
            "console mine --count 3",
            "series mine --last 1h --from 2026-01-31T18:00:00Z",
            "series mine --last hour",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("series mine --series cpu_cores,players --last 7d --table").is_ok());
        assert!(parse("events").is_ok() && parse("events mine --limit 5").is_ok());
    }
}
