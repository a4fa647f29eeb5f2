//! Translates what a profile and a ward file say into what a life needs. Pure.

use std::time::Duration;

use crate::life::{
    Action, AnnouncePolicy, ExitPolicy, Follow, HangPolicy, LadderPolicy, LifePolicy, PortsPolicy,
    ReadyPolicy, RestartOn, RestartPolicy, Rung, SavePolicy,
};
use crate::model::Ending;
use crate::profile::Ward;
use crate::profile::spec;
use crate::profile::ward::Means;

/// For games that give no sign: they count as ready after this long.
const ALIVE_FOR: Duration = Duration::from_secs(5);
/// A crash leaves one of these signals, an aborting exit, too: abort, segmentation fault, bus error.
const ABORTS: [i32; 3] = [6, 11, 7];

/// The policy of a ward.
pub(super) fn of(ward: &Ward) -> LifePolicy {
    LifePolicy {
        launchable: ward.launch.is_some(),
        ready: ReadyPolicy {
            deadline: ward.ready.deadline,
            alive_for: (!ward.ready.by_log && !ward.ready.by_answer).then_some(ALIVE_FOR),
            ..ReadyPolicy::default()
        },
        ladder: LadderPolicy { rungs: rungs(ward), ..LadderPolicy::default() },
        save: save(ward),
        announce: AnnouncePolicy {
            countdown: ward.countdown.steps.first().copied().unwrap_or_default(),
            at: ward.countdown.steps.clone(),
            skip_when_empty: true,
        },
        exit: exit(ward),
        restart: restart(&ward.restart),
        hang: hang(ward),
        ports: PortsPolicy { check: !ward.ports.is_empty(), ..PortsPolicy::default() },
        ..LifePolicy::default()
    }
}

/// The kill at the end is the life's own.
fn rungs(ward: &Ward) -> Vec<Rung> {
    let rung = |rung: &crate::profile::ward::Rung| {
        let action = match rung.act.means {
            Means::Console => Action::Console,
            Means::Net { .. } | Means::Plugin => Action::Api,
            Means::Signal(signal) => Action::Signal(signal.number()),
            Means::Kill => Action::Kill,
        };
        Rung { action, wait: rung.wait }
    };
    ward.stop.iter().map(rung).filter(|rung| rung.action != Action::Kill).collect()
}

fn save(ward: &Ward) -> SavePolicy {
    let longest = ward.save.iter().map(|save| save.within).max();
    SavePolicy {
        ask: !ward.save.is_empty(),
        wait: longest.unwrap_or(SavePolicy::default().wait),
        ..SavePolicy::default()
    }
}

fn exit(ward: &Ward) -> ExitPolicy {
    let rules = &ward.exit;
    let mut meaningless = Vec::new();
    if rules.is_meaningless {
        meaningless.extend(ABORTS.map(Ending::Signal));
        meaningless.extend(ABORTS.map(|signal| Ending::Code(128 + signal)));
        meaningless.push(Ending::Code(1));
    }
    ExitPolicy {
        clean_codes: rules.clean_codes.clone(),
        stop_codes: rules.stop_codes.clone(),
        stop_signals: rules.stop_signals.clone(),
        crash_codes: rules.crash_codes.clone(),
        meaningless,
        follow: if ward.process.is_empty() { Follow::Auto } else { Follow::Launcher },
    }
}

fn restart(restart: &spec::Restart) -> RestartPolicy {
    RestartPolicy {
        on: match restart.on {
            spec::RestartOn::Crash => RestartOn::Crash,
            spec::RestartOn::Always => RestartOn::Always,
            spec::RestartOn::Never => RestartOn::Never,
        },
        first: restart.backoff.0,
        longest: restart.backoff_max.0,
        stable_after: restart.stable_after.0,
        tries: restart.tries,
        window: restart.within.0,
        endless: restart.endless,
    }
}

fn hang(ward: &Ward) -> HangPolicy {
    // Nobody misses answers that are never asked for.
    let asks = ward.status.iter().any(|source| source.at.is_some()) || ward.plugin.is_some();
    match ward.hang {
        Some(rules) if asks => {
            HangPolicy { silence: rules.after, misses: rules.misses, ..HangPolicy::default() }
        }
        _ => HangPolicy { enabled: false, ..HangPolicy::default() },
    }
}
