//! Faults: kill -9, restarts, phones that do not read, bad bytes, TLS with changing certificates.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    BOT, CHANNEL, DEVICE, Phone, ROOM, Script, Server, all_of, eventually, now_ms,
};

#[test]
fn accepted_messages_survive_kill_9_and_are_answered_once_in_order() {
    let mut server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "bots.durability=os",
    ]);
    let mut answered: Vec<u32> = Vec::new();
    let mut sent = 0;
    for _ in 0..5 {
        let mut phone = Phone::connect(server.bridge, Script::Raw);
        let mut lines = String::new();
        for _ in 0..300 {
            lines.push_str(&phone.chat_line(CHANNEL, &format!("# echo {sent}")));
            lines.push('\n');
            sent += 1;
        }
        phone.send_bytes(lines.as_bytes());
        // Some are answered, some accepted, some not even read: whatever the kill finds.
        answered.push(number(&phone.reply()));
        server.kill();
        while let Some((frame, raw)) = phone.next() {
            answered.push(number(&phone.text_of(&frame, &raw)));
        }
        server.restart();
    }
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.say("# echo 999999");
    loop {
        let n = number(&phone.reply());
        if n == 999_999 {
            break;
        }
        answered.push(n);
    }
    let mut sorted = answered.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, answered, "in order, and none twice");
    let mut accepted: Vec<u32> = all_messages(&server)
        .iter()
        .filter_map(|message| message["text"].as_str()?.strip_prefix("# echo ")?.parse().ok())
        .filter(|n| *n != 999_999)
        .collect();
    accepted.sort_unstable();
    assert_eq!(accepted, answered, "what was accepted was answered, and nothing else");
}

fn number(text: &str) -> u32 {
    text.strip_prefix("에코: ").unwrap().parse().unwrap()
}

fn all_messages(server: &Server) -> Vec<Value> {
    all_of(server, "/api/messages")
}

#[test]
fn replies_made_while_a_phone_was_away_reach_it_when_it_returns_even_after_a_restart() {
    let mut server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let device = server.device(DEVICE).unwrap()["id"].clone();
    drop(phone);
    for n in 0..3 {
        let body = json!({
            "device": device, "channel_id": CHANNEL, "room": ROOM, "text": format!("kept {n}"),
        });
        let (status, answer) = server.api("POST", "/api/send", Some(&body));
        assert_eq!(status, 200, "{answer}");
    }
    server.kill_and_restart();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    for n in 0..3 {
        assert_eq!(phone.reply(), format!("kept {n}"));
    }
    phone.assert_quiet();
}

#[test]
fn a_send_that_is_repeated_with_its_key_after_a_restart_is_made_once() {
    let mut server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let (_, list) = server.api("GET", "/api/messages", None);
    let device = server.device(DEVICE).unwrap()["id"].clone();
    let send = json!({
        "device": device, "channel_id": CHANNEL, "room": ROOM, "text": "once",
        "idempotency_key": "order-17",
    });
    let later = json!({ "replies": [{ "text": "later" }], "idempotency_key": "report-17" });
    let replies = format!("/api/messages/{}/replies", list["items"][0]["id"]);
    let ask = |server: &Server| {
        let (status, sent) = server.api("POST", "/api/send", Some(&send));
        assert_eq!(status, 200, "{sent}");
        let (status, answered) = server.api("POST", &replies, Some(&later));
        assert_eq!(status, 200, "{answered}");
        (sent, answered)
    };
    let first = ask(&server);
    assert_eq!((phone.reply(), phone.reply()), ("once".to_owned(), "later".to_owned()));
    server.kill_and_restart();
    assert_eq!(ask(&server), first);
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
}

#[test]
fn a_graceful_stop_ends_with_code_0_and_loses_nothing() {
    let mut server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let mut lines = String::new();
    for n in 0..100 {
        lines.push_str(&phone.chat_line(CHANNEL, &format!("# echo {n}")));
        lines.push('\n');
    }
    phone.send_bytes(lines.as_bytes());
    let mut answered = vec![number(&phone.reply())];
    assert_eq!(server.terminate(), Some(0));
    while let Some((frame, raw)) = phone.next() {
        answered.push(number(&phone.text_of(&frame, &raw)));
    }
    server.restart();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.say("# echo 999999");
    loop {
        match number(&phone.reply()) {
            999_999 => break,
            n => answered.push(n),
        }
    }
    let accepted = all_messages(&server).len() - 2;
    assert_eq!(answered.len(), accepted);
    assert_eq!(answered, (0..u32::try_from(accepted).unwrap()).collect::<Vec<_>>());
}

