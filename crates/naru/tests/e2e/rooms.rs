//! A bot's room is a channel: a STOMP client is the logic of a bot, across the death of the server; the HTTP
//! API answers by the same way; and only those with a right to see what is said.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::harness::{BOT, CHANNEL, Phone, ROOM, SOON, Script, Server, all_of, eventually, http};

const USERS: &str = r#"users=[
    {name="weather",password="correct horse",role="operator"},
    {name="guest",password="correct horse",role="viewer"},
]"#;
const KEPT: &str = r#"{history_size=1000,durability="os",force_recovery=true}"#;

fn server() -> Server {
    Server::with(&[
        "bridge.approve_devices=auto",
        "bridge.approve_rooms=auto",
        USERS,
        "client.history_max=10000",
        &format!("channels.namespaces.bot={KEPT}"),
        &format!("channels.namespaces.room={KEPT}"),
    ])
}

/// A frame as it came.
struct Frame {
    command: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Frame {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

/// A STOMP 1.2 client that shares no code with the server.
struct Stomp {
    stream: BufReader<TcpStream>,
    /// Messages that came before a receipt.
    waiting: VecDeque<Frame>,
}

impl Stomp {
    fn connect(address: SocketAddr, user: &str) -> Stomp {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        let mut stomp = Stomp { stream: BufReader::new(stream), waiting: VecDeque::new() };
        stomp.send(
            "CONNECT",
            &[("accept-version", "1.2"), ("login", user), ("passcode", "correct horse")],
            "",
        );
        assert_eq!(stomp.next().command, "CONNECTED");
        stomp
    }

    fn send(&mut self, command: &str, headers: &[(&str, &str)], body: &str) {
        let mut frame = format!("{command}\n");
        for (name, value) in headers {
            frame.push_str(&format!("{name}:{}\n", value.replace(':', "\\c")));
        }
        if command == "CONNECT" {
            frame = frame.replace("\\c", ":");
        }
        frame.push_str(&format!("\n{body}\0"));
        self.stream.get_mut().write_all(frame.as_bytes()).expect("write");
    }

    fn next(&mut self) -> Frame {
        let mut line = String::new();
        while line.trim_end().is_empty() {
            line.clear();
            assert!(self.stream.read_line(&mut line).expect("read") > 0, "the connection ended");
        }
        let command = line.trim_end().to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("read");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_owned(), value.replace("\\c", ":"));
        }
        let mut body = match headers.get("content-length") {
            Some(length) => {
                let mut body = vec![0; length.parse::<usize>().expect("a length") + 1];
                self.stream.read_exact(&mut body).expect("read");
                body
            }
            None => {
                let mut body = Vec::new();
                self.stream.read_until(0, &mut body).expect("read");
                body
            }
        };
        assert_eq!(body.pop(), Some(0));
        Frame { command, headers, body: String::from_utf8(body).expect("UTF-8") }
    }

    fn expect(&mut self, command: &str) -> Frame {
        let frame = self.next();
        assert_eq!(frame.command, command, "{:?} {}", frame.headers, frame.body);
        frame
    }

    /// The next receipt.
    fn receipt(&mut self) -> Frame {
        loop {
            let frame = self.next();
            match &*frame.command {
                "RECEIPT" => return frame,
                "MESSAGE" => self.waiting.push_back(frame),
                other => panic!("{other}: {:?} {}", frame.headers, frame.body),
            }
        }
    }

    fn watch(&mut self, channel: &str, position: Option<&str>) {
        let destination = format!("/topic/{channel}");
        let mut headers = vec![("id", "s"), ("destination", &*destination), ("receipt", "s")];
        headers.extend(position.map(|position| ("last-position", position)));
        self.send("SUBSCRIBE", &headers, "");
        let receipt = self.receipt();
        let recovered = receipt.headers.get("recovered").map(String::as_str);
        assert_eq!(recovered, position.map(|_| "true"));
    }

    /// The next message of a person, and its position; what bots say is passed over.
    fn heard(&mut self) -> (Value, String) {
        loop {
            let frame = match self.waiting.pop_front() {
                Some(frame) => frame,
                None => self.expect("MESSAGE"),
            };
            let said = frame.json();
            if said["event"] == "message" {
                return (said, frame.headers["position"].clone());
            }
        }
    }

