//! What a message costs the store: accepted in one batch, settled with one small reply and delivered in
//! the next, durability `os`, 100 phones. Prints CPU and wall microseconds a message for some sizes of
//! batches. Run it with `cargo run --release -p naru-store-sql --example ledger_bench [messages]`.

use std::sync::Arc;
use std::time::Instant;

use naru_domain::ports::Ledger as _;
use naru_domain::work::{LedgerBatch, MessageRecord, MessageState, ReplyRecord, Settlement};
use naru_domain::{
    DeviceKey, Durability, MessageId, Offset, PhoneReply, ReplyBody, RoomKey, Timestamp,
};
use naru_store_sql::{SqlStore, StoreOptions};

const PHONES: usize = 100;
const BATCHES: [usize; 6] = [1, 10, 32, 100, 250, 500];

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let messages: usize = std::env::args().nth(1).map_or(Ok(30_000), |count| count.parse())?;
    println!("| batch | CPU us a message | wall us a message |\n| ---: | ---: | ---: |");
    for size in BATCHES {
        let messages = messages.min(size * 1_000);
        let folder = tempfile::tempdir()?;
        let store = SqlStore::open(StoreOptions::new(folder.path())).await?;
        let batches = batches(messages, size);
        let (cpu, started) = (cpu_us()?, Instant::now());
        for batch in &batches {
            store.commit(batch, Durability::Os).await?;
        }
        let per_message = |us: f64| us / messages as f64;
        let wall = per_message(started.elapsed().as_secs_f64() * 1e6);
        println!("| {size} | {:.1} | {wall:.1} |", per_message(cpu_us()? - cpu));
        store.close().await?;
    }
    Ok(())
}

/// This process's user and system time. The clock ticks are 10 ms on every Linux that matters.
fn cpu_us() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? * 10_000.0)
}

/// Made before the clock starts: making messages is not the store's work.
fn batches(messages: usize, size: usize) -> Vec<LedgerBatch> {
    let mut batches = Vec::with_capacity(messages / size + 1);
    let mut before: Vec<Arc<MessageRecord>> = Vec::new();
    for first in (0..messages).step_by(size) {
        let accept: Vec<Arc<MessageRecord>> =
            (first..first + size).map(|n| Arc::new(message(n))).collect();
        let settle = before.iter().map(|message| settlement(message)).collect();
        let delivered = before.iter().map(|m| (m.device, offset_of(m))).collect();
        before = accept.clone();
        batches.push(LedgerBatch { accept, settle, delivered });
    }
    batches
}

fn message(n: usize) -> MessageRecord {
    let number = i64::try_from(n).unwrap_or(0);
    let phone = n % PHONES;
    let device = i64::try_from(phone).unwrap_or(0) + 1;
    MessageRecord {
        id: MessageId((1 << 50) + number),
        device: DeviceKey(device),
        room: Some(RoomKey(device * 3)),
        room_name: Arc::from(format!("room number {phone}")),
        channel_id: Arc::from(format!("{}", 18_000_000_000_000_000 + device)),
        log_id: Some(format!("{}", 3_000_000_000_000_000_000 + number).into()),
        sender: "Somebody Kim".into(),
        user_hash: Some("a1b2c3d4e5f60718".into()),
        text: format!("# echo hello world {n}").into(),
        is_group_chat: true,
        is_mention: false,
        received_at: Timestamp(1_700_000_000_000 + number),
        state: MessageState::Pending,
        failure: "".into(),
    }
}

fn offset_of(message: &MessageRecord) -> Offset {
    let number = usize::try_from(message.id.0 - (1 << 50)).unwrap_or(0);
    Offset((number / PHONES + 1) as u64)
}

fn settlement(message: &MessageRecord) -> Settlement {
    let reply = ReplyRecord {
        device: message.device,
        offset: offset_of(message),
        message: Some(message.id),
        at: message.received_at,
        reply: Arc::new(PhoneReply {
            room: Arc::clone(&message.room_name),
            channel_id: Arc::clone(&message.channel_id),
            body: ReplyBody::Text(message.text.clone()),
            scheduled: false,
        }),
    };
    Settlement {
        message: Some(message.id),
        state: MessageState::Done,
        failure: "".into(),
        replies: vec![reply],
        keyed: None,
    }
}
