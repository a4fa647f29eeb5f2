//! The archive's format: ustar records with GNU's long names, the part of tar that our backups need, and no
//! more. The reader is strict: what we would not have written is refused, so that an archive that
//! somebody prepared has few ways to surprise. No files here: bytes in, bytes out.

use std::io::{self, Read, Write};

use crate::host;

/// The unit of tar.
const BLOCK: usize = 512;
/// The longest path or link that is read or written (Linux has 4,096).
const NAME_BYTES_MAX: usize = 4_096;
/// The largest size that the octal field holds; more goes into GNU's binary form.
const OCTAL_SIZE_MAX: u64 = 0o7_777_777_777;

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading or writing failed, or the compressed data is damaged.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ends too early.
    #[error("the archive ends too early")]
    Short,
    /// A record is not what we write.
    #[error("a record is not valid: {what}")]
    Record {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A path leads out of the folder, or names nothing.
    #[error("the path `{path}` is not one inside a folder")]
    Path {
        /// The path, cut.
        path: String,
    },
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with so many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A link to this target, byte for byte.
    Link(Vec<u8>),
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path: parts separated by `/`, none of them empty, `.` or `..`.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Its rights (the lower nine bits).
    pub mode: u32,
    /// Whose it is, by number.
    pub owner: (u32, u32),
    /// When it was changed, in seconds since 1970.
    pub changed: u64,
}

/// Whether every part of a path is a plain name.
pub(super) fn is_inside(path: &[u8]) -> bool {
    let plain = |part: &[u8]| {
        let is_safe = !part.iter().any(|byte| host::NOT_IN_NAMES.contains(byte));
        !part.is_empty() && part != b"." && part != b".." && is_safe
    };
    path.len() <= NAME_BYTES_MAX
        && !path.contains(&0)
        && path.split(|byte| *byte == b'/').all(plain)
}

/// Writes an entry's record; the caller writes the content and [`pad`]s it.
pub(super) fn write_entry(out: &mut impl Write, entry: &Entry) -> Result<(), ArchiveError> {
    let mut path = entry.path.clone();
    let (tag, size, link): (u8, u64, &[u8]) = match &entry.kind {
        EntryKind::File(size) => (b'0', *size, b""),
        EntryKind::Link(target) => (b'2', 0, target),
        EntryKind::Folder => {
            path.push(b'/');
            (b'5', 0, b"")
        }
    };
    for (tag, name) in [(b'K', link), (b'L', &path)] {
        if name.len() > 100 {
            let mut long = name.to_vec();
            long.push(0);
            let size = u64::try_from(long.len()).unwrap_or(0);
            out.write_all(&record(b"././@LongLink", tag, size, b"", 0, (0, 0), 0))?;
            out.write_all(&long)?;
            pad(out, size)?;
        }
    }
    out.write_all(&record(&path, tag, size, link, entry.mode, entry.owner, entry.changed))?;
    Ok(())
}

/// Fills the last block of a content of this size.
pub(super) fn pad(out: &mut impl Write, size: u64) -> Result<(), ArchiveError> {
    out.write_all(&[0; BLOCK][..padding(size)])?;
    Ok(())
}

/// The end of an archive.
pub(super) fn write_end(out: &mut impl Write) -> Result<(), ArchiveError> {
    out.write_all(&[0; 2 * BLOCK])?;
    Ok(())
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % 512).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

fn record(
    path: &[u8],
    tag: u8,
    size: u64,
    link: &[u8],
    mode: u32,
    owner: (u32, u32),
    changed: u64,
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let put = |block: &mut [u8; BLOCK], at: usize, bytes: &[u8], max: usize| {
        let bytes = &bytes[..bytes.len().min(max)];
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(&mut block, 0, path, 100);
    number(&mut block[100..108], u64::from(mode & 0o777));
    number(&mut block[108..116], u64::from(owner.0));
    number(&mut block[116..124], u64::from(owner.1));
    number(&mut block[124..136], size);
    number(&mut block[136..148], changed);
    block[156] = tag;
    put(&mut block, 157, link, 100);
    put(&mut block, 257, b"ustar  \0", 8);
    let sum = checksum(&block);
    put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes(), 8);
    block
}

/// In octal, or where that does not fit in GNU's binary form.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if octal.len() <= digits {
        field[..digits].copy_from_slice(octal.as_bytes());
    } else {
        let start = field.len() - 8;
        // A field of eight bytes has its mark in the highest byte; ours never need that byte.
        field[start..].copy_from_slice(&value.to_be_bytes());
        field[0] |= 0x80;
    }
}

/// Over all bytes, those of the sum itself as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let byte =
        |(at, byte): (usize, &u8)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte });
    block.iter().enumerate().map(byte).sum()
}

