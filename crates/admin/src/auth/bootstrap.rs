//! What a first start leaves behind: an admin account with a random password, and a token file by which
//! the command line on the same machine may do everything.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use naru_domain::ports::StoreError;
use naru_domain::work::{Account, Role, TokenRecord};
use naru_domain::{Clock, Timestamp};

use super::{PasswordCost, Passwords, credential_hash, new_secret};
use crate::services::Ports;

/// The file in the data folder that holds the local operator's token.
pub const OPERATOR_TOKEN_FILE: &str = "operator.token";
/// How tokens of the store begin, so that scanners for leaked secrets can find them.
pub(crate) const TOKEN_PREFIX: &str = "naru_t_";

/// What [`bootstrap`] made or found.
pub struct Bootstrap {
    /// The password of the account `admin`, if it was made just now. Show it once, to a person.
    pub admin_password: Option<String>,
    /// Where the local operator's token is.
    pub token_file: PathBuf,
}

/// Why a start could not prepare access.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store said no.
    #[error("the store cannot keep accounts and tokens: {0}")]
    Store(#[from] StoreError),
    /// The token file could not be read or written.
    #[error("cannot use the operator token file {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The password could not be hashed.
    #[error("the first password could not be made")]
    Password,
}

/// Creates the account `admin` if there is no account at all, and the token file if it is missing or
/// its token is not good any more. Safe to call on every start.
pub async fn bootstrap(
    ports: &Ports,
    data_dir: &Path,
    clock: &dyn Clock,
) -> Result<Bootstrap, BootstrapError> {
    let now = clock.now();
    let admin_password = first_account(ports, now).await?;
    let token_file = data_dir.join(OPERATOR_TOKEN_FILE);
    let file_error = |error| BootstrapError::File { path: token_file.clone(), error };
    let found = match std::fs::read_to_string(&token_file) {
        Ok(token) => Some(token),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(file_error(error)),
    };
    if let Some(token) = found {
        let known = ports.tokens.token_by_hash(&credential_hash(token.trim())).await?;
        let is_good = |token: &TokenRecord| {
            token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end)
        };
        if known.as_ref().is_some_and(is_good) {
            return Ok(Bootstrap { admin_password, token_file });
        }
    }
    let secret = new_secret(TOKEN_PREFIX);
    let record = TokenRecord {
        id: 0,
        name: "local operator".to_owned(),
        hash: credential_hash(&secret),
        role: Role::Admin,
        bots: Vec::new(),
        created_at: now,
        used_at: None,
        expires_at: None,
        revoked_at: None,
    };
    ports.tokens.add_token(&record).await?;
    write_secret(&token_file, &secret).map_err(file_error)?;
    Ok(Bootstrap { admin_password, token_file })
}

/// Creates or updates an account of the configuration. One that fits already is left as it is.
pub async fn put_account(
    ports: &Ports,
    name: &str,
    password: &str,
    role: Role,
    clock: &dyn Clock,
) -> Result<(), BootstrapError> {
    let passwords = Passwords::new(PasswordCost::default());
    let known = ports.accounts.account(name).await?;
    if let Some(known) = &known {
        let hash = Some(known.password_hash.clone());
        let fits = passwords.verify(password.to_owned(), hash).await;
        if known.role == role && fits.is_ok_and(|fits| fits) {
            return Ok(());
        }
    }
    let hash = passwords.hash(password.to_owned()).await;
    let account = Account {
        name: name.to_owned(),
        password_hash: hash.map_err(|_logged| BootstrapError::Password)?,
        role,
        created_at: known.map_or_else(|| clock.now(), |known| known.created_at),
    };
    Ok(ports.accounts.put_account(&account).await?)
}

async fn first_account(ports: &Ports, now: Timestamp) -> Result<Option<String>, BootstrapError> {
    if !ports.accounts.accounts(None, 1).await?.is_empty() {
        return Ok(None);
    }
    let password = new_secret("");
    let hash = Passwords::new(PasswordCost::default()).hash(password.clone()).await;
    let account = Account {
        name: "admin".to_owned(),
        password_hash: hash.map_err(|_logged| BootstrapError::Password)?,
        role: Role::Admin,
        created_at: now,
    };
    ports.accounts.put_account(&account).await?;
    Ok(Some(password))
}

/// The file will be its owner's alone.
#[cfg(unix)]
fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

/// The file will have the rights of its folder.
#[cfg(not(unix))]
fn for_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Writes next to the file and renames, so that no reader ever sees half a token, and so that the file
/// is never open to others, not even for a moment.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Ok(()) => (),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    let mut options = OpenOptions::new();
    let mut file = for_owner(options.write(true).create_new(true)).open(&beside)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
