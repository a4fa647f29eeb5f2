//! Bot work as its users see it: approval, order, commands, webhooks, schedules, dead letters, restarts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BOT, CHANNEL, DEVICE, Phone, ROOM, Script, Server, eventually};

#[test]
fn a_phone_and_its_room_are_silent_until_they_are_approved_and_then_at_once_are_not() {
    let server = Server::with(&[]);
    let mut phone = Phone::silent(server.bridge, Script::Raw);
    assert_eq!(phone.shake_hands()["approved"], false);
    phone.say("# echo not yet");
    let message = eventually("the chat is logged", || {
        let (_, list) = server.api("GET", "/api/messages", None);
        list["items"].as_array()?.first().cloned()
    });
    assert_eq!(message["state"], "logged");

    let device = server.device(DEVICE).unwrap();
    assert_eq!(device["approval"], "pending");
    let id = device["id"].to_string();
    assert!(server.naru(&["devices", "approve", &id]).status.success());
    let rooms = server.naru_json(&["rooms", "list"]);
    let room = rooms["items"][0]["id"].to_string();
    assert!(server.naru(&["rooms", "approve", &room]).status.success());
    phone.assert_quiet();

    assert!(server.naru(&["devices", "revoke", &id]).status.success());
    phone.say("# echo no more");
    assert!(server.naru(&["devices", "approve", &id]).status.success());
    phone.assert_quiet();
}

#[test]
fn a_phone_that_does_not_know_its_id_is_never_approved() {
    let server = Server::auto();
    let mut phone = Phone::silent(server.bridge, Script::Json);
    phone.device = "unknown".to_owned();
    assert_eq!(phone.shake_hands()["approved"], false);
}

#[test]
fn replies_leave_in_the_order_of_their_messages_in_every_room() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    let channels = ["101", "102", "103"];
    let mut lines = String::new();
    for n in 0..200 {
        for channel in channels {
            lines.push_str(&phone.chat_line(channel, &format!("# echo {channel} {n}")));
            lines.push('\n');
        }
    }
    let mut writer = phone.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(lines.as_bytes()));
    let mut next = [0; 3];
    for _ in 0..600 {
        let text = phone.reply();
        let (channel, n) = text.strip_prefix("에코: ").unwrap().split_once(' ').unwrap();
        let at = channels.iter().position(|known| *known == channel).unwrap();
        assert_eq!(n.parse::<i32>().unwrap(), next[at], "room {channel}");
        next[at] += 1;
    }
    writing.join().unwrap().unwrap();
    assert_eq!(next, [200; 3]);
}

#[test]
fn direct_processing_keeps_the_same_order() {
    let server = Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "bots.processing=direct",
    ]);
    let mut phone = Phone::connect(server.bridge, Script::Json);
    for n in 0..200 {
        phone.say(&format!("# echo {n}"));
    }
    for n in 0..200 {
        assert_eq!(phone.reply(), format!("에코: {n}"));
    }
    let line = phone.chat_line(CHANNEL, "# echo once");
    phone.send(&line);
    phone.send(&line);
    assert_eq!(phone.reply(), "에코: once");
    phone.assert_quiet();
}

#[test]
fn the_built_in_commands_answer() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.say("# echo --repeat=2 안녕");
    assert_eq!(phone.reply(), "[1/2] 에코: 안녕");
    assert_eq!(phone.reply(), "[2/2] 에코: 안녕");
    phone.say("# echo --repeat=x 안녕");
    assert!(phone.reply().contains("repeat"));
    phone.say("# echo");
    assert!(phone.reply().contains("# echo"), "a usage line");
    phone.say("# echo --channel-id=1 elsewhere");
    phone.say("# help");
    assert!(phone.reply().contains("# echo"));
    phone.say("# ping");
    assert!(!phone.reply().is_empty());
    // For admins only, and nobody is one yet.
    phone.say("# client_info summary");
    let refusal = phone.reply();
    assert!(!refusal.contains(DEVICE), "{refusal}");
    phone.say("# IMGEXT 하나 two --media-wait-time=4000");
    let (frame, raw) = phone.next().unwrap();
    assert_eq!(frame["data"]["message_type"], "image");
    assert_eq!(frame["data"]["media_wait_time"], 4000);
    assert_eq!(frame["data"]["message_positions"].as_array().unwrap().len(), 3);
    assert!(raw.starts_with("iVBORw0KGgo"));
    phone.assert_quiet();
}

