//! Checks that hold for any bytes. Each fuzz target is one of them.

use naru_games::codec::{
    a2s, bedrock, econ, listing, luanti, management, palworld, quake3, query, rcon, slp, teeworlds,
    teeworlds6,
};
use naru_games::limits::{NAME_CHARS_MAX, NAMES_MAX, TITLE_CHARS_MAX};
use naru_games::{AskError, Event, Flavour, Player, Status};

/// Whatever a server says, what we keep of it is bounded and plain.
fn check_status(status: &Status) {
    for text in [&status.name, &status.map, &status.version].into_iter().flatten() {
        check_text(text, TITLE_CHARS_MAX);
        assert!(!text.is_empty());
    }
    check_players(status.names.as_deref().unwrap_or_default());
}

fn check_players(players: &[Player]) {
    assert!(players.len() <= NAMES_MAX);
    for player in players {
        assert!(!player.name.is_empty());
        check_text(&player.name, NAME_CHARS_MAX);
        check_text(player.id.as_deref().unwrap_or_default(), NAME_CHARS_MAX);
    }
}

fn check_text(text: &str, chars_max: usize) {
    assert!(text.chars().count() <= chars_max);
    assert!(
        !text.chars().any(|char| char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char))
    );
}

/// The first byte chooses a decoder, the rest is what it reads.
fn split(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

pub(crate) fn check_palworld(data: &[u8]) {
    let (choice, body) = split(data);
    match choice % 4 {
        0 => palworld::metrics(body).iter().for_each(check_status),
        1 => palworld::info(body).iter().for_each(check_status),
        2 => palworld::players(body).iter().for_each(|players| check_players(players)),
        _ => {
            let Ok(order) = palworld::order(&String::from_utf8_lossy(body)) else { return };
            // Written again, it is the same order: nothing else can ride along.
            let again = format!("{} {}", order.verb, order.body);
            assert_eq!(palworld::order(&again), Ok(order));
        }
    }
}

const FLAVOURS: [Flavour; 4] =
    [Flavour::Plain, Flavour::Palworld, Flavour::Ark, Flavour::Minecraft];

pub(crate) fn check_rcon(data: &[u8]) {
    let (choice, bytes) = split(data);
    let flavour = FLAVOURS[usize::from(choice % 4)];
    if choice & 0x80 != 0 {
        listing::decode(flavour, bytes).iter().for_each(check_status);
        let text = String::from_utf8_lossy(bytes);
        if let Ok(command) = rcon::command(flavour, &text) {
            assert!(!command.chars().any(char::is_control));
        }
        return;
    }
    let mut rest = bytes;
    let mut answer = rcon::Answer::new(1, 2, flavour);
    while let Ok(Some((packet, used))) = rcon::decode(rest) {
        // What follows a packet does not change it, and without its last byte it is not there.
        assert_eq!(rcon::decode(&rest[..used]), Ok(Some((packet, used))));
        assert_eq!(rcon::decode(&rest[..used - 1]), Ok(None));
        let mut encoded = Vec::new();
        rcon::encode(packet.id, packet.kind, packet.body, &mut encoded);
        assert_eq!(encoded, &rest[..used]);
        rcon::door(&packet);
        if answer.push(&packet).is_err() {
            return;
        }
        rest = &rest[used..];
    }
}

pub(crate) fn check_slp(data: &[u8]) {
    let (choice, bytes) = split(data);
    let form = slp::FORMS[usize::from(choice % 4)];
    let decoded = slp::decode(form, bytes);
    decoded.iter().flatten().for_each(check_status);
    if matches!(decoded, Ok(None)) {
        // Not there yet means that it was not there before either.
        for end in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
            assert_eq!(slp::decode(form, &bytes[..end]), Ok(None));
        }
    }
}

pub(crate) fn check_query(data: &[u8]) {
    for session in [1, 0x0f0f_0f0f] {
        query::decode_basic(data, session).iter().flatten().for_each(check_status);
        query::decode_full(data, session).iter().flatten().for_each(check_status);
        if let Ok(Some(token)) = query::decode_token(data, session) {
            assert_eq!(query::basic(session, token)[7..], token.to_be_bytes());
        }
    }
}