    /// Answers a message, and waits until the answer is kept.
    fn answer(&mut self, message: &Value) {
        let text = format!("re: {}", message["text"].as_str().expect("a text"));
        let body = json!({ "text": text, "message": message["id"] }).to_string();
        let destination = format!("/topic/{}", message["channel"].as_str().expect("a channel"));
        let key = format!("answer-{}", message["id"]);
        let headers = [
            ("destination", &*destination),
            ("idempotency-key", &*key),
            ("content-type", "application/json"),
            ("receipt", "a"),
        ];
        self.send("SEND", &headers, &body);
        self.receipt();
    }
}

#[test]
fn a_client_is_the_logic_of_a_bot_and_each_message_is_answered_once_in_order_across_kill_9() {
    let mut server = server();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    let mut bot = Stomp::connect(server.stomp, "weather");
    bot.watch(&format!("bot:{BOT}"), None);
    for number in 0..20 {
        phone.say(&format!("m{number}"));
    }
    eventually("all is kept", || {
        let (_, list) = server.api("GET", "/api/messages?limit=100", None);
        (list["items"].as_array()?.len() == 20).then_some(())
    });
    // Ten are answered; the last answer is sent again later, as if its receipt had been lost.
    let mut last = None;
    for number in 0..10 {
        let (message, position) = bot.heard();
        assert_eq!(message["text"], format!("m{number}"));
        bot.answer(&message);
        assert_eq!(phone.reply(), format!("re: m{number}"));
        last = Some((message, position));
    }
    let (tenth, position) = last.expect("ten");
    server.kill_and_restart();

    let mut bot = Stomp::connect(server.stomp, "weather");
    bot.watch(&format!("bot:{BOT}"), Some(&position));
    bot.answer(&tenth);
    for number in 10..20 {
        let (message, _) = bot.heard();
        assert_eq!(message["text"], format!("m{number}"), "nothing missed, nothing twice");
        bot.answer(&message);
    }
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    for number in 10..20 {
        assert_eq!(phone.reply(), format!("re: m{number}"));
    }
    phone.assert_quiet();
    assert_eq!(server.metric(r#"naru_bots_room_answers_total{result="taken"}"#), 11.0);
    let (_, dead) = server.api("GET", "/api/dead-letters", None);
    assert_eq!(dead["items"], json!([]));
}

#[test]
fn what_was_kept_when_the_server_died_is_told_to_the_rooms_channels_once_and_in_order() {
    let mut server = server();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    phone.assert_quiet();
    let history = |server: &Server, channel: &str| {
        let body = json!({ "channel": channel, "limit": -1 });
        let (_, answer) = server.api("POST", "/api/history", Some(&body));
        let told = answer["result"]["publications"].as_array().expect("a history").clone();
        let messages = told.into_iter().filter(|each| each["data"]["event"] == "message");
        messages.map(|each| each["data"]["id"].as_i64().expect("an id")).collect::<Vec<_>>()
    };
    let channel = format!("room:{BOT}/1");
    for life in 1..=3 {
        for number in 0..100 {
            phone.say(&format!("life {life}, {number}"));
        }
        // In the middle of it: some are kept and not told yet, some are not even kept.
        eventually("some are told", || {
            (history(&server, &channel).len() > life * 20).then_some(())
        });
        server.kill_and_restart();
        phone = Phone::connect(server.bridge, Script::Json);
    }
    phone.assert_quiet();
    let mut kept: Vec<i64> = all_of(&server, "/api/messages")
        .iter()
        .map(|message| message["id"].as_i64().expect("an id"))
        .collect();
    kept.sort_unstable();
    assert!(kept.len() > 60, "{}", kept.len());
    for channel in [channel, format!("bot:{BOT}")] {
        eventually("all is told", || {
            (history(&server, &channel).len() >= kept.len()).then_some(())
        });
        assert_eq!(history(&server, &channel), kept, "{channel}");
    }
}

#[test]
fn a_room_shows_its_channel_and_the_api_answers_by_it_on_record() {
    let server = server();
    let mut phone = Phone::connect(server.bridge, Script::Json);
    phone.assert_quiet();
    let rooms = server.naru_json(&["rooms", "list"]);
    let channel = rooms["items"][0]["channel"].as_str().expect("a channel").to_owned();
    assert_eq!(channel, format!("room:{BOT}/{}", rooms["items"][0]["id"]));
    let publish = |data: Value| {
        let body = json!({ "channel": channel, "data": data, "idempotency_key": "once" });
        server.api("POST", "/api/publish", Some(&body)).1
    };
    assert_eq!(publish(json!({ "text": "from the API" })), json!({ "result": {} }));
    assert_eq!(publish(json!({ "text": "from the API" })), json!({ "result": {} }));
    assert_eq!(phone.reply(), "from the API");
    let refused = publish(json!({ "txt": "x" }));
    assert_eq!(refused["error"]["code"], 107);
    assert!(refused["error"]["message"].as_str().unwrap().contains("unknown field `txt`"));
    phone.assert_quiet();

    // Everything that was said stands in the channel's history, for those who see people's talk.
    let history = json!({ "channel": channel, "limit": 10 });
    let told = eventually("all is told", || {
        let (_, answer) = server.api("POST", "/api/history", Some(&history));
        let told = answer["result"]["publications"].as_array()?.clone();
        (told.len() >= 5).then_some(told)
    });
    let said: Vec<_> =
        told.iter().map(|each| (&each["data"]["event"], &each["data"]["by"]["kind"])).collect();
    let (message, reply) = (json!("message"), json!("reply"));
    let (null, by_bot, by_operator) = (Value::Null, json!("bot"), json!("operator"));
    let expected = [
        (&message, &null),
        (&reply, &by_bot),
        (&reply, &by_operator),
        (&message, &null),
        (&reply, &by_bot),
    ];
    assert_eq!(said, expected);
    assert_eq!(told[0]["data"]["room"], json!({ "name": ROOM, "channel_id": CHANNEL }));
    let (_, audit) = server.api("GET", "/api/audit?limit=1000", None);
    let count = |action: &str| {
        let rows = audit["items"].as_array().unwrap().iter();
        rows.filter(|row| row["action"] == action && row["object"] == format!("channel:{channel}"))
            .count()
    };
    assert_eq!(count("channel.publish"), 3);
    assert!(count("channel.history") > 0);

    let login = json!({ "name": "guest", "password": "correct horse" });
    let (_, login) = server.api("POST", "/api/login", Some(&login));
    let token = login["token"].as_str().or(login["access_token"].as_str()).expect("a token");
    let headers = format!("Authorization: Bearer {token}\r\n");
    let (_, seen) = http(server.http, "POST", "/api/history", &headers, Some(&history));
    assert!(seen.contains(r#""code":103"#), "viewers do not see what is masked elsewhere: {seen}");
}

#[test]
fn only_those_with_a_right_watch_and_answer() {
    let server = server();
    let mut phone = Phone::connect(server.bridge, Script::Raw);
    phone.assert_quiet();
    let channel = format!("/topic/room:{BOT}/1");
    let refused = |user: &str, command: &str, destination: &str, body: &str| {
        let mut stomp = Stomp::connect(server.stomp, user);
        stomp.send(command, &[("id", "s"), ("destination", destination), ("receipt", "r")], body);
        stomp.expect("ERROR").headers["code"].clone()
    };
    let hi = r#"{"text":"hi"}"#;
    assert_eq!(refused("guest", "SUBSCRIBE", &channel, ""), "forbidden");
    assert_eq!(refused("guest", "SEND", &channel, hi), "forbidden");
    assert_eq!(refused("weather", "SEND", &channel, "hi"), "bad_body");
    assert_eq!(refused("weather", "SEND", "/topic/room:other/1", hi), "unknown_destination");
    assert_eq!(
        refused("weather", "SUBSCRIBE", "/topic/room:demo-bot/77", ""),
        "unknown_destination"
    );
    assert!(server.naru(&["rooms", "revoke", "1"]).status.success());
    assert_eq!(refused("weather", "SEND", &channel, hi), "forbidden");
    let mut watching = Stomp::connect(server.stomp, "weather");
    watching.watch(&format!("room:{BOT}/1"), None);
    let (_, audit) = server.api("GET", "/api/audit?limit=1000", None);
    let rows = audit["items"].as_array().unwrap();
    let is_watch = |row: &&Value| row["action"] == "channel.watch" && row["actor"] == "weather";
    assert_eq!(rows.iter().filter(is_watch).count(), 1, "{audit}");
}
