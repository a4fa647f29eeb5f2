//! `docs/api/asyncapi-centrifuge.json`: codes, limits and everything the server says come from the codec; what clients
//! may say is described here, and each field of it is held against the codec.

use bytes::Bytes;
use naru_wire::centrifuge::{
    Command, DisconnectCode, ErrorCode, FrameLimits, Protocol, UnsubscribeCode, decode_frame,
};
use serde_json::{Value, json};

use crate::asyncapi::{closed, info, map, reference};
use crate::{check_document, vectors};

const FILE: &str = "docs/api/asyncapi-centrifuge.json";

/// The commands of clients: their field, the names of its fields with their kinds, and an example.
fn commands() -> Vec<(&'static str, Value, Value)> {
    let text = || json!({ "type": "string" });
    let flag = || json!({ "type": "boolean" });
    let whole = || json!({ "type": "integer" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let payload = || reference("components/schemas/payload");
    let channel = || closed(json!({ "channel": text() }), &["channel"]);
    let named = json!({ "channel": "chat:1" });
    let subscribe = json!({
        "channel": text(), "token": text(), "recover": flag(), "epoch": text(), "offset": count(),
        "data": payload(), "positioned": flag(), "recoverable": flag(), "join_leave": flag(),
        "delta": { "type": "string", "enum": ["", "fossil"] },
        "tf": reference("components/schemas/filter"), "flag": whole(), "type": whole(),
    });
    let position = closed(json!({ "offset": count(), "epoch": text() }), &[]);
    let texts = json!({ "type": "object", "additionalProperties": text() });
    let positions = json!({
        "type": "object", "additionalProperties": closed(subscribe.clone(), &[]),
    });
    let connect = json!({
        "token": text(), "data": payload(), "subs": positions, "name": text(), "version": text(),
        "headers": texts, "flag": whole(),
    });
    let history = json!({
        "channel": text(), "limit": whole(), "since": position, "reverse": flag(),
    });
    let publish = json!({ "channel": text(), "data": payload(), "type": whole() });
    let sub_refresh = json!({ "channel": text(), "token": text(), "type": whole() });
    let send = closed(json!({ "data": payload() }), &["data"]);
    vec![
        ("connect", closed(connect, &[]), json!({ "token": "T", "name": "js" })),
        ("subscribe", closed(subscribe, &["channel"]), json!({ "channel": "chat:1", "flag": 1 })),
        ("unsubscribe", channel(), named.clone()),
        (
            "publish",
            closed(publish, &["channel", "data"]),
            json!({ "channel": "chat:1", "data": { "t": "hi" } }),
        ),
        ("presence", channel(), named.clone()),
        ("presence_stats", channel(), named.clone()),
        ("history", closed(history, &["channel"]), json!({ "channel": "chat:1", "limit": 10 })),
        (
            "rpc",
            closed(json!({ "data": payload(), "method": text() }), &[]),
            json!({ "method": "move", "data": {} }),
        ),
        ("send", send, json!({ "data": 1 })),
        ("refresh", closed(json!({ "token": text() }), &["token"]), json!({ "token": "T" })),
        (
            "sub_refresh",
            closed(sub_refresh, &["channel", "token"]),
            json!({ "channel": "chat:1", "token": "T" }),
        ),
    ]
}

/// A command as it stands in a frame. `send` and pongs have no number.
fn with_id(field: &str, fields: Value) -> Value {
    if field == "send" { json!({ field: fields }) } else { json!({ "id": 1, field: fields }) }
}

/// What the server says: the field of a reply or push, and its fields.
fn answers() -> Vec<(&'static str, Value)> {
    let schema = |name: &str| reference(&format!("components/schemas/{name}"));
    let count = || json!({ "type": "integer", "minimum": 0 });
    let expiry = || json!({ "expires": { "const": true }, "ttl": count() });
    let mut refresh = expiry();
    refresh["client"] = json!({ "type": "string" });
    refresh["version"] = json!({ "type": "string" });
    let people = json!({ "type": "object", "additionalProperties": schema("clientInfo") });
    let stats = json!({ "num_clients": count(), "num_users": count() });
    let publications = json!({ "type": "array", "items": schema("publication") });
    let history = json!({
        "publications": publications, "epoch": { "type": "string" }, "offset": count(),
    });
    vec![
        ("connect", schema("connectResult")),
        ("subscribe", schema("subscribeResult")),
        ("unsubscribe", closed(json!({}), &[])),
        ("publish", closed(json!({}), &[])),
        ("presence", closed(json!({ "presence": people }), &["presence"])),
        ("presence_stats", closed(stats, &["num_clients", "num_users"])),
        ("history", closed(history, &["publications", "epoch", "offset"])),
        ("rpc", closed(json!({ "data": schema("payload") }), &[])),
        ("refresh", closed(refresh, &[])),
        ("sub_refresh", closed(expiry(), &[])),
        ("error", schema("error")),
    ]
}

fn pushes() -> Vec<(&'static str, Value)> {
    let schema = |name: &str| reference(&format!("components/schemas/{name}"));
    let who = || closed(json!({ "info": schema("clientInfo") }), &["info"]);
    let ended = |codes: Vec<u32>| {
        let advice = json!({
            "code": { "type": "integer", "examples": codes }, "reason": { "type": "string" },
        });
        closed(advice, &["code", "reason"])
    };
    let unsubscribes = UnsubscribeCode::ALL.map(UnsubscribeCode::code).to_vec();
    let disconnects = DisconnectCode::ALL.iter().map(|end| end.code().into()).collect();
    vec![
        ("pub", schema("publication")),
        ("join", who()),
        ("leave", who()),
        ("subscribe", schema("subscribeResult")),
        ("unsubscribe", ended(unsubscribes)),
        ("message", closed(json!({ "data": schema("payload") }), &["data"])),
        ("disconnect", ended(disconnects)),
    ]
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    // Flags that do not hold are left out.
    let holds = || json!({ "const": true });
    let schema = |name: &str| reference(&format!("components/schemas/{name}"));
    let publications = json!({ "type": "array", "items": schema("publication") });
    let results = json!({ "type": "object", "additionalProperties": schema("subscribeResult") });
    let tags = json!({ "type": "object", "additionalProperties": text() });
    let codes: Vec<Value> = ErrorCode::ALL
        .iter()
        .map(|error| json!(format!("{} {}", error.code(), error.message())))
        .collect();
    let error = json!({
        "code": {
            "type": "integer", "minimum": 100, "maximum": 1999,
            "description": "100 to 399 are the server's, 400 to 1999 an application's.",
            "x-codes": codes,
        },
        "message": { "type": "string", "minLength": 1 },
        "temporary": holds(),
    });
    let filter = json!({
        "op": { "enum": ["", "and", "or", "not"] },
        "key": text(),
        "cmp": { "enum": [
            "", "eq", "neq", "in", "nin", "ex", "nex", "sw", "ew", "ct", "gt", "gte", "lt", "lte",
        ] },
        "val": text(),
        "vals": { "type": "array", "items": text() },
        "nodes": { "type": "array", "items": schema("filter") },
    });
    let connect = json!({
        "client": text(), "version": text(), "expires": holds(), "ttl": count(),
        "data": schema("payload"), "subs": results, "ping": count(), "pong": holds(),
        "session": text(), "node": text(), "time": count(),
    });
    let subscribe = json!({
        "expires": holds(), "ttl": count(), "recoverable": holds(), "epoch": text(),
        "publications": publications, "recovered": holds(), "offset": count(),
        "positioned": holds(), "data": schema("payload"), "was_recovering": holds(),
        "delta": holds(),
    });
    let publication = json!({
        "data": schema("payload"), "info": schema("clientInfo"), "offset": count(), "tags": tags,
        "delta": holds(),
    });
    let person = json!({
        "user": text(), "client": text(), "conn_info": schema("payload"),
        "chan_info": schema("payload"),
    });
    json!({
        "payload": { "description": "Any JSON, as the application wrote it." },
        "id": { "type": "integer", "minimum": 1, "maximum": u32::MAX },
        "filter": closed(filter, &[]),
        "clientInfo": closed(person, &["user", "client"]),
        "publication": closed(publication, &[]),
        "connectResult": closed(connect, &["client", "version"]),
        "subscribeResult": closed(subscribe, &[]),
        "error": closed(error, &["code", "message"]),
    })
}

/// The messages, by their names.
fn messages() -> Value {
    let said = vectors::everything();
    let examples = |what: &str, is_push: bool| {
        let those = said.iter().filter(|each| each.what == what && each.is_push == is_push);
        let examples: Vec<Value> = those.map(|each| json!({ "payload": each.value() })).collect();
        assert!(!examples.is_empty(), "there is no example of {what}");
        json!(examples)
    };
    let id = || reference("components/schemas/id");
    let message = |summary: String, payload: Value, examples: Value| json!({ "summary": summary, "payload": payload, "examples": examples });
    let mut all = Vec::new();
    for (field, schema, example) in commands() {
        let fields = with_id(field, schema);
        let (fields, required) = if field == "send" {
            (fields, vec![field])
        } else {
            (json!({ "id": id(), field: fields[field] }), vec!["id", field])
        };
        let examples = json!([{ "payload": with_id(field, example) }]);
        let payload = closed(fields, &required);
        all.push((
            format!("{field}Command"),
            message(format!("Command {field}"), payload, examples),
        ));
    }
    for (field, schema) in answers() {
        let payload = closed(json!({ "id": id(), field: schema }), &["id", field]);
        let name = if field == "error" { "refusal".to_owned() } else { format!("{field}Reply") };
        all.push((name, message(format!("Reply {field}"), payload, examples(field, false))));
    }
    for (field, schema) in pushes() {
        let has_channel = !matches!(field, "message" | "disconnect");
        let push = if has_channel {
            closed(json!({ "channel": { "type": "string" }, field: schema }), &["channel", field])
        } else {
            closed(json!({ field: schema }), &[field])
        };
        let payload = closed(json!({ "push": push }), &["push"]);
        all.push((
            format!("{field}Push"),
            message(format!("Push {field}"), payload, examples(field, true)),
        ));
    }
    let empty = || closed(json!({}), &[]);
    all.push(("ping".to_owned(), message("Ping".to_owned(), empty(), examples("ping", false))));
    let pong = json!([{ "payload": {} }]);
    all.push(("pong".to_owned(), message("The answer to a ping".to_owned(), empty(), pong)));
    map(all)
}

/// Who answers what: an operation of the server for each command.
fn operations() -> Value {
    let channel = || reference("channels/connection");
    let on_channel = |name: &str| reference(&format!("channels/connection/messages/{name}"));
    let mut all = Vec::new();
    for (field, _, _) in commands() {
        let mut operation = json!({
            "action": "receive", "channel": channel(),
            "messages": [on_channel(&format!("{field}Command"))],
        });
        if field != "send" {
            operation["reply"] = json!({
                "channel": channel(),
                "messages": [on_channel(&format!("{field}Reply")), on_channel("refusal")],
            });
        }
        all.push((field.to_owned(), operation));
    }
    let pushed: Vec<Value> =
        pushes().iter().map(|(field, _)| on_channel(&format!("{field}Push"))).collect();
    all.push((
        "push".to_owned(),
        json!({ "action": "send", "channel": channel(), "messages": pushed }),
    ));
    all.push((
        "ping".to_owned(),
        json!({
            "action": "send", "channel": channel(), "messages": [on_channel("ping")],
            "reply": { "channel": channel(), "messages": [on_channel("pong")] },
        }),
    ));
    map(all)
}

pub(crate) fn document() -> Value {
    let messages = messages();
    let names = messages.as_object().expect("an object").keys().cloned();
    let on_channel = map(names.map(|name| {
        let target = reference(&format!("components/messages/{name}"));
        (name, target)
    }));
    let protocols = [Protocol::Json, Protocol::Protobuf].map(Protocol::subprotocol);
    let closes: Vec<Value> = DisconnectCode::ALL
        .iter()
        .map(|end| {
            json!({ "code": end.code(), "reason": end.reason(), "reconnect": end.may_reconnect() })
        })
        .collect();
    let limits = FrameLimits::DEFAULT;
    json!({
        "asyncapi": "3.0.0",
        "info": info(
            "Naru: Centrifuge clients",
            "The Centrifuge client protocol, version 2, from the server's side, in JSON. A frame holds one \
             or more of these messages, one a line. The prose is docs/protocols/centrifuge.md.",
        ),
        "defaultContentType": "application/json",
        "servers": {
            "websocket": {
                "host": "127.0.0.1:8080", "protocol": "ws",
                "description": "As it listens by default (http.listen, client.path).",
            },
        },
        "channels": {
            "connection": {
                "address": "/connection/websocket",
                "description": "One WebSocket; its subprotocol chooses the encoding.",
                "servers": [reference("servers/websocket")],
                "messages": on_channel,
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "headers": {
                            "type": "object",
                            "properties": {
                                "Sec-WebSocket-Protocol": { "type": "string", "enum": protocols },
                            },
                        },
                    },
                },
                "x-close-codes": closes,
                "x-limits": {
                    "command_bytes": limits.command_bytes_max,
                    "commands_in_a_frame": limits.commands_max,
                },
            },
        },
        "operations": operations(),
        "components": { "messages": messages, "schemas": schemas() },
    })
}

