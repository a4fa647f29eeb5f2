//! The state machine: what it allows, what it asks of the gateway, and what it refuses with which words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use naru_domain::{Epoch, Offset, Position};
use naru_wire::stomp::session::{
    AckMode, Action, Delivery, Fatal, Outcome, Receipts, Refusal, Session, SessionLimits, Settle,
    State, Step, SubscriptionKey, Unsettled,
};
use naru_wire::stomp::{
    Command, Decoder, Event, HeartBeat, Limits, Version, encode_client_frame, encode_error,
};

use crate::checks::read_as;

/// A client and its session, with the codec between them.
struct Client {
    session: Session,
    version: Version,
    now: Instant,
}

type Headers<'a> = &'a [(&'a str, &'a str)];

impl Client {
    fn connected_with(version: Version, limits: SessionLimits) -> Client {
        let mut session = Session::new(Arc::new(limits), None);
        let mut client_headers = vec![("host", "example")];
        if version > Version::V1_0 {
            client_headers.push(("accept-version", version.name()));
        }
        let frame = encode_client_frame(version, Command::Connect, &client_headers, b"");
        let frame = read_as(version, &frame).expect("a frame").remove(0);
        let now = Instant::now();
        let accepted = session.on_frame(frame, now).expect("it may connect");
        assert!(matches!(accepted.action, Action::Connect(_)));
        session.accept();
        Client { session, version, now }
    }

    fn connected(version: Version) -> Client {
        Client::connected_with(version, SessionLimits::default())
    }

    fn try_say(
        &mut self,
        command: Command,
        headers: Headers<'_>,
        body: &[u8],
    ) -> Result<(Action, Option<Box<str>>), Fatal> {
        let bytes = encode_client_frame(self.version, command, headers, body);
        let frame = read_as(self.version, &bytes).expect("a frame").remove(0);
        let accepted = self.session.on_frame(frame, self.now)?;
        Ok((accepted.action, accepted.receipt))
    }

    #[track_caller]
    fn say(&mut self, command: Command, headers: Headers<'_>) -> Action {
        self.try_say(command, headers, b"").expect("it is allowed").0
    }

    #[track_caller]
    fn refused(mut self, command: Command, headers: Headers<'_>, refusal: Refusal) {
        let fatal = self.try_say(command, headers, b"").expect_err("it is refused");
        assert_eq!(fatal.refusal, refusal);
        assert_eq!(self.session.state(), State::Closed);
        assert!(self.try_say(command, headers, b"").expect("no effect").0 == Action::Nothing);
    }

    #[track_caller]
    fn subscribe(&mut self, headers: Headers<'_>) -> SubscriptionKey {
        match self.say(Command::Subscribe, headers) {
            Action::Subscribe(subscribe) => subscribe.key,
            other => panic!("{other:?}"),
        }
    }

