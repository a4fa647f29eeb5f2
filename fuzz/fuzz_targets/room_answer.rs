//! What a client publishes into a room's channel: never a panic, and whatever is taken keeps the limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_bots::hook::{ROOM_KEY_BYTES_MAX, parse_room_answer};
use naru_domain::{ReplyBody, limits};

fuzz_target!(|body: &[u8]| {
    let Ok(answer) = parse_room_answer(body) else { return };
    assert!((1..=limits::REPLIES_PER_MESSAGE_MAX).contains(&answer.replies.len()));
    assert!(answer.key.is_none_or(|key| (1..=ROOM_KEY_BYTES_MAX).contains(&key.len())));
    for reply in answer.replies {
        if let ReplyBody::Media { items, .. } = reply {
            assert!((1..=limits::REPLY_MEDIA_ITEMS_MAX).contains(&items.len()));
        }
    }
});
