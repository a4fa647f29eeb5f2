//! The tools against the floor server over real sockets: they pass where all is well and fail where
//! a meddler between them and the server loses, doubles, swaps or spoils replies.

#[path = "end_to_end/chat.rs"]
mod chat;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use naru_bench::bridge::BridgeBenchArgs;
use naru_bench::floor::{self, Keys};
use naru_bench::kill::KillArgs;
use naru_bench::phone::PhoneArgs;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
enum Tool {
    Bridge(BridgeBenchArgs),
    Kill(KillArgs),
    Phone(PhoneArgs),
}

async fn run(line: &str) -> anyhow::Result<ExitCode> {
    let words = std::iter::once("test").chain(line.split('|').map(str::trim));
    let keys = ["--secret", "testsecret", "--salt", "testsalt"];
    match Tool::try_parse_from(words.chain(keys))? {
        Tool::Bridge(args) => naru_bench::bridge::run(args).await,
        Tool::Kill(args) => naru_bench::kill::run(args).await,
        Tool::Phone(args) => naru_bench::phone::run(args).await,
    }
}

async fn serve_floor(listener: TcpListener) {
    floor::serve(listener, Keys::new("testsecret", "testsalt"), CancellationToken::new()).await;
}

async fn listen() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    (listener.local_addr().expect("a bound address"), listener)
}

/// An address on which nobody listens any more.
async fn free_address() -> SocketAddr {
    listen().await.0
}

/// A floor server on a free port. It ends with the returned set.
async fn start_floor() -> (SocketAddr, JoinSet<()>) {
    let (address, listener) = listen().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(serve_floor(listener));
    (address, tasks)
}

/// What the meddler does with the fifth reply of each connection.
#[derive(Clone, Copy)]
enum Meddling {
    Lose,
    Double,
    Swap,
    Spoil,
}

/// A proxy in front of a floor server.
async fn start_meddler(meddling: Meddling) -> (SocketAddr, JoinSet<()>) {
    let (floor, mut tasks) = start_floor().await;
    let (address, listener) = listen().await;
    tasks.spawn(async move {
        let mut relays = JoinSet::new();
        while let Ok((phone, _)) = listener.accept().await {
            let server = TcpStream::connect(floor).await.expect("the floor listens");
            relays.spawn(relay(phone, server, meddling));
        }
    });
    (address, tasks)
}

async fn relay(phone: TcpStream, server: TcpStream, meddling: Meddling) {
    let (mut from_phone, mut to_phone) = phone.into_split();
    let (from_server, mut to_server) = server.into_split();
    let up = async { tokio::io::copy(&mut from_phone, &mut to_server).await.map(drop) };
    let down = async {
        let mut lines = BufReader::new(from_server).lines();
        let (mut replies, mut held) = (0, None);
        while let Some(mut line) = lines.next_line().await? {
            replies += usize::from(line.contains("messageResponse"));
            match (replies, meddling) {
                (5, Meddling::Lose) => continue,
                (5, Meddling::Double) => line = format!("{line}\n{line}"),
                (5, Meddling::Swap) => {
                    held = Some(line);
                    continue;
                }
                (6, Meddling::Swap) => {
                    line = format!("{line}\n{}", held.take().unwrap_or_default())
                }
                (5, Meddling::Spoil) => line.insert(0, '{'),
                _ => {}
            }
            to_phone.write_all(format!("{line}\n").as_bytes()).await?;
        }
        Ok(())
    };
    let ended: std::io::Result<_> = tokio::try_join!(up, down);
    drop(ended);
}

#[tokio::test]
async fn a_closed_loop_over_both_dialects_is_clean() {
    let (address, _floor) = start_floor().await;
    let line = format!(
        "bridge|--server={address}|--phones=6|--rooms-per-phone=2|--messages=600|--window=8|\
         --warmup=50ms|--mix=echo=8,talk=2|--threads=2|--pid={}|--json",
        std::process::id()
    );
    assert_eq!(run(&line).await.unwrap(), ExitCode::SUCCESS);
}

#[tokio::test]
async fn a_paced_load_that_signs_every_frame_is_clean() {
    let (address, _floor) = start_floor().await;
    let line = format!(
        "bridge|--server={address}|--phones=4|--rate=2000|--duration=300ms|--warmup=100ms|\
         --sign-every=0s|--text-bytes=1000|--sources=3"
    );
    assert_eq!(run(&line).await.unwrap(), ExitCode::SUCCESS);
}

#[tokio::test]
async fn a_herd_is_served_although_half_of_it_never_shakes_hands() {
    let (address, _floor) = start_floor().await;
    let line = format!("bridge|--server={address}|--phones=20|--herd|--herd-away=10ms|--json");
    assert_eq!(run(&line).await.unwrap(), ExitCode::SUCCESS);
}

