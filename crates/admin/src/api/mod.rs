//! The handlers, one module a subject: each holds the shapes that cross the wire, the conversions from
//! the domain's records, the handlers, and its rows of the route table.

pub(crate) mod accounts;
pub(crate) mod audit;
pub(crate) mod bots;
pub(crate) mod chat;
pub(crate) mod dead_letters;
pub(crate) mod devices;
pub(crate) mod login;
pub(crate) mod logs;
pub(crate) mod messages;
pub(crate) mod monitors;
pub(crate) mod node;
pub(crate) mod recurrence;
pub(crate) mod reply;
pub(crate) mod rooms;
pub(crate) mod schedules;
pub(crate) mod send;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod wards;
pub(crate) mod watch;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use naru_domain::Approval;
use serde::{Deserialize, Deserializer, Serialize};

use crate::control::ControlError;
use crate::error::{ApiError, Code};

/// One page of a list.
#[derive(Serialize)]
pub(crate) struct Listed<T> {
    items: Vec<T>,
    /// Send it as `after` for the next page; null on the last one.
    next: Option<String>,
}

impl<T: Serialize> Listed<T> {
    /// A page that was filled up to `limit` may have a next one after `last`, the key of its last row.
    pub(crate) fn page(items: Vec<T>, limit: usize, last: Option<String>) -> Json<Listed<T>> {
        let next = last.filter(|_| items.len() >= limit);
        Json(Listed { items, next })
    }

    /// The same for rows that were narrowed after they were read: the page may be short, yet not last.
    pub(crate) fn narrowed(
        items: Vec<T>,
        rows_read: usize,
        limit: usize,
        last: Option<String>,
    ) -> Json<Listed<T>> {
        Json(Listed { items, next: last.filter(|_| rows_read >= limit) })
    }
}

/// A record with its revision as the ETag.
pub(crate) fn tagged<T: Serialize>(revision: i64, record: T) -> Response {
    let mut response = Json(record).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Tells a field that is absent from one that is null.
pub(crate) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// The longest note of an approval, in characters.
const NOTE_CHARS_MAX: usize = 500;

pub(crate) fn check_note(note: &str) -> Result<(), ApiError> {
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(ApiError::field(format!("a note has at most {NOTE_CHARS_MAX} characters")));
    }
    Ok(())
}

pub(crate) fn approval_in_query(raw: Option<&str>) -> Result<Option<Approval>, ApiError> {
    raw.map(|raw| {
        Approval::parse(raw).ok_or_else(|| {
            ApiError::new(
                Code::BadQuery,
                "`approval` is pending, approved, denied, revoked or blocked",
            )
        })
    })
    .transpose()
}

/// Whether a device or a room may be answered.
#[derive(Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApprovalState {
    Pending,
    Approved,
    Denied,
    Revoked,
    Blocked,
}

impl From<ApprovalState> for Approval {
    fn from(state: ApprovalState) -> Approval {
        match state {
            ApprovalState::Pending => Approval::Pending,
            ApprovalState::Approved => Approval::Approved,
            ApprovalState::Denied => Approval::Denied,
            ApprovalState::Revoked => Approval::Revoked,
            ApprovalState::Blocked => Approval::Blocked,
        }
    }
}

impl From<Approval> for ApprovalState {
    fn from(approval: Approval) -> ApprovalState {
        match approval {
            Approval::Pending => ApprovalState::Pending,
            Approval::Approved => ApprovalState::Approved,
            Approval::Denied => ApprovalState::Denied,
            Approval::Revoked => ApprovalState::Revoked,
            Approval::Blocked => ApprovalState::Blocked,
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> ApiError {
        match error {
            ControlError::Store(error) => error.into(),
            ControlError::Invalid(why) => ApiError::new(Code::Refused, why),
            ControlError::Conflict(why) => ApiError::new(Code::Conflict, why),
            ControlError::Unavailable(why) => ApiError::new(Code::Unavailable, why),
        }
    }
}
