//! Logins of people: short access tokens and refresh tokens that change with each use. Kept in memory
//! only, bounded; after a restart people log in again.

use std::collections::HashMap;
use std::time::Duration;

use naru_domain::work::Role;
use naru_domain::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;

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

/// One moment on both clocks. How long a login holds is measured by the one that nobody can set; people
/// are told the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    wall: Timestamp,
    at: Instant,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Moment {
        Moment { wall: clock.now(), at: Instant::now() }
    }
}

struct Login {
    account: String,
    role: Role,
    access: CredentialHash,
    access_until: Instant,
    refresh: CredentialHash,
    /// The one before: whoever shows it has a copy that was stolen, or lost our answer.
    spent: Option<CredentialHash>,
    refresh_until: Instant,
    began_at: Instant,
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
    pub(crate) fn begin(&self, account: &str, role: Role, now: Moment) -> LoginTokens {
        let mut table = self.0.lock();
        table.make_room(account, now.at);
        let (login, tokens) = Login::new(account, role, now, now.at);
        table.insert(login);
        tokens
    }

    /// Whose access token this is.
    pub(crate) fn by_access(&self, hash: &CredentialHash, now: Instant) -> Option<(String, Role)> {
        let table = self.0.lock();
        let login = table.logins.get(table.by_access.get(hash)?)?;
        (now < login.access_until).then(|| (login.account.clone(), login.role))
    }

    /// The account of a refresh token that may be used now. One that was used before ends its login.
    pub(crate) fn account_of_refresh(&self, refresh: &str, now: Moment) -> Option<String> {
        let hash = credential_hash(refresh);
        let mut table = self.0.lock();
        let id = *table.by_refresh.get(&hash)?;
        let login = table.logins.get(&id)?;
        if login.refresh == hash && now.at < login.refresh_until {
            return Some(login.account.clone());
        }
        table.remove(id);
        None
    }

