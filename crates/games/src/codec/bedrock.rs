//! Minecraft Bedrock's unconnected ping over RakNet.

use crate::error::AskError;
use crate::limits::TITLE_CHARS_MAX;
use crate::reader::Reader;
use crate::status::Status;
use crate::text::{Colours, clean_utf8, some};

/// RakNet's mark of messages outside of a connection.
const MAGIC: [u8; 16] = [
    0x00, 0xff, 0xff, 0x00, 0xfe, 0xfe, 0xfe, 0xfe, 0xfd, 0xfd, 0xfd, 0xfd, 0x12, 0x34, 0x56, 0x78,
];

/// A ping. The server sends `time` back, so it tells this question from earlier ones.
pub fn ping(time: u64, client: u64) -> [u8; 33] {
    let mut out = [0; 33];
    out[0] = 0x01;
    out[1..9].copy_from_slice(&time.to_be_bytes());
    out[9..25].copy_from_slice(&MAGIC);
    out[25..].copy_from_slice(&client.to_be_bytes());
    out
}

/// Reads a pong. `Ok(None)`: it answers another ping.
pub fn decode(bytes: &[u8], time: u64) -> Result<Option<Status>, AskError> {
    let mut reader = Reader::new(bytes);
    if reader.expect(&[0x1c]).is_none() {
        return Err(AskError::Malformed("not a RakNet pong"));
    }
    match reader.take(8) {
        Some(echo) if echo == time.to_be_bytes() => (),
        Some(_) => return Ok(None),
        None => return Err(AskError::Malformed("a RakNet pong that ends early")),
    }
    let mut read = || {
        reader.take(8)?;
        reader.expect(&MAGIC)?;
        let length = reader.u16_be()?;
        let text = reader.take(usize::from(length))?;
        let mut fields = text.split(|&byte| byte == b';');
        let _edition = fields.next()?;
        let motd = fields.next()?;
        let _protocol = fields.next()?;
        let version = fields.next()?;
        let (online, max) = (number(fields.next()?)?, number(fields.next()?)?);
        let _server = fields.next();
        let title = |raw| some(clean_utf8(raw, Colours::Section, TITLE_CHARS_MAX));
        Some(Status {
            players: Some(online),
            players_max: Some(max),
            name: title(motd),
            map: fields.next().and_then(title),
            version: title(version),
            ..Status::default()
        })
    };
    read().map(Some).ok_or(AskError::Malformed("not a Bedrock pong"))
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn pong(text: &[u8]) -> Vec<u8> {
        let mut out = hex("1c 1122334455667788 8a44e488d78f6b96 00ffff00fefefefefdfdfdfd12345678");
        out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        out.extend_from_slice(text);
        out
    }

    const TIME: u64 = 0x1122_3344_5566_7788;

    #[test]
    fn a_ping_is_written_as_on_the_wire() {
        let expected = hex("01 1122334455667788 00ffff00fefefefefdfdfdfd12345678 0000000000000002");
        assert_eq!(ping(TIME, 2)[..], expected);
    }

    #[test]
    fn a_pong_is_read() {
        let text = b"MCPE;probe motd;685;1.21.0;3;20;-8483404521675986026;probe world;Creative;";
        assert_eq!(text.len(), 0x4a);
        let status = decode(&pong(text), TIME).unwrap().unwrap();
        assert_eq!((status.players, status.players_max), (Some(3), Some(20)));
        assert_eq!(status.name.as_deref(), Some("probe motd"));
        assert_eq!(status.map.as_deref(), Some("probe world"));
        assert_eq!(status.version.as_deref(), Some("1.21.0"));
        assert_eq!(decode(&pong(text), TIME + 1), Ok(None));
        let six = decode(&pong(b"MCPE;m;1;1.2;0;5"), TIME).unwrap().unwrap();
        assert_eq!((six.players_max, six.map), (Some(5), None));
    }

    #[test]
    fn pongs_of_others_are_refused() {
        let mut wrong_magic = pong(b"MCPE;m;1;1.2;0;5");
        wrong_magic[18] = 0;
        assert!(decode(&wrong_magic, TIME).is_err());
        let whole = pong(b"MCPE;m;1;1.2;0;5");
        for end in 0..whole.len() {
            assert!(decode(&whole[..end], TIME).is_err(), "{end}");
        }
        assert!(decode(&pong(b"MCPE;m;1;1.2;0"), TIME).is_err());
        assert!(decode(&pong(b"MCPE;m;1;1.2;x;5"), TIME).is_err());
    }
}
