//! Valve's query protocol: questions with a challenge, answers in one datagram or in parts.

use crate::error::AskError;
use crate::limits::{ASSEMBLED_BYTES_MAX, NAME_CHARS_MAX, NAMES_MAX, PARTS_MAX, TITLE_CHARS_MAX};
use crate::reader::Reader;
use crate::status::{Player, Status};
use crate::text::{Colours, clean_utf8, some};

const WHOLE: [u8; 4] = [0xff; 4];
/// −2 as a little-endian number.
const PART: [u8; 4] = [0xfe, 0xff, 0xff, 0xff];
const COMPRESSED: u32 = 0x8000_0000;

/// Asks what the server is, with the challenge if we have one.
pub fn info(challenge: Option<u32>) -> Vec<u8> {
    let mut out = b"\xff\xff\xff\xffTSource Engine Query\0".to_vec();
    if let Some(challenge) = challenge {
        out.extend_from_slice(&challenge.to_be_bytes());
    }
    out
}

/// Asks who plays. Without a challenge it only fetches one.
pub fn players(challenge: Option<u32>) -> Vec<u8> {
    let mut out = b"\xff\xff\xff\xffU".to_vec();
    out.extend_from_slice(&challenge.unwrap_or(u32::MAX).to_be_bytes());
    out
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Ask again with this challenge: four bytes that are only sent back, so they have no byte order.
    Challenge(u32),
    /// What the server is.
    Info(Box<Status>),
    /// Who plays. Those still connecting have no name and are left out.
    Players(Vec<Player>),
    /// Something else, such as the answer to a question of another kind.
    Other,
}

/// What a datagram holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// A whole answer without its mark.
    Whole(&'a [u8]),
    /// One part of an answer.
    Part(Part<'a>),
}

/// One part of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// The same for all parts of one answer.
    pub id: u32,
    /// How many parts there are.
    pub total: u8,
    /// Which one this is, from 0.
    pub number: u8,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Tells whole answers from parts.
pub fn datagram(bytes: &[u8]) -> Result<Datagram<'_>, AskError> {
    if let Some(rest) = bytes.strip_prefix(&WHOLE) {
        return Ok(Datagram::Whole(rest));
    }
    let mut reader = Reader::new(bytes);
    if reader.expect(&PART).is_none() {
        return Err(AskError::Malformed("not an A2S answer"));
    }
    let mut read = || {
        let (id, total, number) = (reader.u32_le()?, reader.u8()?, reader.u8()?);
        // The size at which the server cuts. Our bytes are as many as came.
        reader.u16_le()?;
        Some(Part { id, total, number, bytes: reader.rest() })
    };
    let part = read().ok_or(AskError::Malformed("an A2S part that ends early"))?;
    if part.id & COMPRESSED != 0 {
        return Err(AskError::Unsupported("an A2S answer compressed with bzip2"));
    }
    if part.total == 0 || part.number >= part.total || usize::from(part.total) > PARTS_MAX {
        return Err(AskError::Malformed("an A2S part with impossible numbers"));
    }
    Ok(Datagram::Part(part))
}

/// Puts parts together, in whatever order they come.
#[derive(Debug, Default)]
pub struct Assembly {
    id: u32,
    parts: Vec<Option<Vec<u8>>>,
    bytes: usize,
}

impl Assembly {
    /// Takes a part; gives the whole answer, without its mark, with the last one. A part of another answer
    /// starts anew: the earlier answer will not be finished by a server that already sends the next one.
    pub fn push(&mut self, part: Part<'_>) -> Result<Option<Vec<u8>>, AskError> {
        if self.parts.len() != usize::from(part.total) || self.id != part.id {
            *self = Assembly { id: part.id, parts: vec![None; usize::from(part.total)], bytes: 0 };
        }
        let Some(place) = self.parts.get_mut(usize::from(part.number)) else {
            return Err(AskError::Malformed("an A2S part with impossible numbers"));
        };
        if place.is_none() {
            self.bytes += part.bytes.len();
            if self.bytes > ASSEMBLED_BYTES_MAX {
                return Err(AskError::TooLarge);
            }
            *place = Some(part.bytes.to_vec());
        }
        if self.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let whole: Vec<u8> = std::mem::take(self).parts.into_iter().flatten().flatten().collect();
        match whole.strip_prefix(&WHOLE) {
            Some(rest) => Ok(Some(rest.to_vec())),
            None => Err(AskError::Malformed("A2S parts that make no answer")),
        }
    }
}

