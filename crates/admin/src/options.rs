//! What the listener and the API are told by the configuration, with limits and their origins.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::auth::PasswordCost;

/// The largest ordinary request body.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The largest body that carries media: `REPLY_MEDIA_BYTES_MAX` in base64, and some room.
pub(crate) const MEDIA_BODY_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Bodies with media that are held at once.
pub(crate) const MEDIA_BODIES_MAX: usize = 4;
/// Channels that are watched at once over the API.
pub(crate) const WATCHES_MAX: usize = 100;

const _: () = assert!(
    naru_domain::limits::REPLY_MEDIA_BYTES_MAX / 3 * 4 + BODY_BYTES_MAX < MEDIA_BODY_BYTES_MAX
);

/// How the HTTP listener is set up.
#[derive(Clone)]
pub struct AdminOptions {
    /// Where to listen.
    pub listen: SocketAddr,
    /// TLS, if any. Storing another configuration in it changes new connections at once.
    pub tls: Option<Arc<ArcSwap<rustls::ServerConfig>>>,
    /// Keys with the role admin for `X-API-Key`.
    pub api_keys: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Origins of web pages that may use the API (`https://console.example`); none by default.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` needs a token (role viewer). The figures hold no personal data.
    pub metrics_need_token: bool,
    /// How much work checking a password is.
    pub password_cost: PasswordCost,
    /// Counts and times.
    pub limits: AdminLimits,
}

impl AdminOptions {
    /// The defaults, on this address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> AdminOptions {
        AdminOptions {
            listen,
            tls: None,
            api_keys: Vec::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            metrics_need_token: false,
            password_cost: PasswordCost::default(),
            limits: AdminLimits::default(),
        }
    }
}

/// Counts and times of the HTTP listener. All guessed, unless said otherwise.
#[derive(Clone, Debug)]
pub struct AdminLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address.
    pub connections_per_address_max: usize,
    /// How long the head of a request may take, and how long a connection may be idle.
    pub head_timeout: Duration,
    /// How long an ordinary body may take; one with media may take four times as long.
    pub body_timeout: Duration,
    /// How long the work for one request may take.
    pub request_timeout: Duration,
    /// How long a reader may take no bytes of an answer.
    pub write_timeout: Duration,
    /// Requests a second per token, key or account.
    pub caller_per_second: u32,
    /// As many at once.
    pub caller_burst: u32,
    /// Requests a second per address.
    pub source_per_second: u32,
    /// As many at once.
    pub source_burst: u32,
    /// Requests without a valid token at once per address; one more a second.
    pub bad_credentials_burst: u32,
    /// Failed logins per account before the pauses begin.
    pub account_failures_free: u32,
    /// Failed logins per address before the pauses begin.
    pub source_failures_free: u32,
    /// Looks at personal data a minute before the alarm rings.
    pub bulk_requests_per_minute: u32,
    /// Rows of personal data a minute before the alarm rings.
    pub bulk_rows_per_minute: u64,
}

impl Default for AdminLimits {
    fn default() -> AdminLimits {
        AdminLimits {
            connections_max: 4_096,
            connections_per_address_max: 2_048,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            caller_per_second: 100,
            caller_burst: 200,
            source_per_second: 200,
            source_burst: 400,
            bad_credentials_burst: 30,
            account_failures_free: 5,
            source_failures_free: 20,
            bulk_requests_per_minute: 200,
            bulk_rows_per_minute: 20_000,
        }
    }
}

/// A range of addresses, such as `10.0.0.0/8` or `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix_bits: u8,
}

/// Why a network was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address with an optional prefix length, such as 10.0.0.0/8")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(raw: &str) -> Result<Network, NetworkError> {
        let (base, prefix) = match raw.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (raw, None),
        };
        let base: IpAddr = base.parse().map_err(|_error| NetworkError)?;
        let bits_max = if base.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().map_err(|_error| NetworkError)?,
            None => bits_max,
        };
        if prefix_bits > bits_max {
            return Err(NetworkError);
        }
        Ok(Network { base, prefix_bits })
    }
}

impl Network {
    /// Whether the address lies in this range.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let address = address.to_canonical();
        if address.is_ipv4() != self.base.is_ipv4() {
            return false;
        }
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
        (bits(address) ^ bits(self.base)) & mask == 0
    }
}

/// The address that counts: the last hop that is not one of ours. `forwarded` is `X-Forwarded-For`.
pub(crate) fn real_source(peer: IpAddr, forwarded: Option<&str>, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let mut source = peer;
    for hop in forwarded.unwrap_or_default().rsplit(',') {
        // What stands left of a hop that is not an address was made up by somebody.
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        source = hop.to_canonical();
        if !is_trusted(source) {
            break;
        }
    }
    source
}

/// The key for limits per address: one household or host often owns a whole /64 of IPv6.
pub(crate) fn source_key(source: IpAddr) -> String {
    match source {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let check = |network: &str, address: &str, holds: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), holds, "{network:?} {address}");
        };
        check("10.0.0.0/8", "10.1.2.3", true);
        check("10.0.0.0/8", "11.1.2.3", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("::1", "::1", true);
        check("2001:db8::/32", "2001:db8:1::2", true);
        for wrong in ["", "10.0.0.0/33", "::/129", "x", "10.0.0.0/-1", "10.0.0.0/"] {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
        }
    }

    #[test]
    fn a_forwarded_address_is_believed_from_trusted_proxies_only() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        let check = |peer: &str, forwarded: Option<&str>, source: &str| {
            let found = real_source(peer.parse().unwrap(), forwarded, &trusted);
            assert_eq!(found, source.parse::<IpAddr>().unwrap());
        };
        check("203.0.113.9", Some("1.1.1.1"), "203.0.113.9");
        check("10.0.0.1", Some("1.1.1.1"), "1.1.1.1");
        check("10.0.0.1", Some("9.9.9.9, 1.1.1.1, 10.0.0.2"), "1.1.1.1");
        check("10.0.0.1", Some("9.9.9.9, nonsense"), "10.0.0.1");
        check("10.0.0.1", None, "10.0.0.1");
        check("::ffff:203.0.113.9", None, "203.0.113.9");
    }

    #[test]
    fn limits_count_a_whole_ipv6_network_as_one() {
        assert_eq!(source_key("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::/64");
        assert_eq!(source_key("192.0.2.1".parse().unwrap()), "192.0.2.1");
    }
}
