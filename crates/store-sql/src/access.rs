//! Who may use the API: tokens (hashes only) and people's accounts.

use async_trait::async_trait;
use naru_domain::ports::{Accounts, StoreError, Tokens};
use naru_domain::work::{Account, Page, Role, TokenRecord};
use naru_domain::{Durability, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::engine::JobError;
use crate::places::limit_of;
use crate::rows::corrupt;
use crate::store::SqlStore;

const TOKEN: &str = "id, name, hash, role, bots, created_at, used_at, expires_at, revoked_at";

#[async_trait]
impl Tokens for SqlStore {
    async fn add_token(&self, token: &TokenRecord) -> Result<i64, StoreError> {
        let token = token.clone();
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = "INSERT INTO tokens (name, hash, role, bots, created_at, used_at, \
                               expires_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
                    let added = sqlx::query(sql)
                        .bind(token.name)
                        .bind(token.hash.to_vec())
                        .bind(token.role.label())
                        // Bot names have no control characters, so a line each is unambiguous.
                        .bind(token.bots.join("\n"))
                        .bind(token.created_at.0)
                        .bind(token.used_at.map(|at| at.0))
                        .bind(token.expires_at.map(|at| at.0))
                        .bind(token.revoked_at.map(|at| at.0))
                        .execute(c)
                        .await?;
                    Ok(added.last_insert_rowid())
                })
            })
            .await
    }

    async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>, StoreError> {
        let hash = hash.to_vec();
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = format!("SELECT {TOKEN} FROM tokens WHERE hash = ?");
                    let query = sqlx::query(AssertSqlSafe(sql)).bind(hash);
                    query.fetch_optional(c).await?.as_ref().map(token).transpose()
                })
            })
            .await
    }

    async fn tokens(&self, page: Page) -> Result<Vec<TokenRecord>, StoreError> {
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql =
                        format!("SELECT {TOKEN} FROM tokens WHERE id > ? ORDER BY id LIMIT ?");
                    let query = sqlx::query(AssertSqlSafe(sql))
                        .bind(page.after.unwrap_or(i64::MIN))
                        .bind(limit_of(page));
                    query.fetch_all(c).await?.iter().map(token).collect()
                })
            })
            .await
    }

    async fn revoke_token(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        // The first revocation counts.
        let sql = "UPDATE tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?";
        self.change_token(sql, id, now, Durability::Disk).await
    }

    async fn touch_token(&self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE tokens SET used_at = ? WHERE id = ?";
        self.change_token(sql, id, now, Durability::Os).await
    }
}

impl SqlStore {
    async fn change_token(
        &self,
        sql: &'static str,
        id: i64,
        now: Timestamp,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.engine
            .write(durability, move |c| {
                Box::pin(async move {
                    let changed = sqlx::query(sql).bind(now.0).bind(id).execute(c).await?;
                    found(changed.rows_affected())
                })
            })
            .await
    }
}

#[async_trait]
impl Accounts for SqlStore {
    async fn put_account(&self, account: &Account) -> Result<(), StoreError> {
        let account = account.clone();
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let sql = "INSERT INTO accounts (name, password_hash, role, created_at) \
                               VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE \
                               SET password_hash = excluded.password_hash, role = excluded.role, \
                               created_at = excluded.created_at";
                    sqlx::query(sql)
                        .bind(account.name)
                        .bind(account.password_hash)
                        .bind(account.role.label())
                        .bind(account.created_at.0)
                        .execute(c)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn account(&self, name: &str) -> Result<Option<Account>, StoreError> {
        let name = name.to_owned();
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT name, password_hash, role, created_at FROM accounts \
                               WHERE name = ?";
                    let row = sqlx::query(sql).bind(name).fetch_optional(c).await?;
                    row.as_ref().map(account).transpose()
                })
            })
            .await
    }

    async fn accounts(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        let (after, limit) = (after.map(str::to_owned), limit_of(Page { after: None, limit }));
        self.engine
            .read(move |c| {
                Box::pin(async move {
                    let sql = "SELECT name, password_hash, role, created_at FROM accounts \
                               WHERE ?1 IS NULL OR name > ?1 ORDER BY name LIMIT ?2";
                    let rows = sqlx::query(sql).bind(after).bind(limit).fetch_all(c).await?;
                    rows.iter().map(account).collect()
                })
            })
            .await
    }

    async fn remove_account(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.engine
            .write(Durability::Disk, move |c| {
                Box::pin(async move {
                    let query = sqlx::query("DELETE FROM accounts WHERE name = ?").bind(name);
                    found(query.execute(c).await?.rows_affected())
                })
            })
            .await
    }
}

fn found(rows: u64) -> Result<(), JobError> {
    if rows == 0 { Err(StoreError::NotFound.into()) } else { Ok(()) }
}

fn token(row: &SqliteRow) -> Result<TokenRecord, JobError> {
    let hash: Vec<u8> = row.try_get(2)?;
    let bots: String = row.try_get(4)?;
    let at = |column: usize| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp))
    };
    Ok(TokenRecord {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        hash: hash.try_into().map_err(|_| corrupt("a token's hash has a wrong length"))?,
        role: role(row, 3)?,
        bots: bots.lines().map(str::to_owned).collect(),
        created_at: Timestamp(row.try_get(5)?),
        used_at: at(6)?,
        expires_at: at(7)?,
        revoked_at: at(8)?,
    })
}

fn account(row: &SqliteRow) -> Result<Account, JobError> {
    Ok(Account {
        name: row.try_get(0)?,
        password_hash: row.try_get(1)?,
        role: role(row, 2)?,
        created_at: Timestamp(row.try_get(3)?),
    })
}

fn role(row: &SqliteRow, column: usize) -> Result<Role, JobError> {
    let label: String = row.try_get(column)?;
    Role::parse(&label).ok_or_else(|| corrupt("a role is unknown").into())
}
