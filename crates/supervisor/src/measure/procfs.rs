//! What the files of Linux's `/proc` say, as integers. Pure, so that it is tested everywhere; allocates
//! nothing; whatever a file says, there is no panic.
//!
//! Formats: proc(5), and `Documentation/accounting/psi.rst` and `Documentation/scheduler/sched-stats.rst`
//! of the kernel.

/// The fields of `/proc/PID/stat` that we use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// `R`, `S`, `D`, `T`, `Z` and so on.
    pub(super) state: u8,
    /// User and system time of all threads, those that ended included, in clock ticks.
    pub(super) cpu_ticks: u64,
    pub(super) threads: u32,
    /// Clock ticks since boot.
    pub(super) started: u64,
    pub(super) rss_pages: u64,
}

/// Reads `/proc/PID/stat`. The name in it may hold blanks and brackets, so the last `)` counts.
pub(super) fn stat(text: &[u8]) -> Option<Stat> {
    let name_end = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = words(text.get(name_end + 1..)?);
    let state = *fields.next()?.first()?;
    // The state is field 3; utime and stime are 14 and 15.
    let mut field = |skip: usize| number(fields.nth(skip)?);
    let (user, system) = (field(10)?, field(0)?);
    let threads = field(4)?;
    let started = field(1)?;
    let rss_pages = field(1)?;
    Some(Stat {
        state,
        cpu_ticks: user.saturating_add(system),
        threads: u32::try_from(threads).ok()?,
        started,
        rss_pages,
    })
}

/// Reads `/proc/PID/schedstat`: time on a processor and time spent waiting for one, in nanoseconds.
pub(super) fn schedstat(text: &[u8]) -> Option<(u64, u64)> {
    let mut fields = words(text);
    Some((number(fields.next()?)?, number(fields.next()?)?))
}

/// Reads `/proc/PID/io`: bytes that were read from and sent towards disks.
pub(super) fn io(text: &[u8]) -> Option<(u64, u64)> {
    Some((labelled(text, b"read_bytes:")?, labelled(text, b"write_bytes:")?))
}

/// Reads the first line of `/proc/stat`: ticks that were busy, and all ticks.
pub(super) fn busy_and_all(text: &[u8]) -> Option<(u64, u64)> {
    let line = lines(text).next()?;
    let mut fields = words(line);
    if fields.next()? != b"cpu" {
        return None;
    }
    let (mut idle, mut all) = (0u64, 0u64);
    // Guest time, from the ninth on, is part of user time.
    for at in 0..8 {
        let Some(ticks) = fields.next().and_then(number) else { break };
        all = all.saturating_add(ticks);
        if at == 3 || at == 4 {
            idle = idle.saturating_add(ticks);
        }
    }
    Some((all.saturating_sub(idle), all))
}

/// Reads `/proc/meminfo`: all memory and what is available, in bytes.
pub(super) fn meminfo(text: &[u8]) -> Option<(u64, u64)> {
    let bytes = |label: &[u8]| labelled(text, label).map(|kib| kib.saturating_mul(1_024));
    Some((bytes(b"MemTotal:")?, bytes(b"MemAvailable:")?))
}

/// Reads `/proc/pressure/*`: how long some task had to wait in the last 10 s, in hundredths of a percent.
pub(super) fn pressure(text: &[u8]) -> Option<u32> {
    let line = lines(text).find(|line| line.starts_with(b"some "))?;
    let value = words(line).find_map(|word| word.strip_prefix(b"avg10="))?;
    let mut parts = value.split(|byte| *byte == b'.');
    let whole = number(parts.next()?)?;
    let hundredths = parts.next().map_or(Some(0), number)?;
    u32::try_from(whole.checked_mul(100)?.checked_add(hundredths)?).ok()
}

/// Reads the number after `label`, which begins a line.
pub(super) fn labelled(text: &[u8], label: &[u8]) -> Option<u64> {
    let line = lines(text).find(|line| line.starts_with(label))?;
    number(words(line.get(label.len()..)?).next()?)
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_process_with_a_spiteful_name_is_read_right() {
        let text = b"4242 (a) R 9 (b c) S 1 4242 4242 0 -1 4194304 900 0 3 0 250 50 7 8 20 0 31 0 \
                     987654 2147483648 12345 18446744073709551615 1 1 0 0 0 0 0 4096 81920\n";
        let expected =
            Stat { state: b'S', cpu_ticks: 300, threads: 31, started: 987_654, rss_pages: 12_345 };
        assert_eq!(stat(text), Some(expected));
        assert_eq!(stat(b"1 (x) S 1 2"), None);
        assert_eq!(stat(b"nothing"), None);
    }

    #[test]
    fn counters_are_found_where_they_stand() {
        assert_eq!(schedstat(b"1375347 102444 1\n"), Some((1_375_347, 102_444)));
        let text = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 8192\n\
                     cancelled_write_bytes: 5\n";
        assert_eq!(io(text), Some((4_096, 8_192)));
        assert_eq!(io(b"rchar: 1\n"), None);
        let text = b"cpu  100 5 50 1000 40 1 4 10 99 99\ncpu0 1 2 3\n";
        assert_eq!(busy_and_all(text), Some((170, 1_210)));
        let text = b"MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    4096 kB\n";
        assert_eq!(meminfo(text), Some((16 << 20, 4 << 20)));
        let text = b"some avg10=10.85 avg60=2.84 avg300=3.49 total=17312466514\nfull avg10=0.00\n";
        assert_eq!(pressure(text), Some(1_085));
        assert_eq!(pressure(b"full avg10=1.00\n"), None);
    }

    proptest! {
        #[test]
        fn nothing_that_a_file_says_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..400)) {
            black_box((stat(&text), schedstat(&text), io(&text), busy_and_all(&text)));
            black_box((meminfo(&text), pressure(&text)));
        }

        #[test]
        fn numbers_of_any_size_do_not_overflow(numbers in prop::collection::vec(any::<u64>(), 0..60)) {
            let text: Vec<String> = numbers.iter().map(u64::to_string).collect();
            let text = format!("1 (x) S {}\ncpu {}", text.join(" "), text.join(" "));
            let cpu = text.find('\n').unwrap() + 1;
            black_box((stat(text.as_bytes()), busy_and_all(&text.as_bytes()[cpu..])));
        }
    }
}