#[test]
fn an_admin_of_a_bot_may_use_its_admin_commands() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    set_bot(&server, |settings| settings["admins"] = json!([{ "user_hash": "a1b2" }]));
    phone.say("# client_info summary");
    assert!(phone.reply().contains(BOT));
    phone.say("# reload bots-config");
    assert!(!phone.reply().is_empty());
}

/// Changes the bot's settings through the API.
fn set_bot(server: &Server, change: impl FnOnce(&mut Value)) {
    let (_, bots) = server.api("GET", "/api/bots", None);
    let rows = bots["items"].as_array().unwrap();
    let row = rows.iter().find(|row| row["bot"] == BOT || row["name"] == BOT).unwrap();
    let mut settings = row["settings"].clone();
    change(&mut settings);
    let body = json!({ "settings": settings, "revision": row["revision"] });
    let (status, answer) = server.api("PUT", &format!("/api/bots/{BOT}/settings"), Some(&body));
    assert_eq!(status, 200, "{answer}");
}

/// One of the example bots, started as its README says.
struct Example {
    child: Child,
    port: u16,
}

impl Example {
    fn start(program: &str, script: &str, secret: &str) -> Example {
        // Asked at run time: the target folder may be shared with a clone elsewhere.
        let crate_dir = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this");
        let script = std::path::Path::new(&crate_dir).join("../../examples").join(script);
        let mut child = Command::new(program)
            .arg(script)
            .args(["--port", "0", "--secret", secret])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let port = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| {
                let digits = line.rsplit(':').next()?.trim_matches(|c: char| !c.is_ascii_digit());
                digits.parse().ok()
            })
            .expect("the port that was chosen");
        Example { child, port }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Of webhooks in these tests.
const SECRET: &str = "a-secret-of-thirty-two-characters";

fn server_with_hooks() -> Server {
    Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        "hooks.allow=[\"127.0.0.1\"]",
    ])
}

fn check_example(program: &str, script: &str) {
    let secret = SECRET;
    let bot = Example::start(program, script, secret);
    let server = server_with_hooks();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let url = format!("http://127.0.0.1:{}/", bot.port);
    set_bot(&server, |settings| settings["webhook"] = json!({ "url": url, "secret": secret }));
    phone.say("!echo 안녕 🙂");
    assert!(phone.reply().contains("안녕 🙂"));
    // Commands of the server still come first.
    phone.assert_quiet();
}

#[test]
fn the_python_example_answers_through_a_webhook() {
    check_example("python3", "webhook-python/bot.py");
}

#[test]
fn the_node_example_answers_through_a_webhook() {
    check_example("node", "webhook-node/bot.mjs");
}

/// A webhook target whose answers the test decides, one at a time.
struct Target {
    url: String,
    requests: mpsc::Receiver<(TcpStream, Value)>,
}

impl Target {
    fn listen() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || read_requests(stream, &sender));
            }
        });
        Target { url, requests }
    }

    fn next(&self) -> (TcpStream, Value) {
        self.requests.recv_timeout(Duration::from_secs(20)).expect("a request")
    }
}

fn read_requests(stream: TcpStream, sender: &mpsc::Sender<(TcpStream, Value)>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body = serde_json::from_slice(&body).unwrap();
        if sender.send((stream.try_clone().unwrap(), body)).is_err() {
            return;
        }
    }
}

fn respond(stream: &mut TcpStream, status: &str, body: &Value) {
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(answer.as_bytes()).unwrap();
}

fn text(text: &str) -> Value {
    json!({ "replies": [{ "text": text }] })
}

#[test]
fn a_failing_webhook_is_tried_again_with_the_same_delivery_and_order_holds() {
    let target = Target::listen();
    let server = server_with_hooks();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    set_bot(&server, |settings| {
        settings["webhook"] = json!({ "url": target.url, "secret": SECRET })
    });
    phone.say("first");
    let (mut stream, body) = target.next();
    assert_eq!(body["room"]["name"], ROOM);
    let id = body["id"].clone();
    respond(&mut stream, "503 Service Unavailable", &json!({}));
    let (mut stream, body) = target.next();
    assert_eq!(body["id"], id, "the same delivery");
    respond(&mut stream, "200 OK", &text("one"));
    assert_eq!(phone.reply(), "one");

    phone.say("second");
    phone.say("third");
    let (mut a, body_a) = target.next();
    let (mut b, body_b) = target.next();
    // The later message is answered first; its reply waits for the earlier one.
    let answer = |body: &Value| text(&format!("re: {}", body["text"].as_str().unwrap()));
    if body_a["text"] == "second" {
        respond(&mut b, "200 OK", &answer(&body_b));
        respond(&mut a, "200 OK", &answer(&body_a));
    } else {
        respond(&mut a, "200 OK", &answer(&body_a));
        respond(&mut b, "200 OK", &answer(&body_b));
    }
    assert_eq!(phone.reply(), "re: second");
    assert_eq!(phone.reply(), "re: third");
}

