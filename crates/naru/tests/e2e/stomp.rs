//! STOMP at the edges of a real server: who is refused, and who is told that it ends. What clients that
//! others wrote do with it stands in `clients/`.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{SOON, Server};

fn server() -> Server {
    Server::with(&[r#"users=[{name="ann",password="correct horse",role="viewer"}]"#])
}

#[test]
fn a_wrong_passcode_and_a_token_in_the_url_are_refused() {
    let server = server();
    let mut stream = TcpStream::connect(server.stomp).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let connect = b"CONNECT\naccept-version:1.2\nlogin:ann\npasscode:wrong horse\n\n\0";
    stream.write_all(connect).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("ERROR\n") && answer.contains("code:bad_credentials"), "{answer}");
    let (status, text) = crate::harness::http(server.http, "GET", "/stomp?token=x", "", None);
    assert_eq!((status, text.contains("token_in_url")), (400, true), "{text}");
    assert!(server.metric(r#"naru_stomp_errors_total{code="bad_credentials"}"#) > 0.0);
}

#[test]
fn a_server_that_ends_tells_its_stomp_clients() {
    let mut server = server();
    let mut stream = TcpStream::connect(server.stomp).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let connect = b"CONNECT\naccept-version:1.2\nlogin:ann\npasscode:correct horse\n\n\0";
    stream.write_all(connect).unwrap();
    let mut connected = [0; 9];
    stream.read_exact(&mut connected).unwrap();
    assert_eq!(&connected, b"CONNECTED");
    let reader = std::thread::spawn(move || {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        rest
    });
    assert_eq!(server.terminate(), Some(0));
    let rest = reader.join().unwrap();
    assert!(rest.contains("code:shutting_down") && rest.contains("retry-after-ms:"), "{rest}");
}
