//! Palworld's REST API: which paths there are, what the answers mean, and what a command may look like.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::json::{self, Listed};
use crate::error::AskError;
use crate::limits::TITLE_CHARS_MAX;
use crate::status::{Player, Status, Tick};
use crate::text::{Colours, clean, some};

/// Where every path begins.
pub const BASE: &str = "/v1/api/";

/// The user name, always this one.
pub const USER: &str = "admin";

const NOT_METRICS: AskError = AskError::Malformed("not Palworld metrics");

/// Reads the answer of `metrics`: counts, tick and uptime.
pub fn metrics(body: &[u8]) -> Result<Status, AskError> {
    #[derive(Deserialize)]
    struct Metrics {
        #[serde(default)]
        serverfps: Value,
        #[serde(default)]
        serverframetime: Value,
        #[serde(default)]
        currentplayernum: Value,
        #[serde(default)]
        maxplayernum: Value,
        #[serde(default)]
        uptime: Value,
    }
    let metrics: Metrics = serde_json::from_slice(body).map_err(|_| NOT_METRICS)?;
    let tick = Tick {
        per_second: json::rate(&metrics.serverfps),
        milliseconds: json::rate(&metrics.serverframetime),
    };
    let status = Status {
        players: json::count(&metrics.currentplayernum),
        players_max: json::count(&metrics.maxplayernum),
        tick: (tick != Tick::default()).then_some(tick),
        uptime: json::whole(&metrics.uptime).map(Duration::from_secs),
        ..Status::default()
    };
    // Some other JSON would otherwise look like a server that says nothing.
    if status.players.is_none() && status.tick.is_none() && status.uptime.is_none() {
        return Err(NOT_METRICS);
    }
    Ok(status)
}

/// Reads the answer of `info`: name and version.
pub fn info(body: &[u8]) -> Result<Status, AskError> {
    #[derive(Deserialize)]
    struct About {
        #[serde(default)]
        version: Value,
        #[serde(default)]
        servername: Value,
    }
    let about: About =
        serde_json::from_slice(body).map_err(|_| AskError::Malformed("not Palworld info"))?;
    let text = |value: &Value| {
        value.as_str().and_then(|text| some(clean(text, Colours::None, TITLE_CHARS_MAX)))
    };
    Ok(Status { name: text(&about.servername), version: text(&about.version), ..Status::default() })
}

/// Reads the answer of `players`.
pub fn players(body: &[u8]) -> Result<Vec<Player>, AskError> {
    #[derive(Deserialize)]
    struct Players {
        players: Listed<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        name: Value,
        #[serde(default, rename = "userId")]
        user_id: Value,
    }
    let answer: Players =
        serde_json::from_slice(body).map_err(|_| AskError::Malformed("not Palworld players"))?;
    let entries = answer.players.kept.iter();
    Ok(entries.filter_map(|it| json::player(&it.user_id, &it.name, Colours::None)).collect())
}

/// A command as the API takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The last part of the path.
    pub verb: &'static str,
    /// JSON, or nothing.
    pub body: String,
}

