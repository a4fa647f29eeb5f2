//! A server to test against, a raw phone, and the HTTP API, all with deadlines. The phone writes the
//! bytes that `protocols/bridge.md` shows; it shares no code with the server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

pub(crate) const SECRET: &str = "testsecret";
pub(crate) const SALT: &str = "testsalt";
pub(crate) const BOT: &str = "demo-bot";
pub(crate) const DEVICE: &str = "0123456789abcdef";
pub(crate) const ROOM: &str = "점심방";
pub(crate) const CHANNEL: &str = "18400000000000001";
/// Longest wait for anything that should happen at once. Generous: CI machines are slow.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Among the settings: `serve --only wards`.
const WARDS_ONLY: &str = "only wards";

/// A running `naru serve`. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
    settings: Vec<String>,
    pub(crate) bridge: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) stomp: SocketAddr,
    /// Keeps the folder for as long as the server.
    _temporary: Option<tempfile::TempDir>,
}

impl Server {
    /// Phones and rooms are approved by themselves.
    pub(crate) fn auto() -> Server {
        Server::with(&["bridge.approve_devices=auto", "bridge.approve_rooms=auto"])
    }

    /// With these settings on top of free ports and the test keys.
    pub(crate) fn with(settings: &[&str]) -> Server {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let dir = temporary.path().join("data");
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        Server::launch(dir, settings, Some(temporary))
    }

    /// Game servers only.
    pub(crate) fn of_wards(settings: &[&str]) -> Server {
        let mut settings = settings.to_vec();
        settings.push(WARDS_ONLY);
        Server::with(&settings)
    }

    fn launch(dir: PathBuf, settings: Vec<String>, temporary: Option<tempfile::TempDir>) -> Server {
        let child = spawn(&dir, &settings);
        let mut server = Server {
            child,
            dir,
            settings,
            bridge: SocketAddr::from(([0, 0, 0, 0], 0)),
            http: SocketAddr::from(([0, 0, 0, 0], 0)),
            stomp: SocketAddr::from(([0, 0, 0, 0], 0)),
            _temporary: temporary,
        };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        let path = self.dir.join("run.json");
        let pid = u64::from(self.child.id());
        let run = eventually("the server is up", || {
            if let Some(status) = self.child.try_wait().expect("child") {
                let mut errors = String::new();
                let stderr = self.child.stderr.take();
                stderr.expect("stderr").read_to_string(&mut errors).expect("stderr");
                panic!("the server ended with {status}: {errors}");
            }
            let text = std::fs::read_to_string(&path).ok()?;
            let run: Value = serde_json::from_str(&text).ok()?;
            (run["pid"] == pid).then_some(run)
        });
        // A server of wards only has neither phones nor chat.
        let address = |name: &str| run[name].as_str().map(|text| text.parse().expect(name));
        self.bridge = address("bridge").unwrap_or(self.bridge);
        self.http = address("http").expect("http");
        self.stomp = address("stomp").unwrap_or(self.stomp);
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// kill -9, and a new server over the same folder.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Keeps the addresses over restarts.
    pub(crate) fn stay(&mut self) {
        for (key, address) in [("http", self.http), ("stomp", self.stomp), ("bridge", self.bridge)]
        {
            self.settings.push(format!("{key}.listen={address}"));
        }
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.dir, &self.settings);
        self.wait_until_ready();
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        let status = eventually("the server ends", || self.child.try_wait().expect("wait"));
        status.code()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.expect("kill").success());
    }

    /// The operator's command line against this server.
    pub(crate) fn naru(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("naru")
    }

    /// The operator's command line, not yet started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = naru_command();
        command.arg("--data-dir").arg(&self.dir).arg("--api").arg(format!("http://{}", self.http));
        command.args(arguments);
        command
    }

    /// The same, which must succeed, with `--json`.
    pub(crate) fn naru_json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let output = self.naru(&all);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "naru {arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// A request to the HTTP API as an admin.
    pub(crate) fn api(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let token = std::fs::read_to_string(self.dir.join("operator.token")).expect("token");
        let headers = format!("Authorization: Bearer {}\r\n", token.trim());
        let (status, text) = http(self.http, method, path, &headers, body);
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// One series of `/metrics`, 0 if it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let (status, text) = http(self.http, "GET", "/metrics", "", None);
        assert_eq!(status, 200, "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }

    /// The only device with this id.
    pub(crate) fn device(&self, device: &str) -> Option<Value> {
        let (status, list) = self.api("GET", "/api/devices", None);
        assert_eq!(status, 200, "{list}");
        let rows = list["items"].as_array().expect("items");
        rows.iter().find(|row| row["device_id"] == device).cloned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn naru_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_naru"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NARU_") {
            command.env_remove(name);
        }
    }
    command
}

