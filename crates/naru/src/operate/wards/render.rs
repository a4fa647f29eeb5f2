//! Wards for people: rows, pages, charts. Pure functions from what the server said to text.

use serde_json::{Value, json};

use super::super::node::uptime;
use super::super::show::{Column, columns_of, layout, plain};

/// The list of wards.
pub(super) const COLUMNS: [Column; 9] = [
    ("WARD", |row| plain(&row["name"])),
    ("GAME", |row| plain(&row["title"])),
    ("PHASE", phase),
    ("PLAYERS", players),
    ("CPU", |row| amount("cpu_cores", &row["cpu_cores"])),
    ("MEMORY", |row| amount("memory_bytes", &row["memory_bytes"])),
    ("TICK", tick),
    ("ALERTS", alerts),
    ("UP", |row| lasting(&row["uptime_s"])),
];

/// A value of a series with its unit.
pub(super) fn amount(series: &str, value: &Value) -> String {
    let Some(value) = value.as_f64() else { return "-".to_owned() };
    match series {
        "cpu_cores" => format!("{:.0} %", value * 100.0),
        "memory_bytes" => bytes(value),
        "threads" => format!("{value:.0}"),
        // Means of players are worth a digit; counts have none.
        "players" if value.fract() == 0.0 => format!("{value:.0}"),
        "players" | "ticks_per_second" => format!("{value:.1}"),
        "tick_ms" => format!("{value:.1} ms"),
        name if name.ends_with("bytes_per_second") => format!("{}/s", bytes(value)),
        name if name.ends_with("_seconds") => format!("{:.1} ms", value * 1_000.0),
        _ => format!("{value:.2}"),
    }
}

fn bytes(value: f64) -> String {
    const UNITS: [(&str, f64); 3] =
        [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1_024.0)];
    match UNITS.iter().find(|(_, factor)| value.abs() >= *factor) {
        Some((unit, factor)) => format!("{:.1} {unit}", value / factor),
        None => format!("{value:.0} B"),
    }
}

/// A number of seconds for people.
pub(super) fn lasting(seconds: &Value) -> String {
    seconds.as_u64().map_or_else(|| "-".to_owned(), uptime)
}

fn phase(row: &Value) -> String {
    let mut text = plain(&row["phase"]).replace('_', " ");
    if row["saving"] == true {
        text.push_str(", saving");
    }
    if row["watched"] == true {
        text.push_str(", watched");
    }
    text
}

/// How many play, and how good that knowledge is: `?` follows what may be old.
fn players(row: &Value) -> String {
    let players = &row["players"];
    let count = match (&players["count"], &players["max"]) {
        (count, Value::Null) => count.to_string(),
        (count, max) => format!("{count}/{max}"),
    };
    match players["freshness"].as_str() {
        Some("fresh") => count,
        Some("from_log") => format!("{count} (log)"),
        Some("stale") => format!("{count} ?"),
        _ => "-".to_owned(),
    }
}

