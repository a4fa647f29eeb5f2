//! Channels from the operator's seat: `naru publish`, `naru subscribe`, `naru channel`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::harness::{Server, http};

fn server() -> Server {
    Server::with(&[
        r#"channels.namespaces.kept={history_size=100,durability="disk",force_recovery=true}"#,
        "channels.namespaces.live={}",
    ])
}

/// A running `naru --json subscribe`.
struct Watcher {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watcher {
    /// One that the server has subscribed.
    fn start(server: &Server, arguments: &[&str]) -> Watcher {
        let mut command = server.command(&["--json", "subscribe"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Watcher { child, lines }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The next that is this; what else there is goes by.
    fn until(&mut self, what: &str) -> Value {
        loop {
            let mut event = self.next();
            if event.get(what).is_some() {
                return event[what].take();
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn what_is_published_is_shown_as_it_comes_and_in_order() {
    let server = server();
    let mut watcher = Watcher::start(&server, &["live:x", "--count", "3"]);
    assert_eq!(watcher.until("subscribed")["offset"], 0);
    server.naru_json(&["publish", "live:x", r#"{"n": 1}"#, "--tag", "kind=test"]);
    server.naru_json(&["publish", "live:x", "just text"]);
    let mut piped = server.command(&["publish", "live:x", "--binary", "-"]);
    let mut piped = piped.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(&[0, 159, 255]).unwrap();
    assert!(piped.wait().unwrap().success());
    let first = watcher.until("publication");
    assert_eq!((&first["data"], &first["tags"]), (&json!({ "n": 1 }), &json!({ "kind": "test" })));
    assert_eq!(watcher.until("publication")["data"], "just text");
    assert_eq!(watcher.until("publication")["b64data"], "AJ//");
    assert!(watcher.child.wait().unwrap().success(), "three were asked for");
}

#[test]
fn a_watcher_misses_nothing_over_a_crash_of_the_server() {
    let mut server = server();
    server.stay();
    server.naru_json(&["publish", "kept:x", "1", "--key", "first"]);
    let again = server.naru_json(&["publish", "kept:x", "1", "--key", "first"]);
    assert_eq!(again["offset"], 1, "a retry publishes nothing again");
    let mut watcher = Watcher::start(&server, &["kept:x", "--since", "0"]);
    assert_eq!(watcher.until("subscribed")["recovered"], true);
    assert_eq!(watcher.until("publication")["data"], 1);
    server.kill_and_restart();
    server.naru_json(&["publish", "kept:x", "2"]);
    let back = watcher.until("publication");
    assert_eq!((&back["data"], &back["offset"]), (&json!(2), &json!(2)));
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(watcher.until("end")["reason"], "shutdown");
}

#[test]
fn history_presence_and_lists_are_there_for_people_and_programs() {
    let server = server();
    for n in 1..=3 {
        server.naru_json(&["publish", "kept:x", &n.to_string()]);
    }
    let page = server.naru_json(&["channel", "history", "kept:x", "--reverse", "--limit", "2"]);
    let offsets: Vec<_> =
        page["publications"].as_array().unwrap().iter().map(|p| &p["offset"]).collect();
    assert_eq!(offsets, [3, 2]);
    let table = server.naru(&["channel", "history", "kept:x", "--since", "2"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("OFFSET") && table.contains("offset 3 of epoch"), "{table}");
    let mut watcher = Watcher::start(&server, &["kept:x"]);
    watcher.until("subscribed");
    let list = server.naru_json(&["channel", "list", "--pattern", "kept:*"]);
    assert_eq!(list["items"], json!([{ "channel": "kept:x", "clients": 1 }]));
    assert!(server.naru(&["channel", "clear", "kept:x"]).status.success());
    assert_eq!(server.naru_json(&["channel", "history", "kept:x"])["publications"], json!([]));
    let code = |arguments: &[&str]| server.naru(arguments).status.code();
    assert_eq!(code(&["channel", "history", "nowhere:x"]), Some(5));
    assert_eq!(code(&["channel", "presence", "kept:x"]), Some(2), "presence is not kept there");
    assert_eq!(code(&["subscribe", "nowhere:x"]), Some(5));
    assert_eq!(code(&["subscribe", "kept:x", "--since", "0", "--epoch", "?"]), Some(2));
}

#[test]
fn watching_needs_the_right_and_stands_in_the_audit_log() {
    let server = server();
    let (status, _) = http(server.http, "GET", "/api/watch?channel=kept:x", "", None);
    assert_eq!(status, 401);
    let mut watcher = Watcher::start(&server, &["kept:x"]);
    watcher.until("subscribed");
    let audit = server.naru_json(&["audit", "list"]);
    let rows = audit["items"].as_array().unwrap();
    let is_there =
        rows.iter().any(|row| row["action"] == "channel.watch" && row["object"] == "kept:x");
    assert!(is_there, "{audit}");
}