fn spawn(dir: &Path, settings: &[String]) -> Child {
    let mut command = naru_command();
    command.arg("serve").arg("--data-dir").arg(dir);
    let keys = [
        "bridge.listen=127.0.0.1:0".to_owned(),
        "http.listen=127.0.0.1:0".to_owned(),
        "stomp.listen=127.0.0.1:0".to_owned(),
        format!("bridge.keys.default.secret={SECRET}"),
        format!("bridge.keys.default.salt={SALT}"),
    ];
    if settings.iter().any(|setting| setting == WARDS_ONLY) {
        command.args(["--only", "wards"]);
    }
    for setting in keys.iter().chain(settings).filter(|setting| *setting != WARDS_ONLY) {
        command.arg("--set").arg(setting);
    }
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.with_extension("log"))
        .map_or_else(|_| Stdio::null(), Stdio::from);
    command.stdout(Stdio::null()).stderr(log).spawn().expect("naru serve")
}

/// A plain HTTP/1.1 request on its own connection.
pub(crate) fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&Value>,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(SOON)).expect("timeout");
    let body = body.map(ToString::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(request.as_bytes()).expect("write");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("status");
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    (status, dechunk(&text, body))
}

fn dechunk(head: &str, body: String) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body;
    }
    let (mut plain, mut rest) = (String::new(), body.as_str());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        plain.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    plain
}

/// All rows of a list, page by page.
pub(crate) fn all_of(server: &Server, list: &str) -> Vec<Value> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = server.api("GET", &format!("{list}?limit=1000{after}"), None);
        assert_eq!(status, 200, "{page}");
        rows.extend(page["items"].as_array().expect("items").iter().cloned());
        match &page["next"] {
            Value::Null => return rows,
            Value::String(next) => after = format!("&after={next}"),
            next => after = format!("&after={next}"),
        }
    }
}

/// Asks again until there is an answer, or fails with what was waited for.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        // Polling another process: there is no event to wait for.
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn now_ms() -> i64 {
    naru_domain::Clock::now(&naru_domain::clock::SystemClock).0
}

/// Which script a test phone imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// 3.2.x.
    Json,
    /// 3.3.2 and newer.
    Raw,
}

/// A phone on a raw socket.
pub(crate) struct Phone {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
    pub(crate) script: Script,
    pub(crate) bot: String,
    pub(crate) device: String,
    pub(crate) secret: String,
    logs: u64,
}

impl Phone {
    /// Connects and says nothing.
    pub(crate) fn silent(address: SocketAddr, script: Script) -> Phone {
        Phone::over(TcpStream::connect(address).expect("connect"), script)
    }

    /// Talks over a socket that is there already.
    pub(crate) fn over(stream: TcpStream, script: Script) -> Phone {
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        stream.set_write_timeout(Some(SOON)).expect("timeout");
        let reader = BufReader::new(stream.try_clone().expect("clone"));
        Phone {
            stream,
            reader,
            script,
            bot: BOT.to_owned(),
            device: DEVICE.to_owned(),
            secret: SECRET.to_owned(),
            logs: u64::try_from(now_ms()).expect("time") * 1_000,
        }
    }

    /// Connects and shakes hands as device `device`.
    pub(crate) fn connect_as(address: SocketAddr, script: Script, device: &str) -> Phone {
        let mut phone = Phone::silent(address, script);
        phone.device = device.to_owned();
        phone.shake_hands();
        phone
    }

    /// Connects and shakes hands.
    pub(crate) fn connect(address: SocketAddr, script: Script) -> Phone {
        Phone::connect_as(address, script, DEVICE)
    }

