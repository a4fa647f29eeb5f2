//! Signatures over what is sent: `t=<unix seconds>,v1=<hex hmac-sha256 of "t.body">`. During a
//! rotation two secrets sign, so that the receiver may change its own at any moment in between.

use std::fmt;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use naru_domain::Timestamp;
use sha2::Sha256;

/// Secrets of one target. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    current: Box<[u8]>,
    previous: Option<Box<[u8]>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Secrets {
    /// One secret, used as it is (UTF-8 bytes).
    #[must_use]
    pub fn new(current: &str) -> Secrets {
        Secrets { current: current.as_bytes().into(), previous: None }
    }

    /// Signs with the one that is on its way out, too.
    #[must_use]
    pub fn with_previous(mut self, previous: &str) -> Secrets {
        self.previous = Some(previous.as_bytes().into());
        self
    }

    /// The value of the `Naru-Signature` header for this body, now.
    #[must_use]
    pub fn sign(&self, now: Timestamp, body: &[u8]) -> String {
        let seconds = now.0.div_euclid(1000);
        let mut header = format!("t={seconds}");
        for secret in std::iter::once(&self.current).chain(&self.previous) {
            header.push_str(",v1=");
            push_hex(&mut header, &mac(secret, seconds, body).finalize().into_bytes());
        }
        header
    }

    /// Whether a header was made with one of these secrets over this body, at most `age_max` away from
    /// `now`. The same check that receivers make, for tests and for Rust receivers.
    #[must_use]
    pub fn verify(
        &self,
        header: &str,
        body: &[u8],
        now: Timestamp,
        age_max: std::time::Duration,
    ) -> bool {
        let mut seconds = None;
        let mut signatures = Vec::new();
        for part in header.split(',') {
            match part.split_once('=') {
                Some(("t", value)) => seconds = value.parse::<i64>().ok(),
                Some(("v1", value)) => signatures.push(value),
                // Later versions of the scheme may add parts.
                _ => {}
            }
        }
        let Some(seconds) = seconds else { return false };
        let age_ms = now.0.abs_diff(seconds.saturating_mul(1000));
        if u128::from(age_ms) > age_max.as_millis() {
            return false;
        }
        signatures.iter().filter_map(|text| from_hex(text)).any(|signature| {
            std::iter::once(&self.current)
                .chain(&self.previous)
                .any(|secret| mac(secret, seconds, body).verify_slice(&signature).is_ok())
        })
    }
}

fn mac(secret: &[u8], seconds: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret).expect("invariant: HMAC takes keys of any length");
    mac.update(seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "{byte:02x}").expect("invariant: writing to a String cannot fail");
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_767_225_600_123);
    const AGE: Duration = Duration::from_secs(300);

    #[test]
    fn the_header_is_the_one_in_the_guide() {
        // The vector in docs/guide/webhooks.md and in the tests of both examples.
        let header = Secrets::new("testsecret").sign(NOW, br#"{"event":"message"}"#);
        assert_eq!(
            header,
            "t=1767225600,v1=b01ee30da8ed3f84d7f8acb6f2d35250686454e2b69550f757f14f6b2ca8397a"
        );
    }

    #[test]
    fn during_a_rotation_both_secrets_verify() {
        let header = Secrets::new("new").with_previous("old").sign(NOW, b"body");
        assert_eq!(header.matches("v1=").count(), 2);
        for secret in ["new", "old"] {
            assert!(Secrets::new(secret).verify(&header, b"body", NOW, AGE), "{secret}");
        }
        assert!(!Secrets::new("other").verify(&header, b"body", NOW, AGE));
    }

    #[test]
    fn another_body_another_time_and_broken_headers_do_not_verify() {
        let secrets = Secrets::new("secret");
        let header = secrets.sign(NOW, b"body");
        assert!(!secrets.verify(&header, b"Body", NOW, AGE));
        assert!(!secrets.verify(&header, b"body", NOW.plus(Duration::from_secs(301)), AGE));
        assert!(!secrets.verify(&header, b"body", NOW.minus(Duration::from_secs(301)), AGE));
        let moved = header.replace("t=1767225600", "t=1767225601");
        assert!(!secrets.verify(&moved, b"body", NOW, AGE));
        for broken in ["", "t=", "v1=", "t=1767225600", "t=1767225600,v1=é", "t=1767225600,v1=0"] {
            assert!(!secrets.verify(broken, b"body", NOW, AGE), "{broken}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let secrets = Secrets::new("hush").with_previous("hush-old");
        assert!(!format!("{secrets:?}").contains("hush"));
    }
}
