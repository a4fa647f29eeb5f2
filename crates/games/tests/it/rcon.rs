//! Source RCON: logging in, answers in parts, connections that come and go.

use naru_games::codec::rcon::{ANSWER, COMMAND, LOGIN, decode, encode};
use naru_games::{AskError, Endpoint, Flavour, Protocol, Secret, TellError, Teller, Want, teller};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    Log, PATIENT, SHORT, ask_of, endpoint, hold, names, nobody, read_until, tcp, write_slowly,
};

/// One connection seen from the server.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        Peer { stream, buffer: Vec::new() }
    }

    async fn read(&mut self) -> Option<(i32, i32, String)> {
        read_until(&mut self.stream, &mut self.buffer, |bytes| {
            let (packet, used) = decode(bytes).expect("what our client sends is right")?;
            let body = String::from_utf8(packet.body.to_vec()).expect("UTF-8");
            Some(((packet.id, packet.kind, body), used))
        })
        .await
    }

    async fn write(&mut self, id: i32, kind: i32, body: &[u8]) {
        let mut packet = Vec::new();
        encode(id, kind, body, &mut packet);
        drop(self.stream.write_all(&packet).await);
    }

    /// Logs a client in the way Valve's servers do, and says whether it knew the password.
    async fn login(&mut self) -> bool {
        let Some((id, LOGIN, password)) = self.read().await else { return false };
        let knows = password == "hunter2";
        self.write(id, ANSWER, b"").await;
        self.write(if knows { id } else { -1 }, COMMAND, b"").await;
        knows
    }
}

/// Answers each command with its own text in capitals, twice over if it is long.
async fn plain(stream: TcpStream, _: usize, log: Log) {
    let mut peer = Peer::new(stream);
    log.add(b"connected");
    if !peer.login().await {
        return;
    }
    while let Some((id, COMMAND, command)) = peer.read().await {
        if command == "long" {
            for part in [&[b'a'; 4_096][..], &[b'b'; 4_096], b"c"] {
                peer.write(id, ANSWER, part).await;
            }
        } else {
            peer.write(id, ANSWER, command.to_uppercase().as_bytes()).await;
        }
    }
}

fn tell_of(flavour: Flavour, address: std::net::SocketAddr) -> Box<dyn Teller> {
    teller(Protocol::Rcon(flavour), endpoint(address, PATIENT)).expect("rcon tells")
}

#[tokio::test]
async fn commands_share_a_connection_and_long_answers_are_whole() {
    let server = tcp(plain).await;
    let mut client = tell_of(Flavour::Plain, server.address);
    assert_eq!(client.tell("status").await.unwrap(), "STATUS");
    assert_eq!(client.tell("long").await.unwrap().len(), 8_193);
    assert_eq!(client.tell("again").await.unwrap(), "AGAIN");
    assert_eq!(server.log.len(), 1);
}

#[tokio::test]
async fn a_wrong_password_is_known_also_when_an_empty_packet_comes_first() {
    let server = tcp(plain).await;
    let wrong =
        Endpoint { password: Some(Secret::new("wrong")), ..endpoint(server.address, PATIENT) };
    let mut client = teller(Protocol::Rcon(Flavour::Plain), wrong.clone()).unwrap();
    let unauthorized = TellError::NotDone(AskError::Unauthorized);
    assert_eq!(client.tell("status").await, Err(unauthorized.clone()));
    let mut client = naru_games::asker(Protocol::Rcon(Flavour::Ark), wrong).unwrap();
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Unauthorized));
    let none = Endpoint { password: None, ..endpoint(server.address, PATIENT) };
    let mut client = teller(Protocol::Rcon(Flavour::Plain), none).unwrap();
    assert_eq!(client.tell("status").await, Err(unauthorized));
    assert_eq!(server.log.len(), 2);
}

/// Minecraft takes one read of its socket for one packet, so what comes with it is lost: here it ends the
/// connection. Answers are cut at 4,096 characters.
async fn minecraft(stream: TcpStream, _: usize, log: Log) {
    let mut peer = Peer::new(stream);
    if !peer.login().await {
        return;
    }
    while let Some((id, COMMAND, command)) = peer.read().await {
        log.add(command.as_bytes());
        if !peer.buffer.is_empty() {
            return;
        }
        match &*command {
            "list" => {
                let text = "There are 2 of a max of 20 players online: ann, bob";
                peer.write(id, ANSWER, text.as_bytes()).await;
            }
            "help" => {
                peer.write(id, ANSWER, "ö".repeat(4_096).as_bytes()).await;
                peer.write(id, ANSWER, "§aend".as_bytes()).await;
            }
            _ => peer.write(id, ANSWER, b"Unknown command").await,
        }
    }
}

#[tokio::test]
async fn minecraft_gets_one_packet_at_a_time_and_a_second_one_only_after_a_full_answer() {
    let server = tcp(minecraft).await;
    let mut client = ask_of(Protocol::Rcon(Flavour::Minecraft), server.address, PATIENT);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.players_max), (Some(2), Some(20)));
    assert_eq!(names(&status), Some(vec!["ann", "bob"]));
    assert_eq!(client.ask(Want::Counts).await.unwrap().names, None);
    assert_eq!(server.log.all(), [b"list", b"list"]);
    let mut client = tell_of(Flavour::Minecraft, server.address);
    let help = client.tell("help").await.unwrap();
    assert_eq!((help.chars().count(), help.ends_with("öend")), (4_099, true));
    assert_eq!(client.tell("stop").await.unwrap(), "Unknown command");
}

