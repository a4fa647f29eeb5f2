//! Who may use what: roles, scopes, tokens and keys.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use naru_admin::{RouteAccess, route_accesses};
use naru_domain::work::Role;
use serde_json::json;

use crate::client::ask;
use crate::twin::{API_KEY, NOW, Server, default_options};

fn sample_path(route: &RouteAccess) -> String {
    let path = route.path.replace("{id}", "424242").replace("{name}", "nobody");
    path.replace("{backup}", "none").replace("{notice}", "none")
}

#[tokio::test]
async fn every_route_refuses_the_roles_below_its_own_and_strangers() {
    let mut options = default_options();
    options.limits.source_burst = 10_000;
    options.limits.caller_burst = 10_000;
    options.limits.bad_credentials_burst = 10_000;
    let server = Server::with(options).await;
    let tokens: Vec<(Role, String)> =
        Role::ALL.into_iter().map(|role| (role, server.token(role, &[]))).collect();
    let scoped = server.token(Role::Admin, &["alpha"]);
    let routes = route_accesses();
    assert!(routes.len() > 40, "the table is complete");
    for route in &routes {
        let path = sample_path(route);
        let Some(lowest) = route.role else { continue };
        for wrong in ["", "naru_t_wrong", "naru_l_wrong"] {
            let answer = server.ask(wrong, &route.method, &path, None).await.expect(401);
            assert_eq!(answer.code(), "unauthorized", "{route:?}");
        }
        for (role, token) in &tokens {
            let answer = server.ask(token, &route.method, &path, None).await;
            if *role < lowest {
                assert_eq!((answer.status, &*answer.code()), (403, "forbidden"), "{route:?}");
            } else {
                assert!(![401, 403].contains(&answer.status), "{route:?} {role:?}");
                assert!(answer.status < 500, "{route:?} {}", answer.text());
            }
        }
        let answer = server.ask(&scoped, &route.method, &path, None).await;
        let is_out_of_scope = answer.status == 403;
        assert_eq!(is_out_of_scope, route.whole_node, "{route:?} {}", answer.text());
    }
    let open: Vec<&str> =
        routes.iter().filter(|route| route.role.is_none()).map(|route| route.path).collect();
    let known = [
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/metrics",
        "/api/openapi.json",
        "/api/login",
        "/api/login/refresh",
    ];
    assert_eq!(open, known, "nothing else is open");
}

#[tokio::test]
async fn a_token_limited_to_a_bot_sees_that_bot_only() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &["alpha"]);
    let devices = server.get(&token, "/api/devices").await.expect(200).json();
    assert_eq!(devices["items"].as_array().unwrap().len(), 1);
    assert_eq!(devices["items"][0]["bot"], "alpha");
    server.get(&token, "/api/devices/1").await.expect(200);
    for hidden in [
        "/api/devices/2",
        "/api/rooms/2",
        "/api/messages/1",
        "/api/bots/beta",
        "/api/sessions/2",
        "/api/pings?device=2",
    ] {
        assert_eq!(server.get(&token, hidden).await.expect(404).code(), "not_found", "{hidden}");
    }
    let answer = server.get(&token, "/api/messages?bot=beta").await.expect(403);
    assert_eq!(answer.code(), "out_of_scope");
    let change = json!({ "approval": "approved" });
    server.ask(&token, "PATCH", "/api/devices/2", Some(&change)).await.expect(404);
    server.ask(&token, "PATCH", "/api/devices/1", Some(&change)).await.expect(200);
    let sessions = server.get(&token, "/api/sessions").await.expect(200).json();
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1);
    let messages = server.get(&token, "/api/messages").await.expect(200).json();
    assert_eq!(messages["items"].as_array().unwrap().len(), 10);
    let send = json!({ "device": 2, "room": "x", "text": "hi" });
    server.ask(&token, "POST", "/api/send", Some(&send)).await.expect(404);

    let several = server.token(Role::Viewer, &["alpha", "beta"]);
    let answer = server.get(&several, "/api/devices").await.expect(400);
    assert_eq!(answer.code(), "bot_required");
    server.get(&several, "/api/devices?bot=beta").await.expect(200);
}

