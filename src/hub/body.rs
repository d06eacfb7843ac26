//! The bytes of a file on their way, with a watchdog.

use super::refusal::Asked;
use super::send::host_of;
use super::{Hub, HubError, headers};
use crate::ident::{Commit, RelPath, RepoId, Revision};
use bytes::{Buf, Bytes};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE};
use reqwest::{Response, StatusCode, Url};
use std::time::Duration;
use tokio::time::timeout;

/// What is kept as it is in one name of an address.
pub(super) const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A file's body from some byte on.
#[derive(Debug)]
pub struct Body {
    response: Response,
    /// Bytes that are dropped first, because the server ignored the range.
    skip: u64,
    host: String,
    thing: String,
    no_progress: Duration,
    url: Url,
}

impl Hub {
    /// Opens a file of `size` bytes from the byte `from` on. A server that ignores ranges costs the bytes before it again.
    pub async fn open(
        &self,
        repo: &RepoId,
        commit: &Commit,
        path: &RelPath,
        from: u64,
        size: u64,
    ) -> Result<Body, HubError> {
        let revision: Revision = commit_revision(commit);
        let asked = Asked { repo, revision: &revision, path: Some(path.as_str()) };
        let names: Vec<String> =
            path.as_str().split('/').map(|name| utf8_percent_encode(name, KEPT).to_string()).collect();
        let url = self.address(&format!("{repo}/resolve/{commit}/{}", names.join("/")), asked)?;
        let response = self.send(url, from, asked).await?;
        let url = response.url().clone();
        let host = host_of(&url);
        let skip = skipped(&response, from, size).map_err(|why| HubError::Nonsense {
            host: host.clone(),
            thing: asked.thing(),
            why,
        })?;
        Ok(Body { response, skip, host, thing: asked.thing(), no_progress: self.limits.no_progress, url })
    }
}

/// How many bytes come before the one that was asked for; an error if the answer fits no question of ours.
fn skipped(response: &Response, from: u64, size: u64) -> Result<u64, String> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(encoding) = header(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(format!("the body is encoded as {encoding:?} though it was asked not to be"));
    }
    match response.status() {
        // The whole file, whatever was asked for.
        StatusCode::OK => Ok(from),
        StatusCode::PARTIAL_CONTENT if from > 0 => {
            let range = header(CONTENT_RANGE).unwrap_or_default();
            match headers::content_range(range) {
                Some((first, last, total))
                    if first == from
                        && last.checked_add(1) == Some(size)
                        && total.is_none_or(|total| total == size) =>
                {
                    Ok(0)
                }
                _ => Err(format!("range {range:?} for bytes {from} to {size}")),
            }
        }
        other => Err(format!("status {other}")),
    }
}

fn commit_revision(commit: &Commit) -> Revision {
    // Forty hex digits are a valid revision by every rule of Revision's.
    commit.to_string().parse().unwrap_or_else(|_| Revision::main())
}

impl Body {
    /// The next piece; none at the end.
    pub async fn next(&mut self, hub: &Hub) -> Result<Option<Bytes>, HubError> {
        loop {
            let piece = match timeout(self.no_progress, self.response.chunk()).await {
                Ok(piece) => piece.map_err(|error| hub.network(&self.url, error))?,
                Err(_) => return Err(self.stalled()),
            };
            let Some(mut piece) = piece else { return Ok(None) };
            if self.skip > 0 {
                let dropped = self.skip.min(piece.len() as u64);
                self.skip -= dropped;
                piece.advance(usize::try_from(dropped).unwrap_or(piece.len()));
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// The error of a body that ended early.
    pub fn short(&self, got: u64, expected: u64) -> HubError {
        HubError::Short { host: self.host.clone(), thing: self.thing.clone(), got, expected }
    }

    fn stalled(&self) -> HubError {
        HubError::Stalled { host: self.host.clone(), thing: self.thing.clone(), after: self.no_progress }
    }
}
