//! What a phone does with received media: how long it is busy sharing, and the files it keeps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::proto::Script;
use crate::proto::down::Item;
use crate::proto::script::Dialect;

const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Switching apps, and the second before temporary files are removed.
const AFTERWARDS: Duration = Duration::from_millis(1200);

/// How long the phone's receive thread sleeps while it shares `sizes.len()` files.
pub(super) fn wait(script: &Script, wait_ms: Option<f64>, sizes: &[usize]) -> Duration {
    if let Some(wait_ms) = wait_ms.filter(|ms| script.media_wait_used && *ms > 0.0) {
        return Duration::try_from_secs_f64(wait_ms / 1e3).unwrap_or(Duration::MAX) + AFTERWARDS;
    }
    #[expect(clippy::cast_precision_loss, reason = "file sizes are far below 2^53")]
    let megabytes = sizes.iter().sum::<usize>() as f64 / 1_048_576.0;
    let millis = match sizes.len() {
        0 => return Duration::ZERO,
        1 => (1500.0 + 2000.0 * megabytes).clamp(4000.0, 6000.0),
        count => {
            let more = u32::try_from(count - 1).unwrap_or(u32::MAX);
            (1500.0 + 2000.0 * megabytes + 300.0 * f64::from(more)).clamp(3000.0, 15_000.0)
        }
    };
    Duration::from_secs_f64(millis / 1e3) + AFTERWARDS
}

/// One item that the phone can share.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) extension: String,
}

/// The bytes of an item as the phone gets them. An item that fails is skipped on the phone; here
/// the reason is returned for people to read.
pub(super) async fn receive(script: &Script, item: Item) -> anyhow::Result<Received> {
    match item {
        // Scripts store base64 as .png whatever it is.
        Item::Bytes(bytes) => Ok(Received { bytes, extension: "png".to_owned() }),
        Item::LocalPath(path) => {
            let shown: String = path.chars().take(60).collect();
            anyhow::bail!("the phone takes {shown:?} for a local file, which does not exist")
        }
        Item::Address(address) => {
            let bytes = fetch(&address).await.with_context(|| format!("cannot fetch {address}"))?;
            Ok(Received { bytes, extension: extension_of(script, &address) })
        }
    }
}

async fn fetch(address: &str) -> anyhow::Result<Vec<u8>> {
    super::tls::ensure_provider();
    let client = reqwest::Client::builder()
        .connect_timeout(FETCH_TIMEOUT)
        .read_timeout(FETCH_TIMEOUT)
        .build()?;
    let response = client.get(address).send().await?.error_for_status()?;
    Ok(response.bytes().await?.to_vec())
}

/// In the json dialect what follows the last dot, query and all; raw scripts lose it.
fn extension_of(script: &Script, address: &str) -> String {
    const KNOWN: [&str; 13] = [
        "jpg", "jpeg", "png", "gif", "webp", "mp4", "mov", "avi", "mp3", "wav", "m4a", "pdf", "txt",
    ];
    let extension = address.rsplit('.').next().unwrap_or_default();
    if script.dialect == Dialect::Json && KNOWN.contains(&extension) {
        extension.to_owned()
    } else {
        "bin".to_owned()
    }
}

/// Writes the bytes unchanged to `directory/NNNN-I.ext`.
pub(super) async fn save(
    directory: &Path,
    sequence: usize,
    item: usize,
    received: &Received,
) -> anyhow::Result<PathBuf> {
    tokio::fs::create_dir_all(directory)
        .await
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let path = directory.join(format!("{sequence:04}-{item}.{}", received.extension));
    tokio::fs::write(&path, &received.bytes)
        .await
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_048_576;

    fn check(version: &str, wait_ms: Option<f64>, sizes: &[usize], expected_ms: u64) {
        let script = Script::find(version).unwrap();
        let waited = wait(&script, wait_ms, sizes);
        assert_eq!(waited, Duration::from_millis(expected_ms + 1200), "{version} {sizes:?}");
    }

    #[test]
    fn waits_follow_the_sizes_within_their_bounds() {
        check("3.2.1", None, &[100], 4000);
        check("3.2.1", None, &[10 * MB], 6000);
        check("3.2.1", None, &[MB, MB], 5800);
        check("3.2.1", None, &[1; 3], 3000);
        check("newest", None, &[10 * MB, 10 * MB], 15_000);
    }

    #[test]
    fn a_given_wait_is_used_as_it_is_except_by_scripts_that_ignore_it() {
        check("3.2.1", Some(60_000.0), &[1], 60_000);
        check("3.2.0", Some(60_000.0), &[1], 4000);
        check("3.2.1", Some(0.0), &[1], 4000);
    }

    #[test]
    fn a_query_string_spoils_the_type() {
        let script = Script::find("3.2.1").unwrap();
        assert_eq!(extension_of(&script, "http://192.0.2.1/clip.mp4"), "mp4");
        assert_eq!(extension_of(&script, "http://192.0.2.1/clip.mp4?x=1"), "bin");
    }
}
