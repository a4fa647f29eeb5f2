//! People: the first account, logging in, being locked out, changing roles.

use std::time::Duration;

use naru_admin::{OPERATOR_TOKEN_FILE, Ports, bootstrap, put_account};
use naru_domain::work::Role;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::twin::{NOW, Server, default_options};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn login(server: &Server, name: &str, password: &str) -> Answer {
    let body = json!({ "name": name, "password": password });
    server.ask("", "POST", "/api/login", Some(&body)).await
}

async fn put(server: &Server, token: &str, name: &str, body: Value) -> Answer {
    server.ask(token, "PUT", &format!("/api/accounts/{name}"), Some(&body)).await
}

#[tokio::test]
async fn a_first_start_leaves_an_admin_and_a_private_token_file() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ports = Ports::of(server.store.clone());
    let first = bootstrap(&ports, folder.path(), server.clock.as_ref()).await.unwrap();
    let password = first.admin_password.expect("a first password");
    assert!(password.len() > 40);
    let tokens = login(&server, "admin", &password).await.expect(200).json();
    assert_eq!(tokens["role"], "admin");
    assert_eq!(first.token_file, folder.path().join(OPERATOR_TOKEN_FILE));
    let token = std::fs::read_to_string(&first.token_file).unwrap();
    server.get(token.trim(), "/api/accounts").await.expect(200);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&first.token_file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let second = bootstrap(&ports, folder.path(), server.clock.as_ref()).await.unwrap();
    assert!(second.admin_password.is_none());
    assert_eq!(std::fs::read_to_string(&second.token_file).unwrap(), token, "still good");
    server.store.rows.lock().tokens[0].revoked_at = Some(NOW);
    bootstrap(&ports, folder.path(), server.clock.as_ref()).await.unwrap();
    assert_ne!(std::fs::read_to_string(&second.token_file).unwrap(), token, "a new one");
}

