//! What people type and what they get.

use std::sync::Arc;
use std::time::Duration;

use naru_domain::clock::ManualClock;
use naru_domain::work::{MessageRecord, MessageState};
use naru_domain::{DeviceId, DeviceKey, MediaItem, MessageId, ReplyBody, RoomKey, Timestamp};

use super::*;
use crate::settings::{Admin, CommandSwitches};

struct NoServices;

#[async_trait]
impl Services for NoServices {
    fn connected(&self, bot: &BotName) -> Vec<ConnectedPhone> {
        if bot.as_str() != "demo-bot" {
            return Vec::new();
        }
        vec![ConnectedPhone {
            label: "demo-bot/0123".to_owned(),
            peer: "192.0.2.1:5000".to_owned(),
            connected_for: Duration::from_secs(125),
            queued: 2,
        }]
    }

    async fn reload(&self) -> Result<ReloadReport, String> {
        Ok(ReloadReport { devices: 3, rooms: 7, bots: 1 })
    }
}

fn incoming(text: &str, sender: &str) -> Incoming {
    let record = MessageRecord {
        id: MessageId(1),
        device: DeviceKey(1),
        room: Some(RoomKey(1)),
        room_name: "점심방".into(),
        channel_id: "77".into(),
        log_id: None,
        sender: sender.into(),
        user_hash: Some("hash-of-admin".into()).filter(|_| sender == "admin"),
        text: text.into(),
        is_group_chat: true,
        is_mention: false,
        received_at: Timestamp(1_767_225_600_000),
        state: MessageState::Pending,
        failure: "".into(),
    };
    Incoming {
        message: Arc::new(record),
        bot: BotName::parse("demo-bot").expect("a name"),
        device: DeviceId::parse("0123").expect("an id"),
        attempt: 1,
    }
}

fn settings() -> Settings {
    let admin = Admin { user_hash: Some("hash-of-admin".to_owned()), ..Admin::default() };
    Settings { admins: vec![admin], ..Settings::default() }
}

fn commands() -> Commands {
    let clock = ManualClock::new(Timestamp(1_767_225_600_012));
    Commands::built_in(Arc::new(NoServices), Arc::new(clock))
}

/// The replies to a text; `None` if it is no command.
async fn ask(text: &str, sender: &str) -> Option<Vec<String>> {
    let incoming = incoming(text, sender);
    let outcome = commands().run(&incoming, &settings()).await?.expect("it works");
    // What can be answered at once is answered in the same way.
    if let Some(Some(immediate)) = commands().immediate(&incoming, &settings()) {
        assert_eq!(immediate, outcome);
    }
    let show = |body: &ReplyBody| match body {
        ReplyBody::Text(text) => text.to_string(),
        ReplyBody::Media { items, wait, .. } => format!("<{} items, {wait:?}>", items.len()),
    };
    Some(outcome.replies.iter().map(show).collect())
}

#[tokio::test]
async fn commands_answer_as_they_always_did() {
    let echo_usage = "# echo TEXT [--repeat=N] [--channel-id=X]";
    let usage = format!("사용법: {echo_usage}");
    let bad = format!("오류: --repeat 값은 1 이상 5 이하의 정수여야 합니다.\n사용법: {echo_usage}");
    let table: &[(&str, &[&str])] = &[
        ("# echo hi", &["에코: hi"]),
        ("# echo  a  b\nc ", &["에코: a  b\nc"]),
        ("# echo --repeat=2 hi", &["[1/2] 에코: hi", "[2/2] 에코: hi"]),
        ("# echo hi --repeat=2 you", &["[1/2] 에코: hi you", "[2/2] 에코: hi you"]),
        ("# echo hi --repeat=1", &["에코: hi"]),
        ("# echo hi --repeat=0", &[&bad]),
        ("# echo hi --repeat=x", &[&bad]),
        ("# echo hi --repeat=", &[&bad]),
        ("# echo hi --repeat=-1", &[&bad]),
        ("# echo hi --foreign=1", &["에코: hi --foreign=1"]),
        ("# echo hi --channel-id=77", &["에코: hi"]),
        ("# echo hi --channel-id=78", &[]),
        ("# echo", &[&usage]),
        ("# echo --repeat=3", &[&usage]),
        ("# IMGEXT A B C", &["<3 items, None>"]),
        ("# IMGEXT A --media-wait-time=5000", &["<1 items, Some(5s)>"]),
        ("# IMGEXT", &["사용법: # IMGEXT WORD… [--media-wait-time=MS]"]),
        ("# ping", &["pong\n처리 대기 12 ms\n서버 시각 2026-01-01T00:00:00.012Z"]),
    ];
    for (text, expected) in table {
        let answered = ask(text, "kim").await;
        assert_eq!(answered.as_deref(), Some(&expected.map_strings()[..]), "{text:?}");
    }
    let many = ask("# echo hi --repeat=99999999999999999999999", "kim").await.unwrap();
    assert_eq!((many.len(), many[4].as_str()), (5, "[5/5] 에코: hi"));
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}

impl MapStrings for &[&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[tokio::test]
async fn what_does_not_begin_with_a_command_is_none() {
    for text in ["hi", " # echo hi", "#echo hi", "# echoes", "# ECHO hi", "# client_info", "# ", ""]
    {
        assert_eq!(ask(text, "kim").await, None, "{text:?}");
    }
}

#[tokio::test]
async fn commands_for_admins_are_refused_to_others() {
    let refusal = vec!["이 명령은 관리자만 사용할 수 있습니다.".to_owned()];
    for text in ["# client_info summary", "# reload bots-config"] {
        assert_eq!(ask(text, "kim").await, Some(refusal.clone()), "{text}");
    }
    let summary = "demo-bot: 연결된 휴대폰 1대\n- demo-bot/0123 · 192.0.2.1:5000 · 2분째 · 대기 2";
    assert_eq!(ask("# client_info summary", "admin").await.unwrap(), [summary]);
    let other = ask("# client_info summary --bot-name=other", "admin").await;
    assert_eq!(other.unwrap(), ["other: 연결된 휴대폰 0대"]);
    let reloaded = "다시 읽었습니다: 휴대폰 3대, 방 7개, 봇 1개";
    assert_eq!(ask("# reload bots-config", "admin").await.unwrap(), [reloaded]);
}

#[tokio::test]
async fn help_lists_what_the_person_may_use() {
    let for_all = ask("# help", "kim").await.unwrap().remove(0);
    assert!(for_all.contains("# echo TEXT") && !for_all.contains("# reload"), "{for_all}");
    let for_admins = ask("# help", "admin").await.unwrap().remove(0);
    assert!(for_admins.contains("# reload bots-config"), "{for_admins}");
}

#[tokio::test]
async fn a_disabled_command_is_no_command() {
    let off = CommandSwitches { disabled: vec!["echo".to_owned()] };
    let settings = Settings { commands: off, ..settings() };
    let incoming = incoming("# echo hi", "kim");
    assert!(commands().run(&incoming, &settings).await.is_none());
    assert!(commands().immediate(&incoming, &settings).is_none());
}

#[tokio::test]
async fn each_word_has_its_picture() {
    let incoming = incoming("# IMGEXT one two one", "kim");
    let outcome = commands().run(&incoming, &settings()).await.unwrap().unwrap();
    let [ReplyBody::Media { items, .. }] = &outcome.replies[..] else { panic!("{outcome:?}") };
    assert!(items[0] == items[2] && items[0] != items[1]);
    for item in items {
        let MediaItem::Bytes(bytes) = item else { panic!("a link") };
        let picture = image::load_from_memory(bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (100, 100));
    }
}