/// Reads an archive's entries one after another.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    /// Content and padding of the current entry that were not read.
    left: u64,
    padding: usize,
}

impl<R: Read> Reader<R> {
    /// Over bytes that are not compressed any more.
    pub fn new(from: R) -> Reader<R> {
        Reader { from, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end. What was not read of the one before is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let (mut long_path, mut long_link) = (None, None);
        loop {
            self.pass_over()?;
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            if block.iter().all(|byte| *byte == 0) {
                self.fill(&mut block)?;
                let is_end = long_path.is_none() && long_link.is_none();
                return if is_end && block.iter().all(|byte| *byte == 0) {
                    Ok(None)
                } else {
                    refuse("it ends in the middle")
                };
            }
            let size = check(&block)?;
            let slot = match block[156] {
                b'L' => &mut long_path,
                b'K' => &mut long_link,
                _ => return self.entry(&block, size, long_path, long_link).map(Some),
            };
            if slot.is_some() {
                return refuse("two long names for one entry");
            }
            *slot = Some(self.long_name(size)?);
        }
    }

    /// Reads from the content of the entry that is a file; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let max = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if max == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut buffer[..max])?;
        if read == 0 {
            return Err(ArchiveError::Short);
        }
        self.left -= u64::try_from(read).unwrap_or(0);
        Ok(read)
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        size: u64,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, ArchiveError> {
        let mut path = long_path.unwrap_or_else(|| text(&block[..100]));
        let link = long_link.unwrap_or_else(|| text(&block[157..257]));
        let kind = match block[156] {
            b'0' if link.is_empty() => EntryKind::File(size),
            b'2' if size == 0 && !link.is_empty() => EntryKind::Link(link),
            b'5' if size == 0 && link.is_empty() => {
                if path.pop() != Some(b'/') {
                    return refuse("a folder without its slash");
                }
                EntryKind::Folder
            }
            _ => return refuse("a kind that backups do not have"),
        };
        if !is_inside(&path) {
            let path = String::from_utf8_lossy(&path).chars().take(100).collect();
            return Err(ArchiveError::Path { path });
        }
        (self.left, self.padding) = (size, padding(size));
        let id = |field| u32::try_from(parse(field)?).map_err(|_| wrong("an owner is too large"));
        Ok(Entry {
            path,
            kind,
            mode: id(&block[100..108])? & 0o777,
            owner: (id(&block[108..116])?, id(&block[116..124])?),
            changed: parse(&block[136..148])?,
        })
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        // With the slash of a folder and the end.
        if !(1..=NAME_BYTES_MAX + 2).contains(&length) {
            return refuse("a name that is too long");
        }
        let mut name = vec![0; length];
        self.fill(&mut name)?;
        self.padding = padding(size);
        if name.pop() != Some(0) || name.contains(&0) {
            return refuse("a long name without its end");
        }
        Ok(name)
    }

    fn pass_over(&mut self) -> Result<(), ArchiveError> {
        let mut waste = [0; 16 * BLOCK];
        while self.read(&mut waste)? > 0 {}
        let padding = std::mem::take(&mut self.padding);
        self.fill(&mut waste[..padding])
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        self.from.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Short,
            _ => ArchiveError::Io(error),
        })
    }
}

/// Checks the sum and the mark; gives the size.
fn check(block: &[u8; BLOCK]) -> Result<u64, ArchiveError> {
    if block[148..156] != *format!("{:06o}\0 ", checksum(block)).as_bytes() {
        return refuse("its checksum is wrong");
    }
    if &block[257..265] != b"ustar  \0" {
        return refuse("it is of another kind of tar");
    }
    parse(&block[124..136])
}

fn parse(field: &[u8]) -> Result<u64, ArchiveError> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let clean = if high.is_empty() {
            low[0] == 0x80
        } else {
            high[0] == 0x80 && high[1..].iter().all(|b| *b == 0)
        };
        if !clean {
            return refuse("a number is too large");
        }
        let value = low.iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
        return Ok(if high.is_empty() { value & !(0x80 << 56) } else { value });
    }
    let text = field.trim_ascii_end();
    let digits = text.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(text.len());
    let (digits, rest) = text.split_at(digits);
    if digits.is_empty() || !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return refuse("a number is not one");
    }
    digits.iter().try_fold(0_u64, |all, digit| match digit {
        b'0'..=b'7' => Ok(all * 8 + u64::from(digit - b'0')),
        _ => refuse("a number is not octal"),
    })
}

