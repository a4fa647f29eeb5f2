//! Deltas in Fossil's format: how to make one byte string out of another that the reader has.
//!
//! A delta is the target's length and a line end, then commands, without anything between them: `L@O,`
//! copies L bytes of the base from O on, `L:` is followed by L bytes to insert, and `C;` ends it with
//! the target's checksum. Numbers are written in base 64.

use std::collections::HashMap;

/// The unit that is looked up in the base: shorter likeness is not worth a copy.
const BLOCK_BYTES: usize = 16;
/// Blocks of the base that start with the same bytes and are tried for one place of the target. Without
/// a bound a base that repeats itself would cost the product of both lengths.
const CANDIDATES_MAX: usize = 16;
/// The digits of numbers, the smallest first.
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Makes a delta that turns `base` into `target`, or `None` if it would not be smaller than `target`.
#[must_use]
pub fn create(base: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    write(base, target, Cut::Anywhere)
}

/// Like [`create`] for a delta that must be text itself: it never cuts a character in two. `None` also
/// if `target` is no text.
#[must_use]
pub fn create_text(base: &[u8], target: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(target).ok()?;
    let delta = write(base, target, Cut::BetweenCharacters(text))?;
    // Copies hold digits only and inserts are whole characters, so this never fails.
    String::from_utf8(delta).ok()
}

/// Why a delta cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It does not follow the format.
    #[error("the delta is malformed")]
    Malformed,
    /// It copies from outside of the base.
    #[error("the delta copies from outside of its base")]
    OutsideBase,
    /// The target is longer than allowed.
    #[error("the target of the delta is too large")]
    TooLarge,
    /// The target is not what it should be: the delta belongs to another base.
    #[error("the delta belongs to another base")]
    WrongTarget,
}

/// Turns `base` into the target of `delta`, which may have `target_bytes_max` bytes.
pub fn apply(base: &[u8], delta: &[u8], target_bytes_max: usize) -> Result<Vec<u8>, DeltaError> {
    let mut reader = Reader { rest: delta };
    let target_bytes = reader.size()?;
    if reader.byte()? != b'\n' {
        return Err(DeltaError::Malformed);
    }
    if target_bytes > target_bytes_max {
        return Err(DeltaError::TooLarge);
    }
    let mut target = Vec::new();
    loop {
        let number = reader.number()?;
        let command = reader.byte()?;
        let piece = match command {
            b'@' => {
                let from = reader.size()?;
                if reader.byte()? != b',' {
                    return Err(DeltaError::Malformed);
                }
                let end = usize::try_from(number).ok().and_then(|count| from.checked_add(count));
                base.get(from..end.ok_or(DeltaError::OutsideBase)?)
                    .ok_or(DeltaError::OutsideBase)?
            }
            b':' => reader.bytes(number)?,
            b';' => {
                let is_whole = target.len() == target_bytes && reader.rest.is_empty();
                let is_right = is_whole && u64::from(checksum(&target)) == number;
                return if is_right { Ok(target) } else { Err(DeltaError::WrongTarget) };
            }
            _ => return Err(DeltaError::Malformed),
        };
        if piece.len() > target_bytes - target.len() {
            return Err(DeltaError::WrongTarget);
        }
        target.extend_from_slice(piece);
    }
}

/// Where a run of inserted bytes may begin and end.
#[derive(Clone, Copy)]
enum Cut<'a> {
    Anywhere,
    BetweenCharacters(&'a str),
}

/// Part of the base that stands in the target as well.
#[derive(Clone, Copy)]
struct Likeness {
    base_from: usize,
    target_from: usize,
    bytes: usize,
}

fn write(base: &[u8], target: &[u8], cut: Cut<'_>) -> Option<Vec<u8>> {
    // A shorter target has no room for a copy.
    if target.len() <= BLOCK_BYTES || base.len() < BLOCK_BYTES {
        return None;
    }
    let index = Index::new(base);
    let mut delta = Vec::with_capacity(target.len() / 4);
    put_number(&mut delta, target.len() as u64);
    delta.push(b'\n');
    let mut written = 0;
    let mut at = 0;
    while at + BLOCK_BYTES <= target.len() {
        let found = index.longest(target, at, written);
        let Some(likeness) = found.and_then(|found| trim(found, cut)) else {
            at += 1;
            continue;
        };
        put_insert(&mut delta, &target[written..likeness.target_from]);
        put_number(&mut delta, likeness.bytes as u64);
        delta.push(b'@');
        put_number(&mut delta, likeness.base_from as u64);
        delta.push(b',');
        written = likeness.target_from + likeness.bytes;
        at = written;
        if delta.len() >= target.len() {
            return None;
        }
    }
    put_insert(&mut delta, &target[written..]);
    put_number(&mut delta, checksum(target).into());
    delta.push(b';');
    (delta.len() < target.len()).then_some(delta)
}

