//! Answers callers: shows wards, takes orders, hands lines out.

use std::sync::Arc;

use naru_domain::Timestamp;
use tracing::info;

use super::charge::Charge;
use super::handle::{Command, Reply, WardError};
use super::policy;
use super::supervisor::Supervisor;
use super::view::{
    FigureView, LinesQuery, LinesView, OperationView, Ordered, OwnView, WardDetail, WardView,
};
use crate::console::Query;
use crate::life::{Input, OperationId, Order, Wish};
use crate::measure::{Series, Window};
use crate::model::WardName;
use crate::profile::Ward;
use crate::profile::ward::Means;

/// Lines of one answer at most.
const LINES_MAX: usize = 1_000;
/// And as many unless the caller says.
const LINES_DEFAULT: usize = 100;
/// Callers that follow one console at most.
const FOLLOWERS_MAX: usize = 16;

impl Supervisor {
    /// Answers one caller. Only taking wards in charge waits for anything: the store.
    pub(super) async fn answer(&mut self, command: Command) {
        let now = self.ports.clock.now();
        // Whoever asked may have left: replies that nobody takes are dropped.
        match command {
            Command::List(reply) => {
                let rows = self.charges.values().map(|charge| self.row(charge, now)).collect();
                drop(reply.send(Ok(rows)));
            }
            Command::Show(name, reply) => {
                drop(
                    reply.send(self.found(&name).map(|charge| Box::new(self.detail(charge, now)))),
                );
            }
            Command::Order(name, order, reply) => self.order(&name, order, reply),
            Command::Operation(name, operation, reply) => {
                drop(reply.send(self.found(&name).map(|charge| operation_view(charge, operation))));
            }
            Command::Wait(name, operation, reply) => self.wait_for(&name, operation, reply),
            Command::Explain(name, reply) => {
                let moment = self.moment();
                drop(reply.send(self.found(&name).map(|charge| charge.life.explain(moment))));
            }
            Command::Lines(name, query, reply) => {
                self.read_console(&name, false);
                drop(reply.send(self.found(&name).map(|charge| lines(charge, &query))));
            }
            Command::Follow(name, after, reply) => self.follow(&name, after, reply),
            Command::Say(name, line, by, reply) => {
                if let Some(reply) = self.known(&name, reply) {
                    self.command(&name, line, &by, reply);
                }
            }
            Command::Announce(name, text, by, reply) => {
                if let Some(reply) = self.known(&name, reply) {
                    info!(target: "naru::wards", ward = %name, by, "players are told something");
                    let said = self.announcing(&name, &text);
                    self.tasks.spawn(async move {
                        let told = said.await.map(|_| ()).map_err(WardError::Unavailable);
                        drop(reply.send(told));
                    });
                }
            }
            Command::Save(name, by, reply) => {
                if let Some(reply) = self.known(&name, reply) {
                    info!(target: "naru::wards", ward = %name, by, "a save is asked for");
                    self.save_for(&name, reply);
                }
            }
            Command::Backup(name, by, reply) => {
                if let Some(reply) = self.known(&name, reply) {
                    info!(target: "naru::wards", ward = %name, by, "a backup is asked for");
                    self.back_up(&name, reply);
                }
            }
            Command::Backups(name, reply) => {
                if let Some(reply) = self.known(&name, reply) {
                    self.backups(&name, reply);
                }
            }
            Command::Restore(name, backup, by, reply) => {
                if let Some(reply) = self.known(&name, reply) {
                    self.restore(&name, backup, &by, reply);
                }
            }
            Command::Own(reply) => drop(reply.send(Ok(self.own_view()))),
            Command::Reload(wards, reply) => {
                self.reload(wards).await;
                drop(reply.send(Ok(())));
            }
        }
    }

    fn found(&self, name: &WardName) -> Result<&Charge, WardError> {
        self.charges.get(name).ok_or(WardError::NotFound)
    }

    /// The reply, if there is such a ward; otherwise it was used to say so.
    fn known<T>(&self, name: &WardName, reply: Reply<T>) -> Option<Reply<T>> {
        if self.charges.contains_key(name) {
            return Some(reply);
        }
        drop(reply.send(Err(WardError::NotFound)));
        None
    }

