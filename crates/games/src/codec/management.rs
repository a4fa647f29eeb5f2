//! The management protocol of Minecraft Java 1.21.9 and later: JSON-RPC 2.0, with notifications.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{self, Listed};
use crate::error::AskError;
use crate::limits::{COMMAND_BYTES_MAX, TITLE_CHARS_MAX};
use crate::status::{Event, Player, Status};
use crate::text::{Colours, clean, some};

/// Asks for version and players.
pub const STATUS: &str = "minecraft:server/status";
/// Asks for the number of places.
pub const PLAYERS_MAX: &str = "minecraft:serversettings/max_players";

/// What every method of the game begins with.
const PREFIX: &str = "minecraft:";

/// A question or a command. `params` is JSON already, or empty.
pub fn request(id: u64, method: &str, params: &str) -> String {
    let method = Value::from(method);
    if params.is_empty() {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method}}}"#)
    } else {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#)
    }
}

/// Reads a command: `METHOD` or `METHOD JSON`, where the JSON is an object or a list.
pub fn command(command: &str) -> Result<(&str, &str), &'static str> {
    if command.len() > COMMAND_BYTES_MAX {
        return Err("the command is longer than 4,000 bytes");
    }
    let command = command.trim();
    let (method, params) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let named = method.strip_prefix(PREFIX).is_some_and(|rest| !rest.is_empty());
    if !named && method != "rpc.discover" {
        return Err("a method begins with minecraft:");
    }
    let params = params.trim();
    if params.is_empty() {
        return Ok((method, params));
    }
    match serde_json::from_str::<Value>(params) {
        Ok(Value::Object(_) | Value::Array(_)) => Ok((method, params)),
        _ => Err("behind the method belongs a JSON object or list"),
    }
}

/// What the server sent.
#[derive(Debug)]
pub enum Message {
    /// The result of the request with this id, as JSON.
    Result(u64, Box<RawValue>),
    /// The request with this id is refused, and why.
    Refused(u64, String),
    /// Something happened.
    Event(Event),
    /// A notification that we have no use for.
    Other,
}

/// Reads a message.
pub fn decode(text: &str) -> Result<Message, AskError> {
    #[derive(Deserialize)]
    struct Incoming {
        #[serde(default)]
        id: Value,
        method: Option<String>,
        #[serde(default)]
        params: Option<Box<RawValue>>,
        #[serde(default)]
        result: Option<Box<RawValue>>,
        #[serde(default)]
        error: Value,
    }
    let incoming: Incoming = serde_json::from_str(text)
        .map_err(|_| AskError::Malformed("not a message of the management protocol"))?;
    if let Some(method) = incoming.method {
        let params = incoming.params.as_deref().map_or("null", RawValue::get);
        return Ok(event(&method, params).map_or(Message::Other, Message::Event));
    }
    let Some(id) = incoming.id.as_u64() else { return Ok(Message::Other) };
    if !incoming.error.is_null() {
        return Ok(Message::Refused(id, refusal(&incoming.error)));
    }
    // A result of `null` is a result.
    let result = incoming.result.or_else(|| RawValue::from_string("null".into()).ok());
    result.map(|it| Message::Result(id, it)).ok_or(AskError::Malformed("an answer without result"))
}

/// Code, message and, where there is one, the reason behind it.
fn refusal(error: &Value) -> String {
    let mut words = String::new();
    for field in ["message", "data"] {
        if let Some(text) = error.get(field).and_then(Value::as_str) {
            words.push_str(if words.is_empty() { "" } else { ": " });
            words.push_str(text);
        }
    }
    match error.get("code").and_then(Value::as_i64) {
        Some(code) => clean(&format!("{code} {words}"), Colours::Section, TITLE_CHARS_MAX),
        None => clean(&words, Colours::Section, TITLE_CHARS_MAX),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    id: Value,
    name: Value,
}

impl Entry {
    fn player(&self) -> Option<Player> {
        json::player(&self.id, &self.name, Colours::Section)
    }
}

/// Reads a notification. Versions differ in where they put the namespace and how they wrap parameters.
fn event(method: &str, params: &str) -> Option<Event> {
    let path = method
        .strip_prefix("minecraft:notification/")
        .or_else(|| method.strip_prefix("notification:"))?;
    Some(match path {
        "server/started" => Event::Started,
        "server/stopping" => Event::Stopping,
        "server/saving" => Event::Saving,
        "server/saved" => Event::Saved,
        "server/status" => {
            Event::Status(Box::new(status(unwrapped(params, "status")?.get()).ok()?))
        }
        "players/joined" => Event::Joined(player(params)?),
        "players/left" => Event::Left(player(params)?),
        _ => return None,
    })
}

/// The one parameter, whether it stands alone, in a list, or under its name.
fn unwrapped(params: &str, name: &str) -> Option<Box<RawValue>> {
    if let Ok([only]) = serde_json::from_str::<[Box<RawValue>; 1]>(params) {
        return named(&only, name).or(Some(only));
    }
    let whole: Box<RawValue> = serde_json::from_str(params).ok()?;
    named(&whole, name).or(Some(whole))
}

fn named(params: &RawValue, name: &str) -> Option<Box<RawValue>> {
    let mut fields: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(params.get()).ok()?;
    fields.remove(name)
}

fn player(params: &str) -> Option<Player> {
    let entry = unwrapped(params, "player")?;
    serde_json::from_str::<Entry>(entry.get()).ok()?.player()
}

/// Reads the result of [`STATUS`], which the heartbeat carries, too.
pub fn status(result: &str) -> Result<Status, AskError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        players: Option<Listed<Entry>>,
        #[serde(default)]
        version: Value,
        #[serde(default)]
        started: Value,
    }
    let unreadable = AskError::Malformed("not a management status");
    let answer: Answer = serde_json::from_str(result).map_err(|_| unreadable.clone())?;
    if answer.players.is_none() && answer.version.is_null() && answer.started.is_null() {
        return Err(unreadable);
    }
    let version = answer.version.get("name").unwrap_or(&answer.version).as_str();
    // A server that has started and lists nobody leaves the list out in some versions.
    let listed = match answer.players {
        None if answer.started == Value::Bool(true) => Some(Listed::default()),
        listed => listed,
    };
    Ok(Status {
        players: listed.as_ref().and_then(|it| u32::try_from(it.count).ok()),
        names: listed.map(|it| it.kept.iter().filter_map(Entry::player).collect()),
        version: version.and_then(|it| some(clean(it, Colours::Section, TITLE_CHARS_MAX))),
        ..Status::default()
    })
}