    /// Delivers tokens 100, 101, … and returns what the client would acknowledge them by.
    #[track_caller]
    fn deliver(&mut self, key: SubscriptionKey, count: u64) -> Vec<String> {
        (100..100 + count)
            .map(|token| match self.session.deliver(key, token) {
                Delivery::Acknowledged(ack) if self.version == Version::V1_2 => ack.to_string(),
                Delivery::Acknowledged(ack) => format!("m{token}~{ack}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

fn settled(key: SubscriptionKey, outcome: Outcome, tokens: &[u64]) -> Action {
    Action::Settle(Settle { subscription: key, outcome, deliveries: tokens.to_vec() })
}

const SEND: Headers<'static> = &[("destination", "/queue/a")];

#[test]
fn nothing_has_an_effect_before_connect_and_connected() {
    for command in Command::ALL {
        let mut session = Session::new(Arc::default(), None);
        let bytes = encode_client_frame(Version::V1_2, command, SEND, b"");
        let frame = read_as(Version::V1_2, &bytes).expect("a frame").remove(0);
        match session.on_frame(frame.clone(), Instant::now()) {
            Ok(accepted) => {
                assert!(matches!(command, Command::Connect | Command::Stomp));
                assert!(matches!(accepted.action, Action::Connect(_)));
                // It is not let in yet, and does not wait.
                let fatal = session.on_frame(frame, Instant::now()).expect_err("too early");
                assert_eq!(fatal.refusal, Refusal::NotConnected);
            }
            Err(fatal) => assert_eq!(fatal.refusal, Refusal::NotConnected),
        }
        session.accept();
        assert_eq!(session.state(), State::Closed);
    }
}

#[test]
fn connect_says_who_wants_what() {
    let connect = |bytes: &[u8], subprotocol| {
        let mut session = Session::new(Arc::default(), subprotocol);
        let mut input = bytes;
        let event = Decoder::new(Limits::default()).decode(&mut input).expect("a frame");
        let Some(Event::Frame(frame)) = event else { panic!("no frame") };
        session.on_frame(frame, Instant::now()).map(|accepted| {
            assert_eq!(accepted.receipt, None);
            match accepted.action {
                Action::Connect(connect) => connect,
                other => panic!("{other:?}"),
            }
        })
    };
    let frame = b"STOMP\naccept-version:1.1,1.2\nhost:h\nlogin: ann\npasscode:p:w \n\
                  heart-beat:1000,2000\nreceipt:1\nauthorization:Bearer t\n\n\0";
    let connected = connect(frame, None).expect("it may connect");
    assert_eq!(connected.version, Version::V1_2);
    assert_eq!(connected.heart_beat, HeartBeat { can_send_ms: 1000, wants_ms: 2000 });
    assert_eq!(connected.host(), Some("h"));
    assert_eq!((connected.login(), connected.passcode()), (Some(" ann"), Some("p:w ")));
    assert_eq!(connected.headers.get("authorization"), Some("Bearer t"));
    assert!(!format!("{connected:?}").contains("Bearer"));

    // 1.0 is padded, and has no heart-beats.
    let frame = b"CONNECT\nlogin: ann\npasscode: pw\nheart-beat:x\n\n\0";
    let connected = connect(frame, None).expect("it may connect");
    assert_eq!((connected.version, connected.heart_beat), (Version::V1_0, HeartBeat::default()));
    assert_eq!((connected.login(), connected.passcode()), (Some("ann"), Some("pw")));

    let connected = connect(b"CONNECT\n\n\0", Some(Version::V1_1)).expect("it may connect");
    assert_eq!(connected.version, Version::V1_1);

    let refused = |frame: &[u8]| connect(frame, None).expect_err("refused");
    let fatal = refused(b"CONNECT\naccept-version:2.0,3.1\n\n\0");
    let error = encode_error(None, &fatal.error_frame());
    assert_eq!(
        String::from_utf8_lossy(&error),
        "ERROR\nmessage:no version of STOMP in common\ncode:unsupported_version\n\
         version:1.0,1.1,1.2\ncontent-type:text/plain\ncontent-length:45\n\n\
         Supported protocol versions are 1.0,1.1,1.2.\n\0",
    );
    let fatal = refused(b"CONNECT\naccept-version:1.2\nheart-beat:often\n\n\0");
    assert_eq!(fatal.refusal, Refusal::BadHeartBeat);
}

#[test]
fn commands_that_clients_do_not_have_are_refused() {
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        for command in [Command::Connected, Command::Message, Command::Receipt, Command::Error] {
            Client::connected(version).refused(command, &[], Refusal::UnexpectedCommand);
        }
        for command in [Command::Connect, Command::Stomp] {
            Client::connected(version).refused(command, &[], Refusal::AlreadyConnected);
        }
    }
    Client::connected(Version::V1_0).refused(Command::Nack, &[], Refusal::UnexpectedCommand);
}

#[test]
fn headers_that_a_command_needs_are_demanded() {
    let missing = |version, command, headers: Headers<'_>, header| {
        Client::connected(version).refused(command, headers, Refusal::MissingHeader { header });
    };
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        missing(version, Command::Send, &[], "destination");
        missing(version, Command::Send, &[("destination", "")], "destination");
        missing(version, Command::Subscribe, &[("id", "0")], "destination");
        missing(version, Command::Unsubscribe, &[], "id");
        for command in [Command::Begin, Command::Commit, Command::Abort] {
            missing(version, command, &[("transaction", "")], "transaction");
        }
    }
    for version in [Version::V1_1, Version::V1_2] {
        missing(version, Command::Subscribe, SEND, "id");
        missing(version, Command::Unsubscribe, SEND, "id");
    }
    missing(Version::V1_0, Command::Ack, &[], "message-id");
    missing(Version::V1_1, Command::Ack, &[("subscription", "0")], "message-id");
    missing(Version::V1_1, Command::Nack, &[("message-id", "m~0-1")], "subscription");
    missing(Version::V1_2, Command::Ack, &[("message-id", "m"), ("subscription", "0")], "id");
}

#[test]
fn a_send_is_handed_on_with_its_own_headers_only() {
    let mut client = Client::connected(Version::V1_2);
    let headers = [
        ("destination", "/topic/a"),
        ("content-type", "text/plain"),
        ("receipt", "r1"),
        ("x-mine", "1"),
        ("message-id", "forged"),
        ("Passcode", "s3cret"),
        ("idempotency-key", "k1"),
    ];
    let (action, receipt) = client.try_say(Command::Send, &headers, b"a\0b").expect("allowed");
    let Action::Send(send) = action else { panic!("{action:?}") };
    assert_eq!((send.destination(), send.content_type()), ("/topic/a", Some("text/plain")));
    assert_eq!((&send.body[..], send.idempotency_key()), (&b"a\0b"[..], Some("k1")));
    assert_eq!(send.user_headers().collect::<Vec<_>>(), [("x-mine", "1")]);
    assert_eq!(receipt.as_deref(), Some("r1"));
}

#[test]
fn a_subscription_says_where_it_was_and_how_it_acknowledges() {
    let mut client = Client::connected(Version::V1_2);
    let headers = [
        ("id", "sub-0"),
        ("destination", "/topic/a"),
        ("ack", "client-individual"),
        ("last-position", "7:41"),
        ("durable-id", "phone-1"),
        ("selector", "colour = 'red'"),
    ];
    let Action::Subscribe(subscribe) = client.say(Command::Subscribe, &headers) else {
        panic!("no subscription");
    };
    assert_eq!(subscribe.mode, AckMode::ClientIndividual);
    let position = Position { epoch: Epoch(7), offset: Offset(41) };
    assert_eq!(subscribe.last_position, Some(position));
    assert_eq!(subscribe.durable_id(), Some("phone-1"));
    assert_eq!(subscribe.destination(), "/topic/a");
    let subscription = client.session.subscription(subscribe.key).expect("it is known");
    assert_eq!((subscription.id(), subscription.destination()), (Some("sub-0"), "/topic/a"));

    let refused = |headers: Headers<'_>, refusal| {
        Client::connected(Version::V1_2).refused(Command::Subscribe, headers, refusal);
    };
    let with = |name, value| [("id", "0"), ("destination", "/topic/a"), (name, value)];
    refused(&with("ack", "always"), Refusal::BadAckMode);
    refused(&with("ack", ""), Refusal::BadAckMode);
    refused(&with("last-position", "41"), Refusal::BadPosition);
    refused(&with("prefetch-count", "-1"), Refusal::BadPrefetch);
    let long = "x".repeat(256);
    let too_long = |header| Refusal::NameTooLong { header, max: 255 };
    refused(&with("durable-id", &long), too_long("durable-id"));
    refused(&with("receipt", &long), too_long("receipt"));
    refused(&[("id", &long), ("destination", "/topic/a")], too_long("id"));
    let long = "x".repeat(513);
    refused(&[("id", "0"), ("destination", &long)], Refusal::DestinationTooLong { max: 512 });
}

#[test]
fn subscription_ids_are_unique_and_may_be_used_again() {
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let same_id = [("id", "0"), ("destination", "/topic/b")];
        let mut client = Client::connected(version);
        let first = client.subscribe(&[("id", "0"), ("destination", "/topic/a")]);
        client.refused(Command::Subscribe, &same_id, Refusal::DuplicateSubscription);
        let mut client = Client::connected(version);
        client.subscribe(&[("id", "0"), ("destination", "/topic/a")]);
        let ended = Unsettled { subscription: first, deliveries: vec![] };
        assert_eq!(client.say(Command::Unsubscribe, &[("id", "0")]), Action::Unsubscribe(ended));
        assert!(client.subscribe(&same_id) != first);
        client.refused(Command::Unsubscribe, &[("id", "1")], Refusal::UnknownSubscription);
    }
}

