//! Tests of the console: following, bounds, masks, search.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use naru_domain::Timestamp;
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_000);

/// A file that somebody prints into, and a follower of it.
struct Scene {
    folder: tempfile::TempDir,
    follower: Follower,
}

impl Scene {
    fn new(bounds: Bounds) -> Scene {
        Scene::masked(bounds, Masks::default())
    }

    fn masked(bounds: Bounds, masks: Masks) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let follower = Follower::open(&path, bounds, masks, Start::Beginning).unwrap();
        Scene { folder, follower }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("console.log")
    }

    fn print(&self, bytes: &[u8]) {
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).open(self.path()).unwrap().write_all(bytes).unwrap();
    }

    fn tick(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.follower.tick(NOW, &mut |line| lines.push(line.text.to_string())).unwrap();
        lines
    }

    fn reopen(&mut self, start: Start) {
        let bounds = Bounds::default();
        self.follower = Follower::open(&self.path(), bounds, Masks::default(), start).unwrap();
    }
}

fn texts(page: &Page) -> Vec<&str> {
    page.lines.iter().map(|line| &*line.text).collect()
}

#[test]
fn lines_come_once_they_have_an_end() {
    let mut scene = Scene::new(Bounds::default());
    assert!(scene.tick().is_empty(), "there is no file yet");
    scene.print(b"one\ntw");
    assert_eq!(scene.tick(), ["one"]);
    assert!(scene.tick().is_empty());
    scene.print("o é".as_bytes().split_last().unwrap().1);
    assert!(scene.tick().is_empty());
    scene.print(&"é".as_bytes()[1..]);
    scene.print(b"\r\n\nthree");
    assert_eq!(scene.tick(), ["two é", ""]);
    let mut last = Vec::new();
    scene.follower.finish(NOW, &mut |line| last.push(line.text.to_string())).unwrap();
    assert_eq!(last, ["three"]);
}

#[test]
fn a_file_that_was_emptied_is_read_from_its_new_beginning() {
    let mut scene = Scene::new(Bounds::default());
    scene.print(b"a long line of the old file\nhalf");
    scene.tick();
    std::fs::OpenOptions::new().write(true).open(scene.path()).unwrap().set_len(0).unwrap();
    scene.print(b"new\n");
    assert_eq!(scene.tick(), ["new"]);
    assert_eq!(scene.follower.counters().rotations, 1);
}

#[test]
fn a_file_that_was_replaced_is_read_to_its_end_before_the_new_one() {
    let mut scene = Scene::new(Bounds::default());
    scene.print(b"one\n");
    assert_eq!(scene.tick(), ["one"]);
    scene.print(b"two\n");
    std::fs::rename(scene.path(), scene.folder.path().join("old.log")).unwrap();
    scene.print(b"three\n");
    assert_eq!(scene.tick(), ["two"]);
    assert!(scene.tick().is_empty(), "this tick finds the new file");
    assert_eq!(scene.tick(), ["three"]);
}

#[test]
fn a_flood_is_looked_at_in_part_and_its_end_is_kept() {
    let bounds = Bounds { tick_bytes: 8 * 1024, burst_bytes: 16 * 1024, ..Bounds::default() };
    let mut scene = Scene::new(bounds);
    let flood: String = (0..50_000).map(|i| format!("line {i}\n")).collect();
    scene.print(flood.as_bytes());
    let lines = scene.tick();
    assert_eq!(lines.last().unwrap(), "line 49999");
    assert!(lines.len() < 2_000, "{}", lines.len());
    let counters = scene.follower.counters();
    assert!(counters.read_bytes <= 16 * 1024 + 4 * 1024, "{counters:?}");
    assert!(counters.skipped_bytes >= u64::try_from(flood.len()).unwrap() - 20 * 1024);
    let notes = scene.follower.search(&Query::Text("too fast".into()), None, 10);
    assert!(notes.lines.iter().all(|line| line.source == Source::Note));
    // In the long run, no more than the share of a tick.
    scene.print(flood.as_bytes());
    let before = scene.follower.counters().read_bytes;
    assert_eq!(scene.tick().last().unwrap(), "line 49999");
    assert!(scene.follower.counters().read_bytes - before <= 12 * 1024);
}