#[tokio::test]
async fn lists_of_ark_and_palworld_are_read_past_keep_alives_and_foreign_ids() {
    let server = tcp(|stream, _, _| async move {
        let mut peer = Peer::new(stream);
        peer.login().await;
        while let Some((id, _, command)) = peer.read().await {
            if command == "ListPlayers" {
                peer.write(0, ANSWER, b"Keep Alive").await;
                peer.write(id, ANSWER, b"0. Ann, 76561\n").await;
            } else {
                peer.write(0, ANSWER, b"name,playeruid,steamid\nBob,1,765\n").await;
            }
        }
    })
    .await;
    for (flavour, name) in [(Flavour::Ark, "Ann"), (Flavour::Palworld, "Bob")] {
        let mut client = ask_of(Protocol::Rcon(flavour), server.address, PATIENT);
        let status = client.ask(Want::Players).await.unwrap();
        assert_eq!((status.players, names(&status)), (Some(1), Some(vec![name])));
    }
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_opened_anew() {
    let server = tcp(|stream, _, log| async move {
        let mut peer = Peer::new(stream);
        peer.login().await;
        if let Some((id, _, _)) = peer.read().await {
            peer.write(id, ANSWER, b"No Players Connected").await;
        }
        drop(peer);
        log.add(b"closed");
    })
    .await;
    let mut client = ask_of(Protocol::Rcon(Flavour::Ark), server.address, PATIENT);
    for number in 1..=3 {
        assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(0));
        server.log.reaches(number).await;
    }
}

#[tokio::test]
async fn a_command_is_never_sent_twice() {
    let server = tcp(|stream, _, log| async move {
        let mut peer = Peer::new(stream);
        peer.login().await;
        while let Some((id, _, command)) = peer.read().await {
            log.add(command.as_bytes());
            if command == "stop" {
                return;
            }
            peer.write(id, ANSWER, b"fine").await;
        }
    })
    .await;
    let mut client = tell_of(Flavour::Ark, server.address);
    assert_eq!(client.tell("SaveWorld").await.unwrap(), "fine");
    assert_eq!(client.tell("stop").await, Err(TellError::Unsure(AskError::Closed)));
    assert_eq!(client.tell("SaveWorld").await.unwrap(), "fine");
    assert_eq!(server.log.all(), [&b"SaveWorld"[..], b"stop", b"SaveWorld"]);
    let mut client = tell_of(Flavour::Ark, nobody().await);
    assert_eq!(client.tell("stop").await, Err(TellError::NotDone(AskError::Refused)));
}

#[tokio::test]
async fn a_server_that_ignores_the_closing_command_is_waited_for_once() {
    let server = tcp(|stream, _, _| async move {
        let mut peer = Peer::new(stream);
        peer.login().await;
        while let Some((id, _, command)) = peer.read().await {
            if !command.is_empty() {
                peer.write(id, ANSWER, command.as_bytes()).await;
            }
        }
    })
    .await;
    let patience = endpoint(server.address, SHORT);
    let mut client = teller(Protocol::Rcon(Flavour::Plain), patience).unwrap();
    assert_eq!(client.tell("one").await.unwrap(), "one");
    let began = std::time::Instant::now();
    assert_eq!(client.tell("two").await.unwrap(), "two");
    assert!(began.elapsed() < SHORT);
}

#[tokio::test]
async fn a_plain_server_lives_if_it_lets_us_in() {
    let server = tcp(plain).await;
    let mut client = ask_of(Protocol::Rcon(Flavour::Plain), server.address, PATIENT);
    assert!(client.ask(Want::Players).await.unwrap().answered_in.is_some());
    assert_eq!(client.ask(Want::Players).await.unwrap().answered_in, None);
    assert_eq!(server.log.len(), 1);
}

#[tokio::test]
async fn hostile_and_broken_answers_end_the_question() {
    let answers: [(&[u8], AskError); 4] = [
        (b"\xff\xff\xff\x7f", AskError::TooLarge),
        (b"\xff\xff\xff\xff", AskError::Malformed("negative packet size")),
        (b"SSH-2.0-OpenSSH", AskError::TooLarge),
        (b"\x0a\0\0\0\x01\0", AskError::Closed),
    ];
    for (answer, expected) in answers {
        let server = tcp(move |mut stream, _, _| async move {
            write_slowly(&mut stream, answer).await;
            if answer.len() == 6 {
                drop(stream.shutdown().await);
            }
            hold(stream).await;
        })
        .await;
        let mut client = ask_of(Protocol::Rcon(Flavour::Ark), server.address, PATIENT);
        assert_eq!(client.ask(Want::Counts).await, Err(expected));
    }
    let silent = tcp(|stream, _, _| hold(stream)).await;
    let mut client = ask_of(Protocol::Rcon(Flavour::Ark), silent.address, SHORT);
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Timeout));
}
