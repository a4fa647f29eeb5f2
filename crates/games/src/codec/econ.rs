//! The external console of Teeworlds: lines of text over TCP, with a password first.

use crate::error::AskError;
use crate::limits::TOLD_BYTES_MAX;

/// Bytes of a line. The server's own console cuts at 1,024.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// The first line of `bytes` without its end, and how many bytes it took. Lines may carry zero bytes; the
/// prompt for the password has no more than those behind its line break.
pub fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, AskError> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() > LINE_BYTES_MAX { Err(AskError::TooLarge) } else { Ok(None) };
    };
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\0');
    let mut line = bytes.get(..end).unwrap_or_default();
    while let Some((_, rest)) = line.split_first().filter(|(byte, _)| is_end(byte)) {
        line = rest;
    }
    while let Some((_, rest)) = line.split_last().filter(|(byte, _)| is_end(byte)) {
        line = rest;
    }
    Ok(Some((line, end + 1)))
}

/// What a line says while we wait to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The password is asked for.
    Asked,
    /// Logged in.
    Open,
    /// Wrong password, or banned for earlier ones.
    Shut,
    /// Something else: read on.
    Wait,
}

/// Reads a line before the login.
pub fn door(line: &[u8]) -> Door {
    let has = |words: &[u8]| line.windows(words.len()).any(|window| window == words);
    if has(b"Authentication successful") {
        Door::Open
    } else if has(b"Enter password") {
        Door::Asked
    } else if has(b"Wrong password") || has(b"banned") || has(b"authentication timeout") {
        Door::Shut
    } else {
        Door::Wait
    }
}

/// The lines of one answer, up to an echo that we asked for behind the command: the console itself marks no
/// end, and lines of the game's log come in between.
#[derive(Debug)]
pub struct Answer {
    marker: String,
    body: Vec<u8>,
}

impl Answer {
    /// `number` is new for each command on a connection.
    pub fn new(number: u64) -> Answer {
        Answer { marker: format!("naru-{number:x}-end"), body: Vec::new() }
    }

    /// What is sent for `command`.
    pub fn request(&self, command: &str) -> Result<Vec<u8>, &'static str> {
        super::one_line(command)?;
        Ok(format!("{command}\necho {}\n", self.marker).into_bytes())
    }

    /// Takes a line and says whether it was the last one.
    pub fn push(&mut self, line: &[u8]) -> Result<bool, AskError> {
        let marker = self.marker.as_bytes();
        if line.windows(marker.len()).any(|window| window == marker) {
            return Ok(true);
        }
        if self.body.len() + line.len() + 1 > TOLD_BYTES_MAX {
            return Err(AskError::TooLarge);
        }
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
        Ok(false)
    }

    /// The lines.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_and_their_zero_bytes() {
        let raw = b"Enter password:\n\0\0Authentication successful. x\n\0\0half";
        let (first, used) = line(raw).unwrap().unwrap();
        assert_eq!((first, door(first)), (&b"Enter password:"[..], Door::Asked));
        let (second, more) = line(&raw[used..]).unwrap().unwrap();
        assert_eq!((second, door(second)), (&b"Authentication successful. x"[..], Door::Open));
        assert_eq!(line(&raw[used + more..]), Ok(None));
        assert_eq!(door(b"Wrong password 1/3."), Door::Shut);
        assert_eq!(door(b""), Door::Wait);
        assert_eq!(line(&[b'x'; LINE_BYTES_MAX + 1]), Err(AskError::TooLarge));
    }

    #[test]
    fn an_answer_ends_with_our_echo() {
        let mut answer = Answer::new(0x1f);
        assert_eq!(answer.request("status").unwrap(), b"status\necho naru-1f-end\n");
        assert!(answer.request("say a\nshutdown").is_err());
        assert_eq!(answer.push(b"[Server]: one"), Ok(false));
        assert_eq!(answer.push(b"[Console]: naru-1f-end"), Ok(true));
        assert_eq!(answer.into_body(), b"[Server]: one\n");
    }
}
