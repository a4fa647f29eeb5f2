//! How history and live flow become one stream, case by case.

use std::sync::Arc;

use bytes::Bytes;
use naru_domain::ports::HistoryPage;
use naru_domain::{Epoch, Offset, Position, Publication, Timestamp};

use super::{Follower, Joined, Offer, follows};

fn at(epoch: u64, offset: u64) -> Position {
    Position { epoch: Epoch(epoch), offset: Offset(offset) }
}

fn publication(epoch: u64, offset: u64) -> Arc<Publication> {
    let position = at(epoch, offset);
    Arc::new(Publication { position, data: Bytes::new(), meta: None, at: Timestamp(0), key: None })
}

/// Joins at `since` while `held` comes live and history has `kept` of the first epoch. Says which offsets
/// come first, or `None` if history has to be read again.
fn check(since: Option<u64>, kept: &[u64], held: &[u64], expected: Option<&[u64]>) {
    let mut follower = Follower::joining();
    for offset in held {
        assert_eq!(follower.offer(&publication(1, *offset), 10), Offer::Held);
    }
    let page = HistoryPage {
        publications: match since {
            Some(since) => {
                kept.iter().filter(|o| **o > since).map(|o| publication(1, *o)).collect()
            }
            None => Vec::new(),
        },
        top: at(1, kept.last().copied().unwrap_or(0)),
        complete: since.is_none_or(|since| kept.first().is_none_or(|first| since + 1 >= *first)),
    };
    match (follower.join(since.map(|offset| at(1, offset)), &page), expected) {
        (Joined::ReadAgain, None) => assert!(follower.is_joining()),
        (Joined::Live { publications, position }, Some(expected)) => {
            let offsets: Vec<u64> = publications.iter().map(|p| p.position.offset.0).collect();
            assert_eq!(offsets, expected);
            assert_eq!(follower.position(), Some(position));
            let last = expected.last().copied().unwrap_or(page.top.offset.0);
            assert_eq!(position.offset.0, last);
        }
        (joined, expected) => panic!("expected {expected:?}, got {joined:?}"),
    }
}

#[test]
fn history_and_what_was_held_back_become_one_stream() {
    check(Some(2), &[1, 2, 3, 4], &[], Some(&[3, 4]));
    check(Some(2), &[1, 2, 3, 4], &[3, 4], Some(&[3, 4]));
    check(Some(2), &[1, 2, 3, 4], &[4, 5, 6], Some(&[3, 4, 5, 6]));
    check(Some(2), &[1, 2], &[3], Some(&[3]));
    check(Some(4), &[1, 2, 3, 4], &[], Some(&[]));
}

#[test]
fn a_fresh_start_gets_only_what_came_after_the_top() {
    check(None, &[1, 2, 3], &[], Some(&[]));
    check(None, &[1, 2, 3], &[2, 3, 4, 5], Some(&[4, 5]));
}

#[test]
fn a_recovery_that_failed_gives_nothing_of_the_past_but_all_that_came_live() {
    check(Some(1), &[5, 6], &[6, 7], Some(&[7]));
}

#[test]
fn what_does_not_meet_is_read_again() {
    check(Some(1), &[1, 2], &[4], None);
    check(None, &[1, 2], &[5], None);
    // A loss that no offset shows, and more than may be held.
    let page = HistoryPage { publications: Vec::new(), top: at(1, 0), complete: true };
    let mut follower = Follower::joining();
    follower.missed();
    assert_eq!(follower.join(None, &page), Joined::ReadAgain);
    for offset in 1..=11 {
        follower.offer(&publication(1, offset), 10);
    }
    assert_eq!(follower.join(None, &page), Joined::ReadAgain);
    let live = Joined::Live { publications: Vec::new(), position: at(1, 0) };
    assert_eq!(follower.join(None, &page), live);
    assert_eq!(follower.join(None, &page), Joined::NotJoining);
}

#[test]
fn a_publication_is_next_or_a_repeat_or_behind_a_hole() {
    for (position, next, expected) in [
        (None, at(1, 7), Offer::Deliver),
        (Some(at(1, 6)), at(1, 7), Offer::Deliver),
        (Some(at(1, 7)), at(1, 7), Offer::Repeat),
        (Some(at(1, 5)), at(1, 7), Offer::Hole),
        (Some(at(1, 5)), at(2, 6), Offer::Hole),
        (Some(at(1, 5)), at(2, 0), Offer::Deliver),
    ] {
        assert_eq!(follows(position, next), expected, "{position:?} {next:?}");
    }
}

#[test]
fn after_a_skip_the_stream_goes_on_behind_it() {
    let live_at = |position| {
        let mut follower = Follower::joining();
        follower.join(None, &HistoryPage { publications: vec![], top: position, complete: true });
        follower
    };
    for new in [at(1, 9), at(2, 9)] {
        let mut follower = live_at(at(1, 5));
        follower.skip_to(new);
        assert_eq!(follower.position(), Some(new));
        let next = publication(new.epoch.0, new.offset.0 + 1);
        assert_eq!(follower.offer(&next, 0), Offer::Deliver);
    }
    let mut follower = live_at(at(1, 5));
    follower.skip_unknown();
    assert_eq!(follower.offer(&publication(3, 8), 0), Offer::Deliver);
}