#[test]
fn in_1_0_a_destination_names_a_subscription() {
    let mut client = Client::connected(Version::V1_0);
    let with_id = client.subscribe(&[("id", "0"), ("destination", "/queue/a")]);
    let without = client.subscribe(SEND);
    let mut ends = |headers: Headers<'_>| match client.say(Command::Unsubscribe, headers) {
        Action::Unsubscribe(ended) => ended.subscription,
        other => panic!("{other:?}"),
    };
    assert_eq!(ends(SEND), without);
    assert_eq!(ends(SEND), with_id);
    client.subscribe(SEND);
    client.refused(Command::Subscribe, SEND, Refusal::DuplicateSubscription);
}

#[test]
fn a_client_ack_covers_all_before_it_and_an_individual_one_itself() {
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        let ack = |client: &mut Client, command, id: &str| match version {
            Version::V1_2 => client.say(command, &[("id", id)]),
            Version::V1_1 => client.say(command, &[("message-id", id), ("subscription", "0")]),
            Version::V1_0 => client.say(command, &[("message-id", id)]),
        };
        let headers = |mode| [("id", "0"), ("destination", "/queue/a"), ("ack", mode)];
        let mut client = Client::connected(version);
        let key = client.subscribe(&headers("client"));
        let ids = client.deliver(key, 5);
        let answer = ack(&mut client, Command::Ack, &ids[2]);
        assert_eq!(answer, settled(key, Outcome::Consumed, &[100, 101, 102]));
        // Late, and again: no effect.
        assert_eq!(ack(&mut client, Command::Ack, &ids[0]), Action::Nothing);
        assert_eq!(ack(&mut client, Command::Ack, &ids[2]), Action::Nothing);
        if version > Version::V1_0 {
            let answer = ack(&mut client, Command::Nack, &ids[4]);
            assert_eq!(answer, settled(key, Outcome::Refused, &[103, 104]));
        }

        let mut client = Client::connected(version);
        let key = client.subscribe(&headers("client-individual"));
        let ids = client.deliver(key, 3);
        let answer = ack(&mut client, Command::Ack, &ids[1]);
        assert_eq!(answer, settled(key, Outcome::Consumed, &[101]));
        assert_eq!(ack(&mut client, Command::Ack, &ids[1]), Action::Nothing);
        let unsettled = Unsettled { subscription: key, deliveries: vec![100, 102] };
        let answer = client.say(Command::Unsubscribe, &[("id", "0")]);
        assert_eq!(answer, Action::Unsubscribe(unsettled));
        // Handlers are slower than their UNSUBSCRIBE.
        assert_eq!(ack(&mut client, Command::Ack, &ids[0]), Action::Nothing);
    }
}

