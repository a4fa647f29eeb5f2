//! What the API says when it does not do what was asked: one stable code per reason, and how errors
//! of the ports become such codes. The request id is added at the edge, which alone knows it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use naru_domain::ports::StoreError;

/// Why a request was not done. The label is a contract with clients; the message is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Code {
    BadJson,
    BadField,
    BadQuery,
    BadPath,
    BadCursor,
    BotRequired,
    TokenInUrl,
    Unauthorized,
    BadCredentials,
    Forbidden,
    OutOfScope,
    NotFound,
    NoSuchRoute,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    LastAdmin,
    TooLarge,
    UnsupportedMediaType,
    Refused,
    RateLimited,
    LockedOut,
    Internal,
    StoreDamaged,
    StoreFailed,
    StoreBusy,
    StoreFull,
    StoreReadOnly,
    Overloaded,
    Unavailable,
    TimedOut,
    NotReady,
}

impl Code {
    /// All of them, for the docs.
    pub(crate) const ALL: [Code; 32] = [
        Code::BadJson,
        Code::BadField,
        Code::BadQuery,
        Code::BadPath,
        Code::BadCursor,
        Code::BotRequired,
        Code::TokenInUrl,
        Code::Unauthorized,
        Code::BadCredentials,
        Code::Forbidden,
        Code::OutOfScope,
        Code::NotFound,
        Code::NoSuchRoute,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::Conflict,
        Code::LastAdmin,
        Code::TooLarge,
        Code::UnsupportedMediaType,
        Code::Refused,
        Code::RateLimited,
        Code::LockedOut,
        Code::Internal,
        Code::StoreDamaged,
        Code::StoreFailed,
        Code::StoreBusy,
        Code::StoreFull,
        Code::StoreReadOnly,
        Code::Overloaded,
        Code::Unavailable,
        Code::TimedOut,
        Code::NotReady,
    ];

    /// The status, the label, and what the caller can do about it.
    pub(crate) fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Code::BadJson => (400, "bad_json", "the body is not valid JSON: correct it"),
            Code::BadField => (400, "bad_field", "a field is missing, unknown or out of range"),
            Code::BadQuery => (400, "bad_query", "a query parameter is unknown or out of range"),
            Code::BadPath => (400, "bad_path", "the id in the path is not a number or a name"),
            Code::BadCursor => (400, "bad_cursor", "`after` did not come from an earlier answer"),
            Code::BotRequired => {
                (400, "bot_required", "this token has several bots: name one with `bot`")
            }
            Code::TokenInUrl => (
                400,
                "token_in_url",
                "tokens in addresses end up in logs: use the Authorization header, and revoke it",
            ),
            Code::Unauthorized => (401, "unauthorized", "no token, or it is not valid any more"),
            Code::BadCredentials => (401, "bad_credentials", "name and password do not match"),
            Code::Forbidden => (403, "forbidden", "the role does not suffice"),
            Code::OutOfScope => (403, "out_of_scope", "the token is limited to other bots"),
            Code::NotFound => (404, "not_found", "there is no such record"),
            Code::NoSuchRoute => (404, "no_such_route", "there is nothing at this address"),
            Code::MethodNotAllowed => (405, "method_not_allowed", "the method does not fit"),
            Code::RequestTimeout => (408, "request_timeout", "the body took too long to arrive"),
            Code::Conflict => (409, "conflict", "it was changed meanwhile: read it again"),
            Code::LastAdmin => (409, "last_admin", "the last admin account must stay"),
            Code::TooLarge => (413, "too_large", "the body is larger than the limit"),
            Code::UnsupportedMediaType => {
                (415, "unsupported_media_type", "send `Content-Type: application/json`")
            }
            Code::Refused => (422, "refused", "the content was understood but cannot be done"),
            Code::RateLimited => (429, "rate_limited", "too many requests: see Retry-After"),
            Code::LockedOut => (429, "locked_out", "too many failed logins: see Retry-After"),
            Code::Internal => (500, "internal", "a defect: report it with the request id"),
            Code::StoreDamaged => (500, "store_damaged", "restore a backup of the database"),
            Code::StoreFailed => (500, "store_failed", "a defect: report it with the request id"),
            Code::StoreBusy => (503, "store_busy", "try again after a pause"),
            Code::StoreFull => (503, "store_full", "free space on the server's disk"),
            Code::StoreReadOnly => (503, "store_read_only", "the database cannot be written"),
            Code::Overloaded => (503, "overloaded", "a queue is full: try again after a pause"),
            Code::Unavailable => (503, "unavailable", "it cannot be done now: try again"),
            Code::TimedOut => (503, "timed_out", "the work took too long: try again"),
            Code::NotReady => (503, "not_ready", "the server starts or drains: try again"),
        }
    }

    /// The stable name.
    pub(crate) fn label(self) -> &'static str {
        self.parts().1
    }

    fn status(self) -> StatusCode {
        StatusCode::from_u16(self.parts().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// A request that was not done.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    /// Why.
    pub(crate) code: Code,
    /// For people; no secrets, nothing from other people's requests.
    pub(crate) message: String,
    /// When to try again, in seconds.
    pub(crate) retry_after: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> ApiError {
        let retry_after = (code.parts().0 == 503).then_some(1);
        ApiError { code, message: message.into(), retry_after }
    }

    /// The code's own explanation as the message.
    pub(crate) fn plain(code: Code) -> ApiError {
        ApiError::new(code, code.parts().2)
    }

    pub(crate) fn field(message: impl Into<String>) -> ApiError {
        ApiError::new(Code::BadField, message)
    }

    pub(crate) fn after(mut self, seconds: u64) -> ApiError {
        self.retry_after = Some(seconds.max(1));
        self
    }
}

/// What the edge needs to write the body of an error.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"naru\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response.extensions_mut().insert(Problem { code: self.code, message: self.message });
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let code = match &error {
            StoreError::Busy { .. } => Code::StoreBusy,
            StoreError::Full { .. } => Code::StoreFull,
            StoreError::ReadOnly { .. } => Code::StoreReadOnly,
            StoreError::Corrupt { .. } => Code::StoreDamaged,
            StoreError::Conflict => Code::Conflict,
            StoreError::NotFound => Code::NotFound,
            StoreError::Failed { .. } => Code::StoreFailed,
        };
        if matches!(code, Code::StoreDamaged | Code::StoreFailed) {
            tracing::error!(target: "naru::admin", %error, "store failed");
        }
        // The engine's own words may carry paths: they go to the log, not to the client.
        ApiError::plain(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_label_and_a_valid_status() {
        let mut labels: Vec<_> = Code::ALL.iter().map(|code| code.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.status().as_u16(), code.parts().0);
        }
    }
}
