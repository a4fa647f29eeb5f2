//! Palworld's REST API over a server written by hand, byte by byte.

use naru_games::{AskError, Endpoint, Protocol, Secret, TellError, Want, both};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Log, PATIENT, SHORT, ask_of, endpoint, hold, names, nobody, read_until, tcp};

/// Head and body of a request.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    read_until(stream, buffer, |bytes| {
        let head_end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        let body = bytes.get(head_end..head_end + length)?;
        let body = String::from_utf8_lossy(body).into_owned();
        Some(((head, body), head_end + length))
    })
    .await
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    drop(stream.write_all(text.as_bytes()).await);
}

const METRICS: &str = r#"{"serverfps":57,"currentplayernum":2,"serverframetime":17.4,"maxplayernum":32,"uptime":86461,"days":112}"#;
const PLAYERS: &str = r#"{"players":[{"name":"Ann","userId":"steam_1","ip":"10.0.0.1"},{"name":"Bob","userId":"None","ping":-1}]}"#;

async fn game(mut stream: TcpStream, _: usize, log: Log) {
    log.add(b"connected");
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer).await {
        let line = head.lines().next().unwrap_or_default().to_owned();
        log.add(format!("{line} {body}").as_bytes());
        // admin:hunter2
        if !head.contains("authorization: basic ywrtaw46ahvudgvymg==") {
            answer(&mut stream, "401 Unauthorized", "Unauthorized: wrong password").await;
            continue;
        }
        match line.split(' ').nth(1).unwrap_or_default().trim_start_matches("/v1/api/") {
            "metrics" => answer(&mut stream, "200 OK", METRICS).await,
            "info" => {
                let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    11\r\n{\"version\":\"v0.6\"\r\n17\r\n,\"servername\":\"My Pal\"}\r\n0\r\n\r\n";
                drop(stream.write_all(chunked.as_bytes()).await);
            }
            "players" => answer(&mut stream, "200 OK", PLAYERS).await,
            "announce" => answer(&mut stream, "200 OK", "OK").await,
            "shutdown" => answer(&mut stream, "400 Bad Request", "waittime is wrong\u{7}").await,
            "stop" => return,
            _ => answer(&mut stream, "404 Not Found", "").await,
        }
    }
}

#[tokio::test]
async fn status_and_commands_share_a_connection() {
    let server = tcp(game).await;
    let mut client = both(Protocol::Palworld, endpoint(server.address, PATIENT)).unwrap();
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.players_max), (Some(2), Some(32)));
    assert_eq!(names(&status), Some(vec!["Ann", "Bob"]));
    assert_eq!((status.name.as_deref(), status.version.as_deref()), (Some("My Pal"), Some("v0.6")));
    assert_eq!(status.tick.unwrap().per_second, Some(57.0));
    assert_eq!(status.uptime.unwrap().as_secs(), 86_461);
    assert_eq!(client.tell(r#"announce {"message":"Grüße"}"#).await.unwrap(), "OK");
    // Name and version are known by now.
    assert_eq!(client.ask(Want::Counts).await.unwrap().name.as_deref(), Some("My Pal"));
    let seen: Vec<String> =
        server.log.all().into_iter().map(|it| String::from_utf8(it).unwrap()).collect();
    let expected = [
        "connected",
        "get /v1/api/metrics http/1.1 ",
        "get /v1/api/info http/1.1 ",
        "get /v1/api/players http/1.1 ",
        r#"post /v1/api/announce http/1.1 {"message":"Grüße"}"#,
        "get /v1/api/metrics http/1.1 ",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn refusals_come_in_the_games_own_words() {
    let server = tcp(game).await;
    let mut client = both(Protocol::Palworld, endpoint(server.address, PATIENT)).unwrap();
    let declined = client.tell(r#"shutdown {"waittime":1,"message":"x"}"#).await;
    assert_eq!(declined, Err(TellError::Declined("HTTP 400 waittime is wrong".into())));
    let unfit = client.tell(r#"shutdown {"waittime":0}"#).await;
    assert!(matches!(unfit, Err(TellError::Unfit(_))));
    let wrong =
        Endpoint { password: Some(Secret::new("wrong")), ..endpoint(server.address, PATIENT) };
    let mut client = both(Protocol::Palworld, wrong).unwrap();
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Unauthorized));
    assert_eq!(client.tell("save").await, Err(TellError::NotDone(AskError::Unauthorized)));
}

#[tokio::test]
async fn a_command_whose_answer_never_comes_is_not_sent_again() {
    let server = tcp(game).await;
    let mut client = both(Protocol::Palworld, endpoint(server.address, PATIENT)).unwrap();
    client.ask(Want::Counts).await.unwrap();
    assert_eq!(client.tell("stop").await, Err(TellError::Unsure(AskError::Closed)));
    let stops = server.log.all().iter().filter(|it| it.starts_with(b"post")).count();
    assert_eq!(stops, 1);
    let mut client = both(Protocol::Palworld, endpoint(nobody().await, PATIENT)).unwrap();
    assert_eq!(client.tell("stop").await, Err(TellError::NotDone(AskError::Refused)));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_without_a_word() {
    let server = tcp(|mut stream, _, log| async move {
        let mut buffer = Vec::new();
        for body in [METRICS, "{}"] {
            read_request(&mut stream, &mut buffer).await;
            answer(&mut stream, "200 OK", body).await;
        }
        drop(stream);
        log.add(b"closed");
    })
    .await;
    let mut client = ask_of(Protocol::Palworld, server.address, PATIENT);
    for number in 1..=3 {
        assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(2));
        server.log.reaches(number).await;
    }
}

/// One question to a server that answers each request with the same bytes.
async fn asked_of(bytes: Vec<u8>, closes: bool) -> Result<naru_games::Status, AskError> {
    let server = tcp(move |mut stream, _, _| {
        let bytes = bytes.clone();
        async move {
            let mut buffer = Vec::new();
            while read_request(&mut stream, &mut buffer).await.is_some() {
                if stream.write_all(&bytes).await.is_err() || closes {
                    return;
                }
            }
        }
    })
    .await;
    ask_of(Protocol::Palworld, server.address, PATIENT).ask(Want::Counts).await
}

#[tokio::test]
async fn hostile_answers_are_bounded_and_named() {
    let head = "HTTP/1.1 200 OK\r\n";
    let huge = format!("{head}Content-Length: 2000000\r\n\r\n{}", " ".repeat(2_000_000));
    assert_eq!(asked_of(huge.into_bytes(), false).await, Err(AskError::TooLarge));
    let headers =
        format!("{head}{}\r\n", "X-Long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(2_000));
    let refused = asked_of(headers.into_bytes(), true).await;
    assert!(matches!(refused, Err(AskError::TooLarge | AskError::Malformed(_))), "{refused:?}");
    let cut = format!("{head}Content-Length: 200\r\n\r\n{{\"serverfps\":5");
    assert_eq!(asked_of(cut.into_bytes(), true).await, Err(AskError::Closed));
    for wrong in [
        "SSH-2.0-OpenSSH_9\r\n".to_owned(),
        format!("{head}Content-Length: 2\r\n\r\nOK"),
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ] {
        let asked = asked_of(wrong.clone().into_bytes(), true).await;
        assert!(matches!(asked, Err(AskError::Malformed(_))), "{wrong}: {asked:?}");
    }
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned();
    assert!(matches!(asked_of(missing.into_bytes(), true).await, Err(AskError::Unsupported(_))));
    let silent = tcp(|stream, _, _| hold(stream)).await;
    let mut client = ask_of(Protocol::Palworld, silent.address, SHORT);
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Timeout));
}