#[test]
fn many_short_lines_are_bounded_too_and_the_last_ones_are_seen() {
    let mut scene = Scene::new(Bounds::default());
    let flood: String = (0..100_000).map(|i| format!("{}\n", i % 10)).collect();
    scene.print(flood.as_bytes());
    scene.print(b"the end\n");
    let lines = scene.tick();
    assert!(lines.len() <= 512 + 4096 + 65, "{}", lines.len());
    assert_eq!(lines.last().unwrap(), "the end");
}

#[test]
fn an_overlong_line_is_cut_and_the_next_one_is_whole() {
    let mut scene = Scene::new(Bounds::default());
    scene.print("é".repeat(20_000).as_bytes());
    scene.print(b"\nnext\n");
    let lines = scene.tick();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "é".repeat(LINE_BYTES_MAX / 2));
    assert_eq!(lines[1], "next");
    assert!(scene.follower.counters().cut_bytes > 30_000);
}

#[test]
fn what_was_handed_out_is_not_handed_out_again_after_a_restart() {
    let mut scene = Scene::new(Bounds::default());
    scene.print(b"one\ntwo\nthr");
    assert_eq!(scene.tick(), ["one", "two"]);
    let place = scene.follower.place();
    scene.print(b"ee\nfour\n");
    scene.reopen(Start::After(place));
    assert_eq!(texts(&scene.follower.search(&Query::All, None, 10)), ["two", "one"]);
    assert_eq!(scene.tick(), ["three", "four"]);
    assert!(scene.follower.ring().next_seq() > place.next_seq);
}

#[test]
fn a_place_in_a_file_that_is_gone_means_the_beginning_of_the_new_one() {
    let mut scene = Scene::new(Bounds::default());
    scene.print(b"one\n");
    scene.tick();
    let place = scene.follower.place();
    std::fs::rename(scene.path(), scene.folder.path().join("old.log")).unwrap();
    scene.print(b"two\nthree\n");
    scene.reopen(Start::After(place));
    assert_eq!(scene.tick(), ["two", "three"]);
}

#[test]
fn an_adopted_console_is_in_memory_and_not_handed_out() {
    let mut scene = Scene::new(Bounds::default());
    scene.print(b"one\ntwo\nthr");
    scene.reopen(Start::End);
    assert_eq!(texts(&scene.follower.search(&Query::All, None, 10)), ["two", "one"]);
    scene.print(b"ee\n");
    assert_eq!(scene.tick(), ["three"]);
}

#[test]
fn the_file_gives_its_oldest_part_back_and_the_reader_keeps_its_place() {
    let bounds = Bounds { file_bytes: Some(256 * 1024), ..Bounds::default() };
    let mut scene = Scene::new(bounds);
    let mut written = 0_u64;
    for round in 0..40 {
        let block = format!("{}\n", "x".repeat(99)).repeat(640) + &format!("round {round}\n");
        scene.print(block.as_bytes());
        written += u64::try_from(block.len()).unwrap();
        assert_eq!(scene.tick().last().unwrap(), &format!("round {round}"));
        let file = std::fs::File::open(scene.path()).unwrap();
        let (_, space) = crate::host::length_and_space(&file).unwrap();
        assert!(space <= 256 * 1024 + 8 * 1024, "{space}");
    }
    assert!(written > 2 * 1024 * 1024);
    // A new follower finds the part that is left.
    scene.reopen(Start::Beginning);
    let lines = scene.tick();
    assert_eq!(lines.last().unwrap(), "round 39");
    assert!(lines.iter().all(|line| line.starts_with("x") || line.starts_with("round")));
}

