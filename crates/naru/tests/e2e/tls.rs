//! TLS on the bridge: phones behind a TLS tunnel, and certificates that change while it runs.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::harness::{CHANNEL, Phone, SOON, Script, Server, eventually};

struct Certificate {
    der: CertificateDer<'static>,
}

impl Certificate {
    /// A new certificate for localhost, written over the files.
    fn write(dir: &Path) -> Certificate {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
        Certificate { der: made.cert.der().clone() }
    }

    fn connect(&self, address: SocketAddr) -> Option<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        // The handshake happens with the first bytes.
        stream.write_all(b"\n").and_then(|()| stream.flush()).ok()?;
        stream.conn.complete_io(&mut stream.sock).ok()?;
        Some(stream)
    }
}

fn file(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

/// A server whose listener `section` speaks TLS with the files in `dir`.
fn server_with(section: &str, dir: &Path) -> Server {
    Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        &format!("{section}.tls_certificate={}", file(dir, "cert.pem")),
        &format!("{section}.tls_key={}", file(dir, "key.pem")),
    ])
}

fn echo(
    stream: &mut StreamOwned<ClientConnection, TcpStream>,
    phone: &mut Phone,
    text: &str,
) -> String {
    let line = phone.chat_line(CHANNEL, &format!("# echo {text}"));
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let frame: Value = serde_json::from_str(&line).unwrap();
        if frame["event"] == "messageResponse" {
            return frame["data"]["text"].as_str().unwrap().to_owned();
        }
    }
}

#[test]
fn a_certificate_is_replaced_without_touching_open_connections() {
    let dir = tempfile::tempdir().unwrap();
    let first = Certificate::write(dir.path());
    let server = server_with("bridge", dir.path());
    // Only its words are used here; the socket is ours.
    let plain = TcpStream::connect(server.bridge).unwrap();
    let mut words = Phone::over(plain, Script::Json);
    let mut open = first.connect(server.bridge).unwrap();
    open.write_all(format!("{}\n", words.hello()).as_bytes()).unwrap();
    assert_eq!(echo(&mut open, &mut words, "over TLS"), "에코: over TLS");

    let second = Certificate::write(dir.path());
    server.signal("HUP");
    let mut fresh = eventually("the new certificate is served", || second.connect(server.bridge));
    assert_eq!(echo(&mut open, &mut words, "still open"), "에코: still open");
    fresh.write_all(format!("{}\n", words.hello()).as_bytes()).unwrap();
    assert_eq!(echo(&mut fresh, &mut words, "with the new one"), "에코: with the new one");

    // Half a certificate is refused, and the one in use stays.
    std::fs::write(dir.path().join("cert.pem"), "nonsense").unwrap();
    server.signal("HUP");
    eventually("the reload was refused", || {
        let log = std::fs::read_to_string(server.dir().with_extension("log")).ok()?;
        log.contains("certificate not reloaded").then_some(())
    });
    assert!(second.connect(server.bridge).is_some());
}

#[test]
fn a_phone_without_tls_is_turned_away_from_a_tls_listener() {
    let dir = tempfile::tempdir().unwrap();
    Certificate::write(dir.path());
    let server = server_with("bridge", dir.path());
    let mut phone = Phone::silent(server.bridge, Script::Json);
    let hello = phone.hello();
    phone.send(&hello);
    eventually("it is counted", || {
        (server.metric("naru_bridge_tls_failures_total") >= 1.0).then_some(())
    });
}

#[test]
fn the_command_line_reaches_an_api_behind_tls() {
    let dir = tempfile::tempdir().unwrap();
    Certificate::write(dir.path());
    let server = server_with("http", dir.path());
    let api = format!("https://localhost:{}", server.http.port());
    let run = |arguments: &[&str]| {
        let mut command = crate::harness::naru_command();
        command.arg("--data-dir").arg(server.dir()).args(["--api", &api]).args(arguments);
        command.output().unwrap().status.code()
    };
    assert_eq!(run(&["--api-ca", &file(dir.path(), "cert.pem"), "devices", "list"]), Some(0));
    assert_eq!(run(&["devices", "list"]), Some(3), "an unknown certificate is not trusted");
}

#[test]
fn a_stomp_client_speaks_over_tls_and_one_without_it_is_turned_away() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(dir.path());
    let user = r#"users=[{name="ann",password="correct horse",role="admin"}]"#;
    let cert = format!("stomp.tls_certificate={}", file(dir.path(), "cert.pem"));
    let key = format!("stomp.tls_key={}", file(dir.path(), "key.pem"));
    let open = "channels.default={allow_subscribe_for_client=true,allow_publish_for_client=true}";
    let server = Server::with(&[user, open, &cert, &key]);
    let mut stream = certificate.connect(server.stomp).expect("TLS");
    for frame in [
        "CONNECT\naccept-version:1.2\nlogin:ann\npasscode:correct horse\n\n\0",
        "SUBSCRIBE\nid:1\ndestination:/topic/over-tls\nreceipt:subscribed\n\n\0",
        "SEND\ndestination:/topic/over-tls\n\nunder the tunnel\0",
    ] {
        stream.write_all(frame.as_bytes()).unwrap();
    }
    let mut reader = BufReader::new(stream);
    let mut frames = std::iter::repeat_with(|| {
        let mut frame = Vec::new();
        reader.read_until(0, &mut frame).unwrap();
        String::from_utf8(frame).unwrap()
    });
    let message = frames.find(|frame| !frame.contains("CONNECTED") && !frame.contains("RECEIPT"));
    let message = message.expect("a frame");
    assert!(message.contains("MESSAGE\n") && message.contains("under the tunnel"), "{message}");

    let mut plain = TcpStream::connect(server.stomp).unwrap();
    plain.set_read_timeout(Some(SOON)).unwrap();
    plain.write_all(b"CONNECT\naccept-version:1.2\n\n\0").unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as a closed stream.
    drop(std::io::Read::read_to_end(&mut plain, &mut answer));
    assert!(!answer.starts_with(b"CONNECTED"), "{answer:?}");
}
