//! Calls of the application over the server API: the same hook that clients' calls reach, asked by nobody's
//! connection.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use naru_domain::ports::{Caller, Refusal};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Fault, NOT_AVAILABLE, Outcome};
use crate::services::Chat;

/// A call of the application.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RpcBody {
    /// What is called.
    #[serde(default)]
    method: String,
    /// Any JSON, passed on byte for byte.
    #[schema(value_type = Object)]
    params: Option<Box<RawValue>>,
}

pub(super) async fn rpc(chat: &Chat, body: &RpcBody) -> Outcome {
    let backend = chat.backend.as_ref().filter(|backend| backend.events().rpc);
    let backend = backend.ok_or(NOT_AVAILABLE)?;
    let caller = Caller { transport: "server_api", protocol: "json", ..Caller::default() };
    let params = body.params.as_ref().map_or_else(Bytes::new, |raw| raw.get().to_owned().into());
    let answered = backend.rpc(&caller, &body.method, params).await.map_err(|refusal| {
        let (code, message) = match refusal {
            Refusal::Error { code, message, .. } => (code, message),
            Refusal::Disconnect { code, reason } => (code, reason),
        };
        Fault(code, Cow::Owned(message))
    })?;
    if answered.is_empty() {
        return Ok(json!({}));
    }
    Ok(match serde_json::from_slice::<&RawValue>(&answered) {
        Ok(data) => json!({ "data": data }),
        Err(_) => json!({ "b64data": STANDARD.encode(&answered) }),
    })
}