#[test]
fn a_phone_that_reads_nothing_harms_only_itself() {
    let server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "limits.mailbox_messages=50",
    ]);
    let mut deaf = Phone::connect_as(server.bridge, Script::Raw, "deaf");
    let mut good = Phone::connect_as(server.bridge, Script::Raw, "good");
    good.assert_quiet();
    let long = "가".repeat(20_000);
    let mut writer = deaf.stream.try_clone().unwrap();
    writer.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..120 {
        let line = deaf.chat_line(CHANNEL, &format!("# echo {long}"));
        if writer.write_all(format!("{line}\n").as_bytes()).is_err() {
            break;
        }
    }
    for _ in 0..20 {
        good.assert_quiet();
    }
    eventually("the mailbox of the deaf phone was bounded", || {
        (server.metric("naru_hub_deliveries_dropped_total{cause=\"cut\"}") > 0.0
            || server.metric("naru_bridge_chats_total") >= 120.0)
            .then_some(())
    });
    good.assert_quiet();
}

#[test]
fn every_kind_of_bad_frame_is_counted_and_hurts_nobody() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    let deep = format!("{{\"event\":\"message\",\"data\":{}", "[".repeat(100_000));
    let auth = phone.auth_at(now_ms()).to_string();
    let bad: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"}".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"{}".to_vec(),
        b"{\"event\":5}".to_vec(),
        b"{\"event\":\"message\"}".to_vec(),
        b"{\"event\":\"message\",\"data\":7}".to_vec(),
        b"{\"event\":\"message\",\"data\":{\"room\":5}}".to_vec(),
        vec![0xff, 0xfe, 0x00, 0x7f],
        deep.into_bytes(),
        format!("{{\"event\":\"message\",\"data\":{{\"auth\":{auth},\"auth\":{auth}}}}}")
            .into_bytes(),
        b"GET / HTTP/1.1".to_vec(),
    ];
    for line in &bad {
        phone.send_bytes(line);
        phone.send_bytes(b"\n");
    }
    phone.send("{\"event\":\"dance\",\"data\":{}}");
    phone.assert_quiet();
    assert!(server.metric("naru_bridge_unknown_events_total") >= 1.0);
    assert!(server.metric("naru_bridge_bad_frames_total{why=\"too_deep\"}") >= 1.0);
    assert!(server.metric("naru_bridge_bad_frames_total{why=\"not_utf8\"}") >= 1.0);
}

#[test]
fn a_peer_that_sends_only_nonsense_is_cut() {
    let server = Server::auto();
    let mut peer = Phone::silent(server.bridge, Script::Raw);
    drop(peer.stream.write_all("nonsense\n".repeat(1_000).as_bytes()));
    eventually("it is cut", || {
        (server.metric("naru_bridge_closed_total{reason=\"malformed\"}") == 1.0).then_some(())
    });
    assert!(peer.next().is_none());
}

#[test]
fn a_store_in_use_is_a_clear_error() {
    let server = Server::auto();
    let output = crate::harness::naru_command()
        .arg("serve")
        .arg("--data-dir")
        .arg(server.dir())
        .args(["--set", "bridge.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(text.contains("another") || text.contains("in use"), "{text}");
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let server = Server::auto();
    let dir = tempfile::tempdir().unwrap();
    let output = crate::harness::naru_command()
        .arg("serve")
        .arg("--data-dir")
        .arg(dir.path())
        .arg("--set")
        .arg(format!("bridge.listen={}", server.bridge))
        .args(["--set", "http.listen=127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("bridge.listen") && text.contains(&server.bridge.to_string()), "{text}");
}

#[test]
fn two_phones_with_one_identity_are_noticed() {
    let server = Server::auto();
    for _ in 0..8 {
        drop(Phone::connect(server.bridge, Script::Raw));
        let first = Phone::connect(server.bridge, Script::Raw);
        let second = Phone::connect(server.bridge, Script::Raw);
        drop((first, second));
        if server.metric("naru_bridge_identity_fights_total") > 0.0 {
            return;
        }
    }
    panic!("the fight was not noticed");
}

#[test]
fn secrets_appear_neither_in_logs_nor_in_metrics_nor_in_answers() {
    let server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "log.level=trace",
        "http.api_keys=[\"canary-api-key\"]",
    ]);
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let token = std::fs::read_to_string(server.dir().join("operator.token")).unwrap();
    let log = std::fs::read_to_string(server.dir().with_extension("log")).unwrap();
    for secret in ["testsecret", "canary-api-key", token.trim()] {
        assert!(!log.contains(secret), "{secret}");
        let (_, info) = server.api("GET", "/api/info", None);
        assert!(!info.to_string().contains(secret));
    }
    assert!(!log.contains(BOT) || !log.contains("nothing before this"), "chat is never logged");
}
