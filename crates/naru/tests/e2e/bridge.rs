//! The wire: handshakes, dialects, signatures, keep-alives, replacement, hostile text, pictures.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::harness::{BOT, CHANNEL, DEVICE, Phone, ROOM, Script, Server, eventually, now_ms};

const BOTH: [Script; 2] = [Script::Json, Script::Raw];

#[test]
fn each_dialect_is_welcomed_and_answered_in_its_own_tongue() {
    let server = Server::auto();
    for (script, device) in BOTH.into_iter().zip(["json-device", "raw-device"]) {
        let mut phone = Phone::silent(server.bridge, script);
        phone.device = device.to_owned();
        let welcome = phone.shake_hands();
        assert_eq!(welcome["approved"], true);
        phone.say("# echo 안녕 }");
        let (frame, raw) = phone.next().unwrap();
        assert_eq!(frame["event"], "messageResponse");
        assert_eq!(frame["data"]["room"], ROOM);
        assert_eq!(phone.text_of(&frame, &raw), "에코: 안녕 }");
    }
}

#[test]
fn an_old_hello_of_three_fields_is_understood() {
    let server = Server::auto();
    let mut phone = Phone::silent(server.bridge, Script::Json);
    let hello = json!({ "botName": BOT, "version": "3.2.2+smartlog", "deviceID": DEVICE });
    phone.send(&hello.to_string());
    assert_eq!(phone.expect("handshakeComplete")["success"], true);
    phone.say("# echo x");
    assert_eq!(phone.reply(), "에코: x");
}

#[test]
fn signed_chat_before_the_handshake_is_answered_and_the_handshake_after_it_too() {
    let server = Server::auto();
    let mut phone = Phone::silent(server.bridge, Script::Raw);
    let mut lines = String::new();
    for n in 1..=3 {
        lines.push_str(&phone.chat_line(CHANNEL, &format!("# echo {n}")));
        lines.push('\n');
    }
    lines.push_str(&phone.hello());
    lines.push('\n');
    phone.send_bytes(lines.as_bytes());
    let (mut replies, mut welcomes) = (Vec::new(), 0);
    while replies.len() < 3 || welcomes < 1 {
        let (frame, raw) = phone.next().unwrap();
        if frame["event"] == "handshakeComplete" {
            welcomes += 1;
        } else {
            replies.push(phone.text_of(&frame, &raw));
        }
    }
    assert_eq!(replies, ["에코: 1", "에코: 2", "에코: 3"]);
}

#[test]
fn a_repeated_handshake_is_answered_again_and_harms_nothing() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    assert_eq!(phone.shake_hands()["success"], true);
    phone.assert_quiet();
}

#[test]
fn unsigned_forged_stale_foreign_and_replayed_frames_are_ignored_and_counted() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    let now = now_ms();

    let mut unsigned: Value =
        serde_json::from_str(&phone.chat_line(CHANNEL, "# echo unsigned")).unwrap();
    unsigned["data"].as_object_mut().unwrap().remove("auth");
    phone.send(&unsigned.to_string());

    let mut forged = phone.auth_at(now);
    forged["signature"] = json!("0".repeat(64));
    let log = phone.next_log_id();
    let line = phone.chat_line_with(CHANNEL, "# echo forged", &log, &forged);
    phone.send(&line);

    for age in [-301_000, 301_000] {
        let log = phone.next_log_id();
        let auth = phone.auth_at(now + age);
        let line = phone.chat_line_with(CHANNEL, "# echo stale", &log, &auth);
        phone.send(&line);
    }

    let mut other = Phone::silent(server.bridge, Script::Json);
    other.bot = "other-bot".to_owned();
    let foreign = other.chat_line(CHANNEL, "# echo foreign");
    phone.send(&foreign);

    phone.assert_quiet();
    let auth = phone.auth_at(now + 1);
    let log = phone.next_log_id();
    let line = phone.chat_line_with(CHANNEL, "# echo once", &log, &auth);
    phone.send(&line);
    assert_eq!(phone.reply(), "에코: once");

    // A copy of the frame, and the same signature with other words from another address.
    phone.send(&line);
    phone.assert_quiet();
    let mut thief = Phone::over(connect_from([127, 0, 0, 2], server.bridge), Script::Json);
    thief.shake_hands();
    let log = thief.next_log_id();
    let line = thief.chat_line_with(CHANNEL, "# echo stolen", &log, &auth);
    thief.send(&line);
    thief.assert_quiet();

    for (why, count) in
        [("missing", 1.0), ("bad", 1.0), ("stale", 2.0), ("foreign", 1.0), ("replayed", 1.0)]
    {
        let series = format!("naru_bridge_distrusted_total{{why=\"{why}\"}}");
        assert_eq!(server.metric(&series), count, "{why}");
    }
}

