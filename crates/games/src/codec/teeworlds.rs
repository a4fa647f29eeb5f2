//! Teeworlds 0.7: a handshake of tokens, then the server's info.

use crate::error::AskError;
use crate::limits::{NAME_CHARS_MAX, NAMES_MAX, TITLE_CHARS_MAX};
use crate::reader::Reader;
use crate::status::{Player, Status};
use crate::text::{Colours, clean_utf8, some};

/// Bytes of a request for a token. Shorter ones are not answered, so that nobody can use the server to
/// multiply traffic.
const TOKEN_REQUEST_BYTES: usize = 519;

/// Header of a control message.
const CONTROL: u8 = 0x04;
/// The control message about tokens.
const TOKEN: u8 = 0x05;
/// Header of a message outside of a connection, of version 1.
const CONNLESS: u8 = 0x21;

/// Four bytes that prove that one receives what is sent to one's address.
pub type Token = [u8; 4];

/// Asks for the server's token.
pub fn token_request(ours: Token) -> Vec<u8> {
    let mut out = vec![CONTROL, 0, 0, 0xff, 0xff, 0xff, 0xff, TOKEN];
    out.extend_from_slice(&ours);
    out.resize(TOKEN_REQUEST_BYTES, 0);
    out
}

/// Asks for the info. `number` comes back with the answer; at most 63, so that it is one byte.
pub fn info_request(theirs: Token, ours: Token, number: u8) -> Vec<u8> {
    let mut out = vec![CONNLESS];
    out.extend_from_slice(&theirs);
    out.extend_from_slice(&ours);
    out.extend_from_slice(b"\xff\xff\xff\xffgie3");
    out.push(number & 0x3f);
    out
}

/// Reads the server's token. `Ok(None)`: the message is not for us.
pub fn decode_token(bytes: &[u8], ours: Token) -> Result<Option<Token>, AskError> {
    let mut reader = Reader::new(bytes);
    if reader.expect(&[CONTROL, 0, 0]).is_none() || reader.expect(&ours).is_none() {
        return Ok(None);
    }
    if reader.expect(&[TOKEN]).is_none() {
        return Ok(None);
    }
    let token = reader.take(4).and_then(|token| token.try_into().ok());
    token.map(Some).ok_or(AskError::Malformed("a Teeworlds token cut short"))
}

/// Reads an info. `Ok(None)`: the message is not the answer to this question.
pub fn decode_info(bytes: &[u8], ours: Token, number: u8) -> Result<Option<Status>, AskError> {
    let mut reader = Reader::new(bytes);
    let begins = reader.expect(&[CONNLESS]).and_then(|()| reader.expect(&ours));
    if begins.is_none() {
        return Ok(None);
    }
    // The server's own token, which the sender of the answer proves by knowing ours.
    let cut = AskError::Malformed("a Teeworlds info cut short");
    reader.take(4).ok_or(cut.clone())?;
    if reader.expect(b"\xff\xff\xff\xffinf3").is_none() {
        return Ok(None);
    }
    if int(&mut reader) != Some(i32::from(number & 0x3f)) {
        return Ok(None);
    }
    info(reader).map(Some).ok_or(cut)
}

fn info(mut reader: Reader<'_>) -> Option<Status> {
    let title = |raw| some(clean_utf8(raw, Colours::None, TITLE_CHARS_MAX));
    let (version, name) = (reader.text()?, reader.text()?);
    let (_host, map, _kind) = (reader.text()?, reader.text()?, reader.text()?);
    let (_flags, _skill) = (int(&mut reader)?, int(&mut reader)?);
    let (_players, _player_slots) = (int(&mut reader)?, int(&mut reader)?);
    let clients = u32::try_from(int(&mut reader)?).ok()?;
    let places = u32::try_from(int(&mut reader)?).ok()?;
    let (mut names, mut bots, mut listed) = (Vec::new(), 0, 0);
    while let Some((name, kind)) = client(&mut reader) {
        listed += 1;
        let is_bot = kind & 2 != 0;
        bots += u32::from(is_bot);
        let name = clean_utf8(name, Colours::None, NAME_CHARS_MAX);
        if !is_bot && !name.is_empty() && names.len() < NAMES_MAX {
            names.push(Player { id: None, name });
        }
    }
    // Busy servers leave the list out. Then nobody can say how many are bots.
    let whole = listed == clients;
    Some(Status {
        players: Some(if whole { clients - bots } else { clients }),
        bots: whole.then_some(bots),
        players_max: Some(places),
        names: whole.then_some(names),
        name: title(name),
        map: title(map),
        version: title(version),
        ..Status::default()
    })
}

