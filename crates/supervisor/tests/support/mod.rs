//! A folder with a ward in it, and waits that end when what they wait for happens.

pub(crate) mod checks;

use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use naru_supervisor::host;
use naru_supervisor::keeper::{
    Client, Event, ExitRecord, Launch, LaunchError, Lost, Starter, Target,
};
use naru_supervisor::model::ProcessId;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Only reached when something is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// The binary that is a keeper.
pub(crate) fn keeper() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ward-keeper"))
}

/// A game in a folder.
pub(crate) async fn start_in(folder: &Path, launch: &Launch) -> Result<Client, LaunchError> {
    let starter = Starter::new().expect("a thread");
    Client::launch(&starter, folder, launch, keeper()).await
}

/// What happens soon, or never.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it did not happen")
}

/// Waits for what no event tells: looks again and again. Only for what takes microseconds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "it did not happen");
        tokio::task::spawn_blocking(std::thread::yield_now).await.expect("no panic");
    }
}

/// The folder of one ward. Whatever still runs in it is killed when this goes away.
pub(crate) struct Ward {
    folder: tempfile::TempDir,
}

impl Ward {
    pub(crate) fn new() -> Ward {
        Ward { folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn launch(&self, script: &str) -> Launch {
        let mut launch = Launch::new("/bin/sh", self.folder());
        launch.args = vec!["-c".into(), script.into()];
        launch
    }

    pub(crate) fn python(&self, script: &str) -> Launch {
        let mut launch = Launch::new("python3", self.folder());
        launch.args = vec!["-c".into(), script.into()];
        launch
    }

    pub(crate) async fn start(&self, script: &str) -> Kept {
        self.start_as(&self.launch(script)).await
    }

    pub(crate) async fn start_python(&self, script: &str) -> Kept {
        self.start_as(&self.python(script)).await
    }

    pub(crate) async fn start_as(&self, launch: &Launch) -> Kept {
        Kept(start_in(self.folder(), launch).await.expect("it starts"))
    }

    pub(crate) async fn connect(&self) -> Kept {
        Kept(Client::connect(self.folder()).await.expect("there is a keeper"))
    }

    pub(crate) fn write_launch(&self, launch: &Launch) {
        let text = serde_json::to_vec(launch).expect("text");
        std::fs::write(self.folder().join("launch.json"), text).expect("written");
    }

    /// Until something holds that only changes with the files of this ward. The system tells when they do.
    pub(crate) fn until(&self, mut holds: impl FnMut() -> bool) {
        let changes = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
        let all = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MODIFY | WatchFlags::MOVE;
        inotify::add_watch(&changes, self.folder(), all).expect("a watch");
        let began = Instant::now();
        while !holds() {
            let left = DEADLINE.checked_sub(began.elapsed()).expect("it did not happen");
            let mut fds = [PollFd::new(&changes, PollFlags::IN)];
            let timeout = Timespec::try_from(left).expect("a time");
            rustix::event::poll(&mut fds, Some(&timeout)).expect("a wait");
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(&changes, &mut buffer);
            while events.next().is_ok() {}
        }
    }

    pub(crate) fn until_kept(&self) {
        self.until(|| self.folder().join("process.json").exists());
    }

    pub(crate) fn until_unkept(&self) {
        self.until(|| !self.folder().join("keeper.sock").exists());
    }

    pub(crate) fn until_console_has(&self, piece: &str) {
        self.until(|| printed(self).contains(piece));
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        if let Ok(Some(file)) = naru_supervisor::keeper::read_process(self.folder()) {
            // Gone already in most tests.
            host::kill_tree(file.keeper.pid, Some(&file.keeper)).ok();
            host::kill_tree(file.main.pid, Some(&file.main)).ok();
        }
    }
}

/// What the game of a ward has printed, as far as it is still there.
pub(crate) fn printed(ward: &Ward) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let Ok(mut file) = std::fs::File::open(ward.folder().join("console.log")) else {
        return String::new();
    };
    let length = file.metadata().expect("its length").len();
    file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024))).expect("sought");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How much memory a process has.
pub(crate) fn memory_of(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let wanted = ["Rss:", "Pss:", "Private_Dirty:"];
    let lines = text.lines().filter(|line| wanted.iter().any(|word| line.starts_with(word)));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A connection to a keeper, with the questions of tests.
pub(crate) struct Kept(pub(crate) Client);

impl Deref for Kept {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.0
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.0
    }
}

impl Kept {
    pub(crate) async fn until_main_exited(&mut self) -> ExitRecord {
        self.until_main_exited_with_inner().await.0
    }

    pub(crate) async fn until_main_exited_with_inner(&mut self) -> (ExitRecord, Option<ProcessId>) {
        loop {
            if let Event::MainExited { exit, inner } =
                soon(self.next_event()).await.expect("a keeper")
            {
                return (exit, inner);
            }
        }
    }

    pub(crate) async fn until_inner_exited(&mut self) -> ExitRecord {
        loop {
            if let Event::InnerExited { exit, .. } =
                soon(self.next_event()).await.expect("a keeper")
            {
                return exit;
            }
        }
    }

    /// Until the keeper has ended.
    pub(crate) async fn until_gone(&mut self) {
        loop {
            match soon(self.next_event()).await {
                Ok(_) => (),
                Err(lost) => return assert_eq!(lost, Lost::Gone),
            }
        }
    }

    /// Kills the game, and waits for the keeper's end.
    pub(crate) async fn end(&mut self) {
        self.signal(9, Target::Tree).await.expect("a kill");
        self.until_gone().await;
    }
}

/// A keeper that a process of this test's own starts.
pub(crate) struct InNarusPlace(Command);

pub(crate) fn keeper_command(ward: &Ward) -> InNarusPlace {
    let mut command = Command::new("/bin/sh");
    let script = "\"$0\" ward-keeper --folder \"$1\" & wait";
    command.args(["-c", script]).arg(keeper()).arg(ward.folder());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    InNarusPlace(command)
}

impl InNarusPlace {
    pub(crate) fn spawn_in_group(mut self) -> Group {
        Group(self.0.spawn().expect("a shell"))
    }
}

/// A process that leads a group.
pub(crate) struct Group(Child);

impl Group {
    /// Kills it and all that are still in its group.
    pub(crate) fn kill_group(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        let group = group.expect("a number");
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).expect("killed");
        self.0.wait().expect("ended");
    }
}
