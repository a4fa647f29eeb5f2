//! Archives of wards' files: never a panic, and no path leads out of a folder.

#![no_main]

use libfuzzer_sys::fuzz_target;
use naru_supervisor::backup::Reader;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    let mut buffer = [0; 700];
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(!entry.path.starts_with(b"/") && !entry.path.contains(&0));
        assert!(
            entry.path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
        );
        while reader.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
});
