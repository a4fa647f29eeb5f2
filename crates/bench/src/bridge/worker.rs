//! One load thread: its own small runtime, its share of the phones, one task per connection. The
//! coordinator moves all threads through the same phases.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Context as _;
use tokio::io::Interest;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::load::connect::{self, RunClock};
use crate::load::pacer::Connected;
use crate::load::phone::{Phone, Plan};
use crate::load::reader::{ReadOnce, Reader, Scratch, Tally};
use crate::target::Target;

/// Phones of one thread that connect at the same time.
const CONNECTING_MAX: usize = 64;
const SCRATCH_BYTES: usize = 256 << 10;

/// What all threads of a run share.
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) plan: Arc<Plan>,
    pub(super) clock: RunClock,
    /// In closed loop: requests in flight per phone; `None` leaves sending to the pacer.
    pub(super) window: Option<usize>,
    /// Phones may send.
    pub(super) sending: AtomicBool,
    /// Echo replies so far.
    pub(super) completed: AtomicU64,
    /// Start of measuring, in nanoseconds of the run.
    pub(super) measure_from_ns: AtomicU64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connected phones do nothing but answer pings.
    Ready,
    /// Closed loop begins.
    Load,
    /// Threads end.
    Done,
}

/// State of one thread that its connection tasks share.
struct Local {
    shared: Arc<Shared>,
    scratch: RefCell<Scratch>,
    tally: RefCell<Tally>,
}

/// Runs a thread's phones until [`Phase::Done`]; returns what it counted.
pub(super) fn run(
    shared: Arc<Shared>,
    indexes: Vec<usize>,
    ready: mpsc::Sender<anyhow::Result<Vec<Arc<Connected>>>>,
    phase: watch::Receiver<Phase>,
) -> Tally {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody left to tell means that the coordinator has given up already.
            ready.blocking_send(Err(error.into())).unwrap_or_default();
            return Tally::default();
        }
    };
    let local = LocalSet::new();
    local.block_on(&runtime, drive(shared, indexes, ready, phase))
}

async fn drive(
    shared: Arc<Shared>,
    indexes: Vec<usize>,
    ready: mpsc::Sender<anyhow::Result<Vec<Arc<Connected>>>>,
    mut phase: watch::Receiver<Phase>,
) -> Tally {
    let connected = connect_all(&shared, &indexes).await;
    let phones = connected.as_ref().cloned().unwrap_or_default();
    let local = Rc::new(Local {
        shared,
        scratch: RefCell::new(Scratch::new(SCRATCH_BYTES)),
        tally: RefCell::default(),
    });
    let mut tasks = JoinSet::new();
    for phone in &phones {
        tasks.spawn_local(converse(local.clone(), phone.clone()));
    }
    ready.send(connected).await.unwrap_or_default();
    // The coordinator takes the end of this channel for "everybody is connected".
    drop(ready);
    loop {
        let now = *phase.borrow_and_update();
        match now {
            Phase::Ready => {}
            Phase::Load => start(&local, &phones),
            Phase::Done => break,
        }
        if phase.changed().await.is_err() {
            break;
        }
    }
    tasks.shutdown().await;
    local.tally.take()
}

async fn connect_all(
    shared: &Arc<Shared>,
    indexes: &[usize],
) -> anyhow::Result<Vec<Arc<Connected>>> {
    let signer = Arc::new(shared.target.signer.clone());
    let mut phones = Vec::with_capacity(indexes.len());
    for batch in indexes.chunks(CONNECTING_MAX) {
        let mut connecting = JoinSet::new();
        for &index in batch {
            let (address, source) = (shared.target.address, shared.target.source(index));
            let phone = Phone::new(&shared.target, &signer, &shared.plan, shared.clock, index);
            connecting.spawn_local(async move {
                let stream = connect::open(address, source)
                    .await
                    .with_context(|| format!("phone {index} cannot connect to {address}"))?;
                let mut phone = phone;
                phone.begin_connection();
                phone.hello();
                phone.say_everywhere();
                phone.flush(&stream)?;
                anyhow::Ok(Arc::new(Connected {
                    stream,
                    phone: parking_lot::Mutex::new(phone),
                    dead: AtomicBool::new(false),
                }))
            });
        }
        while let Some(joined) = connecting.join_next().await {
            phones.push(joined.context("a connecting task ended")??);
        }
    }
    Ok(phones)
}

/// Begins the closed loop: fills every phone's window.
fn start(local: &Local, phones: &[Arc<Connected>]) {
    let measure_from_ns = local.shared.measure_from_ns.load(Ordering::Relaxed);
    local.tally.borrow_mut().measure_from_ns = measure_from_ns;
    for connected in phones {
        let mut phone = connected.phone.lock();
        top_up(&local.shared, &mut phone, local.shared.clock.now_ns());
        connected.flush(&mut phone);
    }
}

fn top_up(shared: &Shared, phone: &mut Phone, now_ns: u64) {
    let Some(window) = shared.window else { return };
    if !shared.sending.load(Ordering::Relaxed) {
        return;
    }
    while phone.outstanding() < window && phone.say(now_ns, now_ns) {}
}

/// One connection: reads, matches, and in closed loop sends as many as were answered.
async fn converse(local: Rc<Local>, connected: Arc<Connected>) {
    let mut reader = Reader::default();
    loop {
        let interest = match connected.phone.lock().has_outgoing() {
            true => Interest::READABLE | Interest::WRITABLE,
            false => Interest::READABLE,
        };
        if connected.stream.ready(interest).await.is_err() {
            break;
        }
        let clock = local.shared.clock;
        let read = reader.read_once(
            &connected.stream,
            &connected.phone,
            &mut local.scratch.borrow_mut(),
            &mut local.tally.borrow_mut(),
            || clock.now_ns(),
        );
        let echoes = match read {
            Ok(ReadOnce::Nothing) => 0,
            Ok(ReadOnce::Some(echoes)) => echoes,
            Ok(ReadOnce::End) | Err(_) => break,
        };
        let completed = u64::try_from(echoes).unwrap_or(0);
        local.shared.completed.fetch_add(completed, Ordering::Relaxed);
        let mut phone = connected.phone.lock();
        if echoes > 0 {
            top_up(&local.shared, &mut phone, clock.now_ns());
        }
        // A failed write is no reason to leave: what the server sent before is still to be read.
        connected.flush(&mut phone);
    }
    connected.dead.store(true, Ordering::Relaxed);
    local.tally.borrow_mut().disconnects += 1;
}
