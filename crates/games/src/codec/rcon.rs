//! Source RCON: packets over TCP, and where an answer of several packets ends.

use crate::error::AskError;
use crate::limits::TOLD_BYTES_MAX;
use crate::protocol::Flavour;
use crate::reader::Reader;

/// The type of a login.
pub const LOGIN: i32 = 3;
/// The type of a command, and of the answer to a login.
pub const COMMAND: i32 = 2;
/// The type of an answer.
pub const ANSWER: i32 = 0;

/// Id, type and the two zero bytes at the end.
const SIZE_MIN: usize = 10;

/// Minecraft cuts its answers at 4,096 characters, not bytes, and Java's characters have up to three bytes in
/// UTF-8; the others cut at 4,096 bytes.
const SIZE_MAX: usize = SIZE_MIN + 3 * 4_096;

/// From this size on a packet may be the first of several.
const FULL_BYTES: usize = 4_096;

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The id of the request that it answers; −1 refuses a login.
    pub id: i32,
    /// [`LOGIN`], [`COMMAND`], [`ANSWER`] or something unknown.
    pub kind: i32,
    /// Text without its zero bytes.
    pub body: &'a [u8],
}

/// Writes a packet behind what is in `out`. The caller keeps the body below the command limit.
pub fn encode(id: i32, kind: i32, body: &[u8], out: &mut Vec<u8>) {
    let size = i32::try_from(SIZE_MIN + body.len()).unwrap_or(i32::MAX);
    for number in [size, id, kind] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(body);
    out.extend_from_slice(&[0, 0]);
}

/// The first packet of `bytes` and its whole length, or `None` while some of it is missing.
pub fn decode(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, AskError> {
    let mut reader = Reader::new(bytes);
    let Some(size) = reader.i32_le() else { return Ok(None) };
    let size = usize::try_from(size).map_err(|_| AskError::Malformed("negative packet size"))?;
    if size < SIZE_MIN {
        return Err(AskError::Malformed("packet too short"));
    }
    if size > SIZE_MAX {
        return Err(AskError::TooLarge);
    }
    let Some(packet) = reader.take(size) else { return Ok(None) };
    let mut reader = Reader::new(packet);
    let (Some(id), Some(kind)) = (reader.i32_le(), reader.i32_le()) else { return Ok(None) };
    let Some(body) = reader.rest().strip_suffix(&[0, 0]) else {
        return Err(AskError::Malformed("packet without its end"));
    };
    Ok(Some((Packet { id, kind, body }, 4 + size)))
}

/// What a packet says while we wait to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Logged in.
    Open,
    /// Wrong password.
    Shut,
    /// Valve's servers send an empty answer first: read on.
    Wait,
}

/// Reads the answer to a login.
pub fn door(packet: &Packet<'_>) -> Door {
    match (packet.kind, packet.id) {
        (COMMAND, -1) => Door::Shut,
        (COMMAND, _) => Door::Open,
        // Some servers refuse with the wrong type.
        (_, -1) => Door::Shut,
        _ => Door::Wait,
    }
}

/// What to do after a packet of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More will come.
    Read,
    /// The end cannot be seen: send an empty command with the closing id, and read until it is answered.
    SendClosing,
    /// The answer is whole.
    Done,
}

/// An answer of one or several packets being put together.
#[derive(Debug)]
pub struct Answer {
    id: i32,
    closing_id: i32,
    flavour: Flavour,
    closing_sent: bool,
    begun: bool,
    body: Vec<u8>,
}

impl Answer {
    /// For the command sent as `id`. `closing_id` is another id that is not in use.
    pub fn new(id: i32, closing_id: i32, flavour: Flavour) -> Answer {
        Answer { id, closing_id, flavour, closing_sent: false, begun: false, body: Vec::new() }
    }

    /// Takes a packet. Those of other ids are skipped: some servers send keep-alives of their own.
    pub fn push(&mut self, packet: &Packet<'_>) -> Result<Next, AskError> {
        if packet.id == -1 && packet.kind == COMMAND {
            return Err(AskError::Unauthorized);
        }
        if self.closing_sent && packet.id == self.closing_id {
            return Ok(Next::Done);
        }
        // Palworld has been seen to answer with other ids than asked; it answers one command at a time.
        let ours = packet.id == self.id || self.flavour == Flavour::Palworld;
        if !ours || packet.kind != ANSWER {
            return Ok(Next::Read);
        }
        if self.body.len() + packet.body.len() > TOLD_BYTES_MAX {
            return Err(AskError::TooLarge);
        }
        self.body.extend_from_slice(packet.body);
        if self.begun {
            return Ok(Next::Read);
        }
        self.begun = true;
        // A second packet sent together with the first one would be lost on Minecraft, which takes what one
        // read of its socket gives for one packet (MC-87863): so it follows the answer, if at all.
        if self.flavour == Flavour::Plain || packet.body.len() >= FULL_BYTES {
            self.closing_sent = true;
            return Ok(Next::SendClosing);
        }
        Ok(Next::Done)
    }

