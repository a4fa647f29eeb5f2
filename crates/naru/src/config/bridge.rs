//! What can be configured of the listener for phones, with its defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Secret, Size, Span};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ApprovalPolicy {
    Manual,
    Auto,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bridge {
    pub(crate) listen: SocketAddr,
    pub(crate) ping_interval: Span,
    pub(crate) handshake_timeout: Span,
    pub(crate) idle_timeout: Span,
    pub(crate) write_timeout: Span,
    pub(crate) approve_devices: ApprovalPolicy,
    pub(crate) approve_rooms: ApprovalPolicy,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) attempts_per_minute: usize,
    pub(crate) frames_per_second: u32,
    pub(crate) frames_burst: u32,
    pub(crate) max_frame_bytes: Size,
    pub(crate) max_text_units: usize,
    pub(crate) pad_frames_to: usize,
    pub(crate) tls_certificate: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) keys: BTreeMap<String, BridgeKey>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BridgeKey {
    pub(crate) secret: Secret,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) salt: Secret,
    pub(crate) previous_secret: Secret,
    pub(crate) previous_salt: Secret,
}

impl Default for Bridge {
    fn default() -> Bridge {
        Bridge {
            listen: SocketAddr::from(([127, 0, 0, 1], 1490)),
            ping_interval: Span::seconds(30),
            handshake_timeout: Span::seconds(10),
            idle_timeout: Span::seconds(300),
            write_timeout: Span::seconds(120),
            approve_devices: ApprovalPolicy::Manual,
            approve_rooms: ApprovalPolicy::Manual,
            connections_max: 1_000,
            connections_per_address: 1_000,
            attempts_per_minute: 6_000,
            frames_per_second: 2_000,
            frames_burst: 5_000,
            max_frame_bytes: Size(1 << 20),
            max_text_units: 65_000,
            pad_frames_to: 512,
            tls_certificate: None,
            tls_key: None,
            keys: BTreeMap::new(),
        }
    }
}
