//! Checks of the STOMP codec that hold for any bytes. Each fuzz target is one of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use naru_wire::stomp::session::{
    Action, Delivery, Session, SessionLimits, State, Step, SubscriptionKey,
};
use naru_wire::stomp::{
    BadFrame, Command, Decoder, Event, Frame, FrameError, Headers, Limits, Version,
    encode_client_frame,
};

/// What a stream of bytes turned into.
#[derive(Debug, PartialEq)]
pub(crate) struct Heard {
    /// Frames in their order.
    pub(crate) frames: Vec<Frame>,
    /// What ended the reading, if anything did.
    pub(crate) end: Option<BadFrame>,
    /// Whether the stream broke off within a frame.
    pub(crate) is_partial: bool,
}

/// Reads a stream in pieces of the given sizes, again and again. With a version, it holds from the
/// second frame on, as on a connection.
pub(crate) fn read(
    stream: &[u8],
    limits: Limits,
    version: Option<Version>,
    steps: &[usize],
) -> Heard {
    let mut decoder = Decoder::new(limits);
    let mut heard = Heard { frames: Vec::new(), end: None, is_partial: false };
    let mut rest = stream;
    let mut steps = steps.iter().copied().cycle();
    while !rest.is_empty() {
        let step = steps.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let (mut piece, behind) = rest.split_at(step);
        rest = behind;
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(Event::Frame(frame))) => {
                    heard.frames.push(frame);
                    if let Some(version) = version {
                        decoder.set_version(version);
                    }
                }
                Ok(Some(Event::HeartBeat)) => assert!(!decoder.is_within_frame()),
                Ok(None) => {
                    assert!(piece.is_empty(), "it stopped before the end of its input");
                    break;
                }
                Err(bad) => {
                    heard.end = Some(bad);
                    return heard;
                }
            }
        }
    }
    heard.is_partial = decoder.is_within_frame();
    heard
}