#[test]
fn what_failed_for_good_is_a_dead_letter_that_can_be_replayed() {
    let target = Target::listen();
    let server = server_with_hooks();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    set_bot(&server, |settings| {
        settings["webhook"] = json!({ "url": target.url, "secret": SECRET })
    });
    phone.say("please");
    let (mut stream, _) = target.next();
    respond(&mut stream, "400 Bad Request", &json!({}));
    let dead = eventually("the dead letter is listed", || {
        let list = server.naru_json(&["dead-letters", "list"]);
        list["items"].as_array()?.first().cloned()
    });
    let id = dead["id"].to_string();
    assert!(server.naru(&["dead-letters", "replay", &id]).status.success());
    let (mut stream, body) = target.next();
    assert_eq!(body["text"], "please");
    respond(&mut stream, "200 OK", &text("with pleasure"));
    assert_eq!(phone.reply(), "with pleasure");
}

#[test]
fn a_hung_webhook_of_one_bot_does_not_delay_another_bot() {
    let target = Target::listen();
    let server = server_with_hooks();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    set_bot(&server, |settings| {
        settings["webhook"] = json!({ "url": target.url, "secret": SECRET })
    });
    for n in 0..5 {
        phone.say(&format!("hang {n}"));
    }
    let _hanging = target.next();
    let mut other = Phone::silent(server.bridge, Script::Raw);
    other.bot = "other-bot".to_owned();
    other.device = "other-device".to_owned();
    other.shake_hands();
    other.assert_quiet();
}

#[test]
fn a_later_reply_reaches_the_room_of_its_message() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    phone.say("nobody answers this");
    let message = eventually("the chat is logged", || {
        let (_, list) = server.api("GET", "/api/messages", None);
        list["items"].as_array()?.first().cloned()
    });
    let path = format!("/api/messages/{}/replies", message["id"]);
    let body = json!({ "replies": [{ "text": "later" }] });
    let (status, answer) = server.api("POST", &path, Some(&body));
    assert!(status == 200 || status == 201, "{status} {answer}");
    assert_eq!(phone.reply(), "later");
}

#[test]
fn a_webhook_bot_answers_later_where_the_message_told_it_to() {
    let target = Target::listen();
    let server = server_with_hooks();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    set_bot(&server, |settings| {
        settings["webhook"] = json!({ "url": target.url, "secret": SECRET })
    });
    phone.say("a long report, please");
    let (mut stream, body) = target.next();
    respond(&mut stream, "200 OK", &json!({}));
    let url = body["reply_url"].as_str().expect("reply_url").to_owned();
    let base = format!("http://{}", server.http);
    let path = url.strip_prefix(&base).expect("the address of the API on this machine");
    let later = json!({ "replies": [{ "text": "the report" }, { "text": "its end" }] });
    let (status, answer) = server.api("POST", path, Some(&later));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((phone.reply(), phone.reply()), ("the report".to_owned(), "its end".to_owned()));
    phone.assert_quiet();
}

#[test]
fn a_schedule_is_sent_once_at_its_time() {
    let server = Server::auto();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let device = server.device(DEVICE).unwrap()["id"].clone();
    let at = chrono_like_utc(crate::harness::now_ms() + 1_500);
    let body = json!({
        "title": "lunch", "device": device, "room": ROOM, "channel_id": CHANNEL,
        "text": "점심 알림", "recurrence": { "kind": "once", "at": at }, "time_zone": "Asia/Seoul",
    });
    let (status, answer) = server.api("POST", "/api/schedules", Some(&body));
    assert!(status == 200 || status == 201, "{status} {answer}");
    let (frame, raw) = phone.next().unwrap();
    assert_eq!(frame["event"], "scheduleMessage");
    assert_eq!(phone.text_of(&frame, &raw), "점심 알림");
    phone.assert_quiet();
}

/// RFC 3339 in UTC from Unix milliseconds, by the civil-from-days algorithm.
fn chrono_like_utc(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", rest % 1_000)
}
