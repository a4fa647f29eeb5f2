//! Who may use the server: `naru tokens …`, `naru accounts …`.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Client, Failure};
use super::show::{Column, Screen, plain};

pub(super) const TOKENS_EXAMPLES: &str = "\
Examples:
  naru tokens create dashboard --role viewer --days 90
  naru tokens create demo-bot-program --role operator --bot demo-bot
  naru tokens revoke 4";

pub(super) const ACCOUNTS_EXAMPLES: &str = "\
Examples:
  naru accounts add kim --role operator        asks for the password
  naru accounts password kim < password.txt
  naru accounts remove kim";

const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

#[derive(Subcommand)]
pub(crate) enum Tokens {
    /// List tokens
    List,
    /// Make a token; its secret is shown this once
    Create(NewToken),
    /// Revoke a token; it is dead within a second
    Revoke {
        /// Its id in the list
        id: i64,
    },
}

#[derive(Args)]
pub(crate) struct NewToken {
    /// Whose it is
    name: String,
    /// What it may do
    #[arg(long, value_parser = ROLES)]
    role: String,
    /// Only this bot (repeatable); all unless given
    #[arg(long = "bot", value_name = "BOT")]
    bots: Vec<String>,
    /// How long it is good, in days; for ever unless given
    #[arg(long)]
    days: Option<u32>,
}

pub(super) async fn tokens(
    command: Tokens,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    const COLUMNS: [Column; 8] = [
        ("ID", |row| plain(&row["id"])),
        ("NAME", |row| plain(&row["name"])),
        ("ROLE", |row| plain(&row["role"])),
        ("BOTS", |row| {
            let bots = row["bots"].as_array().into_iter().flatten();
            let bots: Vec<&str> = bots.filter_map(|bot| bot.as_str()).collect();
            if bots.is_empty() { "all".to_owned() } else { bots.join(",") }
        }),
        ("MADE", |row| plain(&row["created_at"])),
        ("USED", |row| plain(&row["used_at"])),
        ("EXPIRES", |row| plain(&row["expires_at"])),
        ("REVOKED", |row| plain(&row["revoked_at"])),
    ];
    match command {
        Tokens::List => {
            screen.table(&client.list(&["api", "tokens"], &[], usize::MAX).await?, &COLUMNS)
        }
        Tokens::Create(new) => {
            let body = json!({
                "name": new.name, "role": new.role, "bots": new.bots, "expires_in_days": new.days,
            });
            let made = client.post(&["api", "tokens"], &body).await?;
            if screen.is_json() {
                return screen.json(&made);
            }
            screen.line(&plain(&made["secret"]))?;
            screen.complain("keep this token now: it is shown this once");
            Ok(())
        }
        Tokens::Revoke { id } => {
            let done = client.delete(&["api", "tokens", &id.to_string()]).await?;
            screen.done(&format!("Token {id} is revoked."), &done)
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum Accounts {
    /// List accounts
    List,
    /// Add an account; the password is read from standard input
    Add {
        /// The login name
        name: String,
        /// What it may do
        #[arg(long, value_parser = ROLES)]
        role: String,
    },
    /// Remove an account; its logins end at once
    Remove {
        /// The login name
        name: String,
    },
    /// Set a password, read from standard input; its logins end at once
    Password {
        /// The login name
        name: String,
    },
}

pub(super) async fn accounts(
    command: Accounts,
    client: &Client,
    screen: &Screen,
) -> Result<(), Failure> {
    const COLUMNS: [Column; 3] = [
        ("NAME", |row| plain(&row["name"])),
        ("ROLE", |row| plain(&row["role"])),
        ("MADE", |row| plain(&row["created_at"])),
    ];
    match command {
        Accounts::List => {
            screen.table(&client.list(&["api", "accounts"], &[], usize::MAX).await?, &COLUMNS)
        }
        Accounts::Add { name, role } => {
            if find(client, &name).await? {
                let text = format!("the account {name} is there already; see `accounts password`");
                return Err(Failure::Conflict(text));
            }
            let body = json!({ "role": role, "password": read_password(screen)? });
            let kept = client.put(&["api", "accounts", &name], &body).await?;
            screen.done(&format!("{name} may log in as {role}."), &kept)
        }
        Accounts::Remove { name } => {
            let done = client.delete(&["api", "accounts", &name]).await?;
            screen.done(&format!("The account {name} is gone."), &done)
        }
        Accounts::Password { name } => {
            if !find(client, &name).await? {
                return Err(Failure::NotFound(format!("there is no account {name}")));
            }
            let body = json!({ "password": read_password(screen)? });
            let kept = client.put(&["api", "accounts", &name], &body).await?;
            screen.done(&format!("The password of {name} is set."), &kept)
        }
    }
}

async fn find(client: &Client, name: &str) -> Result<bool, Failure> {
    let page = client.list(&["api", "accounts"], &[], usize::MAX).await?;
    let accounts = page["items"].as_array().into_iter().flatten();
    Ok(accounts.into_iter().any(|account| account["name"] == name))
}

/// One line from standard input. Never an argument: those are seen by everybody on the machine.
fn read_password(screen: &Screen) -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        screen.complain("type the password (it is shown) and press Enter:");
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(|error| Failure::Failed(error.to_string()))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Failure::Usage("no password on standard input".to_owned()));
    }
    Ok(password.to_owned())
}