    pub(super) fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn order(&mut self, name: &WardName, order: Order, reply: Reply<Ordered>) {
        let Some(reply) = self.known(name, reply) else { return };
        let request = self.next_request();
        let Some(charge) = self.charges.get_mut(name) else { return };
        if charge.restoring && matches!(order.wish, Wish::Start | Wish::Restart) {
            let why = "its files are being brought back from a backup".to_owned();
            drop(reply.send(Err(WardError::Unavailable(why))));
            return;
        }
        charge.requests.insert(request, reply);
        self.feed(name, Input::Order { request, order });
    }

    fn wait_for(
        &mut self,
        name: &WardName,
        operation: OperationId,
        reply: Reply<crate::life::Outcome>,
    ) {
        let Some(reply) = self.known(name, reply) else { return };
        let Some(charge) = self.charges.get_mut(name) else { return };
        match operation_view(charge, operation) {
            OperationView::Done(outcome) => drop(reply.send(Ok(outcome))),
            OperationView::Running => {
                charge.waiting.retain(|(_, waiting)| !waiting.is_closed());
                charge.waiting.push((operation, reply));
            }
            OperationView::Unknown => {
                let why = "nobody remembers this operation".to_owned();
                drop(reply.send(Err(WardError::Invalid(why))));
            }
        }
    }

    fn follow(&mut self, name: &WardName, after: u64, reply: Reply<LinesView>) {
        let Some(reply) = self.known(name, reply) else { return };
        let query = LinesQuery { after: Some(after), ..LinesQuery::default() };
        let Some(charge) = self.charges.get_mut(name) else { return };
        let there = lines(charge, &query);
        if !there.lines.is_empty() {
            drop(reply.send(Ok(there)));
            return;
        }
        charge.followers.retain(|(_, waiting)| !waiting.is_closed());
        if charge.followers.len() >= FOLLOWERS_MAX {
            let why = "too many follow this console already".to_owned();
            drop(reply.send(Err(WardError::Unavailable(why))));
            return;
        }
        charge.followers.push((after, reply));
    }

    /// There are new lines: those who wait for them get them.
    pub(super) fn wake_followers(&mut self, name: &WardName) {
        let Some(charge) = self.charges.get_mut(name) else { return };
        for (after, reply) in std::mem::take(&mut charge.followers) {
            let query = LinesQuery { after: Some(after), ..LinesQuery::default() };
            let there = lines(charge, &query);
            if there.lines.is_empty() {
                charge.followers.push((after, reply));
            } else {
                drop(reply.send(Ok(there)));
            }
        }
    }

    fn row(&self, charge: &Charge, now: Timestamp) -> WardView {
        let status = charge.life.status(self.moment());
        let windows = charge.recorder.windows();
        let figures = Series::ALL.into_iter().map(|series| FigureView {
            series,
            last: windows.last(series).filter(|_| charge.is_up()),
            windows: [Window::Minute, Window::FiveMinutes, Window::Hour]
                .map(|window| windows.summary(series, window, now)),
        });
        WardView {
            name: charge.name().clone(),
            title: charge.ward.title.clone(),
            profile: charge.ward.profile.clone(),
            phase: status.phase,
            desired: status.desired.clone(),
            watched: status.watched,
            process: status.process.cloned(),
            launched: status.launched,
            players: charge.players.now(now),
            figures: figures.collect(),
            alerts: charge.learner.view(now).open,
            is_saving: charge.learner.saves().in_window(now),
        }
    }

    fn detail(&self, charge: &Charge, now: Timestamp) -> WardDetail {
        let status = charge.life.status(self.moment());
        let ports = charge.ward.ports.iter().map(|(name, port)| (name.clone(), port.number));
        WardDetail {
            intent: status.intent.cloned(),
            next_in: status.next_in,
            tries_left: status.tries_left,
            restarts_held: status.restarts_held.map(str::to_owned),
            last: status.last.cloned(),
            dir: charge.ward.dir.clone(),
            ports: ports.collect(),
            names: charge.players.names().map(str::to_owned).collect(),
            players_peak: charge.players.peak(),
            answer: charge.answer.clone(),
            taken: charge.taken,
            learned: charge.learner.view(now),
            saves: charge.learner.saves().marks().copied().collect(),
            ladder: ladder(&charge.ward),
            remarks: charge.remarks.clone(),
            schedules: self.schedules_of(charge.name()),
            row: self.row(charge, now),
        }
    }

