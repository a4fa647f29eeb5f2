//! Notices in, messages out.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(super) fn notice(kind: &'static str) -> Notice {
    Notice {
        ward: Some(WardName::parse("palworld").expect("a name")),
        kind: Cow::Borrowed(kind),
        severity: Severity::Warning,
        title: "It crashed".to_owned(),
        text: "code 1".to_owned(),
        facts: vec![(Cow::Borrowed("signal"), "SIGSEGV".to_owned())],
        at: Timestamp(1_000),
    }
}

fn receiver(name: &str, form: Form) -> Receiver {
    Receiver { name: Arc::from(name), form, filter: Filter::default(), words: BTreeMap::new() }
}

fn teller(receivers: Vec<Receiver>) -> Teller {
    Teller::new(receivers, TellOptions::default(), 7).expect("they are fine")
}

fn json(message: &OutboxMessage) -> Value {
    serde_json::from_slice(&message.body).expect("JSON")
}

fn told(form: Form, notice: Notice) -> Value {
    let now = notice.at;
    json(&teller(vec![receiver("r", form)]).tell(notice, now)[0])
}

#[test]
fn discord_gets_an_embed_without_mentions() {
    assert_eq!(
        told(Form::Discord, notice("crashed")),
        json!({
            "embeds": [{
                "title": "palworld: It crashed",
                "description": "code 1",
                "color": 0x00f5_9e0b,
                "fields": [{"name": "signal", "value": "SIGSEGV", "inline": true}],
                "footer": {"text": "warning · crashed"},
                "timestamp": "1970-01-01T00:00:01.000Z",
            }],
            "allowed_mentions": {"parse": []},
        })
    );
}

#[test]
fn slack_gets_blocks_of_plain_text() {
    let plain = |text: &str| json!({"type": "plain_text", "text": text, "emoji": false});
    assert_eq!(
        told(Form::Slack, Notice { title: "<!here> left".to_owned(), ..notice("left") }),
        json!({
            "text": "palworld: &lt;!here&gt; left",
            "blocks": [
                {"type": "header", "text": plain("palworld: <!here> left")},
                {"type": "section", "text": plain("code 1")},
                {"type": "section", "fields": [plain("signal: SIGSEGV")]},
                {"type": "context", "elements": [plain("warning · left · 1970-01-01T00:00:01.000Z")]},
            ],
            "unfurl_links": false,
            "unfurl_media": false,
        })
    );
}

#[test]
fn the_generic_form_is_the_one_in_the_guide() {
    assert_eq!(
        told(Form::Generic, notice("crashed")),
        json!({
            "event": "ward_notice",
            "version": 1,
            "ward": "palworld",
            "kind": "crashed",
            "severity": "warning",
            "title": "It crashed",
            "text": "code 1",
            "facts": {"signal": "SIGSEGV"},
            "repeated": 0,
            "at": "1970-01-01T00:00:01.000Z",
        })
    );
}

#[test]
fn an_empty_notice_keeps_the_rules_of_both() {
    let empty = Notice {
        ward: None,
        title: String::new(),
        text: String::new(),
        facts: vec![(Cow::Borrowed(""), String::new())],
        ..notice("x")
    };
    let slack = told(Form::Slack, empty.clone());
    assert_eq!(slack["blocks"][0]["text"]["text"], "–");
    assert_eq!(slack["blocks"].as_array().unwrap().len(), 3, "no empty section");
    assert_eq!(told(Form::Discord, empty)["embeds"][0]["fields"][0]["value"], "–");
}

#[test]
fn filters_choose_by_kind_ward_and_severity() {
    let ward = |name| WardName::parse(name).unwrap();
    let check = |filter: Filter, expected: [bool; 3]| {
        let other = Notice { ward: Some(ward("ark")), ..notice("crash_loop") };
        let machine = Notice { ward: None, severity: Severity::Critical, ..notice("memory") };
        let found = [notice("crashed"), other, machine].map(|notice| filter.takes(&notice));
        assert_eq!(found, expected, "{filter:?}");
    };
    let all = Filter::default;
    check(all(), [true, true, true]);
    check(Filter { kinds: vec!["crashed".to_owned()], ..all() }, [true, false, false]);
    check(Filter { kinds: vec!["crash*".to_owned()], ..all() }, [true, true, false]);
    check(Filter { wards: vec![ward("ark")], ..all() }, [false, true, false]);
    check(Filter { severity_min: Severity::Critical, ..all() }, [false, false, true]);
    let filter = Filter { wards: vec![ward("ark")], ..all() };
    let mut teller = teller(vec![
        Receiver { filter, ..receiver("ark", Form::Slack) },
        receiver("all", Form::Discord),
    ]);
    let messages = teller.tell(notice("crashed"), Timestamp(1));
    assert_eq!(messages.iter().map(|each| &*each.target).collect::<Vec<_>>(), ["all"]);
}

