//! Random clients against a naive model of what was delivered, acknowledged and buffered.
//!
//! The model keeps every delivery for ever in one list and looks through all of it each time, so that it
//! shares no idea with the state machine. A failing seed is in the message of the failure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use naru_wire::stomp::session::{Action, Delivery, Outcome, Session, SessionLimits, Step};
use naru_wire::stomp::{Command, Frame, Headers, Version};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).expect("it is small")
    }
}

#[derive(Clone, Debug)]
struct Delivered {
    ack: String,
    subscription: String,
    is_cumulative: bool,
    token: u64,
    is_settled: bool,
}

/// What an action does, without the machine's own numbers.
#[derive(Debug, PartialEq)]
enum Effect {
    Nothing,
    Sent(String),
    Settled(Outcome, Vec<u64>),
    Ended(Vec<u64>),
    Subscribed,
    Refused,
}

#[derive(Clone, Debug)]
enum Buffered {
    Send(String),
    Settle(usize, Outcome),
}

/// Everything that was ever delivered, with the index as the number of the delivery.
#[derive(Default)]
struct Model {
    deliveries: Vec<Delivered>,
    /// Id and mode of those that are open.
    subscriptions: Vec<(String, &'static str)>,
    transactions: Vec<(String, Vec<Buffered>)>,
}

impl Model {
    fn settle(&mut self, index: usize, outcome: Outcome) -> Effect {
        let named = self.deliveries[index].clone();
        let mut tokens = Vec::new();
        for (at, delivered) in self.deliveries.iter_mut().enumerate() {
            let is_meant = at == index
                || named.is_cumulative
                    && at < index
                    && delivered.subscription == named.subscription;
            if is_meant && !delivered.is_settled {
                delivered.is_settled = true;
                tokens.push(delivered.token);
            }
        }
        if tokens.is_empty() { Effect::Nothing } else { Effect::Settled(outcome, tokens) }
    }

    fn unsettled(&self, subscription: &str) -> Vec<u64> {
        let of_it = self.deliveries.iter().filter(|have| have.subscription == subscription);
        of_it.filter(|have| !have.is_settled).map(|have| have.token).collect()
    }

    fn end(&mut self, subscription: &str) -> Vec<u64> {
        let tokens = self.unsettled(subscription);
        for delivered in &mut self.deliveries {
            delivered.is_settled |= delivered.subscription == subscription;
        }
        self.subscriptions.retain(|(id, _)| id != subscription);
        tokens
    }

    fn buffer(&mut self, name: &str, what: Buffered) -> Effect {
        match self.transactions.iter_mut().find(|(have, _)| have == name) {
            Some((_, steps)) => {
                steps.push(what);
                Effect::Nothing
            }
            None => Effect::Refused,
        }
    }
}

struct Run {
    session: Session,
    version: Version,
    model: Model,
    next_token: u64,
    now: Instant,
}

const WINDOW: usize = 5;
/// A transaction does not expire in these runs, and none is too large.
const STEPS: usize = 120;

impl Run {
    fn new(version: Version) -> Run {
        let limits = SessionLimits { unacked_max: 5, ..SessionLimits::default() };
        let mut session = Session::new(Arc::new(limits), None);
        let now = Instant::now();
        let connect = frame(Command::Connect, &[("accept-version", version.name())], "");
        let _accepted = session.on_frame(connect, now).expect("it may connect");
        session.accept();
        Run { session, version, model: Model::default(), next_token: 0, now }
    }

    fn say(&mut self, command: Command, headers: &[(&str, &str)], body: &str) -> Vec<Effect> {
        self.now += Duration::from_millis(1);
        match self.session.on_frame(frame(command, headers, body), self.now) {
            Ok(accepted) => effects(accepted.action),
            Err(_) => vec![Effect::Refused],
        }
    }

    /// One random thing. Returns what the machine did and what it should have done.
    fn step(&mut self, dice: &mut Dice, number: usize) -> (Vec<Effect>, Vec<Effect>) {
        match dice.roll(12) {
            0 => {
                let mode = ["auto", "client", "client-individual"][dice.roll(3)];
                let id = format!("s{number}");
                let headers = [("id", id.as_str()), ("destination", "/queue/a"), ("ack", mode)];
                self.model.subscriptions.push((id.clone(), mode));
                (self.say(Command::Subscribe, &headers, ""), vec![Effect::Subscribed])
            }
            1 if !self.model.subscriptions.is_empty() => {
                let at = dice.roll(self.model.subscriptions.len());
                let id = self.model.subscriptions[at].0.clone();
                let done = self.say(Command::Unsubscribe, &[("id", &id)], "");
                (done, vec![Effect::Ended(self.model.end(&id))])
            }
            2..=5 if !self.model.subscriptions.is_empty() => {
                self.deliver(dice);
                (vec![], vec![])
            }
            6..=8 if !self.model.deliveries.is_empty() => self.acknowledge(dice),
            9 => self.send(dice, number),
            10 => {
                let name = ["t0", "t1"][dice.roll(2)];
                if self.model.transactions.iter().any(|(have, _)| have == name) {
                    return self.end_transaction(dice, name);
                }
                self.model.transactions.push((name.to_owned(), Vec::new()));
                (self.say(Command::Begin, &[("transaction", name)], ""), vec![Effect::Nothing])
            }
            _ => (vec![], vec![]),
        }
    }

