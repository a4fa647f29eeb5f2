//! Who holds the phone: plays steps or reads what is typed, prints events, remembers replies and
//! decides whether everything expected has come.

use std::collections::VecDeque;
use std::io::BufRead as _;

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::PhoneArgs;
use super::event::Event;
use super::link::Order;
use super::steps::{self, Step};
use crate::proto::up::{self, Chat};
use crate::text_table::{note, print_line};
use crate::wall;

const TYPED_LINES_MAX: usize = 64;
/// Replies kept for later `wait-reply` steps; a person who only types never takes any.
const UNREAD_MAX: usize = 10_000;
/// Where typed input ends (a pipe), replies to the last lines are still waited for this long.
const AFTER_INPUT: Duration = Duration::from_secs(1);

/// The person at the phone.
pub(super) struct Person {
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<Event>,
    json: bool,
    timeout: Duration,
    linger: Duration,
    room: String,
    sender: String,
    said: u64,
    welcomed: bool,
    /// Replies that no `wait-reply` has taken yet.
    unread: VecDeque<String>,
    /// Expectations not yet met, in order.
    expected: VecDeque<String>,
}

impl Person {
    pub(super) fn new(
        args: &PhoneArgs,
        orders: mpsc::Sender<Order>,
        events: mpsc::Receiver<Event>,
    ) -> Person {
        Person {
            orders,
            events,
            json: args.json,
            timeout: args.timeout,
            linger: args.linger,
            room: args.room.clone(),
            sender: args.sender.clone(),
            said: 0,
            welcomed: false,
            unread: VecDeque::new(),
            expected: args.expect.iter().cloned().collect(),
        }
    }

    /// Plays all steps; false when a reply that was waited for did not come.
    pub(super) async fn play(&mut self, steps: &[Step]) -> bool {
        for step in steps {
            if *step == Step::Quit {
                break;
            }
            if !self.take(step).await {
                return false;
            }
        }
        let deadline = Instant::now() + self.timeout;
        while !self.expected.is_empty() {
            if !self.listen_until(deadline).await {
                let missing: Vec<&str> = self.expected.iter().map(String::as_str).collect();
                note(&format!("no reply contained {missing:?}"));
                return false;
            }
        }
        self.listen_for(self.linger).await;
        true
    }

