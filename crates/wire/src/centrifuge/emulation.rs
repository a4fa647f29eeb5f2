//! What a client posts whose stream goes one way only: a frame of commands, and whose they are.

use bytes::Bytes;
use prost::Message;

use super::{DecodeError, Protocol, json_in};

/// Commands for a session that is open elsewhere.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct EmulationRequest {
    /// The node that holds the session.
    #[prost(string, tag = "1")]
    pub node: String,
    /// The session's secret.
    #[prost(string, tag = "2")]
    pub session: String,
    /// A frame, in the session's encoding.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

// Whoever knows the session can speak for it.
impl std::fmt::Debug for EmulationRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let EmulationRequest { node, session: _, data } = self;
        let mut f = f.debug_struct("EmulationRequest");
        f.field("node", node).field("data", data).finish_non_exhaustive()
    }
}

/// Reads the body of a request. Its size is the caller's to bound.
///
/// # Errors
/// `Malformed`: it is neither JSON nor Protobuf of this shape. `Empty`: it says nothing, or for nobody.
pub fn decode_emulation(protocol: Protocol, body: &Bytes) -> Result<EmulationRequest, DecodeError> {
    let request = match protocol {
        Protocol::Json => json_in::read_emulation(body)?,
        Protocol::Protobuf => {
            EmulationRequest::decode(body.clone()).map_err(|_error| DecodeError::Malformed)?
        }
    };
    if request.session.is_empty() || request.data.is_empty() {
        return Err(DecodeError::Empty);
    }
    Ok(request)
}
