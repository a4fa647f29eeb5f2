//! The JSON that the application is asked with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_domain::ports::Caller;
use serde::Serialize;
use serde_json::value::RawValue;

/// One question. Fields that say nothing are left out.
#[derive(Serialize, Default)]
pub(crate) struct Request<'a> {
    client: &'a str,
    transport: &'static str,
    protocol: &'static str,
    encoding: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
}

/// How requests are written, as the installation wants it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) includes_meta: bool,
    pub(crate) is_binary: bool,
}

impl<'a> Request<'a> {
    /// Who asks.
    pub(crate) fn of(caller: &'a Caller, style: Style) -> Request<'a> {
        let meta = style.includes_meta.then(|| raw(&caller.meta)).flatten();
        Request {
            client: &caller.client,
            transport: caller.transport,
            protocol: caller.protocol,
            encoding: if style.is_binary { "binary" } else { "json" },
            user: Some(&caller.user),
            meta,
            ..Request::default()
        }
    }

    /// A connection that nobody knows yet.
    pub(crate) fn opening(self, name: &'a str, version: &'a str) -> Request<'a> {
        let filled = |text: &'a str| Some(text).filter(|text| !text.is_empty());
        Request { user: None, name: filled(name), version: filled(version), ..self }
    }

    pub(crate) fn channel(self, channel: &'a str) -> Request<'a> {
        Request { channel: Some(channel), ..self }
    }

    pub(crate) fn method(self, method: &'a str) -> Request<'a> {
        Request { method: Some(method), ..self }
    }

    pub(crate) fn reason(self, reason: &'a str) -> Request<'a> {
        Request { reason: Some(reason), ..self }
    }

    /// The payload: as it is if it is JSON, else in base64.
    pub(crate) fn data(self, data: &'a [u8], style: Style) -> Request<'a> {
        if data.is_empty() {
            return self;
        }
        match raw(data).filter(|_| !style.is_binary) {
            Some(json) => Request { data: Some(json), ..self },
            None => Request { b64data: Some(STANDARD.encode(data)), encoding: "binary", ..self },
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("invariant: strings and checked JSON always serialize")
    }
}

/// These bytes, if they are one JSON value.
pub(crate) fn raw(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    const PLAIN: Style = Style { includes_meta: false, is_binary: false };

    fn caller() -> Caller {
        Caller {
            client: "c-1".to_owned(),
            user: "ann".to_owned(),
            transport: "websocket",
            protocol: "json",
            meta: Bytes::from_static(br#"{"plan":"gold"}"#),
            ..Caller::default()
        }
    }

    fn read(request: &Request<'_>) -> Value {
        serde_json::from_slice(&request.to_json()).unwrap()
    }

    #[test]
    fn a_request_has_the_fields_that_the_guide_shows() {
        let caller = caller();
        let request = Request::of(&caller, PLAIN).method("add").data(br#"{"a": 1}"#, PLAIN);
        assert_eq!(
            read(&request),
            json!({
                "client": "c-1", "transport": "websocket", "protocol": "json", "encoding": "json",
                "user": "ann", "method": "add", "data": {"a": 1},
            })
        );
        let request = Request::of(&caller, PLAIN).opening("js", "");
        assert_eq!(
            read(&request),
            json!({
                "client": "c-1", "transport": "websocket", "protocol": "json", "encoding": "json",
                "name": "js",
            })
        );
    }

    #[test]
    fn what_is_no_json_travels_in_base64() {
        let caller = caller();
        for (data, style, expected) in [
            (&b"\x00\xff"[..], PLAIN, "AP8="),
            (b"hello", PLAIN, "aGVsbG8="),
            (b"{}", Style { is_binary: true, ..PLAIN }, "e30="),
        ] {
            let sent = read(&Request::of(&caller, style).data(data, style));
            assert_eq!((&sent["b64data"], &sent["encoding"]), (&json!(expected), &json!("binary")));
            assert!(sent.get("data").is_none());
        }
    }

    #[test]
    fn json_passes_byte_for_byte_and_meta_only_where_it_is_wanted() {
        let caller = caller();
        let style = Style { includes_meta: true, ..PLAIN };
        let data = br#"{"b":1.0,"a":[1e2,"x"]}"#;
        let sent = Request::of(&caller, style).channel("chat").data(data, style).to_json();
        let sent = String::from_utf8(sent).unwrap();
        assert!(sent.contains(r#""data":{"b":1.0,"a":[1e2,"x"]}"#), "{sent}");
        assert!(sent.contains(r#""meta":{"plan":"gold"}"#), "{sent}");
        let request = Request::of(&caller, PLAIN).reason("peer_closed");
        assert!(read(&request).get("meta").is_none());
    }
}