    /// Whether something of the answer came. Then silence after the closing command means: that was all.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// The text.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

/// A command as this flavour understands it, or why it cannot.
pub fn command(flavour: Flavour, command: &str) -> Result<String, &'static str> {
    super::one_line(command)?;
    // Minecraft reads 1,460 bytes at once, of which 14 are the packet's own.
    if flavour == Flavour::Minecraft && command.len() > 1_446 {
        return Err("Minecraft takes at most 1,446 bytes");
    }
    if flavour != Flavour::Palworld {
        return Ok(command.to_owned());
    }
    // Palworld cuts arguments at the first space and garbles what is not ASCII.
    let command: String =
        command.chars().map(|char| if char.is_ascii() { char } else { '?' }).collect();
    let arguments_before = match command.split(' ').next() {
        Some(verb) if verb.eq_ignore_ascii_case("broadcast") => 1,
        Some(verb) if verb.eq_ignore_ascii_case("shutdown") => 2,
        _ => return Ok(command),
    };
    let parts: Vec<&str> = command.splitn(arguments_before + 1, ' ').collect();
    let (last, before) = parts.split_last().map_or(("", &[][..]), |(last, rest)| (*last, rest));
    let mut fitted = before.join(" ");
    if !before.is_empty() {
        fitted.push(' ');
    }
    fitted.push_str(&last.replace(' ', "_"));
    Ok(fitted)
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn encoded(id: i32, kind: i32, body: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(id, kind, body.as_bytes(), &mut out);
        out
    }

    #[test]
    fn packets_are_written_and_read_as_on_the_wire() {
        assert_eq!(encoded(7, LOGIN, "rc0n"), hex("0e000000 07000000 03000000 7263306e 0000"));
        assert_eq!(encoded(8, COMMAND, "list"), hex("0e000000 08000000 02000000 6c697374 0000"));
        let open = hex("0a000000 07000000 02000000 0000");
        let (packet, used) = decode(&open).unwrap().unwrap();
        assert_eq!((packet, used), (Packet { id: 7, kind: 2, body: b"" }, 14));
        assert_eq!(door(&packet), Door::Open);
        let shut = hex("0a000000 ffffffff 02000000 0000");
        assert_eq!(door(&decode(&shut).unwrap().unwrap().0), Door::Shut);
        let empty = hex("0a000000 07000000 00000000 0000");
        assert_eq!(door(&decode(&empty).unwrap().unwrap().0), Door::Wait);
    }

    #[test]
    fn a_packet_in_pieces_waits_and_a_hostile_size_is_refused() {
        let whole = encoded(8, ANSWER, "abc");
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end]), Ok(None), "{end}");
        }
        assert!(matches!(decode(&hex("ffffffff")), Err(AskError::Malformed(_))));
        assert!(matches!(decode(&hex("09000000")), Err(AskError::Malformed(_))));
        assert_eq!(decode(&hex("ffffff7f")), Err(AskError::TooLarge));
        assert!(decode(&hex("0a000000 07000000 02000000 0001")).is_err());
    }

    fn push(answer: &mut Answer, id: i32, body: &[u8]) -> Next {
        answer.push(&Packet { id, kind: ANSWER, body }).unwrap()
    }

    #[test]
    fn a_plain_server_is_asked_where_its_answer_ends() {
        let mut answer = Answer::new(5, 6, Flavour::Plain);
        assert_eq!(push(&mut answer, 0, b"keep alive"), Next::Read);
        assert!(!answer.has_begun());
        assert_eq!(push(&mut answer, 5, b"one "), Next::SendClosing);
        assert_eq!(push(&mut answer, 5, b"two"), Next::Read);
        assert_eq!(push(&mut answer, 6, b""), Next::Done);
        assert_eq!(answer.into_body(), b"one two");
    }

    #[test]
    fn a_short_answer_of_minecraft_is_whole_and_a_full_one_is_not() {
        let mut answer = Answer::new(5, 6, Flavour::Minecraft);
        assert_eq!(push(&mut answer, 5, b"short"), Next::Done);
        let mut answer = Answer::new(5, 6, Flavour::Minecraft);
        assert_eq!(push(&mut answer, 5, &[b'x'; 4_096]), Next::SendClosing);
        assert_eq!(push(&mut answer, 5, b"rest"), Next::Read);
        assert_eq!(push(&mut answer, 6, b"Unknown command"), Next::Done);
        assert_eq!(answer.into_body().len(), 4_100);
    }

    #[test]
    fn an_answer_without_end_is_too_large() {
        let mut answer = Answer::new(5, 6, Flavour::Plain);
        let part = [b'x'; 4_096];
        let full = Packet { id: 5, kind: ANSWER, body: &part };
        let pushed = (0..1_000).find_map(|_| answer.push(&full).err());
        assert_eq!(pushed, Some(AskError::TooLarge));
    }

    #[test]
    fn commands_are_fitted_to_what_the_game_understands() {
        let fitted = command;
        let palworld = Flavour::Palworld;
        assert_eq!(fitted(palworld, "Broadcast a b ö").unwrap(), "Broadcast a_b_?");
        assert_eq!(fitted(palworld, "Shutdown 30 see you").unwrap(), "Shutdown 30 see_you");
        assert_eq!(fitted(palworld, "Shutdown 30").unwrap(), "Shutdown 30");
        assert_eq!(fitted(palworld, "KickPlayer steam_1").unwrap(), "KickPlayer steam_1");
        assert_eq!(fitted(palworld, "Save").unwrap(), "Save");
        assert_eq!(fitted(Flavour::Ark, "Broadcast a b ö").unwrap(), "Broadcast a b ö");
        assert!(fitted(Flavour::Minecraft, &"x".repeat(1_447)).is_err());
        assert!(fitted(Flavour::Plain, "say hi\nstop").is_err());
        assert!(fitted(Flavour::Plain, "").is_err());
    }
}