#[test]
fn an_ack_of_what_was_never_delivered_is_refused() {
    let client = |version| {
        let mut client = Client::connected(version);
        let headers = [("id", "0"), ("destination", "/queue/a"), ("ack", "client")];
        let key = client.subscribe(&headers);
        let other =
            client.subscribe(&[("id", "1"), ("destination", "/queue/b"), ("ack", "client")]);
        client.deliver(key, 2);
        client.deliver(other, 2);
        client
    };
    for id in ["0-3", "0-0", "2-1", "x", "-1", "0-", "+0-1", "0--1", "0-1x", "99999999999-1"] {
        let refusal = Refusal::UnknownMessage;
        client(Version::V1_2).refused(Command::Ack, &[("id", id)], refusal.clone());
        let id = format!("m~{id}");
        let headers = [("message-id", id.as_str()), ("subscription", "0")];
        client(Version::V1_1).refused(Command::Ack, &headers, refusal.clone());
        client(Version::V1_0).refused(Command::Ack, &headers[..1], refusal);
    }
    // The right message in the name of the wrong subscription.
    let headers = [("message-id", "m~0-1"), ("subscription", "1")];
    client(Version::V1_1).refused(Command::Ack, &headers, Refusal::UnknownMessage);
}

#[test]
fn an_ack_that_nobody_asked_for_does_no_harm_before_1_2() {
    for version in [Version::V1_0, Version::V1_1] {
        let mut client = Client::connected(version);
        let key = client.subscribe(&[("id", "0"), ("destination", "/topic/a")]);
        assert_eq!(client.session.deliver(key, 1), Delivery::Plain);
        let headers = [("message-id", "7:1"), ("subscription", "0")];
        assert_eq!(client.say(Command::Ack, &headers), Action::Nothing);
        let headers = [("message-id", "7:1"), ("subscription", "5")];
        client.refused(Command::Ack, &headers, Refusal::UnknownMessage);
    }
}

