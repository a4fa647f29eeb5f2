//! Bytes to frames, cut anywhere. Holds a buffer only while a frame is incomplete.

use bytes::Bytes;
use memchr::{memchr, memchr2};

use super::escape::{Escapes, is_well_escaped, unescape_into};
use super::frame::trim;
use super::{BadFrame, Command, Frame, FrameError, Headers, Version};

/// How large what a client sends may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A frame from its command to its NUL, in bytes. The default lets a body of 1 MiB through.
    pub frame_bytes_max: u32,
    /// The same before the connection has a version: whoever has not logged in gets little memory.
    /// The default fits a token of several kilobytes.
    pub connect_bytes_max: u32,
    /// Header lines of a frame.
    pub headers_count_max: u32,
    /// One header line, in bytes without its end.
    pub header_line_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            frame_bytes_max: 1_310_720,
            connect_bytes_max: 65_536,
            headers_count_max: 100,
            header_line_bytes_max: 10_240,
        }
    }
}

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole frame.
    Frame(Frame),
    /// Line ends between frames, any number of them: the client lives.
    HeartBeat,
}

/// Reads what one peer sends. Between frames it holds no allocation.
///
/// It also reads frames of servers, for clients in tests and tools.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    version: Option<Version>,
    partial: Option<Box<Partial>>,
}

/// A frame of which something is still missing.
#[derive(Debug, Default)]
struct Partial {
    stage: Stage,
    /// Bytes of the frame so far, for the limit.
    taken: usize,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    command: Option<Command>,
    headers: Headers,
    header_lines: u32,
    content_length: Option<u32>,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    Body,
}

/// A body that announces itself gets this much room at first, and more as it really arrives.
const BODY_ROOM_BYTES: usize = 16 * 1024;

impl Decoder {
    /// A decoder at the beginning of a connection. It takes CONNECT in the form of any version.
    #[must_use]
    pub fn new(limits: Limits) -> Decoder {
        Decoder { limits, version: None, partial: None }
    }

    /// From the next frame on, the escapes, the trimming and the limits of this version hold. To be
    /// called between CONNECT and whatever the client sent behind it.
    pub fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Whether the beginning of a frame has arrived and its end has not. A client that leaves a frame
    /// like that for long is broken or hostile.
    #[must_use]
    pub fn is_within_frame(&self) -> bool {
        self.partial.is_some()
    }

    /// Takes the next event off the front of `input`; what is behind it stays there. `None`: all was
    /// taken, more is needed. It does not matter where the input was cut; on a WebSocket, the payloads
    /// of the messages are the stream.
    ///
    /// # Errors
    /// The first mistake. Nothing after it can be read: answer with an ERROR frame and close.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>, BadFrame> {
        let mut partial = match self.partial.take() {
            Some(partial) => *partial,
            None => {
                let line_ends = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
                let count = line_ends.count();
                if count > 0 {
                    *input = &input[count..];
                    return Ok(Some(Event::HeartBeat));
                }
                if input.is_empty() {
                    return Ok(None);
                }
                Partial::default()
            }
        };
        match partial.take(input, &self.limits, self.version) {
            Ok(Some(frame)) => Ok(Some(Event::Frame(frame))),
            Ok(None) => {
                self.partial = Some(Box::new(partial));
                Ok(None)
            }
            Err(error) => Err(BadFrame {
                error,
                command: partial.command,
                receipt: partial.headers.get("receipt").map(Box::from),
            }),
        }
    }
}

impl Partial {
    fn take(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        version: Option<Version>,
    ) -> Result<Option<Frame>, FrameError> {
        let max = match version {
            Some(_) => limits.frame_bytes_max,
            None => limits.connect_bytes_max.min(limits.frame_bytes_max),
        };
        while self.stage == Stage::Head {
            // The specifications' own example of DISCONNECT lacks the blank line.
            let is_line_start = self.line.is_empty();
            if self.command == Some(Command::Disconnect)
                && is_line_start
                && input.first() == Some(&0)
            {
                *input = &input[1..];
                return Ok(Some(self.frame(Command::Disconnect, Bytes::new())));
            }
            if !self.take_line(input, limits, version, max)? {
                return Ok(None);
            }
        }
        match self.content_length {
            Some(length) => self.take_announced_body(input, length),
            None => self.take_body_up_to_nul(input, max),
        }
        .and_then(|body| body.map(|body| self.finish(body, version)).transpose())
    }

