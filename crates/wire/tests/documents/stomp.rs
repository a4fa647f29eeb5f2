//! `docs/api/asyncapi-stomp.json`: commands, versions, limits and codes come from the code; headers are described here,
//! and those of the server are held against what it writes.

use naru_wire::stomp::session::SessionLimits;
use naru_wire::stomp::{Command, Destination, Limits, VERSIONS_SUPPORTED, Version};
use serde_json::{Value, json};

use crate::asyncapi::{closed, info, map, reference};
use crate::{check_document, stomp_page};

const FILE: &str = "docs/api/asyncapi-stomp.json";

/// A header: its name, whether it has to be there, and what it means.
type Header = (&'static str, bool, &'static str);

const RECEIPT: Header = ("receipt", false, "asks for a RECEIPT with this name");
const TRANSACTION: Header = ("transaction", false, "the transaction it waits in");

/// The headers of a command's frames, beside those that applications add to SEND and find in MESSAGE.
fn headers(command: Command) -> Vec<Header> {
    match command {
        Command::Connect | Command::Stomp => vec![
            ("accept-version", false, "the versions that the client speaks; without it 1.0"),
            ("host", false, "any, unless stomp.hosts names some"),
            ("login", false, "the name of an account"),
            ("passcode", false, "its password, or a token"),
            ("authorization", false, "Bearer and a token"),
            ("token", false, "a token"),
            ("heart-beat", false, "SEND,WANT in milliseconds"),
        ],
        Command::Send => vec![
            ("destination", true, "where to"),
            ("content-type", false, "what the body is"),
            ("content-length", false, "the bytes of the body; needed if it holds NUL"),
            ("idempotency-key", false, "the same key counts once"),
            ("reply-to", false, "where an answer is expected: /temp-queue/NAME"),
            ("correlation-id", false, "handed back with the answer of an application"),
            TRANSACTION,
            RECEIPT,
        ],
        Command::Subscribe => vec![
            ("id", false, "required from 1.1 on"),
            ("destination", true, "what to listen to"),
            ("ack", false, "auto, client or client-individual"),
            ("last-position", false, "EPOCH:OFFSET of the last message that was seen"),
            ("durable-id", false, "the name by which the server keeps the position"),
            ("prefetch-count", false, "deliveries that may wait for an ACK"),
            RECEIPT,
        ],
        Command::Unsubscribe => vec![
            ("id", false, "required from 1.1 on"),
            ("destination", false, "in 1.0, of a subscription without id"),
            RECEIPT,
        ],
        Command::Ack | Command::Nack => vec![
            ("id", false, "in 1.2: the ack header of the MESSAGE"),
            ("message-id", false, "before 1.2"),
            ("subscription", false, "in 1.1"),
            TRANSACTION,
            RECEIPT,
        ],
        Command::Begin | Command::Commit | Command::Abort => {
            vec![("transaction", true, "its name, unique on the connection"), RECEIPT]
        }
        Command::Disconnect => vec![RECEIPT],
        Command::Connected => vec![
            ("version", true, "the version that is spoken from here on"),
            ("heart-beat", false, "SEND,WANT of the server; not in 1.0"),
            ("session", true, "the name of the connection"),
            ("server", true, "naru/VERSION"),
        ],
        Command::Message => vec![
            ("subscription", false, "the id of the subscription"),
            ("message-id", true, "the same each time it is delivered"),
            ("destination", true, "where it was sent to"),
            ("content-type", false, "as the sender said"),
            ("ack", false, "in 1.2, where it must be acknowledged: by what"),
            ("position", false, "EPOCH:OFFSET, on channels that keep history"),
            ("redelivered", false, "on queues, if it is not the first time"),
            ("delivery-count", false, "on queues, if it is not the first time"),
            ("gap", false, "FROM-TO: offsets that are lost to this subscription"),
            ("content-length", true, "the bytes of the body"),
        ],
        Command::Receipt => vec![
            ("receipt-id", true, "the receipt header of the frame that asked"),
            ("recovered", false, "of SUBSCRIBE with a position: whether nothing is missing"),
            ("position", false, "of SUBSCRIBE: where the channel stood"),
        ],
        Command::Error => vec![
            ("message", true, "what is wrong, in one line"),
            ("code", true, "the stable name of it"),
            ("receipt-id", false, "of the frame at fault, if it asked for a receipt"),
            ("version", false, "the versions of the server, if none fits"),
            ("retry-after-ms", false, "when to come back, if the server goes"),
            ("content-type", false, "of the body"),
            ("content-length", true, "the bytes of the body"),
        ],
    }
}

