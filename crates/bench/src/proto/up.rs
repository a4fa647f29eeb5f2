//! Frames from the phone to the server, field for field in the order the scripts write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::value::RawValue;

use super::script::{Dialect, Hello, Script};
use super::sign::{CLIENT_TYPE, Identity, Signer};
use crate::wall;

/// One chat message as the messenger app hands it to the script.
#[derive(Clone, Debug)]
pub(crate) struct Chat {
    pub(crate) room: String,
    pub(crate) channel_id: Option<String>,
    pub(crate) log_id: Option<String>,
    pub(crate) user_hash: Option<String>,
    pub(crate) sender: String,
    pub(crate) text: String,
    pub(crate) is_group_chat: bool,
    pub(crate) is_mention: bool,
}

/// What a phone reports about itself when it answers a ping.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Monitoring {
    pub(crate) total_memory: f64,
    pub(crate) memory_usage: f64,
    pub(crate) memory_percent: f64,
    pub(crate) message_queue_size: usize,
    pub(crate) active_rooms: usize,
}

impl Monitoring {
    /// Figures a real phone might have, with its own queue and rooms.
    pub(crate) fn plausible(message_queue_size: usize, active_rooms: usize) -> Monitoring {
        Monitoring {
            total_memory: 247.5,
            memory_usage: 22.2,
            memory_percent: 9.0,
            message_queue_size,
            active_rooms,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Auth<'a> {
    client_type: &'a str,
    bot_name: &'a str,
    #[serde(rename = "deviceUUID")]
    device_uuid: &'a str,
    #[serde(rename = "deviceID")]
    device_id: &'a str,
    mac_address: &'a str,
    ip_address: &'a str,
    timestamp: u64,
    version: &'a str,
    signature: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SixFields<'a> {
    client_type: &'a str,
    bot_name: &'a str,
    version: &'a str,
    #[serde(rename = "deviceID")]
    device_id: &'a str,
    #[serde(rename = "deviceIP")]
    device_ip: &'a str,
    device_info: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShortHello<'a> {
    bot_name: &'a str,
    version: &'a str,
    #[serde(rename = "deviceID", skip_serializing_if = "Option::is_none")]
    device_id: Option<&'a str>,
}

#[derive(Serialize)]
struct EventHello<'a> {
    #[serde(flatten)]
    fields: SixFields<'a>,
    timestamp: String,
    timezone: &'a str,
    message_positions: [usize; 2],
}

#[derive(Serialize)]
struct Frame<T> {
    event: &'static str,
    data: T,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Analyze<'a> {
    room: &'a str,
    text: &'a str,
    sender: &'a str,
    is_group_chat: bool,
    channel_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_id: Option<Option<&'a str>>,
    user_hash: Option<&'a str>,
    is_mention: bool,
    timestamp: String,
    bot_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<bool>,
    auth: Auth<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    room: &'a str,
    channel_id: Option<&'a str>,
    message_type: &'a str,
    content_encoding: &'a str,
    message_positions: [usize; 2],
    timestamp: String,
    timezone: &'a str,
    sender: &'a str,
    is_group_chat: bool,
    log_id: Option<&'a str>,
    user_hash: Option<&'a str>,
    is_mention: bool,
    bot_name: &'a str,
    client_type: &'a str,
    auth: Auth<'a>,
}

#[derive(Serialize)]
struct PingAnswer<'a> {
    bot_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_timestamp: Option<&'a RawValue>,
    monitoring: Monitoring,
    auth: Auth<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_positions: Option<[usize; 2]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TypedMessage<'a> {
    r#type: &'a str,
    room: &'a str,
    content: &'a str,
    sender: &'a str,
    is_group_chat: bool,
    package_name: &'a str,
    timestamp: u64,
    id: &'a str,
}

const TIMEZONE: &str = "Asia/Seoul";
const PACKAGE: &str = "com.kakao.talk";

fn auth<'a>(script: &'a Script, identity: &'a Identity, signer: &Signer, now_ms: u64) -> Auth<'a> {
    Auth {
        client_type: CLIENT_TYPE,
        bot_name: &identity.bot,
        device_uuid: &identity.device_uuid,
        device_id: &identity.device_id,
        mac_address: &identity.mac_address,
        ip_address: &identity.ip_address,
        timestamp: now_ms,
        version: &script.announces,
        signature: signer.sign(identity, now_ms),
    }
}

fn six_fields<'a>(script: &'a Script, identity: &'a Identity) -> SixFields<'a> {
    SixFields {
        client_type: CLIENT_TYPE,
        bot_name: &identity.bot,
        version: &script.announces,
        device_id: &identity.device_id,
        device_ip: &identity.ip_address,
        device_info: &identity.device_info,
    }
}

fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(value).expect("invariant: these structs hold only strings and numbers");
    bytes.push(b'\n');
    bytes
}

/// The first frame of a connection, LF included.
pub(crate) fn hello(script: &Script, identity: &Identity, signer: &Signer, now_ms: u64) -> Vec<u8> {
    let short =
        |device_id| ShortHello { bot_name: &identity.bot, version: &script.announces, device_id };
    match script.hello {
        Hello::TwoFields => line(&short(None)),
        Hello::ThreeFields => line(&short(Some(&identity.device_id))),
        Hello::SixFields => line(&six_fields(script, identity)),
        Hello::Event => line(&Frame {
            event: "handshake",
            data: EventHello {
                fields: six_fields(script, identity),
                timestamp: wall::iso_utc(now_ms),
                timezone: TIMEZONE,
                message_positions: [0, 0],
            },
        }),
        Hello::Typed => line(&serde_json::json!({
            "type": "handshake",
            "auth": auth(script, identity, signer, now_ms),
            "info": six_fields(script, identity),
        })),
    }
}