    fn deliver(&mut self, dice: &mut Dice) {
        let at = dice.roll(self.model.subscriptions.len());
        let (id, mode) = self.model.subscriptions[at].clone();
        let key = self.session.subscriptions().find(|have| have.id() == Some(&id));
        let key = key.expect("the machine has it").key();
        self.next_token += 1;
        let delivery = self.session.deliver(key, self.next_token);
        match delivery {
            Delivery::Plain => assert_eq!(mode, "auto"),
            Delivery::WindowFull => assert_eq!(self.model.unsettled(&id).len(), WINDOW),
            Delivery::Gone => panic!("the subscription is open"),
            Delivery::Acknowledged(ack) => {
                assert_ne!(mode, "auto");
                assert!(self.model.unsettled(&id).len() < WINDOW);
                let ack = ack.to_string();
                assert!(self.model.deliveries.iter().all(|have| have.ack != ack), "used twice");
                self.model.deliveries.push(Delivered {
                    ack,
                    subscription: id,
                    is_cumulative: mode == "client",
                    token: self.next_token,
                    is_settled: false,
                });
            }
        }
    }

    /// Acknowledges any delivery there ever was: early, late, twice, after its subscription.
    fn acknowledge(&mut self, dice: &mut Dice) -> (Vec<Effect>, Vec<Effect>) {
        let index = dice.roll(self.model.deliveries.len());
        let delivered = self.model.deliveries[index].clone();
        let (command, outcome) = match dice.roll(2) {
            0 if self.version > Version::V1_0 => (Command::Nack, Outcome::Refused),
            _ => (Command::Ack, Outcome::Consumed),
        };
        let message_id = format!("a~message~{}", delivered.ack);
        let mut headers = match self.version {
            Version::V1_2 => vec![("id", delivered.ack.as_str())],
            Version::V1_1 => {
                vec![("message-id", message_id.as_str()), ("subscription", &delivered.subscription)]
            }
            Version::V1_0 => vec![("message-id", message_id.as_str())],
        };
        if dice.roll(3) == 0
            && let Some((name, _)) = self.model.transactions.first()
        {
            let name = name.clone();
            headers.push(("transaction", &name));
            let done = self.say(command, &headers, "");
            return (done, vec![self.model.buffer(&name, Buffered::Settle(index, outcome))]);
        }
        (self.say(command, &headers, ""), vec![self.model.settle(index, outcome)])
    }

    fn send(&mut self, dice: &mut Dice, number: usize) -> (Vec<Effect>, Vec<Effect>) {
        let body = number.to_string();
        let mut headers = vec![("destination", "/queue/a")];
        if dice.roll(2) == 0
            && let Some((name, _)) = self.model.transactions.last()
        {
            let name = name.clone();
            headers.push(("transaction", &name));
            let done = self.say(Command::Send, &headers, &body);
            return (done, vec![self.model.buffer(&name, Buffered::Send(body))]);
        }
        (self.say(Command::Send, &headers, &body), vec![Effect::Sent(body)])
    }

    fn end_transaction(&mut self, dice: &mut Dice, name: &str) -> (Vec<Effect>, Vec<Effect>) {
        let at = self.model.transactions.iter().position(|(have, _)| have == name);
        let (_, steps) = self.model.transactions.remove(at.expect("it is open"));
        if dice.roll(3) == 0 {
            let done = self.say(Command::Abort, &[("transaction", name)], "");
            return (done, vec![Effect::Nothing]);
        }
        let done = self.say(Command::Commit, &[("transaction", name)], "");
        let mut expected: Vec<Effect> = steps
            .into_iter()
            .map(|step| match step {
                Buffered::Send(body) => Effect::Sent(body),
                Buffered::Settle(index, outcome) => self.model.settle(index, outcome),
            })
            .filter(|effect| *effect != Effect::Nothing)
            .collect();
        if expected.is_empty() {
            expected.push(Effect::Nothing);
        }
        (done, expected)
    }
}

fn frame(command: Command, headers: &[(&str, &str)], body: &str) -> Frame {
    let headers: Headers = headers.iter().copied().collect();
    Frame { command, headers, body: body.to_owned().into() }
}

fn effects(action: Action) -> Vec<Effect> {
    let sent = |body: &[u8]| Effect::Sent(String::from_utf8_lossy(body).into_owned());
    match action {
        Action::Nothing => vec![Effect::Nothing],
        Action::Send(send) => vec![sent(&send.body)],
        Action::Settle(settle) => vec![Effect::Settled(settle.outcome, settle.deliveries)],
        Action::Unsubscribe(unsettled) => vec![Effect::Ended(unsettled.deliveries)],
        Action::Subscribe(_) => vec![Effect::Subscribed],
        Action::Commit(steps) => steps
            .into_iter()
            .map(|step| match step {
                Step::Send(send) => sent(&send.body),
                Step::Settle(settle) => Effect::Settled(settle.outcome, settle.deliveries),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn acknowledgements_and_transactions_are_those_of_a_naive_model() {
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let version = [Version::V1_0, Version::V1_1, Version::V1_2][dice.roll(3)];
        let mut run = Run::new(version);
        for number in 0..STEPS {
            let (done, expected) = run.step(&mut dice, number);
            assert_eq!(done, expected, "seed {seed}, step {number}");
        }
        let mut left: Vec<u64> =
            run.session.close().into_iter().flat_map(|ended| ended.deliveries).collect();
        left.sort_unstable();
        let ids: Vec<String> = run.model.subscriptions.iter().map(|(id, _)| id.clone()).collect();
        let mut expected: Vec<u64> = ids.iter().flat_map(|id| run.model.end(id)).collect();
        expected.sort_unstable();
        assert_eq!(left, expected, "seed {seed}");
    }
}