#[tokio::test]
async fn idle_phones_are_weighed() {
    let (address, _floor) = start_floor().await;
    let pid = std::process::id();
    let line = format!("bridge|--server={address}|--phones=10|--idle|--settle=50ms|--pid={pid}");
    assert_eq!(run(&line).await.unwrap(), ExitCode::SUCCESS);
}

#[tokio::test]
async fn every_kind_of_meddling_is_found() {
    for meddling in [Meddling::Lose, Meddling::Double, Meddling::Swap, Meddling::Spoil] {
        let (address, _meddler) = start_meddler(meddling).await;
        let line = format!(
            "bridge|--server={address}|--phones=2|--messages=40|--warmup=0s|--drain=200ms|--json"
        );
        assert_eq!(run(&line).await.unwrap(), ExitCode::FAILURE);
    }
}

#[tokio::test]
async fn an_absent_server_ends_the_run_before_it_begins() {
    let address = free_address().await;
    let line = format!("bridge|--server={address}|--phones=1");
    assert!(run(&line).await.is_err());
}

#[tokio::test]
async fn a_phone_of_every_version_gets_its_echo() {
    let (address, _floor) = start_floor().await;
    let versions = "3.1.4 3.2.0 3.2.1 3.2.1+imglogshort 3.2.2 3.2.2+smartlog 3.3.0-a2 3.3.2 3.3.3 \
                    newest";
    for version in versions.split_whitespace() {
        let line = format!(
            "phone|--server={address}|--version={version}|--say=# echo 안녕 }} 🙂|--expect=에코: 안녕 }} 🙂"
        );
        assert_eq!(run(&line).await.unwrap(), ExitCode::SUCCESS, "{version}");
    }
}

#[tokio::test]
async fn a_script_survives_a_cut_and_fails_without_its_reply() {
    let (address, _floor) = start_floor().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("steps");
    let play = async |steps: &str| {
        std::fs::write(&path, steps).unwrap();
        let path = path.display();
        run(&format!("phone|--server={address}|--script={path}|--timeout=300ms|--json")).await
    };
    let steps = "wait-welcome\nflood 3 # echo x\nwait-reply x 3\nreconnect\nwait-welcome\n\
                 room 다른방=184\nas 민수\nsay # echo back\nwait-reply back\nsilence 20ms\nquit\nsay x";
    assert_eq!(play(steps).await.unwrap(), ExitCode::SUCCESS);
    assert_eq!(play("say nothing answers this\nwait-reply").await.unwrap(), ExitCode::FAILURE);
    assert!(play("sing").await.is_err());
}

/// A floor server behind TLS, with the PEM of its certificate.
async fn start_tls_floor() -> (SocketAddr, String, JoinSet<()>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = made.signing_key.serialize_der().try_into().expect("a private key");
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("the provider's versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a matching key");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let (floor, mut tasks) = start_floor().await;
    let (address, listener) = listen().await;
    tasks.spawn(async move {
        while let Ok((phone, _)) = listener.accept().await {
            // A phone that does not trust the certificate ends the handshake.
            let Ok(mut phone) = acceptor.accept(phone).await else { continue };
            let mut server = TcpStream::connect(floor).await.expect("the floor listens");
            drop(tokio::io::copy_bidirectional(&mut phone, &mut server).await);
        }
    });
    (address, made.cert.pem(), tasks)
}

#[tokio::test]
async fn a_phone_talks_tls_to_whom_it_was_told_to_trust() {
    let (address, certificate, _floor) = start_tls_floor().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, certificate).unwrap();
    let say = async |trust: &str| {
        let line = format!("phone|--server={address}|--tls|{trust}|--say=# echo x|--timeout=1s");
        run(&line).await
    };
    let ca = format!("--ca={}", path.display());
    assert_eq!(say(&ca).await.unwrap(), ExitCode::SUCCESS);
    assert_eq!(say("--insecure").await.unwrap(), ExitCode::SUCCESS);
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&path, stranger.cert.pem()).unwrap();
    assert_eq!(say(&ca).await.unwrap(), ExitCode::FAILURE);
}

const FLOOR_ADDRESS: &str = "NARU_TEST_FLOOR_ADDRESS";

/// The floor server as a process of its own, for the run below. Does nothing as a test.
#[tokio::test]
async fn the_floor_can_be_a_process() {
    let Some(address) = std::env::var_os(FLOOR_ADDRESS).map(OsString::into_string) else { return };
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address.unwrap().parse().unwrap()).unwrap();
    serve_floor(socket.listen(1024).unwrap()).await;
}

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_is_accounted_for() {
    let address = free_address().await;
    let program = std::env::current_exe().unwrap();
    let line = format!(
        "kill|--server={address}|--phones=4|--rate=800|--messages=500|--kill-every=200ms|\
         --quiet=300ms|--json|--server-cmd=env {FLOOR_ADDRESS}={address} {} --exact \
         the_floor_can_be_a_process --nocapture",
        program.display()
    );
    assert_eq!(run(&line).await.unwrap(), ExitCode::SUCCESS);
}
