//! One channel of the in-process bus: its epoch, its last offset and what it keeps of its history.
//!
//! Plain data. It knows no locks, stores or queues.

use std::collections::VecDeque;
use std::sync::Arc;

use naru_domain::ports::{HistoryPage, HistoryQuery, NamespaceOptions};
use naru_domain::{Epoch, Offset, Position, Publication, Timestamp, Version};

/// A channel that keeps history.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    epoch: Epoch,
    top: Offset,
    /// What `top` was when nothing later had been forgotten: all that is kept comes after it.
    floor: Offset,
    kept: VecDeque<Arc<Publication>>,
    bytes: usize,
    /// The newest one; after a restart, of those that are kept.
    version: Option<Box<Version>>,
}

impl Stream {
    /// A channel whose stream has come to `top`, with nothing kept.
    pub(crate) fn new(epoch: Epoch, top: Offset) -> Stream {
        Stream { epoch, top, floor: top, kept: VecDeque::new(), bytes: 0, version: None }
    }

    /// A channel as a store remembers it. Only what is one run up to the top is kept.
    pub(crate) fn restored(
        epoch: Epoch,
        top: Offset,
        publications: Vec<Arc<Publication>>,
    ) -> Stream {
        let mut stream = Stream::new(epoch, top);
        for publication in publications.into_iter().rev() {
            let position = publication.position;
            if position.epoch != epoch || position.offset != stream.floor || position.offset.0 == 0
            {
                break;
            }
            stream.floor = Offset(position.offset.0 - 1);
            stream.bytes += publication.size_bytes();
            if stream.version.is_none() {
                stream.version = publication.version().cloned().map(Box::new);
            }
            stream.kept.push_front(publication);
        }
        stream
    }

    pub(crate) fn top(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top }
    }

    /// Everything up to here is forgotten.
    pub(crate) fn floor(&self) -> Offset {
        self.floor
    }

    pub(crate) fn kept_count(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn next(&self) -> Position {
        Position { epoch: self.epoch, offset: self.top.next() }
    }

    /// Adds the next publication; one that is there already changes nothing.
    pub(crate) fn append(&mut self, publication: &Arc<Publication>) {
        if publication.position != self.next() {
            return;
        }
        self.top = publication.position.offset;
        self.bytes += publication.size_bytes();
        if let Some(version) = publication.version() {
            self.version = Some(Box::new(version.clone()));
        }
        self.kept.push_back(Arc::clone(publication));
    }

    /// The newest version that was published.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.version.as_deref()
    }

    /// Forgets what is too old or too much.
    pub(crate) fn trim(&mut self, options: &NamespaceOptions, bytes_max: usize, now: Timestamp) {
        while let Some(oldest) = self.kept.front() {
            let is_old =
                !options.history_ttl.is_zero() && oldest.at.plus(options.history_ttl) <= now;
            if !is_old && self.kept.len() <= options.history_size && self.bytes <= bytes_max {
                break;
            }
            self.bytes -= oldest.size_bytes();
            self.floor = oldest.position.offset;
            self.kept.pop_front();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// Forgets all that is kept. The position stays.
    pub(crate) fn clear(&mut self) {
        self.kept = VecDeque::new();
        self.bytes = 0;
        self.floor = self.top;
    }

    pub(crate) fn page(&self, query: HistoryQuery) -> HistoryPage {
        let complete = query.since.is_none_or(|since| {
            since.epoch == self.epoch && since.offset >= self.floor && since.offset <= self.top
        });
        let after = match query.since {
            Some(since) if since.epoch == self.epoch => since.offset,
            _ => Offset(0),
        };
        // Offsets are one run, so the place is a subtraction.
        let skip = usize::try_from(after.0.saturating_sub(self.floor.0)).unwrap_or(usize::MAX);
        let publications = self.kept.iter().skip(skip).take(query.limit).map(Arc::clone).collect();
        HistoryPage { publications, top: self.top(), complete }
    }
}
