//! The commands every bot knows.

use std::time::Duration;

use naru_domain::phone::MediaKind;
use naru_domain::{BotName, MediaItem, ReplyBody};

use super::{Call, CommandSpec, Parameter, ParameterKind, Run, Services, TextRule, Who, Work};
use crate::handler::{HandlerError, Outcome};
use crate::media::word_picture;

/// The most echoes of one message.
const ECHO_REPEAT_MAX: u32 = 5;
/// The longest wait a person may ask a phone for: it reads nothing else meanwhile.
const MEDIA_WAIT_MS_MAX: u32 = 60_000;
/// Phones shown in one summary.
const SUMMARY_PHONES_MAX: usize = 50;
/// Pictures of one message.
const PICTURES_MAX: usize = naru_domain::limits::REPLY_MEDIA_ITEMS_MAX;

/// The built-in set, in the order of the help text.
pub const BUILT_IN: &[CommandSpec] = &[
    CommandSpec {
        name: "help",
        prefix: "# help",
        help: "사용할 수 있는 명령을 보여 줍니다.",
        text: TextRule::None,
        parameters: &[],
        who: Who::Anyone,
        run: Run::Now(help),
    },
    CommandSpec {
        name: "ping",
        prefix: "# ping",
        help: "서버가 살아 있는지 확인합니다.",
        text: TextRule::None,
        parameters: &[],
        who: Who::Anyone,
        run: Run::Now(ping),
    },
    CommandSpec {
        name: "echo",
        prefix: "# echo",
        help: "말한 대로 되돌려 줍니다.",
        text: TextRule::Required("TEXT"),
        parameters: &[
            Parameter {
                name: "repeat",
                value_name: "N",
                kind: ParameterKind::Integer { min: 1, max: ECHO_REPEAT_MAX },
            },
            Parameter { name: "channel-id", value_name: "X", kind: ParameterKind::Text },
        ],
        who: Who::Anyone,
        run: Run::Now(echo),
    },
    CommandSpec {
        name: "imgext",
        prefix: "# IMGEXT",
        help: "낱말마다 그림을 한 장씩 그려 줍니다.",
        text: TextRule::Required("WORD…"),
        parameters: &[Parameter {
            name: "media-wait-time",
            value_name: "MS",
            kind: ParameterKind::Integer { min: 0, max: MEDIA_WAIT_MS_MAX },
        }],
        who: Who::Anyone,
        run: Run::Later(Work::Pictures),
    },
    CommandSpec {
        name: "client-info",
        prefix: "# client_info summary",
        help: "연결된 휴대폰을 보여 줍니다.",
        text: TextRule::None,
        parameters: &[Parameter { name: "bot-name", value_name: "X", kind: ParameterKind::Text }],
        who: Who::Admins,
        run: Run::Later(Work::ClientSummary),
    },
    CommandSpec {
        name: "reload",
        prefix: "# reload bots-config",
        help: "승인 상태와 설정을 다시 읽습니다.",
        text: TextRule::None,
        parameters: &[],
        who: Who::Admins,
        run: Run::Later(Work::Reload),
    },
];

fn help(call: &Call<'_>) -> Outcome {
    let mut text = String::from("사용할 수 있는 명령:");
    for spec in BUILT_IN {
        let is_allowed =
            call.settings.commands.allows(spec.name) && (spec.who == Who::Anyone || call.is_admin);
        if is_allowed {
            text.push_str(&format!("\n{}\n  {}", spec.usage(), spec.help));
        }
    }
    Outcome::text(text)
}

fn ping(call: &Call<'_>) -> Outcome {
    let waited = call.now.since(call.incoming.message.received_at).as_millis();
    let time = chrono::DateTime::from_timestamp_millis(call.now.0)
        .map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
        .unwrap_or_default();
    Outcome::text(format!("pong\n처리 대기 {waited} ms\n서버 시각 {time}"))
}

fn echo(call: &Call<'_>) -> Outcome {
    if let Some(channel_id) = call.arguments.text_of("channel-id")
        && channel_id != call.incoming.message.channel_id.as_ref()
    {
        return Outcome::silent();
    }
    let text = &call.arguments.text;
    match call.arguments.integer_of("repeat").unwrap_or(1) {
        1 => Outcome::text(format!("에코: {text}")),
        count => Outcome::replies(
            (1..=count)
                .map(|i| ReplyBody::Text(format!("[{i}/{count}] 에코: {text}").into()))
                .collect(),
        ),
    }
}

/// One picture per word, as one media message.
pub(super) fn pictures(call: &Call<'_>) -> Outcome {
    let words = call.arguments.text.split_whitespace().take(PICTURES_MAX);
    let items = words.map(|word| MediaItem::Bytes(word_picture(word))).collect();
    let wait = call
        .arguments
        .integer_of("media-wait-time")
        .filter(|ms| *ms > 0)
        .map(|ms| Duration::from_millis(ms.into()));
    Outcome::replies(vec![ReplyBody::Media { kind: MediaKind::Image, items, wait }])
}

pub(super) fn client_summary(call: &Call<'_>, services: &dyn Services) -> Outcome {
    let bot = match call.arguments.text_of("bot-name").map(BotName::parse) {
        None => call.incoming.bot.clone(),
        Some(Ok(bot)) => bot,
        Some(Err(_)) => return Outcome::text("오류: --bot-name 값이 봇 이름이 아닙니다."),
    };
    let phones = services.connected(&bot);
    let mut text = format!("{bot}: 연결된 휴대폰 {}대", phones.len());
    for phone in phones.iter().take(SUMMARY_PHONES_MAX) {
        let minutes = phone.connected_for.as_secs() / 60;
        text.push_str(&format!(
            "\n- {} · {} · {minutes}분째 · 대기 {}",
            phone.label, phone.peer, phone.queued
        ));
    }
    if phones.len() > SUMMARY_PHONES_MAX {
        text.push_str(&format!("\n… 외 {}대", phones.len() - SUMMARY_PHONES_MAX));
    }
    Outcome::text(text)
}

pub(super) async fn reload(services: &dyn Services) -> Result<Outcome, HandlerError> {
    let report = services.reload().await.map_err(HandlerError::dead)?;
    Ok(Outcome::text(format!(
        "다시 읽었습니다: 휴대폰 {}대, 방 {}개, 봇 {}개",
        report.devices, report.rooms, report.bots
    )))
}
