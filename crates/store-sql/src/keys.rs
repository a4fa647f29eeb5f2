//! Encryption at rest of what people wrote: XChaCha20-Poly1305 with key ids, so that keys can rotate.
//! Knows nothing of tables: callers say what a text belongs to, and it opens nowhere else.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use naru_domain::ports::StoreError;

/// Bytes before the ciphertext: the key's id and the nonce.
const HEADER_BYTES: usize = 4 + NONCE_BYTES;
const NONCE_BYTES: usize = 24;

/// The keys for texts at rest. New rows use the current one; older ones stay readable.
#[derive(Clone)]
pub struct MasterKeys {
    current: (u32, XChaCha20Poly1305),
    older: Vec<(u32, XChaCha20Poly1305)>,
}

impl MasterKeys {
    /// Keys by id. Ids are chosen by the operator and must never be used for another key again. The
    /// caller keeps and wipes its own copies.
    #[must_use]
    pub fn new(current: (u32, [u8; 32]), older: Vec<(u32, [u8; 32])>) -> MasterKeys {
        let cipher = |(id, key): (u32, [u8; 32])| (id, XChaCha20Poly1305::new((&key).into()));
        MasterKeys { current: cipher(current), older: older.into_iter().map(cipher).collect() }
    }

    fn key(&self, id: u32) -> Option<&XChaCha20Poly1305> {
        std::iter::once(&self.current)
            .chain(&self.older)
            .find(|(known, _)| *known == id)
            .map(|k| &k.1)
    }

    /// Encrypts `plain` so that it opens only for the same `owner`. The nonce is random: 192 bits are
    /// enough for as many as anybody writes.
    pub(crate) fn seal(&self, plain: &[u8], owner: &[u8]) -> Result<Vec<u8>, StoreError> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let (id, cipher) = &self.current;
        let sealed = cipher
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: owner })
            .map_err(|_| failed("a text could not be encrypted"))?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + sealed.len());
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(bytes)
    }
}

/// Decrypts what [`MasterKeys::seal`] made.
pub(crate) fn open(
    keys: Option<&MasterKeys>,
    sealed: &[u8],
    owner: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let damaged = || StoreError::Corrupt {
        reason: "an encrypted text is damaged or was moved to another row".to_owned(),
    };
    let (header, body) = sealed.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
    let (id, nonce) = header.split_at(4);
    let id = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
    let cipher = keys.and_then(|keys| keys.key(id)).ok_or_else(|| StoreError::Failed {
        reason: format!(
            "a text is encrypted with key {id}, which is not configured: add it to the older keys"
        ),
    })?;
    cipher
        .decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: owner })
        .map_err(|_| damaged())
}

fn failed(reason: &str) -> StoreError {
    StoreError::Failed { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_with_the_same_owner_only() {
        let keys = MasterKeys::new((1, [7; 32]), Vec::new());
        let sealed = keys.seal(b"hello", b"messages:1").unwrap();
        assert_eq!(open(Some(&keys), &sealed, b"messages:1").unwrap(), b"hello");
        let moved = open(Some(&keys), &sealed, b"messages:2");
        assert!(matches!(moved, Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_rotated_key_still_opens_what_it_sealed() {
        let old = MasterKeys::new((1, [7; 32]), Vec::new());
        let sealed = old.seal(b"hello", b"x").unwrap();
        let new = MasterKeys::new((2, [8; 32]), vec![(1, [7; 32])]);
        assert_eq!(open(Some(&new), &sealed, b"x").unwrap(), b"hello");
        assert_eq!(&new.seal(b"hello", b"x").unwrap()[..4], &[2, 0, 0, 0]);
    }

    #[test]
    fn a_missing_key_is_named_and_any_flipped_bit_is_found() {
        let keys = MasterKeys::new((9, [7; 32]), Vec::new());
        let sealed = keys.seal(b"hello", b"x").unwrap();
        let missing = open(None, &sealed, b"x").unwrap_err();
        assert!(missing.to_string().contains("key 9"), "{missing}");
        for bit in 32..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(Some(&keys), &flipped, b"x").is_err(), "bit {bit}");
        }
        assert!(open(Some(&keys), &sealed[..10], b"x").is_err());
    }
}
