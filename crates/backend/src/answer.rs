//! What the application may answer. Unknown fields are passed over; whatever else does not fit makes the
//! whole answer a bad one, so that a mistake never grants anything.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use naru_domain::Timestamp;
use naru_domain::ports::{
    Credentials, PublishVerdict, Refreshed, Refusal, SubscribeGrant, SubscribeOverride,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::Event;
use crate::request::raw;

/// Channels that one connection may be put into (far more than it may be subscribed to).
const CHANNELS_MAX: usize = 1_000;
/// Names of users and keys of publications, in bytes.
const NAME_BYTES_MAX: usize = 1_024;
/// Tags of one publication.
const TAGS_MAX: usize = 64;
/// What a refusal says to people, in bytes; the rest is cut.
const TEXT_BYTES_MAX: usize = 1_024;
/// The last second of the year 9999: later moments are a mistake in the unit.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Why an answer cannot be used. Says where, never what: answers may hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Not JSON of the documented shape.
    #[error("not the JSON of the guide, at line {line}, column {column}")]
    Shape {
        /// The line, from 1.
        line: usize,
        /// The column in it.
        column: usize,
    },
    /// A value breaks a rule.
    #[error("{0}")]
    Rule(&'static str),
}

/// An answer, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// It grants or gives this.
    Result(T),
    /// It says nothing: neither a result nor a refusal.
    Nothing,
    /// It does not want it.
    Refused(Refusal),
}

#[derive(Deserialize)]
#[serde(bound = "R: Deserialize<'de>")]
struct AnswerJson<R> {
    result: Option<R>,
    error: Option<ErrorJson>,
    disconnect: Option<DisconnectJson>,
}

#[derive(Deserialize)]
struct ErrorJson {
    code: u32,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct DisconnectJson {
    code: u32,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct ConnectJson<'a> {
    user: Option<String>,
    expire_at: Option<i64>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    channels: Option<Vec<String>>,
    #[serde(borrow)]
    subs: Option<BTreeMap<String, GrantJson<'a>>>,
}

#[derive(Deserialize)]
struct GrantJson<'a> {
    expire_at: Option<i64>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    b64info: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    #[serde(rename = "override")]
    overrides: Option<OverrideJson>,
}

#[derive(Default, Deserialize)]
struct OverrideJson {
    presence: Option<Switch>,
    join_leave: Option<Switch>,
    force_push_join_leave: Option<Switch>,
    force_recovery: Option<Switch>,
    force_positioning: Option<Switch>,
}

#[derive(Clone, Copy, Deserialize)]
struct Switch {
    value: bool,
}

#[derive(Deserialize)]
struct RefreshJson<'a> {
    #[serde(default)]
    expired: bool,
    expire_at: Option<i64>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PublishJson<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
    #[serde(default)]
    skip_history: bool,
    tags: Option<BTreeMap<String, String>>,
    idempotency_key: Option<String>,
    #[serde(default)]
    delta: bool,
}

#[derive(Deserialize)]
struct RpcJson<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    b64data: Option<String>,
}

/// Takes an answer to this event apart, for its mistakes only.
pub fn check_answer(event: Event, body: &[u8]) -> Result<(), BadAnswer> {
    match event {
        Event::Connect => connect(body).map(drop),
        Event::Refresh | Event::SubRefresh => refresh(body).map(drop),
        Event::Subscribe => subscribe(body).map(drop),
        Event::Publish => publish(body).map(drop),
        Event::Rpc => rpc(body).map(drop),
        Event::Message => message(body).map(drop),
        Event::Disconnected => Ok(()),
    }
}