#[test]
fn the_document_is_what_the_code_says() {
    check_document(FILE, &document());
}

fn reads(frame: &Value) -> Option<Vec<Command>> {
    let frame = Bytes::from(frame.to_string());
    decode_frame(Protocol::Json, frame, FrameLimits::DEFAULT).collect::<Result<_, _>>().ok()
}

#[test]
fn every_command_of_the_document_is_read_as_itself() {
    for (field, _, example) in commands() {
        let read = reads(&with_id(field, example)).unwrap_or_else(|| panic!("{field} is not read"));
        let name = format!("{:?}", read[0].request);
        let wanted = field.replace('_', "");
        assert!(name.to_lowercase().starts_with(&wanted), "{field} is read as {name}");
    }
}

#[test]
fn every_field_of_the_document_is_one_that_the_codec_reads() {
    let mut count = 0;
    for (field, schema, _) in commands() {
        for (name, kind) in schema["properties"].as_object().expect("an object") {
            // Unknown fields are ignored, whatever they hold; of a known one the kind must be right. A payload may be
            // anything, so it stands there twice instead.
            let is_payload = kind["$ref"] == "#/components/schemas/payload";
            let frame = if is_payload {
                format!("{{\"id\":1,\"{field}\":{{\"{name}\":1,\"{name}\":2}}}}")
            } else {
                format!("{{\"id\":1,\"{field}\":{{\"{name}\":[[1]]}}}}")
            };
            let mut read = decode_frame(Protocol::Json, Bytes::from(frame), FrameLimits::DEFAULT);
            assert!(read.any(|each| each.is_err()), "{field}.{name} is not looked at");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}