/// Reads a stream of a connection that has that version already.
pub(crate) fn read_as(version: Version, stream: &[u8]) -> Result<Vec<Frame>, FrameError> {
    let mut decoder = Decoder::new(Limits::default());
    decoder.set_version(version);
    let mut rest = stream;
    let mut frames = Vec::new();
    while let Some(event) = decoder.decode(&mut rest).map_err(|bad| bad.error)? {
        if let Event::Frame(frame) = event {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn version_of(byte: u8) -> Option<Version> {
    [None, Some(Version::V1_0), Some(Version::V1_1), Some(Version::V1_2)][usize::from(byte % 4)]
}

/// Decoding never panics, keeps its limits, does not depend on where the bytes were cut, and what it
/// read is written and read again as the same. The first two bytes choose version and pieces.
pub(crate) fn check_stomp_decode(data: &[u8]) {
    let [version, step, stream @ ..] = data else { return };
    let version = version_of(*version);
    let small = Limits {
        frame_bytes_max: 200,
        connect_bytes_max: 150,
        headers_count_max: 5,
        header_line_bytes_max: 40,
    };
    for limits in [small, Limits::default()] {
        let whole = read(stream, limits, version, &[usize::MAX]);
        let bytewise = read(stream, limits, version, &[1]);
        assert_eq!(whole, bytewise);
        assert_eq!(whole, read(stream, limits, version, &[usize::from(*step) + 1, 1, 7]));
        for frame in &whole.frames {
            assert!(frame.body.len() < limits.frame_bytes_max as usize);
            assert!(frame.headers.len() <= limits.headers_count_max as usize);
            for (name, value) in frame.headers.iter() {
                assert!(!name.is_empty());
                assert!(name.len() + value.len() < limits.header_line_bytes_max as usize);
            }
            check_again(frame, version.unwrap_or(Version::V1_2));
        }
    }
}

/// Writes a frame that was read, and reads it again.
fn check_again(frame: &Frame, version: Version) {
    let headers: Vec<_> = frame.headers.iter().collect();
    let bytes = encode_client_frame(version, frame.command, &headers, &frame.body);
    let can_be_said = |text: &str| match version {
        _ if text.contains('\0') => false,
        Version::V1_2 => true,
        Version::V1_1 => !text.contains('\r'),
        Version::V1_0 => false,
    };
    let is_escaped =
        !matches!(frame.command, Command::Connect | Command::Stomp | Command::Connected);
    let is_sayable = headers.iter().all(|(name, value)| can_be_said(name) && can_be_said(value));
    if !is_escaped || !is_sayable || frame.header("content-length").is_some() {
        return;
    }
    let again = read_as(version, &bytes).expect("we read what we write");
    let mut expected = frame.clone();
    if !frame.body.is_empty() {
        expected.headers = with_length(&frame.headers, frame.body.len());
    }
    assert_eq!(again, [expected]);
}

fn with_length(headers: &Headers, length: usize) -> Headers {
    let mut headers = headers.clone();
    headers.add("content-length", &length.to_string());
    headers
}

/// A stream behind a CONNECT goes through decoder and state machine without a panic; every delivery
/// that must be acknowledged comes back once, whatever the client says; limits hold. The first byte
/// chooses the version.
pub(crate) fn check_stomp_session(data: &[u8]) {
    let [version, stream @ ..] = data else { return };
    let version = version_of(*version).unwrap_or(Version::V1_2);
    let connect = format!("CONNECT\naccept-version:{version}\n\n\0");
    let stream = [connect.as_bytes(), stream].concat();
    let heard = read(&stream, Limits::default(), Some(version), &[usize::MAX]);
    let limits = SessionLimits {
        subscriptions_max: 4,
        unacked_max: 3,
        transactions_max: 2,
        transaction_frames_max: 3,
        transaction_bytes_max: 2_000,
        ..SessionLimits::default()
    };
    let mut session = Session::new(Arc::new(limits), None);
    let mut gateway = Gateway::default();
    let mut now = Instant::now();
    for frame in heard.frames {
        now += Duration::from_secs(7);
        let Ok(accepted) = session.on_frame(frame, now) else {
            assert_eq!(session.state(), State::Closed);
            break;
        };
        if matches!(accepted.action, Action::Connect(_)) {
            assert_eq!(session.version(), Some(version));
            session.accept();
        }
        gateway.carry_out(accepted.action);
        gateway.deliver(&mut session);
        assert!(session.subscriptions().count() <= 4);
        let unsettled: usize = session.subscriptions().map(|have| have.unsettled_count()).sum();
        assert_eq!(unsettled, gateway.outstanding.len());
        assert!(session.next_deadline().is_none_or(|deadline| deadline > now));
    }
    for unsettled in session.close() {
        gateway.settle(&unsettled.deliveries);
    }
    assert!(gateway.outstanding.is_empty(), "deliveries were lost");
}

/// The other side of the state machine, as far as deliveries go.
#[derive(Default)]
struct Gateway {
    next_token: u64,
    outstanding: HashSet<u64>,
}

impl Gateway {
    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Unsubscribe(unsettled) => self.settle(&unsettled.deliveries),
            Action::Settle(settle) => self.settle(&settle.deliveries),
            Action::Commit(steps) => {
                assert!((1..=3).contains(&steps.len()));
                for step in steps {
                    match step {
                        Step::Send(send) => assert!(!send.destination().is_empty()),
                        Step::Settle(settle) => self.settle(&settle.deliveries),
                    }
                }
            }
            Action::Send(send) => assert!(!send.destination().is_empty()),
            Action::Subscribe(subscribe) => assert!(!subscribe.destination().is_empty()),
            Action::Connect(_) | Action::Disconnect | Action::Nothing => (),
        }
    }

    fn settle(&mut self, tokens: &[u64]) {
        for token in tokens {
            assert!(self.outstanding.remove(token), "settled twice");
        }
    }

    fn deliver(&mut self, session: &mut Session) {
        let keys: Vec<SubscriptionKey> = session.subscriptions().map(|have| have.key()).collect();
        for key in keys {
            self.next_token += 1;
            match session.deliver(key, self.next_token) {
                Delivery::Acknowledged(ack) => {
                    assert_eq!(ack.subscription, key);
                    assert!(self.outstanding.insert(self.next_token));
                }
                Delivery::Plain => (),
                Delivery::WindowFull => {
                    let subscription = session.subscription(key).expect("it exists");
                    assert_eq!(subscription.unsettled_count(), 3);
                }
                Delivery::Gone => panic!("an open subscription is gone"),
            }
        }
    }
}
