//! The synthetic game from which monitors take time: built from C, so that a tick is 20 ms of processor time to the
//! microsecond and its process is nothing but ticks.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::naru::pinned;
use super::scene::{Launch, Scene};

/// Its name, also as a ward.
pub(crate) const NAME: &str = "tick";
const SOURCE: &str = include_str!("../../peers/wards/tick.c");

/// Builds it; it runs on the core given. The folder named must not be that of another one.
pub(crate) fn prepare(scene: &Scene, folder: &str, core: u32) -> anyhow::Result<Launch> {
    let folder = scene.folder(folder)?;
    fs::write(folder.join("tick.c"), SOURCE)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-o", NAME, "tick.c"]).current_dir(&folder);
    let status = compiler.status().context("the tick game is built by `cc`")?;
    ensure!(status.success(), "cc ended with {status}");
    let program = folder.join(NAME);
    let mut words = pinned(Some(core));
    words.push(program.to_str().context("the temporary folder's path is not UTF-8")?.to_owned());
    Ok(Launch::of(NAME, words, folder, "ready"))
}
