//! Probes, metrics and what the node says about itself; how the listener begins and ends.

use naru_admin::AdminServer;
use naru_domain::work::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::ask;
use crate::twin::{Server, default_options};

#[tokio::test]
async fn readiness_follows_starting_and_draining_and_says_why() {
    let server = Server::start().await;
    server.get("", "/health/live").await.expect(200);
    server.get("", "/health/startup").await.expect(503);
    let ready = server.get("", "/health/ready").await.expect(503).json();
    assert_eq!(ready["checks"][0]["reason"], "still starting");
    server.health.started();
    server.get("", "/health/startup").await.expect(200);
    assert_eq!(server.get("", "/health/ready").await.expect(200).json()["ok"], true);
    server.health.draining();
    let ready = server.get("", "/health/ready").await.expect(503).json();
    assert_eq!(ready["ok"], false);
    assert!(ready.to_string().contains("shutting down"));
    server.get("", "/health/live").await.expect(200);
    server.health.broken();
    server.get("", "/health/live").await.expect(503);
}

#[tokio::test]
async fn metrics_are_in_the_text_format_with_a_series_per_used_route() {
    let server = Server::start().await;
    let token = server.token(Role::Viewer, &[]);
    server.get(&token, "/api/devices/1").await.expect(200);
    server.get(&token, "/api/devices/2").await.expect(200);
    server.get(&token, "/nothing/here").await.expect(404);
    let answer = server.get("", "/metrics").await.expect(200);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    let text = answer.text();
    for line in [
        "naru_frames_total{event=\"chat\"} 12",
        "naru_stage_seconds_count{stage=\"store\"} 1",
        "naru_http_requests_total{method=\"GET\",route=\"/api/devices/{id}\",status=\"2xx\"} 2",
        "naru_http_requests_total{method=\"-\",route=\"unmatched\",status=\"4xx\"} 1",
        "naru_http_ttfb_seconds_count{method=\"GET\",route=\"/api/devices/{id}\"} 2",
        "naru_http_ttlb_seconds_count{method=\"GET\",route=\"/api/devices/{id}\"} 2",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} in {text}");
    }
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "each name is described once");
}

#[tokio::test]
async fn metrics_can_ask_for_a_token() {
    let mut options = default_options();
    options.metrics_need_token = true;
    let server = Server::with(options).await;
    server.get("", "/metrics").await.expect(401);
    let token = server.token(Role::Viewer, &[]);
    server.get(&token, "/metrics").await.expect(200);
}

#[tokio::test]
async fn the_node_names_its_modes_its_queue_and_its_busiest_stage() {
    let server = Server::start().await;
    let token = server.token(Role::Viewer, &[]);
    let info = server.get(&token, "/api/info").await.expect(200).json();
    assert_eq!(info["uptime_seconds"], 60);
    assert_eq!(info["modes"], json!([{ "name": "processing", "value": "queued" }]));
    let queue = server.get(&token, "/api/queue").await.expect(200).json();
    assert_eq!((&queue["in_work"], &queue["parked"]), (&json!(4), &json!(3)));
    assert_eq!(queue["workers"][0]["state"], "busy");
    assert_eq!(queue["workers"][1]["state"], "idle");
    let found = server.get(&token, "/api/bottleneck").await.expect(200).json();
    assert_eq!(found["busiest"], "stage_seconds store");
    assert_eq!((&found["queue_used"], &found["workers_used"]), (&json!(0.25), &json!(0.5)));
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask_and_carry_protecting_headers() {
    let server = Server::start().await;
    let token = server.token(Role::Operator, &[]);
    let gzip = [("accept-encoding", "gzip")];
    let packed = server.ask_with(&token, "GET", "/api/messages", &gzip, None).await.expect(200);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let plain = server.get(&token, "/api/messages").await.expect(200);
    assert_eq!(plain.header("content-encoding"), None);
    assert!(packed.body.len() * 3 < plain.body.len());
    let small = server.ask_with(&token, "GET", "/api/me", &gzip, None).await.expect(200);
    assert_eq!(small.header("content-encoding"), None);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(small.header(name), Some(value));
    }
    assert_eq!(small.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn request_numbers_come_back_and_made_up_ones_are_replaced() {
    let server = Server::start().await;
    let own = [("x-request-id", "abc-123")];
    let answer = ask(server.address, "GET", "/api/me", &own, None).await.expect(401);
    assert_eq!(answer.header("x-request-id"), Some("abc-123"));
    assert_eq!(answer.json()["error"]["request_id"], "abc-123");
    let bad = [("x-request-id", "<script>")];
    let answer = ask(server.address, "GET", "/api/me", &bad, None).await.expect(401);
    assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn pages_of_named_origins_may_use_the_api_if_configured() {
    let mut options = default_options();
    options.cors_origins = vec!["https://console.example".to_owned()];
    let server = Server::with(options).await;
    let token = server.token(Role::Viewer, &[]);
    let origin = [("origin", "https://console.example")];
    let answer = server.ask_with(&token, "GET", "/api/me", &origin, None).await.expect(200);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://console.example"));
    let origin = [("origin", "https://elsewhere.example")];
    let answer = server.ask_with(&token, "GET", "/api/me", &origin, None).await.expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = Server::start().await;
    let mut options = default_options();
    options.listen = server.address;
    let error = AdminServer::bind(options).await.err().expect("in use");
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_listener() {
    let mut server = Server::start().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    server.stop.cancel();
    server.running.join_next().await.unwrap().unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let mut options = default_options();
    options.limits.connections_per_address_max = 2;
    let server = Server::with(options).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        socket.read_exact(&mut head).await.unwrap();
        held.push(socket);
    }
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    let mut nothing = Vec::new();
    // A reset instead of an orderly end is as good.
    let _end = refused.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn with_tls_the_api_speaks_tls_only() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let mut options = default_options();
    options.tls = Some(std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(config)));
    let server = Server::with(options).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let socket = TcpStream::connect(server.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut socket = connector.connect(name, socket).await.unwrap();
    let request = b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("strict-transport-security"));

    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _end = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}
