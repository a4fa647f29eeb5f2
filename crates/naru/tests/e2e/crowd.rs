//! Many phones at once: more connections than there are places, and a herd that returns after a restart.

use std::net::TcpStream;
use std::sync::Barrier;

use crate::harness::{Phone, Script, Server, all_of, eventually};

const PLACES: usize = 1_000;
/// Of the issue; fewer where the system allows fewer.
const CONNECTIONS_WANTED: usize = 10_000;
/// Descriptors for everything else that this test process does, other tests beside this one included.
const DESCRIPTORS_SPARED: u64 = 1_500;

/// How many connections this process may hold.
fn connections_allowed() -> usize {
    let wanted = u64::try_from(CONNECTIONS_WANTED).expect("a small number") + DESCRIPTORS_SPARED;
    let limit = rlimit::increase_nofile_limit(wanted).expect("the limit of descriptors");
    let allowed = limit.saturating_sub(DESCRIPTORS_SPARED);
    usize::try_from(allowed).expect("a small number").min(CONNECTIONS_WANTED)
}

#[test]
fn ten_thousand_connections_are_refused_beyond_the_limit_and_harm_nobody() {
    let count = connections_allowed();
    assert!(count > 2 * PLACES, "raise the hard limit of descriptors (ulimit -Hn)");
    let server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "bridge.connections_max=1000",
        "bridge.connections_per_address=1000000",
        "bridge.attempts_per_minute=1000000",
        // Those that say nothing keep their places for as long as this test needs them.
        "bridge.handshake_timeout=5m",
    ]);
    let connect = |n: usize| Phone::connect_as(server.bridge, Script::Raw, &format!("early-{n}"));
    let mut early: Vec<Phone> = (0..5).map(connect).collect();
    let mut crowd: Vec<TcpStream> = Vec::with_capacity(count);
    while crowd.len() < count {
        crowd.push(TcpStream::connect(server.bridge).expect("the kernel takes it"));
        if crowd.len().is_multiple_of(1_000) {
            for phone in &mut early {
                phone.assert_quiet();
            }
        }
    }
    let surplus = count + early.len() - PLACES;
    let refused = || server.metric("naru_bridge_refused_total{limit=\"total\"}");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let surplus = surplus as f64;
    eventually("the surplus is refused and counted", || (refused() >= surplus).then_some(()));
    assert_eq!(refused(), surplus);
    for other in ["per_address", "attempts"] {
        assert_eq!(server.metric(&format!("naru_bridge_refused_total{{limit=\"{other}\"}}")), 0.0);
    }
    assert!(Phone::silent(server.bridge, Script::Raw).is_closed(), "every place is taken");
    for phone in &mut early {
        phone.assert_quiet();
    }
    drop(crowd);
    let mut late = eventually("a place is free", || {
        let mut late = Phone::silent(server.bridge, Script::Raw);
        late.device = "late".to_owned();
        // Until the server has noticed that the crowd is gone, it may still hang up.
        let hello = format!("{}\n", late.hello());
        std::io::Write::write_all(&mut late.stream, hello.as_bytes()).ok()?;
        let (welcome, _) = late.next()?;
        (welcome["event"] == "handshakeComplete").then_some(late)
    });
    late.assert_quiet();
}

const HERD: usize = 300;
/// Real phones flush ten frames at most.
const QUEUED: usize = 10;

#[test]
fn a_herd_that_returns_after_a_kill_is_answered_once_and_in_order() {
    let mut server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "bots.durability=os",
    ]);
    let script = |n: usize| if n.is_multiple_of(2) { Script::Raw } else { Script::Json };
    let mut phones: Vec<Phone> = (0..HERD)
        .map(|n| Phone::connect_as(server.bridge, script(n), &format!("herd-{n}")))
        .collect();
    phones.iter_mut().enumerate().for_each(|(n, phone)| phone.say_in(&n.to_string(), "# echo 0"));
    phones.iter_mut().for_each(|phone| assert_eq!(phone.reply(), "에코: 0"));
    server.kill();
    assert!(phones.iter_mut().all(Phone::is_closed));
    server.restart();

    let (address, together) = (server.bridge, Barrier::new(HERD));
    std::thread::scope(|scope| {
        for n in 0..HERD {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                let mut phone = Phone::silent(address, script(n));
                phone.device = format!("herd-{n}");
                let mut lines = vec![phone.hello()];
                for number in 1..=QUEUED {
                    lines.push(phone.chat_line(&n.to_string(), &format!("# echo {number}")));
                }
                phone.send(&lines.join("\n"));
                assert_eq!(phone.expect("handshakeComplete")["success"], true);
                for number in 1..=QUEUED {
                    assert_eq!(phone.reply(), format!("에코: {number}"), "phone {n}");
                }
                phone.assert_quiet();
            });
        }
    });
    let messages = all_of(&server, "/api/messages");
    // One before the kill, those that were queued, and one to show that nothing came after them.
    assert_eq!(messages.len(), HERD * (1 + QUEUED + 1));
    assert!(messages.iter().all(|message| message["state"] == "done"));
}
