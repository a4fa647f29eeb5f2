//! Tokens of clients: signed claims that say who a connection belongs to and what it may subscribe to.
//!
//! Knows keys and claims; the wire's tokens are described in `docs/protocols/centrifuge.md`. It does not
//! know connections, channels' options or files: who calls it compares users and channels, answers the
//! client, and brings the bytes of the key set. Time is an argument.

mod claims;
mod keys;
mod port;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use naru_domain::Timestamp;
use zeroize::Zeroizing;

use self::claims::{Claims, Expectations};
pub use self::claims::{ConnectClaims, Overrides, ServerSubscription, SubscribeClaims};
use self::keys::{FixedKeys, KeySet};

/// Which keys tokens may be signed with, and what else they must say.
#[derive(Clone, Default)]
pub struct TokenSettings {
    /// The secret of HS256, HS384 and HS512.
    pub hmac_secret: Option<Zeroizing<String>>,
    /// The secret before the present one, for as long as tokens of it are around.
    pub hmac_previous_secret: Option<Zeroizing<String>>,
    /// When the previous secret ends; never, if there is no time.
    pub hmac_previous_secret_until: Option<Timestamp>,
    /// The public key of RS256, RS384 and RS512, as PEM.
    pub rsa_public_key: Option<String>,
    /// The public key of ES256 (P-256) or ES384 (P-384), as PEM.
    pub ecdsa_public_key: Option<String>,
    /// The public key of EdDSA (Ed25519), as PEM.
    pub ed25519_public_key: Option<String>,
    /// The claim that names the user, if it is not `sub`.
    pub user_claim: Option<String>,
    /// What `aud` must be or contain. Not looked at without one.
    pub audience: Option<String>,
    /// What `iss` must be. Not looked at without one.
    pub issuer: Option<String>,
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("hmac_secret", &self.hmac_secret.is_some())
            .field("hmac_previous_secret", &self.hmac_previous_secret.is_some())
            .field("hmac_previous_secret_until", &self.hmac_previous_secret_until)
            .field("rsa_public_key", &self.rsa_public_key.is_some())
            .field("ecdsa_public_key", &self.ecdsa_public_key.is_some())
            .field("ed25519_public_key", &self.ed25519_public_key.is_some())
            .field("user_claim", &self.user_claim)
            .field("audience", &self.audience)
            .field("issuer", &self.issuer)
            .finish()
    }
}

/// Why keys cannot be used. The texts never hold a part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    /// A secret is empty, which would let everybody in.
    #[error("the token secret is empty")]
    EmptySecret,
    /// A previous secret makes sense only beside a present one.
    #[error("there is a previous token secret, but no present one")]
    PreviousSecretAlone,
    /// A key is no public key of its kind in PEM.
    #[error("the {kind} public key is not usable: {reason}")]
    UnusableKey {
        /// RSA, ECDSA or Ed25519.
        kind: &'static str,
        /// What the library said.
        reason: String,
    },
    /// The key set is not JSON of the right form.
    #[error("the key set is not a JSON Web Key Set")]
    NotAKeySet,
    /// The key set has no key that could check a signature.
    #[error("the key set has no usable key")]
    NoUsableKey,
    /// The key set has more usable keys than [`TokenVerifier::KEYS_MAX`].
    #[error("the key set has too many keys")]
    TooManyKeys,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once, or will be: the client is to fetch another one.
    #[error("the token is expired")]
    Expired,
    /// It never was good.
    #[error("the token is invalid: {0}")]
    Invalid(InvalidToken),
}

/// What is wrong with a token, for counters and debug logs. Clients are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Longer than [`TokenVerifier::TOKEN_BYTES_MAX`].
    #[error("it is too long")]
    TooLong,
    /// Not three parts of base64, or a header or claims that make no sense.
    #[error("it is malformed")]
    Malformed,
    /// Signed in a way for which no key is set, or not at all.
    #[error("no key is set for its algorithm")]
    UnknownAlgorithm,
    /// Signed with a key that is not ours.
    #[error("its signature is wrong")]
    WrongSignature,
    /// Meant for somebody else.
    #[error("its audience is wrong")]
    WrongAudience,
    /// Made by somebody else.
    #[error("its issuer is wrong")]
    WrongIssuer,
    /// A subscription token where a connection token belongs, or the reverse.
    #[error("it is a token of another kind")]
    WrongKind,
}

impl InvalidToken {
    /// All labels, so that counters can start at zero.
    pub const LABELS: [&str; 7] = [
        "too_long",
        "malformed",
        "unknown_algorithm",
        "wrong_signature",
        "wrong_audience",
        "wrong_issuer",
        "wrong_kind",
    ];

    /// The place of this reason in [`InvalidToken::LABELS`], for counters kept in an array.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            InvalidToken::TooLong => 0,
            InvalidToken::Malformed => 1,
            InvalidToken::UnknownAlgorithm => 2,
            InvalidToken::WrongSignature => 3,
            InvalidToken::WrongAudience => 4,
            InvalidToken::WrongIssuer => 5,
            InvalidToken::WrongKind => 6,
        }
    }

    /// The stable name for metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        InvalidToken::LABELS[self.index()]
    }
}

impl From<InvalidToken> for TokenError {
    fn from(reason: InvalidToken) -> TokenError {
        TokenError::Invalid(reason)
    }
}

/// Checks tokens. Without any key every token is invalid.
pub struct TokenVerifier {
    fixed: FixedKeys,
    /// Replaced while others read.
    set: ArcSwap<KeySet>,
    expectations: Expectations,
}

impl TokenVerifier {
    /// The longest token, in bytes. Half of a frame: tokens that list channels can be long.
    pub const TOKEN_BYTES_MAX: usize = 32_768;
    /// Usable keys of a key set. Guessed: services publish two to five.
    pub const KEYS_MAX: usize = 64;

    /// Takes the keys; a key set comes by [`TokenVerifier::set_jwks`].
    pub fn new(settings: &TokenSettings) -> Result<TokenVerifier, TokenKeyError> {
        Ok(TokenVerifier {
            fixed: FixedKeys::new(settings)?,
            set: ArcSwap::new(Arc::new(KeySet::default())),
            expectations: Expectations::new(settings),
        })
    }

    /// Takes the keys of a JSON Web Key Set (RSA, EC, Ed25519) instead of those of the set before. On an
    /// error those stay. Keys of other kinds or uses are skipped.
    pub fn set_jwks(&self, json: &[u8]) -> Result<(), TokenKeyError> {
        self.set.store(Arc::new(KeySet::parse(json)?));
        Ok(())
    }

    /// Whether any key is set. Without one a gateway need not ask clients for tokens.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !self.fixed.is_empty() || !self.set.load().is_empty()
    }

    /// Checks a connection token.
    pub fn connect(&self, token: &str, now: Timestamp) -> Result<ConnectClaims, TokenError> {
        self.claims(token, now)?.into_connect()
    }

    /// Checks a subscription token. Whether its channel, user and client are the right ones is for the
    /// caller to compare.
    pub fn subscribe(&self, token: &str, now: Timestamp) -> Result<SubscribeClaims, TokenError> {
        self.claims(token, now)?.into_subscribe()
    }

    /// The signature comes first: nobody learns anything about a token they could not sign.
    fn claims(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if token.len() > Self::TOKEN_BYTES_MAX {
            return Err(InvalidToken::TooLong.into());
        }
        let payload = keys::verified_payload(token, &self.fixed, &self.set.load(), now)?;
        Claims::parse(&payload, &self.expectations, now)
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("has_keys", &self.has_keys()).finish_non_exhaustive()
    }
}