fn header_schema(command: Command) -> Value {
    let session = SessionLimits::default();
    let mut required = Vec::new();
    let fields = headers(command).into_iter().map(|(name, is_required, meaning)| {
        if is_required {
            required.push(name);
        }
        let mut schema = json!({ "type": "string", "description": meaning });
        match (command, name) {
            (Command::Connected, "version") => {
                schema["enum"] = json!(VERSIONS_SUPPORTED.split(',').collect::<Vec<_>>());
            }
            (Command::Error, "code") => schema["enum"] = json!(stomp_page::codes()),
            (Command::Subscribe, "ack") => {
                schema["enum"] = json!(["auto", "client", "client-individual"]);
            }
            (_, "destination") => schema["maxLength"] = json!(session.destination_bytes_max),
            (_, "id" | "receipt" | "transaction" | "durable-id") => {
                schema["maxLength"] = json!(session.name_bytes_max);
            }
            (_, "heart-beat") => schema["pattern"] = json!("^[0-9]+,[0-9]+$"),
            (_, "position" | "last-position") => schema["pattern"] = json!("^[0-9]+:[0-9]+$"),
            _ => {}
        }
        (name.to_owned(), schema)
    });
    let fields = map(fields.collect::<Vec<_>>());
    let mut schema = closed(fields, &required);
    // Applications have headers of their own there, and unknown ones are no error elsewhere.
    schema["additionalProperties"] = json!({ "type": "string" });
    schema
}

/// The destinations: a channel's name, its address, what it is, what may be sent and received.
fn destinations() -> [(&'static str, &'static str, &'static str, &'static [Command]); 6] {
    const BOTH: &[Command] = &[Command::Send, Command::Subscribe, Command::Message];
    const SEND: &[Command] = &[Command::Send];
    const LISTEN: &[Command] = &[Command::Subscribe, Command::Message];
    [
        ("topic", "/topic/{channel}", "A channel: everyone who listens gets each message.", BOTH),
        ("queue", "/queue/{queue}", "A work queue: each message goes to one consumer.", BOTH),
        ("application", "/app/{method}", "The application behind the server.", SEND),
        (
            "ownQueue",
            "/user/queue/{queue}",
            "What is meant for the user of the connection.",
            LISTEN,
        ),
        ("userQueue", "/user/{user}/queue/{queue}", "The same of another user.", SEND),
        ("replyQueue", "/temp-queue/{queue}", "A queue that only this connection reads.", BOTH),
    ]
}

fn channels() -> Value {
    let message = |command: &Command| {
        let name = command.name();
        (name.to_owned(), reference(&format!("components/messages/{name}")))
    };
    let mut all = vec![(
        "connection".to_owned(),
        json!({
            "address": null,
            "description": "Frames that are about the connection and not about a destination.",
            "messages": map(Command::ALL.iter().filter(|each| !is_of_destination(**each)).map(message)),
        }),
    )];
    for (name, address, description, commands) in destinations() {
        let names = address.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let parameters = map(names.map(|name| (name.to_owned(), json!({}))));
        all.push((
            name.to_owned(),
            json!({
                "address": address, "description": description, "parameters": parameters,
                "messages": map(commands.iter().map(message)),
            }),
        ));
    }
    map(all)
}

fn is_of_destination(command: Command) -> bool {
    matches!(command, Command::Send | Command::Subscribe | Command::Message)
}

fn is_servers(command: Command) -> bool {
    matches!(command, Command::Connected | Command::Message | Command::Receipt | Command::Error)
}

fn operations() -> Value {
    let mut all = Vec::new();
    let operation = |channel: &str, command: Command| {
        let name = command.name();
        let action = if is_servers(command) { "send" } else { "receive" };
        json!({
            "action": action, "channel": reference(&format!("channels/{channel}")),
            "messages": [reference(&format!("channels/{channel}/messages/{name}"))],
        })
    };
    for command in Command::ALL.into_iter().filter(|each| !is_of_destination(*each)) {
        let name = format!("connection.{}", command.name().to_lowercase());
        all.push((name, operation("connection", command)));
    }
    for (channel, _, _, commands) in destinations() {
        for command in commands {
            let name = format!("{channel}.{}", command.name().to_lowercase());
            all.push((name, operation(channel, *command)));
        }
    }
    map(all)
}

