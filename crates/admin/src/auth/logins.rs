//! Logins of people: short access tokens and refresh tokens that change with each use. Kept in memory
//! only, bounded; after a restart people log in again.

use std::collections::HashMap;
use std::time::Duration;

use naru_domain::Timestamp;
use naru_domain::work::Role;
use parking_lot::Mutex;

use super::{CredentialHash, credential_hash, new_secret};

/// How access tokens of logins begin.
pub(crate) const LOGIN_ACCESS_PREFIX: &str = "naru_l_";
const REFRESH_PREFIX: &str = "naru_r_";

const ACCESS_FOR: Duration = Duration::from_secs(15 * 60);
/// A login that is not refreshed for so long ends.
const REFRESH_FOR: Duration = Duration::from_secs(60 * 60);
/// A login ends after this, however much it is used.
const LOGIN_FOR: Duration = Duration::from_secs(12 * 60 * 60);
const LOGINS_MAX: usize = 1_000;
const LOGINS_PER_ACCOUNT_MAX: usize = 20;

struct Login {
    account: String,
    role: Role,
    access: CredentialHash,
    access_until: Timestamp,
    refresh: CredentialHash,
    /// The one before: whoever shows it has a copy that was stolen, or lost our answer.
    spent: Option<CredentialHash>,
    refresh_until: Timestamp,
    began_at: Timestamp,
}

/// What a person gets for name and password, or for a refresh token.
pub(crate) struct LoginTokens {
    pub(crate) access: String,
    pub(crate) access_until: Timestamp,
    pub(crate) refresh: String,
    pub(crate) refresh_until: Timestamp,
    pub(crate) role: Role,
}

/// All logins of this node.
#[derive(Default)]
pub(crate) struct Logins(Mutex<Table>);

#[derive(Default)]
struct Table {
    next: u64,
    logins: HashMap<u64, Login>,
    by_access: HashMap<CredentialHash, u64>,
    by_refresh: HashMap<CredentialHash, u64>,
}

impl Logins {
    /// Name and password were right.
    pub(crate) fn begin(&self, account: &str, role: Role, now: Timestamp) -> LoginTokens {
        let mut table = self.0.lock();
        table.make_room(account, now);
        let (login, tokens) = Login::new(account, role, now, now);
        table.insert(login);
        tokens
    }

    /// Whose access token this is.
    pub(crate) fn by_access(
        &self,
        hash: &CredentialHash,
        now: Timestamp,
    ) -> Option<(String, Role)> {
        let table = self.0.lock();
        let login = table.logins.get(table.by_access.get(hash)?)?;
        (now < login.access_until).then(|| (login.account.clone(), login.role))
    }

    /// The account of a refresh token that may be used now. One that was used before ends its login.
    pub(crate) fn account_of_refresh(&self, refresh: &str, now: Timestamp) -> Option<String> {
        let hash = credential_hash(refresh);
        let mut table = self.0.lock();
        let id = *table.by_refresh.get(&hash)?;
        let login = table.logins.get(&id)?;
        if login.refresh == hash && now < login.refresh_until {
            return Some(login.account.clone());
        }
        table.remove(id);
        None
    }

    /// Exchanges a refresh token; `role` is the account's role as of now.
    pub(crate) fn refresh(&self, refresh: &str, role: Role, now: Timestamp) -> Option<LoginTokens> {
        let hash = credential_hash(refresh);
        let mut table = self.0.lock();
        let id = *table.by_refresh.get(&hash)?;
        let old = table.remove(id)?;
        if old.refresh != hash || now >= old.refresh_until {
            return None;
        }
        let (mut login, tokens) = Login::new(&old.account, role, now, old.began_at);
        login.spent = Some(hash);
        table.insert(login);
        Some(tokens)
    }

    /// Ends the login of this access token.
    pub(crate) fn end(&self, access: &CredentialHash) {
        let mut table = self.0.lock();
        if let Some(id) = table.by_access.get(access).copied() {
            table.remove(id);
        }
    }

    /// Ends all logins of an account: its password or role changed, or it is gone.
    pub(crate) fn end_all(&self, account: &str) {
        let mut table = self.0.lock();
        let ids: Vec<u64> = table.of_account(account).map(|(id, _)| id).collect();
        for id in ids {
            table.remove(id);
        }
    }
}

impl Login {
    fn new(account: &str, role: Role, now: Timestamp, began_at: Timestamp) -> (Login, LoginTokens) {
        let end = began_at.plus(LOGIN_FOR);
        let access_until = now.plus(ACCESS_FOR).min(end);
        let refresh_until = now.plus(REFRESH_FOR).min(end);
        let access = new_secret(LOGIN_ACCESS_PREFIX);
        let refresh = new_secret(REFRESH_PREFIX);
        let login = Login {
            account: account.to_owned(),
            role,
            access: credential_hash(&access),
            access_until,
            refresh: credential_hash(&refresh),
            spent: None,
            refresh_until,
            began_at,
        };
        (login, LoginTokens { access, access_until, refresh, refresh_until, role })
    }
}

