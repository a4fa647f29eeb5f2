//! The delivery journal: how far each phone's stream was handed to its socket, one small write to the
//! operating system each time. Knows no database; the store reads it when it recovers.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use naru_domain::metrics::{Counter, MetricSink, MetricSource};
use naru_domain::ports::{DeliveryJournal, StoreError};
use naru_domain::{DeviceKey, Offset};
use tracing::warn;

use crate::sqlite::io_error;

/// One slot per device: the offset and its check, both little endian. Slots never cross a disk sector.
const SLOT_BYTES: usize = 16;
/// The highest slot: 1 GiB of (sparse) file.
const SLOT_MAX: u64 = 1 << 26;

/// The journal in `delivered.journal` of a data folder. It survives the death of the process, not the
/// loss of power: then the store's own figures count, and a reply may be sent once more.
pub struct DeliveryJournalFile {
    file: File,
    path: PathBuf,
    writes: Counter,
    errors: Counter,
    damaged: Counter,
    complained: AtomicBool,
}

impl DeliveryJournalFile {
    /// Opens the journal of `data_dir`, creating it if it is missing.
    pub fn open(data_dir: &Path) -> Result<DeliveryJournalFile, StoreError> {
        let path = data_dir.join("delivered.journal");
        let opened =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = opened.map_err(|error| io_error(&error, &path))?;
        Ok(DeliveryJournalFile {
            file,
            path,
            writes: Counter::default(),
            errors: Counter::default(),
            damaged: Counter::default(),
            complained: AtomicBool::new(false),
        })
    }

    /// What is recorded, by device. Slots that were torn or damaged are left out and counted.
    pub fn recorded(&self) -> Result<Vec<(DeviceKey, Offset)>, StoreError> {
        // A second handle: reading must not move a position that anybody else relies on.
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| io_error(&error, &self.path))?;
        let mut recorded = Vec::new();
        for (slot, bytes) in (0u64..).zip(bytes.chunks(SLOT_BYTES)) {
            if bytes.iter().all(|byte| *byte == 0) {
                continue; // Never written.
            }
            match (decode(slot, bytes), i64::try_from(slot)) {
                (Some(offset), Ok(key)) => recorded.push((DeviceKey(key), offset)),
                _ => self.damaged.increment(),
            }
        }
        let damaged = self.damaged.get();
        if damaged > 0 {
            warn!(target: "naru::store", damaged, "slots of the delivery journal are damaged");
        }
        Ok(recorded)
    }

    fn complain(&self, error: &std::io::Error) {
        self.errors.increment();
        if !self.complained.swap(true, Relaxed) {
            let path = self.path.display();
            warn!(target: "naru::store", %error, %path, "delivery journal cannot be written");
        }
    }
}

impl DeliveryJournal for DeliveryJournalFile {
    fn record(&self, device: DeviceKey, offset: Offset) {
        let Some(slot) = u64::try_from(device.0).ok().filter(|slot| *slot <= SLOT_MAX) else {
            return self.complain(&std::io::Error::other("the device's number is out of range"));
        };
        let at = slot * SLOT_BYTES as u64;
        match write_at(&self.file, &encode(slot, offset), at) {
            Ok(()) => self.writes.increment(),
            Err(error) => self.complain(&error),
        }
    }
}

impl MetricSource for DeliveryJournalFile {
    fn collect(&self, sink: &mut dyn MetricSink) {
        let counters = [
            ("journal_writes", "Offsets recorded before a write to a socket.", &self.writes),
            ("journal_errors", "Offsets that could not be recorded.", &self.errors),
            ("journal_damaged_slots", "Slots that did not pass their check.", &self.damaged),
        ];
        for (name, help, counter) in counters {
            sink.counter(name, help, &[], counter.get());
        }
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt as _;
    match file.seek_write(bytes, at)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(std::io::ErrorKind::WriteZero.into()),
    }
}

fn encode(slot: u64, offset: Offset) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&offset.0.to_le_bytes());
    bytes[8..].copy_from_slice(&check_of(slot, offset.0).to_le_bytes());
    bytes
}

fn decode(slot: u64, bytes: &[u8]) -> Option<Offset> {
    let offset = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let check = u64::from_le_bytes(bytes.get(8..SLOT_BYTES)?.try_into().ok()?);
    // What the store can hold; a larger one was never recorded.
    (check == check_of(slot, offset) && i64::try_from(offset).is_ok()).then_some(Offset(offset))
}

/// The finalizer of SplitMix64 over both, so that a torn write or a slot in the wrong place shows. The
/// constant keeps an empty slot from passing.
fn check_of(slot: u64, offset: u64) -> u64 {
    let mut mixed = offset ^ slot.rotate_left(40) ^ 0x9e37_79b9_7f4a_7c15;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_last_is_read_after_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let journal = DeliveryJournalFile::open(dir.path()).unwrap();
        journal.record(DeviceKey(1), Offset(5));
        journal.record(DeviceKey(7), Offset(9));
        journal.record(DeviceKey(1), Offset(4));
        journal.record(DeviceKey(2), Offset(0));
        drop(journal);
        let journal = DeliveryJournalFile::open(dir.path()).unwrap();
        let expected =
            [(DeviceKey(1), Offset(4)), (DeviceKey(2), Offset(0)), (DeviceKey(7), Offset(9))];
        assert_eq!(journal.recorded().unwrap(), expected);
    }

    #[test]
    fn torn_flipped_and_moved_slots_are_left_out_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let journal = DeliveryJournalFile::open(dir.path()).unwrap();
        for key in 1..=4 {
            journal.record(DeviceKey(key), Offset(100));
        }
        let path = dir.path().join("delivered.journal");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[16] ^= 1; // Device 1: a flipped bit.
        bytes.copy_within(48..64, 32); // Device 2: another slot's bytes.
        bytes.truncate(4 * 16 + 9); // Device 4: torn at the end of the file.
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(journal.recorded().unwrap(), [(DeviceKey(3), Offset(100))]);
        assert_eq!(journal.damaged.get(), 3);
        journal.record(DeviceKey(1), Offset(101));
        assert_eq!(journal.recorded().unwrap()[0], (DeviceKey(1), Offset(101)));
    }

    #[test]
    fn an_impossible_device_is_counted_and_harms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let journal = DeliveryJournalFile::open(dir.path()).unwrap();
        journal.record(DeviceKey(-1), Offset(1));
        journal.record(DeviceKey(i64::MAX), Offset(1));
        assert_eq!(journal.errors.get(), 2);
        assert_eq!(journal.recorded().unwrap(), []);
    }
}