pub(crate) fn connect(body: &[u8]) -> Result<Reading<Credentials>, BadAnswer> {
    read(body, |json: ConnectJson<'_>| {
        let user = json.user.unwrap_or_default();
        if user.len() > NAME_BYTES_MAX {
            return Err(BadAnswer::Rule("`user` is longer than 1024 bytes"));
        }
        let plain = json.channels.unwrap_or_default();
        let subs = json.subs.unwrap_or_default();
        if plain.len() + subs.len() > CHANNELS_MAX {
            return Err(BadAnswer::Rule("more than 1000 channels"));
        }
        let mut channels: Vec<(String, SubscribeGrant)> = Vec::new();
        for name in plain.into_iter().filter(|name| !subs.contains_key(name)) {
            // Twice in the list is once in the channel.
            if !channels.iter().any(|(known, _)| *known == name) {
                channels.push((name, SubscribeGrant::default()));
            }
        }
        for (name, sub) in subs {
            channels.push((name, grant(sub)?));
        }
        Ok(Credentials {
            // It is asked about each channel instead.
            rights: Vec::new(),
            user,
            expires_at: moment(json.expire_at)?,
            info: shown(json.info, json.b64info)?,
            data: payload(json.data, json.b64data)?.unwrap_or_default(),
            meta: bytes(json.meta).unwrap_or_default(),
            channels,
        })
    })
}

pub(crate) fn subscribe(body: &[u8]) -> Result<Reading<SubscribeGrant>, BadAnswer> {
    read(body, grant)
}

pub(crate) fn refresh(body: &[u8]) -> Result<Reading<Refreshed>, BadAnswer> {
    read(body, |json: RefreshJson<'_>| {
        Ok(Refreshed {
            expired: json.expired,
            expires_at: moment(json.expire_at)?,
            meta: bytes(json.meta),
        })
    })
}

pub(crate) fn publish(body: &[u8]) -> Result<Reading<PublishVerdict>, BadAnswer> {
    read(body, |json: PublishJson<'_>| {
        let tags = json.tags.unwrap_or_default();
        if tags.len() > TAGS_MAX {
            return Err(BadAnswer::Rule("more than 64 tags"));
        }
        let key = json.idempotency_key.filter(|key| !key.is_empty());
        if key.as_ref().is_some_and(|key| key.len() > NAME_BYTES_MAX) {
            return Err(BadAnswer::Rule("`idempotency_key` is longer than 1024 bytes"));
        }
        Ok(PublishVerdict {
            data: payload(json.data, json.b64data)?,
            skip_history: json.skip_history,
            tags: tags.into_iter().collect(),
            idempotency_key: key,
            delta: json.delta,
        })
    })
}

pub(crate) fn rpc(body: &[u8]) -> Result<Reading<Bytes>, BadAnswer> {
    read(body, |json: RpcJson<'_>| Ok(payload(json.data, json.b64data)?.unwrap_or_default()))
}

/// A message has no result; an answer without a body is as good as any.
pub(crate) fn message(body: &[u8]) -> Result<Reading<()>, BadAnswer> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Reading::Nothing);
    }
    read(body, |_: serde::de::IgnoredAny| Ok(()))
}

fn read<'a, J: Deserialize<'a>, T>(
    body: &'a [u8],
    convert: impl FnOnce(J) -> Result<T, BadAnswer>,
) -> Result<Reading<T>, BadAnswer> {
    let answer: AnswerJson<J> = serde_json::from_slice(body)
        .map_err(|error| BadAnswer::Shape { line: error.line(), column: error.column() })?;
    if let Some(DisconnectJson { code, reason }) = answer.disconnect {
        if !(4_000..=4_999).contains(&code) {
            return Err(BadAnswer::Rule("`disconnect.code` is not 4000 to 4999"));
        }
        return Ok(Reading::Refused(Refusal::Disconnect { code, reason: cut(reason) }));
    }
    if let Some(ErrorJson { code, message, temporary }) = answer.error {
        if !(400..=1_999).contains(&code) {
            return Err(BadAnswer::Rule("`error.code` is not 400 to 1999"));
        }
        let message = cut(message);
        return Ok(Reading::Refused(Refusal::Error { code, message, temporary }));
    }
    match answer.result {
        Some(result) => Ok(Reading::Result(convert(result)?)),
        None => Ok(Reading::Nothing),
    }
}

fn grant(json: GrantJson<'_>) -> Result<SubscribeGrant, BadAnswer> {
    let overrides = json.overrides.unwrap_or_default();
    let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
    Ok(SubscribeGrant {
        info: shown(json.info, json.b64info)?,
        data: payload(json.data, json.b64data)?.unwrap_or_default(),
        expires_at: moment(json.expire_at)?,
        overrides: SubscribeOverride {
            presence: value(overrides.presence),
            join_leave: value(overrides.join_leave),
            force_push_join_leave: value(overrides.force_push_join_leave),
            force_recovery: value(overrides.force_recovery),
            force_positioning: value(overrides.force_positioning),
        },
    })
}