#[test]
fn secrets_never_reach_memory() {
    let secrets = ["hunter2".to_owned(), "hunter2000".to_owned(), "abc".to_owned()];
    let patterns = [r"(?i)password[=:]\s*(\S+)".to_owned(), r"\d{3}-\d{3}".to_owned()];
    let masks = Masks::new(&secrets, &patterns).unwrap();
    assert_eq!(masks.not_masked(), 1, "too short to mask");
    assert!(!format!("{masks:?}").contains("hunter"));
    let mut scene = Scene::masked(Bounds::default(), masks);
    scene.print(b"login hunter2000 hunter2\nPassword: s3cret, code 123-456!\n");
    // One that lies across the longest line's end.
    scene.print(format!("{}hunter2000\n", "x".repeat(LINE_BYTES_MAX - 4)).as_bytes());
    let lines = scene.tick();
    assert_eq!(lines[0], "login *** ***");
    assert_eq!(lines[1], "Password: *** code ***!");
    assert!(lines[2].ends_with("x***"));
    let by: Arc<str> = Arc::from("ann");
    let echoed = scene.follower.echo(NOW, &by, "op hunter2\u{1b}[31m");
    assert_eq!(&*echoed.text, "op ***");
    assert_eq!(echoed.source, Source::Input { by });
    assert!(scene.follower.search(&Query::Text("hunter".into()), None, 10).lines.is_empty());
}

#[test]
fn masks_that_cannot_be_used_are_named() {
    let bad = Masks::new(&[], &["fine".to_owned(), "(".to_owned()]);
    assert!(matches!(bad, Err(MaskError::Pattern { index: 1, .. })), "{bad:?}");
    let many = vec!["a".to_owned(); 33];
    assert!(matches!(Masks::new(&[], &many), Err(MaskError::TooMany)));
    assert!(Masks::new(&[], &[r"(\w{1000}){1000}".to_owned()]).is_err());
}

#[test]
fn text_cannot_move_cursors_hide_or_turn_around() {
    let check = |raw: &[u8], expected: &str| {
        let mut text = String::from("old");
        clean(raw, &mut text);
        assert_eq!(text, expected);
    };
    check(b"\x1b[31;1mred\x1b[0m and \x1b]0;title\x07plain\r", "red and plain");
    check(b"\x1b]8;;http://x\x1b\\link\x1b(B.", "link.");
    check(b"a\rb\x08\x00c\td", "a bc\td");
    check("\u{202e}evil\u{2066} \u{9b}31m".as_bytes(), "evil 31m");
    check(b"bad \xff\xc3 end", "bad \u{fffd}\u{fffd} end");
    check(b"\x1b[12", "");
}

#[test]
fn a_search_is_paged_by_number_with_the_newest_first() {
    let mut ring = Ring::new(100, 100_000, 1);
    for i in 0..150 {
        ring.push(NOW, Source::Game, if i % 3 == 0 { "fizz" } else { "no" });
    }
    let query = Query::Pattern(regex::Regex::new("^f.zz$").unwrap());
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = ring.search(&query, before, 7);
        seen.extend(page.lines.iter().map(|line| line.seq));
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<u64> = (51..=150).filter(|seq| (seq - 1) % 3 == 0).rev().collect();
    assert_eq!(seen, expected);
    let after: Vec<u64> = ring.after(147, 2).map(|line| line.seq).collect();
    assert_eq!(after, [148, 149]);
    assert_eq!(ring.after(3, 1).next().unwrap().seq, 51, "the oldest that is left");
    assert_eq!(ring.after(150, 10).count(), 0);
}

#[test]
fn memory_is_given_back_under_pressure() {
    let mut ring = Ring::new(1_000, 64 * 1024, 1);
    for i in 0..2_000 {
        ring.push(NOW, Source::Game, &format!("a line of a game, number {i}"));
    }
    assert!(ring.bytes() <= 64 * 1024);
    let before = (ring.len(), ring.dropped());
    ring.shed();
    assert!(ring.bytes() <= 16 * 1024);
    assert!(!ring.is_empty());
    assert_eq!(ring.dropped(), before.1 + u64::try_from(before.0 - ring.len()).unwrap());
}

/// All that a search of the file finds, page by page.
fn search_all(scene: &Scene, query: &Query, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = search_file(&scene.path(), &Masks::default(), query, before, limit).unwrap();
        assert!(page.lines.len() <= limit);
        assert!(page.before.is_none() || page.before < before.or(Some(u64::MAX)));
        found.extend(page.lines.into_iter().map(|(_, text)| text));
        before = page.before;
        if before.is_none() {
            return found;
        }
    }
}