impl Table {
    fn insert(&mut self, login: Login) {
        self.next += 1;
        let id = self.next;
        self.by_access.insert(login.access, id);
        self.by_refresh.insert(login.refresh, id);
        if let Some(spent) = login.spent {
            self.by_refresh.insert(spent, id);
        }
        self.logins.insert(id, login);
    }

    fn remove(&mut self, id: u64) -> Option<Login> {
        let login = self.logins.remove(&id)?;
        self.by_access.remove(&login.access);
        self.by_refresh.remove(&login.refresh);
        if let Some(spent) = login.spent {
            self.by_refresh.remove(&spent);
        }
        Some(login)
    }

    fn of_account<'a>(&'a self, account: &'a str) -> impl Iterator<Item = (u64, Timestamp)> + 'a {
        self.logins
            .iter()
            .filter(move |(_, login)| login.account == account)
            .map(|(id, login)| (*id, login.began_at))
    }

    fn make_room(&mut self, account: &str, now: Timestamp) {
        let ended: Vec<u64> = self
            .logins
            .iter()
            .filter(|(_, login)| login.refresh_until <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.remove(id);
        }
        if self.of_account(account).count() >= LOGINS_PER_ACCOUNT_MAX
            && let Some((id, _)) = self.of_account(account).min_by_key(|(id, _)| *id)
        {
            self.remove(id);
        }
        if self.logins.len() >= LOGINS_MAX
            && let Some(id) = self.logins.keys().min().copied()
        {
            self.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn owner(logins: &Logins, access: &str, now: Timestamp) -> Option<String> {
        logins.by_access(&credential_hash(access), now).map(|(name, _)| name)
    }

    #[test]
    fn an_access_token_ends_after_a_quarter_of_an_hour() {
        let logins = Logins::default();
        let tokens = logins.begin("kim", Role::Viewer, NOW);
        assert_eq!(owner(&logins, &tokens.access, NOW).as_deref(), Some("kim"));
        assert_eq!(owner(&logins, &tokens.access, NOW.plus(ACCESS_FOR)), None);
        assert_eq!(owner(&logins, &tokens.refresh, NOW), None, "a refresh token opens nothing");
    }

    #[test]
    fn a_refresh_token_works_once_and_its_reuse_ends_the_login() {
        let logins = Logins::default();
        let first = logins.begin("kim", Role::Viewer, NOW);
        assert_eq!(logins.account_of_refresh(&first.refresh, NOW).as_deref(), Some("kim"));
        let second = logins.refresh(&first.refresh, Role::Admin, NOW).unwrap();
        assert_eq!(owner(&logins, &first.access, NOW), None, "the old access token is over");
        let found = logins.by_access(&credential_hash(&second.access), NOW);
        assert_eq!(found, Some(("kim".to_owned(), Role::Admin)));
        assert_eq!(logins.account_of_refresh(&first.refresh, NOW), None);
        assert_eq!(owner(&logins, &second.access, NOW), None, "a stolen copy ends both");
    }

    #[test]
    fn a_login_ends_after_half_a_day_however_much_it_is_used() {
        let logins = Logins::default();
        let mut now = NOW;
        let mut tokens = logins.begin("kim", Role::Viewer, now);
        while let Some(next) = logins.refresh(&tokens.refresh, Role::Viewer, now) {
            now = now.plus(Duration::from_secs(50 * 60));
            tokens = next;
        }
        assert!(now.since(NOW) >= LOGIN_FOR && now.since(NOW) < LOGIN_FOR + REFRESH_FOR);
    }

    #[test]
    fn logins_are_bounded_per_account_and_in_total() {
        let logins = Logins::default();
        let first = logins.begin("kim", Role::Viewer, NOW);
        for _ in 0..LOGINS_PER_ACCOUNT_MAX {
            logins.begin("kim", Role::Viewer, NOW);
        }
        assert_eq!(owner(&logins, &first.access, NOW), None);
        for number in 0..LOGINS_MAX + 10 {
            logins.begin(&number.to_string(), Role::Viewer, NOW);
        }
        let table = logins.0.lock();
        assert_eq!(table.logins.len(), LOGINS_MAX);
        assert_eq!((table.by_access.len(), table.by_refresh.len()), (LOGINS_MAX, LOGINS_MAX));
    }

    #[test]
    fn logging_out_ends_one_login_and_a_new_password_all() {
        let logins = Logins::default();
        let one = logins.begin("kim", Role::Viewer, NOW);
        let two = logins.begin("kim", Role::Viewer, NOW);
        let other = logins.begin("lee", Role::Viewer, NOW);
        logins.end(&credential_hash(&one.access));
        assert_eq!(owner(&logins, &one.access, NOW), None);
        assert!(owner(&logins, &two.access, NOW).is_some());
        logins.end_all("kim");
        assert_eq!(owner(&logins, &two.access, NOW), None);
        assert!(owner(&logins, &other.access, NOW).is_some());
    }
}