/// Seconds since 1970; 0 is never.
fn moment(seconds: Option<i64>) -> Result<Option<Timestamp>, BadAnswer> {
    match seconds {
        None | Some(0) => Ok(None),
        Some(seconds) if (1..=SECONDS_MAX).contains(&seconds) => {
            Ok(Some(Timestamp(seconds * 1_000)))
        }
        Some(_) => Err(BadAnswer::Rule("`expire_at` is no time in seconds since 1970")),
    }
}

/// Bytes in base64 come before JSON, which is kept byte for byte.
fn payload(json: Option<&RawValue>, base64: Option<String>) -> Result<Option<Bytes>, BadAnswer> {
    match base64.filter(|text| !text.is_empty()) {
        Some(text) => match STANDARD.decode(text) {
            Ok(decoded) => Ok(Some(decoded.into())),
            Err(_) => Err(BadAnswer::Rule("a b64 field is not base64")),
        },
        None => Ok(bytes(json)),
    }
}

/// What others are shown: some of them speak JSON, whatever this client speaks.
fn shown(json: Option<&RawValue>, base64: Option<String>) -> Result<Bytes, BadAnswer> {
    let info = payload(json, base64)?.unwrap_or_default();
    if info.is_empty() || raw(&info).is_some() {
        return Ok(info);
    }
    Err(BadAnswer::Rule("`b64info` is no JSON"))
}