    /// Exchanges a refresh token; `role` is the account's role as of now.
    pub(crate) fn refresh(&self, refresh: &str, role: Role, now: Moment) -> Option<LoginTokens> {
        let hash = credential_hash(refresh);
        let mut table = self.0.lock();
        let id = *table.by_refresh.get(&hash)?;
        let old = table.remove(id)?;
        if old.refresh != hash || now.at >= old.refresh_until {
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
    fn new(account: &str, role: Role, now: Moment, began_at: Instant) -> (Login, LoginTokens) {
        let left = (began_at + LOGIN_FOR).saturating_duration_since(now.at);
        let (access_for, refresh_for) = (ACCESS_FOR.min(left), REFRESH_FOR.min(left));
        let access = new_secret(LOGIN_ACCESS_PREFIX);
        let refresh = new_secret(REFRESH_PREFIX);
        let login = Login {
            account: account.to_owned(),
            role,
            access: credential_hash(&access),
            access_until: now.at + access_for,
            refresh: credential_hash(&refresh),
            spent: None,
            refresh_until: now.at + refresh_for,
            began_at,
        };
        let tokens = LoginTokens {
            access,
            access_until: now.wall.plus(access_for),
            refresh,
            refresh_until: now.wall.plus(refresh_for),
            role,
        };
        (login, tokens)
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

    fn of_account<'a>(&'a self, account: &'a str) -> impl Iterator<Item = (u64, Instant)> + 'a {
        self.logins
            .iter()
            .filter(move |(_, login)| login.account == account)
            .map(|(id, login)| (*id, login.began_at))
    }

    fn make_room(&mut self, account: &str, now: Instant) {
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

    const WALL: Timestamp = Timestamp(1_800_000_000_000);

    fn start() -> Moment {
        Moment { wall: WALL, at: Instant::now() }
    }

    fn after(moment: Moment, duration: Duration) -> Moment {
        Moment { wall: moment.wall.plus(duration), at: moment.at + duration }
    }

    fn owner(logins: &Logins, access: &str, now: Moment) -> Option<String> {
        logins.by_access(&credential_hash(access), now.at).map(|(name, _)| name)
    }

    #[test]
    fn an_access_token_ends_after_a_quarter_of_an_hour() {
        let (logins, now) = (Logins::default(), start());
        let tokens = logins.begin("kim", Role::Viewer, now);
        assert_eq!(owner(&logins, &tokens.access, now).as_deref(), Some("kim"));
        assert_eq!(owner(&logins, &tokens.access, after(now, ACCESS_FOR)), None);
        assert_eq!(owner(&logins, &tokens.refresh, now), None, "a refresh token opens nothing");
    }

    #[test]
    fn a_wall_clock_that_jumps_neither_ends_nor_prolongs_a_login() {
        let (logins, now) = (Logins::default(), start());
        let tokens = logins.begin("kim", Role::Viewer, now);
        assert_eq!(tokens.access_until, WALL.plus(ACCESS_FOR));
        for wall in [WALL.plus(2 * REFRESH_FOR), WALL.minus(2 * REFRESH_FOR)] {
            let jumped = Moment { wall, ..now };
            assert!(owner(&logins, &tokens.access, jumped).is_some());
            assert!(logins.account_of_refresh(&tokens.refresh, jumped).is_some());
            let late = Moment { wall, ..after(now, ACCESS_FOR) };
            assert_eq!(owner(&logins, &tokens.access, late), None);
        }
    }

    #[test]
    fn a_refresh_token_works_once_and_its_reuse_ends_the_login() {
        let (logins, now) = (Logins::default(), start());
        let first = logins.begin("kim", Role::Viewer, now);
        assert_eq!(logins.account_of_refresh(&first.refresh, now).as_deref(), Some("kim"));
        let second = logins.refresh(&first.refresh, Role::Admin, now).unwrap();
        assert_eq!(owner(&logins, &first.access, now), None, "the old access token is over");
        let found = logins.by_access(&credential_hash(&second.access), now.at);
        assert_eq!(found, Some(("kim".to_owned(), Role::Admin)));
        assert_eq!(logins.account_of_refresh(&first.refresh, now), None);
        assert_eq!(owner(&logins, &second.access, now), None, "a stolen copy ends both");
    }

    #[test]
    fn a_login_ends_after_half_a_day_however_much_it_is_used() {
        let (logins, now) = (Logins::default(), start());
        let (began, mut now) = (now, now);
        let mut tokens = logins.begin("kim", Role::Viewer, now);
        while let Some(next) = logins.refresh(&tokens.refresh, Role::Viewer, now) {
            now = after(now, Duration::from_secs(50 * 60));
            tokens = next;
        }
        let length = now.at - began.at;
        assert!(length >= LOGIN_FOR && length < LOGIN_FOR + REFRESH_FOR);
    }

    #[test]
    fn logins_are_bounded_per_account_and_in_total() {
        let (logins, now) = (Logins::default(), start());
        let first = logins.begin("kim", Role::Viewer, now);
        for _ in 0..LOGINS_PER_ACCOUNT_MAX {
            logins.begin("kim", Role::Viewer, now);
        }
        assert_eq!(owner(&logins, &first.access, now), None);
        for number in 0..LOGINS_MAX + 10 {
            logins.begin(&number.to_string(), Role::Viewer, now);
        }
        let table = logins.0.lock();
        assert_eq!(table.logins.len(), LOGINS_MAX);
        assert_eq!((table.by_access.len(), table.by_refresh.len()), (LOGINS_MAX, LOGINS_MAX));
    }

    #[test]
    fn logging_out_ends_one_login_and_a_new_password_all() {
        let (logins, now) = (Logins::default(), start());
        let one = logins.begin("kim", Role::Viewer, now);
        let two = logins.begin("kim", Role::Viewer, now);
        let other = logins.begin("lee", Role::Viewer, now);
        logins.end(&credential_hash(&one.access));
        assert_eq!(owner(&logins, &one.access, now), None);
        assert!(owner(&logins, &two.access, now).is_some());
        logins.end_all("kim");
        assert_eq!(owner(&logins, &two.access, now), None);
        assert!(owner(&logins, &other.access, now).is_some());
    }
}
