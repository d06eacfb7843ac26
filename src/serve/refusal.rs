//! Every way to say no, as the Hub says it: status, `X-Error-Code`, `X-Error-Message`. Pure.

use crate::ident::Commit;
use axum::Json;
use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_RANGE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;

pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
pub(super) const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
pub(super) const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");

/// The words by which the Hub's own client knows a bad token.
const BAD_TOKEN: &str = "Invalid credentials in Authorization header";
/// The longest message that is sent, in bytes: it repeats what the client sent.
const MESSAGE_MAX_BYTES: usize = 400;

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No such repo.
    #[error("Repository not found: {id} is not served here")]
    RepoNotFound { id: String },
    /// The repo has no such revision.
    #[error("Invalid rev id: {revision}. Served here: {}", known.join(", "))]
    RevisionNotFound { revision: String, known: Vec<String> },
    /// The commit has no such file.
    #[error("Entry not found: {path}")]
    EntryNotFound { path: String, commit: Commit },
    /// This server asks for a token, and none came. The Hub hides what it does not show.
    #[error("Repository not found, or it needs a token")]
    NoToken,
    /// Another token than this server's.
    #[error("{BAD_TOKEN}")]
    BadToken,
    /// An address that a Hub has not, or that this server does not know.
    #[error("Not found: this server knows models only, and only to read them")]
    NoSuchAddress,
    /// A parameter that makes no sense.
    #[error("Bad request: {why}")]
    BadRequest { why: &'static str },
    /// Only reading is possible.
    #[error("Method not allowed: this Hub is read-only")]
    Method { allow: &'static str },
    /// The range lies outside the file.
    #[error("Range not satisfiable: the file has {size} bytes")]
    Range { size: u64 },
    /// A file is not what it was when it was hashed.
    #[error("the file changed on disk after it was hashed, so it is not served")]
    Changed,
    /// Something else on this side.
    #[error("internal error: see the server's log")]
    Internal,
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::RepoNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::EntryNotFound { .. }
            | Self::NoSuchAddress => StatusCode::NOT_FOUND,
            Self::NoToken | Self::BadToken => StatusCode::UNAUTHORIZED,
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Changed | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The Hub's own word, where it has one.
    pub(super) fn code(&self) -> Option<&'static str> {
        match self {
            Self::RepoNotFound { .. } | Self::NoToken => Some("RepoNotFound"),
            Self::RevisionNotFound { .. } => Some("RevisionNotFound"),
            Self::EntryNotFound { .. } => Some("EntryNotFound"),
            Self::BadToken
            | Self::NoSuchAddress
            | Self::BadRequest { .. }
            | Self::Method { .. }
            | Self::Range { .. }
            | Self::Changed
            | Self::Internal => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let message = crate::format::outcome::shorten(&self.to_string(), MESSAGE_MAX_BYTES);
        let mut response = (self.status(), Json(serde_json::json!({"error": message}))).into_response();
        let headers = response.headers_mut();
        // A client may send any bytes as a path, but a header may not hold them.
        let plain: String = message.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
        if let Ok(value) = HeaderValue::from_str(&plain) {
            headers.insert(ERROR_MESSAGE, value);
        }
        if let Some(code) = self.code() {
            headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        }
        match self {
            Self::EntryNotFound { commit, .. } => {
                headers.extend(HeaderValue::from_str(&commit.to_string()).ok().map(|value| (REPO_COMMIT, value)));
            }
            Self::NoToken | Self::BadToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"modelcache\""));
            }
            Self::Method { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Range { size } => {
                let value = HeaderValue::from_str(&format!("bytes */{size}"));
                headers.extend(value.ok().map(|value| (CONTENT_RANGE, value)));
            }
            Self::RepoNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::NoSuchAddress
            | Self::BadRequest { .. }
            | Self::Changed
            | Self::Internal => {}
        }
        // The answer to a HEAD must not claim the length of a body that is not a file's.
        headers.remove(CONTENT_LENGTH);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_speak_as_the_hub_does() {
        let refusal = Refusal::EntryNotFound { path: "ü\r\nx: y".into(), commit: "1".repeat(40).parse().unwrap() };
        let response = refusal.into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[ERROR_CODE], "EntryNotFound");
        assert_eq!(response.headers()[REPO_COMMIT], "1".repeat(40));
        assert_eq!(response.headers()[ERROR_MESSAGE], "Entry not found: ???x: y");
    }

    #[test]
    fn a_bad_token_is_told_from_none() {
        let bad = Refusal::BadToken.into_response();
        assert_eq!((bad.status().as_u16(), bad.headers().get(ERROR_CODE)), (401, None));
        assert_eq!(bad.headers()[ERROR_MESSAGE], BAD_TOKEN);
        assert_eq!(Refusal::NoToken.into_response().headers()[ERROR_CODE], "RepoNotFound");
    }
}
