//! Minecraft Java's server list ping: the modern form and the three that came before it.

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, Listed};
use crate::error::AskError;
use crate::limits::{STATUS_JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::reader::Reader;
use crate::status::{Player, Status};
use crate::text::{Colours, clean, some};

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 1.7 and later.
    Modern,
    /// 1.4 and 1.5, and most later ones.
    Legacy14,
    /// 1.6.
    Legacy16,
    /// Beta 1.8 to 1.3.
    LegacyBeta,
}

/// In the order in which an unknown server is asked.
pub const FORMS: [Form; 4] = [Form::Modern, Form::Legacy14, Form::Legacy16, Form::LegacyBeta];

/// Everything a client sends to get a status. `host` is what the server is told that we looked for.
pub fn encode(form: Form, host: &str, port: u16) -> Vec<u8> {
    match form {
        Form::Modern => modern(host, port),
        Form::Legacy14 => vec![0xfe, 0x01],
        Form::Legacy16 => legacy16(host, port),
        Form::LegacyBeta => vec![0xfe],
    }
}

fn modern(host: &str, port: u16) -> Vec<u8> {
    let mut data = vec![0x00];
    // Protocol −1: which versions we would play is not the question.
    data.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    push_varint(&mut data, host.len());
    data.extend_from_slice(host.as_bytes());
    data.extend_from_slice(&port.to_be_bytes());
    data.push(1);
    let mut out = Vec::with_capacity(data.len() + 4);
    push_varint(&mut out, data.len());
    out.extend_from_slice(&data);
    out.extend_from_slice(&[0x01, 0x00]);
    out
}

fn legacy16(host: &str, port: u16) -> Vec<u8> {
    let mut out = vec![0xfe, 0x01, 0xfa];
    push_utf16(&mut out, "MC|PingHost");
    let mut rest = vec![78]; // The protocol of 1.6.4.
    push_utf16(&mut rest, host);
    rest.extend_from_slice(&u32::from(port).to_be_bytes());
    out.extend_from_slice(&u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&rest);
    out
}

