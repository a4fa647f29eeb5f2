//! The line protocol, and a plugin that behaves in every wrong way.

use std::time::Duration;

use super::*;
use crate::profile::plugin::{
    ANSWER_BYTES_MAX, About, Plugin, PluginError, PluginPlayer, Request, decode, encode,
};
use crate::profile::ward::PluginRule;

/// Answers as the first argument says; the second is a file that gets a line for each start.
const MISCHIEF: &str = r#"
import json, sys, time
how, starts = sys.argv[1], sys.argv[2]
with open(starts, "a") as file:
    file.write("start\n")
count = len(open(starts).readlines())
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"id": asked["id"], "ok": True}
    if asked["do"] == "hello":
        about = asked
    elif how == "late":
        time.sleep(60)
    elif how == "once" and count == 1:
        sys.exit(3)
    elif how == "long":
        answer["text"] = "x" * 70000
    elif how == "rubbish":
        print("hello there", flush=True)
        continue
    elif how == "other":
        answer["id"] += 1
    elif how == "refuse":
        answer = {"id": asked["id"], "ok": False, "error": "no\u0007t today"}
    else:
        answer["text"] = about["ward"] + " " + about["secrets"]["rcon"] + " " + asked["do"]
    print(json.dumps(answer), flush=True)
"#;

struct Mischief {
    plugin: Plugin,
    starts: PathBuf,
    _folder: tempfile::TempDir,
}

impl Mischief {
    fn new(how: &str) -> Mischief {
        let folder = tempfile::tempdir().unwrap();
        let (program, starts) = (folder.path().join("plugin.py"), folder.path().join("starts"));
        std::fs::write(&program, MISCHIEF).unwrap();
        let words = [program.display().to_string(), how.to_owned(), starts.display().to_string()];
        let command = ["python3".to_owned(), "-B".to_owned()].into_iter().chain(words).collect();
        // A start of Python takes up to a second on a busy machine; only `late` waits for the deadline.
        let deadline = Duration::from_secs(if how == "late" { 3 } else { 30 });
        let tries = if how == "late" { 2 } else { 3 };
        let rule = PluginRule { command, deadline, tries };
        let secrets = [("rcon".to_owned(), "hush".to_owned())].into();
        let about = About { ward: "w".to_owned(), secrets, ..About::default() };
        Mischief { plugin: Plugin::new(rule, about), starts, _folder: folder }
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(&self.starts).unwrap_or_default().lines().count()
    }
}

#[tokio::test]
async fn a_plugin_is_started_by_the_first_request_and_answers_many() {
    let mut mischief = Mischief::new("well");
    assert!(!mischief.plugin.is_running());
    for (request, word) in [(Request::Status, "status"), (Request::Save, "save")] {
        let answer = mischief.plugin.call(&request).await.unwrap();
        assert_eq!(answer.text.unwrap(), format!("w hush {word}"));
    }
    assert_eq!(mischief.starts(), 1);
}

#[tokio::test]
async fn a_plugin_that_ends_is_started_again() {
    let mut mischief = Mischief::new("once");
    assert!(mischief.plugin.call(&Request::Status).await.is_ok());
    assert_eq!(mischief.starts(), 2);
}

#[tokio::test]
async fn what_a_plugin_may_have_done_is_not_done_twice() {
    let mut mischief = Mischief::new("once");
    let request = Request::Command { line: "give ann diamond".to_owned() };
    assert_eq!(mischief.plugin.call(&request).await, Err(PluginError::Ended));
    assert_eq!(mischief.starts(), 1);
}

#[tokio::test]
async fn a_plugin_that_is_late_is_ended_and_tried_again() {
    let mut mischief = Mischief::new("late");
    assert_eq!(mischief.plugin.call(&Request::Status).await, Err(PluginError::Late));
    assert!(!mischief.plugin.is_running());
    assert_eq!(mischief.starts(), 2);
}

