//! The subscribers of a run with their accounts, and the connections that publish to them. Knows
//! when a message has reached everybody; what follows from that is the run's business.

use std::collections::VecDeque;
use std::ops::Range;

use super::Setup;
use super::dialect::Template;
use super::lane::{Lane, Totals, Verdict};
use super::links::{Links, Sink};
use super::mark::Mark;
use crate::latency::Latencies;

/// All subscribers and what came to them.
pub(super) struct Crowd {
    run: u32,
    lanes: Vec<Lane>,
    channels: Vec<OnTheWay>,
    pub(super) totals: Totals,
    pub(super) published: u64,
    /// Messages that have reached everybody.
    pub(super) completed: u64,
    pub(super) latency: Latencies,
    /// Messages due before this moment are warm-up.
    pub(super) measure_from_ns: u64,
}

/// Messages of one channel that have not reached everybody, and how many subscribers each lacks.
struct OnTheWay {
    subscribers: u32,
    first: u64,
    lacking: VecDeque<u32>,
}

impl OnTheWay {
    fn new(subscribers: usize, channels: usize, channel: usize) -> OnTheWay {
        let more = usize::from(channel < subscribers % channels);
        OnTheWay {
            subscribers: u32::try_from(subscribers / channels + more).unwrap_or(u32::MAX),
            first: 0,
            lacking: VecDeque::new(),
        }
    }

    fn sent(&self) -> u64 {
        self.first + u64::try_from(self.lacking.len()).unwrap_or(0)
    }

    /// Notes a delivery. True when it was the last one that the message lacked.
    fn arrived(&mut self, number: u64) -> bool {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        let Some(lacking) = place.and_then(|place| self.lacking.get_mut(place)) else {
            return false;
        };
        *lacking = lacking.saturating_sub(1);
        let complete = *lacking == 0;
        while self.lacking.front() == Some(&0) {
            self.lacking.pop_front();
            self.first += 1;
        }
        complete
    }
}

impl Crowd {
    /// `subscribers` connections share `channels`: connection `id` has channel `id % channels`.
    pub(super) fn new(subscribers: usize, channels: usize) -> Crowd {
        Crowd {
            run: rand::random(),
            lanes: std::iter::repeat_with(Lane::default).take(subscribers).collect(),
            channels: (0..channels)
                .map(|channel| OnTheWay::new(subscribers, channels, channel))
                .collect(),
            totals: Totals::default(),
            published: 0,
            completed: 0,
            latency: Latencies::default(),
            measure_from_ns: u64::MAX,
        }
    }

    /// Numbers one more message of `channel`.
    pub(super) fn send(&mut self, channel: usize) -> u64 {
        let channel = &mut self.channels[channel];
        let number = channel.sent();
        channel.lacking.push_back(channel.subscribers);
        self.published += 1;
        number
    }

    /// The totals, with what has not come counted as lost.
    pub(super) fn settle(&self) -> Totals {
        let lost = self.lanes.iter().enumerate().map(|(id, lane)| {
            let channel = &self.channels[id % self.channels.len()];
            lane.lost(channel.sent())
        });
        Totals { lost: lost.sum(), ..self.totals }
    }
}

impl Sink for Crowd {
    fn delivered(&mut self, link: usize, mark: Mark, now_ns: u64) {
        let index = link % self.channels.len();
        let (Some(lane), channel) = (self.lanes.get_mut(link), &mut self.channels[index]) else {
            self.totals.foreign += 1;
            return;
        };
        let ours = mark.run == self.run && usize::try_from(mark.channel) == Ok(index);
        if !ours || mark.number >= channel.sent() {
            self.totals.foreign += 1;
            return;
        }
        let verdict = lane.take(mark.number);
        self.totals.count(verdict);
        if verdict == Verdict::Double {
            return;
        }
        if channel.arrived(mark.number) {
            self.completed += 1;
        }
        if mark.due_ns >= self.measure_from_ns {
            self.latency.record(now_ns.saturating_sub(mark.due_ns));
        }
    }

    fn spoilt(&mut self) {
        self.totals.spoilt += 1;
    }
}

/// The connections that publish. Each has its own channels, so that order per channel is certain.
pub(super) struct Publishers {
    templates: Vec<Template>,
    links: Range<usize>,
    next_channel: usize,
    requests: u64,
}

/// A publisher with more than this to say waits until the socket has taken it.
const UNSAID_BYTES_MAX: usize = 4 << 20;
/// Requests are numbered from zero again after this many: ids have 32 bits.
const REQUESTS_MAX: u64 = 3_000_000_000;

impl Publishers {
    pub(super) fn new(
        setup: &Setup,
        channels: usize,
        links: Range<usize>,
        acknowledged: bool,
    ) -> Publishers {
        let template =
            |topic: &String| setup.dialect.publish(topic, setup.common.size, acknowledged);
        let templates = setup.topics(channels).iter().map(template).collect();
        Publishers { templates, links, next_channel: 0, requests: 0 }
    }

    /// Queues a message in the next channel. False when its publisher has too much to say already.
    pub(super) fn publish(&mut self, links: &mut Links, crowd: &mut Crowd, due_ns: u64) -> bool {
        let channel = self.next_channel;
        let link = self.links.start + channel % self.links.len();
        if links.unsaid(link) > UNSAID_BYTES_MAX {
            return false;
        }
        self.next_channel = (channel + 1) % self.templates.len();
        let number = crowd.send(channel);
        let channel_number = u32::try_from(channel).unwrap_or(u32::MAX);
        let mark = Mark { run: crowd.run, channel: channel_number, number, due_ns };
        let message = self.templates[channel].fill(mark, self.requests);
        self.requests = (self.requests + 1) % REQUESTS_MAX;
        links.queue(link, message);
        true
    }

    pub(super) fn flush(&self, links: &mut Links) {
        for link in self.links.clone() {
            if links.unsaid(link) > 0 {
                links.flush(link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(crowd: &mut Crowd, link: usize, number: u64) {
        let channel = u32::try_from(link % crowd.channels.len()).unwrap();
        let mark = Mark { run: crowd.run, channel, number, due_ns: 0 };
        crowd.delivered(link, mark, 1);
    }

    #[test]
    fn a_message_is_complete_when_its_last_subscriber_has_it() {
        // Channel 0 has links 0 and 2, channel 1 has link 1.
        let mut crowd = Crowd::new(3, 2);
        for channel in [0, 0, 1] {
            crowd.send(channel);
        }
        delivered(&mut crowd, 0, 0);
        delivered(&mut crowd, 0, 1);
        assert_eq!(crowd.completed, 0);
        delivered(&mut crowd, 2, 1);
        assert_eq!(crowd.completed, 1, "the second one first: the accounts say so, not the window");
        delivered(&mut crowd, 2, 0);
        delivered(&mut crowd, 1, 0);
        assert_eq!(crowd.completed, 3);
        let totals = crowd.settle();
        assert_eq!(totals, Totals { delivered: 5, reordered: 1, ..Totals::default() });
    }

    #[test]
    fn what_was_never_sent_and_what_others_sent_is_foreign() {
        let mut crowd = Crowd::new(2, 2);
        crowd.send(0);
        let ours = Mark { run: crowd.run, channel: 0, number: 0, due_ns: 0 };
        for (link, mark) in [
            (0, Mark { run: ours.run ^ 1, ..ours }),
            (0, Mark { number: 1, ..ours }),
            (1, ours),
            (7, ours),
        ] {
            crowd.delivered(link, mark, 1);
        }
        let totals = crowd.settle();
        assert_eq!(totals, Totals { foreign: 4, lost: 1, ..Totals::default() });
    }
}