#[test]
fn a_full_window_waits_for_an_ack() {
    let mut client = Client::connected(Version::V1_2);
    let headers =
        [("id", "0"), ("destination", "/queue/a"), ("ack", "client"), ("prefetch-count", "2")];
    let key = client.subscribe(&headers);
    let ids = client.deliver(key, 2);
    assert_eq!(client.session.deliver(key, 102), Delivery::WindowFull);
    assert!(client.session.subscription(key).expect("it is there").is_window_full());
    client.say(Command::Ack, &[("id", &ids[0])]);
    assert!(matches!(client.session.deliver(key, 102), Delivery::Acknowledged(_)));
    assert_eq!(client.session.deliver(key, 103), Delivery::WindowFull);

    // Without a bound of the client's, and with one beyond ours, ours holds.
    for prefetch in ["0", "65535"] {
        let mut client = Client::connected(Version::V1_2);
        let headers = [("ack", "client"), ("prefetch-count", prefetch)];
        let key = client.subscribe(&[&[("id", "0"), SEND[0]], &headers[..]].concat());
        client.deliver(key, 1_000);
        assert_eq!(client.session.deliver(key, 0), Delivery::WindowFull);
    }
    assert_eq!(client.session.deliver(SubscriptionKey(9), 0), Delivery::Gone);
}

#[test]
fn what_was_taken_back_cannot_be_acknowledged_any_more() {
    let mut client = Client::connected(Version::V1_2);
    let headers = [("id", "0"), ("destination", "/queue/a"), ("ack", "client-individual")];
    let key = client.subscribe(&headers);
    let Delivery::Acknowledged(ack) = client.session.deliver(key, 5) else { panic!("no ack") };
    assert_eq!(client.session.take_back(ack), Some(5));
    assert_eq!(client.session.take_back(ack), None);
    assert_eq!(client.say(Command::Ack, &[("id", &ack.to_string())]), Action::Nothing);
}

#[test]
fn a_transaction_takes_effect_as_a_whole_when_it_is_committed() {
    let mut client = Client::connected(Version::V1_2);
    let key = client.subscribe(&[("id", "0"), SEND[0], ("ack", "client")]);
    let ids = client.deliver(key, 4);
    let transaction = ("transaction", "tx1");
    assert_eq!(client.say(Command::Begin, &[transaction]), Action::Nothing);
    let headers = [SEND[0], transaction, ("receipt", "r1")];
    // The receipt of a part says that it waits in the transaction.
    let (action, receipt) = client.try_say(Command::Send, &headers, b"one").expect("allowed");
    assert_eq!((action, receipt.as_deref()), (Action::Nothing, Some("r1")));
    assert_eq!(client.say(Command::Ack, &[("id", &ids[1]), transaction]), Action::Nothing);
    assert_eq!(client.say(Command::Nack, &[("id", &ids[3]), transaction]), Action::Nothing);
    client.try_say(Command::Send, &headers[..2], b"two").expect("allowed");
    assert_eq!(client.session.subscription(key).expect("there").unsettled_count(), 4);
    let Action::Commit(steps) = client.say(Command::Commit, &[transaction]) else {
        panic!("no commit");
    };
    let [Step::Send(one), Step::Settle(acked), Step::Settle(nacked), Step::Send(two)] = &steps[..]
    else {
        panic!("{steps:?}");
    };
    assert_eq!((&one.body[..], &two.body[..]), (&b"one"[..], &b"two"[..]));
    assert_eq!((&acked.deliveries[..], acked.outcome), (&[100, 101][..], Outcome::Consumed));
    assert_eq!((&nacked.deliveries[..], nacked.outcome), (&[102, 103][..], Outcome::Refused));
    // The name is free again.
    client.say(Command::Begin, &[transaction]);
}

