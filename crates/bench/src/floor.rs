//! The comparison floor: the least that a server of this protocol could do.
//!
//! Reads lines, parses the JSON into typed structs, checks the signature and echoes. No sessions,
//! queues, store, limits or approval. Plain on purpose: it shows what the socket, the JSON and the
//! HMAC cost, and a real server is measured against it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::target::KeyPairArgs;
use crate::text_table::note;

/// A frame may be this long, like on the real server.
const FRAME_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 16 << 10;

/// Options of the floor server.
#[derive(clap::Args, Clone)]
pub struct FloorArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:1499", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// What the phones sign with.
    #[command(flatten)]
    pub pair: KeyPairArgs,
    /// Threads that serve connections; the caller builds the runtime from it.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
}

/// Listens until the process is interrupted.
///
/// # Errors
/// When the address cannot be bound.
pub async fn run(args: FloorArgs) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot bind {}", args.listen))?;
    note(&format!("floor listens on {}, pid {}", listener.local_addr()?, std::process::id()));
    let stop = CancellationToken::new();
    let serving = serve(listener, Keys::new(&args.pair.secret, &args.pair.salt), stop.clone());
    tokio::select! {
        () = serving => {}
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for ctrl-c")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Secret and salt, ready to check signatures. Has no `Debug`.
#[derive(Clone)]
pub struct Keys {
    keyed: Hmac<Sha256>,
    salt: String,
}

impl Keys {
    /// Prepares a pair of keys; any bytes will do.
    #[must_use]
    pub fn new(secret: &str, salt: &str) -> Keys {
        let keyed = Hmac::new_from_slice(secret.as_bytes())
            .expect("invariant: HMAC takes keys of any length");
        Keys { keyed, salt: salt.to_owned() }
    }

    fn accept(&self, auth: &Auth<'_>) -> bool {
        let Some(signature) = unhex(&auth.signature) else { return false };
        let message = format!(
            "{}|{}|{}|{}|{}|{}|{}",
            auth.client_type,
            auth.bot_name,
            auth.device_uuid,
            auth.mac_address,
            auth.ip_address,
            auth.timestamp,
            self.salt
        );
        let mut mac = self.keyed.clone();
        mac.update(message.as_bytes());
        mac.verify_slice(&signature).is_ok()
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Accepts phones until `stop`, then ends all connections and returns.
pub async fn serve(listener: TcpListener, keys: Keys, stop: CancellationToken) {
    let connections = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        // An accept that fails ends with its phone: this server has no limits that could fill up.
        let Ok((socket, _peer)) = accepted else { continue };
        let (keys, stop) = (keys.clone(), stop.clone());
        connections.spawn(async move { stop.run_until_cancelled(converse(socket, keys)).await });
    }
    connections.close();
    connections.wait().await;
}

/// One connection: every read is answered with one write.
async fn converse(mut socket: TcpStream, keys: Keys) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut output = Vec::new();
    loop {
        input.reserve(READ_BYTES);
        match socket.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut done = 0;
        while let Some(length) = memchr::memchr(b'\n', &input[done..]) {
            answer(&input[done..done + length], &keys, &mut output);
            done += length + 1;
        }
        input.drain(..done);
        if input.len() > FRAME_BYTES_MAX {
            return;
        }
        if !output.is_empty() && socket.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

#[derive(Deserialize)]
struct Up<'a> {
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<UpData<'a>>,
}

#[derive(Deserialize)]
struct UpData<'a> {
    #[serde(borrow)]
    room: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "channelId")]
    channel_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    auth: Option<Auth<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Auth<'a> {
    #[serde(borrow)]
    client_type: Cow<'a, str>,
    #[serde(borrow)]
    bot_name: Cow<'a, str>,
    #[serde(borrow, rename = "deviceUUID")]
    device_uuid: Cow<'a, str>,
    #[serde(borrow)]
    mac_address: Cow<'a, str>,
    #[serde(borrow)]
    ip_address: Cow<'a, str>,
    timestamp: u64,
    #[serde(borrow)]
    signature: Cow<'a, str>,
}

#[derive(Serialize)]
struct Down<T> {
    event: &'static str,
    data: T,
}

