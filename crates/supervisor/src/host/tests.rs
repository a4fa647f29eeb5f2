//! Tests of the host functions, with real processes.

#![cfg(unix)]
#![expect(clippy::print_stdout, reason = "what this machine lacks is for who runs the tests")]

use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

use super::*;

/// A child that is killed with the test.
struct Running(Child);

impl Running {
    fn start(program: &str, args: &[&str]) -> Running {
        let mut command = Command::new(program);
        Running(command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// A shell that has said "up", so that all before it has happened.
    fn shell(script: &str) -> Running {
        use std::io::{BufRead as _, BufReader};
        let mut running = Running::start("/bin/sh", &["-c", script]);
        let mut line = String::new();
        BufReader::new(running.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        running
    }

    fn id(&self) -> ProcessId {
        identify(self.0.id()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_process_is_itself_and_nobody_else() {
    let running = Running::start("sleep", &["600"]);
    let id = running.id();
    assert!(is_alive(&id));
    assert!(!id.boot.is_empty());
    let older = ProcessId { started: id.started - 1, ..id.clone() };
    let other_boot = ProcessId { boot: "another".into(), ..id.clone() };
    for stranger in [older, other_boot] {
        assert!(!is_alive(&stranger));
        assert!(matches!(Handle::open(&stranger), Err(HostError::Gone)));
        assert!(matches!(state(&stranger), Err(HostError::Gone)));
    }
}

#[test]
fn a_zombie_is_gone() {
    let mut child = Command::new("true").spawn().unwrap();
    // Waits for its end without asking how it ended.
    let pid = rustix::process::Pid::from_child(&child);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
    assert!(matches!(identify(child.id()), Err(HostError::Gone)));
    child.wait().unwrap();
}

#[tokio::test]
async fn an_exit_wakes_who_waits() {
    let mut running = Running::start("cat", &[]);
    let watch = Watch::open(&running.id()).unwrap();
    let mut exited = std::pin::pin!(watch.exited());
    let early = futures_poll(exited.as_mut()).await;
    assert!(early.is_none(), "it runs");
    drop(running.0.stdin.take());
    tokio::time::timeout(Duration::from_secs(30), exited).await.unwrap().unwrap();
    watch.exited().await.unwrap();
    running.0.wait().unwrap();
    assert!(matches!(watch.handle().signal(15), Err(HostError::Gone)));
}

async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    use std::task::Poll;
    std::future::poll_fn(|context| {
        Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn processes_are_found_by_what_is_known_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("mark-{}", std::process::id());
    let running = Running::shell(&format!("echo up; read line; : {mark}"));
    let id = running.id();
    let found = |what: &Find| -> Vec<ProcessId> {
        find(what).unwrap().into_iter().map(|found| found.process).collect()
    };
    assert_eq!(found(&Find::Command(mark)), std::slice::from_ref(&id));
    assert!(found(&Find::Name("sh".into())).contains(&id));
    let file = folder.path().join("game.pid");
    std::fs::write(&file, format!("{}\n", id.pid)).unwrap();
    assert_eq!(found(&Find::PidFile(file.clone())), [id]);
    std::fs::write(&file, "nonsense").unwrap();
    assert!(found(&Find::PidFile(file)).is_empty());
    assert!(find(&Find::PidFile("/nonexistent".into())).is_err());
}

#[test]
fn ports_are_found_and_known_to_be_taken() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = identify(std::process::id()).unwrap();
    let sockets =
        [(tcp.local_addr().unwrap(), Transport::Tcp), (udp.local_addr().unwrap(), Transport::Udp)];
    for (address, transport) in sockets {
        let found = find(&Find::Port(address.port(), transport)).unwrap();
        assert!(found.iter().any(|found| found.process == own), "{transport:?}");
        assert!(!port_is_free(address, transport));
    }
    drop((tcp, udp));
    for (address, transport) in sockets {
        assert!(port_is_free(address, transport));
    }
}

#[test]
fn a_tree_is_seen_and_ends_as_a_whole() {
    let running = Running::shell("(sleep 600 & sleep 600 & wait) & sleep 600 & echo up; wait");
    let id = running.id();
    // The inner shell may not have started its children yet.
    let began = std::time::Instant::now();
    while descendants(id.pid).unwrap().len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    let tree = descendants(id.pid).unwrap();
    assert_eq!(tree.len(), 4);
    let inner = tree.iter().position(|member| member.name == "sh").unwrap();
    let below = |member: &Found| member.parent == tree[inner].process.pid;
    assert!(tree.iter().position(below).unwrap() > inner, "parents come first");
    assert!(principal(id.pid).unwrap().is_some());
    assert_eq!(kill_tree(id.pid, Some(&id)).unwrap(), 5);
    let began = std::time::Instant::now();
    while tree.iter().any(|member| is_alive(&member.process)) {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
}

#[test]
fn a_caught_signal_is_told_from_one_that_kills() {
    let running = Running::shell("trap 'exit 0' TERM; echo up; read line");
    let id = running.id();
    assert!(catches(&id, 15).unwrap());
    assert!(!catches(&id, 10).unwrap());
    assert!(!catches(&id, 0).unwrap() && !catches(&id, 65).unwrap());
}

#[test]
fn a_running_process_can_be_favoured() {
    let running = Running::start("sleep", &["600"]);
    let id = running.id();
    let priority = Priority { nice: Some(5), idle: false, cores: vec![0], oom_score: Some(500) };
    let refused = favour(&id, &priority);
    assert!(refused.is_empty(), "{refused:?}");
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", id.pid)).unwrap();
    assert_eq!(read("oom_score_adj").trim(), "500");
    assert!(read("status").contains("Cpus_allowed_list:\t0\n"));
    // Field 19, of which 17 come after the name.
    let stat = read("stat");
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("5"));
    let refused = favour(&id, &Priority { idle: true, ..Priority::default() });
    assert!(matches!(refused[0].why, HostError::Unsupported(_)));
    let refused = favour(&id, &Priority { cores: vec![1 << 20], ..Priority::default() });
    assert_eq!(refused[0].what, "cores");
}

#[test]
fn a_thread_that_was_lowered_is_idle() {
    std::thread::spawn(|| {
        lower_own_thread().unwrap();
        // Again: it is where it should be already.
        lower_own_thread().unwrap();
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let field = |number: usize| {
            stat.rsplit(')').next().unwrap().split_whitespace().nth(number - 3).unwrap().to_owned()
        };
        assert_eq!((field(19).as_str(), field(41).as_str()), ("19", "5"));
    })
    .join()
    .unwrap();
}

#[test]
fn memory_and_its_end_are_counted() {
    let memory = memory().unwrap();
    assert!(memory.available_bytes > 0 && memory.available_bytes <= memory.total_bytes);
    machine_oom_kills().unwrap();
}

#[tokio::test]
async fn pressure_is_told_by_the_kernel() {
    let pressure = match Pressure::open(Resource::Cpu, Duration::from_millis(1)) {
        Ok(pressure) => pressure,
        Err(HostError::Unsupported(what)) => return println!("not available here: {what}"),
        Err(error) => panic!("{error}"),
    };
    // More threads than cores, until it fires.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let cores = std::thread::available_parallelism().unwrap().get();
    let threads: Vec<_> = (0..=cores)
        .map(|_| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let began = std::time::Instant::now();
    let fired = tokio::time::timeout(Duration::from_secs(30), pressure.event()).await;
    println!("pressure was told after {:?}", began.elapsed());
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    fired.unwrap().unwrap();
}

#[test]
fn a_window_that_the_kernel_refuses_is_an_error() {
    // Longer than its window.
    let refused = Pressure::open(Resource::Memory, Duration::from_secs(60));
    assert!(refused.is_err());
}

#[test]
fn a_control_group_ends_all_in_it() {
    let parent = match group_parent() {
        Ok(parent) => parent,
        Err(error) => return println!("not available here: {error}"),
    };
    let name = format!("naru-test-{}", std::process::id());
    let limits = GroupLimits { memory_bytes_max: Some(1 << 30), cpu_weight: Some(50) };
    let (group, refused) = match Group::create(&parent, &name, &limits) {
        Ok(made) => made,
        Err(error) => return println!("not available here: {error}"),
    };
    for refused in &refused {
        println!("{refused}");
    }
    let mut running = Running::shell("sleep 600 & echo up; wait");
    let sleep = descendants(running.0.id()).unwrap().remove(0).process;
    group.add(running.0.id()).unwrap();
    group.add(sleep.pid).unwrap();
    assert!(Group::existing(&parent, &name).is_some());
    group.kill().unwrap();
    running.0.wait().unwrap();
    let began = std::time::Instant::now();
    while is_alive(&sleep) {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    // The kernel lets go of the last one a moment after it has ended.
    while group_folder_remains(&parent, &name) {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
}

fn group_folder_remains(parent: &std::path::Path, name: &str) -> bool {
    Group::existing(parent, name).is_some_and(|group| group.remove().is_err())
}

#[test]
fn limits_of_a_group_are_written_where_the_kernel_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("cgroup.controllers", "cpuset cpu io memory pids\n");
    file("cgroup.subtree_control", "");
    let limits = GroupLimits { memory_bytes_max: Some(4096), cpu_weight: Some(99_999) };
    let (group, refused) = Group::create(folder.path(), "game", &limits).unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join("game").join(name)).unwrap();
    assert_eq!((read("memory.max").as_str(), read("cpu.weight").as_str()), ("4096", "10000"));
    std::fs::write(folder.path().join("game/memory.events"), "low 0\noom 2\noom_kill 1\n").unwrap();
    assert_eq!(group.oom_kills().unwrap(), 1);
    // Without the controllers, each limit is refused by name.
    file("cgroup.controllers", "hugetlb\n");
    let (_, refused) = Group::create(folder.path(), "game", &limits).unwrap();
    let said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert!(
        said[0].contains("memory controller") && said[1].contains("cpu controller"),
        "{said:?}"
    );
}
