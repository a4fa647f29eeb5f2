//! What runs in the game's process before the game does: it takes the game's priorities and limits while it is
//! alone in there, so that nothing of the game ever runs without them, and then becomes the game.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::Failed;
use super::files::{LAUNCH, Launch, STARTING, read_json};
use crate::host::{self, HostError, Refused};

/// Returns only if it could not become the game.
pub(super) fn run(folder: &Path) -> Failed {
    // Closed by the system when the game's program begins, which tells the keeper that it does.
    let mut starting = match OpenOptions::new().write(true).open(folder.join(STARTING)) {
        Ok(starting) => starting,
        Err(source) => return Failed::Io { what: "report to the keeper", source },
    };
    let failed = match read_json::<Launch>(&folder.join(LAUNCH)) {
        Ok(Some(launch)) => become_game(&launch, &mut starting),
        Ok(None) => {
            Failed::Io { what: "read launch.json", source: std::io::ErrorKind::NotFound.into() }
        }
        Err(source) => Failed::Io { what: "read launch.json", source },
    };
    report(&mut starting, "error", &failed);
    failed
}

fn become_game(launch: &Launch, starting: &mut File) -> Failed {
    let mut refused = Vec::new();
    if let Err(why) = join_group(launch) {
        refused.push(Refused { what: "group", why });
    }
    // The keeper's own protection is not the game's.
    let score = launch.priority.oom_score.or(Some(0));
    refused.extend(host::take_priority(&host::Priority {
        oom_score: score,
        ..launch.priority.clone()
    }));
    refused.extend(host::take_limits(&launch.limits));
    for refused in &refused {
        report(starting, "warn", refused);
    }
    if let Err(source) = std::env::set_current_dir(&launch.dir) {
        return Failed::Io { what: "enter the game's folder", source };
    }
    let mut command = Command::new(&launch.program);
    command.args(&launch.args).envs(&launch.env);
    if let Some(user) = launch.user {
        command.gid(user.gid).uid(user.uid);
    }
    Failed::Io { what: "run the game's program", source: command.exec() }
}

/// In one piece, so that the keeper never sees half a line.
fn report(starting: &mut File, what: &str, text: &dyn Display) {
    let line = format!("{what} {}\n", text.to_string().replace('\n', " "));
    drop(starting.write_all(line.as_bytes()));
}

fn join_group(launch: &Launch) -> Result<(), HostError> {
    let Some(group) = &launch.group else { return Ok(()) };
    host::Group::existing(&group.parent, &group.name)
        .ok_or(HostError::Unsupported("the control group was not made"))?
        .add(0)
}
