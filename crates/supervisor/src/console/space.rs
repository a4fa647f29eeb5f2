//! The disk that a console uses. A game writes into its console's file all the time and cannot be asked to stop, so
//! the file is never moved or copied: the system is told to give back the blocks of its oldest part. Whoever reads
//! it keeps its place, nothing that was not read is lost, and nothing is written to do it.

use std::fs::File;
use std::io;

use crate::host;

/// A file's length may not grow for ever, even if hardly any of it is on the disk (ext4: 16 TiB).
const LENGTH_BYTES_MAX: u64 = 1 << 40;

/// How much disk a file used, and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Before.
    pub before_bytes: u64,
    /// Now.
    pub after_bytes: u64,
}

/// Gives the oldest part of a file back to the disk when it uses more than `bytes_max`, so that half of that is
/// left. `file` must be open for writing. Where the file system cannot do that, the file is emptied. May be called
/// by several processes at once. Takes some tens of microseconds, without waiting for the disk.
pub fn trim(file: &File, bytes_max: u64) -> io::Result<Space> {
    let (length, before_bytes) = host::length_and_space(file)?;
    if before_bytes <= bytes_max && length <= LENGTH_BYTES_MAX {
        return Ok(Space { before_bytes, after_bytes: before_bytes });
    }
    let old = length.saturating_sub(bytes_max / 2);
    if length > LENGTH_BYTES_MAX || host::give_back(file, old).is_err() {
        // Its writers append, so they go on at the new end.
        file.set_len(0)?;
    }
    let (_, after_bytes) = host::length_and_space(file)?;
    Ok(Space { before_bytes, after_bytes })
}
