//! One phone of a load run: its prepared frames, what it still has to write, and its accounts. No
//! tasks; whoever drives the connection calls it.

use std::io;
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::net::TcpStream;

use super::connect::RunClock;
use super::frames::{Found, Shape, Stamp, Template, room_name};
use super::mix::{Kind, Mix};
use crate::account::{Lane, Totals, Verdict};
use crate::proto::down::{self, Down};
use crate::proto::up::{self, Monitoring};
use crate::proto::{Identity, Script, Signer};
use crate::target::Target;

/// A phone whose server does not read stops building frames at this point.
const OUTGOING_BYTES_MAX: usize = 4 << 20;

/// What a phone remembers of a message until the reply comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    /// When it should have been sent, in nanoseconds of the run.
    pub(crate) scheduled_ns: u64,
    /// When it was handed to the socket.
    pub(crate) sent_ns: u64,
    /// On which connection of this phone.
    pub(crate) connection: u32,
    /// The last digits of its log id.
    pub(crate) log_number: u64,
}

/// How phones of a run are made.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) phones: usize,
    pub(crate) rooms_per_phone: usize,
    pub(crate) text_bytes: usize,
    pub(crate) mix: Mix,
    /// How long one signature is used, as nanoseconds; 0 signs every frame anew.
    pub(crate) sign_every_ns: u64,
}

struct Room {
    echo: Template,
    others: Vec<Template>,
    lane: Lane<Note>,
    shape: Shape,
}

/// One simulated phone.
pub(crate) struct Phone {
    pub(crate) script: Script,
    identity: Identity,
    signer: Arc<Signer>,
    plan: Arc<Plan>,
    clock: RunClock,
    rooms: Vec<Room>,
    first_room: usize,
    stamp: Stamp,
    stamp_made_ns: u64,
    log_next: u64,
    turn: u64,
    next_room: usize,
    outgoing: Vec<u8>,
    written: usize,
    outstanding: usize,
    connection: u32,
    /// The last log number answered, by connection: whatever went before it on the same connection
    /// had reached the server as well.
    answered_up_to: Vec<u64>,
    /// Messages that it may still send.
    pub(crate) quota: u64,
    /// What the last handshake answer said about approval.
    pub(crate) approved: Option<bool>,
    /// Messages other than echoes.
    pub(crate) others_sent: u64,
    /// Messages that were due while too much was waiting to be written.
    pub(crate) held_back: u64,
}

impl Phone {
    pub(crate) fn new(
        target: &Target,
        signer: &Arc<Signer>,
        plan: &Arc<Plan>,
        clock: RunClock,
        index: usize,
    ) -> Phone {
        let (script, identity) = (target.script(index), target.identity(index));
        let run = clock.run_digits();
        let first_room = index * plan.rooms_per_phone;
        let rooms = (first_room..first_room + plan.rooms_per_phone)
            .map(|room| Room {
                echo: Template::echo(&script, &identity, signer, room, plan.text_bytes, run),
                others: Kind::OTHERS
                    .iter()
                    .map(|k| Template::fixed(&script, &identity, signer, room, k.text(), run))
                    .collect(),
                lane: Lane::default(),
                shape: Shape::default(),
            })
            .collect();
        let now_ns = clock.now_ns();
        let stamp = Stamp::new(&script, &identity, signer, clock.unix_ms(now_ns), 1);
        Phone {
            script,
            identity,
            signer: signer.clone(),
            plan: plan.clone(),
            clock,
            rooms,
            first_room,
            stamp,
            stamp_made_ns: now_ns,
            log_next: u64::try_from(index).unwrap_or(0),
            turn: 0,
            next_room: 0,
            outgoing: Vec::new(),
            written: 0,
            outstanding: 0,
            connection: 0,
            answered_up_to: vec![0],
            quota: u64::MAX,
            approved: None,
            others_sent: 0,
            held_back: 0,
        }
    }

    /// Begins a new connection: what was not written on the last one is gone.
    pub(crate) fn begin_connection(&mut self) {
        self.outgoing.clear();
        self.written = 0;
        self.connection += 1;
        self.answered_up_to.push(0);
        self.approved = None;
    }

    /// Puts the handshake into the outgoing bytes.
    pub(crate) fn hello(&mut self) {
        let now_ms = self.clock.unix_ms(self.clock.now_ns());
        let hello = up::hello(&self.script, &self.identity, &self.signer, now_ms);
        self.outgoing.extend_from_slice(&hello);
    }

    /// Says one echo, and before it whatever the mix puts in front. False when it may not: quota
    /// used up, or too much waiting to be written.
    pub(crate) fn say(&mut self, scheduled_ns: u64, now_ns: u64) -> bool {
        if self.quota == 0 {
            return false;
        }
        if self.outgoing.len() - self.written > OUTGOING_BYTES_MAX {
            self.held_back += 1;
            return false;
        }
        self.quota -= 1;
        self.refresh_stamp(now_ns);
        loop {
            let kind = self.plan.mix.kind(self.turn);
            self.turn += 1;
            let room = self.next_room;
            self.next_room = (room + 1) % self.rooms.len();
            let Some(other) = Kind::OTHERS.iter().position(|other| *other == kind) else {
                self.echo_in(room, scheduled_ns, now_ns);
                return true;
            };
            let log_number = self.next_log_number();
            self.rooms[room].others[other].append(0, log_number, &self.stamp, &mut self.outgoing);
            self.others_sent += 1;
        }
    }

