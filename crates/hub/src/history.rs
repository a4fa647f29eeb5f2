//! Pages of a channel's history, forwards and backwards, as clients and back ends ask for them. Knows
//! neither how the question came nor how the answer goes out.

use naru_domain::ports::{BusError, HistoryPage, HistoryQuery};
use naru_domain::{ChannelName, Epoch, Offset, Position};

use crate::hub::Hub;

/// Which page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageQuery<'a> {
    /// The offset and the epoch to begin at, which is not part of the page; an empty epoch is the
    /// channel's own. `None` begins at the oldest, or at the newest in reverse.
    pub since: Option<(u64, &'a str)>,
    /// How many publications: 0 for the position alone, below 0 for as many as may be.
    pub limit: i64,
    /// How many there may be.
    pub limit_max: usize,
    /// The newest first, going down.
    pub reverse: bool,
}

/// Why there is no such page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The channel began anew since.
    #[error("the position is of another epoch")]
    OtherEpoch,
    /// There is nothing before the first.
    #[error("nothing comes before offset 0")]
    BelowTheFirst,
    /// History cannot be read.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Hub {
    /// Reads a page of history.
    pub async fn history_page(
        &self,
        channel: &ChannelName,
        query: PageQuery<'_>,
    ) -> Result<HistoryPage, PageError> {
        let max = query.limit_max;
        let limit = usize::try_from(query.limit).map_or(max, |limit| limit.min(max));
        let top = self.history(channel, HistoryQuery { since: None, limit: 0 }).await?.top;
        let at = |offset| Position { epoch: top.epoch, offset: Offset(offset) };
        let since = match query.since {
            None => None,
            Some((offset, epoch)) => {
                if !epoch.is_empty() && Epoch::parse(epoch) != Some(top.epoch) {
                    return Err(PageError::OtherEpoch);
                }
                Some(offset)
            }
        };
        if !query.reverse {
            return Ok(self.history(channel, HistoryQuery { since: since.map(at), limit }).await?);
        }
        if since == Some(0) {
            return Err(PageError::BelowTheFirst);
        }
        let below = since.unwrap_or(top.offset.0.saturating_add(1));
        let from = below.saturating_sub(1).saturating_sub(limit as u64);
        let mut page = self.history(channel, HistoryQuery { since: Some(at(from)), limit }).await?;
        page.publications.retain(|each| each.position.offset.0 < below);
        page.publications.reverse();
        Ok(page)
    }
}
