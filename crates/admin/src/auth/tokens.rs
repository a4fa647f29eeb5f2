//! Tokens of the store: making their secrets and remembering for a moment what the store said.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use naru_domain::Timestamp;
use naru_domain::ports::{StoreError, Tokens};
use naru_domain::work::TokenRecord;
use parking_lot::Mutex;

use super::CredentialHash;

/// How long an answer of the store is believed: a revoked token is dead everywhere after this.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// Answers remembered at once.
const REMEMBERED_MAX: usize = 1_000;
/// How often the store is told that a token is in use.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// A new secret: the prefix says what it is for, then 256 random bits in base64url.
pub(crate) fn new_secret(prefix: &str) -> String {
    let bits: [u8; 32] = rand::random();
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits))
}

struct Remembered {
    token: Arc<TokenRecord>,
    at: Instant,
}

/// The store's tokens, each remembered for at most a second.
pub(crate) struct TokenCache {
    tokens: Arc<dyn Tokens>,
    remembered: Mutex<HashMap<CredentialHash, Remembered>>,
    touched: Mutex<HashMap<i64, Timestamp>>,
}

impl TokenCache {
    pub(crate) fn new(tokens: Arc<dyn Tokens>) -> TokenCache {
        TokenCache { tokens, remembered: Mutex::default(), touched: Mutex::default() }
    }

    /// The token with this hash, if it is still good.
    pub(crate) async fn find(
        &self,
        hash: &CredentialHash,
        now: Timestamp,
    ) -> Result<Option<Arc<TokenRecord>>, StoreError> {
        let known = self.recall(hash);
        let token = match known {
            Some(token) => token,
            None => match self.tokens.token_by_hash(hash).await? {
                Some(token) => self.remember(*hash, token),
                // Unknown hashes are not remembered: guesses must not push out what is in use.
                None => return Ok(None),
            },
        };
        let is_good = token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end);
        if is_good {
            self.touch(&token, now).await;
        }
        Ok(is_good.then_some(token))
    }

    /// Forgets everything, since something changed.
    pub(crate) fn clear(&self) {
        self.remembered.lock().clear();
    }

    fn recall(&self, hash: &CredentialHash) -> Option<Arc<TokenRecord>> {
        let remembered = self.remembered.lock();
        remembered
            .get(hash)
            .filter(|entry| entry.at.elapsed() < BELIEVED_FOR)
            .map(|entry| Arc::clone(&entry.token))
    }

    fn remember(&self, hash: CredentialHash, token: TokenRecord) -> Arc<TokenRecord> {
        let token = Arc::new(token);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, entry| entry.at.elapsed() < BELIEVED_FOR);
        }
        if remembered.len() < REMEMBERED_MAX {
            let entry = Remembered { token: Arc::clone(&token), at: Instant::now() };
            remembered.insert(hash, entry);
        }
        token
    }

    async fn touch(&self, token: &TokenRecord, now: Timestamp) {
        let is_due = {
            let mut touched = self.touched.lock();
            let last = touched.get(&token.id).copied().or(token.used_at);
            let is_due = last.is_none_or(|last| now.since(last) >= TOUCH_EVERY);
            if is_due {
                if touched.len() >= REMEMBERED_MAX {
                    touched.clear();
                }
                touched.insert(token.id, now);
            }
            is_due
        };
        if is_due && let Err(error) = self.tokens.touch_token(token.id, now).await {
            // Only a convenience for people who tidy up tokens: the request goes on.
            tracing::debug!(target: "naru::admin", %error, "token use not noted");
        }
    }
}