fn client<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], i32)> {
    let (name, _clan) = (reader.text()?, reader.text()?);
    let (_country, _score) = (int(reader)?, int(reader)?);
    Some((name, int(reader)?))
}

/// A packed number: the first byte holds `more`, the sign and 6 bits, the others `more` and 7 bits.
fn int(reader: &mut Reader<'_>) -> Option<i32> {
    let mut byte = reader.u8()?;
    let is_negative = byte & 0x40 != 0;
    let mut number = i32::from(byte & 0x3f);
    for (shift, mask) in [(6, 0x7f), (13, 0x7f), (20, 0x7f), (27, 0x0f)] {
        if byte & 0x80 == 0 {
            break;
        }
        byte = reader.u8()?;
        number |= i32::from(byte & mask) << shift;
    }
    Some(if is_negative { !number } else { number })
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    const OURS: Token = [0x11, 0x22, 0x33, 0x44];
    const THEIRS: Token = [0x40, 0x38, 0x04, 0x4b];

    fn info_answer(clients: &[u8]) -> Vec<u8> {
        let mut out = hex("21 11223344 4038044b ffffffff 696e6633 05");
        out.extend_from_slice(b"0.7.5\0twprobe\0\0dm1\0DM\0");
        out.extend_from_slice(clients);
        out
    }

    #[test]
    fn tokens_are_exchanged_as_on_the_wire() {
        let request = token_request(OURS);
        assert_eq!(request.len(), 519);
        assert_eq!(request[..12], hex("04 00 00 ffffffff 05 11223344"));
        assert!(request[12..].iter().all(|&byte| byte == 0));
        let answer = hex("04 00 00 11223344 05 4038044b");
        assert_eq!(decode_token(&answer, OURS), Ok(Some(THEIRS)));
        assert_eq!(decode_token(&answer, THEIRS), Ok(None));
        assert!(decode_token(&answer[..11], OURS).is_err());
        let request = info_request(THEIRS, OURS, 5);
        assert_eq!(request, hex("21 4038044b 11223344 ffffffff 67696533 05"));
    }

    #[test]
    fn the_captured_info_is_read() {
        let answer = info_answer(&hex("00 01 00 08 00 08"));
        let status = decode_info(&answer, OURS, 5).unwrap().unwrap();
        assert_eq!((status.players, status.bots, status.players_max), (Some(0), Some(0), Some(8)));
        assert_eq!(status.name.as_deref(), Some("twprobe"));
        assert_eq!(status.map.as_deref(), Some("dm1"));
        assert_eq!(status.version.as_deref(), Some("0.7.5"));
        assert_eq!(decode_info(&answer, OURS, 6), Ok(None));
        assert_eq!(decode_info(&answer, THEIRS, 5), Ok(None));
        for end in 18..answer.len() {
            assert!(decode_info(&answer[..end], OURS, 5).is_err(), "{end}");
        }
    }

    #[test]
    fn bots_are_told_from_people_when_the_list_is_whole() {
        let mut raw = hex("00 01 02 08 03 10");
        raw.extend_from_slice(b"ann\0clan\0\x40\x40\0");
        raw.extend_from_slice(b"bot\0\0\0\0\x02");
        raw.extend_from_slice(b"eve\0\0\0\xbf\x01\x01");
        let status = decode_info(&info_answer(&raw), OURS, 5).unwrap().unwrap();
        assert_eq!((status.players, status.bots), (Some(2), Some(1)));
        let names: Vec<_> = status.names.unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["ann", "eve"]);
        let cut = info_answer(&raw[..raw.len() - 1]);
        let status = decode_info(&cut, OURS, 5).unwrap().unwrap();
        assert_eq!((status.players, status.bots, status.names), (Some(3), None, None));
    }

    #[test]
    fn packed_numbers_have_their_sign_in_the_first_byte() {
        let int_of = |raw: &[u8]| int(&mut Reader::new(raw));
        for (raw, number) in [
            ("00", 0),
            ("3f", 63),
            ("40", -1),
            ("7f", -64),
            ("8001", 64),
            ("bf01", 127),
            ("c001", -65),
        ] {
            assert_eq!(int_of(&hex(raw)), Some(number), "{raw}");
        }
        assert_eq!(int_of(&hex("bfffffff0f")), Some(i32::MAX));
        assert_eq!(int_of(&hex("ffffffffff")), Some(i32::MIN));
        assert_eq!(int_of(&hex("80")), None);
    }
}
