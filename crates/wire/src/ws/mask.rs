//! Masks (RFC 6455, section 5.3): an exclusive or with four bytes that repeat.

/// Unmasks `bytes` in place. `mask` is that of the first of them; what comes back is the mask for the
/// byte after the last, so that a payload can be unmasked as it arrives.
pub(crate) fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // Whole words, which the compiler turns into vector instructions without any unsafe of ours.
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (index, byte) in rest.iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
    let mut next = mask;
    next.rotate_left(rest.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::unmask;

    #[test]
    fn unmasking_in_pieces_is_unmasking_at_once() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let masked: Vec<u8> = (0..=255).collect();
        let expected: Vec<u8> =
            masked.iter().enumerate().map(|(index, byte)| byte ^ mask[index % 4]).collect();
        for cut in 0..masked.len() {
            let mut bytes = masked.clone();
            let (first, second) = bytes.split_at_mut(cut);
            let next = unmask(first, mask);
            unmask(second, next);
            assert_eq!(bytes, expected, "cut at {cut}");
        }
    }
}
