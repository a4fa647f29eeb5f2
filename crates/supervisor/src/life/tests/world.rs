//! A small world to live in: a disk that may fail, a keeper that may die, games that obey, ignore, crash and leave
//! things behind, and a Naru that is killed at any moment. It carries out what the life asks for, and
//! knows the truth that the life has to find out.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// Numbers from a seed (SplitMix64), the same on every machine.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Short and long spans alike.
    pub(super) fn span(&mut self, longest_ms: u64) -> u64 {
        let bits = 64 - longest_ms.leading_zeros();
        let scale = self.below(u64::from(bits) + 1);
        self.below((1_u64 << scale).min(longest_ms).max(1)) + 1
    }
}

/// A process of the game.
#[derive(Clone, Debug)]
pub(super) struct Game {
    pub(super) id: ProcessId,
    pub(super) hung: bool,
    /// In percent, how likely it does what a rung asks.
    pub(super) obeys: u64,
}

/// What comes to pass by itself.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// Naru is told; lost if it is down.
    Tell(Input),
    /// A launch becomes a process, and Naru is told or not.
    Launch { launch: u64, told: bool },
    /// This process ends so.
    Die(ProcessId, Ending),
    /// What is left of a tree ends.
    TreeDies,
    /// A write is done.
    Written,
    /// A hung game misses a probe.
    Probe,
    /// The life asked what became of it.
    Located,
}