    /// Takes a line, or the beginning of one. Returns whether it was whole.
    fn take_line(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        version: Option<Version>,
        max: u32,
    ) -> Result<bool, FrameError> {
        // Nothing is looked for beyond the limit, so that the same mistake is found first however the
        // bytes were cut.
        let room = (max as usize).saturating_sub(self.taken).min(input.len());
        let end = memchr2(b'\n', 0, &input[..room]);
        let part = &input[..end.unwrap_or(room)];
        let mut begun = std::mem::take(&mut self.line);
        let line = if begun.is_empty() {
            part
        } else {
            begun.extend_from_slice(part);
            &begun
        };
        // CR LF belongs to 1.2. Older clients that write it mean the same: a CR at the end of a value
        // is nothing that anybody sends.
        let stripped = line.strip_suffix(b"\r").unwrap_or(line);
        self.check_line_length(stripped.len(), limits)?;
        let Some(at) = end else {
            if room < input.len() {
                return Err(FrameError::FrameTooLarge { max });
            }
            self.line = if begun.is_empty() { part.to_vec() } else { begun };
            self.taken += room;
            *input = &[];
            return Ok(false);
        };
        if input[at] == 0 {
            return Err(match self.command {
                None => FrameError::UnknownCommand,
                Some(_) => FrameError::NulInHeaders,
            });
        }
        self.line(stripped, limits, version)?;
        self.taken += at + 1;
        *input = &input[at + 1..];
        if self.stage == Stage::Body {
            self.check_announced(max)?;
        }
        Ok(true)
    }

    /// Counts bytes of a body before they are kept, so that nothing beyond the limit ever is.
    fn count(&mut self, bytes: usize, max: u32) -> Result<(), FrameError> {
        self.taken += bytes;
        if self.taken > max as usize {
            return Err(FrameError::FrameTooLarge { max });
        }
        Ok(())
    }

    fn check_line_length(&self, length: usize, limits: &Limits) -> Result<(), FrameError> {
        let max = limits.header_line_bytes_max;
        match self.command {
            // Long before the end of the line: who speaks HTTP or TLS here is told at once.
            None if length > Command::NAME_BYTES_MAX => Err(FrameError::UnknownCommand),
            Some(_) if length > max as usize => Err(FrameError::HeaderTooLong { max }),
            _ => Ok(()),
        }
    }

    fn line(
        &mut self,
        line: &[u8],
        limits: &Limits,
        version: Option<Version>,
    ) -> Result<(), FrameError> {
        let Some(command) = self.command else {
            let command = Command::parse(line).ok_or(FrameError::UnknownCommand)?;
            self.command = Some(command);
            return Ok(());
        };
        if line.is_empty() {
            self.stage = Stage::Body;
            self.content_length =
                self.headers.get("content-length").map(parse_length).transpose()?;
            return Ok(());
        }
        if self.header_lines >= limits.headers_count_max {
            return Err(FrameError::TooManyHeaders { max: limits.headers_count_max });
        }
        self.header_lines += 1;
        self.header(line, Escapes::of(command, version), version)
    }

