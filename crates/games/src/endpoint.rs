//! Where a game server is asked, and what opens the door.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A password. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    /// The password itself. Whoever calls this answers for where it goes.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

/// One port of one game server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Numeric on purpose: no name is looked up here.
    pub address: SocketAddr,
    /// For protocols that want one.
    pub password: Option<Secret>,
    /// For one question or command as a whole, connecting included.
    pub timeout: Duration,
}

impl Endpoint {
    pub(crate) fn password(&self) -> &str {
        self.password.as_ref().map_or("", Secret::reveal)
    }
}