#[test]
fn words_of_the_operator_replace_ours_by_kind() {
    let words = |title: &str| Words {
        title: Some(Template::parse(title).unwrap()),
        text: Some(Template::parse("{repeated} {facts.signal}").unwrap()),
    };
    for (form, at) in [
        (Form::Discord, "/embeds/0/title"),
        (Form::Slack, "/blocks/0/text/text"),
        (Form::Generic, "/title"),
    ] {
        let mut receiver = receiver("r", form);
        receiver.words.insert("crashed".to_owned(), words("{ward} is down"));
        receiver.words.insert("*".to_owned(), words("{kind} at {ward}"));
        let mut teller = teller(vec![receiver]);
        let mut title = |kind| {
            let messages = teller.tell(notice(kind), Timestamp(1));
            json(&messages[0]).pointer(at).unwrap().as_str().unwrap().to_owned()
        };
        assert_eq!(title("crashed"), "palworld is down");
        assert_eq!(title("ready"), "ready at palworld");
    }
}

#[test]
fn repeated_notices_are_counted_and_told_once_a_minute() {
    let mut teller = teller(vec![receiver("r", Form::Generic)]);
    let text = |n: i64| Notice { text: n.to_string(), at: Timestamp(n), ..notice("left") };
    assert_eq!(teller.next_wake(), None);
    assert_eq!(teller.tell(text(0), Timestamp(0)).len(), 1);
    for n in 1..=12 {
        assert_eq!(teller.tell(text(n), Timestamp(n)), []);
    }
    // Others do not wait.
    assert_eq!(teller.tell(notice("joined"), Timestamp(20)).len(), 1);
    assert_eq!(teller.next_wake(), Some(Timestamp(60_000)));
    assert_eq!(teller.due(Timestamp(59_999)), []);
    let told = teller.due(Timestamp(60_000));
    let told: Vec<Value> = told.iter().map(json).collect();
    assert_eq!((told.len(), &told[0]["repeated"], &told[0]["text"]), (1, &json!(12), &json!("12")));
    // The flood goes on, once a minute.
    assert_eq!(teller.tell(text(60_001), Timestamp(60_001)), []);
    assert_eq!(teller.due(Timestamp(60_020)), [], "the other one had nothing to add");
    assert_eq!(teller.next_wake(), Some(Timestamp(120_000)));
    assert_eq!(json(&teller.due(Timestamp(120_000))[0])["repeated"], 1);
    // And it is over.
    assert_eq!(teller.due(Timestamp(180_000)), []);
    assert_eq!(teller.next_wake(), None);
    assert_eq!(teller.tell(text(180_001), Timestamp(180_001)).len(), 1);
}

#[test]
fn what_gets_worse_is_told_at_once_with_what_was_counted() {
    let mut teller = teller(vec![receiver("r", Form::Discord)]);
    teller.tell(notice("slow"), Timestamp(0));
    teller.tell(notice("slow"), Timestamp(1));
    let worse = Notice { severity: Severity::Critical, ..notice("slow") };
    let told = teller.tell(worse.clone(), Timestamp(2));
    let text = &json(&told[0])["embeds"][0]["description"];
    assert_eq!(text, "1 times since the last notice. code 1");
    assert_eq!(told[0].weight, Weight::Important);
    assert_eq!(teller.tell(worse, Timestamp(3)), []);
    assert_eq!(teller.flush().len(), 1);
    assert_eq!((teller.flush(), teller.next_wake()), (vec![], None));
}