    fn header(
        &mut self,
        line: &[u8],
        escapes: Escapes,
        version: Option<Version>,
    ) -> Result<(), FrameError> {
        if escapes == Escapes::Four && memchr(b'\r', line).is_some() {
            return Err(FrameError::StrayCarriageReturn);
        }
        let line = std::str::from_utf8(line).map_err(|_error| FrameError::HeaderNotUtf8)?;
        // The grammar of 1.2 has no colon in a value, yet many clients write `destination:/topic/a:b`;
        // the first colon is the border either way.
        let (mut name, mut value) = line.split_once(':').ok_or(FrameError::HeaderWithoutColon)?;
        if version == Some(Version::V1_0) {
            (name, value) = (trim(name), trim(value));
        }
        if name.is_empty() {
            return Err(FrameError::HeaderWithoutName);
        }
        if !is_well_escaped(name, escapes) || !is_well_escaped(value, escapes) {
            return Err(FrameError::UnknownEscape);
        }
        if self.headers.is_empty() {
            self.headers.reserve(4 * line.len());
        }
        self.headers.add_with(
            |text| unescape_into(text, name, escapes),
            |text| unescape_into(text, value, escapes),
        );
        Ok(())
    }

    /// Refuses what is going to be too large before any of it is kept.
    fn check_announced(&self, max: u32) -> Result<(), FrameError> {
        let Some(length) = self.content_length else { return Ok(()) };
        if self.taken + length as usize + 1 > max as usize {
            return Err(FrameError::FrameTooLarge { max });
        }
        Ok(())
    }

    fn take_announced_body(
        &mut self,
        input: &mut &[u8],
        length: u32,
    ) -> Result<Option<Bytes>, FrameError> {
        let missing = length as usize - self.body.len();
        if let Some(&end) = input.get(missing) {
            if end != 0 {
                return Err(FrameError::ContentLengthMismatch { content_length: length });
            }
            let last = &input[..missing];
            *input = &input[missing + 1..];
            return Ok(Some(self.join_body(last)));
        }
        if self.body.capacity() < self.body.len() + input.len() {
            // Doubles as the body arrives, and ends at its exact size.
            let room = (2 * (self.body.len() + input.len())).max(BODY_ROOM_BYTES);
            self.body.reserve_exact(room.min(length as usize) - self.body.len());
        }
        self.body.extend_from_slice(input);
        *input = &[];
        Ok(None)
    }

    fn take_body_up_to_nul(
        &mut self,
        input: &mut &[u8],
        max: u32,
    ) -> Result<Option<Bytes>, FrameError> {
        let end = memchr(0, input);
        self.count(end.map_or(input.len(), |at| at + 1), max)?;
        let Some(at) = end else {
            self.body.extend_from_slice(input);
            *input = &[];
            return Ok(None);
        };
        let last = &input[..at];
        *input = &input[at + 1..];
        Ok(Some(self.join_body(last)))
    }

    /// The body as an allocation of its own and of its size: bodies stay in histories and queues,
    /// and must not keep a read buffer alive.
    fn join_body(&mut self, last: &[u8]) -> Bytes {
        if self.body.is_empty() {
            return Bytes::copy_from_slice(last);
        }
        let mut body = std::mem::take(&mut self.body);
        body.reserve_exact(last.len());
        body.extend_from_slice(last);
        Bytes::from(body.into_boxed_slice())
    }

    fn finish(&mut self, body: Bytes, version: Option<Version>) -> Result<Frame, FrameError> {
        let command = self.command.ok_or(FrameError::UnknownCommand)?;
        if command.may_have_body() {
            return Ok(self.frame(command, body));
        }
        // 1.0 ignores the body of SUBSCRIBE; a superfluous line end before the NUL is a habit of people
        // who write frames by hand.
        let is_blank = body.iter().all(|byte| matches!(byte, b'\n' | b'\r'));
        if !is_blank && version != Some(Version::V1_0) {
            return Err(FrameError::UnexpectedBody { command });
        }
        Ok(self.frame(command, Bytes::new()))
    }

    fn frame(&mut self, command: Command, body: Bytes) -> Frame {
        Frame { command, headers: std::mem::take(&mut self.headers), body }
    }
}

fn parse_length(value: &str) -> Result<u32, FrameError> {
    let digits = trim(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FrameError::BadContentLength);
    }
    // What 32 bits cannot hold is beyond every limit, and is refused as too large.
    Ok(digits.parse().unwrap_or(u32::MAX))
}
