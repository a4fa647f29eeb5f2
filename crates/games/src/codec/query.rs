//! Minecraft Java's Query, which is GameSpy 4's: a token first, then a short or a full status.

use crate::error::AskError;
use crate::limits::{NAME_CHARS_MAX, NAMES_MAX, TITLE_CHARS_MAX};
use crate::reader::Reader;
use crate::status::{Player, Status};
use crate::text::{Colours, clean_latin, some};

const HANDSHAKE: u8 = 9;
const STAT: u8 = 0;

/// The server keeps only these bits of a session's number.
pub const SESSION_MASK: u32 = 0x0f0f_0f0f;

/// Asks for a token.
pub fn handshake(session: u32) -> [u8; 7] {
    let mut out = [0xfe, 0xfd, HANDSHAKE, 0, 0, 0, 0];
    out[3..].copy_from_slice(&(session & SESSION_MASK).to_be_bytes());
    out
}

/// Asks for the counts.
pub fn basic(session: u32, token: i32) -> [u8; 11] {
    let mut out = [0; 11];
    out[..3].copy_from_slice(&[0xfe, 0xfd, STAT]);
    out[3..7].copy_from_slice(&(session & SESSION_MASK).to_be_bytes());
    out[7..].copy_from_slice(&token.to_be_bytes());
    out
}

/// Asks for everything, all names included.
pub fn full(session: u32, token: i32) -> [u8; 15] {
    let mut out = [0; 15];
    out[..11].copy_from_slice(&basic(session, token));
    out
}

/// The body of an answer, if it belongs to this session and kind; strays of earlier questions do not.
fn body(bytes: &[u8], kind: u8, session: u32) -> Option<Reader<'_>> {
    let mut reader = Reader::new(bytes);
    reader.expect(&[kind])?;
    (reader.u32_be()? == session & SESSION_MASK).then_some(reader)
}

/// Reads a token. `Ok(None)`: the answer belongs to another question.
pub fn decode_token(bytes: &[u8], session: u32) -> Result<Option<i32>, AskError> {
    let Some(mut reader) = body(bytes, HANDSHAKE, session) else { return Ok(None) };
    let text = reader.text().unwrap_or(reader.rest());
    let token = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse::<i32>().ok());
    token.map(Some).ok_or(AskError::Malformed("a Query token that is no number"))
}

/// Reads a short status. `Ok(None)`: the answer belongs to another question.
pub fn decode_basic(bytes: &[u8], session: u32) -> Result<Option<Status>, AskError> {
    let Some(mut reader) = body(bytes, STAT, session) else { return Ok(None) };
    let mut read = || {
        let (name, _kind, map) = (reader.text()?, reader.text()?, reader.text()?);
        Some(Status {
            players: Some(reader.decimal()?),
            players_max: Some(reader.decimal()?),
            name: title(name),
            map: title(map),
            ..Status::default()
        })
    };
    read().map(Some).ok_or(AskError::Malformed("a short Query status that ends early"))
}

/// Reads a full status. `Ok(None)`: the answer belongs to another question.
pub fn decode_full(bytes: &[u8], session: u32) -> Result<Option<Status>, AskError> {
    let Some(mut reader) = body(bytes, STAT, session) else { return Ok(None) };
    let cut = AskError::Malformed("a full Query status that ends early");
    if reader.expect(b"splitnum\0\x80\0").is_none() {
        return Err(AskError::Malformed("not a full Query status"));
    }
    let mut status = Status::default();
    loop {
        let key = reader.text().ok_or(cut.clone())?;
        if key.is_empty() {
            break;
        }
        let value = reader.text().ok_or(cut.clone())?;
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        match key {
            b"hostname" => status.name = title(value),
            b"map" => status.map = title(value),
            b"version" => status.version = title(value),
            b"numplayers" => status.players = number(),
            b"maxplayers" => status.players_max = number(),
            _ => (),
        }
    }
    if reader.expect(b"\x01player_\0\0").is_none() {
        return Err(AskError::Malformed("a full Query status without players"));
    }
    let mut names = Vec::new();
    loop {
        let name = reader.text().ok_or(cut.clone())?;
        if name.is_empty() {
            break;
        }
        if names.len() < NAMES_MAX {
            let name = clean_latin(name, Colours::Section, NAME_CHARS_MAX);
            names.push(Player { id: None, name });
        }
    }
    names.retain(|player| !player.name.is_empty());
    status.names = Some(names);
    Ok(Some(status))
}

fn title(raw: &[u8]) -> Option<String> {
    some(clean_latin(raw, Colours::Section, TITLE_CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    #[test]
    fn questions_are_written_as_on_the_wire() {
        assert_eq!(handshake(1)[..], hex("fefd0900000001"));
        assert_eq!(handshake(u32::MAX)[..], hex("fefd090f0f0f0f"));
        assert_eq!(basic(1, 9_513_307)[..], hex("fefd00 00000001 0091295b"));
        assert_eq!(full(1, 9_513_307)[..], hex("fefd00 00000001 0091295b 00000000"));
    }

    #[test]
    fn tokens_are_decimal_and_may_be_negative() {
        assert_eq!(decode_token(b"\x09\0\0\0\x019513307\0", 1), Ok(Some(9_513_307)));
        assert_eq!(decode_token(b"\x09\0\0\0\x01-5", 1), Ok(Some(-5)));
        assert_eq!(decode_token(b"\x09\0\0\0\x029513307\0", 1), Ok(None));
        assert!(decode_token(b"\x09\0\0\0\x01x\0", 1).is_err());
        assert_eq!(decode_token(b"", 1), Ok(None));
    }

    fn basic_answer() -> Vec<u8> {
        b"\0\0\0\0\x01A \xa7aserver\0SMP\0world\x002\x0020\0\xdd\x63127.0.0.1\0".to_vec()
    }

    fn full_answer() -> Vec<u8> {
        let mut out = b"\0\0\0\0\x01splitnum\0\x80\0hostname\0A server\0version\x001.20\0".to_vec();
        out.extend_from_slice(b"plugins\0\0map\0world\0numplayers\x002\0maxplayers\x0020\0\0");
        out.extend_from_slice(b"\x01player_\0\0ann\0B\xf6b\0\0");
        out
    }

    #[test]
    fn both_kinds_of_status_are_read() {
        let status = decode_basic(&basic_answer(), 1).unwrap().unwrap();
        assert_eq!((status.players, status.players_max), (Some(2), Some(20)));
        assert_eq!(status.name.as_deref(), Some("A server"));
        assert_eq!((status.map.as_deref(), status.names), (Some("world"), None));
        let status = decode_full(&full_answer(), 1).unwrap().unwrap();
        assert_eq!((status.players, status.players_max), (Some(2), Some(20)));
        assert_eq!(status.version.as_deref(), Some("1.20"));
        let names: Vec<_> = status.names.unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["ann", "Böb"]);
    }

    #[test]
    fn cut_answers_are_errors_and_those_of_other_sessions_are_strays() {
        let answer = full_answer();
        for end in 5..answer.len() {
            assert!(decode_full(&answer[..end], 1).is_err(), "{end}");
        }
        assert_eq!(decode_full(&answer, 2), Ok(None));
        let answer = basic_answer();
        assert!(decode_basic(&answer[..20], 1).is_err());
        assert_eq!(decode_basic(&answer[..4], 1), Ok(None));
        assert_eq!(decode_basic(&answer, 9), Ok(None));
    }
}