#[tokio::test]
async fn keys_of_the_configuration_are_admins() {
    let server = Server::start().await;
    let headers = [("x-api-key", API_KEY)];
    let me = ask(server.address, "GET", "/api/me", &headers, None).await.expect(200).json();
    assert_eq!(me, json!({ "name": "key:2", "role": "admin", "bots": [] }));
    let headers = [("x-api-key", "key-of-the-configuratioN")];
    ask(server.address, "GET", "/api/me", &headers, None).await.expect(401);
}

#[tokio::test]
async fn a_token_in_the_address_is_refused_even_if_it_is_good() {
    let server = Server::start().await;
    let token = server.token(Role::Admin, &[]);
    for name in ["token", "access_token", "ACCESS%5FTOKEN", "api_key"] {
        let path = format!("/api/devices?{name}={token}");
        assert_eq!(server.get(&token, &path).await.expect(400).code(), "token_in_url", "{name}");
    }
}

#[tokio::test]
async fn a_revoked_or_expired_token_opens_nothing() {
    let server = Server::start().await;
    let admin = server.token(Role::Admin, &[]);
    let new = json!({ "name": "laptop", "role": "viewer", "expires_in_days": 1 });
    let made = server.ask(&admin, "POST", "/api/tokens", Some(&new)).await.expect(201).json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("naru_t_") && secret.len() == 50, "256 bits in base64url");
    server.get(&secret, "/api/me").await.expect(200);
    server.clock.advance(Duration::from_secs(24 * 60 * 60));
    server.get(&secret, "/api/me").await.expect(401);
    // It ends at a date: a clock that was wrong for a while leaves nothing behind.
    server.clock.set(NOW);
    server.get(&secret, "/api/me").await.expect(200);

    let made = server.ask(&admin, "POST", "/api/tokens", Some(&new)).await.expect(201).json();
    let secret = made["secret"].as_str().unwrap();
    server.get(secret, "/api/me").await.expect(200);
    let path = format!("/api/tokens/{}", made["token"]["id"]);
    server.ask(&admin, "DELETE", &path, None).await.expect(204);
    server.get(secret, "/api/me").await.expect(401);
    server.ask(&admin, "DELETE", "/api/tokens/1", None).await.expect(409);
    server.ask(&admin, "DELETE", "/api/tokens/999", None).await.expect(404);

    let listed = server.get(&admin, "/api/tokens").await.expect(200).text();
    assert!(!listed.contains(secret) && !listed.contains("hash"));
    assert!(server.store.rows.lock().audit.iter().all(|entry| !entry.detail.contains(secret)));
}

#[tokio::test]
async fn a_token_is_looked_up_at_most_once_a_second_and_its_use_noted_once_a_minute() {
    let server = Server::start().await;
    let token = server.token(Role::Viewer, &[]);
    for _ in 0..20 {
        server.get(&token, "/api/me").await.expect(200);
    }
    assert!(server.store.token_reads.load(SeqCst) <= 3);
    assert_eq!(server.store.rows.lock().tokens[0].used_at, Some(NOW));
}

#[tokio::test]
async fn guessing_tokens_is_slowed_down_and_so_are_callers_in_a_hurry() {
    let mut options = default_options();
    options.limits.bad_credentials_burst = 5;
    options.limits.caller_burst = 10;
    options.limits.caller_per_second = 1;
    let server = Server::with(options).await;
    for _ in 0..5 {
        server.get("naru_t_guess", "/api/me").await.expect(401);
    }
    let answer = server.get("naru_t_guess", "/api/me").await.expect(429);
    assert!(answer.header("retry-after").is_some());
    let token = server.token(Role::Viewer, &[]);
    for _ in 0..10 {
        server.get(&token, "/api/me").await.expect(200);
    }
    assert_eq!(server.get(&token, "/api/me").await.expect(429).code(), "rate_limited");
    let other = server.token(Role::Viewer, &[]);
    server.get(&other, "/api/me").await.expect(200);
}