/// Reads a whole answer without its mark.
pub fn decode(bytes: &[u8]) -> Result<Answer, AskError> {
    let mut reader = Reader::new(bytes);
    match reader.u8() {
        Some(b'A') => {
            let challenge = reader.u32_be();
            challenge
                .map(Answer::Challenge)
                .ok_or(AskError::Malformed("an A2S challenge cut short"))
        }
        Some(b'I') => {
            let status = decode_info(reader);
            status
                .map(|it| Answer::Info(Box::new(it)))
                .ok_or(AskError::Malformed("A2S info cut short"))
        }
        Some(b'D') => decode_players(reader)
            .map(Answer::Players)
            .ok_or(AskError::Malformed("A2S players without a count")),
        Some(_) => Ok(Answer::Other),
        None => Err(AskError::Malformed("an empty A2S answer")),
    }
}

fn decode_info(mut reader: Reader<'_>) -> Option<Status> {
    let title = |raw| some(clean_utf8(raw, Colours::None, TITLE_CHARS_MAX));
    let _protocol = reader.u8()?;
    let (name, map) = (reader.text()?, reader.text()?);
    let (_folder, _game) = (reader.text()?, reader.text()?);
    let _app = reader.u16_le()?;
    let (players, players_max, bots) = (reader.u8()?, reader.u8()?, reader.u8()?);
    // Type, system, password, cheat protection.
    reader.take(4)?;
    // Some imitations end here; the flags after the version tell nothing that we show.
    let version = reader.text().unwrap_or_default();
    Some(Status {
        // Valve counts bots as players, too. Who reports more bots than players does not.
        players: Some(u32::from(players.checked_sub(bots).unwrap_or(players))),
        bots: Some(u32::from(bots)),
        players_max: Some(u32::from(players_max)),
        name: title(name),
        map: title(map),
        version: title(version),
        ..Status::default()
    })
}

