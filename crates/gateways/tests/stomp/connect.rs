//! Getting in, staying in, and being told to go.

use std::sync::Arc;
use std::time::Duration;

use naru_gateways::limits::UserRates;
use naru_gateways::stomp::StompOptions;
use naru_wire::stomp::{Command, Event, Version};
use tokio::time::{Instant, sleep};

use crate::world::{Application, Client, World};

#[tokio::test(start_paused = true)]
async fn the_highest_version_in_common_is_spoken() {
    let world = World::new();
    for (accept, version) in [
        (None, "1.0"),
        (Some("1.0"), "1.0"),
        (Some("1.0,1.1"), "1.1"),
        (Some("1.2,1.1,1.0"), "1.2"),
        (Some("1.1,9.9"), "1.1"),
    ] {
        let mut client = world.client(Version::V1_2);
        let headers: Vec<_> = accept.iter().map(|list| ("accept-version", *list)).collect();
        client.send(Command::Stomp, &headers, "").await;
        let connected = client.expect(Command::Connected).await;
        assert_eq!(connected.header("version"), Some(version), "{accept:?}");
        assert!(connected.header("server").unwrap().starts_with("naru/"));
    }
    let mut client = world.client(Version::V1_2);
    client.send(Command::Connect, &[("accept-version", "3.0")], "").await;
    let error = client.refused("unsupported_version").await;
    assert_eq!(error.header("version"), Some("1.0,1.1,1.2"));
}

#[tokio::test(start_paused = true)]
async fn what_a_client_sends_behind_connect_is_read_when_it_is_in() {
    let world = World::new();
    let mut client = world.client(Version::V1_1);
    client
        .write(
            b"CONNECT\naccept-version:1.1\n\n\0\nSUBSCRIBE\nid:0\ndestination:/topic/a\\cb\n\n\0\
              SEND\ndestination:/topic/x\nreceipt:1\n\nhi\0",
        )
        .await;
    client.expect(Command::Connected).await;
    // `a:b` is in a namespace that does not exist, so the escape was understood.
    client.refused("unknown_destination").await;
}