fn tick(row: &Value) -> String {
    let (rate, time) = (&row["ticks_per_second"], &row["tick_seconds"]);
    match (rate.is_null(), time.is_null()) {
        (true, true) => "-".to_owned(),
        (false, true) => format!("{}/s", amount("ticks_per_second", rate)),
        (true, false) => amount("tick_seconds", time),
        (false, false) => {
            format!("{}/s, {}", amount("ticks_per_second", rate), amount("tick_seconds", time))
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn alerts(row: &Value) -> String {
    let all = items(&row["alerts"]);
    let counts = ["critical", "warning", "info"].into_iter().filter_map(|severity| {
        let count = all.iter().filter(|alert| alert["severity"] == severity).count();
        (count > 0).then(|| format!("{count} {severity}"))
    });
    counts.collect::<Vec<_>>().join(", ")
}

/// What a ward is doing, in a few words.
pub(super) fn doing(ward: &Value) -> String {
    let mut text = phase(ward);
    let intent = &ward["intent"];
    let step = match intent["step"].as_str() {
        Some("countdown") => "players are told",
        Some("saving") => "it saves",
        Some("killing") => "it is killed",
        Some("held") => "held for a backup",
        _ => "",
    };
    if let Some(rung) = intent["rung"].as_u64() {
        let rungs = items(&ward["ladder"]);
        let said = rung.checked_sub(1).and_then(|at| rungs.get(usize::try_from(at).ok()?));
        text.push_str(&format!(", step {rung}: {}", said.map(plain).unwrap_or_default()));
    } else if !step.is_empty() {
        text.push_str(&format!(", {step}"));
    }
    text
}

/// Lines of a label and a text; further lines of a text stand under its first.
fn fields(fields: &[(&str, String)]) -> String {
    let shown = fields.iter().filter(|(_, text)| !text.is_empty());
    let width = shown.clone().map(|(label, _)| columns_of(label)).max().unwrap_or(0);
    let mut out = String::new();
    for (label, text) in shown {
        for (index, line) in text.lines().enumerate() {
            let label = if index == 0 { label } else { "" };
            let pad = " ".repeat(width - columns_of(label));
            out.push_str(&format!("{label}{pad}  {line}\n"));
        }
    }
    out
}

fn joined(list: &Value, separator: &str) -> String {
    items(list).iter().map(plain).collect::<Vec<_>>().join(separator)
}

/// The text after `before`, if there is one.
fn with(before: &str, text: &Value) -> String {
    match text.as_str() {
        Some(text) if !text.is_empty() => format!("{before}{text}"),
        _ => String::new(),
    }
}

fn desired(ward: &Value) -> String {
    let desired = &ward["desired"];
    format!(
        "{} by {} since {}{}",
        plain(&desired["goal"]),
        plain(&desired["by"]),
        plain(&desired["at"]),
        with(": ", &desired["why"]),
    )
}

fn verdict(verdict: &Value) -> String {
    let mut text = format!("{} ({})", plain(&verdict["cause_text"]), plain(&verdict["confidence"]));
    for reason in items(&verdict["reasons"]) {
        text.push_str(&format!("\n  {}", plain(&reason["text"])));
    }
    text
}

fn last_exit(exit: &Value) -> String {
    if exit.is_null() {
        return String::new();
    }
    format!("{}, {}: {}", plain(&exit["at"]), plain(&exit["ending"]), verdict(&exit["verdict"]))
}

fn answer(answer: &Value) -> String {
    let mut text = match answer["source"].as_str() {
        Some(source) => format!("{} by {source}", plain(&answer["at"])),
        None => "never".to_owned(),
    };
    text.push_str(&with(", version ", &answer["version"]));
    text.push_str(&with(", map ", &answer["map"]));
    if let Some(misses) = answer["misses"].as_u64().filter(|misses| *misses > 0) {
        text.push_str(&format!("; {misses} missing{}", with(": ", &answer["error"])));
    }
    text
}

fn restarts(ward: &Value) -> String {
    let left = match ward["tries_left"].as_u64() {
        Some(left) => format!("{left} left"),
        None => "without bound".to_owned(),
    };
    left + &with("; held: ", &ward["restarts_held"])
}

fn ports(ports: &Value) -> String {
    let ports = ports.as_object().into_iter().flatten();
    ports.map(|(what, port)| format!("{what} {port}")).collect::<Vec<_>>().join(", ")
}

/// What a player costs, in the unit of the series.
fn cost_of_a_player(series: &str, cost: &Value) -> String {
    match cost["state"].as_str() {
        Some("known") => format!(
            "{} each (±{}), {} without players",
            amount(series, &cost["per_player"]),
            amount(series, &cost["per_player_error"]),
            amount(series, &cost["base"]),
        ),
        Some("not_enough_variation") => {
            "not known: the number of players hardly changes".to_owned()
        }
        _ => "not known yet".to_owned(),
    }
}

/// Who plays, in a line or two.
pub(super) fn playing(ward: &Value) -> String {
    let names = joined(&ward["player_names"], ", ");
    let names = if names.is_empty() { String::new() } else { format!(": {names}") };
    format!("{} now, {} at most{names}", players(ward), plain(&ward["players_peak"]))
}

/// All of a ward.
pub(super) fn ward(ward: &Value) -> String {
    let learned = &ward["learned"];
    let process = match ward["pid"].as_u64() {
        Some(pid) => format!("{pid}, up {}", lasting(&ward["uptime_s"])),
        None => String::new(),
    };
    let taken = ward["taken_us_per_second"].as_u64();
    let missing = plain(&learned["missing"]);
    let schedules = items(&ward["schedules"]).iter().map(|schedule| {
        let next = plain(&schedule["next_at"]);
        format!("{} ({}), next {next}", plain(&schedule["name"]), plain(&schedule["action"]))
    });
    let alerts = items(&ward["alerts"]).iter().map(|alert| {
        let since = plain(&alert["since"]);
        format!("{} since {since}: {}", plain(&alert["severity"]), plain(&alert["text"]))
    });
    let mut text =
        format!("{}: {}, {}\n\n", plain(&ward["name"]), plain(&ward["title"]), doing(ward));
    text.push_str(&fields(&[
        ("should be", desired(ward)),
        ("alerts", alerts.collect::<Vec<_>>().join("\n")),
        ("remarks", joined(&ward["remarks"], "\n")),
        ("players", playing(ward)),
        ("process", process),
        ("folder", with("", &ward["dir"])),
        ("ports", ports(&ward["ports"])),
        ("answered", answer(&ward["answer"])),
        ("restarts", restarts(ward)),
        ("last end", last_exit(&ward["last_exit"])),
        ("stopped by", joined(&ward["ladder"], "\n")),
        ("schedules", schedules.collect::<Vec<_>>().join("\n")),
        ("learned", if missing == "-" { String::new() } else { missing }),
        ("a player", cost_of_a_player("cpu_cores", &learned["cpu_cores_per_player"])),
        ("", cost_of_a_player("memory_bytes", &learned["memory_bytes_per_player"])),
        ("taken", taken.map_or(String::new(), |taken| format!("at most {taken} us a second"))),
    ]));
    let figures = items(&ward["figures"]);
    if !figures.is_empty() {
        text.push('\n');
        text.push_str(&layout(figures, &FIGURE_COLUMNS));
    }
    text.truncate(text.trim_end().len());
    text
}

const FIGURE_COLUMNS: [Column; 5] = [
    ("FIGURE", |row| plain(&row["series"])),
    ("NOW", |row| amount(&plain(&row["series"]), &row["last"])),
    ("1 MIN: MEAN, P95, PEAK", |row| window(row, "minute")),
    ("5 MIN", |row| window(row, "five_minutes")),
    ("1 H", |row| window(row, "hour")),
];

fn window(row: &Value, name: &str) -> String {
    let (series, window) = (plain(&row["series"]), &row[name]);
    if window.is_null() {
        return "-".to_owned();
    }
    let part = |part: &str| amount(&series, &window[part]);
    format!("{}, {}, {}", part("mean"), part("p95"), part("max"))
}

/// What would happen if it died now.
pub(super) fn explained(name: &str, found: &Value) -> String {
    let mut text = format!("{name}: {}.\n", plain(&found["now"]));
    let deaths = items(&found["deaths"]);
    if deaths.is_empty() {
        text.push_str("Nothing runs that could die.");
    }
    for death in deaths {
        let verdict = &death["verdict"];
        text.push_str(&format!(
            "\nIf {}: {}.\n  It would be called \"{}\" ({}).\n",
            plain(&death["death"]),
            plain(&death["then"]),
            plain(&verdict["cause_text"]),
            plain(&verdict["confidence"]),
        ));
        for reason in items(&verdict["reasons"]) {
            text.push_str(&format!("  - {}\n", plain(&reason["text"])));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// What looking after wards costs.
pub(super) fn cost(own: &Value) -> String {
    let number = |name: &str, unit: &str| match own[name].as_f64() {
        Some(number) => format!("{number:.2} {unit}"),
        None => "not told apart from the server's".to_owned(),
    };
    let size = |name: &str, rest: &str| match own[name].as_f64() {
        Some(number) => format!("{}{rest}", bytes(number)),
        None => "not told apart from the server's".to_owned(),
    };
    let throttle = match own["throttle"].as_str() {
        Some("longer") => "; samples are taken less often for it",
        Some("fewer") => "; samples are taken less often, and less is looked at",
        _ => "",
    };
    let used = own["budget_used"].as_f64().unwrap_or(0.0) * 100.0;
    let lost = format!(
        "{} blocks, {} events, {} visits ({} writes failed)",
        own["dropped_blocks"], own["dropped_events"], own["dropped_visits"], own["flush_failures"],
    );
    let text = fields(&[
        ("processor", number("cpu_seconds_per_hour", "s an hour")),
        ("memory", size("memory_bytes", "")),
        ("written", size("written_bytes_per_hour", " an hour")),
        ("transactions", number("transactions_per_hour", "an hour")),
        ("wake-ups", number("wakeups_per_second", "a second")),
        ("of the budget", format!("{used:.0} %{throttle}")),
        ("samples every", number("interval_s", "s")),
        ("lost", lost),
    ]);
    text.trim_end().to_owned()
}

/// Eighths of a line's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Figures over time: a line of bars for each series, and saves below.
pub(super) fn chart(found: &Value, columns: usize) -> String {
    let step = found["step_s"].as_u64().unwrap_or(1).max(1);
    let curves = items(&found["series"]);
    if curves.iter().all(|curve| items(&curve["points"]).is_empty()) {
        return "(nothing was measured in this time)".to_owned();
    }
    let named = |curve: &Value| columns_of(&plain(&curve["series"]));
    let width = curves.iter().map(named).max().unwrap_or(0).max("saves".len());
    let mut text = format!(
        "{} to {}, each bar {} ({})\n",
        plain(&found["from"]),
        plain(&found["until"]),
        uptime(step),
        plain(&found["resolution"]),
    );
    let mut longest = 0;
    for curve in curves {
        let (series, points) = (plain(&curve["series"]), items(&curve["points"]));
        let (bars, low, high) = bars(points, step, columns);
        longest = longest.max(bars.chars().count());
        let pad = " ".repeat(width - columns_of(&series));
        text.push_str(&format!(
            "{series}{pad}  {bars}  {} to {}, peak {}\n",
            amount(&series, &json!(low)),
            amount(&series, &json!(high)),
            amount(&series, &highest(points)),
        ));
    }
    let marks = marks(&found["saves"], step, longest);
    if marks.contains('s') {
        text.push_str(&format!("{:width$}  {marks}", "saves"));
    }
    text.truncate(text.trim_end().len());
    text
}

fn highest(points: &[Value]) -> Value {
    let highest = points.iter().filter_map(|point| point["max"].as_f64()).reduce(f64::max);
    highest.map_or(Value::Null, Value::from)
}

/// Where on a chart something stands that is so many seconds from its beginning.
fn place(offset_s: u64, step: u64) -> usize {
    usize::try_from(offset_s / step).unwrap_or(usize::MAX)
}

/// A bar for each step, from the lowest mean to the highest; a blank where nothing was measured.
fn bars(points: &[Value], step: u64, columns: usize) -> (String, f64, f64) {
    let means = || points.iter().filter_map(|point| point["mean"].as_f64());
    let low = means().fold(f64::INFINITY, f64::min).min(f64::MAX);
    let high = means().fold(f64::NEG_INFINITY, f64::max).max(f64::MIN);
    let mut line: Vec<char> = Vec::new();
    for point in points {
        let Some((offset, mean)) = point["offset_s"].as_u64().zip(point["mean"].as_f64()) else {
            continue;
        };
        let place = place(offset, step);
        if place >= columns {
            continue;
        }
        if line.len() <= place {
            line.resize(place + 1, ' ');
        }
        let share = if high > low { (mean - low) / (high - low) } else { 0.0 };
        let steps = BARS.iter().zip(1u8..);
        let bar = steps.take_while(|(_, at)| f64::from(*at) <= share * 8.0).last();
        line[place] = bar.map_or(BARS[0], |(bar, _)| *bar);
    }
    (line.into_iter().collect(), low, high)
}

/// An `s` under each step in which something was saved.
fn marks(saves: &Value, step: u64, columns: usize) -> String {
    let mut line = vec![' '; columns];
    for save in items(saves) {
        let begin = save["offset_s"].as_i64().unwrap_or(0);
        let length = save["length_s"].as_i64().unwrap_or(0);
        let end = u64::try_from(begin.saturating_add(length)).unwrap_or(0);
        let begin = u64::try_from(begin).unwrap_or(0);
        let steps = place(begin, step)..=place(end, step);
        line.iter_mut()
            .enumerate()
            .filter(|(at, _)| steps.contains(at))
            .for_each(|(_, c)| *c = 's');
    }
    line.into_iter().collect::<String>().trim_end().to_owned()
}

/// Figures over time as rows of a table.
pub(super) fn rows(found: &Value) -> Vec<Value> {
    let curves = items(&found["series"]).iter().flat_map(|curve| {
        let series = plain(&curve["series"]);
        let row = move |point: &Value| {
            let part = |part: &str| amount(&series, &point[part]);
            json!({
                "at": point["at"], "series": series,
                "mean": part("mean"), "p95": part("p95"), "max": part("max"),
            })
        };
        items(&curve["points"]).iter().map(row)
    });
    curves.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Value {
        json!({
            "name": "mine", "title": "Minecraft", "phase": "running", "saving": true,
            "watched": false, "pid": 4_242, "uptime_s": 5_400,
            "desired": { "goal": "running", "by": "operator:account:kim",
                "at": "2026-11-21T13:31:38.123Z", "why": "weekend" },
            "players": { "count": 2, "max": 20, "freshness": "fresh" },
            "cpu_cores": 0.312, "memory_bytes": 3_221_225_472u64,
            "ticks_per_second": 20.0, "tick_seconds": 0.0123,
            "alerts": [
                { "severity": "warning", "since": "2026-11-21T13:00:00.000Z", "text": "memory grows" },
                { "severity": "critical", "since": "2026-11-21T13:00:00.000Z", "text": "full soon" },
            ],
        })
    }

    #[test]
    fn a_ward_takes_one_row_with_its_units() {
        let down = json!({
            "name": "ark", "title": "ARK", "phase": "gave_up",
            "players": { "count": 0, "max": null, "freshness": "unknown" }, "alerts": [],
        });
        let expected = "\
WARD  GAME       PHASE            PLAYERS  CPU   MEMORY   TICK             ALERTS                 UP
mine  Minecraft  running, saving  2/20     31 %  3.0 GiB  20.0/s, 12.3 ms  1 critical, 1 warning  1 h 30 min
ark   ARK        gave up          -        -     -        -                -                      -
";
        assert_eq!(layout(&[row(), down], &COLUMNS), expected);
    }

    #[test]
    fn a_count_of_players_says_how_good_it_is() {
        let check = |freshness: &str, text: &str| {
            let players_of = json!({ "players": { "count": 2, "max": 8, "freshness": freshness } });
            assert_eq!(players(&players_of), text);
        };
        check("fresh", "2/8");
        check("from_log", "2/8 (log)");
        check("stale", "2/8 ?");
        check("unknown", "-");
    }

    #[test]
    fn amounts_have_the_unit_that_people_use() {
        for (series, value, text) in [
            ("cpu_cores", 1.25, "125 %"),
            ("memory_bytes", 512.0, "512 B"),
            ("memory_bytes", 1_572_864.0, "1.5 MiB"),
            ("written_bytes_per_second", 2_048.0, "2.0 KiB/s"),
            ("players", 3.0, "3"),
            ("players", 2.5, "2.5"),
            ("tick_seconds", 0.05, "50.0 ms"),
            ("ping_seconds", 0.0004, "0.4 ms"),
            ("threads", 31.4, "31"),
        ] {
            assert_eq!(amount(series, &json!(value)), text, "{series}");
        }
        assert_eq!(amount("cpu_cores", &Value::Null), "-");
    }

    #[test]
    fn a_page_of_a_ward_says_all_and_leaves_out_what_is_not_known() {
        let mut full = row();
        full["ladder"] = json!(["stop on its console, 30 s", "kill"]);
        full["intent"] = json!({ "step": "rung", "rung": 1 });
        full["player_names"] = json!(["Kim", "이순신"]);
        full["players_peak"] = json!(9);
        full["tries_left"] = json!(3);
        full["restarts_held"] = Value::Null;
        full["answer"] = json!({ "at": "2026-11-21T13:31:38.123Z", "source": "status",
            "version": "1.21", "misses": 2, "error": "no answer in 2 s" });
        full["ports"] = json!({ "game": 25_565 });
        full["learned"] = json!({ "missing": "", "cpu_cores_per_player": {
            "state": "known", "base": 0.1, "base_error": 0.0, "per_player": 0.05,
            "per_player_error": 0.01 } });
        full["figures"] = json!([{ "series": "cpu_cores", "last": 0.3,
            "minute": { "mean": 0.25, "p95": 0.5, "max": 0.9 } }]);
        let text = ward(&full);
        for line in [
            "mine: Minecraft, running, saving, step 1: stop on its console, 30 s",
            "should be   running by operator:account:kim since 2026-11-21 13:31:38Z: weekend",
            "alerts      warning since 2026-11-21 13:00:00Z: memory grows",
            "            critical since 2026-11-21 13:00:00Z: full soon",
            "players     2/20 now, 9 at most: Kim, 이순신",
            "process     4242, up 1 h 30 min",
            "ports       game 25565",
            "answered    2026-11-21 13:31:38Z by status, version 1.21; 2 missing: no answer in 2 s",
            "restarts    3 left",
            "stopped by  stop on its console, 30 s",
            "            kill",
            "a player    5 % each (±1 %), 10 % without players",
            "            not known yet",
            "FIGURE     NOW   1 MIN: MEAN, P95, PEAK  5 MIN  1 H",
            "cpu_cores  30 %  25 %, 50 %, 90 %        -      -",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("folder") && !text.contains("last end"), "{text}");
    }

    #[test]
    fn what_would_happen_is_said_in_words_with_its_reasons() {
        let found = json!({ "now": "it runs", "deaths": [{
            "death": "it crashes (SIGSEGV)", "then": "it is started again within 2 s",
            "verdict": { "cause_text": "crashed", "confidence": "likely",
                "reasons": [{ "text": "it ended with signal 11" }] },
        }]});
        let expected = "\
mine: it runs.

If it crashes (SIGSEGV): it is started again within 2 s.
  It would be called \"crashed\" (likely).
  - it ended with signal 11";
        assert_eq!(explained("mine", &found), expected);
        let down = explained("mine", &json!({ "now": "it is down", "deaths": [] }));
        assert_eq!(down, "mine: it is down.\nNothing runs that could die.");
    }

    #[test]
    fn a_chart_has_a_bar_for_each_step_and_blanks_where_nothing_was_measured() {
        let point = |offset_s: u64, mean: f64| json!({ "offset_s": offset_s, "mean": mean, "max": mean * 2.0 });
        let found = json!({
            "from": "2026-11-21T13:00:00.000Z", "until": "2026-11-21T13:05:00.000Z",
            "resolution": "raw", "step_s": 60,
            "series": [
                { "series": "cpu_cores",
                  "points": [point(0, 0.0), point(60, 0.5), point(180, 1.0)] },
                { "series": "players", "points": [point(0, 3.0), point(60, 3.0)] },
            ],
            "saves": [{ "offset_s": -5, "length_s": 10 }, { "offset_s": 181, "length_s": 2 }],
        });
        let expected = "\
2026-11-21 13:00:00Z to 2026-11-21 13:05:00Z, each bar 1 min 0 s (raw)
cpu_cores  ▁▄ █  0 % to 100 %, peak 200 %
players    ▁▁  3 to 3, peak 6
saves      s  s";
        assert_eq!(chart(&found, 60), expected);
        assert_eq!(
            chart(&json!({ "series": [], "saves": [] }), 60),
            "(nothing was measured in this time)"
        );
        assert_eq!(rows(&found).len(), 5);
        assert_eq!(rows(&found)[1]["mean"], "50 %");
    }

    #[test]
    fn our_own_cost_says_what_cannot_be_told() {
        let own = json!({
            "cpu_seconds_per_hour": 0.75, "memory_bytes": null, "written_bytes_per_hour": 2_048.0,
            "transactions_per_hour": 60.0, "wakeups_per_second": 0.8, "budget_used": 0.75,
            "throttle": "longer", "interval_s": 3.0, "dropped_blocks": 0, "dropped_events": 0,
            "dropped_visits": 0, "flush_failures": 0,
        });
        let text = cost(&own);
        assert!(text.contains("processor      0.75 s an hour"), "{text}");
        assert!(text.contains("memory         not told apart"), "{text}");
        assert!(text.contains("75 %; samples are taken less often"), "{text}");
    }
}
