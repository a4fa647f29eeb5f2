//! Monitors that are told which games to watch: commands of the operator's, and the peers that `cargo xtask monitors`
//! brings. Some do nothing unless they are scraped.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use super::naru::pinned;
use super::scene::{Manifest, Running, Scene};
use super::web::Web;
use super::{Monitor, WardsArgs, meter};

/// Peers by their name in the list, the name in the table, and how often they are scraped.
const PEERS: [(&str, &str, Option<Duration>); 3] = [
    ("node_exporter", "node_exporter, 1 s", Some(Duration::from_secs(1))),
    // What Prometheus' documentation begins with.
    ("node_exporter", "node_exporter, 15 s", Some(Duration::from_secs(15))),
    ("netdata", "netdata", None),
];
/// Where Prometheus looks.
const SCRAPED: &str = "/metrics";

/// A monitor before it runs.
pub(crate) struct Watch {
    pub(crate) name: String,
    kind: Kind,
}

enum Kind {
    Command(Vec<String>),
    Peer { manifest: Manifest, name: &'static str, scraped: Option<Duration> },
}

/// A monitor that runs. Dropping it ends it.
pub(crate) struct Watching {
    running: Running,
    scraped: Option<(Web, String, Duration)>,
}

pub(super) fn parse_monitor(text: &str) -> Result<Monitor, String> {
    let (name, command) = text.split_once('=').ok_or("write NAME=COMMAND")?;
    let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if name.is_empty() || words.is_empty() {
        return Err("write NAME=COMMAND".to_owned());
    }
    Ok(Monitor { name: name.to_owned(), words })
}

/// All monitors of this run but Naru.
pub(crate) fn all(args: &WardsArgs) -> anyhow::Result<Vec<Watch>> {
    let command = |monitor: &Monitor| Watch {
        name: monitor.name.clone(),
        kind: Kind::Command(monitor.words.clone()),
    };
    let mut watches: Vec<Watch> = args.monitor.iter().map(command).collect();
    if let Some(path) = &args.monitors {
        for (name, shown, scraped) in PEERS {
            let kind = Kind::Peer { manifest: Manifest::read(path)?, name, scraped };
            watches.push(Watch { name: shown.to_owned(), kind });
        }
    }
    Ok(watches)
}

impl Watch {
    /// Starts it beside the games that run, and lets it settle.
    pub(crate) fn start(
        &self,
        scene: &mut Scene,
        core: Option<u32>,
        settle: Duration,
    ) -> anyhow::Result<Watching> {
        let mut words = pinned(core);
        let (env, folder, scraped) = match &self.kind {
            Kind::Command(command) => {
                let folder = scene.fresh_folder(&self.folder())?;
                let pids: Vec<String> = scene.pids().map(|pid| pid.to_string()).collect();
                let at = folder.to_str().context("the temporary folder's path is not UTF-8")?;
                let fill =
                    |word: &String| word.replace("{pids}", &pids.join(",")).replace("{dir}", at);
                words.extend(command.iter().map(fill));
                (BTreeMap::new(), folder, None)
            }
            Kind::Peer { manifest, name, scraped } => {
                scene.fresh_folder(&self.folder())?;
                let launch = scene.prepare(manifest, name, &self.folder())?;
                words.extend(launch.words);
                let port = launch.ports.get("port").context("it has no port")?;
                let url = format!("http://127.0.0.1:{port}{SCRAPED}");
                let scrape = |every| Ok::<_, anyhow::Error>((Web::new()?, url, every));
                (launch.env, launch.folder, scraped.map(scrape).transpose()?)
            }
        };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&folder).envs(env).stdin(Stdio::null());
        let log = self.folder();
        command.stdout(scene.log(&log)?).stderr(scene.log(&log)?);
        let running = Running::start(command)?;
        // The time itself is what is asked for here: monitors warm up, then are measured for a while.
        std::thread::sleep(settle);
        Ok(Watching { running, scraped })
    }

    /// What to say when it could not be measured.
    pub(crate) fn failed(&self, scene: &Scene) -> String {
        format!("cannot measure {}; it said\n{}", self.name, scene.last_words(&self.folder()))
    }

    /// Names of monitors may be anything, those of folders not.
    fn folder(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        format!("monitor-{}", self.name.chars().map(plain).collect::<String>())
    }
}

impl Watching {
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<u32>> {
        meter::tree(self.running.pid())
    }

    /// Lets it do its work for a while.
    pub(crate) fn watch(&self, span: Duration) -> anyhow::Result<()> {
        match &self.scraped {
            Some((web, url, every)) => web.scrape(url, *every, span),
            None => {
                std::thread::sleep(span);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_is_a_name_and_the_words_of_a_command() {
        let monitor = parse_monitor("ours=naru serve --set a=b").unwrap();
        assert_eq!(monitor.name, "ours");
        assert_eq!(monitor.words, ["naru", "serve", "--set", "a=b"]);
        assert!(parse_monitor("naru").is_err());
        assert!(parse_monitor("=naru").is_err());
        assert!(parse_monitor("naru= ").is_err());
    }
}
