//! Whether a schedule makes sense, told field by field, so that a form can show each problem in its
//! place. Pure.

use std::time::Duration;

use naru_domain::Timestamp;
use naru_domain::limits::{CHAT_TEXT_UNITS_MAX, REPLY_MEDIA_BYTES_MAX, REPLY_MEDIA_ITEMS_MAX};
use naru_domain::work::{Recurrence, Schedule};

use super::recurrence::{Cron, TimeZone, next_run};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, by its name in the API.
    pub field: &'static str,
    /// What is wrong with it, as a sentence without a full stop.
    pub message: String,
}

/// The longest name, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// Times a day.
const MINUTES_MAX: usize = 96;
/// The longest pause between the two groups: nobody reads it as one message after that (guessed).
const GROUP_PAUSE_MAX: Duration = Duration::from_secs(600);
/// The longest wait a phone may be told: it reads nothing else meanwhile.
const MEDIA_WAIT_MAX: Duration = Duration::from_secs(120);

/// Everything that is wrong, in the order of the fields; empty if nothing is.
#[must_use]
pub fn validate(schedule: &Schedule) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.check_target(schedule);
    problems.check_content(schedule);
    problems.check_media(schedule);
    problems.check_times(schedule);
    problems.0
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn say(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(Problem { field, message: message.into() });
    }

    fn check_target(&mut self, schedule: &Schedule) {
        let title = schedule.title.chars().count();
        if schedule.title.trim().is_empty() || title > TITLE_CHARS_MAX {
            self.say("title", format!("a title has 1 to {TITLE_CHARS_MAX} characters"));
        }
        if schedule.title.chars().any(char::is_control) {
            self.say("title", "a title has no control characters");
        }
        if schedule.room.is_empty() {
            self.say("room", "a room is needed: phones address text by its name");
        }
        let has_images = schedule.images.iter().any(|group| !group.is_empty());
        if has_images && schedule.channel_id.is_empty() {
            self.say(
                "channel_id",
                "pictures need the room's channel id: phones address them by it",
            );
        }
        if !schedule.channel_id.bytes().all(|byte| byte.is_ascii_digit()) {
            self.say("channel_id", "a channel id is made of digits");
        }
    }

    fn check_content(&mut self, schedule: &Schedule) {
        let has_images = schedule.images.iter().any(|group| !group.is_empty());
        if schedule.text.is_empty() && !has_images {
            self.say("text", "there is nothing to send: give a text or pictures");
        }
        let units = schedule.text.encode_utf16().count();
        if units > CHAT_TEXT_UNITS_MAX {
            self.say("text", format!("a text has at most {CHAT_TEXT_UNITS_MAX} UTF-16 units"));
        }
    }

    fn check_media(&mut self, schedule: &Schedule) {
        for group in &schedule.images {
            if group.len() > REPLY_MEDIA_ITEMS_MAX {
                self.say("images", format!("a group has at most {REPLY_MEDIA_ITEMS_MAX} pictures"));
            }
            if group.iter().map(bytes::Bytes::len).sum::<usize>() > REPLY_MEDIA_BYTES_MAX {
                let mib = REPLY_MEDIA_BYTES_MAX / 1024 / 1024;
                self.say("images", format!("a group has at most {mib} MiB"));
            }
            if group.iter().any(bytes::Bytes::is_empty) {
                self.say("images", "a picture is empty");
            }
        }
        if schedule.media_wait.iter().flatten().any(|wait| *wait > MEDIA_WAIT_MAX) {
            let seconds = MEDIA_WAIT_MAX.as_secs();
            self.say("media_wait", format!("a wait is at most {seconds} seconds"));
        }
        if schedule.group_pause > GROUP_PAUSE_MAX {
            let seconds = GROUP_PAUSE_MAX.as_secs();
            self.say("group_pause", format!("the pause is at most {seconds} seconds"));
        }
    }

    fn check_times(&mut self, schedule: &Schedule) {
        let before = self.0.len();
        match &schedule.recurrence {
            Recurrence::Once(_) => {}
            Recurrence::Daily(minutes) => self.check_minutes(minutes),
            Recurrence::Weekly { days, minutes } => {
                if days.is_empty() || days.iter().any(|day| *day > 6) {
                    self.say("days", "give at least one day, 0 (Monday) to 6 (Sunday)");
                }
                self.check_minutes(minutes);
            }
            Recurrence::Cron(expression) => {
                if let Err(error) = Cron::parse(expression) {
                    self.say("cron", error.to_string());
                }
            }
        }
        let zone = TimeZone::parse(&schedule.time_zone);
        if zone.is_none() {
            self.say("time_zone", "not a time zone; write it like Asia/Seoul or Europe/Berlin");
        }
        let window = (schedule.valid_from, schedule.valid_until);
        if let (Some(from), Some(until)) = window
            && from > until
        {
            self.say("valid_until", "the validity ends before it begins");
        }
        if self.0.len() > before {
            return;
        }
        let Some(zone) = zone else { return };
        // Before all moments that a rule can name, but inside the calendar.
        let start = schedule.valid_from.unwrap_or(Timestamp(0));
        let start = Timestamp(start.0.saturating_sub(1));
        if next_run(&schedule.recurrence, zone, start, window.0, window.1).is_none() {
            self.say("recurrence", "it never runs: no such moment, or none within the validity");
        }
    }

    fn check_minutes(&mut self, minutes: &[u16]) {
        if minutes.is_empty() || minutes.len() > MINUTES_MAX {
            self.say("minutes", format!("give 1 to {MINUTES_MAX} times of the day"));
        }
        if minutes.iter().any(|minute| *minute >= 24 * 60) {
            self.say("minutes", "a time of the day is 0 to 1439 minutes after midnight");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::announcement;
    use super::*;

    fn check(change: impl FnOnce(&mut Schedule), expected: &[&str]) {
        let mut schedule = announcement();
        change(&mut schedule);
        let problems = validate(&schedule);
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field).collect();
        assert_eq!(fields, expected, "{problems:?}");
    }

    #[test]
    fn a_sound_schedule_has_no_problems() {
        check(|_| {}, &[]);
        check(|schedule| schedule.recurrence = Recurrence::Cron("0 9 * * 1-5".to_owned()), &[]);
        check(|schedule| schedule.channel_id.clear(), &[]);
    }

    #[test]
    fn each_field_is_checked() {
        check(|schedule| schedule.title = " ".to_owned(), &["title"]);
        check(|schedule| schedule.title = "가".repeat(201), &["title"]);
        check(|schedule| schedule.title = "a\nb".to_owned(), &["title"]);
        check(|schedule| schedule.room.clear(), &["room"]);
        check(|schedule| schedule.channel_id = "room-1".to_owned(), &["channel_id"]);
        check(|schedule| schedule.text.clear(), &["text"]);
        check(|schedule| schedule.text = "가".repeat(65_001), &["text"]);
        check(|schedule| schedule.images[0] = vec![Bytes::from_static(b"x"); 31], &["images"]);
        check(|schedule| schedule.images[1] = vec![Bytes::new()], &["images"]);
        let large = Bytes::from(vec![1; REPLY_MEDIA_BYTES_MAX + 1]);
        check(|schedule| schedule.images[1] = vec![large], &["images"]);
        check(|schedule| schedule.media_wait[1] = Some(Duration::from_secs(121)), &["media_wait"]);
        check(|schedule| schedule.group_pause = Duration::from_secs(601), &["group_pause"]);
        check(|schedule| schedule.time_zone = "Seoul".to_owned(), &["time_zone"]);
        check(|schedule| schedule.recurrence = Recurrence::Daily(vec![]), &["minutes"]);
        check(|schedule| schedule.recurrence = Recurrence::Daily(vec![1440]), &["minutes"]);
        let weekly = Recurrence::Weekly { days: vec![7], minutes: vec![] };
        check(|schedule| schedule.recurrence = weekly, &["days", "minutes"]);
        check(|schedule| schedule.recurrence = Recurrence::Cron("* *".to_owned()), &["cron"]);
    }

    #[test]
    fn pictures_need_a_channel_id() {
        check(
            |schedule| {
                schedule.images[0] = vec![Bytes::from_static(b"x")];
                schedule.channel_id.clear();
            },
            &["channel_id"],
        );
    }

    #[test]
    fn what_never_runs_is_said() {
        check(
            |schedule| schedule.recurrence = Recurrence::Cron("0 0 31 2 *".to_owned()),
            &["recurrence"],
        );
        check(
            |schedule| {
                schedule.valid_from = Some(Timestamp(1_000_000));
                schedule.valid_until = Some(Timestamp(1_000_001));
            },
            &["recurrence"],
        );
        check(
            |schedule| {
                schedule.valid_from = Some(Timestamp(2));
                schedule.valid_until = Some(Timestamp(1));
            },
            &["valid_until"],
        );
    }
}
