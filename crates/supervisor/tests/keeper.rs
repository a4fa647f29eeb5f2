//! Keepers as processes of their own, with real programs as games: shells, sleeps, small Python servers.

#![cfg(unix)]
#![expect(clippy::print_stdout, reason = "figures are for who runs the tests")]

mod support;

use std::time::{Duration, Instant};

use naru_supervisor::host;
use naru_supervisor::keeper::{
    Client, ConnectError, Event, LaunchError, Lost, Phase, RequestError, Starter, Stdin, Target,
    read_exit, read_process, words::Refusal, write_input,
};
use naru_supervisor::model::Ending;
use support::{Ward, printed, soon};

const TERM: i32 = 15;
const KILL: i32 = 9;

#[tokio::test]
async fn an_exit_code_is_told_and_written_down() {
    let ward = Ward::new();
    let mut client = ward.start("exit 7").await;
    let exit = client.until_main_exited().await;
    assert_eq!(exit.ending, Ending::Code(7));
    client.until_gone().await;
    let written = read_exit(ward.folder()).unwrap().unwrap();
    assert_eq!(written.main.unwrap().ending, Ending::Code(7));
    assert!(written.empty);
    assert!(matches!(Client::connect(ward.folder()).await, Err(ConnectError::Gone)));
}

#[tokio::test]
async fn a_signal_that_ends_a_game_is_told_apart_from_a_code() {
    let ward = Ward::new();
    let mut client = ward.start("exec sleep 600").await;
    client.signal(TERM, Target::Main).await.unwrap();
    assert_eq!(client.until_main_exited().await.ending, Ending::Signal(TERM));
    client.until_gone().await;
    let written = read_exit(ward.folder()).unwrap().unwrap();
    assert_eq!(written.last_signal.unwrap().signal, TERM);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_named_refusal() {
    let ward = Ward::new();
    let mut launch = ward.launch("");
    launch.program = "/nonexistent/game".into();
    let refused = support::start_in(ward.folder(), &launch).await;
    let Err(LaunchError::NotStarted(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.contains("No such file"), "{reason}");
    ward.until_unkept();
    assert!(read_exit(ward.folder()).unwrap().unwrap().not_started.is_some());
}

#[tokio::test]
async fn a_folder_has_one_keeper() {
    let ward = Ward::new();
    let mut client = ward.start("exec sleep 600").await;
    let second = support::start_in(ward.folder(), &ward.launch("exit 0")).await;
    assert!(matches!(second, Err(LaunchError::AlreadyKept)), "{second:?}");
    assert_eq!(client.status().await.unwrap().phase, Phase::Running);
    client.end().await;
}

#[tokio::test]
async fn a_game_outlives_naru_and_is_found_again() {
    let ward = Ward::new();
    let client = ward.start("read line; echo got $line; read line; exit 3").await;
    let main = client.hello().main.clone();
    drop(client);
    let began = Instant::now();
    let mut client = ward.connect().await;
    println!("found again in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(client.hello().main, main);
    assert!(host::is_alive(&main));
    client.input("first").await.unwrap();
    ward.until_console_has("got first");
    client.input("second").await.unwrap();
    assert_eq!(client.until_main_exited().await.ending, Ending::Code(3));
}

#[tokio::test]
async fn a_game_outlives_a_naru_that_is_killed() {
    let ward = Ward::new();
    // A process in Naru's place, which starts the keeper and is killed with all its group.
    ward.write_launch(&ward.launch("exec sleep 600"));
    let mut naru = support::keeper_command(&ward).spawn_in_group();
    ward.until_kept();
    naru.kill_group();
    let mut client = ward.connect().await;
    assert_eq!(client.status().await.unwrap().phase, Phase::Running);
    client.end().await;
}

#[tokio::test]
async fn signals_meant_for_a_service_do_not_end_a_keeper() {
    let ward = Ward::new();
    let mut client = ward.start("exec sleep 600").await;
    let keeper = host::Handle::open(&client.hello().keeper).unwrap();
    for signal in [1, 2, 3, TERM] {
        keeper.signal(signal).unwrap();
    }
    assert_eq!(client.status().await.unwrap().phase, Phase::Running);
    client.end().await;
}

#[tokio::test]
async fn an_exit_while_naru_is_away_is_known_afterwards() {
    let ward = Ward::new();
    let client = ward.start("read line; exit 9").await;
    drop(client);
    write_input(ward.folder(), "go").unwrap();
    ward.until_unkept();
    assert!(matches!(Client::connect(ward.folder()).await, Err(ConnectError::Gone)));
    let written = read_exit(ward.folder()).unwrap().unwrap();
    assert_eq!(written.main.unwrap().ending, Ending::Code(9));
    assert!(written.empty);
}

#[tokio::test]
async fn the_newest_naru_is_heard_and_the_older_one_told() {
    let ward = Ward::new();
    let mut old = ward.start("exec sleep 600").await;
    let mut new = ward.connect().await;
    let lost = loop {
        if let Err(lost) = soon(old.next_event()).await {
            break lost;
        }
    };
    assert_eq!(lost, Lost::Superseded);
    assert!(matches!(old.status().await, Err(RequestError::Lost(Lost::Superseded))));
    assert_eq!(new.status().await.unwrap().phase, Phase::Running);
    new.end().await;
}

#[tokio::test]
async fn a_launcher_that_exits_leaves_its_game_to_the_keeper() {
    let ward = Ward::new();
    let mut client = ward.start("(read line </dev/null; exec sleep 600) & exit 0").await;
    let (exit, inner) = client.until_main_exited_with_inner().await;
    assert_eq!(exit.ending, Ending::Code(0));
    let inner = inner.expect("something of it runs");
    assert!(host::is_alive(&inner));
    let status = client.status().await.unwrap();
    assert_eq!((status.phase, status.inner), (Phase::Orphaned, Some(inner.clone())));
    client.signal(TERM, Target::Game).await.unwrap();
    let ended = client.until_inner_exited().await;
    assert_eq!((ended.process, ended.ending), (inner, Ending::Signal(TERM)));
    client.until_gone().await;
    let written = read_exit(ward.folder()).unwrap().unwrap();
    assert_eq!(written.inner.unwrap().ending, Ending::Signal(TERM));
}

#[tokio::test]
async fn a_daemon_that_forks_twice_does_not_escape() {
    let ward = Ward::new();
    let script = "import os, signal\n\
                  if os.fork(): os._exit(0)\n\
                  os.setsid()\n\
                  if os.fork(): os._exit(0)\n\
                  print('daemon', flush=True)\n\
                  signal.pause()\n";
    let mut client = ward.start_python(script).await;
    let (exit, _) = client.until_main_exited_with_inner().await;
    assert_eq!(exit.ending, Ending::Code(0));
    ward.until_console_has("daemon");
    let daemon = client.adopt(None).await.unwrap();
    client.signal(KILL, Target::Game).await.unwrap();
    loop {
        match soon(client.next_event()).await.unwrap() {
            Event::InnerExited { exit, inner: None } if exit.process == daemon => {
                assert_eq!(exit.ending, Ending::Signal(KILL));
                break;
            }
            Event::Empty => panic!("the daemon's end was not told"),
            _ => (),
        }
    }
    client.until_gone().await;
}

#[tokio::test]
async fn a_kill_of_the_tree_leaves_nobody() {
    let ward = Ward::new();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do\n\
                  (for j in 1 2 3 4; do sleep 600 & done; echo up; wait) &\n\
                  done; wait";
    let mut client = ward.start(script).await;
    ward.until(|| printed(&ward).matches("up").count() == 10);
    let tree = host::descendants(client.hello().keeper.pid).unwrap();
    assert_eq!(tree.len(), 51);
    let began = Instant::now();
    client.signal(KILL, Target::Tree).await.unwrap();
    client.until_gone().await;
    println!("{} processes killed and reaped in {:?}", tree.len(), began.elapsed());
    assert!(tree.iter().all(|member| !host::is_alive(&member.process)));
}

#[tokio::test]
async fn a_game_that_breeds_is_killed_as_a_whole() {
    let ward = Ward::new();
    // Each generation starts the next and ends: at most two live at a time, but never the same ones.
    let script = "breed() { sleep 0.005; breed & }; breed; wait; sleep 600";
    let mut client = ward.start(script).await;
    client.signal(KILL, Target::Tree).await.unwrap();
    loop {
        match soon(client.next_event()).await {
            Err(Lost::Gone) => break,
            Err(lost) => panic!("{lost}"),
            Ok(_) => (),
        }
    }
    assert!(read_exit(ward.folder()).unwrap().unwrap().empty);
}

#[tokio::test]
async fn when_the_keeper_is_killed_the_game_runs_on_and_its_exit_is_seen() {
    let ward = Ward::new();
    let mut client = ward.start("read line; exit 5").await;
    let hello = client.hello().clone();
    host::Handle::open(&hello.keeper).unwrap().signal(KILL).unwrap();
    client.until_gone().await;
    assert!(matches!(Client::connect(ward.folder()).await, Err(ConnectError::Gone)));
    let main = read_process(ward.folder()).unwrap().unwrap().main;
    assert_eq!(main, hello.main);
    let watch = host::Watch::open(&main).expect("the game runs on");
    // Its input is still open, and nobody is needed to write to it.
    write_input(ward.folder(), "end").unwrap();
    soon(watch.exited()).await.unwrap();
    assert!(!host::is_alive(&main));
    assert_eq!(read_exit(ward.folder()).unwrap(), None, "nobody could know the code");
    // The folder can be used again.
    let mut client = ward.start("exit 0").await;
    assert_eq!(client.until_main_exited().await.ending, Ending::Code(0));
}

#[tokio::test]
async fn a_game_that_does_not_read_makes_input_a_refusal_and_never_a_wait() {
    let ward = Ward::new();
    let mut client = ward.start("exec sleep 600").await;
    let line = "x".repeat(4000);
    let mut sent = 0;
    let refused = loop {
        match client.input(&line).await {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
        assert!(sent < 100);
    };
    assert_eq!(refused, RequestError::Refused(Refusal::InputFull));
    assert!(sent >= 10, "{sent}");
    let long = client.input(&"x".repeat(4096)).await;
    assert_eq!(long, Err(RequestError::Refused(Refusal::NotALine)));
    let two = client.input("a\nb").await;
    assert_eq!(two, Err(RequestError::Refused(Refusal::NotALine)));
    client.end().await;
}

#[tokio::test]
async fn a_game_without_input_says_so() {
    let ward = Ward::new();
    let mut launch = ward.launch("exec sleep 600");
    launch.stdin = Stdin::Null;
    let mut client = ward.start_as(&launch).await;
    let refused = client.input("hello").await;
    assert_eq!(refused, Err(RequestError::Refused(Refusal::NoInput)));
    client.end().await;
}

#[tokio::test]
async fn input_arrives_whole_and_in_order() {
    let ward = Ward::new();
    let mut client = ward.start("while read -r line; do echo \"[$line]\"; done").await;
    for line in ["say héllo", "", "with \"quotes\" and \\ and $HOME", "last"] {
        client.input(line).await.unwrap();
    }
    ward.until_console_has("[last]");
    let printed = printed(&ward);
    assert_eq!(printed, "[say héllo]\n[]\n[with \"quotes\" and \\ and $HOME]\n[last]\n");
    client.end().await;
}

#[tokio::test]
async fn a_stopped_game_shows_as_stopped() {
    let ward = Ward::new();
    let mut client = ward.start("exec sleep 600").await;
    let main = client.hello().main.clone();
    client.signal(19, Target::Main).await.unwrap();
    support::until(|| host::state(&main).unwrap() == 'T').await;
    client.signal(18, Target::Main).await.unwrap();
    support::until(|| host::state(&main).unwrap() != 'T').await;
    client.end().await;
}

#[tokio::test]
async fn a_keeper_that_hangs_is_told_from_one_that_is_gone() {
    let ward = Ward::new();
    let mut client = ward.start("exec sleep 600").await;
    let keeper = host::Handle::open(&client.hello().keeper).unwrap();
    keeper.signal(19).unwrap();
    assert_eq!(client.status().await, Err(RequestError::Silent));
    assert!(matches!(Client::connect(ward.folder()).await, Err(ConnectError::Silent)));
    keeper.signal(18).unwrap();
    let mut client = ward.connect().await;
    client.end().await;
}

#[tokio::test]
async fn a_folder_may_be_deeper_than_a_socket_address() {
    let ward = Ward::new();
    let folder = ward.folder().join("a-deep-folder-".repeat(8)).join("b-deeper-folder-".repeat(8));
    let launch = ward.launch("exec sleep 600");
    let client = support::start_in(&folder, &launch).await.unwrap();
    drop(client);
    let mut client = Client::connect(&folder).await.unwrap();
    client.signal(KILL, Target::Tree).await.unwrap();
    while soon(client.next_event()).await.is_ok() {}
}

#[tokio::test]
async fn naru_hears_of_an_exit_at_once() {
    let ward = Ward::new();
    let mut delays = Vec::new();
    for _ in 0..10 {
        let mut client = ward.start("exec sleep 600").await;
        let game = host::Handle::open(&client.hello().main).unwrap();
        let began = Instant::now();
        game.signal(KILL).unwrap();
        client.until_main_exited().await;
        delays.push(began.elapsed());
        client.until_gone().await;
    }
    delays.sort();
    println!("exit to event: median {:?}, worst {:?}", delays[5], delays[9]);
}

#[tokio::test]
async fn a_game_gets_what_it_was_given_and_nothing_of_narus() {
    let ward = Ward::new();
    let mut launch =
        ward.launch("echo \"$GREETING\"; ulimit -n; nice; ls -l /proc/self/fd | grep -c -E 'socket|anon_inode|keeper|starting'; pwd");
    launch.env.insert("GREETING".into(), "hello".into());
    launch.limits.open_files = Some(321);
    launch.priority.nice = Some(7);
    let mut client = ward.start_as(&launch).await;
    client.until_main_exited().await;
    let dir = std::fs::canonicalize(&launch.dir).unwrap();
    // None of the keeper's own descriptors is open in it.
    assert_eq!(printed(&ward), format!("hello\n321\n7\n0\n{}\n", dir.display()));
}

#[tokio::test]
async fn a_naru_behind_the_games_does_not_put_them_there_too() {
    let ward = Ward::new();
    let starter = Starter::new().unwrap();
    host::lower_own_thread().unwrap();
    let launch = ward.launch("read stat </proc/self/stat; echo $stat");
    let client = Client::launch(&starter, ward.folder(), &launch, support::keeper()).await.unwrap();
    let mut client = support::Kept(client);
    let keeper = format!("/proc/{}/stat", client.hello().keeper.pid);
    let keeper = std::fs::read_to_string(keeper).unwrap_or_default();
    client.until_main_exited().await;
    for stat in [keeper, printed(&ward)] {
        let field = |number: usize| stat.rsplit(')').next()?.split_whitespace().nth(number - 3);
        // Niceness and scheduling policy; the keeper may have ended already.
        assert!(matches!((field(19), field(41)), (Some("0"), Some("0")) | (None, None)), "{stat}");
    }
    assert!(printed(&ward).contains("(sh)"));
}

#[tokio::test]
async fn a_flood_does_not_fill_the_disk_while_naru_is_away() {
    let ward = Ward::new();
    // More than 5,000 lines a second: 40 MB in bursts, with a line to say where it is.
    let script = "import sys\n\
                  sys.stdin.readline()\n\
                  for i in range(400):\n\
                  \tsys.stdout.write(('%d ' % i + 'x' * 92 + '\\n') * 1000)\n\
                  \tsys.stdout.flush()\n\
                  sys.stdin.readline()\n\
                  print('end', flush=True)\n\
                  sys.stdin.readline()\n";
    let mut launch = ward.python(script);
    launch.console_bytes_max = 1024 * 1024;
    drop(ward.start_as(&launch).await);
    write_input(ward.folder(), "go").unwrap();
    let console = std::fs::File::open(ward.folder().join("console.log")).unwrap();
    ward.until(|| host::length_and_space(&console).unwrap().0 > 37_000_000);
    // Giving space back changes the file, too.
    ward.until(|| host::length_and_space(&console).unwrap().1 <= 2 * 1024 * 1024);
    write_input(ward.folder(), "go").unwrap();
    ward.until_console_has("end");
    let mut client = ward.connect().await;
    client.end().await;
}

#[tokio::test]
async fn a_keeper_is_small_and_leaves_no_zombie() {
    let ward = Ward::new();
    let mut client = ward.start("exec sleep 600").await;
    let keeper = client.hello().keeper.clone();
    let memory = support::memory_of(keeper.pid);
    println!("a keeper's memory: {memory}");
    client.end().await;
    // This process is its parent, and asks for its ending.
    support::until(|| !std::path::Path::new(&format!("/proc/{}", keeper.pid)).exists()).await;
}

#[test]
fn the_corpora_of_the_fuzz_targets_hold() {
    let check = |target: &str, holds: fn(&[u8])| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let files = std::fs::read_dir(folder.join(target)).expect("the corpus is committed");
        let read = files.map(|file| holds(&std::fs::read(file.unwrap().path()).unwrap()));
        assert!(read.count() > 0);
    };
    check("console_lines", support::checks::console_lines);
    check("keeper_words", support::checks::keeper_words);
}
