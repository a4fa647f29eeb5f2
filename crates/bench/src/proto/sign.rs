//! Who a phone claims to be, and the signature over that claim.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The value of `clientType` in every script.
pub(crate) const CLIENT_TYPE: &str = "MessengerBotR";

/// What a phone says about itself in every frame.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) bot: String,
    pub(crate) device_id: String,
    pub(crate) device_uuid: String,
    pub(crate) mac_address: String,
    /// The phone's own address on the socket, as it sees it.
    pub(crate) ip_address: String,
    /// Brand, model and Android version; part of the long handshakes.
    pub(crate) device_info: String,
}

impl Identity {
    /// An ordinary phone: the UUID equals the device id, the MAC is the one Android hands out.
    pub(crate) fn new(bot: &str, device_id: &str, ip_address: &str) -> Identity {
        Identity {
            bot: bot.to_owned(),
            device_id: device_id.to_owned(),
            device_uuid: device_id.to_owned(),
            mac_address: "02:00:00:00:00:00".to_owned(),
            ip_address: ip_address.to_owned(),
            device_info: "naru simulated (Android 13, API 33)".to_owned(),
        }
    }
}

/// Signs with one pair of secret and salt. Has no `Debug`: both are secrets.
#[derive(Clone)]
pub(crate) struct Signer {
    keyed: Hmac<Sha256>,
    salt: String,
}

impl Signer {
    pub(crate) fn new(secret: &str, salt: &str) -> Signer {
        let keyed = Hmac::new_from_slice(secret.as_bytes())
            .expect("invariant: HMAC takes keys of any length");
        Signer { keyed, salt: salt.to_owned() }
    }

    /// 64 lower-case hex digits over the identity and the time at which the frame was made.
    pub(crate) fn sign(&self, identity: &Identity, timestamp_ms: u64) -> String {
        let mut mac = self.keyed.clone();
        let timestamp = timestamp_ms.to_string();
        let parts = [
            CLIENT_TYPE,
            &identity.bot,
            &identity.device_uuid,
            &identity.mac_address,
            &identity.ip_address,
            &timestamp,
            &self.salt,
        ];
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                mac.update(b"|");
            }
            mac.update(part.as_bytes());
        }
        hex(&mac.finalize().into_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