fn connect_from(address: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

#[test]
fn a_signature_within_five_minutes_is_taken_whatever_the_phones_clock_says() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    for skew in [-290_000, 290_000] {
        let auth = phone.auth_at(now_ms() + skew);
        let log = phone.next_log_id();
        let line = phone.chat_line_with(CHANNEL, "# echo skewed", &log, &auth);
        phone.send(&line);
        assert_eq!(phone.reply(), "에코: skewed");
    }
}

#[test]
fn a_message_sent_twice_is_answered_once() {
    let server = Server::auto();
    for script in BOTH {
        let mut phone = Phone::connect(server.bridge, script);
        let line = phone.chat_line(CHANNEL, "# echo once");
        phone.send(&line);
        phone.send(&line);
        assert_eq!(phone.reply(), "에코: once");
        phone.assert_quiet();
    }
}

#[test]
fn the_id_less_copy_of_a_message_is_not_answered() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    let full = phone.chat_line(CHANNEL, "# echo twin");
    let mut copy: Value = serde_json::from_str(&full).unwrap();
    copy["data"]["channelId"] = Value::Null;
    copy["data"].as_object_mut().unwrap().remove("logId");
    copy["data"]["userHash"] = json!("random");
    phone.send(&full);
    phone.send(&copy.to_string());
    assert_eq!(phone.reply(), "에코: twin");
    phone.assert_quiet();
}

#[test]
fn pings_come_by_themselves_and_both_kinds_of_answers_are_kept() {
    let server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "bridge.ping_interval=1s",
    ]);
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    for event in ["ping", "pong"] {
        let (ping, _) = phone.read().unwrap();
        assert_eq!(ping["event"], "ping");
        let answer = json!({ "event": event, "data": {
            "bot_name": BOT, "server_timestamp": ping["data"]["server_timestamp"],
            "monitoring": {
                "total_memory": 256, "memory_usage": 41.3, "memory_percent": 16.1,
                "message_queue_size": 0, "active_rooms": 3,
            },
            "auth": phone.auth_at(now_ms()),
        }});
        phone.send(&answer.to_string());
    }
    let device = server.device(DEVICE).unwrap()["id"].clone();
    let path = format!("/api/pings?device={device}");
    let rows = eventually("both answers are kept", || {
        let (_, list) = server.api("GET", &path, None);
        let rows = list["items"].as_array()?.clone();
        (rows.len() >= 2).then_some(rows)
    });
    assert!(rows[0]["round_trip_ms"].as_i64().unwrap() < 20_000, "{rows:?}");
}

#[test]
fn a_new_connection_replaces_the_old_one_and_gets_the_replies() {
    let server = Server::auto();
    let mut old = Phone::connect(server.bridge, Script::Raw);
    let mut new = Phone::connect(server.bridge, Script::Raw);
    assert!(old.is_closed());
    for _ in 0..3 {
        new.assert_quiet();
    }
    let sessions = server.api("GET", "/api/sessions", None).1;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "{sessions}");
}

#[test]
fn hostile_text_comes_back_as_it_was() {
    let server = Server::auto();
    let texts = [
        "}{\"event\":\"ping\"}",
        "줄\n바꿈\r\n끝",
        "🙂 emoji 👩‍👩‍👧 and \u{200d}",
        "quotes \" and \\ and /",
        "|||",
        "# echo --repeat=9",
    ];
    for script in BOTH {
        let mut phone = Phone::connect(server.bridge, script);
        for text in texts {
            if text.contains("--") {
                continue;
            }
            phone.say(&format!("# echo {text}"));
            assert_eq!(phone.reply(), format!("에코: {text}"), "{script:?}");
        }
        // As long as a phone sends: 65,000 UTF-16 units.
        let long = "가".repeat(65_000 - "# echo ".len());
        phone.say(&format!("# echo {long}"));
        assert_eq!(phone.reply(), format!("에코: {long}"));
    }
}

#[test]
fn text_never_begins_like_media_in_the_json_dialect() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    approve(&server, phone.device.clone().as_str());
    phone.say("# echo warm up");
    phone.reply();
    let device = server.device(DEVICE).unwrap()["id"].clone();
    let body = json!({
        "device": device, "channel_id": CHANNEL, "room": ROOM, "text": "MEDIA_URL:http://192.0.2.1/x.png",
    });
    let (status, answer) = server.api("POST", "/api/send", Some(&body));
    assert_eq!(status, 200, "{answer}");
    let text = phone.reply();
    assert!(text.ends_with("MEDIA_URL:http://192.0.2.1/x.png") && !text.starts_with("MEDIA_URL:"));
}

