//! From what a handler says to what is sent: bounds, long texts in pieces, pictures made ready.

use naru_domain::ReplyBody;
use naru_domain::limits::{CHAT_TEXT_UNITS_MAX, REPLIES_PER_MESSAGE_MAX};

use crate::handler::{HandlerError, Outcome};
use crate::roster::DeviceEntry;

/// Whether the replies can be sent as they are. Bytes are never fewer than UTF-16 units.
pub(crate) fn is_plain(outcome: &Outcome) -> bool {
    outcome.replies.len() <= REPLIES_PER_MESSAGE_MAX
        && outcome.replies.iter().all(|body| match body {
            ReplyBody::Text(text) => !text.is_empty() && text.len() <= CHAT_TEXT_UNITS_MAX,
            ReplyBody::Media { .. } => false,
        })
}

/// Makes the replies ready for this phone.
pub(crate) async fn outcome(
    entry: &DeviceEntry,
    mut outcome: Outcome,
) -> Result<Outcome, HandlerError> {
    if is_plain(&outcome) {
        return Ok(outcome);
    }
    let was_handled = !outcome.is_unhandled();
    outcome.replies = bodies(entry, std::mem::take(&mut outcome.replies)).await?;
    outcome.silent = was_handled && outcome.replies.is_empty();
    Ok(outcome)
}

/// The same for replies that answer no message.
pub(crate) async fn bodies(
    entry: &DeviceEntry,
    bodies: Vec<ReplyBody>,
) -> Result<Vec<ReplyBody>, HandlerError> {
    if bodies.len() > REPLIES_PER_MESSAGE_MAX {
        return Err(HandlerError::dead(format!(
            "{} replies to one message, at most {REPLIES_PER_MESSAGE_MAX} are allowed",
            bodies.len()
        )));
    }
    let kitchen = entry.bot.config.load().kitchen.clone();
    let mut ready = Vec::with_capacity(bodies.len());
    for body in bodies {
        match body {
            ReplyBody::Text(text) => {
                ready.extend(pieces(&text, CHAT_TEXT_UNITS_MAX).map(|t| ReplyBody::Text(t.into())));
            }
            media @ ReplyBody::Media { .. } => {
                let prepared = kitchen.prepare(media, entry.dialect()).await;
                ready.extend(prepared.map_err(|error| HandlerError {
                    reason: error.to_string(),
                    retryable: error.may_retry(),
                })?);
            }
        }
    }
    Ok(ready)
}

/// The text in pieces of at most `units_max` UTF-16 units, cut after the last line break of a piece if
/// there is one in its second half. An empty text has no pieces.
fn pieces(text: &str, units_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut units = 0;
        let end = rest
            .char_indices()
            .find(|(_, c)| {
                units += c.len_utf16();
                units > units_max
            })
            .map_or(rest.len(), |(at, _)| at);
        let cut = match rest[..end].rfind('\n') {
            Some(line_break) if end < rest.len() && line_break >= end / 2 => line_break + 1,
            _ => end,
        };
        let (piece, left) = rest.split_at(cut);
        rest = left;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn long_texts_are_cut_at_line_breaks_or_between_characters() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(pieces(text, 4).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("", &[]);
        check("abcd", &["abcd"]);
        check("abcde", &["abcd", "e"]);
        check("ab\ncde", &["ab\n", "cde"]);
        check("\nabcde", &["\nabc", "de"]);
        check("가나다라마", &["가나다라", "마"]);
        check("😀😀😀", &["😀😀", "😀"]);
    }
}