    fn own_view(&self) -> OwnView {
        OwnView {
            figures: self.own,
            interval: self.pace.interval(),
            flush_failures: self.pending.failures(),
            dropped: self.pending.dropped(),
        }
    }

    /// New wards begin, those that are gone are let go, changed ones go on with the new settings.
    async fn reload(&mut self, wards: Vec<Ward>) {
        let kept = |name: &WardName| wards.iter().any(|ward| ward.name == *name);
        let gone: Vec<WardName> = self.charges.keys().filter(|name| !kept(name)).cloned().collect();
        for name in gone {
            info!(target: "naru::wards", ward = %name, "a ward is let go; its game is left alone");
            if let Some(mut charge) = self.charges.remove(&name) {
                charge.recorder.seal(&mut self.pending);
                charge.players.drain(&mut self.pending);
                charge.hold.clear();
            }
            self.sampler.remove(&name);
        }
        let records = self.ports.history.load_records().await.unwrap_or_default();
        for ward in wards {
            let name = ward.name.clone();
            if let Some(charge) = self.charges.get_mut(&name) {
                charge.patterns = ward.log.clone();
                charge.life.set_policy(Arc::new(policy::of(&ward)));
                charge.asking = super::ask::Asking::new(&ward);
                charge.tellers.clear();
                charge.ward = Arc::new(ward);
                if charge.is_up() {
                    self.begin_asking(&name);
                }
                continue;
            }
            let body = |part: &str| {
                let of = |record: &&naru_domain::ports::WardRecord| {
                    *record.ward == *name.as_str() && *record.part == *part
                };
                records.iter().find(of).map(|record| Arc::clone(&record.body))
            };
            let (life, learned) = (body(super::begin::LIFE), body(super::begin::LEARNED));
            self.take_charge(ward, life, learned).await;
        }
        self.plan_again();
    }
}

fn operation_view(charge: &Charge, operation: OperationId) -> OperationView {
    if let Some((_, outcome)) = charge.outcomes.iter().find(|(done, _)| *done == operation) {
        return OperationView::Done(*outcome);
    }
    let record = charge.life.record();
    let is_open = record.intent.as_ref().is_some_and(|intent| intent.operation == operation)
        || record.pending == Some(operation);
    if is_open { OperationView::Running } else { OperationView::Unknown }
}

fn lines(charge: &Charge, query: &LinesQuery) -> LinesView {
    let Some(follower) = &charge.follower else { return LinesView::default() };
    let limit = if query.limit == 0 { LINES_DEFAULT } else { query.limit.min(LINES_MAX) };
    if let (Some(after), true) = (query.after, query.contains.is_empty()) {
        let lines = follower.ring().after(after, limit).cloned().collect();
        return LinesView { lines };
    }
    let wanted = match query.contains.as_str() {
        "" => Query::All,
        text => match regex::RegexBuilder::new(&regex::escape(text)).case_insensitive(true).build()
        {
            Ok(pattern) => Query::Pattern(pattern),
            Err(_) => Query::Text(text.to_owned()),
        },
    };
    let mut page = follower.search(&wanted, query.before, limit);
    page.lines.retain(|line| query.after.is_none_or(|after| line.seq > after));
    page.lines.reverse();
    LinesView { lines: page.lines }
}

/// How a ward is stopped, step by step.
fn ladder(ward: &Ward) -> Vec<String> {
    let step = |rung: &crate::profile::ward::Rung| {
        let words = crate::profile::template::Words { seconds: 1, message: "…", player: "" };
        let what = match &rung.act.means {
            Means::Console => format!("say `{}` on its console", rung.act.text.render(&words)),
            Means::Net { via, .. } => {
                format!("send `{}` by {}", rung.act.text.render(&words), via.as_str())
            }
            Means::Plugin => "let its plugin stop it".to_owned(),
            Means::Signal(signal) => format!("send signal {}", signal.number()),
            Means::Kill => "kill all its processes".to_owned(),
        };
        format!("{what}, wait {} s", rung.wait.as_secs())
    };
    ward.stop.iter().map(step).collect()
}
