//! What happens to a simulated phone, for people and, as JSON lines, for scripts.

use std::path::PathBuf;

use serde::Serialize;

/// One thing that happened. The JSON form has the variant's name under `event`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Connected {
        server: String,
    },
    ConnectFailed {
        why: String,
        again_in_s: f64,
    },
    Disconnected {
        why: String,
        again_in_s: f64,
    },
    /// The answer to the handshake.
    Welcome {
        success: bool,
        approved: Option<bool>,
        message: String,
    },
    Sent {
        room: String,
        text: String,
    },
    /// Not connected: the frame waits, with others before it.
    Queued {
        room: String,
        waiting: usize,
    },
    /// Frames that waited too long.
    Dropped {
        frames: usize,
    },
    /// Queued frames went out.
    Flushed {
        frames: usize,
        waiting: usize,
    },
    Reply {
        kind: String,
        room: String,
        channel_id: Option<String>,
        text: String,
    },
    Media {
        kind: String,
        room: String,
        channel_id: Option<String>,
        items: Vec<MediaItem>,
        busy_s: f64,
    },
    /// The phone has shared its media and reads on.
    MediaDone,
    PingAnswered,
    Command {
        command: String,
    },
    /// A line that this script would drop.
    Ignored {
        why: String,
        line: String,
    },
}

/// One received picture or file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct MediaItem {
    pub(super) bytes: usize,
    pub(super) saved: Option<PathBuf>,
    /// Why the phone skips it.
    pub(super) skipped: Option<String>,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Connected { server } => write!(f, "-- connected to {server}"),
            Event::ConnectFailed { why, again_in_s } => {
                write!(f, "-- cannot connect: {why}; again in {again_in_s:.0} s")
            }
            Event::Disconnected { why, again_in_s } => {
                write!(f, "-- disconnected: {why}; again in {again_in_s:.0} s")
            }
            Event::Welcome { success: false, message, .. } => write!(f, "-- refused: {message}"),
            Event::Welcome { approved: Some(false), message, .. } => {
                write!(f, "-- waiting for approval: {message}")
            }
            Event::Welcome { message, .. } => write!(f, "-- approved: {message}"),
            Event::Sent { room, text } => write!(f, "[{room}] > {text}"),
            Event::Queued { room, waiting } => {
                write!(f, "-- not connected: kept for [{room}], {waiting} waiting")
            }
            Event::Dropped { frames } => write!(f, "-- {frames} frames were too old and dropped"),
            Event::Flushed { frames, waiting } => {
                write!(f, "-- {frames} queued frames sent, {waiting} wait for the next connection")
            }
            Event::Reply { room, text, .. } => write!(f, "[{room}] < {text}"),
            Event::Media { kind, room, items, busy_s, .. } => {
                write!(f, "[{room}] < {kind}, {} items, busy for {busy_s:.1} s", items.len())?;
                items.iter().try_for_each(|item| write!(f, "\n    {item}"))
            }
            Event::MediaDone => write!(f, "-- media shared"),
            Event::PingAnswered => write!(f, "-- ping answered"),
            Event::Command { command } => write!(f, "-- command {command}"),
            Event::Ignored { why, line } => write!(f, "-- ignored ({why}): {line}"),
        }
    }
}

impl std::fmt::Display for MediaItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.skipped, &self.saved) {
            (Some(why), _) => write!(f, "skipped: {why}"),
            (None, Some(path)) => write!(f, "{} bytes in {}", self.bytes, path.display()),
            (None, None) => write!(f, "{} bytes", self.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_name_the_event() {
        let event = Event::Welcome { success: true, approved: None, message: "ok".to_owned() };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"welcome","success":true,"approved":null,"message":"ok"}"#
        );
        assert_eq!(serde_json::to_string(&Event::MediaDone).unwrap(), r#"{"event":"media_done"}"#);
    }
}