/// A chat message by the script's listener (its only path in 3.3.x), LF included.
pub(crate) fn chat(
    script: &Script,
    identity: &Identity,
    signer: &Signer,
    chat: &Chat,
    now_ms: u64,
) -> Vec<u8> {
    match script.dialect {
        Dialect::Json => line(&Frame {
            event: "analyze",
            data: Analyze {
                room: &chat.room,
                text: &chat.text,
                sender: &chat.sender,
                is_group_chat: chat.is_group_chat,
                channel_id: chat.channel_id.as_deref(),
                log_id: Some(chat.log_id.as_deref()),
                user_hash: chat.user_hash.as_deref(),
                is_mention: chat.is_mention,
                timestamp: wall::korean_local(now_ms),
                bot_name: &identity.bot,
                client_type: Some(CLIENT_TYPE),
                package_name: None,
                thread_id: None,
                auth: auth(script, identity, signer, now_ms),
            },
        }),
        Dialect::Raw => raw_chat(script, identity, signer, chat, now_ms),
        Dialect::Typed => line(&TypedMessage {
            r#type: "message",
            room: &chat.room,
            content: &chat.text,
            sender: &chat.sender,
            is_group_chat: chat.is_group_chat,
            package_name: PACKAGE,
            timestamp: now_ms,
            id: chat.log_id.as_deref().unwrap_or("k3x"),
        }),
    }
}

fn raw_chat(
    script: &Script,
    identity: &Identity,
    signer: &Signer,
    chat: &Chat,
    now_ms: u64,
) -> Vec<u8> {
    let raw = BASE64.encode(&chat.text);
    let message = Message {
        room: &chat.room,
        channel_id: chat.channel_id.as_deref(),
        message_type: "text",
        content_encoding: "base64",
        message_positions: [0, raw.len()],
        timestamp: wall::iso_utc(now_ms),
        timezone: TIMEZONE,
        sender: &chat.sender,
        is_group_chat: chat.is_group_chat,
        log_id: chat.log_id.as_deref(),
        user_hash: chat.user_hash.as_deref(),
        is_mention: chat.is_mention,
        bot_name: &identity.bot,
        client_type: CLIENT_TYPE,
        auth: auth(script, identity, signer, now_ms),
    };
    let mut bytes = line(&Frame { event: "message", data: message });
    bytes.pop();
    bytes.extend_from_slice(raw.as_bytes());
    bytes.push(b'\n');
    bytes
}

/// The second copy that older scripts send when the app also calls their `response()`: no ids, a
/// random user hash, and a bool where a thread id should be. `None` for scripts that send none.
pub(crate) fn legacy_copy(
    script: &Script,
    identity: &Identity,
    signer: &Signer,
    chat: &Chat,
    random_hash: &str,
    now_ms: u64,
) -> Option<Vec<u8>> {
    if script.dialect != Dialect::Json && script.name != "3.3.0-a1" {
        return None;
    }
    let timestamp = match script.dialect {
        Dialect::Json => wall::korean_local(now_ms),
        Dialect::Raw | Dialect::Typed => wall::iso_utc(now_ms),
    };
    Some(line(&Frame {
        event: "analyze",
        data: Analyze {
            room: &chat.room,
            text: &chat.text,
            sender: &chat.sender,
            is_group_chat: chat.is_group_chat,
            channel_id: None,
            log_id: None,
            user_hash: Some(random_hash),
            is_mention: false,
            timestamp,
            bot_name: &identity.bot,
            client_type: None,
            package_name: Some(PACKAGE),
            thread_id: Some(chat.is_mention),
            auth: auth(script, identity, signer, now_ms),
        },
    }))
}

/// The answer to a ping. `server_timestamp` is echoed exactly as it came.
pub(crate) fn ping_answer(
    script: &Script,
    identity: &Identity,
    signer: &Signer,
    server_timestamp: Option<&RawValue>,
    monitoring: Monitoring,
    now_ms: u64,
) -> Vec<u8> {
    let raw = script.dialect == Dialect::Raw;
    line(&Frame {
        event: script.ping_answer,
        data: PingAnswer {
            bot_name: &identity.bot,
            server_timestamp,
            monitoring,
            auth: auth(script, identity, signer, now_ms),
            timestamp: raw.then(|| wall::iso_utc(now_ms)),
            timezone: raw.then_some(TIMEZONE),
            message_positions: raw.then_some([0, 0]),
        },
    })
}

/// 3.3.1 only: its own sign of life, every 30 s.
pub(crate) fn typed_heartbeat(now_ms: u64) -> Vec<u8> {
    line(&serde_json::json!({"type": "heartbeat", "timestamp": now_ms}))
}

/// 3.3.1 only: sent after its handshake was accepted and on the command `status`.
pub(crate) fn typed_status(identity: &Identity, monitoring: Monitoring, now_ms: u64) -> Vec<u8> {
    line(&serde_json::json!({
        "type": "status", "botName": identity.bot, "monitoring": monitoring, "timestamp": now_ms,
    }))
}

/// The cleaning every script does before it sends: at most 65,000 UTF-16 units, no control
/// characters except LF and CR, no DEL, no bidirectional controls.
pub(crate) fn clean(text: &str) -> String {
    const UNITS_MAX: usize = 65_000;
    let mut units = 0;
    text.chars()
        .take_while(|c| {
            units += c.len_utf16();
            units <= UNITS_MAX
        })
        .filter(|&c| {
            let control = (c < ' ' && c != '\n' && c != '\r') || c == '\u{7f}';
            let bidirectional =
                ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
            !control && !bidirectional
        })
        .collect()
}