#[test]
fn an_aborted_transaction_leaves_no_trace() {
    let mut client = Client::connected(Version::V1_2);
    let key = client.subscribe(&[("id", "0"), SEND[0], ("ack", "client")]);
    let ids = client.deliver(key, 1);
    let transaction = ("transaction", "tx1");
    client.say(Command::Begin, &[transaction]);
    client.say(Command::Send, &[SEND[0], transaction]);
    client.say(Command::Ack, &[("id", &ids[0]), transaction]);
    assert_eq!(client.say(Command::Abort, &[transaction]), Action::Nothing);
    assert_eq!(client.session.next_deadline(), None);
    let answer = client.say(Command::Ack, &[("id", &ids[0])]);
    assert_eq!(answer, settled(key, Outcome::Consumed, &[100]));
    client.refused(Command::Commit, &[transaction], Refusal::UnknownTransaction);
}

#[test]
fn transactions_that_do_not_exist_are_refused() {
    let transaction = ("transaction", "tx1");
    for command in [Command::Commit, Command::Abort] {
        let refusal = Refusal::UnknownTransaction;
        Client::connected(Version::V1_2).refused(command, &[transaction], refusal);
    }
    let headers = [SEND[0], transaction];
    Client::connected(Version::V1_2).refused(Command::Send, &headers, Refusal::UnknownTransaction);
    let mut client = Client::connected(Version::V1_2);
    client.say(Command::Begin, &[transaction]);
    client.refused(Command::Begin, &[transaction], Refusal::DuplicateTransaction);
}

#[test]
fn transactions_are_bounded_in_number_frames_bytes_and_time() {
    let mut client = Client::connected(Version::V1_2);
    for number in 0..16 {
        client.say(Command::Begin, &[("transaction", &number.to_string())]);
    }
    let refusal = Refusal::TooManyTransactions { max: 16 };
    client.refused(Command::Begin, &[("transaction", "16")], refusal);

    let send = [SEND[0], ("transaction", "t")];
    let mut client = Client::connected(Version::V1_2);
    client.say(Command::Begin, &send[1..]);
    for _ in 0..1_000 {
        client.say(Command::Send, &send);
    }
    client.refused(Command::Send, &send, Refusal::TooManyFramesInTransaction { max: 1_000 });

    // The bytes are those of all transactions together, and come back when one ends.
    let mut client = Client::connected(Version::V1_2);
    let body = vec![0; 1_000_000];
    let sends = [[SEND[0], ("transaction", "a")], [SEND[0], ("transaction", "b")]];
    client.say(Command::Begin, &sends[1][1..]);
    client.try_say(Command::Send, &sends[1], &body).expect("it fits");
    for end in [Some(Command::Commit), Some(Command::Abort), None] {
        client.say(Command::Begin, &sends[0][1..]);
        for _ in 0..3 {
            client.try_say(Command::Send, &sends[0], &body).expect("it fits");
        }
        if let Some(end) = end {
            client.say(end, &sends[0][1..]);
        }
    }
    let fatal = client.try_say(Command::Send, &sends[1], &body).expect_err("too much");
    assert_eq!(fatal.refusal, Refusal::TransactionTooLarge { max: 4 << 20 });

    let mut client = Client::connected(Version::V1_2);
    client.say(Command::Begin, &send[1..]);
    let deadline = client.session.next_deadline().expect("a deadline");
    assert_eq!(deadline, client.now + Duration::from_secs(60));
    assert_eq!(client.session.on_time(deadline - Duration::from_nanos(1)), 0);
    assert_eq!((client.session.on_time(deadline), client.session.next_deadline()), (1, None));
    // Also when nobody came by in time.
    client.say(Command::Begin, &send[1..]);
    client.now += Duration::from_secs(60);
    client.refused(Command::Commit, &send[1..], Refusal::UnknownTransaction);
}

