//! Reads what the server sends to a load phone, matches replies and answers pings. Every reply is
//! checked to the letter, most of them by comparison with an earlier one that was decoded in full.

use std::io;

use tokio::net::TcpStream;

use super::frames::Marks;
use super::phone::Phone;
use crate::account::Verdict;
use crate::latency::Latencies;
use crate::proto::down::{self, Down};

/// A reply longer than this ends the run: nothing that load phones ask for is so long.
const LINE_BYTES_MAX: usize = 8 << 20;

/// What a thread or task counted while it read.
#[derive(Clone)]
pub(crate) struct Tally {
    /// From the moment at which a message was due: nothing is hidden when the sender falls behind.
    pub(crate) latency: Latencies,
    /// From the moment at which it was handed to the socket.
    pub(crate) service: Latencies,
    /// Messages due before this moment (nanoseconds of the run) are warm-up. Until somebody sets
    /// it, everything is.
    pub(crate) measure_from_ns: u64,
    pub(crate) replies: u64,
    /// Replies that carry no number.
    pub(crate) other_replies: u64,
    pub(crate) pings: u64,
    /// Lines that a real phone would not have understood, or texts that differ from what was asked.
    pub(crate) malformed: u64,
    /// The first such line's fault.
    pub(crate) first_fault: Option<String>,
    /// Connections that ended without being asked to.
    pub(crate) disconnects: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            latency: Latencies::default(),
            service: Latencies::default(),
            measure_from_ns: u64::MAX,
            replies: 0,
            other_replies: 0,
            pings: 0,
            malformed: 0,
            first_fault: None,
            disconnects: 0,
        }
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency);
        self.service.add(&other.service);
        self.replies += other.replies;
        self.other_replies += other.other_replies;
        self.pings += other.pings;
        self.malformed += other.malformed;
        self.disconnects += other.disconnects;
        if self.first_fault.is_none() {
            self.first_fault.clone_from(&other.first_fault);
        }
    }

    fn fault(&mut self, why: String) {
        self.malformed += 1;
        self.first_fault.get_or_insert(why);
    }
}

/// A buffer and a searcher, shared by all connections of one thread.
pub(crate) struct Scratch {
    buffer: Vec<u8>,
    marks: Marks,
}

impl Scratch {
    pub(crate) fn new(bytes: usize) -> Scratch {
        Scratch { buffer: vec![0; bytes], marks: Marks::new() }
    }
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadOnce {
    /// Nothing is there yet.
    Nothing,
    /// Bytes, with this many echo replies among them.
    Some(usize),
    /// The server closed the connection.
    End,
}

/// The unfinished line of one connection. Empty, and without memory, while nothing is unfinished.
#[derive(Default)]
pub(crate) struct Reader {
    partial: Vec<u8>,
}

impl Reader {
    /// Reads once from the socket. `phone` is locked by the caller only while lines are handled.
    pub(crate) fn read_once(
        &mut self,
        stream: &TcpStream,
        phone: &parking_lot::Mutex<Phone>,
        scratch: &mut Scratch,
        tally: &mut Tally,
        now_ns: impl FnOnce() -> u64,
    ) -> io::Result<ReadOnce> {
        let count = match stream.try_read(&mut scratch.buffer) {
            Ok(0) => return Ok(ReadOnce::End),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(ReadOnce::Nothing);
            }
            Err(error) => return Err(error),
        };
        let now_ns = now_ns();
        let mut phone = phone.lock();
        let before = tally.replies;
        let Scratch { buffer, marks } = scratch;
        let mut rest = &buffer[..count];
        if !self.partial.is_empty() {
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return self.keep(rest).map(|()| ReadOnce::Some(0));
            };
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.partial);
            take_line(&line, &mut phone, marks, tally, now_ns);
        }
        while let Some(end) = memchr::memchr(b'\n', rest) {
            take_line(&rest[..end], &mut phone, marks, tally, now_ns);
            rest = &rest[end + 1..];
        }
        self.keep(rest)?;
        let echoes = tally.replies - before;
        Ok(ReadOnce::Some(usize::try_from(echoes).unwrap_or(usize::MAX)))
    }

    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        if self.partial.len() + rest.len() > LINE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "endless line"));
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }
}

fn take_line(line: &[u8], phone: &mut Phone, marks: &mut Marks, tally: &mut Tally, now_ns: u64) {
    let Some(found) = marks.find(phone.script.dialect, line) else {
        return take_other(line, phone, tally, now_ns);
    };
    if let Err(fault) = phone.verify(line, &found) {
        return tally.fault(fault); // A phone would not have shown it: the message stays unanswered.
    }
    tally.replies += 1;
    let (Verdict::InOrder(note) | Verdict::Ahead(note) | Verdict::Late(note)) =
        phone.answered(found.room, found.number)
    else {
        return; // Doubles and foreign replies stand in the accounts; they have no latency.
    };
    if note.scheduled_ns >= tally.measure_from_ns {
        tally.latency.record(now_ns.saturating_sub(note.scheduled_ns));
        tally.service.record(now_ns.saturating_sub(note.sent_ns));
    }
}

fn take_other(line: &[u8], phone: &mut Phone, tally: &mut Tally, now_ns: u64) {
    let Ok(line) = std::str::from_utf8(line) else {
        return tally.fault("a line is not UTF-8".to_owned());
    };
    match down::decode(&phone.script, line) {
        Down::Welcome { approved, .. } => phone.approved = Some(approved.unwrap_or(true)),
        Down::Ping { server_timestamp } => {
            tally.pings += 1;
            phone.answer_ping(server_timestamp.as_deref(), now_ns);
        }
        Down::Text { .. } | Down::Media { .. } => tally.other_replies += 1,
        Down::Command(command) => tally.fault(format!("unexpected command {command}")),
        Down::Ignored(why) => tally.fault(why),
    }
}
