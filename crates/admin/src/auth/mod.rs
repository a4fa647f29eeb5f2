//! Who calls, and what they may do. Knows tokens, keys, logins and roles; knows no route by name: the
//! route table says which role a route asks for.

mod account_logins;
mod bootstrap;
mod logins;
mod passwords;
mod tokens;

use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, header};
use naru_domain::Timestamp;
use naru_domain::work::Role;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::{ApiError, Code};
use crate::keyed::{Backoff, Buckets};
use crate::options::AdminOptions;
use crate::services::Ports;

pub use account_logins::AccountLogins;
pub(crate) use bootstrap::TOKEN_PREFIX;
pub use bootstrap::{Bootstrap, BootstrapError, OPERATOR_TOKEN_FILE, bootstrap, put_account};

pub(crate) use logins::{LOGIN_ACCESS_PREFIX, LoginTokens, Logins, Moment};
pub use passwords::PasswordCost;
pub(crate) use passwords::Passwords;
pub(crate) use tokens::{TokenCache, new_secret};

/// The longest credential that is looked at, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 512;

/// SHA-256 of a credential: all that is ever kept or compared.
pub(crate) type CredentialHash = [u8; 32];

pub(crate) fn credential_hash(credential: &str) -> CredentialHash {
    Sha256::digest(credential.as_bytes()).into()
}

/// Which tokens a route accepts besides the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Rows are narrowed to the token's bots.
    Bots,
    /// It concerns the whole node: a token that is limited to bots is refused.
    Node,
}

/// Who may use a route. There is no default: a route without one cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, without a token.
    Open,
    /// This role or a higher one.
    Role(Role, Reach),
}

/// How the caller proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// A token of the store.
    Token(i64),
    /// An access token of a login.
    Login(CredentialHash),
    /// A key of the configuration.
    Key,
}

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// For the audit log, such as `token:laptop` or `account:admin`.
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// Only these bots; empty means all.
    pub(crate) bots: Arc<[String]>,
    /// The address the request came from.
    pub(crate) source: Arc<str>,
    pub(crate) means: Means,
}

impl Caller {
    /// Whether rows of this bot may be seen.
    pub(crate) fn sees_bot(&self, bot: &str) -> bool {
        self.bots.is_empty() || self.bots.iter().any(|own| own == bot)
    }
}

/// Checks credentials.
pub(crate) struct Auth {
    keys: Vec<CredentialHash>,
    tokens: TokenCache,
    pub(crate) logins: Logins,
    pub(crate) passwords: Passwords,
    pub(crate) account_failures: Backoff,
    pub(crate) source_failures: Backoff,
    bad_credentials: Buckets,
    per_caller: Buckets,
}

impl Auth {
    pub(crate) fn new(options: &AdminOptions, ports: &Ports) -> Auth {
        let limits = &options.limits;
        Auth {
            keys: options.api_keys.iter().map(|key| credential_hash(key)).collect(),
            tokens: TokenCache::new(Arc::clone(&ports.tokens)),
            logins: Logins::default(),
            passwords: Passwords::new(options.password_cost),
            account_failures: Backoff::new(limits.account_failures_free),
            source_failures: Backoff::new(limits.source_failures_free),
            bad_credentials: Buckets::new(1, limits.bad_credentials_burst),
            per_caller: Buckets::new(limits.caller_per_second, limits.caller_burst),
        }
    }

    /// Who calls, if they may use a route with this access.
    pub(crate) async fn admit(
        &self,
        access: Access,
        headers: &HeaderMap,
        source: &Arc<str>,
        now: Timestamp,
    ) -> Result<Option<Caller>, ApiError> {
        let Access::Role(role, reach) = access else { return Ok(None) };
        let caller = match self.identify(headers, source, now).await {
            Ok(caller) => caller,
            Err(error) if error.code == Code::Unauthorized => {
                // Guessing is slowed down for each address; a missing token costs the same.
                match self.bad_credentials.take(source, Instant::now()) {
                    Ok(()) => return Err(error),
                    Err(wait) => return Err(rate_limited(wait)),
                }
            }
            Err(error) => return Err(error),
        };
        self.per_caller.take(&caller.name, Instant::now()).map_err(rate_limited)?;
        if caller.role < role {
            let message = format!("this needs the role {} or higher", role.label());
            return Err(ApiError::new(Code::Forbidden, message));
        }
        if reach == Reach::Node && !caller.bots.is_empty() {
            return Err(ApiError::plain(Code::OutOfScope));
        }
        Ok(Some(caller))
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        source: &Arc<str>,
        now: Timestamp,
    ) -> Result<Caller, ApiError> {
        if let Some(key) = headers.get("x-api-key") {
            return self.by_key(key.as_bytes(), source);
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(ApiError::new(Code::Unauthorized, "send `Authorization: Bearer <token>`"));
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty() && token.len() <= CREDENTIAL_BYTES_MAX)
            .ok_or_else(|| ApiError::plain(Code::Unauthorized))?;
        let hash = credential_hash(token);
        if token.starts_with(LOGIN_ACCESS_PREFIX) {
            let login = self.logins.by_access(&hash, tokio::time::Instant::now());
            let (name, role) = login.ok_or_else(|| ApiError::plain(Code::Unauthorized))?;
            return Ok(Caller {
                name: format!("account:{name}").into(),
                role,
                bots: Arc::default(),
                source: Arc::clone(source),
                means: Means::Login(hash),
            });
        }
        let token = self.tokens.find(&hash, now).await?;
        let token = token.ok_or_else(|| ApiError::plain(Code::Unauthorized))?;
        Ok(Caller {
            name: format!("token:{}", token.name).into(),
            role: token.role,
            bots: token.bots.clone().into(),
            source: Arc::clone(source),
            means: Means::Token(token.id),
        })
    }

    fn by_key(&self, key: &[u8], source: &Arc<str>) -> Result<Caller, ApiError> {
        let given: CredentialHash = Sha256::digest(key).into();
        // All keys are compared, so that the time taken tells nothing about which one matched.
        let found = self.keys.iter().enumerate().fold(None, |found, (index, own)| {
            if bool::from(own.ct_eq(&given)) { Some(index) } else { found }
        });
        let index = found.ok_or_else(|| ApiError::plain(Code::Unauthorized))?;
        Ok(Caller {
            name: format!("key:{}", index + 1).into(),
            role: Role::Admin,
            bots: Arc::default(),
            source: Arc::clone(source),
            means: Means::Key,
        })
    }

    /// A token was revoked: this node stops taking it at once.
    pub(crate) fn forget_tokens(&self) {
        self.tokens.clear();
    }
}

pub(crate) fn rate_limited(wait: std::time::Duration) -> ApiError {
    ApiError::plain(Code::RateLimited).after(wait.as_secs() + 1)
}
