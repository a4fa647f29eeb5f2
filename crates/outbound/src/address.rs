//! Where calls may connect to: the guard against requests that a target or a link aims at the inside
//! of the operator's network (SSRF). Pure decisions over urls and addresses, and the resolver that
//! applies them to names. It knows nothing of messages.
//!
//! A name is resolved once and the connection goes to an address of that answer, so that a name which
//! changes its address between check and use (DNS rebinding) gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why an address may not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is not a url.
    #[error("the url is not valid: {reason}")]
    NotAUrl {
        /// What the parser said.
        reason: String,
    },
    /// Only `http` and `https` are spoken.
    #[error("the scheme {scheme} is not allowed, only http and https are")]
    Scheme {
        /// The scheme found.
        scheme: String,
    },
    /// A name or a password in a url ends up in logs.
    #[error("the url carries credentials; use the signature instead")]
    Credentials,
    /// The url names no host.
    #[error("the url has no host")]
    NoHost,
    /// The address belongs to a range that is not the public internet.
    #[error("{address} is {range}; add it to the allow-list if it is meant")]
    Forbidden {
        /// The address.
        address: IpAddr,
        /// What the range is for.
        range: &'static str,
    },
    /// A network in the allow-list cannot be read.
    #[error("{text} is neither a host name nor a network such as 10.0.0.0/8")]
    NotANetwork {
        /// The entry.
        text: String,
    },
    /// The name has no address.
    #[error("the name {name} has no address")]
    NoAddress {
        /// The name.
        name: String,
    },
}

/// A range of addresses, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|bits| *bits <= bits_max)?,
            None => bits_max,
        };
        Some(Network { address, prefix_bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - self.prefix_bits;
                let high = |bits: u32| bits.checked_shr(shift).unwrap_or(0);
                high(network.to_bits()) == high(address.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - self.prefix_bits;
                let high = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                high(network.to_bits()) == high(address.to_bits())
            }
            _ => false,
        }
    }
}

/// IPv4 ranges that are not the public internet (IANA special-purpose registry, plus multicast).
const FORBIDDEN_V4: [(u32, u32, &str); 14] = [
    (v4(0, 0, 0, 0), 8, "this host"),
    (v4(10, 0, 0, 0), 8, "a private network"),
    (v4(100, 64, 0, 0), 10, "a carrier's or cloud's shared network"),
    (v4(127, 0, 0, 0), 8, "loopback"),
    (v4(169, 254, 0, 0), 16, "link-local (metadata services live there)"),
    (v4(172, 16, 0, 0), 12, "a private network"),
    (v4(192, 0, 0, 0), 24, "for protocol assignments"),
    (v4(192, 0, 2, 0), 24, "for documentation"),
    (v4(192, 88, 99, 0), 24, "a 6to4 relay"),
    (v4(192, 168, 0, 0), 16, "a private network"),
    (v4(198, 18, 0, 0), 15, "for benchmarks"),
    (v4(198, 51, 100, 0), 24, "for documentation"),
    (v4(203, 0, 113, 0), 24, "for documentation"),
    (v4(224, 0, 0, 0), 3, "multicast, reserved or broadcast"),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    FORBIDDEN_V4
        .iter()
        .find(|(network, prefix, _)| (bits ^ network).leading_zeros() >= *prefix)
        .map(|(_, _, range)| *range)
}

