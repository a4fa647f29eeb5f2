//! Clients over UDP: tokens, challenges, strays, silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use naru_games::{AskError, Protocol, Want};

use crate::support::{PATIENT, SHORT, Server, ask_of, asked, hex, names, nobody, udp};

fn a2s_info(name: &str) -> Vec<u8> {
    let mut out = hex("ffffffff 49 11");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\0map\0folder\0Game\0\0\0\x05\x10\x02dl\0\x011.0\0\0");
    out
}

fn a2s_players(names: &[String]) -> Vec<u8> {
    let mut out = hex("ffffffff 44");
    out.push(u8::try_from(names.len()).unwrap_or(u8::MAX));
    for name in names {
        out.push(0);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&[0; 9]);
    }
    out
}

const CHALLENGE: [u8; 4] = [0x4b, 0x1c, 0x9f, 0x02];

/// A server that wants its challenge, and answers the list of players with what is given.
async fn a2s_server(players: Vec<Vec<u8>>) -> Server {
    udp(move |request| {
        if !request.ends_with(&CHALLENGE) {
            vec![[&hex("ffffffff 41")[..], &CHALLENGE].concat()]
        } else if request[4] == b'T' {
            vec![a2s_info("ward")]
        } else {
            players.clone()
        }
    })
    .await
}

#[tokio::test]
async fn a2s_answers_the_challenge_and_keeps_it_for_later_questions() {
    let players = vec![a2s_players(&["ann".into(), String::new(), "bob".into()])];
    let server = a2s_server(players).await;
    let mut client = ask_of(Protocol::A2s, server.address, PATIENT);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.bots, status.players_max), (Some(3), Some(2), Some(16)));
    assert_eq!(names(&status), Some(vec!["ann", "bob"]));
    assert!(status.answered_in.is_some());
    assert_eq!(server.log.len(), 3);
    let status = client.ask(Want::Counts).await.unwrap();
    assert_eq!((status.names, server.log.len()), (None, 4));
}

#[tokio::test]
async fn a2s_gives_up_on_a_server_that_sends_one_challenge_after_the_other() {
    let number = AtomicU32::new(0);
    let server = udp(move |_| {
        let next = number.fetch_add(1, Ordering::Relaxed);
        vec![[&hex("ffffffff 41")[..], &next.to_be_bytes()].concat()]
    })
    .await;
    let asked = asked(Protocol::A2s, server.address, Want::Counts).await;
    assert!(matches!(asked, Err(AskError::Malformed(_))), "{asked:?}");
    assert_eq!(server.log.len(), 3);
}

#[tokio::test]
async fn a2s_puts_split_answers_together_and_takes_large_single_ones() {
    let many: Vec<String> = (0..250).map(|number| format!("player {number:03}")).collect();
    let whole = a2s_players(&many);
    let chunks: Vec<&[u8]> = whole.chunks(1_200).collect();
    let total = u8::try_from(chunks.len()).unwrap();
    let mut parts: Vec<Vec<u8>> = (0..total)
        .map(|number| {
            let head = [&hex("feffffff 07000000")[..], &[total, number, 0xb0, 0x04]].concat();
            [&head, chunks[usize::from(number)]].concat()
        })
        .collect();
    parts.reverse();
    for answers in [parts, vec![whole.clone()]] {
        let server = a2s_server(answers).await;
        let status = asked(Protocol::A2s, server.address, Want::Players).await.unwrap();
        assert_eq!(names(&status).map(|it| it.len()), Some(250));
    }
}

#[tokio::test]
async fn a2s_without_its_list_still_has_its_counts_and_compression_is_refused() {
    let server = a2s_server(vec![]).await;
    let mut client = ask_of(Protocol::A2s, server.address, SHORT);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.names), (Some(3), None));
    let compressed = udp(|_| vec![hex("feffffff 07000080 02 00 b004 425a68")]).await;
    let refused = asked(Protocol::A2s, compressed.address, Want::Counts).await;
    assert!(matches!(refused, Err(AskError::Unsupported(_))), "{refused:?}");
}

fn pong(request: &[u8], online: u32) -> Vec<u8> {
    let text = format!("MCPE;motd;685;1.21.0;{online};20;1;world;Survival;");
    let length = u16::try_from(text.len()).expect("short").to_be_bytes();
    [&[0x1c][..], &request[1..9], &[0; 8], &request[9..25], &length, text.as_bytes()].concat()
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    let mut late: Option<Vec<u8>> = None;
    let server = udp(move |request| match late.take() {
        None => {
            late = Some(pong(request, 1));
            vec![]
        }
        Some(late) => vec![late, pong(request, 2)],
    })
    .await;
    let mut client = ask_of(Protocol::Bedrock, server.address, SHORT);
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Timeout));
    assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(2));
}

