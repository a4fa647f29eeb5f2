//! Options that all load runs share: which server, which bots and phones, which keys. Also how
//! durations are written on the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::proto::{Identity, Script, Signer};

/// The two constants of a bridge script. Left empty, the caller fills them in.
#[derive(clap::Args, Clone)]
pub struct KeyPairArgs {
    /// Secret key of the bots.
    #[arg(
        long,
        env = "NARU_BRIDGE_SECRET",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub secret: String,
    /// Salt of the bots.
    #[arg(
        long,
        env = "NARU_BRIDGE_SALT",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub salt: String,
}

/// Which server to load, and as whom.
#[derive(clap::Args, Clone)]
pub struct TargetArgs {
    /// Address of the bridge listener.
    #[arg(long, default_value = "127.0.0.1:1490", value_name = "HOST:PORT")]
    pub server: String,
    /// Name of the bot; with --bots it gets a number.
    #[arg(long, default_value = "bench-bot", value_name = "NAME")]
    pub bot: String,
    /// Spread the phones over this many bots.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub bots: usize,
    /// What the phones sign with.
    #[command(flatten)]
    pub pair: KeyPairArgs,
    /// First ten hex digits of the device ids; another value makes other phones.
    #[arg(long, default_value = "be00000000", value_name = "HEX")]
    pub device_prefix: String,
    /// What the phones speak: json (3.2.1), raw (3.3.3) or mixed (one half each).
    #[arg(long, default_value = "mixed", value_name = "DIALECT")]
    pub dialect: DialectChoice,
    /// Number of local addresses (127.0.1.0 on) to connect from; 0 leaves the choice to the system.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub sources: u16,
}

/// What the phones of a load run speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DialectChoice {
    /// All phones run script 3.2.1.
    Json,
    /// All phones run script 3.3.3.
    Raw,
    /// Even ones 3.2.1, odd ones 3.3.3.
    Mixed,
}

/// How to reach the server's HTTP API, where a run needs it.
#[derive(clap::Args, Clone, Default)]
pub struct ApiArgs {
    /// Base address of the HTTP API, such as http://127.0.0.1:8080: lets the run approve its own
    /// phones and rooms, and lets bridge-kill ask what was accepted.
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
    /// Bearer token for the API.
    #[arg(long, env = "NARU_API_TOKEN", hide_env_values = true)]
    pub api_token: Option<String>,
    /// Key for the API's X-API-Key header.
    #[arg(long, env = "NARU_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

/// A target whose name was looked up, with signer and identities.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) signer: Signer,
    args: TargetArgs,
}

impl TargetArgs {
    pub(crate) async fn resolve(&self) -> anyhow::Result<Target> {
        if self.device_prefix.len() != 10
            || !self.device_prefix.bytes().all(|b| b.is_ascii_hexdigit())
        {
            bail!("--device-prefix must be ten hex digits");
        }
        if self.bots == 0 {
            bail!("--bots must be at least 1");
        }
        let address = tokio::net::lookup_host(&self.server)
            .await
            .with_context(|| format!("cannot look up {}", self.server))?
            .next()
            .with_context(|| format!("{} has no address", self.server))?;
        if self.sources > 0 && !address.ip().is_loopback() {
            bail!("--sources works with a server on 127.0.0.1 only");
        }
        Ok(Target {
            address,
            signer: Signer::new(&self.pair.secret, &self.pair.salt),
            args: self.clone(),
        })
    }
}

impl Target {
    /// The address that phone `index` connects from, if it is to choose one.
    pub(crate) fn source(&self, index: usize) -> Option<IpAddr> {
        if self.args.sources == 0 {
            return None;
        }
        let number = u16::try_from(index % usize::from(self.args.sources)).unwrap_or(0);
        let [high, low] = number.to_be_bytes();
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, high.saturating_add(1), low)))
    }

    pub(crate) fn identity(&self, index: usize) -> Identity {
        let bot = match self.args.bots {
            1 => self.args.bot.clone(),
            bots => format!("{}-{}", self.args.bot, index % bots),
        };
        let device = format!("{}{index:06x}", self.args.device_prefix);
        let ip = self.source(index).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Identity::new(&bot, &device, &ip.to_string())
    }

    pub(crate) fn script(&self, index: usize) -> Script {
        let raw = match self.args.dialect {
            DialectChoice::Json => false,
            DialectChoice::Raw => true,
            DialectChoice::Mixed => index % 2 == 1,
        };
        let name = if raw { "newest" } else { "3.2.1" };
        Script::find(name).expect("invariant: both names stand in the table of scripts")
    }

    /// The first ten digits that all device ids of this run begin with.
    pub(crate) fn device_prefix(&self) -> &str {
        &self.args.device_prefix
    }
}

/// Reads `250ms`, `10s`, `5m`, `2h`; a bare number means seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 =
        number.parse().map_err(|_| format!("{text:?} is no duration like \"10s\""))?;
    let seconds = match unit {
        "" | "s" => 1.0,
        "us" => 1e-6,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m or h")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_a_unit() {
        let check = |text, ms| assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)));
        check("10s", 10_000);
        check("250ms", 250);
        check("1.5m", 90_000);
        check("3", 3_000);
        assert!(parse_duration("10 s").is_err());
        assert!(parse_duration("s").is_err());
    }
}