    /// One echo in every room, so that the server knows them all.
    pub(crate) fn say_everywhere(&mut self) {
        let now_ns = self.clock.now_ns();
        self.refresh_stamp(now_ns);
        for room in 0..self.rooms.len() {
            self.echo_in(room, now_ns, now_ns);
        }
    }

    fn echo_in(&mut self, room: usize, scheduled_ns: u64, sent_ns: u64) {
        let log_number = self.next_log_number();
        let note = Note { scheduled_ns, sent_ns, connection: self.connection, log_number };
        let room = &mut self.rooms[room];
        let number = room.lane.send(note);
        room.echo.append(number, log_number, &self.stamp, &mut self.outgoing);
        self.outstanding += 1;
    }

    fn next_log_number(&mut self) -> u64 {
        let number = self.log_next;
        self.log_next += u64::try_from(self.plan.phones).unwrap_or(1);
        number
    }

    fn refresh_stamp(&mut self, now_ns: u64) {
        let age_ns = now_ns.saturating_sub(self.stamp_made_ns);
        if age_ns < self.plan.sign_every_ns {
            return;
        }
        self.stamp_made_ns = now_ns;
        let (now_ms, serial) = (self.clock.unix_ms(now_ns), self.stamp.serial + 1);
        self.stamp = Stamp::new(&self.script, &self.identity, &self.signer, now_ms, serial);
    }

    /// Puts the answer to a ping into the outgoing bytes.
    pub(crate) fn answer_ping(&mut self, server_timestamp: Option<&RawValue>, now_ns: u64) {
        let figures = Monitoring::plausible(0, self.rooms.len());
        let now_ms = self.clock.unix_ms(now_ns);
        let answer = up::ping_answer(
            &self.script,
            &self.identity,
            &self.signer,
            server_timestamp,
            figures,
            now_ms,
        );
        self.outgoing.extend_from_slice(&answer);
    }

    /// Accounts for the reply to message `number` of `room`.
    pub(crate) fn answered(&mut self, room: usize, number: u64) -> Verdict<Note> {
        let local = room.wrapping_sub(self.first_room);
        let Some(room) = self.rooms.get_mut(local) else { return Verdict::Foreign };
        let verdict = room.lane.answer(number);
        if let Verdict::InOrder(note) | Verdict::Ahead(note) | Verdict::Late(note) = &verdict {
            self.outstanding = self.outstanding.saturating_sub(1);
            if let Some(up_to) = usize::try_from(note.connection)
                .ok()
                .and_then(|connection| self.answered_up_to.get_mut(connection))
            {
                *up_to = note.log_number.max(*up_to);
            }
        }
        verdict
    }

    /// Whether this phone would read the reply, and every letter of it is what was asked for. The
    /// error says what was read instead.
    pub(crate) fn verify(&mut self, line: &[u8], found: &Found<'_>) -> Result<(), String> {
        let local = found.room.wrapping_sub(self.first_room);
        let Some(room) = self.rooms.get_mut(local) else {
            return Ok(()); // Foreign: the accounts say so.
        };
        if room.shape.fits(found) {
            return Ok(());
        }
        let expected = room.echo.expected_reply(found.room, found.number);
        let line = std::str::from_utf8(line).map_err(|_| "a line is not UTF-8".to_owned())?;
        match down::decode(&self.script, line) {
            Down::Text { room: name, text, .. }
                if name == room_name(found.room) && text == expected =>
            {
                room.shape.learn(found);
                Ok(())
            }
            other => Err(format!("reply {} in room {} reads {other:?}", found.number, found.room)),
        }
    }

    /// Writes as much as the socket takes now. Order of frames is order of building.
    pub(crate) fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.written < self.outgoing.len() {
            match stream.try_write(&self.outgoing[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }

    /// Whether bytes wait until the socket takes more.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Echoes without a reply.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Leaves out of the account what was said before phone and rooms were approved.
    pub(crate) fn forget_unanswered(&mut self) {
        for room in &mut self.rooms {
            room.lane.forget_unanswered();
        }
        self.outstanding = 0;
    }

    /// The sums over all rooms.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for room in &self.rooms {
            totals.add(room.lane.totals());
        }
        totals
    }

    /// Every echo without a reply, and whether the server had it for certain: something later on
    /// the same connection was answered.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (&Note, bool)> {
        let notes = self.rooms.iter().flat_map(|room| room.lane.unanswered());
        notes.map(|(_, note)| {
            let connection = usize::try_from(note.connection).unwrap_or(usize::MAX);
            let up_to = self.answered_up_to.get(connection).copied().unwrap_or(0);
            (note, note.log_number < up_to)
        })
    }
}