fn text(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn wrong(what: &'static str) -> ArchiveError {
    ArchiveError::Record { what }
}

fn refuse<T>(what: &'static str) -> Result<T, ArchiveError> {
    Err(wrong(what))
}

const _: () = assert!(OCTAL_SIZE_MAX < u64::MAX);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &[u8], size: u64) -> Entry {
        let kind = EntryKind::File(size);
        Entry {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            owner: (1_000, 1_001),
            changed: 1_700_000_000,
        }
    }

    fn written(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (entry, content) in entries {
            write_entry(&mut out, entry).unwrap();
            out.extend_from_slice(content);
            pad(&mut out, content.len() as u64).unwrap();
        }
        write_end(&mut out).unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, ArchiveError> {
        let mut reader = Reader::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let (mut content, mut buffer) = (Vec::new(), [0; 700]);
            loop {
                match reader.read(&mut buffer)? {
                    0 => break,
                    read => content.extend_from_slice(&buffer[..read]),
                }
            }
            entries.push((entry, content));
        }
        Ok(entries)
    }

    #[test]
    fn a_path_that_leads_outside_or_hides_something_is_refused() {
        let nasty: [&[u8]; 9] =
            [b"", b"/etc/passwd", b"../x", b"a/../../x", b"a/..", b"a//b", b"./a", b"a/.", b"a\0b"];
        for path in nasty {
            let read = read(&written(&[(file(path, 0), b"")]));
            // A zero ends the name in the record, and what is left is another one.
            let is_cut = path == b"a\0b" && read.as_ref().is_ok_and(|all| all[0].0.path == b"a");
            assert!(is_cut || matches!(read, Err(ArchiveError::Path { .. })), "{path:?}: {read:?}");
        }
        let long = [b"a/".repeat(60), b"../../x".to_vec()].concat();
        assert!(matches!(read(&written(&[(file(&long, 0), b"")])), Err(ArchiveError::Path { .. })));
    }

    #[test]
    fn kinds_that_we_do_not_write_are_refused() {
        for tag in [b'1', b'3', b'4', b'6', b'7', b'x', b'g', b'S', b'V', 0] {
            let mut bytes = written(&[(file(b"a", 0), b"")]);
            bytes[156] = tag;
            let block: &[u8; BLOCK] = bytes[..BLOCK].try_into().unwrap();
            let sum = format!("{:06o}\0 ", checksum(block));
            bytes[148..156].copy_from_slice(sum.as_bytes());
            assert!(matches!(read(&bytes), Err(ArchiveError::Record { .. })), "{tag}");
        }
    }

    #[test]
    fn any_flipped_bit_of_a_record_is_found_and_any_cut_is_too() {
        let bytes = written(&[(file(b"a/b", 5), b"hello")]);
        for bit in 0..BLOCK * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "bit {bit}");
        }
        for cut in 0..4 * BLOCK {
            assert!(matches!(read(&bytes[..cut]), Err(ArchiveError::Short)), "{cut}");
        }
    }

    #[test]
    fn sizes_beyond_the_octal_field_come_back() {
        for value in
            [0, OCTAL_SIZE_MAX, OCTAL_SIZE_MAX * 8 + 7, OCTAL_SIZE_MAX * 8 + 8, u64::MAX >> 1]
        {
            let mut field = [0; 12];
            number(&mut field, value);
            assert_eq!(parse(&field).unwrap(), value);
        }
        for value in [0, 0o7_777_777, 0o10_000_000, u64::from(u32::MAX)] {
            let mut field = [0; 8];
            number(&mut field, value);
            assert_eq!(parse(&field).unwrap(), value);
        }
    }

    #[test]
    fn the_corpus_of_ward_archives_is_told_apart() {
        // Its files were written by another program: Python's tarfile.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/ward_archive");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let read = read(&std::fs::read(entry.path()).unwrap());
            assert_eq!(read.is_ok(), name.starts_with("good"), "{name}: {read:?}");
            count += 1;
        }
        assert!(count >= 6);
    }

    fn entries() -> impl Strategy<Value = (Entry, Vec<u8>)> {
        let path = proptest::collection::vec("[a-z가-힣 .\\n\\\\]{1,40}x", 1..6);
        let content = proptest::collection::vec(any::<u8>(), 0..2_000);
        let rest = (0_u32..0o1000, any::<(u32, u32)>(), 0_u64..1 << 40);
        (path, 0_u8..3, content, rest).prop_map(|(path, kind, content, (mode, owner, changed))| {
            let (kind, content) = match kind {
                0 => (EntryKind::File(content.len() as u64), content),
                1 => (EntryKind::Folder, Vec::new()),
                _ => (EntryKind::Link(b"../".repeat(content.len() % 99 + 1)), Vec::new()),
            };
            (Entry { path: path.join("/").into_bytes(), kind, mode, owner, changed }, content)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(entries in proptest::collection::vec(entries(), 0..8)) {
            let borrowed: Vec<_> = entries.iter().map(|(e, c)| (e.clone(), &c[..])).collect();
            prop_assert_eq!(read(&written(&borrowed)).unwrap(), entries);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            drop(read(&bytes));
        }
    }
}