#[tokio::test]
async fn nobody_listening_is_refused_and_silence_is_a_timeout() {
    let silent = udp(|_| vec![]).await;
    for protocol in Protocol::all().filter(|it| it.is_datagram() && it.asks()) {
        let refused = asked(protocol, nobody().await, Want::Counts).await;
        assert_eq!(refused, Err(AskError::Refused), "{protocol}");
        let timed_out = ask_of(protocol, silent.address, SHORT).ask(Want::Counts).await;
        assert_eq!(timed_out, Err(AskError::Timeout), "{protocol}");
    }
}

#[tokio::test]
async fn another_program_on_the_port_is_malformed_or_unheard() {
    let echo = udp(|request| vec![request.to_vec(), b"HTTP/1.1 400 Bad Request".to_vec()]).await;
    for protocol in Protocol::all().filter(|it| it.is_datagram() && it.asks()) {
        let answer = ask_of(protocol, echo.address, SHORT).ask(Want::Players).await;
        let is_wrong = matches!(answer, Err(AskError::Malformed(_) | AskError::Timeout));
        assert!(is_wrong, "{protocol}: {answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_by_the_same_client() {
    let address = nobody().await;
    let mut client = ask_of(Protocol::Bedrock, address, PATIENT);
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Refused));
    let socket = tokio::net::UdpSocket::bind(address).await.unwrap();
    let answer = async {
        let mut buffer = [0; 64];
        let (count, peer) = socket.recv_from(&mut buffer).await.unwrap();
        socket.send_to(&pong(&buffer[..count], 4), peer).await.unwrap();
    };
    let (status, ()) = tokio::join!(client.ask(Want::Counts), answer);
    assert_eq!(status.unwrap().players, Some(4));
}

/// A Query server whose token can be changed, as the game does every 30 s.
async fn query_server(token: Arc<AtomicU32>) -> Server {
    udp(move |request| {
        let session = &request[3..7];
        let token = token.load(Ordering::Relaxed);
        if request[2] == 9 {
            return vec![[&[9][..], session, token.to_string().as_bytes(), b"\0"].concat()];
        }
        if request[7..11] != token.to_be_bytes() {
            return vec![];
        }
        let text: &[u8] = if request.len() == 11 {
            b"motd\0SMP\0world\x001\x0020\0\xdd\x63127.0.0.1\0"
        } else {
            b"splitnum\0\x80\0hostname\0motd\0numplayers\x001\0maxplayers\x0020\0\0\x01player_\0\0ann\0\0"
        };
        vec![[&[0][..], session, text].concat()]
    })
    .await
}

#[tokio::test]
async fn query_uses_a_fresh_token_again_and_a_forgotten_one_costs_one_more_handshake() {
    let token = Arc::new(AtomicU32::new(9_513_307));
    let server = query_server(Arc::clone(&token)).await;
    let mut client = ask_of(Protocol::MinecraftQuery, server.address, SHORT * 4);
    let status = client.ask(Want::Counts).await.unwrap();
    assert_eq!((status.players, status.map.as_deref()), (Some(1), Some("world")));
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!(names(&status), Some(vec!["ann"]));
    assert_eq!(server.log.len(), 3);
    token.store(77, Ordering::Relaxed);
    assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(1));
    // The forgotten token, a handshake, the question.
    assert_eq!(server.log.len(), 6);
}

const TEEWORLDS_INFO: &[u8] = b"\xff\xff\xff\xffinf3";

async fn teeworlds_server(token: Arc<AtomicU32>) -> Server {
    udp(move |request| {
        let token = token.load(Ordering::Relaxed).to_be_bytes();
        match request {
            [4, 0, 0, _, _, _, _, 5, ours @ ..] if request.len() >= 519 => {
                vec![[&[4, 0, 0][..], &ours[..4], &[5], &token].concat()]
            }
            [0x21, rest @ ..] if rest.starts_with(&token) => {
                let number = *request.last().expect("not empty");
                let text = b"0.7.5\0ward\0\0dm1\0DM\0\0\x01\x01\x08\x01\x08ann\0\0\0\0\0";
                let head = [&[0x21][..], &rest[4..8], &token, TEEWORLDS_INFO, &[number]].concat();
                vec![[&head, &text[..]].concat()]
            }
            _ => vec![],
        }
    })
    .await
}

