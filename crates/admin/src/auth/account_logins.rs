//! Accounts as the chat gateways know them: name and password, or no. The same accounts as those of the
//! API; who is refused here is locked out here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use naru_domain::ports::{Accounts, ChannelRight, Login, Logins};
use naru_domain::work::Role;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{PasswordCost, Passwords};
use crate::keyed::Backoff;
use crate::options::AdminLimits;

/// Accounts whose last good login is remembered: after a restart all clients come back at once, and a
/// password hash each would take minutes.
const KNOWN_MAX: usize = 10_000;

/// Checks names and passwords against the accounts of the store.
pub struct AccountLogins {
    accounts: Arc<dyn Accounts>,
    passwords: Passwords,
    account_failures: Backoff,
    source_failures: Backoff,
    known: Known,
    /// What operators and admins may do in channels.
    operators_rights: Vec<ChannelRight>,
}

/// What came of looking at a name and a password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checked {
    /// They belong together, and this is what the account may do.
    Fits(Role),
    Wrong,
    /// It could not be told.
    Unclear,
}

impl AccountLogins {
    /// Over these accounts, with the limits of the API.
    #[must_use]
    pub fn new(accounts: Arc<dyn Accounts>, limits: &AdminLimits) -> AccountLogins {
        AccountLogins {
            accounts,
            passwords: Passwords::new(PasswordCost::default()),
            account_failures: Backoff::new(limits.account_failures_free),
            source_failures: Backoff::new(limits.source_failures_free),
            known: Known::new(rand::random()),
            operators_rights: Vec::new(),
        }
    }

    /// The same, where operators and admins may do this in channels, besides what everybody may.
    #[must_use]
    pub fn with_operators_rights(self, rights: Vec<ChannelRight>) -> AccountLogins {
        AccountLogins { operators_rights: rights, ..self }
    }

    async fn check(&self, name: &str, password: &str) -> Checked {
        let account = match self.accounts.account(name).await {
            Ok(account) => account,
            Err(error) => {
                tracing::warn!(target: "naru::admin", %error, "accounts cannot be read");
                return Checked::Unclear;
            }
        };
        let role = account.as_ref().map(|account| account.role);
        let hash = account.map(|account| account.password_hash);
        if let (Some(hash), Some(role)) = (&hash, role)
            && self.known.fits(name, password, hash)
        {
            return Checked::Fits(role);
        }
        // Also without an account, so that the time does not tell whether there is one.
        match self.passwords.verify(password.to_owned(), hash.clone()).await {
            Err(_) => Checked::Unclear,
            Ok(false) => Checked::Wrong,
            Ok(true) => {
                let (Some(hash), Some(role)) = (hash, role) else { return Checked::Wrong };
                self.known.remember(name, password, hash);
                Checked::Fits(role)
            }
        }
    }

    fn rights(&self, role: Role) -> Vec<ChannelRight> {
        if role >= Role::Operator { self.operators_rights.clone() } else { Vec::new() }
    }
}

#[async_trait]
impl Logins for AccountLogins {
    async fn login(&self, name: &str, password: &str, source: &str) -> Login {
        let now = Instant::now();
        let free = self
            .source_failures
            .attempt(source, now)
            .and_then(|()| self.account_failures.attempt(name, now));
        if free.is_err() {
            return Login::Locked;
        }
        let checked = self.check(name, password).await;
        if checked != Checked::Wrong {
            // A check that did not come about tells nothing about who asked.
            self.account_failures.succeeded(name);
            self.source_failures.succeeded(source);
        }
        match checked {
            Checked::Fits(role) => {
                Login::Known { user: name.to_owned(), rights: self.rights(role) }
            }
            Checked::Wrong => Login::Refused,
            Checked::Unclear => Login::Locked,
        }
    }
}

/// The last good login of each account: a digest that is worth nothing without this process's secret, and
/// the password hash that it was checked against.
struct Known {
    secret: [u8; 32],
    logins: Mutex<HashMap<String, ([u8; 32], String)>>,
}

impl Known {
    fn new(secret: [u8; 32]) -> Known {
        Known { secret, logins: Mutex::default() }
    }

    fn digest(&self, name: &str, password: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.secret);
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name.as_bytes());
        digest.update(password.as_bytes());
        digest.finalize().into()
    }

    fn fits(&self, name: &str, password: &str, hash: &str) -> bool {
        let given = self.digest(name, password);
        let logins = self.logins.lock();
        logins.get(name).is_some_and(|(known, known_hash)| {
            known_hash == hash && bool::from(known.ct_eq(&given))
        })
    }

    fn remember(&self, name: &str, password: &str, hash: String) {
        let digest = self.digest(name, password);
        let mut logins = self.logins.lock();
        if logins.len() >= KNOWN_MAX && !logins.contains_key(name) {
            logins.clear();
        }
        logins.insert(name.to_owned(), (digest, hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_login_is_known_until_the_password_changes() {
        let known = Known::new([7; 32]);
        known.remember("ann", "secret", "hash-1".to_owned());
        assert!(known.fits("ann", "secret", "hash-1"));
        assert!(!known.fits("ann", "secret", "hash-2"), "the password was changed");
        assert!(!known.fits("ann", "other", "hash-1") && !known.fits("bob", "secret", "hash-1"));
        for number in 0..=KNOWN_MAX {
            known.remember(&number.to_string(), "x", "y".to_owned());
        }
        assert!(known.logins.lock().len() <= KNOWN_MAX);
    }
}
