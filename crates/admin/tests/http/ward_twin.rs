//! Twins of the supervisor and of its memory: one ward, `mine`, that does as told.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use naru_admin::WardControl;
use naru_domain::ports::{
    StoreError, WardBatch, WardBlock, WardEvent, WardForget, WardHistory, WardPeak, WardPlace,
    WardRecord, WardResolution, WardVisit,
};
use naru_domain::{Durability, Timestamp};
use naru_supervisor::console::{Line, Source};
use naru_supervisor::learn::{
    Alert, AlertKind, CostPerPlayer, LearnedView, SaveSource, SaveWindow, Warmup,
};
use naru_supervisor::life::{
    About, By, Cause, Confidence, Death, Desired, Expected, Explanation, Goal, LastExit,
    OperationId, Order, Outcome, Phase, Reason, Verdict,
};
use naru_supervisor::measure::{Freshness, Now, OwnFigures, Series, Summary};
use naru_supervisor::model::{Ending, ProcessId, Severity, WardName};
use naru_supervisor::run::{
    AnswerView, BackupView, ExplainView, FigureView, LinesQuery, LinesView, OperationView, Ordered,
    OwnView, WardDetail, WardError, WardView,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::twin::NOW;

/// What the supervisor was told.
pub(crate) struct WardsTwin {
    pub(crate) done: Mutex<Vec<String>>,
    pub(crate) fails: Mutex<Option<WardError>>,
    /// What becomes of the next order.
    pub(crate) ordered: Mutex<Ordered>,
    operations: watch::Sender<HashMap<u64, OperationView>>,
    lines: watch::Sender<Vec<Line>>,
    /// Backups wait for this.
    pub(crate) backups_may_end: watch::Sender<bool>,
}

impl Default for WardsTwin {
    fn default() -> WardsTwin {
        WardsTwin {
            done: Mutex::default(),
            fails: Mutex::default(),
            ordered: Mutex::new(Ordered::Begun(OperationId(7))),
            operations: watch::Sender::default(),
            lines: watch::Sender::default(),
            backups_may_end: watch::Sender::new(true),
        }
    }
}

impl WardsTwin {
    fn enter(&self, ward: &WardName, what: String) -> Result<(), WardError> {
        if ward.as_str() != "mine" {
            return Err(WardError::NotFound);
        }
        if let Some(error) = self.fails.lock().clone() {
            return Err(error);
        }
        if !what.is_empty() {
            self.done.lock().push(what);
        }
        Ok(())
    }

    pub(crate) fn set_operation(&self, operation: u64, stands: OperationView) {
        self.operations.send_modify(|operations| {
            operations.insert(operation, stands);
        });
    }

    /// The game prints something.
    pub(crate) fn print(&self, text: &str) {
        self.lines.send_modify(|lines| {
            let seq = u64::try_from(lines.len()).expect("few lines") + 1;
            lines.push(Line { seq, at: NOW, source: Source::Game, text: text.into() });
        });
    }

    /// Waits until somebody waits for lines.
    pub(crate) async fn followed(&self) {
        while self.lines.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until somebody waits for an operation.
    pub(crate) async fn waited_for(&self) {
        while self.operations.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn process() -> ProcessId {
    ProcessId { pid: 4_242, started: 1, boot: "boot".to_owned() }
}

fn reason(about: About, text: &str) -> Reason {
    Reason { about, text: text.to_owned() }
}

fn verdict() -> Verdict {
    Verdict {
        cause: Cause::Crashed,
        restart: true,
        reasons: vec![
            reason(About::Evidence, "the log says: <Kim> crash"),
            reason(About::Ending, "it ended with signal 11"),
        ],
        confidence: Confidence::Likely,
    }
}

fn row() -> WardView {
    let summary = Summary { count: 60, mean: 250.0, p95: 500, max: 900 };
    let empty = Summary::default();
    WardView {
        name: WardName::parse("mine").expect("a name"),
        title: "Minecraft".to_owned(),
        profile: "minecraft-java".to_owned(),
        phase: Phase::Running,
        desired: Desired {
            goal: Goal::Running,
            by: By::Operator("token:laptop".to_owned()),
            at: NOW,
            why: "weekend".to_owned(),
        },
        watched: false,
        process: Some(process()),
        launched: Some(NOW.minus(Duration::from_secs(90))),
        players: Now { count: 2, max: Some(20), freshness: Freshness::Fresh, at: Some(NOW) },
        figures: vec![
            FigureView {
                series: Series::Cpu,
                last: Some((NOW, 300)),
                windows: [summary, empty, empty],
            },
            FigureView { series: Series::Memory, last: Some((NOW, 64)), windows: [empty; 3] },
        ],
        alerts: vec![Alert {
            kind: AlertKind::MemoryLeak,
            series: naru_supervisor::learn::Series::Memory,
            severity: Severity::Warning,
            since: NOW,
            how_unusual: 4.5,
            expected: 0.0,
            observed: 1e6,
            forecast: None,
            text: "memory grows".to_owned(),
        }],
        is_saving: false,
    }
}

fn detail() -> WardDetail {
    let learned = LearnedView {
        warmup: Warmup {
            hours_known: 3.0,
            hours_needed: 24.0,
            missing: "21 hours are missing".to_owned(),
        },
        baselines: Vec::new(),
        cpu_per_player: CostPerPlayer::NotEnoughData,
        memory_per_player: CostPerPlayer::Known {
            base: 1e9,
            base_error: 1e8,
            per_player: 5e7,
            per_player_error: 1e7,
        },
        memory_trend: None,
        saves: None,
        open: Vec::new(),
    };
    let save = |minutes_ago: u64| {
        let from = NOW.minus(Duration::from_secs(minutes_ago * 60));
        SaveWindow { from, until: from.plus(Duration::from_secs(2)), source: SaveSource::Told }
    };
    WardDetail {
        row: row(),
        intent: None,
        next_in: None,
        tries_left: Some(3),
        restarts_held: None,
        last: Some(LastExit {
            process: Some(process()),
            ending: Ending::Signal(11),
            at: NOW,
            verdict: verdict(),
        }),
        dir: PathBuf::from("/srv/kim/mine"),
        ports: BTreeMap::from([("game".to_owned(), 25_565)]),
        names: vec!["Kim".to_owned(), "이순신".to_owned()],
        players_peak: 9,
        answer: AnswerView { at: Some(NOW), source: Some("status"), ..AnswerView::default() },
        taken: Some(Duration::from_micros(40)),
        learned,
        saves: vec![save(50), save(5)],
        ladder: vec!["stop on its console, 30 s".to_owned()],
        remarks: Vec::new(),
        schedules: Vec::new(),
    }
}

#[async_trait]
impl WardControl for WardsTwin {
    async fn list(&self) -> Result<Vec<WardView>, WardError> {
        Ok(vec![row()])
    }

    async fn show(&self, ward: WardName) -> Result<Box<WardDetail>, WardError> {
        self.enter(&ward, String::new())?;
        Ok(Box::new(detail()))
    }

    async fn order(&self, ward: WardName, order: Order) -> Result<Ordered, WardError> {
        let Order { wish, by, reason, countdown } = order;
        self.enter(&ward, format!("{wish:?} {by:?} {reason} {countdown:?}"))?;
        Ok(*self.ordered.lock())
    }

    async fn operation(
        &self,
        ward: WardName,
        operation: OperationId,
    ) -> Result<OperationView, WardError> {
        if ward.as_str() != "mine" {
            return Err(WardError::NotFound);
        }
        let operations = self.operations.borrow();
        Ok(operations.get(&operation.0).copied().unwrap_or(OperationView::Unknown))
    }

    async fn wait(&self, ward: WardName, operation: OperationId) -> Result<Outcome, WardError> {
        self.enter(&ward, String::new())?;
        let mut operations = self.operations.subscribe();
        let is_over = |all: &HashMap<u64, OperationView>| {
            matches!(all.get(&operation.0), Some(OperationView::Done(_)))
        };
        let all = operations.wait_for(is_over).await.map_err(|_| WardError::Ended)?;
        match all.get(&operation.0) {
            Some(OperationView::Done(outcome)) => Ok(*outcome),
            _ => Err(WardError::Ended),
        }
    }

    async fn explain(&self, ward: WardName) -> Result<ExplainView, WardError> {
        self.enter(&ward, String::new())?;
        let expected = Expected {
            death: Death::Segfault,
            verdict: verdict(),
            restart: true,
            pause_max: Some(Duration::from_secs(2)),
            tries_left: Some(2),
            then: "it is started again within 2 s".to_owned(),
        };
        let now = "it runs".to_owned();
        Ok(Explanation { phase: Phase::Running, now, deaths: vec![expected] })
    }

    async fn lines(&self, ward: WardName, query: LinesQuery) -> Result<LinesView, WardError> {
        self.enter(&ward, format!("lines {query:?}"))?;
        let lines = self.lines.borrow();
        let fits = |line: &&Line| {
            query.after.is_none_or(|after| line.seq > after)
                && query.before.is_none_or(|before| line.seq < before)
                && line.text.contains(&query.contains)
        };
        let found: Vec<Line> = lines.iter().filter(fits).cloned().collect();
        let skip = found.len().saturating_sub(query.limit);
        Ok(LinesView { lines: found[skip..].to_vec() })
    }

    async fn follow(&self, ward: WardName, after: u64) -> Result<LinesView, WardError> {
        self.enter(&ward, String::new())?;
        let mut lines = self.lines.subscribe();
        let news = |lines: &Vec<Line>| lines.iter().any(|line| line.seq > after);
        let all = lines.wait_for(news).await.map_err(|_| WardError::Ended)?;
        let lines = all.iter().filter(|line| line.seq > after).cloned().collect();
        Ok(LinesView { lines })
    }

    async fn command(&self, ward: WardName, line: String, by: String) -> Result<String, WardError> {
        self.enter(&ward, format!("command {line} by {by}"))?;
        Ok("There are 2 players".to_owned())
    }

    async fn announce(&self, ward: WardName, text: String, by: String) -> Result<(), WardError> {
        self.enter(&ward, format!("announce {text} by {by}"))
    }

    async fn save(&self, ward: WardName, by: String) -> Result<(), WardError> {
        self.enter(&ward, format!("save by {by}"))
    }

    async fn backup(&self, ward: WardName, by: String) -> Result<BackupView, WardError> {
        self.enter(&ward, format!("backup by {by}"))?;
        let mut may_end = self.backups_may_end.subscribe();
        may_end.wait_for(|may_end| *may_end).await.map_err(|_| WardError::Ended)?;
        Ok(backup_view())
    }

    async fn backups(&self, ward: WardName) -> Result<Vec<BackupView>, WardError> {
        self.enter(&ward, String::new())?;
        Ok(vec![backup_view()])
    }

    async fn restore(&self, ward: WardName, backup: String, by: String) -> Result<(), WardError> {
        self.enter(&ward, format!("restore {backup} by {by}"))
    }

    async fn own(&self) -> Result<OwnView, WardError> {
        let figures = OwnFigures {
            cpu_seconds_per_hour: 0.75,
            transactions_per_hour: 60.0,
            ..OwnFigures::default()
        };
        let interval = Duration::from_secs(3);
        Ok(OwnView { figures, interval, flush_failures: 1, dropped: [1, 2, 3] })
    }
}

fn backup_view() -> BackupView {
    let name = "mine-20260101-040000".to_owned();
    BackupView { name, at: NOW, bytes: 1_024, verified: true }
}

/// What is remembered: only what the API asks for.
#[derive(Default)]
pub(crate) struct HistoryTwin {
    pub(crate) kept: Mutex<WardBatch>,
}

/// The newest of one ward or all, below a place.
fn newest<T: Clone>(
    rows: &[T],
    key: impl Fn(&T) -> (WardPlace, Arc<str>),
    (ward, before): (Option<&str>, Option<WardPlace>),
    limit: usize,
) -> Vec<T> {
    let mut rows: Vec<(WardPlace, T)> = rows
        .iter()
        .map(|row| (key(row), row.clone()))
        .filter(|((_, own), _)| ward.is_none_or(|ward| ward == &**own))
        .filter(|((place, _), _)| before.is_none_or(|before| *place < before))
        .map(|((place, _), row)| (place, row))
        .collect();
    rows.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    rows.into_iter().map(|(_, row)| row).take(limit).collect()
}

#[async_trait]
impl WardHistory for HistoryTwin {
    async fn load_records(&self) -> Result<Vec<WardRecord>, StoreError> {
        Ok(self.kept.lock().records.clone())
    }

    async fn save_record(&self, record: &WardRecord) -> Result<(), StoreError> {
        self.kept.lock().records.push(record.clone());
        Ok(())
    }

    async fn remove_records(&self, ward: &str) -> Result<(), StoreError> {
        self.kept.lock().records.retain(|record| &*record.ward != ward);
        Ok(())
    }

    async fn flush(
        &self,
        batch: Arc<WardBatch>,
        _durability: Durability,
    ) -> Result<(), StoreError> {
        *self.kept.lock() = (*batch).clone();
        Ok(())
    }

    async fn blocks(
        &self,
        ward: &str,
        resolution: WardResolution,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<WardBlock>, StoreError> {
        let kept = self.kept.lock();
        let fits = |block: &&WardBlock| {
            &*block.ward == ward
                && block.resolution == resolution
                && (from..until).contains(&block.start)
        };
        let mut found: Vec<WardBlock> = kept.blocks.iter().filter(fits).cloned().collect();
        found.sort_by_key(|block| block.start);
        found.truncate(limit);
        Ok(found)
    }

    async fn events(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardEvent>, StoreError> {
        let key = |event: &WardEvent| (event.place, event.ward.clone());
        Ok(newest(&self.kept.lock().events, key, (ward, before), limit))
    }

    async fn visits(
        &self,
        ward: Option<&str>,
        before: Option<WardPlace>,
        limit: usize,
    ) -> Result<Vec<WardVisit>, StoreError> {
        let key = |visit: &WardVisit| (visit.place, visit.ward.clone());
        Ok(newest(&self.kept.lock().visits, key, (ward, before), limit))
    }

    async fn open_visits(&self, _ward: &str, _limit: usize) -> Result<Vec<WardVisit>, StoreError> {
        Ok(Vec::new())
    }

    async fn peaks(&self, ward: &str) -> Result<Vec<WardPeak>, StoreError> {
        let kept = self.kept.lock();
        Ok(kept.peaks.iter().filter(|peak| &*peak.ward == ward).cloned().collect())
    }

    async fn forget(
        &self,
        _what: WardForget,
        _before: Timestamp,
        _limit: u16,
    ) -> Result<usize, StoreError> {
        Ok(0)
    }
}
