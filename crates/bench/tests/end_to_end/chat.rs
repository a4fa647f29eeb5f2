//! The chat runs against the bare server over real sockets: they pass where all is well, and fail
//! where a meddler between them and the server loses, doubles, swaps or spoils messages.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread::JoinHandle;

use clap::Parser;
use naru_bench::chat::floor::{self, Floor, FloorArgs, ServeArgs, Stop};
use naru_bench::chat::{CentrifugeArgs, StompArgs};

#[derive(Parser)]
enum Tool {
    Floor(FloorArgs),
    Stomp(StompArgs),
    Centrifuge(CentrifugeArgs),
}

fn run(line: &str) -> anyhow::Result<ExitCode> {
    let words = std::iter::once("test").chain(line.split_whitespace());
    match Tool::try_parse_from(words)? {
        Tool::Floor(args) => floor::run(args),
        Tool::Stomp(args) => naru_bench::chat::stomp(args),
        Tool::Centrifuge(args) => naru_bench::chat::centrifuge(args),
    }
}

/// A bare server on a thread of its own, which ends with this value.
struct Running {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    fn start(options: &str) -> Running {
        #[derive(Parser)]
        struct Options {
            #[command(flatten)]
            serve: ServeArgs,
        }
        let words = ["test", "--listen", "127.0.0.1:0"].into_iter();
        let options = Options::parse_from(words.chain(options.split_whitespace()));
        let floor = Floor::bind(&options.serve).expect("a free port");
        let (address, stop) = (floor.address().expect("bound"), floor.stopper());
        Running { address, stop, thread: Some(std::thread::spawn(|| floor.serve())) }
    }

    fn run(&self, workload: &str, options: &str) -> ExitCode {
        run(&format!("floor {workload} --url ws://{}/ {options}", self.address)).expect("a report")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop().expect("the server can be woken");
        let served = self.thread.take().map(JoinHandle::join);
        assert!(matches!(served, Some(Ok(Ok(())))), "the server ended with an error");
    }
}

const SHORT: &str = "--warmup 0s --duration 200ms";

#[test]
fn every_run_is_clean_against_the_bare_server() {
    for mode in ["each", "batch"] {
        let floor = Running::start(&format!("--mode {mode}"));
        for (workload, options) in [
            ("fan-out", format!("--subscribers 20 {SHORT}")),
            ("fan-out", format!("--channels 5 --subscribers 3 --in-flight 16 {SHORT}")),
            ("fan-out", format!("--channels 4 --publishers 3 --subscribers 2 --rate 500 {SHORT}")),
            ("idle", "--connections 50 --channels 3 --settle 0s --hold 100ms".to_owned()),
            ("churn", "--concurrency 4 --duration 200ms --json".to_owned()),
            ("churn", "--concurrency 4 --duration 200ms --abort".to_owned()),
            ("storm", "--clients 40 --channels 3 --missed 20 --away 0s".to_owned()),
            ("storm", "--clients 30 --missed 0 --away 0s".to_owned()),
            ("storm", "--clients 20 --missed 5 --away 0s --at-once 2".to_owned()),
            ("durable", format!("--publishers 5 --in-flight 3 --channels 2 {SHORT} --json")),
        ] {
            assert_eq!(floor.run(workload, &options), ExitCode::SUCCESS, "{mode}: {workload}");
        }
    }
}

#[test]
fn bodies_larger_than_one_read_arrive_whole() {
    let floor = Running::start("--mode batch");
    let options = format!("--subscribers 3 --in-flight 4 --size 300000 {SHORT}");
    assert_eq!(floor.run("fan-out", &options), ExitCode::SUCCESS);
}

#[test]
fn a_history_that_is_too_short_is_a_loss() {
    let floor = Running::start("--history 10");
    let options = "--clients 4 --missed 30 --away 0s --patience 300ms";
    assert_eq!(floor.run("storm", options), ExitCode::FAILURE);
}

/// What the meddler does with the tenth frame to a connection.
#[derive(Clone, Copy, Debug)]
enum Meddling {
    Nothing,
    Lose,
    Double,
    Swap,
    Spoil,
    Cut,
}

/// Length of every delivered frame: what the meddler counts by.
const FRAME_BYTES: usize = 200;

/// A proxy in front of the bare server. Its threads end with the connections.
fn start_meddler(floor: SocketAddr, meddling: Meddling) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(floor).expect("the floor listens");
            let (from, to) =
                (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            std::thread::spawn(move || relay(from, to));
            std::thread::spawn(move || meddle(server, client, meddling));
        }
    });
    address
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Passes on what the server says to a subscriber, which is the upgrade, `S`, and then frames of one
/// length.
fn meddle(mut from: TcpStream, mut to: TcpStream, meddling: Meddling) -> Option<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut frames = 0;
    let mut held: Option<Vec<u8>> = None;
    loop {
        let count = from.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        // Whatever is shorter than a delivery is passed on as it is.
        while let Some(start) = bytes.windows(2).position(|two| two == [0x81, 126]) {
            if bytes.len() < start + FRAME_BYTES {
                break;
            }
            to.write_all(&bytes[..start]).ok()?;
            let mut frame: Vec<u8> = bytes.drain(..start + FRAME_BYTES).skip(start).collect();
            frames += 1;
            let due = frames == 10;
            match meddling {
                Meddling::Lose if due => continue,
                Meddling::Double if due => to.write_all(&frame).ok()?,
                Meddling::Swap if due => {
                    held = Some(frame);
                    continue;
                }
                Meddling::Spoil if due => {
                    let end = frame.iter().rposition(|byte| *byte == b'~')?;
                    frame[end] = b'x';
                }
                Meddling::Cut if due => return to.shutdown(std::net::Shutdown::Both).ok(),
                _ => {}
            }
            to.write_all(&frame).ok()?;
            if let Some(held) = held.take() {
                to.write_all(&held).ok()?;
            }
        }
        if !bytes.windows(2).any(|two| two == [0x81, 126]) {
            to.write_all(&bytes).ok()?;
            bytes.clear();
        }
    }
}

#[test]
fn loss_doubles_reordering_spoilt_bodies_and_cuts_fail_the_run() {
    for meddling in [
        Meddling::Nothing,
        Meddling::Lose,
        Meddling::Double,
        Meddling::Swap,
        Meddling::Spoil,
        Meddling::Cut,
    ] {
        let floor = Running::start(&format!("--frame-bytes {FRAME_BYTES}"));
        let address = start_meddler(floor.address, meddling);
        let line = format!(
            "floor fan-out --url ws://{address}/ --subscribers 2 --in-flight 4 {SHORT} --drain 200ms"
        );
        let expected = match meddling {
            Meddling::Nothing => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        };
        assert_eq!(run(&line).expect("a report"), expected, "{meddling:?}");
    }
}

#[test]
fn a_server_of_another_kind_is_reported_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        client.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").expect("written");
    });
    let error = run(&format!("stomp idle --url ws://{address}/ --connections 1")).unwrap_err();
    assert!(error.to_string().contains("404 Not Found"), "{error}");
    server.join().expect("the server ends");
    let error = run(&format!("centrifuge idle --url ws://{address}/")).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}
