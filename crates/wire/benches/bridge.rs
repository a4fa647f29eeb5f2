//! What one chat message costs the codec: reading it, checking its signature, writing the answer.
//!
//! `cargo bench -p naru-wire`. The serde_json figure is the alternative for reading, with the same
//! fields and none of the checks.

use std::borrow::Cow;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use naru_domain::{Dialect, PhoneReply, ReplyBody, Timestamp};
use naru_wire::bridge::{FRAME_PAD_UNITS, Frame, SigningKey, decode, encode_ping, encode_reply};

const JSON_CHAT: &str = r##"{"event":"analyze","data":{"room":"점심방","text":"# echo 안녕하세요 여러분 }","sender":"지우","isGroupChat":true,"channelId":"18400000000000001","logId":"3500000000000000001","userHash":"a1b2c3d4","isMention":false,"timestamp":"2026-01-01 09:00:00","botName":"demo-bot","clientType":"MessengerBotR","auth":{"clientType":"MessengerBotR","botName":"demo-bot","deviceUUID":"0123456789abcdef","deviceID":"0123456789abcdef","macAddress":"02:00:00:00:00:00","ipAddress":"192.0.2.10","timestamp":1767225600000,"version":"3.2.1","signature":"1df057a65e1e008739def5d411955b62841615299b6e6e3f2310c5b15ec93691"}}}"##;
const RAW_CHAT: &str = r#"{"event":"message","data":{"room":"점심방","channel_id":"18400000000000001","message_type":"text","content_encoding":"base64","message_positions":[0,48],"timestamp":"2026-01-01T00:00:00.000Z","timezone":"Asia/Seoul","sender":"지우","is_group_chat":true,"log_id":"3500000000000000001","user_hash":"a1b2c3d4","is_mention":false,"bot_name":"demo-bot","client_type":"MessengerBotR","auth":{"clientType":"MessengerBotR","botName":"demo-bot","deviceUUID":"0123456789abcdef","deviceID":"0123456789abcdef","macAddress":"02:00:00:00:00:00","ipAddress":"192.0.2.10","timestamp":1767225600000,"version":"3.3.3","signature":"1df057a65e1e008739def5d411955b62841615299b6e6e3f2310c5b15ec93691"}}}IyBlY2hvIOyViOuFle2VmOyEuOyalCDsl6zrn6zrtoQgfQ=="#;

/// The alternative: derived readers of serde_json.
#[derive(serde::Deserialize)]
struct SerdeFrame<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: SerdeData<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct SerdeData<'a> {
    #[serde(borrow)]
    room: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(alias = "is_group_chat")]
    is_group_chat: bool,
    #[serde(borrow, alias = "channel_id")]
    channel_id: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "log_id")]
    log_id: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "user_hash")]
    user_hash: Option<Cow<'a, str>>,
    #[serde(alias = "is_mention")]
    is_mention: bool,
    #[serde(borrow)]
    auth: SerdeAuth<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct SerdeAuth<'a> {
    #[serde(borrow)]
    client_type: Cow<'a, str>,
    #[serde(borrow)]
    bot_name: Cow<'a, str>,
    #[serde(borrow, rename = "deviceUUID")]
    device_uuid: Cow<'a, str>,
    #[serde(borrow)]
    mac_address: Cow<'a, str>,
    #[serde(borrow)]
    ip_address: Cow<'a, str>,
    timestamp: i64,
    #[serde(borrow)]
    signature: Cow<'a, str>,
}

fn with_serde_json(line: &str) -> usize {
    let mut frames = serde_json::Deserializer::from_str(line).into_iter::<SerdeFrame<'_>>();
    let frame = frames.next().expect("one frame").expect("a chat frame");
    let (data, auth) = (&frame.data, &frame.data.auth);
    let lengths = [&data.room, &data.text, &data.sender, &frame.event, &auth.client_type];
    let more = [&auth.bot_name, &auth.device_uuid, &auth.mac_address, &auth.ip_address];
    let ids = [&data.channel_id, &data.log_id, &data.user_hash];
    lengths.iter().chain(&more).map(|text| text.len()).sum::<usize>()
        + ids.iter().filter(|id| id.is_some()).count()
        + usize::from(data.is_mention && data.is_group_chat && auth.timestamp == 0)
        + auth.signature.len()
        + line[frames.byte_offset()..].len()
}

fn decode_and_verify(key: &SigningKey, line: &str) -> usize {
    let Ok(Frame::Chat { chat, auth: Some(auth) }) = decode(line.as_bytes()) else {
        panic!("not a signed chat");
    };
    assert!(key.verify(&auth), "a wrong signature");
    chat.text.len()
}

fn reply(text: &str) -> PhoneReply {
    PhoneReply {
        room: "점심방".into(),
        channel_id: "18400000000000001".into(),
        body: ReplyBody::Text(text.into()),
        scheduled: false,
    }
}

fn reading(criterion: &mut Criterion) {
    let key = SigningKey::new("testsecret", "testsalt");
    let Ok(Frame::Chat { auth: Some(auth), .. }) = decode(JSON_CHAT.as_bytes()) else {
        panic!("not a signed chat");
    };
    let mut group = criterion.benchmark_group("read");
    for (name, line) in [("json", JSON_CHAT), ("raw", RAW_CHAT)] {
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(format!("decode_{name}_chat"), |bencher| {
            bencher.iter(|| decode(black_box(line.as_bytes())).expect("a frame"));
        });
        group.bench_function(format!("decode_and_verify_{name}_chat"), |bencher| {
            bencher.iter(|| decode_and_verify(&key, black_box(line)));
        });
        group.bench_function(format!("serde_json_{name}_chat"), |bencher| {
            bencher.iter(|| with_serde_json(black_box(line)));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("verify", |bencher| bencher.iter(|| key.verify(black_box(&auth))));
    group.finish();
}

fn writing(criterion: &mut Criterion) {
    let (sent_at, now) = (Timestamp(1_767_225_600_000), Timestamp(1_767_225_600_250));
    let mut out = Vec::with_capacity(1 << 20);
    let mut group = criterion.benchmark_group("write");
    for (name, dialect) in [("json", Dialect::Json), ("raw", Dialect::Raw)] {
        for (length, text) in
            [("short", "에코: 안녕하세요 여러분 }"), ("4k", &"가나다 abc\n".repeat(250))]
        {
            let reply = reply(text);
            group.bench_function(format!("{name}_text_{length}"), |bencher| {
                bencher.iter(|| {
                    out.clear();
                    encode_reply(
                        &mut out,
                        dialect,
                        "demo-bot",
                        black_box(&reply),
                        now,
                        FRAME_PAD_UNITS,
                    )
                    .expect("a text can be written");
                    black_box(out.len())
                });
            });
        }
        group.bench_function(format!("{name}_ping"), |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_ping(
                    &mut out,
                    dialect,
                    "demo-bot",
                    black_box(sent_at),
                    now,
                    FRAME_PAD_UNITS,
                );
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .configure_from_args();
    reading(&mut criterion);
    writing(&mut criterion);
    criterion.final_summary();
}