#[tokio::test(start_paused = true)]
async fn login_and_passcode_or_a_token_say_who_a_client_is() {
    let world = World::with(StompOptions::default(), None);
    for headers in [
        &[("login", "ann"), ("passcode", "secret")][..],
        &[("Authorization", "Bearer token-of-ann")],
        &[("token", "token-of-ann")],
    ] {
        let mut client = world.client(Version::V1_2);
        client.connect(headers).await;
        assert_eq!(world.hub.clients_of("ann").len(), 1, "{headers:?}");
        client.send(Command::Disconnect, &[("receipt", "bye")], "").await;
        client.expect(Command::Receipt).await;
        assert_eq!(client.event().await, None);
        assert_eq!(world.hub.clients_of("ann").len(), 0);
    }
    for headers in [
        &[][..],
        &[("login", "ann"), ("passcode", "wrong")],
        &[("login", "ann"), ("passcode", "again")],
        &[("token", "nonsense")],
        &[("token", "old-token")],
    ] {
        let mut client = world.client(Version::V1_2);
        let mut all = vec![("accept-version", "1.2")];
        all.extend(headers);
        client.send(Command::Connect, &all, "").await;
        client.refused("bad_credentials").await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_hosts_that_are_served_may_be_named_if_some_are() {
    let options = StompOptions { allow_anonymous: true, ..StompOptions::default() };
    let world = World::with(StompOptions { hosts: vec!["x".into()], ..options }, None);
    world.anonymous().await;
    let mut client = world.client(Version::V1_2);
    client.send(Command::Connect, &[("accept-version", "1.2"), ("host", "y")], "").await;
    client.refused("forbidden").await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_something_else_is_sent_away() {
    let world = World::new();
    let mut silent = world.client(Version::V1_2);
    let start = Instant::now();
    sleep(Duration::from_secs(9)).await;
    silent.refused("not_connected").await;
    assert!(start.elapsed() < Duration::from_secs(11));
    for (bytes, code) in [
        (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "unknown_command"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and so on", "unknown_command"),
        (b"SEND\ndestination:/topic/a\n\n\0", "not_connected"),
        (b"CONNECT\nno colon\n\n\0", "malformed_header"),
        (b"CONNECT\nheart-beat:soon\naccept-version:1.2\n\n\0", "bad_heart_beat"),
        (b"CONNECT\n\xff:x\n\n\0", "not_utf8"),
    ] {
        let mut client = world.client(Version::V1_2);
        client.write(bytes).await;
        client.refused(code).await;
    }
}

#[tokio::test(start_paused = true)]
async fn frames_beyond_the_limits_are_told_and_end_the_connection() {
    let world = World::new();
    let long = format!("SEND\ndestination:/topic/a\n{}:1\n\n\0", "x".repeat(11_000));
    let many: String = (0..101).map(|number| format!("h{number}:1\n")).collect();
    let many = format!("SEND\n{many}\n\0");
    for (bytes, code) in [
        ("SEND\ndestination:/topic/a\ncontent-length:1310720\n\nx", "frame_too_large"),
        ("SEND\ndestination:/topic/a\ncontent-length:1\n\nxyz\0", "bad_content_length"),
        ("SEND\ndestination:/topic/a\nx:\\q\n\n\0", "unknown_escape"),
        (&long, "header_too_long"),
        (&many, "too_many_headers"),
        ("BEGIN\ntransaction:t\nreceipt:r\n\nbody\0", "unexpected_body"),
    ] {
        let mut client = world.anonymous().await;
        client.write(bytes.as_bytes()).await;
        client.refused(code).await;
    }
    // Before CONNECTED there is less room.
    let mut client = world.client(Version::V1_2);
    client.write(format!("CONNECT\n{}\n\0", "x:1\n".repeat(20_000)).as_bytes()).await;
    client.refused("too_many_headers").await;
}

#[tokio::test(start_paused = true)]
async fn heart_beats_come_as_agreed_and_a_client_without_any_is_gone() {
    let world = World::new();
    let mut client = world.client(Version::V1_2);
    let connected = client.connect(&[("heart-beat", "5000,2000")]).await;
    assert_eq!(connected.header("heart-beat"), Some("10000,10000"));
    let start = Instant::now();
    // The client hears one at least every 10 s, as long as it sends some itself.
    for _ in 0..10 {
        sleep(Duration::from_secs(9)).await;
        client.write(b"\n").await;
    }
    let mut beats = 0;
    loop {
        match client.event().await {
            Some(Event::HeartBeat) => beats += 1,
            Some(Event::Frame(frame)) => {
                assert_eq!(frame.header("code"), Some("gone"));
                break;
            }
            None => panic!("closed without a word"),
        }
    }
    // Several that were written at once are read as one.
    assert!(beats >= 1, "{beats}");
    let after = start.elapsed();
    assert!(
        after > Duration::from_secs(90 + 20) && after < Duration::from_secs(90 + 30),
        "{after:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_wants_no_heart_beats_gets_none_and_may_be_silent() {
    let world = World::new();
    let mut client = world.client(Version::V1_2);
    client.connect(&[("heart-beat", "0,0")]).await;
    sleep(Duration::from_secs(300)).await;
    client.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_slowed_down() {
    let options = StompOptions { allow_anonymous: true, ..StompOptions::default() };
    let world =
        World::with(StompOptions { frames_per_second: 10, frames_burst: 5, ..options }, None);
    let mut client = world.anonymous().await;
    let start = Instant::now();
    for _ in 0..50 {
        client.say("/topic/a", "x", &[]).await;
    }
    // 150 frames, of which 10 a second pass behind the first.
    assert!(start.elapsed() > Duration::from_secs(13), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_there_when_the_server_stops_is_told_when_to_come_back() {
    let application = Arc::new(Application::default());
    let world = World::with(StompOptions::default(), Some(application.clone()));
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..3 {
        clients.push(world.user("ann").await);
    }
    world.stop.cancel();
    for client in &mut clients {
        let error = client.refused("shutting_down").await;
        let wait: u64 = error.header("retry-after-ms").unwrap().parse().unwrap();
        assert!(wait <= 5_000);
    }
    drop(clients);
    let mut tasks = world.tasks;
    while tasks.join_next().await.is_some() {}
    assert_eq!(*application.gone.lock(), ["ann shutdown"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_floods_over_many_connections_is_told_so_and_others_go_on() {
    let user_rates = UserRates::new(1, 10);
    let world = World::with(StompOptions { user_rates, ..StompOptions::default() }, None);
    let (mut one, mut two) = (world.user("bo").await, world.user("bo").await);
    let begins = |from: u32| {
        let frame = |number| format!("BEGIN\ntransaction:{number}\n\n\0");
        (from..from + 10).map(frame).collect::<String>()
    };
    one.write(begins(0).as_bytes()).await;
    one.sync().await;
    two.write(begins(0).as_bytes()).await;
    two.refused("rate_limited").await;
    let mut other = world.user("al").await;
    other.sync().await;
}