#[tokio::test]
async fn what_is_no_answer_is_named_after_three_tries() {
    async fn check(how: &str, expected: fn(&PluginError) -> bool, starts: usize) {
        let mut mischief = Mischief::new(how);
        let error = mischief.plugin.call(&Request::Status).await.unwrap_err();
        assert!(expected(&error), "{how}: {error}");
        assert_eq!(mischief.starts(), starts, "{how}");
    }
    check("long", |error| *error == PluginError::TooLong, 3).await;
    check("rubbish", |error| matches!(error, PluginError::Unreadable(_)), 3).await;
    check("other", |error| matches!(error, PluginError::Unreadable(_)), 3).await;
    // A refusal is an answer: it is not asked again, and the plugin goes on.
    check("refuse", |error| *error == PluginError::Refused("not today".to_owned()), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_not_there_is_named() {
    let rule = PluginRule {
        command: vec!["/nonexistent/plugin".to_owned()],
        deadline: Duration::from_secs(5),
        tries: 2,
    };
    let mut plugin = Plugin::new(rule, About::default());
    let error = plugin.call(&Request::Status).await.unwrap_err();
    assert!(matches!(error, PluginError::Start(_)), "{error}");
    // The pauses grow until nobody waits for them any more.
    for _ in 0..10 {
        if plugin.call(&Request::Status).await == Err(PluginError::Resting) {
            return;
        }
    }
    panic!("it is never left alone");
}

#[test]
fn requests_are_lines_of_json() {
    let check = |request: Request, expected: &str| {
        assert_eq!(String::from_utf8(encode(7, &request)).unwrap(), format!("{expected}\n"));
    };
    check(Request::Status, r#"{"id":7,"do":"status"}"#);
    let message = "a\nb".to_owned();
    check(
        Request::Stop { seconds: 5, message },
        r#"{"id":7,"do":"stop","seconds":5,"message":"a\nb"}"#,
    );
}

#[test]
fn answers_are_read_and_bounded() {
    let line = br#"{"id":9,"ok":true,"online":2,"max":10,"tick_rate":-1,"uptime_s":1.5,"new":{},
        "players":[{"name":"an\u0000n","id":"7"},{"name":"bob"}]}"#;
    let (id, answer) = decode(line).unwrap();
    let answer = answer.unwrap();
    assert_eq!((id, answer.online, answer.max, answer.tick_rate), (9, Some(2), Some(10), None));
    assert_eq!(answer.uptime, Some(Duration::from_millis(1_500)));
    let ann = PluginPlayer { name: "ann".to_owned(), id: Some("7".to_owned()) };
    let bob = PluginPlayer { name: "bob".to_owned(), id: None };
    assert_eq!(answer.players, Some(vec![ann, bob]));
    for wrong in ["", "{}", "[]", r#"{"id":-1,"ok":true}"#, r#"{"id":1,"ok":true,"online":-1}"#] {
        assert!(matches!(decode(wrong.as_bytes()), Err(PluginError::Unreadable(_))), "{wrong}");
    }
    assert_eq!(decode(&vec![b' '; ANSWER_BYTES_MAX + 1]), Err(PluginError::TooLong));
    let many = format!(r#"{{"id":1,"ok":true,"players":[{}{{}}]}}"#, "{},".repeat(2_000));
    assert_eq!(decode(many.as_bytes()).unwrap().1.unwrap().players.unwrap().len(), 1_000);
}

proptest::proptest! {
    #[test]
    fn no_answer_makes_it_panic(line in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let read = decode(&line);
        proptest::prop_assert!(read.is_err() || !line.is_empty());
    }
}

/// The plugin that people begin with, put together from its profile and asked by the client.
#[tokio::test]
async fn the_example_in_python_answers() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/ward-plugin-python");
    let mut game = tokio::process::Command::new("python3")
        .arg("-B")
        .arg(folder.join("fake_game.py"))
        .args(["0", "hush"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(game.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().unwrap();
    let ward = ward(&format!(
        "name = \"mine\"\nprofile = {:?}\nports.console = {port}\nsecrets.console = \"hush\"\n\
         override.vars.plugin = {:?}\noverride.plugin.deadline = \"30s\"",
        folder.join("game.toml").display().to_string(),
        folder.join("plugin.py").display().to_string(),
    ));
    assert_eq!(ward.warnings, []);
    let mut plugin = Plugin::new(ward.plugin.clone().unwrap(), About::ward(&ward));
    let status = plugin.call(&Request::Status).await.unwrap();
    assert_eq!((status.online, status.uptime), (Some(2), Some(Duration::from_millis(61_500))));
    let players = plugin.call(&Request::Players).await.unwrap().players.unwrap();
    assert_eq!(players[0].name, "Ann of Old");
    plugin.call(&Request::Save).await.unwrap();
    // The game is gone: the plugin says so and lives on.
    game.kill().await.unwrap();
    let error = plugin.call(&Request::Status).await.unwrap_err();
    assert!(matches!(error, PluginError::Refused(_)), "{error}");
    assert!(plugin.is_running());
}
