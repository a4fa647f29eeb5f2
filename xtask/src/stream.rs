//! Runs a program and passes on what it prints while it runs: shortened on the terminal, whole in a
//! log. Knows nothing of what the lines mean.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::place::Place;

/// Lines of one program on the terminal. The log has all of them.
const LINES_MAX: usize = 3_000;
/// Bytes of one line, on the terminal and in memory.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// A program that prints nothing for so long hangs (the longest single compilation takes two minutes).
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);

/// What becomes of a line on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// It is printed.
    Yes,
    /// Only the log has it.
    No,
}

/// Runs `command` to its end and gives every line of its output to `line`, which also decides what the
/// terminal shows. Whether it succeeded. The whole output is in `target/xtask/<name>.log`.
pub(crate) fn run(
    place: &Place,
    name: &str,
    command: &mut Command,
    mut line: impl FnMut(&str) -> Show,
) -> Result<bool> {
    let path = place.scratch().join(format!("{name}.log"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut log = BufWriter::new(file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let lines = {
        let (sender, lines) = sync_channel(1_000);
        forward(child.stdout.take().context("no standard output")?, sender.clone());
        forward(child.stderr.take().context("no standard error")?, sender);
        lines
    };
    let shown = pass_on(&lines, &mut log, &mut line);
    log.flush()?;
    match shown? {
        Passed::Silent => {
            child.kill()?;
            child.wait()?;
            bail!(
                "{name} printed nothing for {SILENCE_MAX:?} and was stopped; see {}",
                path.display()
            )
        }
        Passed::All { hidden } => {
            if hidden > 0 {
                println!("… {hidden} more lines in {}", path.display());
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        println!("{name}: {status}; all of its output is in {}", path.display());
    }
    Ok(status.success())
}

enum Passed {
    /// Both ends of the pipe are closed; so many lines found no room on the terminal.
    All { hidden: usize },
    /// Nothing came for too long.
    Silent,
}

fn pass_on(
    lines: &Receiver<String>,
    log: &mut impl Write,
    line: &mut impl FnMut(&str) -> Show,
) -> Result<Passed> {
    let (mut printed, mut hidden) = (0, 0);
    loop {
        let text = match lines.recv_timeout(SILENCE_MAX) {
            Ok(text) => text,
            Err(RecvTimeoutError::Disconnected) => return Ok(Passed::All { hidden }),
            Err(RecvTimeoutError::Timeout) => return Ok(Passed::Silent),
        };
        writeln!(log, "{text}")?;
        if line(&text) == Show::No {
            continue;
        }
        if printed < LINES_MAX {
            println!("{text}");
            printed += 1;
        } else {
            hidden += 1;
        }
    }
}

/// Sends the lines of `source` until it ends or nobody listens. Longer lines arrive in pieces.
fn forward(source: impl Read + Send + 'static, lines: SyncSender<String>) {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        loop {
            line.clear();
            match source.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line);
            if lines.send(text.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
                return;
            }
        }
    });
}