/// Reads `VERB` or `VERB {JSON}`. What the game would refuse or misunderstand is refused here, with a reason.
pub fn order(command: &str) -> Result<Order, &'static str> {
    const VERBS: [&str; 7] = ["save", "announce", "shutdown", "stop", "kick", "ban", "unban"];
    let command = command.trim();
    let (verb, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    let Some(verb) = VERBS.into_iter().find(|known| *known == verb) else {
        return Err("the verbs are save, announce, shutdown, stop, kick, ban and unban");
    };
    let rest = rest.trim();
    if matches!(verb, "save" | "stop") {
        return if rest.is_empty() {
            Ok(Order { verb, body: String::new() })
        } else {
            Err("save and stop take nothing")
        };
    }
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(rest) else {
        return Err("a JSON object belongs behind this verb");
    };
    let has_text = |name: &str| fields.get(name).is_some_and(Value::is_string);
    match verb {
        // The game refuses 0.
        "shutdown" if fields.get("waittime").and_then(Value::as_u64).is_none_or(|it| it == 0) => {
            Err("shutdown wants a whole \"waittime\" of at least 1 second")
        }
        "announce" if !has_text("message") => Err("announce wants a \"message\""),
        "kick" | "ban" | "unban" if !has_text("userid") => Err("a \"userid\" is wanted"),
        _ => Ok(Order { verb, body: Value::Object(fields).to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_give_counts_tick_and_uptime() {
        let body = br#"{"serverfps":57,"currentplayernum":4,"serverframetime":17.4,"maxplayernum":32,"uptime":86461,"days":112,"basecampnum":9}"#;
        let status = metrics(body).unwrap();
        assert_eq!((status.players, status.players_max), (Some(4), Some(32)));
        assert_eq!(status.uptime, Some(Duration::from_secs(86_461)));
        let tick = Tick { per_second: Some(57.0), milliseconds: Some(17.4) };
        assert_eq!(status.tick, Some(tick));
        assert_eq!(status.name, None);
    }

    #[test]
    fn values_of_another_type_count_as_absent_and_other_json_is_no_metrics() {
        let status = metrics(
            br#"{"serverfps":"57","currentplayernum":-1,"maxplayernum":1e99,"uptime":3.0}"#,
        );
        let only_uptime = Status { uptime: Some(Duration::from_secs(3)), ..Status::default() };
        assert_eq!(status, Ok(only_uptime));
        for body in [&b"{}"[..], b"[]", b"OK", b"", br#"{"serverfps":null}"#] {
            assert_eq!(metrics(body), Err(NOT_METRICS));
        }
    }

    #[test]
    fn players_are_known_by_their_user_id_and_may_still_be_joining() {
        let body = br#"{"players":[
            {"name":"Ann\u0007","accountName":"a","playerId":"7F","userId":"steam_1","ping":17.2,"level":3},
            {"name":"Bob","playerId":"None","userId":"None","ping":-1},
            {"name":"","userId":"steam_3"}, {"name":7}]}"#;
        let expected = [
            Player { id: Some("steam_1".into()), name: "Ann".into() },
            Player { id: None, name: "Bob".into() },
        ];
        assert_eq!(players(body).unwrap(), expected);
        assert_eq!(players(br#"{"players":null}"#).unwrap(), []);
        assert!(players(br#"{"players":{}}"#).is_err());
        let status = info(br#"{"version":"v0.6.5","servername":"Pal","description":""}"#).unwrap();
        assert_eq!(
            (status.version.unwrap(), status.name.unwrap()),
            ("v0.6.5".into(), "Pal".into())
        );
    }

    #[test]
    fn a_list_of_players_is_cut_while_it_is_read() {
        let body = format!(r#"{{"players":[{}{{"name":"x"}}]}}"#, r#"{"name":"x"},"#.repeat(1_500));
        assert_eq!(players(body.as_bytes()).unwrap().len(), crate::limits::NAMES_MAX);
    }

    #[test]
    fn orders_that_the_game_refuses_are_not_sent() {
        let order_of = |command| order(command).map(|it| (it.verb, it.body));
        assert_eq!(order_of(" save "), Ok(("save", String::new())));
        let shutdown = r#"shutdown {"waittime":30,"message":"Restart"}"#;
        assert_eq!(order_of(shutdown).unwrap().0, "shutdown");
        for wrong in [
            "",
            "save now",
            "info",
            "shutdown",
            r#"shutdown {"waittime":0}"#,
            r#"shutdown {"waittime":1.5}"#,
            r#"announce {"text":"x"}"#,
            "announce hello",
            "ban {}",
            "announce [1]",
            "shutdown/../stop",
        ] {
            assert!(order(wrong).is_err(), "{wrong}");
        }
    }
}
