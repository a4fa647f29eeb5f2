//! What herd, idle and kill runs share: phones as plain tasks of the caller's runtime, their first
//! meeting with the server, and approval through the API.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::connect::{self, RunClock};
use super::phone::{Phone, Plan};
use super::reader::{ReadOnce, Reader, Scratch, Tally};
use crate::api::Api;
use crate::target::{ApiArgs, Target, TargetArgs};

/// Replies here are few; thousands of connections share no thread-local buffer.
const SCRATCH_BYTES: usize = 8 << 10;
const CONNECTING_MAX: usize = 128;
const APPROVAL_PAUSE: Duration = Duration::from_millis(300);
const APPROVAL_ROUNDS_MAX: usize = 100;

/// Approves devices and rooms of this run until two looks in a row found nothing more to approve.
/// Returns how many were approved.
pub(crate) async fn approve_until_quiet(api: &Api, device_prefix: &str) -> anyhow::Result<usize> {
    let ours = |item: &serde_json::Value| {
        // Rooms name their device under another key; whatever carries our prefix is ours.
        let text = item.to_string();
        text.contains(device_prefix) || text.contains("벤치방-")
    };
    let (mut approved, mut quiet) = (0, 0);
    for _ in 0..APPROVAL_ROUNDS_MAX {
        let changed =
            api.approve_all("devices", ours).await? + api.approve_all("rooms", ours).await?;
        approved += changed;
        quiet = if changed == 0 { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(approved);
        }
        tokio::time::sleep(APPROVAL_PAUSE).await;
    }
    bail!("new devices and rooms keep waiting for approval")
}

/// A phone with the connection it has now.
pub(crate) struct Session {
    pub(crate) phone: Arc<Mutex<Phone>>,
    pub(crate) tally: Tally,
    stream: TcpStream,
    reader: Reader,
    scratch: Scratch,
    clock: RunClock,
}

impl Session {
    pub(crate) async fn open(
        phone: Arc<Mutex<Phone>>,
        target: &Target,
        clock: RunClock,
        index: usize,
    ) -> io::Result<Session> {
        let stream = connect::open(target.address, target.source(index)).await?;
        Ok(Session {
            phone,
            tally: Tally::default(),
            stream,
            reader: Reader::default(),
            scratch: Scratch::new(SCRATCH_BYTES),
            clock,
        })
    }

    /// Writes what is waiting, then waits for the socket and reads once. Cancel safe.
    pub(crate) async fn step(&mut self) -> io::Result<ReadOnce> {
        let interest = {
            let mut phone = self.phone.lock();
            // A failed write is no reason to leave: what the server sent before is still to be read.
            match phone.flush(&self.stream) {
                Ok(()) if phone.has_outgoing() => Interest::READABLE | Interest::WRITABLE,
                _ => Interest::READABLE,
            }
        };
        self.stream.ready(interest).await?;
        let clock = self.clock;
        self.reader.read_once(&self.stream, &self.phone, &mut self.scratch, &mut self.tally, || {
            clock.now_ns()
        })
    }

    /// Steps until all echoes are answered or the connection ends; true when all are answered.
    pub(crate) async fn until_answered(&mut self) -> bool {
        while self.phone.lock().outstanding() > 0 {
            match self.step().await {
                Ok(ReadOnce::End) | Err(_) => return false,
                Ok(_) => {}
            }
        }
        true
    }

    /// Steps until the connection ends.
    pub(crate) async fn until_end(&mut self) {
        while !matches!(self.step().await, Ok(ReadOnce::End) | Err(_)) {}
    }
}

/// The phones of a run and what they need to connect.
pub(crate) struct Field {
    pub(crate) target: Arc<Target>,
    pub(crate) clock: RunClock,
    pub(crate) phones: Vec<Arc<Mutex<Phone>>>,
}

impl Field {
    pub(crate) async fn new(target: &TargetArgs, plan: Arc<Plan>) -> anyhow::Result<Field> {
        let target = Arc::new(target.resolve().await?);
        let clock = RunClock::start();
        let signer = Arc::new(target.signer.clone());
        let phones = (0..plan.phones)
            .map(|index| Arc::new(Mutex::new(Phone::new(&target, &signer, &plan, clock, index))))
            .collect();
        Ok(Field { target, clock, phones })
    }

