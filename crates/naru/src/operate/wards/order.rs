//! Orders that take a while: given, and followed to their ends, with what is going on told on the way.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use naru_supervisor::profile::units::Span;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::client::{Client, Failure};
use super::super::show::{Screen, plain};
use super::{Order, Waiting, path, render};

/// How often whoever waits is told how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Starts, stops, restarts, kills or cancels.
pub(super) async fn give(
    what: &str,
    order: Order,
    countdown: Option<Span>,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    let Order { name, reason, waiting } = order;
    let mut body = json!({ "reason": reason });
    if let Some(Span(countdown)) = countdown {
        body["countdown_s"] = countdown.as_secs().into();
    }
    let mut done = client.post(&path(&name, &[what]), &body).await?;
    let Some(id) = done["operation"].as_u64() else {
        return screen.done(&format!("{name}: nothing was to be done."), &done);
    };
    if waiting.no_wait {
        let begun = if done["state"] == "joined" { "is under way already" } else { "has begun" };
        return screen.done(&format!("{name}: {what} {begun} (operation {id})."), &done);
    }
    let id = id.to_string();
    let mut progress = Progress::new(&name, client, screen);
    while done["outcome"].is_null() {
        let wait = [("wait", "true".to_owned())];
        let at = path(&name, &["operations", &id]);
        done = progress.during(client.get(&at, &wait)).await?;
    }
    let sentence = ended(what, &done)?;
    screen.done(&format!("{name}: {sentence}."), &done)
}

/// What became of it, for people; an end that was not the wanted one is a failure.
fn ended(what: &str, operation: &Value) -> Result<&'static str, Failure> {
    let wanted = match what {
        "start" | "restart" => "started",
        "cancel" => "cancelled",
        _ => "stopped",
    };
    let outcome = operation["outcome"].as_str().unwrap_or_default();
    match outcome {
        "failed" => Err(Failure::Failed(
            "it did not come up; `naru ward events` and `naru ward console` say more".to_owned(),
        )),
        outcome if outcome != wanted => Err(Failure::Conflict(format!(
            "somebody wanted something else meanwhile: {what} ended as {}",
            plain(&operation["outcome"])
        ))),
        "started" => Ok("it runs and is ready"),
        "cancelled" => Ok("it goes on"),
        _ => Ok("it is down"),
    }
}

/// Saves, backs up or restores.
pub(super) async fn job(
    name: &str,
    what: &[&str],
    waiting: &Waiting,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    let mut progress = Progress::new(name, client, screen);
    let at = path(name, what);
    let body = json!({ "wait": !waiting.no_wait });
    let mut job = progress.during(client.post(&at, &body)).await?;
    let id = job["id"].to_string();
    while job["state"] == "running" && !waiting.no_wait {
        let wait = [("wait", "true".to_owned())];
        job = progress.during(client.get(&path(name, &["jobs", &id]), &wait)).await?;
    }
    if job["state"] == "failed" {
        return Err(Failure::Failed(format!(
            "{} ({})",
            plain(&job["error"]),
            plain(&job["error_code"])
        )));
    }
    screen.done(&format!("{name}: {}.", finished(&job)), &job)
}

fn finished(job: &Value) -> String {
    match (job["state"].as_str(), job["kind"].as_str()) {
        (Some("running"), _) => format!("{} has begun (job {})", plain(&job["kind"]), job["id"]),
        (_, Some("backup")) => {
            let backup = &job["backup"];
            let size = render::amount("memory_bytes", &backup["bytes"]);
            format!("backup {} is made, {size}", plain(&backup["name"]))
        }
        (_, Some("restore")) => "the backup is in place".to_owned(),
        _ => "it is saved".to_owned(),
    }
}

/// Tells what a ward is doing, on standard error, whenever that changes.
struct Progress<'a> {
    name: &'a str,
    client: &'a Client,
    screen: &'a Screen,
    told: String,
}

impl<'a> Progress<'a> {
    fn new(name: &'a str, client: &'a Client, screen: &'a Screen) -> Progress<'a> {
        Progress { name, client, screen, told: String::new() }
    }

    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = work.as_mut() => return done,
                () = sleep(PROGRESS_EVERY), if !self.screen.is_json() => (),
            }
            // A look that fails is no reason to give up: the work itself says what is wrong.
            if let Ok(ward) = self.client.get(&path(self.name, &[]), &[]).await {
                let doing = render::doing(&ward);
                if doing != self.told {
                    self.screen.complain(&format!("{}: {doing}", self.name));
                    self.told = doing;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_that_was_wanted_is_told_apart_from_others() {
        let check = |what: &str, outcome: &str, exit_code: u8| {
            let found = ended(what, &json!({ "outcome": outcome }));
            let found = found.map_or_else(|failure| failure.exit_code(), |_| 0);
            assert_eq!(found, exit_code, "{what} {outcome}");
        };
        for (what, outcome) in
            [("start", "started"), ("restart", "started"), ("stop", "stopped"), ("kill", "stopped")]
        {
            check(what, outcome, 0);
            check(what, "failed", 1);
            check(what, "cancelled", 6);
        }
        check("cancel", "cancelled", 0);
        check("stop", "started", 6);
        check("restart", "stopped", 6);
    }

    #[test]
    fn a_job_is_told_in_a_sentence() {
        let backup = json!({ "state": "done", "kind": "backup",
            "backup": { "name": "mine-1", "bytes": 5_242_880 } });
        assert_eq!(finished(&backup), "backup mine-1 is made, 5.0 MiB");
        let running = json!({ "id": 4, "state": "running", "kind": "save" });
        assert_eq!(finished(&running), "save has begun (job 4)");
    }
}
