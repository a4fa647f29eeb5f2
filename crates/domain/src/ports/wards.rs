//! What is remembered of wards, the game servers that are looked after: their state, what happened, what
//! they cost, and who played.

use std::sync::Arc;

use async_trait::async_trait;

use super::StoreError;
use crate::{Durability, Timestamp};

/// What a batch may hold at most of one kind. A larger one is refused: it would hold the writer too long.
pub const WARD_BATCH_ROWS_MAX: usize = 4_096;
/// The largest packed block, record or event, in bytes.
pub const WARD_BODY_BYTES_MAX: usize = 256 * 1024;
/// How many wards a store tells apart over its life.
pub const WARDS_MAX: i64 = 4_095;

/// How fine kept figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WardResolution {
    /// Every sample, packed by the minute.
    Raw,
    /// Five minutes in one: mean, 95th percentile, peak and count.
    FiveMinutes,
    /// An hour in one.
    Hour,
}

impl WardResolution {
    /// All of them.
    pub const ALL: [WardResolution; 3] =
        [WardResolution::Raw, WardResolution::FiveMinutes, WardResolution::Hour];
}

/// What is known of a ward and has to be known after a restart, in the supervisor's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WardRecord {
    /// The ward's name.
    pub ward: Arc<str>,
    /// Which of its records: a ward has one of each, such as `life`.
    pub part: Arc<str>,
    /// The record.
    pub body: Arc<str>,
    /// When it was made.
    pub at: Timestamp,
}

/// Packed figures of one ward. The store does not look into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WardBlock {
    /// The ward's name.
    pub ward: Arc<str>,
    /// How fine it is.
    pub resolution: WardResolution,
    /// Where it begins. Kept to the second.
    pub start: Timestamp,
    /// The figures.
    pub data: Arc<[u8]>,
}

/// Where something stands in the order of time, unlike any other of its kind: its moment in milliseconds
/// times 4,096, plus a running number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WardPlace(pub i64);

impl WardPlace {
    const RUNNING: i64 = 4_096;

    /// The place of what happened at `at`; `running` tells apart what happened in one millisecond.
    #[must_use]
    pub fn new(at: Timestamp, running: u16) -> WardPlace {
        let running = i64::from(running) % Self::RUNNING;
        WardPlace(at.0.saturating_mul(Self::RUNNING).saturating_add(running))
    }

    /// The first place at or after `at`.
    #[must_use]
    pub fn first_at(at: Timestamp) -> WardPlace {
        WardPlace::new(at, 0)
    }

    /// When it was.
    #[must_use]
    pub fn at(self) -> Timestamp {
        Timestamp(self.0.div_euclid(Self::RUNNING))
    }
}

/// Something happened to a ward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WardEvent {
    /// When, and which.
    pub place: WardPlace,
    /// The ward's name.
    pub ward: Arc<str>,
    /// What kind of thing, such as `crashed`.
    pub kind: Arc<str>,
    /// The particulars, in the supervisor's own form.
    pub body: Arc<str>,
}

/// A player's stay on a ward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WardVisit {
    /// When it began, and which. A visit that is told again replaces what was told before.
    pub place: WardPlace,
    /// The ward's name.
    pub ward: Arc<str>,
    /// The player's name at that time.
    pub name: Arc<str>,
    /// The player's lasting id, where the game tells.
    pub player: Option<Arc<str>>,
    /// When the player was known to be there for the last time.
    pub seen: Timestamp,
    /// When the player was known to be gone for the first time; `None` while the visit lasts. The truth
    /// lies between `seen` and this.
    pub left: Option<Timestamp>,
}

/// The highest value that a series of a ward ever had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WardPeak {
    /// The ward's name.
    pub ward: Arc<str>,
    /// The series, by the supervisor's number.
    pub series: u8,
    /// The value, in the unit of the series.
    pub value: u32,
    /// When.
    pub at: Timestamp,
}

/// What retention may remove of wards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WardForget {
    /// Figures of this resolution.
    Blocks(WardResolution),
    /// Events.
    Events,
    /// Visits that are over.
    Visits,
}

/// What is kept in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WardBatch {
    /// Records that could wait.
    pub records: Vec<WardRecord>,
    /// Figures of all resolutions.
    pub blocks: Vec<WardBlock>,
    /// Events.
    pub events: Vec<WardEvent>,
    /// Visits, new ones and ones with news.
    pub visits: Vec<WardVisit>,
    /// Highest values: kept if they are.
    pub peaks: Vec<WardPeak>,
    /// What may go that is older, and how many rows at most.
    pub forget: Vec<(WardForget, Timestamp, u16)>,
}

impl WardBatch {
    /// Whether keeping it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.blocks.is_empty()
            && self.events.is_empty()
            && self.visits.is_empty()
            && self.peaks.is_empty()
            && self.forget.is_empty()
    }
}

/// The memory of wards. All calls are idempotent: telling the same again after an unclear end changes
/// nothing.
#[async_trait]
pub trait WardHistory: Send + Sync + 'static {
    /// The records of all wards, by ward and part.
    async fn load_records(&self) -> Result<Vec<WardRecord>, StoreError>;

    /// Keeps one record in place of the one before. `Ok` means that it survives a power cut: what must be
    /// known before something is done goes this way.
    async fn save_record(&self, record: &WardRecord) -> Result<(), StoreError>;

    /// Removes all records of a ward; its history stays.
    async fn remove_records(&self, ward: &str) -> Result<(), StoreError>;

    /// Keeps the whole batch in one transaction, as durable as asked, or nothing of it. Of the same ward
    /// and resolution, a block that begins in the same second replaces the one before.
    async fn flush(&self, batch: Arc<WardBatch>, durability: Durability) -> Result<(), StoreError>;

    /// Blocks of a ward that begin in `from..until`, oldest first, at most `limit`. Whoever wants the
    /// figures since some moment asks from a little earlier: a block begins before its last sample.
    async fn blocks(
        &self,
        ward: &str,
        resolution: WardResolution,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<WardBlock>, StoreError>;

    /// Events of one ward or all, newest first, below the place of the last one seen.
    async fn events(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardEvent>, StoreError>;

    /// Visits of one ward or all, newest first, below the place of the last one seen.
    async fn visits(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardVisit>, StoreError>;

    /// Visits of a ward whose end was not told, oldest first: a start goes on with them.
    async fn open_visits(&self, ward: &str, limit: usize) -> Result<Vec<WardVisit>, StoreError>;

    /// The peaks of a ward, by series.
    async fn peaks(&self, ward: &str) -> Result<Vec<WardPeak>, StoreError>;

    /// Removes at most `limit` rows older than `before`, the oldest first; says how many went. Flushes
    /// that carry the same cost no transaction of their own.
    async fn forget(
        &self,
        what: WardForget,
        before: Timestamp,
        limit: u16,
    ) -> Result<usize, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stand_in_the_order_of_time_and_tell_it() {
        for at in [0, 1, 1_700_000_000_000, -5] {
            let place = WardPlace::new(Timestamp(at), 7);
            assert_eq!(place.at(), Timestamp(at));
            assert!(place > WardPlace::first_at(Timestamp(at)));
            assert!(place < WardPlace::first_at(Timestamp(at + 1)));
        }
        assert_eq!(WardPlace::new(Timestamp(1), 4_096), WardPlace::first_at(Timestamp(1)));
    }
}
