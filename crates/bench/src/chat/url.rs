//! Where a chat server is: `ws://host:port/path` or `tcp://host:port`.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, bail};

/// What carries the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    WebSocket,
    Tcp,
}

/// An address that was looked up.
#[derive(Clone, Debug)]
pub(super) struct Url {
    pub(super) transport: Transport,
    /// Host and port as they were written.
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) address: SocketAddr,
}

impl Url {
    pub(super) fn resolve(text: &str) -> anyhow::Result<Url> {
        let (transport, rest) = match text.split_once("://") {
            Some(("ws", rest)) => (Transport::WebSocket, rest),
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            _ => bail!("{text:?} is no address like ws://127.0.0.1:8080/path or tcp://host:port"),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if transport == Transport::Tcp && path != "/" {
            bail!("{text:?} has a path, which tcp:// does not know");
        }
        let address = authority
            .to_socket_addrs()
            .with_context(|| format!("cannot look up {authority}; it needs a port"))?
            .next()
            .with_context(|| format!("{authority} has no address"))?;
        let (authority, path) = (authority.to_owned(), path.to_owned());
        Ok(Url { transport, authority, path, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_transports_are_written_as_addresses() {
        let url = Url::resolve("ws://127.0.0.1:8080/connection/websocket?x=1").unwrap();
        assert_eq!(
            (url.transport, url.path.as_str()),
            (Transport::WebSocket, "/connection/websocket?x=1")
        );
        assert_eq!(url.address.port(), 8080);
        assert_eq!(Url::resolve("tcp://127.0.0.1:61613").unwrap().transport, Transport::Tcp);
        for bad in ["127.0.0.1:1", "http://127.0.0.1:1/", "tcp://127.0.0.1:1/x", "ws://127.0.0.1/"]
        {
            assert!(Url::resolve(bad).is_err(), "{bad}");
        }
    }
}