fn push_utf16(out: &mut Vec<u8>, text: &str) {
    let units: Vec<u16> = text.encode_utf16().collect();
    out.extend_from_slice(&u16::try_from(units.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
}

fn push_varint(out: &mut Vec<u8>, number: usize) {
    let mut rest = number;
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap_or_default();
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A length: at most five bytes, never negative. `Ok(None)` while some of it is missing.
fn varint(reader: &mut Reader<'_>) -> Result<Option<usize>, AskError> {
    let mut number = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let Some(byte) = reader.u8() else { return Ok(None) };
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(number).map(Some).map_err(|_| AskError::TooLarge);
        }
    }
    Err(AskError::Malformed("a length of more than five bytes"))
}

/// Reads the answer to `form` once it is whole; `None` until then.
pub fn decode(form: Form, bytes: &[u8]) -> Result<Option<Status>, AskError> {
    match form {
        Form::Modern => decode_modern(bytes),
        Form::Legacy14 | Form::Legacy16 | Form::LegacyBeta => decode_legacy(bytes),
    }
}

fn decode_modern(bytes: &[u8]) -> Result<Option<Status>, AskError> {
    let mut reader = Reader::new(bytes);
    let Some(length) = varint(&mut reader)? else { return Ok(None) };
    // A VarInt of id and of text length stand in front of the JSON.
    if length > STATUS_JSON_BYTES_MAX + 10 {
        return Err(AskError::TooLarge);
    }
    // Whatever is no status is refused before all of it is waited for.
    if reader.rest().first().is_some_and(|&id| id != 0) {
        return Err(AskError::Malformed("not a Minecraft status"));
    }
    let Some(frame) = reader.take(length) else { return Ok(None) };
    let mut reader = Reader::new(frame);
    let cut = AskError::Malformed("a Minecraft status that ends early");
    if reader.u8() != Some(0) {
        return Err(cut);
    }
    let length = varint(&mut reader)?.ok_or(cut.clone())?;
    let json = reader.take(length).ok_or(cut)?;
    decode_json(json).map(Some)
}

fn decode_json(json: &[u8]) -> Result<Status, AskError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        version: Version,
        players: Option<Players>,
        #[serde(default)]
        description: Value,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Version {
        name: Value,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Players {
        online: Value,
        max: Value,
        sample: Listed<Entry>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Entry {
        id: Value,
        name: Value,
    }
    let answer: Answer = serde_json::from_slice(json)
        .map_err(|_| AskError::Malformed("a Minecraft status that is not its JSON"))?;
    let mut description = String::new();
    flatten(&answer.description, &mut description);
    let players = answer.players.unwrap_or_default();
    let entries = players.sample.kept.iter();
    let names: Vec<Player> =
        entries.filter_map(|it| json::player(&it.id, &it.name, Colours::Section)).collect();
    let online = json::count(&players.online);
    // A sample of twelve at most, and servers put advertising into it: it is the list only when it is whole.
    let whole = online.is_some_and(|online| usize::try_from(online) == Ok(names.len()));
    Ok(Status {
        players: online,
        players_max: json::count(&players.max),
        names: whole.then_some(names),
        name: title(&description),
        version: answer.version.name.as_str().and_then(title),
        ..Status::default()
    })
}

fn title(text: &str) -> Option<String> {
    some(clean(text, Colours::Section, TITLE_CHARS_MAX))
}

/// The text of a component: a string, an object with `text` and `extra`, or a list of those. serde_json has
/// already bounded the depth.
fn flatten(component: &Value, out: &mut String) {
    if out.len() > 4 * TITLE_CHARS_MAX {
        return;
    }
    match component {
        Value::String(text) => out.push_str(text),
        Value::Array(parts) => parts.iter().for_each(|part| flatten(part, out)),
        Value::Object(fields) => {
            for name in ["text", "translate", "extra"] {
                fields.get(name).into_iter().for_each(|part| flatten(part, out));
            }
        }
        _ => (),
    }
}

fn decode_legacy(bytes: &[u8]) -> Result<Option<Status>, AskError> {
    let mut reader = Reader::new(bytes);
    match reader.u8() {
        None => return Ok(None),
        Some(0xff) => (),
        Some(_) => return Err(AskError::Malformed("not an old Minecraft status")),
    }
    let Some(units) = reader.u16_be() else { return Ok(None) };
    let Some(text) = reader.take(usize::from(units) * 2) else { return Ok(None) };
    let units: Vec<u16> =
        text.chunks_exact(2).map(|it| u16::from_be_bytes([it[0], it[1]])).collect();
    let text = String::from_utf16_lossy(&units);
    let status = match text.strip_prefix("§1\0") {
        Some(fields) => of_zeros(fields),
        None => of_sections(&text),
    };
    status.map(Some).ok_or(AskError::Malformed("an old Minecraft status without its fields"))
}

/// `protocol, version, motd, online, max`, with zeros between them.
fn of_zeros(fields: &str) -> Option<Status> {
    let mut fields = fields.split('\0').skip(1);
    let (version, motd) = (fields.next()?, fields.next()?);
    Some(Status {
        players: Some(fields.next()?.parse().ok()?),
        players_max: fields.next()?.parse().ok(),
        name: title(motd),
        version: title(version),
        ..Status::default()
    })
}

/// `motd§online§max`; the message itself may hold the sign.
fn of_sections(text: &str) -> Option<Status> {
    let mut fields = text.rsplitn(3, '§');
    let (max, online, motd) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Status {
        players: Some(online.parse().ok()?),
        players_max: max.parse().ok(),
        name: title(motd),
        ..Status::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;

    fn framed(json: &str) -> Vec<u8> {
        let mut data = vec![0];
        push_varint(&mut data, json.len());
        data.extend_from_slice(json.as_bytes());
        let mut out = Vec::new();
        push_varint(&mut out, data.len());
        out.extend_from_slice(&data);
        out
    }

    fn legacy(text: &str) -> Vec<u8> {
        let mut out = vec![0xff];
        push_utf16(&mut out, text);
        out
    }

    #[test]
    fn questions_are_written_as_on_the_wire() {
        let modern = hex("13 00 ffffffff0f 09 3132372e302e302e31 63dd 01  01 00");
        assert_eq!(encode(Form::Modern, "127.0.0.1", 25565), modern);
        assert_eq!(encode(Form::LegacyBeta, "", 0), hex("fe"));
        assert_eq!(encode(Form::Legacy14, "", 0), hex("fe01"));
        let old = encode(Form::Legacy16, "127.0.0.1", 25565);
        assert!(old.starts_with(&hex("fe01fa000b004d0043007c00500069006e00670048006f00730074")));
        assert!(old.ends_with(&hex("0019 4e 0009 003100320037002e0030002e0030002e0031 000063dd")));
    }

    #[test]
    fn a_modern_status_is_read_once_it_is_whole() {
        let answer = framed(
            r#"{"version":{"name":"1.16.5","protocol":754},"players":{"max":9,"online":0,"sample":[]},"description":{"text":"squid probe"}}"#,
        );
        for end in 0..answer.len() {
            assert_eq!(decode(Form::Modern, &answer[..end]), Ok(None));
        }
        let expected = Status {
            players: Some(0),
            players_max: Some(9),
            names: Some(vec![]),
            name: Some("squid probe".into()),
            version: Some("1.16.5".into()),
            ..Status::default()
        };
        assert_eq!(decode(Form::Modern, &answer), Ok(Some(expected)));
    }

    fn modern_of(json: &str) -> Status {
        decode(Form::Modern, &framed(json)).unwrap().unwrap()
    }

    #[test]
    fn a_description_may_be_a_string_or_a_tree_and_everything_may_be_missing() {
        assert_eq!(modern_of(r#"{"description":"§aHi\nthere"}"#).name.unwrap(), "Hi there");
        let tree =
            r#"{"description":{"text":"a","extra":["b",{"text":"c","extra":[{"text":"d"}]}]}}"#;
        assert_eq!(modern_of(tree).name.unwrap(), "abcd");
        assert_eq!(modern_of("{}"), Status::default());
        let odd = r#"{"version":{"name":4},"players":{"online":-3,"max":"x","sample":null}}"#;
        assert_eq!(modern_of(odd), Status::default());
    }

    #[test]
    fn a_sample_is_the_list_of_players_only_when_it_is_whole() {
        let sample = |online| {
            modern_of(&format!(
                r#"{{"players":{{"max":9,"online":{online},"sample":[{{"id":"8a5d","name":"ann"}}]}}}}"#
            ))
        };
        let ann = Player { id: Some("8a5d".into()), name: "ann".into() };
        assert_eq!(sample(1).names, Some(vec![ann]));
        assert_eq!((sample(30).names, sample(30).players), (None, Some(30)));
    }

    #[test]
    fn hostile_frames_are_refused_early() {
        assert_eq!(decode(Form::Modern, &hex("ffffff7f")), Err(AskError::TooLarge));
        assert!(decode(Form::Modern, &hex("ffffffffff")).is_err());
        assert!(decode(Form::Modern, b"HTTP/1.1 400 Bad Request").is_err());
        assert!(decode(Form::Modern, &hex("02 00 05")).is_err());
        assert!(decode(Form::Modern, &hex("00")).is_err());
        let deep = format!(r#"{{"description":{}"#, "[".repeat(5_000));
        assert!(decode(Form::Modern, &framed(&deep)).is_err());
    }

    #[test]
    fn the_old_forms_are_read() {
        let zeros = legacy("§1\u{0}127\u{0}1.16.5\u{0}§6a motd\u{0}3\u{0}20");
        let status = decode(Form::Legacy14, &zeros).unwrap().unwrap();
        assert_eq!((status.players, status.players_max), (Some(3), Some(20)));
        assert_eq!(status.name.as_deref(), Some("a motd"));
        assert_eq!(status.version.as_deref(), Some("1.16.5"));
        for end in 0..zeros.len() {
            assert_eq!(decode(Form::Legacy16, &zeros[..end]), Ok(None));
        }
        let status = decode(Form::LegacyBeta, &legacy("a§bc§3§20")).unwrap().unwrap();
        assert_eq!((status.players, status.players_max), (Some(3), Some(20)));
        assert_eq!(status.name.as_deref(), Some("ac"));
        assert!(decode(Form::LegacyBeta, &legacy("hello")).is_err());
        assert!(decode(Form::LegacyBeta, &legacy("§1\u{0}127\u{0}x")).is_err());
        assert!(decode(Form::Legacy14, b"\x13").is_err());
    }
}
