//! What a webhook target answers: never a panic, and whatever is taken keeps the limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_bots::hook::parse_replies;
use naru_domain::{ReplyBody, limits};

fuzz_target!(|body: &[u8]| {
    let Ok(replies) = parse_replies(body) else { return };
    assert!(replies.len() <= limits::REPLIES_PER_MESSAGE_MAX);
    for reply in replies {
        if let ReplyBody::Media { items, .. } = reply {
            assert!((1..=limits::REPLY_MEDIA_ITEMS_MAX).contains(&items.len()));
        }
    }
});
