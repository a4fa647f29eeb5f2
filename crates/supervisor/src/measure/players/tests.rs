//! Players as a game really tells of them: late, twice, or not at all.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::measure::PendingSettings;

struct Scene {
    players: Players,
    pending: Pending,
    changes: Vec<Change>,
}

const START: i64 = 1_700_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(START + seconds * 1_000)
}

impl Scene {
    fn new() -> Scene {
        let ward = WardName::parse("pal").unwrap();
        Scene {
            players: Players::new(&ward, PlayersSettings::default(), 0),
            pending: Pending::new(PendingSettings::default(), Instant::now()),
            changes: Vec::new(),
        }
    }

    /// A complete list, asked for at that second and answered at once.
    fn list(&mut self, second: i64, names: &[&str]) -> Vec<String> {
        let listed: Vec<Listed<'_>> = names.iter().map(|name| Listed { name, id: None }).collect();
        self.list_of(second, &listed, u32::try_from(names.len()).unwrap(), true)
    }

    fn list_of(
        &mut self,
        second: i64,
        listed: &[Listed<'_>],
        count: u32,
        is_complete: bool,
    ) -> Vec<String> {
        let (asked, counts) = ((at(second), at(second)), (count, Some(32)));
        let Scene { players, pending, changes } = self;
        players.listed(asked, counts, listed, is_complete, pending, changes);
        self.told()
    }

    fn join(&mut self, second: i64, name: &str) -> Vec<String> {
        self.players.joined(at(second), name, None, &mut self.pending, &mut self.changes);
        self.told()
    }

    fn leave(&mut self, second: i64, name: &str) -> Vec<String> {
        self.players.left(at(second), name, &mut self.changes);
        self.told()
    }

    /// What changed, without peaks: `+a@10` and `-a@20`.
    fn told(&mut self) -> Vec<String> {
        let second = |at: Timestamp| (at.0 - START) / 1_000;
        let told = self.changes.drain(..).filter_map(|change| match change {
            Change::Joined { name, at, .. } => Some(format!("+{name}@{}", second(at))),
            Change::Left { name, at, .. } => Some(format!("-{name}@{}", second(at))),
            Change::Peak { .. } => None,
        });
        told.collect()
    }

    fn kept(&mut self) -> Vec<WardVisit> {
        self.players.drain(&mut self.pending);
        let batch = self.pending.begin(at(0), Instant::now());
        self.pending.finish(true);
        batch.map_or_else(Vec::new, |batch| batch.visits.clone())
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn lists_open_and_close_visits_and_one_missing_name_is_not_a_leaving() {
    let mut scene = Scene::new();
    assert_eq!(scene.list(10, &["a", "b"]), ["+a@10", "+b@10"]);
    assert_eq!(scene.list(20, &["b"]), NOTHING);
    assert_eq!(scene.list(30, &["a", "b"]), NOTHING);
    assert_eq!(scene.list(40, &["b"]), NOTHING);
    // Known to be gone since the first list that lacked the name.
    assert_eq!(scene.list(50, &["b"]), ["-a@40"]);
    let visits = scene.kept();
    let gone = visits.iter().find(|visit| &*visit.name == "a").unwrap();
    assert_eq!((gone.place.at(), gone.seen, gone.left), (at(10), at(30), Some(at(40))));
    assert_eq!(visits.len(), 2);
    assert_eq!(scene.kept(), [], "no news");
}

#[test]
fn polls_without_an_answer_end_no_visit() {
    let mut scene = Scene::new();
    scene.list(10, &["a"]);
    // Nothing for half an hour.
    let stale = scene.players.now(at(1_800));
    assert_eq!((stale.count, stale.freshness, stale.at), (1, Freshness::Stale, Some(at(10))));
    assert_eq!(scene.list(1_810, &["a"]), NOTHING);
    assert_eq!(scene.players.now(at(1_811)).freshness, Freshness::Fresh);
    // It left while nobody answered: the truth lies between the last look and the first without it.
    scene.list(4_000, &[]);
    assert_eq!(scene.list(4_010, &[]), ["-a@4000"]);
    let visit = scene.kept().remove(0);
    assert_eq!((visit.seen, visit.left), (at(1_810), Some(at(4_000))));
}

#[test]
fn a_join_in_the_log_is_not_undone_by_lists_that_are_late() {
    let mut scene = Scene::new();
    assert_eq!(scene.join(10, "a"), ["+a@10"]);
    // Asked for before the join, answered after it.
    let Scene { players, pending, changes } = &mut scene;
    players.listed((at(9), at(11)), (0, None), &[], true, pending, changes);
    assert_eq!(scene.list(12, &[]), NOTHING, "still loading");
    assert_eq!(scene.list(22, &[]), NOTHING);
    assert_eq!(scene.list(32, &["a"]), NOTHING);
    assert_eq!(scene.leave(40, "a"), ["-a@40"]);
    // A cached list is an echo, a later one a return.
    assert_eq!(scene.list(42, &["a"]), NOTHING);
    assert_eq!(scene.list(60, &["a"]), ["+a@60"]);
    let visits = scene.kept();
    assert_eq!(visits.len(), 2);
    assert!(visits.iter().any(|visit| visit.seen == at(40) && visit.left == Some(at(40))));
}

#[test]
fn a_leaving_that_the_log_lost_is_found_by_lists() {
    let mut scene = Scene::new();
    scene.join(10, "a");
    assert_eq!(scene.list(20, &["a"]), NOTHING);
    assert_eq!([scene.list(30, &[]), scene.list(40, &[])], [Vec::<String>::new(), Vec::new()]);
    assert_eq!(scene.list(50, &[]), ["-a@30"]);
    // Back within the time of an echo, by the log: that is no echo.
    assert_eq!(scene.leave(60, "b"), NOTHING);
    assert_eq!(scene.join(61, "b"), ["+b@61"]);
    assert_eq!(scene.list(62, &["b"]), NOTHING);
}

#[test]
fn ids_tell_players_apart_and_names_may_be_the_same() {
    let mut scene = Scene::new();
    let a = |id| Listed { name: "player", id: Some(id) };
    assert_eq!(scene.list_of(10, &[a("1"), a("2")], 2, true), ["+player@10", "+player@10"]);
    assert_eq!(scene.list_of(20, &[a("2"), a("3")], 2, true), ["+player@20"]);
    assert_eq!(scene.list_of(30, &[a("3"), a("2")], 2, true), ["-player@20"]);
    assert_eq!(scene.players.names().count(), 2);
    // Without ids, two of the same name are two visits.
    let mut scene = Scene::new();
    assert_eq!(scene.list(10, &["x", "x"]), ["+x@10", "+x@10"]);
    scene.list(20, &["x"]);
    assert_eq!(scene.list(30, &["x"]), ["-x@20"]);
    // The log knows a name, the list its id: one visit, which learns the id.
    let mut scene = Scene::new();
    scene.join(10, "y");
    assert_eq!(scene.list_of(20, &[Listed { name: "y", id: Some("7") }], 1, true), NOTHING);
    assert_eq!(scene.kept()[0].player.as_deref(), Some("7"));
}

#[test]
fn a_sample_of_names_says_nothing_about_the_others() {
    let mut scene = Scene::new();
    let listed = |name| Listed { name, id: None };
    scene.list_of(10, &[listed("a"), listed("b")], 40, false);
    for second in [20, 30, 40, 50] {
        assert_eq!(scene.list_of(second, &[listed("b"), listed("")], 40, false), NOTHING);
    }
    assert_eq!(scene.players.now(at(51)).count, 40);
    // But nobody is nobody.
    scene.list_of(60, &[], 0, false);
    assert_eq!(scene.list_of(70, &[], 0, false), ["-a@60", "-b@60"]);
}

#[test]
fn counts_say_how_good_they_are_and_peaks_are_told_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.players.now(at(0)).freshness, Freshness::Unknown);
    let mut peaks = Vec::new();
    for (second, count) in [(10, 3), (20, 2), (30, 3), (40, 5)] {
        let Scene { players, pending, changes } = &mut scene;
        players.listed((at(second), at(second)), (count, Some(32)), &[], false, pending, changes);
        peaks.append(changes);
    }
    let peak = |count, second| Change::Peak { count, at: at(second) };
    assert_eq!(peaks, [peak(3, 10), peak(5, 40)]);
    assert_eq!(scene.players.now(at(41)).max, Some(32));
    assert_eq!(scene.players.peak(), 5);
    scene.join(50, "a");
    let now = scene.players.now(at(400));
    assert_eq!((now.count, now.freshness), (1, Freshness::FromLog));
}

#[test]
fn the_end_of_the_game_ends_all_visits() {
    let mut scene = Scene::new();
    scene.join(10, "a");
    scene.list(20, &["a", "b"]);
    scene.players.ended(at(33), &mut scene.changes);
    assert_eq!(scene.told(), ["-a@33", "-b@33"]);
    assert_eq!((scene.players.now(at(34)).count, scene.players.names().count()), (0, 0));
    assert!(scene.kept().iter().all(|visit| visit.left == Some(at(33)) && visit.seen == at(33)));
}

#[test]
fn visits_go_on_across_a_restart() {
    let mut scene = Scene::new();
    scene.list(10, &["a", "b"]);
    let open = scene.kept();
    let mut scene = Scene::new();
    scene.players.restore(open);
    assert_eq!(scene.list(100, &["b"]), NOTHING);
    assert_eq!(scene.list(110, &["b"]), ["-a@100"]);
    let visits = scene.kept();
    assert_eq!((visits.len(), visits[0].place.at()), (1, at(10)));
}

#[test]
fn names_without_end_and_crowds_are_bounded() {
    let mut scene = Scene::new();
    let long = "é".repeat(500);
    scene.join(1, &long);
    assert!(scene.players.names().all(|name| name.len() <= NAME_BYTES_MAX));
    assert_eq!(scene.leave(2, &long).len(), 1);
    for second in 0..5_000 {
        scene.join(second, &second.to_string());
        scene.leave(second, "nobody");
    }
    assert_eq!(scene.players.names().count(), VISITS_MAX);
    assert!(scene.players.left.len() <= LEFT_MAX);
    scene.players.ended(at(9), &mut scene.changes);
    assert_eq!(scene.players.ended.len(), VISITS_MAX);
}

/// A world of a few players who come and go, seen through lists that get lost, are late or cached, and a
/// log that loses lines.
#[derive(Clone, Debug)]
struct Truth {
    /// For each player, moments at which it comes or goes, in turn.
    turns: Vec<Vec<i64>>,
    /// Seconds at which a poll is lost.
    lost: Vec<bool>,
    /// Whether the log tells of this turn, by player and turn.
    logged: Vec<bool>,
    /// How old an answer is, in seconds.
    cached: Vec<i64>,
}

impl Truth {
    fn is_there(&self, player: usize, second: i64) -> bool {
        self.turns[player].iter().filter(|turn| **turn <= second).count() % 2 == 1
    }
}

fn truth() -> impl Strategy<Value = Truth> {
    let gaps = prop::collection::vec(prop::collection::vec(60i64..900, 0..8), 1..5);
    let lost = prop::collection::vec(prop::bool::weighted(0.3), 64);
    let logged = prop::collection::vec(prop::bool::weighted(0.5), 64);
    let cached = prop::collection::vec(0i64..5, 64);
    (gaps, lost, logged, cached).prop_map(|(gaps, lost, logged, cached)| {
        let sum = |gaps: Vec<i64>| {
            let mut at = 0;
            gaps.into_iter()
                .map(move |gap| {
                    at += gap;
                    at
                })
                .collect()
        };
        Truth { turns: gaps.into_iter().map(sum).collect(), lost, logged, cached }
    })
}

proptest! {
    /// With stays and absences of a minute and more: every visit that is told lies within a true stay, up
    /// to the age of answers and the time between two polls, and in the end exactly those are there who are.
    #[test]
    fn visits_are_true_under_lost_polls_late_lists_and_lost_lines(truth in truth()) {
        let mut scene = Scene::new();
        let names = ["a", "b", "c", "d", "e"];
        let end = truth.turns.iter().flatten().max().copied().unwrap_or(0) + 200;
        let mut visits: Vec<WardVisit> = Vec::new();
        for second in 0..end {
            for (player, turns) in truth.turns.iter().enumerate() {
                let Some(turn) = turns.iter().position(|turn| *turn == second) else { continue };
                if !truth.logged[(player * 8 + turn) % 64] {
                    continue;
                }
                if turn % 2 == 0 {
                    scene.join(second, names[player]);
                } else {
                    scene.leave(second, names[player]);
                }
            }
            let poll = usize::try_from(second / 10).unwrap();
            // The last polls all get through, so that the end can be compared.
            let is_lost = truth.lost[poll % 64] && second < end - 60;
            if second % 10 == 0 && !is_lost {
                let seen = second - truth.cached[poll % 64];
                let there: Vec<&str> = (0..truth.turns.len())
                    .filter(|player| truth.is_there(*player, seen))
                    .map(|player| names[player])
                    .collect();
                scene.list(second, &there);
            }
            if second % 60 == 0 || second == end - 1 {
                visits.extend(scene.kept());
            }
        }
        let mut there: Vec<&str> = scene.players.names().collect();
        there.sort_unstable();
        let truly: Vec<&str> = (0..truth.turns.len())
            .filter(|player| truth.is_there(*player, end))
            .map(|player| names[player])
            .collect();
        prop_assert_eq!(there, truly);
        for visit in &visits {
            let player = names.iter().position(|name| **name == *visit.name).unwrap();
            let joined = (visit.place.at().0 - START) / 1_000;
            let was_there = (joined - 5..=joined).any(|second| truth.is_there(player, second));
            prop_assert!(was_there, "{visit:?} joined when nobody did: {truth:?}");
            let seen = (visit.seen.0 - START) / 1_000;
            let was_seen = (seen - 5..=seen).any(|second| truth.is_there(player, second));
            prop_assert!(was_seen, "{visit:?} seen when gone: {truth:?}");
            if let Some(left) = visit.left {
                let left = (left.0 - START) / 1_000;
                let was_gone = (left - 5..=left).any(|second| !truth.is_there(player, second));
                prop_assert!(was_gone, "{visit:?} left while there: {truth:?}");
            }
        }
    }
}