pub(crate) fn check_management(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match management::decode(&text) {
        Ok(management::Message::Result(_, result)) => {
            management::status(result.get()).iter().for_each(check_status);
            management::players_max(result.get());
        }
        Ok(management::Message::Refused(_, words)) => check_text(&words, TITLE_CHARS_MAX),
        Ok(management::Message::Event(Event::Status(status))) => check_status(&status),
        Ok(management::Message::Event(Event::Joined(player) | Event::Left(player))) => {
            check_players(&[player]);
        }
        _ => (),
    }
    if let Ok((method, params)) = management::command(&text) {
        let request = management::request(1, method, params);
        let value: serde_json::Value = serde_json::from_str(&request).expect("we write JSON");
        assert_eq!(value["method"], method);
    }
}

pub(crate) fn check_ping(data: &[u8]) {
    bedrock::decode(data, 0x1122_3344_5566_7788).iter().flatten().for_each(check_status);
    if let Ok(Some(id)) = luanti::decode(data) {
        assert_eq!(luanti::goodbye(id)[4..6], id.to_be_bytes());
    }
}

/// Datagrams of an answer, each with two bytes of length in front.
fn datagrams(mut data: &[u8]) -> Vec<&[u8]> {
    let mut datagrams = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let (datagram, rest) =
            rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        datagrams.push(datagram);
        data = rest;
    }
    datagrams
}

pub(crate) fn check_a2s(data: &[u8]) {
    let mut assembly = a2s::Assembly::default();
    for datagram in datagrams(data) {
        let whole = match a2s::datagram(datagram) {
            Ok(a2s::Datagram::Whole(bytes)) => bytes.to_vec(),
            Ok(a2s::Datagram::Part(part)) => match assembly.push(part) {
                Ok(Some(whole)) => whole,
                _ => continue,
            },
            Err(_) => continue,
        };
        match a2s::decode(&whole) {
            Ok(a2s::Answer::Info(status)) => check_status(&status),
            Ok(a2s::Answer::Players(players)) => check_players(&players),
            Ok(a2s::Answer::Challenge(challenge)) => {
                assert_eq!(a2s::players(Some(challenge))[5..], whole[1..5]);
            }
            _ => (),
        }
    }
}

pub(crate) fn check_quake3(data: &[u8]) {
    match quake3::decode(data) {
        Ok(quake3::Answer::Info(info)) => check_status(&info.status),
        Ok(quake3::Answer::Status(listing)) => {
            check_status(&listing.status);
            let count = listing.everybody.len();
            for humans in [None, Some(0), Some(1)] {
                let names = listing.clone().names(humans);
                check_players(&names);
                assert!(names.len() <= count);
            }
        }
        Ok(quake3::Answer::Print(text)) => assert!(text.len() < data.len()),
        _ => (),
    }
    if let Ok(request) = quake3::rcon("password", &String::from_utf8_lossy(data)) {
        assert_eq!(request.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }
}

pub(crate) fn check_teeworlds(data: &[u8]) {
    let (choice, bytes) = split(data);
    let ours = [0x11, 0x22, 0x33, 0x44];
    if choice % 2 == 0 {
        teeworlds::decode_info(bytes, ours, 5).iter().flatten().for_each(check_status);
        if let Ok(Some(token)) = teeworlds::decode_token(bytes, ours) {
            assert_eq!(bytes[8..12], token);
        }
        return;
    }
    let mut assembly = teeworlds6::Assembly::new(0x12_3456);
    for datagram in datagrams(bytes) {
        if matches!(assembly.push(datagram), Ok(true)) {
            assert!(assembly.form().is_some());
        }
    }
    assembly.into_status().iter().for_each(check_status);
}

pub(crate) fn check_econ(data: &[u8]) {
    let mut rest = data;
    let mut answer = econ::Answer::new(7);
    while let Ok(Some((line, used))) = econ::line(rest) {
        assert!(line.len() < used && !line.contains(&b'\n'));
        econ::door(line);
        if !matches!(answer.push(line), Ok(false) | Err(AskError::TooLarge)) {
            return;
        }
        rest = &rest[used..];
    }
}