#[tokio::test]
async fn teeworlds_keeps_its_token_and_asks_for_a_new_one_when_it_is_forgotten() {
    let token = Arc::new(AtomicU32::new(0x4038_044b));
    let server = teeworlds_server(Arc::clone(&token)).await;
    let mut client = ask_of(Protocol::Teeworlds, server.address, SHORT * 4);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.players_max), (Some(1), Some(8)));
    assert_eq!(names(&status), Some(vec!["ann"]));
    assert_eq!(client.ask(Want::Counts).await.unwrap().names, None);
    assert_eq!(server.log.len(), 3);
    token.store(7, Ordering::Relaxed);
    assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(1));
    assert_eq!(server.log.len(), 6);
}

/// The token of a 0.6 request as the server sends it back.
fn token_of(request: &[u8]) -> String {
    let low = u32::from(request[14]);
    let high = u32::from(request[2]) << 16 | u32::from(request[3]) << 8;
    (if request.starts_with(b"xe") { high | low } else { low }).to_string()
}

fn fields(kind: &str, fields: &[&str]) -> Vec<u8> {
    let mut out = vec![0xff; 10];
    out.extend_from_slice(kind.as_bytes());
    fields.iter().for_each(|field| out.extend_from_slice(format!("{field}\0").as_bytes()));
    out
}

#[tokio::test]
async fn teeworlds_06_finds_out_which_form_the_server_answers() {
    let server = udp(|request| {
        if request.starts_with(b"xe") {
            return vec![];
        }
        let head = ["0.6.5", "w", "dm1", "DM", "0", "1", "8", "1", "8", "ann", "", "0", "0", "1"];
        vec![fields("inf3", &[&[&*token_of(request)][..], &head].concat())]
    })
    .await;
    let mut client = ask_of(Protocol::Teeworlds06, server.address, PATIENT);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, names(&status)), (Some(1), Some(vec!["ann"])));
    server.log.reaches(2).await;
    assert_eq!(client.ask(Want::Counts).await.unwrap().players, Some(1));
    assert_eq!(server.log.len(), 3);
}

#[tokio::test]
async fn ddnet_lists_in_several_datagrams_and_a_lost_one_leaves_the_counts() {
    let ddnet = |loses: bool| {
        udp(move |request| {
            let token = token_of(request);
            let head = ["0.6.4", "w", "map", "0", "0", "DDNet", "0", "2", "64", "2", "64", ""];
            let ann = ["ann", "", "0", "0", "1", ""];
            let first = fields("iext", &[&[&*token][..], &head, &ann].concat());
            let more = fields("iex+", &[&token, "1", "", "bob", "", "0", "0", "1", ""]);
            match (request.starts_with(b"xe"), loses) {
                (false, _) => vec![],
                (true, true) => vec![first],
                (true, false) => vec![more, first],
            }
        })
    };
    let server = ddnet(false).await;
    let status = asked(Protocol::Teeworlds06, server.address, Want::Players).await.unwrap();
    assert_eq!((status.players, names(&status)), (Some(2), Some(vec!["bob", "ann"])));
    let server = ddnet(true).await;
    let mut client = ask_of(Protocol::Teeworlds06, server.address, SHORT);
    let status = client.ask(Want::Players).await.unwrap();
    assert_eq!((status.players, status.names), (Some(2), None));
}

#[tokio::test]
async fn luanti_is_always_told_goodbye() {
    let server = udp(|request| match request.len() {
        8 => vec![hex("4f457403 0001 00 03 ffdc 00 01 0002")],
        _ => vec![],
    })
    .await;
    let status = asked(Protocol::Luanti, server.address, Want::Players).await.unwrap();
    assert_eq!((status.players, status.answered_in.is_some()), (None, true));
    server.log.reaches(2).await;
    assert_eq!(server.log.all()[1], hex("4f457403 0002 00 00 03"));
}

#[tokio::test]
async fn luanti_is_told_goodbye_also_after_an_answer_that_came_too_late() {
    let mut pings = 0;
    let server = udp(move |request| {
        pings += usize::from(request.len() == 8);
        match (request.len(), pings) {
            // The late answer of the first ping and that of the second one.
            (8, 2) => vec![
                hex("4f457403 0001 00 03 ffdc 00 01 0007"),
                hex("4f457403 0001 00 03 ffdc 00 01 0008"),
            ],
            (8, 3) => vec![hex("4f457403 0001 00 03 ffdc 00 01 0009")],
            _ => vec![],
        }
    })
    .await;
    let mut client = ask_of(Protocol::Luanti, server.address, SHORT);
    assert_eq!(client.ask(Want::Counts).await, Err(AskError::Timeout));
    assert!(client.ask(Want::Counts).await.is_ok());
    server.log.reaches(3).await;
    assert!(client.ask(Want::Counts).await.is_ok());
    server.log.reaches(6).await;
    let said: Vec<u8> =
        server.log.all().iter().filter(|it| it.len() == 9).map(|it| it[5]).collect();
    assert_eq!(said, [7, 8, 9]);
}