pub(crate) fn document() -> Value {
    let messages = Command::ALL.map(|command| {
        let mut message = json!({
            "name": command.name(),
            "summary": format!("{} frame", command.name()),
            "headers": header_schema(command),
        });
        if command.may_have_body() {
            message["payload"] = json!({ "description": "Any bytes." });
        }
        (command.name().to_owned(), message)
    });
    let (frames, session) = (Limits::default(), SessionLimits::default());
    let versions = [Version::V1_2, Version::V1_1, Version::V1_0].map(Version::subprotocol);
    json!({
        "asyncapi": "3.0.0",
        "info": info(
            "Naru: STOMP clients",
            "STOMP 1.0, 1.1 and 1.2 from the server's side. Channels are destinations; a message is a frame. \
             The prose is docs/protocols/stomp.md.",
        ),
        "defaultContentType": "application/octet-stream",
        "servers": {
            "tcp": {
                "host": "127.0.0.1:61613", "protocol": "stomp",
                "description": "As it listens by default (stomp.listen).",
            },
            "websocket": {
                "host": "127.0.0.1:8080", "pathname": "/stomp", "protocol": "ws",
                "description": "As it listens by default (http.listen, stomp.path).",
                "x-subprotocols": versions,
            },
        },
        "channels": channels(),
        "operations": operations(),
        "components": { "messages": map(messages) },
        "x-limits": {
            "frame_bytes": frames.frame_bytes_max,
            "frame_bytes_before_connected": frames.connect_bytes_max,
            "headers": frames.headers_count_max,
            "header_line_bytes": frames.header_line_bytes_max,
            "subscriptions": session.subscriptions_max,
            "deliveries_without_ack": session.unacked_max,
            "transactions": session.transactions_max,
            "transaction_frames": session.transaction_frames_max,
            "transaction_bytes": session.transaction_bytes_max,
            "transaction_seconds": session.transaction_time_max.as_secs(),
        },
    })
}

#[test]
fn the_document_is_what_the_code_says() {
    check_document(FILE, &document());
}

#[test]
fn destinations_of_the_document_are_those_that_are_understood() {
    for (name, address, _, _) in destinations() {
        let filled = address.replace(['{', '}'], "");
        let parsed = Destination::parse(&filled);
        let kind = match parsed.unwrap_or_else(|| panic!("{filled} is none of ours")) {
            Destination::Topic(_) => "topic",
            Destination::Queue(_) => "queue",
            Destination::App(_) => "application",
            Destination::TempQueue(_) => "replyQueue",
            Destination::OwnQueue(_) => "ownQueue",
            Destination::UserQueue { .. } => "userQueue",
        };
        assert_eq!(kind, name);
    }
}

#[test]
fn headers_of_the_server_are_those_of_the_document() {
    for (name, frame) in stomp_page::said() {
        let command = Command::parse(name.as_bytes()).expect("a command");
        let known = headers(command);
        let text = String::from_utf8(frame).expect("text");
        let (head, _) = text.split_once("\n\n").expect("a blank line");
        let written: Vec<&str> =
            head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
        for header in written.iter().filter(|header| !header.starts_with("x-")) {
            assert!(known.iter().any(|(name, ..)| name == header), "{name} has {header}");
        }
        let required = known.iter().filter(|(_, is_required, _)| *is_required);
        for (header, ..) in required {
            assert!(written.contains(header), "{name} has no {header}");
        }
    }
}

#[test]
fn every_header_of_the_document_has_its_place_on_the_page() {
    let page = crate::read(stomp_page::PAGE);
    for command in Command::ALL {
        for (header, ..) in headers(command) {
            let forms = [format!("`{header}`"), format!("\n{header}:"), format!("`{header}:")];
            let is_there = forms.iter().any(|form| page.contains(form.as_str()));
            assert!(is_there || header == "authorization", "{command}: {header}");
        }
    }
}
