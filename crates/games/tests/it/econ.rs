//! The external console of Teeworlds.

use naru_games::{AskError, Endpoint, Protocol, Secret, TellError, teller};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Log, PATIENT, endpoint, hold, read_until, tcp, write_slowly};

async fn read_line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    read_until(stream, buffer, |bytes| {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), end + 1))
    })
    .await
}

async fn console(mut stream: TcpStream, _: usize, log: Log) {
    let mut buffer = Vec::new();
    write_slowly(&mut stream, b"Enter password:\n\0\0").await;
    let Some(password) = read_line(&mut stream, &mut buffer).await else { return };
    if password != "hunter2" {
        drop(stream.write_all(b"Wrong password 1/3.\n\0\0").await);
        hold(stream).await;
        return;
    }
    write_slowly(&mut stream, b"Authentication successful. External console access granted.\n\0\0")
        .await;
    while let Some(line) = read_line(&mut stream, &mut buffer).await {
        log.add(line.as_bytes());
        let answer = match line.split_once(' ') {
            Some(("echo", words)) => format!("[Console]: {words}\n\0\0"),
            _ if line == "shutdown" => return,
            _ => "[game]: leave player='7:x'\n\0\0[Server]: id=0 name='ann'\n\0\0".into(),
        };
        write_slowly(&mut stream, answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn a_command_is_answered_up_to_our_own_echo() {
    let server = tcp(console).await;
    let mut client = teller(Protocol::Econ, endpoint(server.address, PATIENT)).unwrap();
    let answer = client.tell("status").await.unwrap();
    assert_eq!(answer, "[game]: leave player='7:x'\n[Server]: id=0 name='ann'");
    let unfit = client.tell("say hi\nshutdown").await;
    assert!(matches!(unfit, Err(TellError::Unfit(_))));
    assert_eq!(server.log.len(), 2);
    assert_eq!(client.tell("shutdown").await, Err(TellError::Unsure(AskError::Closed)));
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_again() {
    let server = tcp(console).await;
    let wrong =
        Endpoint { password: Some(Secret::new("wrong")), ..endpoint(server.address, PATIENT) };
    let mut client = teller(Protocol::Econ, wrong).unwrap();
    let unauthorized = Err(TellError::NotDone(AskError::Unauthorized));
    assert_eq!(client.tell("status").await, unauthorized);
}