/// The IPv4 address that an IPv6 address stands for, whatever the way of embedding it.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let low = || Some(Ipv4Addr::from_bits((u32::from(segments[6]) << 16) | u32::from(segments[7])));
    match segments {
        // Mapped (::ffff:0:0/96), compatible (::/96), translated (::ffff:0:0:0/96), NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => low(),
        // 6to4 carries it behind the prefix.
        [0x2002, high, low, ..] => {
            Some(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("this host");
    }
    if address.is_loopback() {
        return Some("loopback");
    }
    if let Some(embedded) = embedded_v4(address) {
        return forbidden_v4(embedded);
    }
    match address.segments() {
        [0x64, 0xff9b, 1, ..] => Some("a local translation network"),
        [0x100, 0, 0, 0 | 1, ..] => Some("a sink"),
        [0x2001, 0..0x200, ..] => Some("for protocol assignments"),
        [0x2001, 0xdb8, ..] => Some("for documentation"),
        [0x3fff, 0..0x1000, ..] => Some("for documentation"),
        [0x5f00, ..] => Some("for segment routing"),
        [0xfc00..0xfe00, ..] => Some("a private network"),
        [0xfe80..0xfec0, ..] => Some("link-local"),
        [0xfec0..0xff00, ..] => Some("a private network"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        // Only 2000::/3 has been given out as public unicast.
        [0x2000..0x4000, ..] => None,
        _ => Some("reserved"),
    }
}

/// Which addresses may be reached: the public internet, plus what the configuration allows.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    hosts: Arc<[String]>,
    networks: Arc<[Network]>,
}

impl AddressGuard {
    /// Only the public internet.
    #[must_use]
    pub fn public_only() -> AddressGuard {
        AddressGuard::default()
    }

    /// The public internet and these: host names (`bot.internal`, exact), addresses and networks
    /// (`127.0.0.1`, `10.1.0.0/16`, `fd00::/8`).
    pub fn allowing<S: AsRef<str>>(entries: &[S]) -> Result<AddressGuard, AddressError> {
        let mut hosts = Vec::new();
        let mut networks = Vec::new();
        for entry in entries {
            let text = entry.as_ref().trim();
            if let Some(network) = Network::parse(text) {
                networks.push(network);
            } else if is_host_name(text) {
                hosts.push(text.trim_end_matches('.').to_ascii_lowercase());
            } else {
                return Err(AddressError::NotANetwork { text: text.to_owned() });
            }
        }
        Ok(AddressGuard { hosts: hosts.into(), networks: networks.into() })
    }

    /// Reads a url and refuses what can be refused without resolving its name.
    pub fn check_url(&self, text: &str) -> Result<Url, AddressError> {
        let url = Url::parse(text)
            .map_err(|error| AddressError::NotAUrl { reason: error.to_string() })?;
        self.check(&url)?;
        Ok(url)
    }

    /// The same for a url that was parsed already (of a redirect).
    pub fn check(&self, url: &Url) -> Result<(), AddressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AddressError::Scheme { scheme: url.scheme().to_owned() });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        // The parser has normalized `0x7f.1`, `2130706433`, `127.1` and full-width digits by now.
        let host = url.host_str().ok_or(AddressError::NoHost)?;
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            Ok(address) => self.check_address(address),
            Err(_) => Ok(()),
        }
    }

    /// Whether a connection to this address is allowed.
    pub fn check_address(&self, address: IpAddr) -> Result<(), AddressError> {
        // `::ffff:10.0.0.1` is 10.0.0.1 for an allow-list, too.
        let canonical = address.to_canonical();
        if self.networks.iter().any(|network| network.contains(canonical)) {
            return Ok(());
        }
        let forbidden = match address {
            IpAddr::V4(address) => forbidden_v4(address),
            IpAddr::V6(address) => forbidden_v6(address),
        };
        match forbidden {
            Some(range) => Err(AddressError::Forbidden { address, range }),
            None => Ok(()),
        }
    }

    fn allows_host(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    /// Keeps the addresses that may be connected to; an error when none is left.
    pub fn filter(
        &self,
        name: &str,
        resolved: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, AddressError> {
        if self.allows_host(name) {
            return Ok(resolved.into_iter().collect());
        }
        let mut allowed = Vec::new();
        let mut refused = None;
        for address in resolved {
            match self.check_address(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(error) => refused = Some(error),
            }
        }
        if allowed.is_empty() {
            return Err(
                refused.unwrap_or_else(|| AddressError::NoAddress { name: name.to_owned() })
            );
        }
        Ok(allowed)
    }
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        && text.chars().any(|c| c.is_ascii_alphabetic())
}

/// Resolves names with the system's resolver and passes only what the guard allows.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver(pub(crate) AddressGuard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = guard.filter(name.as_str(), resolved)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, allowed: bool) {
        let verdict = AddressGuard::public_only().check_url(url);
        assert_eq!(verdict.is_ok(), allowed, "{url}: {verdict:?}");
    }

    /// Every way that is known to write an inside address into a url.
    const FORBIDDEN: [&str; 84] = [
        "http://127.0.0.1/",
        "http://127.0.0.1:8080/",
        "https://127.0.0.1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.255.255.254/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7F.0x0.0x0.0x1/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://0177.0.0.01/",
        "http://017700000001/",
        "http://00000177.0.0.1/",
        "http://127.0x1/",
        "http://127.0.0.1./",
        "http://127。0。0。1/",
        "http://127.0.0.1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://%31%32%37.0.0.1/",
        "http://%3127.0.0.1/",
        "http://0/",
        "http://0.0.0.0/",
        "http://0x0/",
        "http://0.1.2.3/",
        "http:\\\\127.0.0.1\\",
        "http:127.0.0.1",
        "http:///127.0.0.1/",
        "http://\t127.0.0.1/",
        "http://127.0.\n0.1/",
        "http://10.0.0.1/",
        "http://10.255.255.255/",
        "http://012.0.0.1/",
        "http://167772161/",
        "http://0xa000001/",
        "http://172.16.0.1/",
        "http://172.31.255.255/",
        "http://2886729729/",
        "http://192.168.0.1/",
        "http://192.168.1/",
        "http://0xc0a80101/",
        "http://0300.0250.0.1/",
        "http://3232235521/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://100.64.0.1/",
        "http://100.127.255.254/",
        "http://100.100.100.200/",
        "http://192.0.0.192/",
        "http://192.0.2.1/",
        "http://198.18.0.1/",
        "http://198.51.100.7/",
        "http://203.0.113.7/",
        "http://224.0.0.1/",
        "http://239.255.255.250/",
        "http://240.0.0.1/",
        "http://255.255.255.255/",
        "http://[::]/",
        "http://[::1]/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://[0000:0000:0000:0000:0000:0000:0000:0001]:80/",
        "http://[::127.0.0.1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
        "http://[::ffff:0:10.0.0.1]/",
        "http://[64:ff9b::10.0.0.1]/",
        "http://[64:ff9b:1::1]/",
        "http://[2002:7f00:1::]/",
        "http://[2002:a00:1::1]/",
        "http://[2001:0:4136:e378::]/",
        "http://[2001:db8::1]/",
        "http://[fc00::1]/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://[febf::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[100::1]/",
        "http://[4000::1]/",
    ];

    #[test]
    fn every_spelling_of_an_inside_address_is_refused() {
        for url in FORBIDDEN {
            check(url, false);
        }
    }

    #[test]
    fn other_schemes_credentials_and_nonsense_are_refused() {
        for url in [
            "file:///etc/passwd",
            "ftp://example.org/",
            "gopher://example.org:25/",
            "unix:/run/docker.sock",
            "data:text/plain,hello",
            "javascript:1",
            "http://user@example.org/",
            "http://user:password@example.org/",
            "http://:password@example.org/",
            "http://",
            "https://",
            "//example.org/",
            "example.org",
            "",
            "http://example.org:99999/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://256.256.256.256/",
            "http://exa mple.org/",
        ] {
            check(url, false);
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in [
            "http://1.1.1.1/",
            "https://8.8.8.8:8443/hook",
            "http://11.0.0.1/",
            "http://100.63.255.255/",
            "http://100.128.0.1/",
            "http://172.15.0.1/",
            "http://172.32.0.1/",
            "http://192.167.255.255/",
            "http://169.253.0.1/",
            "http://223.255.255.255/",
            "https://[2606:4700::1111]/",
            "https://[2a00:1450:4001::1]/",
            "https://[64:ff9b::8.8.8.8]/",
            "https://[2002:808:808::1]/",
            "https://example.org/hook?x=1",
            "https://xn--9n2bp8q.example/",
            "https://예시.example/",
        ] {
            check(url, true);
        }
    }

    #[test]
    fn an_allow_list_opens_exactly_what_it_names() {
        let guard = AddressGuard::allowing(&["127.0.0.1", "10.1.0.0/16", "fd00::/8", "Bot.Local"])
            .expect("a readable list");
        assert!(guard.check_url("http://127.0.0.1:9000/").is_ok());
        assert!(guard.check_url("http://[::ffff:127.0.0.1]:9000/").is_ok());
        assert!(guard.check_url("http://10.1.255.1/").is_ok());
        assert!(guard.check_url("http://[fd12::1]/").is_ok());
        assert!(guard.check_url("http://127.0.0.2/").is_err());
        assert!(guard.check_url("http://10.2.0.1/").is_err());
        assert!(guard.check_url("http://[fe80::1]/").is_err());
        let private = "10.9.9.9:0".parse().unwrap();
        assert!(guard.filter("bot.local", [private]).is_ok());
        assert!(guard.filter("BOT.local.", [private]).is_ok());
        assert!(guard.filter("not-bot.local", [private]).is_err());
        for entry in ["10.0.0.0/33", "fd00::/129", "", "10.0.0", "host name", "https://x/"] {
            assert!(AddressGuard::allowing(&[entry]).is_err(), "{entry}");
        }
        assert!(
            AddressGuard::allowing(&["0.0.0.0/0"]).unwrap().check_url("http://10.0.0.1").is_ok()
        );
        assert!(AddressGuard::allowing(&["::/0"]).unwrap().check_url("http://[::1]/").is_ok());
    }

    #[test]
    fn of_a_mixed_answer_only_the_public_addresses_are_used() {
        let guard = AddressGuard::public_only();
        let public: SocketAddr = "1.1.1.1:0".parse().unwrap();
        let inside: SocketAddr = "[::ffff:10.0.0.1]:0".parse().unwrap();
        assert_eq!(guard.filter("example.org", [inside, public]), Ok(vec![public]));
        assert!(matches!(
            guard.filter("example.org", [inside]),
            Err(AddressError::Forbidden { .. })
        ));
        assert!(matches!(guard.filter("example.org", []), Err(AddressError::NoAddress { .. })));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_the_inside_is_refused_by_the_resolver() {
        let resolver = GuardedResolver(AddressGuard::public_only());
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_err());
        let resolver = GuardedResolver(AddressGuard::allowing(&["localhost"]).unwrap());
        assert!(resolver.resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