#[derive(Serialize)]
struct JsonEcho<'a> {
    room: &'a str,
    channel_id: Option<&'a str>,
    text: &'a str,
}

#[derive(Serialize)]
struct RawEcho<'a> {
    room: &'a str,
    channel_id: Option<&'a str>,
    message_type: &'static str,
    content_encoding: &'static str,
    message_positions: [usize; 2],
}

/// Appends the answer to one line, if there is one.
fn answer(line: &[u8], keys: &Keys, output: &mut Vec<u8>) {
    let mut values = serde_json::Deserializer::from_slice(line).into_iter::<Up<'_>>();
    let Some(Ok(up)) = values.next() else { return };
    let raw = line[values.byte_offset()..].trim_ascii();
    let Some(data) = up.data.filter(|_| up.event.as_deref() != Some("handshake")) else {
        return welcome(output);
    };
    if !data.auth.as_ref().is_some_and(|auth| keys.accept(auth)) {
        return;
    }
    let room = data.room.as_deref().unwrap_or_default();
    let channel_id = data.channel_id.as_deref();
    match (up.event.as_deref(), data.text) {
        (Some("analyze"), Some(text)) => {
            let Some(rest) = text.strip_prefix("# echo ") else { return };
            let text = &format!("에코: {rest}");
            let echo = JsonEcho { room, channel_id, text };
            append(&Down { event: "messageResponse", data: echo }, b"", output);
        }
        (Some("message"), _) => {
            let Ok(text) = BASE64.decode(raw) else { return };
            let Some(rest) = text.strip_prefix(b"# echo ") else { return };
            let content = BASE64.encode(["에코: ".as_bytes(), rest].concat());
            let echo = RawEcho {
                room,
                channel_id,
                message_type: "text",
                content_encoding: "base64",
                message_positions: [0, content.len()],
            };
            append(&Down { event: "messageResponse", data: echo }, content.as_bytes(), output);
        }
        _ => {}
    }
}

fn welcome(output: &mut Vec<u8>) {
    let data = serde_json::json!({
        "success": true, "approved": true, "message": "floor", "server_version": "floor",
    });
    append(&Down { event: "handshakeComplete", data }, b"", output);
}

fn append<T: Serialize>(frame: &Down<T>, raw: &[u8], output: &mut Vec<u8>) {
    serde_json::to_writer(&mut *output, frame)
        .expect("invariant: a Vec takes every write and these structs always serialize");
    output.extend_from_slice(raw);
    output.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::up::{self, Chat};
    use crate::proto::{Identity, Script, Signer};

    fn answer_to(version: &str, secret: &str, text: &str) -> String {
        let chat = Chat {
            room: "점심방".to_owned(),
            channel_id: Some("18".to_owned()),
            log_id: Some("1".to_owned()),
            user_hash: None,
            sender: "지우".to_owned(),
            text: text.to_owned(),
            is_group_chat: true,
            is_mention: false,
        };
        let identity = Identity::new("demo-bot", "0123456789abcdef", "192.0.2.10");
        let script = Script::find(version).unwrap();
        let signer = Signer::new(secret, "testsalt");
        let line = up::chat(&script, &identity, &signer, &chat, 1_767_225_600_000);
        let mut output = Vec::new();
        answer(line.trim_ascii(), &Keys::new("testsecret", "testsalt"), &mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn it_echoes_in_both_dialects() {
        assert_eq!(
            answer_to("3.2.0", "testsecret", "# echo 안녕 }"),
            "{\"event\":\"messageResponse\",\"data\":{\"room\":\"점심방\",\"channel_id\":\"18\",\"text\":\"에코: 안녕 }\"}}\n"
        );
        let raw = answer_to("newest", "testsecret", "# echo 안녕 }");
        assert!(raw.ends_with("\"message_positions\":[0,24]}}7JeQ7L2UOiDslYjrhZUgfQ==\n"), "{raw}");
    }

    #[test]
    fn a_foreign_signature_and_plain_talk_get_no_answer() {
        assert_eq!(answer_to("3.2.0", "other", "# echo x"), "");
        assert_eq!(answer_to("newest", "testsecret", "hello"), "");
    }
}
