//! The `auth` object of a frame and its HMAC-SHA256 signature.
//!
//! It says whether a signature is right. Whether it is fresh, or was seen before, is the gateway's
//! question: the signature covers neither a nonce nor the content of its frame.

use std::borrow::Cow;
use std::fmt;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use naru_domain::Timestamp;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Who signed a frame, and when. All fields are exactly as sent; what was left out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth<'a> {
    /// `MessengerBotR`.
    pub client_type: Cow<'a, str>,
    /// The bot's name.
    pub bot_name: Cow<'a, str>,
    /// The app's device id.
    pub device_uuid: Cow<'a, str>,
    /// The Android id. **Not signed.**
    pub device_id: Cow<'a, str>,
    /// The Wi-Fi address.
    pub mac_address: Cow<'a, str>,
    /// The address the phone believes it has.
    pub ip_address: Cow<'a, str>,
    /// When the frame was made, Unix time in ms: the plain decimal integer that was signed.
    pub timestamp: Cow<'a, str>,
    /// The script's version. **Not signed.**
    pub version: Cow<'a, str>,
    /// 64 lower-case hex digits, or empty when the phone failed to sign.
    pub signature: Cow<'a, str>,
}

impl Auth<'_> {
    /// When the frame was made, if the phone said so.
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp.parse().ok().map(Timestamp)
    }

    /// The signature as bytes, if it has the right form. Serves as the key of a replay filter.
    #[must_use]
    pub fn signature_bytes(&self) -> Option<[u8; 32]> {
        let digits: &[u8; 64] = self.signature.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
        }
        Some(bytes)
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The secret and salt that a phone's script holds. Its `Debug` shows neither.
#[derive(Clone)]
pub struct SigningKey {
    /// The state after the key was mixed in, cloned for each check.
    keyed: Hmac<Sha256>,
    salt: Box<str>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// The key of the script constants `SECRET_KEY` and `BOT_SPECIFIC_SALT`, used as they are.
    #[must_use]
    pub fn new(secret: &str, salt: &str) -> SigningKey {
        let keyed = Hmac::new_from_slice(secret.as_bytes())
            .expect("invariant: HMAC takes a key of any length");
        SigningKey { keyed, salt: Box::from(salt) }
    }

    /// Whether this key signed `auth`. The comparison takes the same time wherever they differ.
    #[must_use]
    pub fn verify(&self, auth: &Auth<'_>) -> bool {
        let Some(claimed) = auth.signature_bytes() else { return false };
        self.digest(auth).ct_eq(&claimed).into()
    }

    /// The signature of `auth`: 64 lower-case hex digits. The field `signature` is not read.
    #[must_use]
    pub fn sign(&self, auth: &Auth<'_>) -> String {
        let mut hex = String::with_capacity(64);
        for byte in self.digest(auth) {
            hex.push(char::from(HEX_DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(HEX_DIGITS[usize::from(byte & 15)]));
        }
        hex
    }

    fn digest(&self, auth: &Auth<'_>) -> [u8; 32] {
        let parts: [&str; 7] = [
            &auth.client_type,
            &auth.bot_name,
            &auth.device_uuid,
            &auth.mac_address,
            &auth.ip_address,
            &auth.timestamp,
            &self.salt,
        ];
        let mut mac = self.keyed.clone();
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                mac.update(b"|");
            }
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
