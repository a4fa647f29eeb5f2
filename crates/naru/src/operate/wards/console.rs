//! The lines of a ward: looked up, or as they come.

use clap::Args;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::super::channels::{RETRIES_MAX, RETRY_PAUSE, SILENCE_MAX};
use super::super::client::{Client, Failure};
use super::super::phones::given;
use super::super::show::{Screen, plain};
use super::path;

pub(super) const EXAMPLES: &str = "\
Examples:
  naru ward console minecraft --limit 20
  naru ward console minecraft --search 'joined the game'
  naru ward console minecraft --follow
  naru ward console minecraft --before 5000           older lines than number 5000
  naru ward console minecraft --follow --json | jq .line.text";

#[derive(Args)]
pub(crate) struct Console {
    /// The ward's name in the list
    name: String,
    /// Go on with what comes, until interrupted
    #[arg(long, conflicts_with_all = ["search", "before"])]
    follow: bool,
    /// Only lines with this text in them, upper and lower case alike
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only lines below this number
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Only lines above this number
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Lines at most; with --follow, lines to begin with
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// With --follow: end after so many lines
    #[arg(long, requires = "follow")]
    count: Option<u64>,
}

pub(super) async fn run(command: Console, client: &Client, screen: &Screen) -> Result<(), Failure> {
    if command.follow {
        return follow(command, client, screen).await;
    }
    let query = given([
        ("contains", command.search),
        ("before", command.before.map(|before| before.to_string())),
        ("after", command.after.map(|after| after.to_string())),
        ("limit", Some(command.limit.to_string())),
    ]);
    let found = client.get(&path(&command.name, &["console"]), &query).await?;
    if screen.is_json() {
        return screen.json(&found);
    }
    let lines = found["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    if lines.is_empty() {
        return screen.line("(none)");
    }
    for line in lines {
        screen.line(&written(line))?;
    }
    Ok(())
}

/// Shows what comes until told to stop. A lost connection is made anew and goes on where it was.
async fn follow(command: Console, client: &Client, screen: &Screen) -> Result<(), Failure> {
    let mut after = command.after;
    let mut left = command.count.unwrap_or(u64::MAX);
    let (mut retries, mut was_open) = (0, false);
    loop {
        let tail = (after.is_none() && command.limit > 0).then(|| command.limit.to_string());
        let query = given([("after", after.map(|after| after.to_string())), ("tail", tail)]);
        let opened = client.lines(&path(&command.name, &["console", "follow"]), &query).await;
        let why = match opened {
            Ok(mut lines) => loop {
                was_open = true;
                let line = match timeout(SILENCE_MAX, lines.next()).await {
                    Ok(Ok(Some(Value::Null))) => continue,
                    Ok(Ok(Some(line))) => line,
                    Ok(Ok(None)) => break "the connection ended".to_owned(),
                    Ok(Err(failure)) => break failure.to_string(),
                    Err(_elapsed) => break "the server is silent".to_owned(),
                };
                retries = 0;
                if line["end"]["reason"] == "gone" {
                    return Err(Failure::NotFound(
                        "the ward is not looked after any more".to_owned(),
                    ));
                }
                if let Some(end) = line.get("end") {
                    break format!("the server ended it: {}", plain(&end["reason"]));
                }
                show(&line, screen)?;
                if let Some(seq) = line["line"]["seq"].as_u64() {
                    after = Some(seq);
                    left -= 1;
                }
                if left == 0 {
                    return Ok(());
                }
            },
            Err(failure @ Failure::Unreachable { .. }) if was_open => failure.to_string(),
            Err(failure) => return Err(failure),
        };
        if retries == RETRIES_MAX {
            return Err(Failure::Failed(why));
        }
        retries += 1;
        screen.complain(&format!("{why}; going on"));
        sleep(RETRY_PAUSE).await;
    }
}

fn show(event: &Value, screen: &Screen) -> Result<(), Failure> {
    if screen.is_json() {
        return screen.row(event);
    }
    match event.get("line") {
        Some(line) => screen.line(&written(line)),
        None => Ok(()),
    }
}

/// A line for people: what somebody said to the game is told apart from what it printed.
fn written(line: &Value) -> String {
    let (at, text) = (plain(&line["at"]), plain(&line["text"]));
    match line["source"].as_str() {
        Some("input") => format!("{at}  > {text}  ({})", plain(&line["by"])),
        Some("note") => format!("{at}  -- {text}"),
        _ => format!("{at}  {text}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_of_the_game_and_of_people_are_told_apart() {
        let at = "2026-11-21T13:31:38.123Z";
        let line = |source: &str| {
            written(&json!({ "at": at, "source": source, "by": "token:a", "text": "say hi" }))
        };
        assert_eq!(line("game"), "2026-11-21 13:31:38Z  say hi");
        assert_eq!(line("input"), "2026-11-21 13:31:38Z  > say hi  (token:a)");
        assert_eq!(line("note"), "2026-11-21 13:31:38Z  -- say hi");
    }
}