fn approve(server: &Server, device: &str) {
    assert_eq!(server.device(device).unwrap()["approval"], "approved");
}

#[test]
fn pictures_reach_both_dialects_byte_for_byte() {
    let server = Server::auto();
    let pictures: Vec<Vec<u8>> = vec![png(1), png(2)];
    for script in BOTH {
        let mut phone = Phone::connect(server.bridge, script);
        phone.say("# echo warm up");
        phone.reply();
        let device = server.device(DEVICE).unwrap()["id"].clone();
        let items: Vec<Value> =
            pictures.iter().map(|bytes| json!({ "base64": BASE64.encode(bytes) })).collect();
        let body = json!({
            "device": device, "channel_id": CHANNEL, "room": ROOM,
            "reply": { "images": items, "wait_ms": 5000 },
        });
        let (status, answer) = server.api("POST", "/api/send", Some(&body));
        assert_eq!(status, 200, "{answer}");
        let (frame, raw) = phone.next().unwrap();
        let data = &frame["data"];
        assert_eq!(data["channel_id"], CHANNEL);
        assert_eq!(data["media_wait_time"], 5000);
        let received: Vec<Vec<u8>> = match script {
            Script::Json => {
                let text = data["text"].as_str().unwrap();
                let items = text.strip_prefix("IMAGE_BASE64:").unwrap().split("|||");
                items.map(|item| BASE64.decode(item).unwrap()).collect()
            }
            Script::Raw => {
                assert_eq!(data["message_type"], "image");
                let ends: Vec<usize> = data["message_positions"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|end| usize::try_from(end.as_u64().unwrap()).unwrap())
                    .collect();
                ends.windows(2).map(|cut| BASE64.decode(&raw[cut[0]..cut[1]]).unwrap()).collect()
            }
        };
        assert_eq!(received, pictures, "{script:?}");
    }
}

/// A valid 1×1 PNG of a shade of its own.
fn png(shade: u8) -> Vec<u8> {
    let mut bytes = BASE64
        .decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
        .unwrap();
    // Bytes after the end chunk are ignored by every decoder and tell the pictures apart.
    bytes.push(shade);
    bytes
}

#[test]
fn every_frame_is_at_least_512_characters_long() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    phone.say("# echo short");
    let (frame, raw) = phone.next().unwrap();
    // `Value` has lost the blanks, so look at the bytes of the next one.
    assert_eq!(phone.text_of(&frame, &raw), "에코: short");
    phone.say("# echo short");
    let mut line = vec![0; 512];
    std::io::Read::read_exact(&mut phone.stream, &mut line).unwrap();
    assert!(!line.contains(&b'\n'), "{}", String::from_utf8_lossy(&line));
}

#[test]
fn byte_by_byte_and_two_in_one_are_the_same_to_us() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    let line = phone.chat_line(CHANNEL, "# echo drop by drop");
    for byte in format!("{line}\n").bytes() {
        phone.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(phone.reply(), "에코: drop by drop");
    let one = phone.chat_line(CHANNEL, "# echo one");
    let two = phone.chat_line(CHANNEL, "# echo two");
    phone.send_bytes(format!("{one}\r\n\n{two}\n").as_bytes());
    assert_eq!(phone.reply(), "에코: one");
    assert_eq!(phone.reply(), "에코: two");
}

#[test]
fn a_half_closed_phone_still_ends_cleanly() {
    let server = Server::auto();
    let phone = Phone::connect(server.bridge, Script::Raw);
    phone.stream.shutdown(Shutdown::Write).unwrap();
    eventually("the session is suspended", || {
        let (_, sessions) = server.api("GET", "/api/sessions", None);
        (sessions["items"][0]["state"] == "suspended").then_some(())
    });
}

#[test]
fn the_dialect_of_3_3_1_is_spoken_where_it_says_enough() {
    let server = Server::with(&["bridge.approve_devices=auto", "bridge.approve_rooms=auto"]);
    let mut phone = Phone::silent(server.bridge, Script::Json);
    let hello = json!({ "type": "handshake", "auth": phone.auth_at(now_ms()), "info": {
        "clientType": "MessengerBotR", "botName": BOT, "version": "3.3.1", "deviceID": DEVICE,
        "deviceIP": "192.0.2.10", "deviceInfo": "acme One",
    }});
    phone.send(&hello.to_string());
    let (frame, _) = phone.read().unwrap();
    assert_eq!(frame["status"], "accepted");
    assert!(server.device(DEVICE).is_some());
}
