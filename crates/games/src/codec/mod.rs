//! The protocols as pure functions over bytes: no sockets, no clocks. Each reads what a stranger sent, so
//! each has a fuzz target and takes no length from the wire without comparing it with what is there.

pub mod a2s;
pub mod bedrock;
pub mod econ;
mod json;
pub mod listing;
pub mod luanti;
pub mod management;
pub mod palworld;
pub mod quake3;
pub mod query;
pub mod rcon;
pub mod slp;
pub mod teeworlds;
pub mod teeworlds6;

use crate::limits::COMMAND_BYTES_MAX;

/// What every command of a line protocol must be: with a line break a second command would ride along.
pub fn one_line(command: &str) -> Result<(), &'static str> {
    if command.trim().is_empty() {
        return Err("the command is empty");
    }
    if command.len() > COMMAND_BYTES_MAX {
        return Err("the command is longer than 4,000 bytes");
    }
    if command.chars().any(char::is_control) {
        return Err("a command is one line without control characters");
    }
    Ok(())
}

/// Bytes of a vector.
#[cfg(test)]
fn hex(raw: &str) -> Vec<u8> {
    let digits: Vec<u8> = raw.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}