/// Shrinks a copy until what stands around it may be cut there, if enough of it is left.
fn trim(mut likeness: Likeness, cut: Cut<'_>) -> Option<Likeness> {
    if let Cut::BetweenCharacters(text) = cut {
        let from = text.ceil_char_boundary(likeness.target_from);
        let to = text.floor_char_boundary(likeness.target_from + likeness.bytes);
        likeness.base_from += from - likeness.target_from;
        likeness.bytes = to.saturating_sub(from);
        likeness.target_from = from;
    }
    // A character has at most four bytes, so a whole block leaves enough to be worth it.
    (likeness.bytes > BLOCK_BYTES / 2).then_some(likeness)
}

/// The blocks of a base by their bytes.
struct Index<'a> {
    base: &'a [u8],
    blocks: HashMap<[u8; BLOCK_BYTES], Vec<usize>>,
}

impl<'a> Index<'a> {
    fn new(base: &'a [u8]) -> Index<'a> {
        let mut blocks: HashMap<_, Vec<usize>> = HashMap::with_capacity(base.len() / BLOCK_BYTES);
        let (whole, _rest) = base.as_chunks::<BLOCK_BYTES>();
        for (number, block) in whole.iter().enumerate() {
            let places = blocks.entry(*block).or_default();
            if places.len() < CANDIDATES_MAX {
                places.push(number * BLOCK_BYTES);
            }
        }
        Index { base, blocks }
    }

    /// The longest likeness around the block at `at` that does not reach before `floor`.
    fn longest(&self, target: &[u8], at: usize, floor: usize) -> Option<Likeness> {
        let block: [u8; BLOCK_BYTES] = target.get(at..at + BLOCK_BYTES)?.try_into().ok()?;
        let places = self.blocks.get(&block)?;
        let grown = places.iter().map(|&place| self.grow(target, at, place, floor));
        grown.max_by_key(|likeness| likeness.bytes)
    }

    fn grow(&self, target: &[u8], at: usize, place: usize, floor: usize) -> Likeness {
        let ahead = self.base[place..].iter().zip(&target[at..]);
        let ahead = ahead.take_while(|(old, new)| old == new).count();
        let behind = self.base[..place].iter().rev().zip(target[floor..at].iter().rev());
        let behind = behind.take_while(|(old, new)| old == new).count();
        Likeness { base_from: place - behind, target_from: at - behind, bytes: behind + ahead }
    }
}

fn put_insert(delta: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_number(delta, bytes.len() as u64);
        delta.push(b':');
        delta.extend_from_slice(bytes);
    }
}

fn put_number(delta: &mut Vec<u8>, mut number: u64) {
    // Six bits a digit, so eleven digits for the largest.
    let mut digits = [0; 11];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[usize::from(number.to_le_bytes()[0] & 63)];
        number >>= 6;
        if number == 0 {
            break;
        }
    }
    delta.extend_from_slice(&digits[at..]);
}

/// The sum of all big-endian words, the last one filled up with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(u32::from_be_bytes(*word)));
    sum.wrapping_add(u32::from_be_bytes(last))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, DeltaError> {
        let (&first, rest) = self.rest.split_first().ok_or(DeltaError::Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    fn bytes(&mut self, count: u64) -> Result<&'a [u8], DeltaError> {
        let count = usize::try_from(count).map_err(|_error| DeltaError::Malformed)?;
        let (piece, rest) = self.rest.split_at_checked(count).ok_or(DeltaError::Malformed)?;
        self.rest = rest;
        Ok(piece)
    }

    fn size(&mut self) -> Result<usize, DeltaError> {
        usize::try_from(self.number()?).map_err(|_error| DeltaError::Malformed)
    }

    /// A number has at least one digit.
    fn number(&mut self) -> Result<u64, DeltaError> {
        let mut number: u64 = 0;
        let mut rest = self.rest;
        while let Some(value) = rest.first().and_then(|&digit| value_of(digit)) {
            if number >> 58 != 0 {
                return Err(DeltaError::Malformed);
            }
            number = number << 6 | value;
            rest = &rest[1..];
        }
        if rest.len() == self.rest.len() {
            return Err(DeltaError::Malformed);
        }
        self.rest = rest;
        Ok(number)
    }
}

fn value_of(digit: u8) -> Option<u64> {
    Some(u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'A'..=b'Z' => digit - b'A' + 10,
        b'_' => 36,
        b'a'..=b'z' => digit - b'a' + 37,
        b'~' => 63,
        _ => return None,
    }))
}