    /// Reads lines from standard input until they end.
    pub(super) async fn converse(&mut self) -> anyhow::Result<bool> {
        let (typed, mut lines) = mpsc::channel::<String>(TYPED_LINES_MAX);
        // A thread of its own: a blocking read cannot be cancelled, and ends with the process.
        std::thread::Builder::new().name("typed".to_owned()).spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                if typed.blocking_send(line).is_err() {
                    return;
                }
            }
        })?;
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.notice(event),
                    None => return Ok(true),
                },
                line = lines.recv() => match line.as_deref().map(steps::parse_typed) {
                    None => {
                        self.listen_for(AFTER_INPUT.max(self.linger)).await;
                        return Ok(self.expected.is_empty());
                    }
                    Some(Err(why)) => note(&format!("{why}; /help lists what there is")),
                    Some(Ok(None)) => {}
                    Some(Ok(Some(Step::Quit))) => return Ok(true),
                    Some(Ok(Some(step))) => {
                        self.take(&step).await;
                    }
                },
            }
        }
    }

    /// Does one step; false when something that was waited for did not come.
    async fn take(&mut self, step: &Step) -> bool {
        match step {
            Step::Room(room) => self.room.clone_from(room),
            Step::As(sender) => self.sender.clone_from(sender),
            Step::Say(text) => self.say(text).await,
            Step::Flood(count, text) => {
                for number in 1..=*count {
                    self.say(&format!("{text} {number}")).await;
                }
            }
            Step::WaitReply(pattern) => return self.wait_reply(pattern.as_deref()).await,
            Step::WaitWelcome => return self.wait_welcome().await,
            Step::Silence(time) => return self.stay_silent(*time).await,
            Step::Sleep(time) => self.listen_for(*time).await,
            Step::Raw(line) => self.order(Order::Raw(line.clone())).await,
            Step::Drop => self.order(Order::Drop).await,
            Step::Reconnect => {
                self.welcomed = false;
                self.order(Order::Reconnect).await;
            }
            Step::Help => note(steps::HELP),
            Step::Quit => {}
        }
        true
    }

    async fn say(&mut self, text: &str) {
        let text = up::clean(text);
        if text.is_empty() {
            return; // As on a phone: nothing is left to send.
        }
        let (room, channel_id) = match self.room.rsplit_once('=') {
            Some((room, id)) if id.bytes().all(|byte| byte.is_ascii_digit()) => {
                (room.to_owned(), id.to_owned())
            }
            _ => (self.room.clone(), format!("18{:015}", hash(&self.room) % 1_000_000_000_000_000)),
        };
        self.said += 1;
        // Like real ids: 64 bits as digits, never the same twice.
        let log_id = format!("3{:013}{:05}", wall::unix_ms(), self.said % 100_000);
        let chat = Chat {
            room,
            channel_id: Some(channel_id),
            log_id: Some(log_id),
            user_hash: Some(format!("{:016x}", hash(&format!("{}/{}", self.room, self.sender)))),
            sender: self.sender.clone(),
            text,
            is_group_chat: true,
            is_mention: false,
        };
        self.order(Order::Say(chat)).await;
    }

    /// Hands an order over while events keep being read, so that neither side waits for ever.
    async fn order(&mut self, order: Order) {
        let orders = self.orders.clone();
        let handing = orders.send(order);
        tokio::pin!(handing);
        loop {
            tokio::select! {
                // The phone ends only after its orders, so this cannot fail before `quit`.
                handed = &mut handing => return handed.unwrap_or_default(),
                Some(event) = self.events.recv() => self.notice(event),
            }
        }
    }

    async fn wait_reply(&mut self, pattern: Option<&str>) -> bool {
        let deadline = Instant::now() + self.timeout;
        loop {
            while let Some(reply) = self.unread.pop_front() {
                if pattern.is_none_or(|pattern| reply.contains(pattern)) {
                    return true;
                }
            }
            if !self.listen_until(deadline).await {
                note(&match pattern {
                    Some(pattern) => format!("no reply with {pattern:?} in time"),
                    None => "no reply in time".to_owned(),
                });
                return false;
            }
        }
    }

    async fn wait_welcome(&mut self) -> bool {
        let deadline = Instant::now() + self.timeout;
        while !self.welcomed {
            if !self.listen_until(deadline).await {
                note("no answer to the handshake in time");
                return false;
            }
        }
        true
    }

    async fn stay_silent(&mut self, time: Duration) -> bool {
        self.unread.clear();
        self.listen_for(time).await;
        match self.unread.front() {
            Some(reply) => {
                note(&format!("a reply where silence was expected: {reply:?}"));
                false
            }
            None => true,
        }
    }

    async fn listen_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while self.listen_until(deadline).await {}
    }

    /// Takes in one event; false at the deadline.
    async fn listen_until(&mut self, deadline: Instant) -> bool {
        match tokio::time::timeout_at(deadline, self.events.recv()).await {
            Ok(Some(event)) => {
                self.notice(event);
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn keep_unread(&mut self, reply: String) {
        if self.unread.len() == UNREAD_MAX {
            self.unread.pop_front();
        }
        self.unread.push_back(reply);
    }

    fn notice(&mut self, event: Event) {
        match &event {
            Event::Welcome { .. } => self.welcomed = true,
            Event::Connected { .. } => self.welcomed = false,
            Event::Reply { text, .. } => {
                if self.expected.front().is_some_and(|expected| text.contains(expected)) {
                    self.expected.pop_front();
                }
                self.keep_unread(text.clone());
            }
            Event::Media { kind, items, .. } => {
                self.keep_unread(format!("{kind}: {} items", items.len()));
            }
            _ => {}
        }
        print_line(&match self.json {
            true => serde_json::to_string(&event).unwrap_or_default(),
            false => event.to_string(),
        });
    }
}

/// FNV-1a: stable ids from names.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