/// Lets time pass for the clock that nobody can set.
async fn pass(duration: Duration) {
    tokio::time::pause();
    tokio::time::advance(duration).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_login_gives_a_short_token_that_is_renewed_and_ended() {
    let server = Server::start().await;
    let admin = server.token(Role::Admin, &[]);
    let body = json!({ "role": "operator", "password": "correct horse" });
    put(&server, &admin, "kim", body).await.expect(200);
    let tokens = login(&server, "kim", "correct horse").await.expect(200).json();
    let text = |tokens: &Value, name: &str| tokens[name].as_str().unwrap().to_owned();
    let access = text(&tokens, "access_token");
    let me = server.get(&access, "/api/me").await.expect(200).json();
    assert_eq!((&me["name"], &me["role"]), (&json!("account:kim"), &json!("operator")));
    // A wall clock that jumps is none of its business.
    server.clock.advance(HOUR);
    server.get(&access, "/api/me").await.expect(200);
    pass(Duration::from_secs(15 * 60)).await;
    server.get(&access, "/api/me").await.expect(401);

    let body = json!({ "refresh_token": text(&tokens, "refresh_token") });
    let renewed = server.ask("", "POST", "/api/login/refresh", Some(&body)).await.expect(200);
    let access = text(&renewed.json(), "access_token");
    server.get(&access, "/api/me").await.expect(200);
    server.ask("", "POST", "/api/login/refresh", Some(&body)).await.expect(401);
    server.get(&access, "/api/me").await.expect(401);

    let tokens = login(&server, "kim", "correct horse").await.expect(200).json();
    let access = text(&tokens, "access_token");
    server.ask(&access, "POST", "/api/logout", None).await.expect(204);
    server.get(&access, "/api/me").await.expect(401);
    let actions = server.store.actions();
    assert_eq!(actions, ["account.set", "login", "login", "logout"]);
}

#[tokio::test]
async fn unknown_names_and_wrong_passwords_get_the_same_answer_and_lock_out() {
    let mut options = default_options();
    options.limits.account_failures_free = 3;
    let server = Server::with(options).await;
    let admin = server.token(Role::Admin, &[]);
    let body = json!({ "role": "viewer", "password": "correct horse" });
    put(&server, &admin, "kim", body).await.expect(200);
    let mut answers = Vec::new();
    for name in ["kim", "nobody"] {
        let mut codes = Vec::new();
        for _ in 0..5 {
            let answer = login(&server, name, "wrong password").await;
            let message = answer.json()["error"]["message"].clone();
            codes.push((answer.status, answer.code(), message));
        }
        answers.push(codes);
    }
    assert_eq!(answers[0], answers[1]);
    let codes: Vec<&str> = answers[0].iter().map(|(_, code, _)| code.as_str()).collect();
    let (bad, locked) = ("bad_credentials", "locked_out");
    assert_eq!(codes, [bad, bad, bad, bad, locked]);
    let answer = login(&server, "kim", "correct horse").await.expect(429);
    assert_eq!(answer.code(), locked, "even the right password waits");
    for jumped in [NOW.plus(HOUR), NOW.minus(HOUR)] {
        server.clock.set(jumped);
        let answer = login(&server, "kim", "correct horse").await.expect(429);
        assert_eq!(answer.code(), locked, "a clock that jumps unlocks nothing");
    }
    assert!(answer.header("retry-after").is_some());
    let failed = server.store.actions().iter().filter(|action| *action == "login.failed").count();
    assert_eq!(failed, 8);
}

#[tokio::test]
async fn one_address_cannot_try_many_names() {
    let mut options = default_options();
    options.limits.source_failures_free = 4;
    let server = Server::with(options).await;
    for number in 0..5 {
        login(&server, &format!("name{number}"), "wrong password").await.expect(401);
    }
    login(&server, "another", "wrong password").await.expect(429);
}

#[tokio::test]
async fn a_changed_account_must_log_in_again_and_the_last_admin_stays() {
    let server = Server::start().await;
    let token = server.token(Role::Admin, &[]);
    let body = json!({ "role": "admin", "password": "correct horse" });
    put(&server, &token, "kim", body.clone()).await.expect(200);
    let tokens = login(&server, "kim", "correct horse").await.expect(200).json();
    let access = tokens["access_token"].as_str().unwrap();
    let answer = put(&server, &token, "kim", json!({ "role": "viewer" })).await.expect(409);
    assert_eq!(answer.code(), "last_admin");
    let answer = server.ask(&token, "DELETE", "/api/accounts/kim", None).await.expect(409);
    assert_eq!(answer.code(), "last_admin");
    server.get(access, "/api/me").await.expect(200);
    put(&server, &token, "lee", body).await.expect(200);
    put(&server, &token, "kim", json!({ "role": "viewer" })).await.expect(200);
    server.get(access, "/api/me").await.expect(401);
    server.ask(&token, "DELETE", "/api/accounts/kim", None).await.expect(204);
    login(&server, "kim", "correct horse").await.expect(401);
    let names = server.get(&token, "/api/accounts").await.expect(200);
    assert!(!names.text().contains("argon2"), "no hashes in lists");
    assert_eq!(names.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn weak_and_endless_passwords_are_refused() {
    let server = Server::start().await;
    let token = server.token(Role::Admin, &[]);
    for password in ["", "short", &"x".repeat(2000)] {
        let body = json!({ "role": "admin", "password": password });
        let answer = put(&server, &token, "kim", body).await.expect(400);
        assert_eq!(answer.code(), "bad_field");
    }
    put(&server, &token, "kim", json!({ "password": "correct horse" })).await.expect(400);
    put(&server, &token, "kim", json!({ "role": "admin" })).await.expect(400);
    put(&server, &token, "%20", json!({ "role": "admin" })).await.expect(400);
    login(&server, "kim", &"x".repeat(500_000)).await.expect(401);
}

#[tokio::test]
async fn an_account_of_the_configuration_is_kept_and_follows_it() {
    let server = Server::start().await;
    let ports = Ports::of(server.store.clone());
    let clock = server.clock.as_ref();
    let hash = || server.store.rows.lock().accounts[0].password_hash.clone();
    put_account(&ports, "kim", "correct horse", Role::Viewer, clock).await.unwrap();
    let first = hash();
    put_account(&ports, "kim", "correct horse", Role::Viewer, clock).await.unwrap();
    assert_eq!(hash(), first, "what fits is left as it is");
    put_account(&ports, "kim", "battery staple", Role::Operator, clock).await.unwrap();
    login(&server, "kim", "correct horse").await.expect(401);
    let tokens = login(&server, "kim", "battery staple").await.expect(200).json();
    assert_eq!(tokens["role"], "operator");
}