    pub(crate) fn version(&self) -> &'static str {
        match self.script {
            Script::Json => "3.2.1",
            Script::Raw => "3.3.3",
        }
    }

    pub(crate) fn hello(&self) -> String {
        let fields = json!({
            "clientType": "MessengerBotR", "botName": self.bot, "version": self.version(),
            "deviceID": self.device, "deviceIP": "192.0.2.10",
            "deviceInfo": "acme One (Android 13, API 33)",
        });
        match self.script {
            Script::Json => fields.to_string(),
            Script::Raw => json!({ "event": "handshake", "data": fields }).to_string(),
        }
    }

    /// Sends the hello and returns the welcome's `data`.
    pub(crate) fn shake_hands(&mut self) -> Value {
        self.send(&self.hello());
        let welcome = self.expect("handshakeComplete");
        assert_eq!(welcome["success"], true, "{welcome}");
        welcome
    }

    pub(crate) fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write");
    }

    pub(crate) fn auth_at(&self, timestamp: i64) -> Value {
        let parts = ["MessengerBotR", &self.bot, "uuid", "02:00:00:00:00:00", "192.0.2.10"];
        let text = format!("{}|{timestamp}|{SALT}", parts.join("|"));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("key");
        mac.update(text.as_bytes());
        let digest = mac.finalize().into_bytes();
        let signature: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "clientType": "MessengerBotR", "botName": self.bot, "deviceUUID": "uuid",
            "deviceID": self.device, "macAddress": "02:00:00:00:00:00",
            "ipAddress": "192.0.2.10", "timestamp": timestamp, "version": self.version(),
            "signature": signature,
        })
    }

    pub(crate) fn next_log_id(&mut self) -> String {
        self.logs += 1;
        self.logs.to_string()
    }

    /// A chat line with a log id of its own.
    pub(crate) fn chat_line(&mut self, channel: &str, text: &str) -> String {
        let log_id = self.next_log_id();
        self.chat_line_with(channel, text, &log_id, &self.auth_at(now_ms()))
    }

    pub(crate) fn chat_line_with(
        &self,
        channel: &str,
        text: &str,
        log_id: &str,
        auth: &Value,
    ) -> String {
        match self.script {
            Script::Json => json!({ "event": "analyze", "data": {
                "room": ROOM, "text": text, "sender": "지우", "isGroupChat": true,
                "channelId": channel, "logId": log_id, "userHash": "a1b2", "isMention": false,
                "timestamp": "2026-01-01 09:00:00", "botName": self.bot,
                "clientType": "MessengerBotR", "auth": auth,
            }})
            .to_string(),
            Script::Raw => {
                let raw = BASE64.encode(text);
                let frame = json!({ "event": "message", "data": {
                    "room": ROOM, "channel_id": channel, "message_type": "text",
                    "content_encoding": "base64", "message_positions": [0, raw.len()],
                    "timestamp": "2026-01-01T00:00:00.000Z", "timezone": "Asia/Seoul",
                    "sender": "지우", "is_group_chat": true, "log_id": log_id,
                    "user_hash": "a1b2", "is_mention": false, "bot_name": self.bot,
                    "client_type": "MessengerBotR", "auth": auth,
                }});
                format!("{frame}{raw}")
            }
        }
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.say_in(CHANNEL, text);
    }

    pub(crate) fn say_in(&mut self, channel: &str, text: &str) {
        let line = self.chat_line(channel, text);
        self.send(&line);
    }

    /// The next line as the phone's script cuts it: JSON up to the last `}`, raw after it.
    pub(crate) fn read(&mut self) -> Option<(Value, String)> {
        let mut line = Vec::new();
        let count = self.reader.read_until(b'\n', &mut line).ok()?;
        if count == 0 {
            return None;
        }
        let line = String::from_utf8(line).expect("UTF-8");
        let line = line.strip_suffix('\n').expect("whole lines");
        assert!(!line.contains('\r'), "a CR cuts the line on the phone");
        let end = line.rfind('}').expect("JSON") + 1;
        let json = serde_json::from_str(&line[..end]).expect("JSON");
        Some((json, line[end..].to_owned()))
    }

    /// The next frame that is no ping. `None` when the connection ended.
    pub(crate) fn next(&mut self) -> Option<(Value, String)> {
        loop {
            let frame = self.read()?;
            if frame.0["event"] != "ping" {
                return Some(frame);
            }
        }
    }

    /// The `data` of the next frame, which must have this event.
    pub(crate) fn expect(&mut self, event: &str) -> Value {
        let (frame, _) = self.next().unwrap_or_else(|| panic!("no {event} came"));
        assert_eq!(frame["event"], event, "{frame}");
        frame["data"].clone()
    }

    /// The text of the next reply.
    pub(crate) fn reply(&mut self) -> String {
        let (frame, raw) = self.next().expect("a reply");
        self.text_of(&frame, &raw)
    }

    pub(crate) fn text_of(&self, frame: &Value, raw: &str) -> String {
        assert!(
            frame["event"] == "messageResponse" || frame["event"] == "scheduleMessage",
            "{frame}"
        );
        match self.script {
            Script::Json => frame["data"]["text"].as_str().expect("text").to_owned(),
            Script::Raw => {
                assert_eq!(frame["data"]["message_positions"][1], raw.len());
                String::from_utf8(BASE64.decode(raw).expect("base64")).expect("UTF-8")
            }
        }
    }

    /// Says something that is answered and checks that the answer is the next frame: so nothing else
    /// was on its way.
    pub(crate) fn assert_quiet(&mut self) {
        self.say("# echo nothing before this");
        assert_eq!(self.reply(), "에코: nothing before this");
    }

    /// Whether the server closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        loop {
            match self.read() {
                None => return true,
                Some((frame, _)) if frame["event"] == "ping" => {}
                Some(frame) => panic!("a frame instead of the end: {frame:?}"),
            }
        }
    }
}