#[test]
fn the_file_is_searched_further_back_than_memory_goes() {
    let scene = Scene::new(Bounds::default());
    let lines: Vec<String> =
        (0..20_000).map(|i| format!("line {i} {}", "x".repeat(i % 100))).collect();
    scene.print(format!("{}\n", lines.join("\n")).as_bytes());
    let all: Vec<String> = lines.iter().rev().cloned().collect();
    assert_eq!(search_all(&scene, &Query::All, 1_000_000), all);
    assert_eq!(search_all(&scene, &Query::All, 7_777), all);
    let some = search_all(&scene, &Query::Text("line 123 ".into()), 10);
    assert_eq!(some, [format!("line 123 {}", "x".repeat(23))]);
    let masks = Masks::new(&["line 123".to_owned()], &[]).unwrap();
    let page = search_file(&scene.path(), &masks, &Query::All, Some(20), 10).unwrap();
    assert_eq!(page.lines.last().unwrap(), &(0, "line 0 ".to_owned()));
    scene.print("\n".repeat(3).as_bytes());
    let page = search_file(&scene.path(), &Masks::default(), &Query::All, None, 4).unwrap();
    let newest: Vec<&str> = page.lines.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(newest, ["", "", "", all[0].as_str()]);
    // A line that is longer than a search can read does not stop it.
    scene.print(format!("{}\nend\n", "y".repeat(3 * 1024 * 1024)).as_bytes());
    let found = search_all(&scene, &Query::Text("e".into()), 100);
    assert_eq!((found[0].as_str(), &found[1]), ("end", &all[0]));
}

proptest! {
    #[test]
    fn however_bytes_are_cut_the_same_lines_come_out(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..600),
        cuts in proptest::collection::vec(0_usize..600, 0..20),
    ) {
        let mut whole = Vec::new();
        let mut splitter = Splitter::default();
        splitter.feed(&bytes, |line| whole.push(line.to_vec()));
        splitter.finish(|line| whole.push(line.to_vec()));

        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut splitter = Splitter::default();
        let mut begin = 0;
        for end in cuts {
            splitter.feed(&bytes[begin..end], |line| pieces.push(line.to_vec()));
            begin = end;
        }
        splitter.finish(|line| pieces.push(line.to_vec()));
        prop_assert_eq!(&whole, &pieces);

        let mut joined = whole.join(&b'\n');
        if bytes.last() == Some(&b'\n') {
            joined.push(b'\n');
        }
        prop_assert_eq!(joined, bytes);
    }

    #[test]
    fn no_bytes_make_unclean_text(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut text = String::new();
        clean(&bytes, &mut text);
        prop_assert!(text.chars().all(|c| c == '\t' || !c.is_control()), "{:?}", text);
    }

    #[test]
    fn a_ring_never_exceeds_its_bounds_and_numbers_have_no_gaps(
        lengths in proptest::collection::vec(0_usize..400, 0..200),
        lines_max in 0_usize..50,
        bytes_max in 0_usize..4_000,
    ) {
        let mut ring = Ring::new(lines_max, bytes_max, 7);
        for (index, length) in lengths.iter().enumerate() {
            if index % 50 == 49 {
                ring.shed();
            }
            ring.push(NOW, Source::Game, &"x".repeat(*length));
            prop_assert!(ring.len() <= lines_max && ring.bytes() <= bytes_max);
        }
        let page = ring.search(&Query::All, None, usize::MAX);
        prop_assert_eq!(page.lines.len(), ring.len());
        prop_assert!(page.lines.windows(2).all(|pair| pair[0].seq == pair[1].seq + 1));
        prop_assert_eq!(ring.next_seq(), 7 + u64::try_from(lengths.len()).unwrap());
    }

    #[test]
    fn a_follower_hands_out_what_was_printed_in_whatever_pieces(
        pieces in proptest::collection::vec("[a-zé]{0,9}\n?", 0..40),
        ticks in proptest::collection::vec(any::<bool>(), 40),
    ) {
        let mut scene = Scene::new(Bounds::default());
        let mut seen = Vec::new();
        for (piece, tick) in pieces.iter().zip(ticks) {
            scene.print(piece.as_bytes());
            if tick {
                seen.extend(scene.tick());
            }
        }
        let told = &mut |line: &Line| seen.push(line.text.to_string());
        scene.follower.finish(NOW, told).unwrap();
        let printed = pieces.concat();
        let expected: Vec<&str> = printed.lines().collect();
        prop_assert_eq!(seen, expected);
    }
}
