//! Luanti (Minetest): whether a server lives. Its protocol has no question about players, so this opens a
//! connection and takes leave at once.

use crate::error::AskError;
use crate::reader::Reader;

const PROTOCOL: [u8; 4] = [0x4f, 0x45, 0x74, 0x03];

/// Opens a connection, with no id yet.
pub const PING: [u8; 8] = [0x4f, 0x45, 0x74, 0x03, 0x00, 0x00, 0x00, 0x01];

/// Closes the connection of the peer `id`. Always sent: without it the server repeats its answer every half a
/// second and keeps the peer until its own timeout.
pub fn goodbye(id: u16) -> [u8; 9] {
    let mut out = [0, 0, 0, 0, 0, 0, 0, 0x00, 0x03];
    out[..4].copy_from_slice(&PROTOCOL);
    out[4..6].copy_from_slice(&id.to_be_bytes());
    out
}

/// Reads the id that the server gave us. `Ok(None)`: another message of the server.
pub fn decode(bytes: &[u8]) -> Result<Option<u16>, AskError> {
    let mut reader = Reader::new(bytes);
    if reader.expect(&PROTOCOL).is_none() {
        return Err(AskError::Malformed("not a Luanti server"));
    }
    let mut read = || {
        // From the server (peer 1), any channel, reliable with its number, control, SET_PEER_ID.
        reader.expect(&[0, 1])?;
        reader.u8()?;
        reader.expect(&[3])?;
        reader.u16_be()?;
        reader.expect(&[0, 1])?;
        reader.u16_be()
    };
    Ok(read())
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    #[test]
    fn the_three_messages_are_those_on_the_wire() {
        assert_eq!(PING[..], hex("4f457403 0000 00 01"));
        let answer = hex("4f457403 0001 00 03 ffdc 00 01 0002");
        assert_eq!(decode(&answer), Ok(Some(2)));
        assert_eq!(goodbye(2)[..], hex("4f457403 0002 00 00 03"));
        for end in 4..answer.len() {
            assert_eq!(decode(&answer[..end]), Ok(None));
        }
        assert!(decode(&hex("4f457402 0001")).is_err());
        assert!(decode(b"").is_err());
    }
}
