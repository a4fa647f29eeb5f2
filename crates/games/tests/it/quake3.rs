//! Quake 3: its rate, its two kinds of question, its commands.

use std::time::{Duration, Instant};

use naru_games::{AskError, Endpoint, Protocol, Secret, TellError, Want, asker, both, teller};

use crate::support::{PATIENT, SHORT, Server, ask_of, endpoint, names, udp};

const MARK: &[u8] = b"\xff\xff\xff\xff";

/// A server that answers about once a second at most, as the real one does after some questions.
async fn server() -> Server {
    let mut last: Option<Instant> = None;
    udp(move |request| {
        if last.is_some_and(|last| last.elapsed() < Duration::from_millis(800)) {
            return vec![];
        }
        last = Some(Instant::now());
        let text = String::from_utf8_lossy(&request[4..]).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        let answer = match words[..] {
            ["getinfo", challenge] => format!(
                "infoResponse\n\\g_humanplayers\\1\\clients\\2\\sv_maxclients\\16\\hostname\\^1ward\\mapname\\dm1\\challenge\\{challenge}"
            ),
            ["getstatus", challenge] => format!(
                "statusResponse\n\\sv_hostname\\ward\\version\\ioq3\\challenge\\{challenge}\n1 48 \"^2Ann\"\n0 0 \"Grunt\"\n"
            ),
            ["rcon", "hunter2", "status"] => {
                let part = |text: &str| [MARK, b"print\n", text.as_bytes()].concat();
                return vec![part("map: dm1\n"), part("^1num score\n")];
            }
            ["rcon", "hunter2", ..] => return vec![],
            ["rcon", ..] => "print\nBad rconpassword.\n".into(),
            _ => return vec![],
        };
        vec![[MARK, answer.as_bytes()].concat()]
    })
    .await
}

#[tokio::test]
async fn questions_in_a_hurry_wait_for_their_turn_and_are_all_answered() {
    let server = server().await;
    let mut client = ask_of(Protocol::Quake3, server.address, PATIENT);
    let began = Instant::now();
    for _ in 0..2 {
        let status = client.ask(Want::Counts).await.unwrap();
        assert_eq!((status.players, status.bots), (Some(1), Some(1)));
        assert_eq!((status.name.as_deref(), status.names), (Some("ward"), None));
        // Waiting for our turn is not the server's slowness.
        assert!(status.answered_in.unwrap() < Duration::from_secs(1));
    }
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.log.len(), 2);
}

#[tokio::test]
async fn names_leave_bots_out_where_people_are_counted() {
    let server = server().await;
    let mut client = ask_of(Protocol::Quake3, server.address, PATIENT);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.bots, status.players_max), (Some(1), Some(1), Some(16)));
    assert_eq!((names(&status), status.version.as_deref()), (Some(vec!["Ann"]), Some("ioq3")));
}

#[tokio::test]
async fn silence_is_not_answered_with_another_question() {
    let silent = udp(|_| vec![]).await;
    let mut client = ask_of(Protocol::Quake3, silent.address, SHORT);
    assert_eq!(client.ask(Want::Players).await, Err(AskError::Timeout));
    // Before its turn the second question waits, and its time is over before it sends anything.
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Timeout));
    assert_eq!(silent.log.len(), 1);
}

#[tokio::test]
async fn names_that_never_come_leave_the_counts() {
    let server = server().await;
    let mut client = ask_of(Protocol::Quake3, server.address, SHORT * 2);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.names), (Some(1), None));
}

#[tokio::test]
async fn a_command_collects_all_its_parts() {
    let server = server().await;
    let mut client = both(Protocol::Quake3Rcon, endpoint(server.address, PATIENT)).unwrap();
    assert_eq!(client.tell("status").await.unwrap(), "map: dm1\nnum score");
    assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(1));
}

#[tokio::test]
async fn a_wrong_password_a_missing_one_and_silence_are_told_apart() {
    let server = server().await;
    let with = |password: Option<&str>, timeout| {
        let endpoint =
            Endpoint { password: password.map(Secret::new), ..endpoint(server.address, timeout) };
        teller(Protocol::Quake3, endpoint).unwrap()
    };
    let unauthorized = Err(TellError::NotDone(AskError::Unauthorized));
    assert_eq!(with(None, PATIENT).tell("status").await, unauthorized);
    assert_eq!(with(Some("wrong"), PATIENT).tell("status").await, unauthorized);
    let unfit = with(Some("hunter2"), PATIENT).tell("status\nquit").await;
    assert!(matches!(unfit, Err(TellError::Unfit(_))));
    assert_eq!(server.log.len(), 1);
    let quit = with(Some("hunter2"), SHORT).tell("quit").await;
    assert_eq!(quit, Err(TellError::Unsure(AskError::Timeout)));
}

#[test]
fn protocols_that_only_ask_or_only_tell_say_so() {
    let address = "127.0.0.1:1".parse().unwrap();
    for protocol in Protocol::all() {
        let endpoint = endpoint(address, PATIENT);
        assert_eq!(asker(protocol, endpoint.clone()).is_ok(), protocol.asks(), "{protocol}");
        assert_eq!(teller(protocol, endpoint.clone()).is_ok(), protocol.tells(), "{protocol}");
        let does_both = protocol.asks() && protocol.tells() || protocol == Protocol::Quake3Rcon;
        assert_eq!(both(protocol, endpoint).is_ok(), does_both, "{protocol}");
    }
}