fn decode_players(mut reader: Reader<'_>) -> Option<Vec<Player>> {
    reader.u8()?;
    let mut names = Vec::new();
    // Servers with more than 255 players count modulo 256, and some cut the list: what is there counts.
    let mut read = || {
        let _index = reader.u8()?;
        let name = reader.text()?;
        reader.take(8)?;
        Some(name)
    };
    while let Some(name) = read() {
        let name = clean_utf8(name, Colours::None, NAME_CHARS_MAX);
        if !name.is_empty() {
            names.push(Player { id: None, name });
        }
        if names.len() >= NAMES_MAX {
            break;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn info_answer() -> Vec<u8> {
        let mut out = b"I\x11A ward\0de_dust2\0cstrike\0Counter-Strike\0".to_vec();
        out.extend_from_slice(&hex("f000 0c 20 02 64 6c 00 01"));
        out.extend_from_slice(b"1.0.0\0\xb1");
        out
    }

    fn player_answer(count: u8, names: &[&str]) -> Vec<u8> {
        let mut out = vec![b'D', count];
        for name in names {
            out.push(0);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&[0; 9]);
        }
        out
    }

    #[test]
    fn questions_are_written_as_on_the_wire() {
        assert_eq!(info(None).len(), 25);
        assert_eq!(info(None)[..6], hex("ffffffff 54 53"));
        assert_eq!(info(Some(0x4b1c_9f02))[25..], hex("4b1c9f02"));
        assert_eq!(players(None), hex("ffffffff 55 ffffffff"));
        assert_eq!(players(Some(0x4b1c_9f02)), hex("ffffffff 55 4b1c9f02"));
        let challenge = hex("ffffffff 41 4b1c9f02");
        let Ok(Datagram::Whole(rest)) = datagram(&challenge) else { panic!("whole") };
        assert_eq!(decode(rest), Ok(Answer::Challenge(0x4b1c_9f02)));
    }

    #[test]
    fn info_tells_people_from_bots() {
        let Ok(Answer::Info(status)) = decode(&info_answer()) else { panic!("info") };
        assert_eq!(
            (status.players, status.bots, status.players_max),
            (Some(10), Some(2), Some(32))
        );
        assert_eq!(status.name.as_deref(), Some("A ward"));
        assert_eq!(status.map.as_deref(), Some("de_dust2"));
        assert_eq!(status.version.as_deref(), Some("1.0.0"));
        let without_version = info_answer().len() - 7;
        for end in 0..without_version {
            assert!(decode(&info_answer()[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn players_without_a_name_are_still_connecting() {
        let answer = player_answer(3, &["ann", "", "bob\u{7}"]);
        let Ok(Answer::Players(players)) = decode(&answer) else { panic!("players") };
        let names: Vec<_> = players.into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["ann", "bob"]);
        let cut = &answer[..answer.len() - 1];
        assert!(matches!(decode(cut), Ok(Answer::Players(players)) if players.len() == 1));
        assert!(decode(b"D").is_err());
        assert_eq!(decode(b"E"), Ok(Answer::Other));
    }

    fn part(id: u32, total: u8, number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = PART.to_vec();
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&[total, number, 0xe0, 0x04]);
        out.extend_from_slice(bytes);
        out
    }

    fn push(assembly: &mut Assembly, raw: &[u8]) -> Result<Option<Vec<u8>>, AskError> {
        match datagram(raw)? {
            Datagram::Part(part) => assembly.push(part),
            Datagram::Whole(_) => panic!("a part"),
        }
    }

    #[test]
    fn parts_are_put_together_in_any_order() {
        let mut assembly = Assembly::default();
        assert_eq!(push(&mut assembly, &part(7, 3, 2, b"c")), Ok(None));
        assert_eq!(push(&mut assembly, &part(7, 3, 0, b"\xff\xff\xff\xffa")), Ok(None));
        assert_eq!(push(&mut assembly, &part(7, 3, 0, b"again")), Ok(None));
        assert_eq!(push(&mut assembly, &part(7, 3, 1, b"b")), Ok(Some(b"abc".to_vec())));
        assert_eq!(push(&mut assembly, &part(8, 2, 0, b"\xff\xff\xff\xff")), Ok(None));
        assert_eq!(
            push(&mut assembly, &part(9, 1, 0, b"\xff\xff\xff\xffx")),
            Ok(Some(b"x".to_vec()))
        );
        assert!(push(&mut assembly, &part(10, 1, 0, b"x")).is_err());
    }

    #[test]
    fn hostile_parts_are_refused() {
        let mut assembly = Assembly::default();
        let compressed = part(0x8000_0001, 2, 0, b"BZh");
        assert!(matches!(push(&mut assembly, &compressed), Err(AskError::Unsupported(_))));
        assert!(push(&mut assembly, &part(1, 0, 0, b"")).is_err());
        assert!(push(&mut assembly, &part(1, 2, 2, b"")).is_err());
        assert!(push(&mut assembly, &part(1, 255, 0, b"")).is_err());
        assert!(push(&mut assembly, &PART).is_err());
        assert!(datagram(b"").is_err());
        let large = vec![0; 65_000];
        let pushed =
            (0..60).find_map(|number| push(&mut assembly, &part(1, 60, number, &large)).err());
        assert_eq!(pushed, Some(AskError::TooLarge));
    }
}
