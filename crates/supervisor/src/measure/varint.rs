//! Numbers in as few bytes as they need: seven bits a byte, the lowest first. Reading is bounded and
//! never panics.

/// Appends `value`: 1 to 10 bytes.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Takes a number off the front of `bytes`; `None` if there is no whole one, or it has more than 64 bits.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if shift == 63 && low > 1 {
            return None;
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Small numbers of either sign as small numbers: 0, -1, 1, -2 become 0, 1, 2, 3.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The reverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_number_comes_back(value: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, zigzag(value));
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take(&mut rest).map(unzigzag), Some(value));
            prop_assert!(rest.is_empty() && bytes.len() <= 10);
        }
    }

    #[test]
    fn numbers_that_are_cut_off_or_too_long_are_refused() {
        for mut bad in [&[][..], &[0x80], &[0xff; 10], &[0x80; 40]] {
            assert_eq!(take(&mut bad), None);
        }
    }
}