fn bytes(json: Option<&RawValue>) -> Option<Bytes> {
    json.map(|json| Bytes::copy_from_slice(json.get().as_bytes()))
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn result<T>(reading: Result<Reading<T>, BadAnswer>) -> T {
        match reading {
            Ok(Reading::Result(result)) => result,
            Ok(Reading::Nothing) => panic!("nothing"),
            Ok(Reading::Refused(refusal)) => panic!("{refusal:?}"),
            Err(bad) => panic!("{bad}"),
        }
    }

    #[test]
    fn everything_that_a_connect_may_grant_is_read() {
        let known = result(connect(
            br#"{"result": {"user": "ann", "expire_at": 1767225600, "info": {"name": "Ann"},
                "b64data": "AAE=", "meta": {"plan": 1}, "channels": ["news", "news", "chat:a"],
                "subs": {"chat:a": {"data": [1], "expire_at": 1767225601, "override": {
                    "presence": {"value": true}, "force_recovery": {"value": false},
                    "later": {"value": 1}}}}, "caps": []}}"#,
        ));
        assert_eq!(known.user, "ann");
        assert_eq!(known.expires_at, Some(Timestamp(1_767_225_600_000)));
        assert_eq!(known.info, r#"{"name": "Ann"}"#);
        assert_eq!(known.data, &b"\x00\x01"[..]);
        assert_eq!(known.meta, r#"{"plan": 1}"#);
        let [(news, plain), (chat, granted)] = &known.channels[..] else { panic!("{known:?}") };
        assert_eq!((news.as_str(), chat.as_str()), ("news", "chat:a"));
        assert_eq!(*plain, SubscribeGrant::default());
        assert_eq!(granted.data, "[1]");
        assert_eq!(granted.expires_at, Some(Timestamp(1_767_225_601_000)));
        let expected = SubscribeOverride {
            presence: Some(true),
            force_recovery: Some(false),
            ..SubscribeOverride::default()
        };
        assert_eq!(granted.overrides, expected);
    }

    #[test]
    fn a_publication_may_be_changed() {
        let verdict = result(publish(
            br#"{"result": {"data": {"text": "***"}, "skip_history": true, "delta": true,
                "tags": {"a": "b"}, "idempotency_key": "k"}}"#,
        ));
        assert_eq!(
            verdict,
            PublishVerdict {
                data: Some(Bytes::from_static(br#"{"text": "***"}"#)),
                skip_history: true,
                tags: vec![("a".to_owned(), "b".to_owned())],
                idempotency_key: Some("k".to_owned()),
                delta: true,
            }
        );
        assert_eq!(result(publish(br#"{"result": {}}"#)), PublishVerdict::default());
    }

    #[test]
    fn a_refresh_ends_or_prolongs() {
        let ended = result(refresh(br#"{"result": {"expired": true}}"#));
        assert!(ended.expired && ended.expires_at.is_none() && ended.meta.is_none());
        let on = result(refresh(br#"{"result": {"expire_at": 5, "meta": 7}}"#));
        assert_eq!((on.expired, on.expires_at), (false, Some(Timestamp(5_000))));
        assert_eq!(on.meta.as_deref(), Some(&b"7"[..]));
    }

    #[test]
    fn a_refusal_comes_before_a_result_and_a_disconnect_before_an_error() {
        let check = |body: &str, expected: Reading<Bytes>| {
            assert_eq!(rpc(body.as_bytes()).as_ref(), Ok(&expected), "{body}");
        };
        let error = Refusal::Error { code: 400, message: "no".to_owned(), temporary: true };
        check(
            r#"{"result": {"data": 1}, "error": {"code": 400, "message": "no", "temporary": true}}"#,
            Reading::Refused(error),
        );
        let gone = Refusal::Disconnect { code: 4999, reason: "bye".to_owned() };
        check(
            r#"{"error": {"code": 400}, "disconnect": {"code": 4999, "reason": "bye"}}"#,
            Reading::Refused(gone),
        );
        check("{}", Reading::Nothing);
        check(r#"{"result": null}"#, Reading::Nothing);
        check(r#"{"result": {}}"#, Reading::Result(Bytes::new()));
        check(r#"{"result": {"data": null}}"#, Reading::Result(Bytes::new()));
    }

    #[test]
    fn what_breaks_a_rule_grants_nothing_and_is_not_repeated_in_the_error() {
        let check = |event: Event, body: &str, expected: &str| {
            let error = check_answer(event, body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains(expected), "{body}: {error}");
            assert!(!error.contains("hush"), "{error}");
        };
        check(Event::Connect, "", "line 1, column 0");
        check(Event::Connect, "hush", "line 1, column 1");
        check(Event::Connect, r#"{"result": {"user": 7}}"#, "not the JSON");
        check(Event::Connect, r#"{"result": {"user": "hush", "channels": {}}}"#, "not the JSON");
        check(Event::Connect, r#"{"result": {"expire_at": -1}}"#, "expire_at");
        check(Event::Connect, r#"{"result": {"expire_at": 1767225600000}}"#, "expire_at");
        check(Event::Connect, r#"{"result": {"b64info": "?"}}"#, "base64");
        check(Event::Subscribe, r#"{"result": {"b64info": "/w=="}}"#, "no JSON");
        check(Event::Subscribe, r#"{"result": {"override": {"presence": true}}}"#, "not the JSON");
        check(Event::Publish, r#"{"result": {"tags": {"a": 1}}}"#, "not the JSON");
        check(Event::Rpc, r#"{"error": {"code": 100, "message": "hush"}}"#, "400 to 1999");
        check(Event::Rpc, r#"{"error": {"message": "hush"}}"#, "not the JSON");
        check(Event::Rpc, r#"{"disconnect": {"code": 3000}}"#, "4000 to 4999");
        check(Event::Message, "hush", "not the JSON");
        let long = format!(r#"{{"result": {{"user": "{}"}}}}"#, "u".repeat(1_025));
        check(Event::Connect, &long, "longer than 1024");
        let many = vec![r#""c""#; 1_001].join(",");
        check(
            Event::Connect,
            &format!(r#"{{"result": {{"channels": [{many}]}}}}"#),
            "1000 channels",
        );
    }

    #[test]
    fn a_message_may_be_answered_with_nothing_at_all() {
        for body in ["", " \r\n", "{}"] {
            assert_eq!(message(body.as_bytes()), Ok(Reading::Nothing), "{body:?}");
        }
        assert_eq!(message(br#"{"result": {"any": "thing"}}"#), Ok(Reading::Result(())));
    }

    #[test]
    fn what_is_said_to_people_is_cut_between_letters() {
        let body = format!(r#"{{"error": {{"code": 400, "message": "{}"}}}}"#, "글".repeat(400));
        let Ok(Reading::Refused(Refusal::Error { message, .. })) = rpc(body.as_bytes()) else {
            panic!("no refusal")
        };
        assert_eq!(message.chars().count(), 341);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for event in Event::ALL {
                drop(check_answer(event, &body));
            }
        }
    }
}