    /// Connects every phone; each sends its handshake and `echoes` messages.
    pub(crate) async fn meet(&self, echoes: usize) -> anyhow::Result<Vec<Session>> {
        let mut sessions = Vec::with_capacity(self.phones.len());
        let indexes: Vec<usize> = (0..self.phones.len()).collect();
        for batch in indexes.chunks(CONNECTING_MAX) {
            let mut opening = JoinSet::new();
            for &index in batch {
                let (phone, target) = (self.phones[index].clone(), self.target.clone());
                let clock = self.clock;
                opening.spawn(async move { Session::open(phone, &target, clock, index).await });
            }
            while let Some(opened) = opening.join_next().await {
                let session = opened.context("a connecting task ended")?;
                let session = session
                    .with_context(|| format!("cannot connect to {}", self.target.address))?;
                let now_ns = self.clock.now_ns();
                let mut phone = session.phone.lock();
                phone.begin_connection();
                phone.hello();
                for _ in 0..echoes {
                    phone.say(now_ns, now_ns);
                }
                drop(phone);
                sessions.push(session);
            }
        }
        Ok(sessions)
    }

    /// Lets all sessions step until every message is answered, approving phones on the way.
    pub(crate) async fn settle(
        &self,
        api: &ApiArgs,
        sessions: Vec<Session>,
        timeout: Duration,
    ) -> anyhow::Result<Vec<Session>> {
        if let Some(api) = Api::new(api)? {
            // Frames must leave before there is anything to approve.
            let mut sessions = sessions;
            for session in &mut sessions {
                session.phone.lock().flush(&session.stream)?;
            }
            let changed = approve_until_quiet(&api, self.target.device_prefix()).await?;
            if changed > 0 {
                for session in &sessions {
                    let mut phone = session.phone.lock();
                    phone.forget_unanswered();
                    phone.say_everywhere();
                }
            }
            return self.answered(sessions, timeout).await;
        }
        self.answered(sessions, timeout).await
    }

    async fn answered(
        &self,
        sessions: Vec<Session>,
        timeout: Duration,
    ) -> anyhow::Result<Vec<Session>> {
        let started = Instant::now();
        let count = sessions.len();
        let mut stepping = JoinSet::new();
        for mut session in sessions {
            stepping.spawn(async move { session.until_answered().await.then_some(session) });
        }
        let mut done = Vec::with_capacity(count);
        while let Ok(Some(joined)) =
            tokio::time::timeout(timeout.saturating_sub(started.elapsed()), stepping.join_next())
                .await
        {
            done.extend(joined.context("a phone's task ended")?);
        }
        if done.len() < count {
            let denied = self.phones.iter().filter(|p| p.lock().approved == Some(false)).count();
            bail!(
                "{} of {count} phones got no reply to their first message; {denied} were told that \
                 they are not approved. Approve devices and rooms (--api, or approve_devices and \
                 approve_rooms = \"auto\"), and check secret and salt",
                count - done.len()
            );
        }
        Ok(done)
    }
}

/// One phone that comes and goes by itself.
pub(crate) struct Caller {
    phone: Arc<Mutex<Phone>>,
    target: Arc<Target>,
    clock: RunClock,
    index: usize,
}

impl Field {
    /// Phone `index`, for a task of its own.
    pub(crate) fn caller(&self, index: usize) -> Caller {
        let (phone, target) = (self.phones[index].clone(), self.target.clone());
        Caller { phone, target, clock: self.clock, index }
    }
}

impl Caller {
    pub(crate) async fn open(&self) -> io::Result<Session> {
        Session::open(self.phone.clone(), &self.target, self.clock, self.index).await
    }

    /// Begins a connection: what the last one did not write is gone.
    pub(crate) fn greet(&self) {
        let mut phone = self.phone.lock();
        phone.begin_connection();
        phone.hello();
    }

    pub(crate) fn say(&self) {
        let now_ns = self.clock.now_ns();
        self.phone.lock().say(now_ns, now_ns);
    }
}