#[test]
fn a_clock_set_back_makes_nobody_wait_for_longer() {
    let mut teller = teller(vec![receiver("r", Form::Generic)]);
    teller.tell(notice("left"), Timestamp(3_600_000));
    teller.tell(notice("left"), Timestamp(3_600_001));
    assert_eq!(teller.due(Timestamp(0)).len(), 1);
}

#[test]
fn more_kinds_than_can_be_counted_are_told_each() {
    let options = TellOptions { gathered_max: 1, ..TellOptions::default() };
    let mut teller = Teller::new(vec![receiver("r", Form::Generic)], options, 7).unwrap();
    teller.tell(notice("a"), Timestamp(0));
    for _ in 0..2 {
        assert_eq!(teller.tell(notice("b"), Timestamp(1)).len(), 1);
    }
    assert_eq!(teller.tell(notice("a"), Timestamp(1)), []);
}

#[test]
fn ids_are_never_used_again_and_keep_the_limits_of_the_outbox() {
    let mut teller = teller(vec![receiver("a", Form::Slack), receiver("b", Form::Discord)]);
    let mut ids = std::collections::HashSet::new();
    for n in 0..50 {
        let info = Notice { severity: Severity::Info, ..notice("x") };
        for message in teller.tell(info, Timestamp(n * 100_000)) {
            assert!(message.fits() && message.weight == Weight::Info);
            assert!(ids.insert(message.id));
        }
        teller.due(Timestamp(n * 100_000 + 60_000));
    }
    assert_eq!(ids.len(), 100);
}

#[test]
fn lost_notices_are_told_of_once() {
    let mut teller = teller(vec![receiver("r", Form::Generic)]);
    let dropped = |is_first| OutboxDropped { target: Arc::from("discord"), count: 3, is_first };
    let told = teller.lost(&dropped(true), Timestamp(5));
    assert_eq!(json(&told[0])["facts"]["receiver"], "discord");
    assert_eq!(teller.lost(&dropped(false), Timestamp(6)), []);
}

#[test]
fn receivers_have_names_of_their_own_and_a_limit() {
    let new = |receivers| Teller::new(receivers, TellOptions::default(), 1).err();
    let one = |name: &str| receiver(name, Form::Slack);
    assert!(matches!(new(vec![one("a"), one("a")]), Some(TellError::Name { .. })));
    assert!(matches!(new(vec![one("")]), Some(TellError::Name { .. })));
    let many = (0..65).map(|n| one(&n.to_string())).collect();
    assert_eq!(new(many), Some(TellError::TooMany { count: 65 }));
}

proptest! {
    // Long texts are slow to make.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_happens_the_limits_of_receivers_are_kept(
        title in "\\PC{0,400}",
        text in "[\\PC\n*<&]{0,5000}",
        facts in proptest::collection::vec(("\\PC{0,120}", "[\\PC*_]{0,1500}"), 0..30),
    ) {
        let facts = facts.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect();
        let notice = Notice { title, text, facts, ..notice("x") };
        let units = |value: &Value| value.as_str().unwrap().encode_utf16().count();
        let discord = told(Form::Discord, notice.clone());
        let embed = &discord["embeds"][0];
        let fields = embed["fields"].as_array().unwrap();
        let mut all = units(&embed["title"]) + units(&embed["description"]) + units(&embed["footer"]["text"]);
        prop_assert!(units(&embed["title"]) <= 256 && units(&embed["description"]) <= 4_096);
        prop_assert!(fields.len() <= 25);
        for field in fields {
            prop_assert!((1..=256).contains(&units(&field["name"])));
            prop_assert!((1..=1_024).contains(&units(&field["value"])));
            all += units(&field["name"]) + units(&field["value"]);
        }
        prop_assert!(all <= 6_000);
        let slack = told(Form::Slack, notice.clone());
        for block in slack["blocks"].as_array().unwrap() {
            let max = if block["type"] == "header" { 150 } else { 3_000 };
            if let Some(text) = block.pointer("/text/text") {
                prop_assert!((1..=max).contains(&units(text)));
            }
        }
        for form in [Form::Discord, Form::Slack, Form::Generic] {
            prop_assert!(told(form, notice.clone()).to_string().len() < OutboxMessage::BODY_BYTES_MAX);
        }
    }
}