/// Reads the result of [`PLAYERS_MAX`]: a number, or an object with one.
pub fn players_max(result: &str) -> Option<u32> {
    let value: Value = serde_json::from_str(result).ok()?;
    json::count(value.get("max").unwrap_or(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_on_the_wire() {
        let plain = r#"{"jsonrpc":"2.0","id":1,"method":"minecraft:server/status"}"#;
        assert_eq!(request(1, STATUS, ""), plain);
        let (method, params) = command(r#" minecraft:server/save {"flush":true} "#).unwrap();
        let full =
            r#"{"jsonrpc":"2.0","id":2,"method":"minecraft:server/save","params":{"flush":true}}"#;
        assert_eq!(request(2, method, params), full);
        assert!(command("minecraft:server/stop").is_ok());
        for wrong in ["", "stop", "minecraft:", "minecraft:server/save true", "minecraft:a {"] {
            assert!(command(wrong).is_err(), "{wrong}");
        }
    }

    fn event_of(text: &str) -> Option<Event> {
        match decode(text).unwrap() {
            Message::Event(event) => Some(event),
            _ => None,
        }
    }

    #[test]
    fn notifications_become_events_in_all_their_spellings() {
        let saving = r#"{"jsonrpc":"2.0","method":"minecraft:notification/server/saving"}"#;
        assert_eq!(event_of(saving), Some(Event::Saving));
        let old = r#"{"jsonrpc":"2.0","method":"notification:server/stopping","params":[]}"#;
        assert_eq!(event_of(old), Some(Event::Stopping));
        let ann = Player { id: Some("8a5d".into()), name: "ann".into() };
        for params in [
            r#"[{"id":"8a5d","name":"ann"}]"#,
            r#"[{"player":{"id":"8a5d","name":"ann"}}]"#,
            r#"{"player":{"id":"8a5d","name":"§aann"}}"#,
            r#"{"id":"8a5d","name":"ann"}"#,
        ] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","method":"minecraft:notification/players/joined","params":{params}}}"#
            );
            assert_eq!(event_of(&text), Some(Event::Joined(ann.clone())), "{params}");
        }
        let unknown = r#"{"method":"minecraft:notification/gamerules/updated","params":[1]}"#;
        assert_eq!(event_of(unknown), None);
        let nobody = r#"{"method":"minecraft:notification/players/left","params":[3]}"#;
        assert_eq!(event_of(nobody), None);
    }

    #[test]
    fn a_status_is_read_as_answer_and_as_heartbeat() {
        let json = r#"{"players":[{"id":"1","name":"ann"}],"started":true,"version":{"name":"1.21.9","protocol":773}}"#;
        let expected = status(json).unwrap();
        assert_eq!((expected.players, expected.version.as_deref()), (Some(1), Some("1.21.9")));
        let heartbeat =
            format!(r#"{{"method":"minecraft:notification/server/status","params":[{json}]}}"#);
        assert_eq!(event_of(&heartbeat), Some(Event::Status(Box::new(expected))));
        assert_eq!(status(r#"{"started":true}"#).unwrap().players, Some(0));
        assert_eq!(status(r#"{"started":false}"#).unwrap().players, None);
        assert!(status("{}").is_err());
        assert!(status("7").is_err());
        assert_eq!((players_max("20"), players_max(r#"{"max":20}"#)), (Some(20), Some(20)));
        assert_eq!(players_max("null"), None);
    }

    #[test]
    fn answers_are_told_from_refusals() {
        let answer = r#"{"jsonrpc":"2.0","id":4,"result":null}"#;
        assert!(matches!(decode(answer), Ok(Message::Result(4, _))));
        let refused = r#"{"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"Method not found","data":"x"}}"#;
        let Ok(Message::Refused(4, words)) = decode(refused) else { panic!("refused") };
        assert_eq!(words, "-32601 Method not found: x");
        assert!(matches!(decode(r#"{"id":"4","result":1}"#), Ok(Message::Other)));
        for broken in ["", "[]", "{", "7"] {
            assert!(decode(broken).is_err(), "{broken}");
        }
    }
}