pub(super) struct World {
    pub(super) dice: Dice,
    /// The world's own time in milliseconds.
    pub(super) at: u64,
    pub(super) wall_offset: i64,
    pub(super) boot: u32,
    queue: BTreeMap<(u64, u64), Due>,
    count: u64,
    pub(super) game: Option<Game>,
    /// What is left of a tree: the one that may be the game, or something else.
    pub(super) left: Option<Option<ProcessId>>,
    pub(super) launching: bool,
    pub(super) keeper: bool,
    /// How processes ended, as their keeper noted it.
    pub(super) exits: BTreeMap<u32, Exit>,
    /// What their logs say.
    pub(super) logs: BTreeMap<u32, Vec<Evidence>>,
    pub(super) last_launched: Option<ProcessId>,
    pub(super) disk: Record,
    writes: VecDeque<(u64, Box<Record>)>,
    pub(super) disk_fails: bool,
    pub(super) ports_taken: bool,
    /// Everything works at once from now on.
    pub(super) calm: bool,
    next_pid: u32,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            dice: Dice::new(seed),
            at: 5_000,
            wall_offset: 1_700_000_000_000,
            boot: 1,
            queue: BTreeMap::new(),
            count: 0,
            game: None,
            left: None,
            launching: false,
            keeper: false,
            exits: BTreeMap::new(),
            logs: BTreeMap::new(),
            last_launched: None,
            disk: Record::new(Goal::Stopped, By::Naru, Timestamp(0)),
            writes: VecDeque::new(),
            disk_fails: false,
            ports_taken: false,
            calm: false,
            next_pid: 10,
        }
    }

    pub(super) fn wall(&self) -> Timestamp {
        Timestamp(self.wall_offset + i64::try_from(self.at).unwrap())
    }

    pub(super) fn boot_name(&self) -> String {
        format!("boot-{}", self.boot)
    }

    pub(super) fn plan(&mut self, after_ms: u64, due: Due) {
        self.count += 1;
        self.queue.insert((self.at + after_ms, self.count), due);
    }

    fn soon(&mut self, longest_ms: u64) -> u64 {
        if self.calm { 1 } else { self.dice.span(longest_ms) }
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn pop(&mut self) -> Option<Due> {
        self.queue.pop_first().map(|(_, due)| due)
    }

    pub(super) fn tell(&mut self, longest_ms: u64, input: Input) {
        let after = self.soon(longest_ms);
        self.plan(after, Due::Tell(input));
    }

    /// What is carried out of an output. Answers come later, or never.
    pub(super) fn carry_out(&mut self, output: &Output) {
        match output {
            Output::Persist { seq, record } => {
                self.writes.push_back((*seq, record.clone()));
                let after = self.soon(40);
                self.plan(after, Due::Written);
            }
            Output::CheckPorts if self.calm || !self.dice.chance(5) => {
                let taken = self.ports_taken || self.left.is_some() || self.game.is_some();
                let ports = if taken { Ports::Taken("25565".to_owned()) } else { Ports::Free };
                self.tell(200, Input::Ports(ports));
            }
            Output::Launch { launch } => self.launch(*launch),
            Output::Save { .. } if self.calm || self.dice.chance(60) => {
                let failed = self.dice.chance(20);
                let answer = if failed { Input::SaveFailed("no".to_owned()) } else { Input::Saved };
                self.tell(40_000, answer);
            }
            Output::Rung { operation, index, action } => self.rung(*operation, *index, *action),
            Output::KillTree if self.calm || !self.dice.chance(10) => {
                let after = self.soon(50);
                if let Some(game) = &self.game {
                    let id = game.id.clone();
                    self.plan(after, Due::Die(id, Ending::Signal(9)));
                }
                self.plan(after + 1, Due::TreeDies);
            }
            Output::Capture if self.calm || self.dice.chance(80) => {
                self.tell(3000, Input::Captured)
            }
            Output::Locate if self.calm || self.dice.chance(70) => {
                let after = self.soon(300);
                self.plan(after, Due::Located);
            }
            _ => (),
        }
    }

    fn launch(&mut self, launch: u64) {
        let after = self.soon(300);
        let luck = if self.calm { 99 } else { self.dice.below(100) };
        match luck {
            0..4 => {
                self.tell(300, Input::LaunchFailed { launch, error: "no such file".to_owned() })
            }
            // It was never done, and nobody says so.
            4..6 => (),
            _ => {
                self.launching = true;
                self.plan(after, Due::Launch { launch, told: luck >= 10 });
            }
        }
    }

    /// A launch comes to be.
    pub(super) fn start(&mut self, launch: u64, told: bool) {
        self.launching = false;
        self.next_pid += 1;
        let id = ProcessId { pid: self.next_pid, started: self.at, boot: self.boot_name() };
        let obeys = if self.calm {
            100
        } else {
            [0, 50, 100][usize::try_from(self.dice.below(3)).unwrap()]
        };
        self.game = Some(Game { id: id.clone(), hung: false, obeys });
        self.last_launched = Some(id.clone());
        self.keeper = true;
        if told {
            self.plan(1, Due::Tell(Input::Launched { launch, process: id.clone() }));
        }
        if self.dice.chance(10) && !self.calm {
            let after = self.dice.span(20_000);
            let code = i32::try_from(self.dice.below(2)).unwrap();
            self.plan(after, Due::Die(id, Ending::Code(code)));
        } else if self.calm || self.dice.chance(90) {
            let after = 5 + self.soon(20_000);
            self.plan(after, Due::Tell(Input::Ready { how: "a sign".to_owned() }));
            self.plan(after + 1, Due::Tell(Input::ProbeAnswered));
        }
    }

    fn rung(&mut self, operation: OperationId, index: usize, action: Action) {
        let Some(game) = &self.game else { return };
        let (id, obeys) = (game.id.clone(), game.obeys);
        if !self.keeper && action == Action::Console {
            let error = Some("it has no keeper".to_owned());
            self.tell(20, Input::RungDone { operation, index, error });
            return;
        }
        if self.dice.chance(obeys) {
            let after = self.soon(15_000);
            let ending = match self.dice.below(4) {
                0 => Ending::Code(0),
                1 => Ending::Code(143),
                2 => Ending::Signal(15),
                _ => Ending::Code(1),
            };
            self.plan(after, Due::Die(id, ending));
        }
        self.tell(20, Input::RungDone { operation, index, error: None });
    }

    /// The main process ends. What Naru hears of it, if it is there.
    pub(super) fn die(&mut self, id: &ProcessId, ending: Ending) -> Option<Input> {
        if self.game.as_ref().is_none_or(|game| game.id != *id) {
            return None;
        }
        self.game = None;
        let known = if self.keeper { ending } else { Ending::Unknown };
        let exit = Exit { ending: known, at: self.wall() };
        if self.keeper {
            self.exits.insert(id.pid, exit);
        }
        if !self.calm && self.dice.chance(20) {
            self.next_pid += 1;
            let inner = ProcessId { pid: self.next_pid, started: self.at, boot: self.boot_name() };
            self.left = Some(self.dice.chance(50).then_some(inner));
            if self.dice.chance(50) {
                let after = self.dice.span(20_000);
                self.plan(after, Due::TreeDies);
            }
        }
        Some(Input::Exited { process: id.clone(), exit, tree: self.tree() })
    }

    pub(super) fn tree(&self) -> Tree {
        self.left.clone().map_or(Tree::Gone, |inner| Tree::Alive { inner })
    }

    /// The life follows what was left as its game.
    pub(super) fn follow(&mut self, id: &ProcessId) -> bool {
        let follows = self.left.as_ref().is_some_and(|left| left.as_ref() == Some(id));
        if follows {
            self.left = None;
            self.game = Some(Game { id: id.clone(), hung: false, obeys: 100 });
        }
        follows
    }

    /// One write ends. What Naru hears of it.
    pub(super) fn written(&mut self) -> Option<Input> {
        let (seq, record) = self.writes.pop_front()?;
        if self.disk_fails {
            return self.dice.chance(70).then_some(Input::PersistFailed(seq));
        }
        self.disk = *record;
        (self.calm || !self.dice.chance(3)).then_some(Input::Persisted(seq))
    }

    /// Naru is gone; of what it was writing, some arrived.
    pub(super) fn naru_dies(&mut self) {
        let arrived = self.dice.below(self.writes.len() as u64 + 1);
        for _ in 0..arrived {
            if let (Some((_, record)), false) = (self.writes.pop_front(), self.disk_fails) {
                self.disk = *record;
            }
        }
        self.writes.clear();
        let told = |due: &Due| matches!(due, Due::Tell(_) | Due::Written | Due::Located);
        self.queue.retain(|_, due| !told(due));
    }

    /// The machine is started anew.
    pub(super) fn reboot(&mut self) {
        self.boot += 1;
        self.queue.clear();
        if let Some(game) = self.game.take()
            && self.dice.chance(50)
        {
            self.exits.insert(game.id.pid, Exit { ending: Ending::Signal(15), at: self.wall() });
        }
        self.left = None;
        self.launching = false;
        self.keeper = false;
    }

    /// What somebody finds who looks.
    pub(super) fn find(&self, record: &Record) -> Found {
        let known = record.process.as_ref().map(|kept| &kept.id);
        let exit_of = |id: &ProcessId| self.exits.get(&id.pid).copied();
        match &self.game {
            Some(game) if !self.keeper => Found::KeeperGone { alive: Some(game.id.clone()) },
            Some(game) if known == Some(&game.id) => Found::AliveSame,
            Some(game) => Found::AliveOther {
                process: game.id.clone(),
                watched: false,
                earlier: known.and_then(exit_of),
            },
            None => {
                let of =
                    known.or(self.last_launched.as_ref().filter(|_| record.launching.is_some()));
                let exit = of.and_then(exit_of);
                Found::Gone { exit, tree: self.tree() }
            }
        }
    }
}
