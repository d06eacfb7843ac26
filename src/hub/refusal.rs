//! The table of errors: what a status and the Hub's own headers mean (hub-protocol 1.3). The header decides before the status.

use super::error::Fault;
use super::{Hub, HubError, headers};
use crate::format::outcome::shorten;
use crate::ident::{RepoId, Revision};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

/// What a request asks for, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) repo: &'a RepoId,
    pub(super) revision: &'a Revision,
    pub(super) path: Option<&'a str>,
}

impl Asked<'_> {
    pub(super) fn thing(&self) -> String {
        match self.path {
            Some(path) => format!("the file {path} of {}", self.repo),
            None => format!("{} at {}", self.repo, self.revision),
        }
    }
}

/// The longest of the server's own words that a message repeats, in bytes.
const DETAIL_MAX_BYTES: usize = 200;

/// The server's own words, made harmless: one short line without control characters.
pub(super) fn harmless(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shorten(line.trim(), DETAIL_MAX_BYTES)
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| harmless(&String::from_utf8_lossy(value.as_bytes()))).unwrap_or_default()
}

impl Hub {
    /// The login that is used, for messages.
    pub(super) fn who(&self) -> String {
        match &self.login {
            Some(login) => format!("{login:?}"),
            None => "anonymous access (no token is set)".to_owned(),
        }
    }

    /// What an answer that is no success means. `own` is false for another host that the Hub redirected to.
    pub(super) fn refusal(
        &self,
        asked: Asked<'_>,
        host: &str,
        own: bool,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> HubError {
        let code = header(headers, "x-error-code");
        let words = header(headers, "x-error-message");
        // What the Hub's operators ask for when somebody complains.
        let id = ["x-request-id", "x-amzn-trace-id", "x-amz-cf-id"].iter().map(|name| header(headers, name));
        let id = id.into_iter().find(|id| !id.is_empty()).map(|id| format!("request {id}"));
        let said: Vec<String> =
            [Some(words.clone()).filter(|words| !words.is_empty()), id].into_iter().flatten().collect();
        let detail = if said.is_empty() { String::new() } else { format!(" ({})", said.join(", ")) };
        let host = host.to_owned();
        let retry_after = headers::pause(headers);
        let server = |detail| HubError::Server {
            host: host.clone(),
            status: status.as_u16(),
            thing: asked.thing(),
            detail,
            retry_after,
        };
        match status.as_u16() {
            429 => return HubError::RateLimited { host, retry_after },
            407 => return HubError::Network { host, fault: Fault::Proxy, cause: "407, it wants a login".into() },
            408 | 416 | 500..=599 => return server(detail),
            // Another host's 403 is an expired signature, as a rule: asking the Hub again gives a fresh one.
            _ if !own => return server(detail),
            _ => {}
        }
        self.client_error(asked, &code, &words, status.as_u16()).unwrap_or_else(|| HubError::Nonsense {
            host,
            thing: asked.thing(),
            why: format!("status {status}{detail}"),
        })
    }

    fn client_error(&self, asked: Asked<'_>, code: &str, words: &str, status: u16) -> Option<HubError> {
        let endpoint = self.endpoint.clone();
        let repo = asked.repo.to_string();
        let who = self.who();
        let detail = if words.is_empty() { String::new() } else { format!(" ({words})") };
        let repo_not_found =
            || HubError::RepoNotFound { repo: repo.clone(), endpoint: endpoint.clone(), who: who.clone() };
        let revision_not_found = || HubError::RevisionNotFound {
            repo: repo.clone(),
            endpoint: endpoint.clone(),
            revision: asked.revision.to_string(),
        };
        let file_not_found = |path: &str| HubError::FileNotFound {
            repo: repo.clone(),
            endpoint: endpoint.clone(),
            path: path.to_owned(),
        };
        let unauthorized = || HubError::Unauthorized {
            repo: repo.clone(),
            endpoint: endpoint.clone(),
            who: who.clone(),
            detail: detail.clone(),
        };
        match (code, status, asked.path) {
            ("RepoNotFound", _, _) => Some(repo_not_found()),
            ("GatedRepo", _, _) => Some(HubError::Gated { repo, endpoint, who }),
            ("RevisionNotFound", _, _) => Some(revision_not_found()),
            ("EntryNotFound", _, path) => Some(file_not_found(path.unwrap_or("its file list"))),
            (_, 401, _) if words.contains("Invalid credentials") => Some(unauthorized()),
            (_, 403, _) => Some(unauthorized()),
            (_, 404 | 410, Some(path)) => Some(file_not_found(path)),
            // Mirrors say 404 without a code. A revision that somebody asked for is the likelier mistake.
            (_, 404 | 410, None) if asked.revision.as_str() != Revision::DEFAULT => Some(revision_not_found()),
            // Anonymous readers of a repo that is private or is not there get 401.
            (_, 401, _) | (_, 404 | 410, None) => Some(repo_not_found()),
            _ => None,
        }
    }
}