#[test]
fn subscriptions_are_bounded_in_number() {
    let mut client = Client::connected(Version::V1_2);
    for number in 0..128 {
        client.subscribe(&[("id", &number.to_string()), SEND[0]]);
    }
    assert_eq!(client.session.subscriptions().count(), 128);
    client.say(Command::Unsubscribe, &[("id", "64")]);
    client.subscribe(&[("id", "128"), SEND[0]]);
    let refusal = Refusal::TooManySubscriptions { max: 128 };
    client.refused(Command::Subscribe, &[("id", "129"), SEND[0]], refusal);
}

#[test]
fn disconnect_ends_everything_and_what_was_not_acknowledged_goes_back() {
    let mut client = Client::connected(Version::V1_2);
    let first = client.subscribe(&[("id", "0"), SEND[0], ("ack", "client")]);
    client.subscribe(&[("id", "1"), SEND[0]]);
    client.deliver(first, 3);
    client.say(Command::Begin, &[("transaction", "tx1")]);
    client.say(Command::Send, &[SEND[0], ("transaction", "tx1")]);
    let answer = client.try_say(Command::Disconnect, &[("receipt", "77")], b"").expect("allowed");
    assert_eq!(answer, (Action::Disconnect, Some("77".into())));
    assert_eq!(client.say(Command::Commit, &[("transaction", "tx1")]), Action::Nothing);
    assert_eq!(client.session.next_deadline(), None);
    let unsettled = Unsettled { subscription: first, deliveries: vec![100, 101, 102] };
    assert_eq!(client.session.close(), [unsettled]);
    assert_eq!(client.session.deliver(first, 1), Delivery::Gone);
    assert!(client.session.close().is_empty());
}

#[test]
fn an_error_names_the_frame_the_rule_and_the_receipt() {
    let mut client = Client::connected(Version::V1_1);
    let fatal = client.try_say(Command::Send, &[("receipt", "a:1")], b"").expect_err("refused");
    let error = encode_error(client.session.version(), &fatal.error_frame());
    assert_eq!(
        String::from_utf8_lossy(&error),
        "ERROR\nmessage:the destination header is missing or empty\ncode:missing_header\n\
         receipt-id:a\\c1\ncontent-type:text/plain\ncontent-length:72\n\n\
         The SEND frame was refused: the destination header is missing or empty.\n\0",
    );
    let mut decoder = Decoder::new(Limits::default());
    let bad = decoder.decode(&mut b"GET / HTTP/1.1\r\n".as_slice()).expect_err("no STOMP");
    let error = bad.error_frame();
    assert_eq!((error.code, error.receipt_id), ("unknown_command", None));
    assert_eq!(error.body, "What was sent could not be read: this is not a command of STOMP.\n");
}

#[test]
fn receipts_leave_in_the_order_of_their_frames() {
    let mut receipts = Receipts::default();
    let first = receipts.begin(Some("1".into()));
    let second = receipts.begin(None);
    let third = receipts.begin(Some("3".into()));
    let mut finish = |ticket| {
        let mut due = Vec::new();
        receipts.finish(ticket, &mut due);
        (due.iter().map(ToString::to_string).collect::<Vec<_>>(), receipts.pending_count())
    };
    assert_eq!(finish(third), (vec![], 3));
    assert_eq!(finish(first), (vec!["1".into()], 2));
    assert_eq!(finish(first), (vec![], 2));
    assert_eq!(finish(second), (vec!["3".into()], 0));
    assert_eq!(finish(third), (vec![], 0));
    let fourth = receipts.begin(Some("4".into()));
    let mut due = Vec::new();
    receipts.finish(fourth, &mut due);
    assert_eq!(due, ["4".into()]);
}

#[test]
fn an_idle_connection_with_one_subscription_is_small() {
    use naru_wire::stomp::session::Subscription;
    let bytes = size_of::<Session>() + size_of::<Subscription>() + size_of::<Decoder>();
    assert!(bytes <= 160, "{bytes}");
}
