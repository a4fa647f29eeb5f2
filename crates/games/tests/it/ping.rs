//! Minecraft's ping in all its forms, and bare TCP.

use std::time::Duration;

use naru_games::{AskError, Protocol, Want};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    PATIENT, SHORT, ask_of, asked, hold, names, nobody, read_until, tcp, write_slowly,
};

const JSON: &str = r#"{"version":{"name":"1.21","protocol":767},"players":{"max":9,"online":1,"sample":[{"name":"ann","id":"8a5d"}]},"description":{"text":"","extra":["§aa ward"]}}"#;

fn modern_answer(json: &str) -> Vec<u8> {
    let varint = |number: usize| {
        let seven = |bits: usize| u8::try_from(bits & 0x7f).expect("seven bits");
        vec![seven(number) | 0x80, seven(number >> 7)]
    };
    let text = [varint(json.len()), json.as_bytes().to_vec()].concat();
    [varint(text.len() + 1), vec![0], text].concat()
}

fn legacy_answer(text: &str) -> Vec<u8> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let mut out = vec![0xff];
    out.extend_from_slice(&u16::try_from(units.len()).expect("short").to_be_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
    out
}

/// Waits for handshake and status request.
async fn read_question(stream: &mut TcpStream) -> Option<()> {
    let mut buffer = Vec::new();
    let ends = |bytes: &[u8]| bytes.ends_with(&[1, 0]).then_some(((), bytes.len()));
    read_until(stream, &mut buffer, ends).await
}

async fn read_anything(stream: &mut TcpStream) {
    drop(stream.read(&mut [0; 64]).await);
}

#[tokio::test]
async fn a_modern_status_may_come_byte_by_byte() {
    let server = tcp(|mut stream, _, log| async move {
        log.add(b"");
        read_question(&mut stream).await;
        write_slowly(&mut stream, &modern_answer(JSON)).await;
    })
    .await;
    let mut client = ask_of(Protocol::MinecraftPing, server.address, PATIENT);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.players_max), (Some(1), Some(9)));
    assert_eq!((names(&status), status.name.as_deref()), (Some(vec!["ann"]), Some("a ward")));
    assert_eq!(client.ask(Want::Counts).await.unwrap().names, None);
    assert_eq!(server.log.len(), 2);
}

#[tokio::test]
async fn an_old_server_is_asked_its_way_and_the_way_is_remembered() {
    let server = tcp(|mut stream, _, log| async move {
        let mut question = [0; 64];
        let count = stream.read(&mut question).await.unwrap_or_default();
        log.add(&question[..count]);
        if question[..count] == [0xfe, 0x01] {
            let answer = legacy_answer("§1\u{0}61\u{0}1.5.2\u{0}old ward\u{0}3\u{0}20");
            write_slowly(&mut stream, &answer).await;
        }
    })
    .await;
    let mut client = ask_of(Protocol::MinecraftPing, server.address, PATIENT);
    let status = client.ask(Want::Counts).await.unwrap();
    assert_eq!((status.players, status.version.as_deref()), (Some(3), Some("1.5.2")));
    assert_eq!(server.log.len(), 2);
    assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(3));
    assert_eq!(server.log.len(), 3);
}

#[tokio::test]
async fn a_very_old_server_that_waits_for_more_is_still_reached_in_time() {
    let server = tcp(|mut stream, _, _| async move {
        let mut question = [0; 64];
        let count = stream.read(&mut question).await.unwrap_or_default();
        if question[..count] == [0xfe] {
            drop(stream.write_all(&legacy_answer("beta§1§4")).await);
        }
        hold(stream).await;
    })
    .await;
    let mut client = ask_of(Protocol::MinecraftPing, server.address, Duration::from_secs(1));
    let status = client.ask(Want::Counts).await.unwrap();
    assert_eq!((status.players, status.players_max), (Some(1), Some(4)));
}

#[tokio::test]
async fn hidden_broken_and_silent_servers_are_told_apart() {
    let hidden = tcp(|mut stream, _, _| async move {
        read_anything(&mut stream).await;
    })
    .await;
    let asked_of = |address| asked(Protocol::MinecraftPing, address, Want::Counts);
    assert_eq!(asked_of(hidden.address).await, Err(AskError::Closed));
    let cut = tcp(|mut stream, _, _| async move {
        read_anything(&mut stream).await;
        drop(stream.write_all(&modern_answer(JSON)[..40]).await);
    })
    .await;
    assert_eq!(asked_of(cut.address).await, Err(AskError::Closed));
    let web = tcp(|mut stream, _, _| async move {
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
        hold(stream).await;
    })
    .await;
    assert!(matches!(asked_of(web.address).await, Err(AskError::Malformed(_))));
    let huge = tcp(|mut stream, _, _| async move {
        drop(stream.write_all(&[0xff, 0xff, 0xff, 0x7f, 0x00]).await);
        hold(stream).await;
    })
    .await;
    assert_eq!(asked_of(huge.address).await, Err(AskError::TooLarge));
    let silent = tcp(|stream, _, _| hold(stream)).await;
    let mut client = ask_of(Protocol::MinecraftPing, silent.address, SHORT);
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Timeout));
    assert_eq!(asked_of(nobody().await).await, Err(AskError::Refused));
}

#[tokio::test]
async fn a_tcp_port_lives_if_it_takes_connections() {
    let server = tcp(|stream, _, _| hold(stream)).await;
    let status = asked(Protocol::Tcp, server.address, Want::Players).await.unwrap();
    assert!(status.answered_in.is_some() && status.players.is_none());
    let refused = asked(Protocol::Tcp, nobody().await, Want::Counts).await;
    assert_eq!(refused, Err(AskError::Refused));
}
