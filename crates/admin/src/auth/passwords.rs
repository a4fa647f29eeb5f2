//! Passwords: argon2id on a bounded number of blocking threads, since each run takes 19 MiB and tens of
//! milliseconds of one core.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;

use crate::error::{ApiError, Code};

/// Runs at once.
const RUNS_MAX: usize = 2;
/// Callers that may wait for a run.
const WAITING_MAX: usize = 64;
/// The shortest password that is taken, in characters.
const PASSWORD_CHARS_MIN: usize = 10;
/// The longest password that is looked at, in bytes.
const PASSWORD_BYTES_MAX: usize = 1024;

/// How much work one run of argon2id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for PasswordCost {
    /// What OWASP recommends for argon2id with one lane.
    fn default() -> PasswordCost {
        PasswordCost { memory_kib: 19 * 1024, passes: 2 }
    }
}

/// Makes and checks hashes.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    runs: Arc<Semaphore>,
    waiting: Semaphore,
    /// Checked for names that do not exist, so that they cost the same time.
    decoy: tokio::sync::OnceCell<String>,
}

impl Passwords {
    pub(crate) fn new(cost: PasswordCost) -> Passwords {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None).unwrap_or_default();
        Passwords {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            runs: Arc::new(Semaphore::new(RUNS_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
            decoy: tokio::sync::OnceCell::new(),
        }
    }

    /// Why this password is not taken for an account.
    pub(crate) fn check(password: &str) -> Result<(), ApiError> {
        if password.chars().count() < PASSWORD_CHARS_MIN {
            let message = format!("a password has at least {PASSWORD_CHARS_MIN} characters");
            return Err(ApiError::field(message));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            let message = format!("a password has at most {PASSWORD_BYTES_MAX} bytes");
            return Err(ApiError::field(message));
        }
        Ok(())
    }

    /// The PHC string of this password with a salt of its own.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ApiError> {
        let argon2 = self.argon2.clone();
        let hash = self
            .run(move || {
                let hash: Result<PasswordHash, _> = argon2.hash_password(password.as_bytes());
                hash.map(|hash| hash.to_string())
            })
            .await?;
        hash.map_err(|error| {
            tracing::error!(target: "naru::admin", %error, "password not hashed");
            ApiError::plain(Code::Internal)
        })
    }

    /// Whether the password fits. Without a hash the answer is no, after the same time.
    pub(crate) async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, ApiError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let is_known = hash.is_some();
        let hash = match hash {
            Some(hash) => hash,
            None => self.decoy.get_or_try_init(|| self.hash("decoy".to_owned())).await?.clone(),
        };
        let argon2 = self.argon2.clone();
        let fits = self
            .run(move || {
                PasswordHash::new(&hash)
                    .is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await?;
        Ok(fits && is_known)
    }

    /// Whether this hash was made with other costs and should be made again.
    pub(crate) fn is_outdated(&self, hash: &str) -> bool {
        let own = self.argon2.params();
        PasswordHash::new(hash)
            .ok()
            .and_then(|hash| Params::try_from(&hash).ok())
            .is_none_or(|params| params.m_cost() != own.m_cost() || params.t_cost() != own.t_cost())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let _place =
            self.waiting.try_acquire().map_err(|_full| ApiError::plain(Code::Overloaded))?;
        let permit = Arc::clone(&self.runs).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, even if nobody waits for it any more.
            let _permit = permit;
            work()
        });
        done.await.map_err(|error| {
            tracing::error!(target: "naru::admin", %error, "password work failed");
            ApiError::plain(Code::Internal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: PasswordCost = PasswordCost { memory_kib: 64, passes: 1 };

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new(CHEAP);
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let verify = |password: &str, hash: Option<&String>| {
            passwords.verify(password.to_owned(), hash.cloned())
        };
        assert!(verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!verify("wrong horse", Some(&hash)).await.unwrap());
        assert!(!verify("decoy", None).await.unwrap(), "unknown names never fit");
        assert!(!verify("x", Some(&"not a hash".to_owned())).await.unwrap());
        assert_ne!(hash, passwords.hash("correct horse".to_owned()).await.unwrap());
    }

    #[tokio::test]
    async fn hashes_with_other_costs_are_outdated() {
        let hash = Passwords::new(CHEAP).hash("correct horse".to_owned()).await.unwrap();
        assert!(!Passwords::new(CHEAP).is_outdated(&hash));
        assert!(Passwords::new(PasswordCost::default()).is_outdated(&hash));
        assert!(Passwords::new(CHEAP).is_outdated("$2b$12$abc"));
    }
}
