//! The bytes of a file on their way, with a watchdog.

use super::refusal::Asked;
use super::send::host_of;
use super::{Hub, HubError, headers};
use crate::ident::{Commit, RelPath, RepoId, Revision};
use bytes::{Buf, Bytes};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE};
use reqwest::{Response, StatusCode, Url};
use std::ops::Range;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// What is kept as it is in one name of an address.
pub(super) const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A file on the Hub, and where the Hub sends its readers: it is asked once for all the ranges of a file.
#[derive(Debug)]
pub struct Place {
    repo: RepoId,
    revision: Revision,
    path: RelPath,
    size: u64,
    address: Url,
    /// Locked while the Hub is asked, so that the file's other connections wait for the answer.
    leads_to: Mutex<Option<Url>>,
}

/// Some bytes of a file.
#[derive(Debug)]
pub struct Body {
    response: Response,
    /// Whether the server sends the whole file, though it was asked for a range.
    whole_instead: bool,
    /// Bytes that are dropped first.
    skip: u64,
    host: String,
    thing: String,
    no_progress: Duration,
    url: Url,
}

impl Place {
    fn asked(&self) -> Asked<'_> {
        Asked { repo: &self.repo, revision: &self.revision, path: Some(self.path.as_str()) }
    }
}

impl Hub {
    /// Where a file of a commit is, as far as it is known without asking.
    pub fn place(&self, repo: &RepoId, commit: &Commit, path: &RelPath, size: u64) -> Result<Place, HubError> {
        let revision = commit_revision(commit);
        let names: Vec<String> =
            path.as_str().split('/').map(|name| utf8_percent_encode(name, KEPT).to_string()).collect();
        let asked = Asked { repo, revision: &revision, path: Some(path.as_str()) };
        let address = self.address(&format!("{repo}/resolve/{commit}/{}", names.join("/")), asked)?;
        let (repo, path) = (repo.clone(), path.clone());
        Ok(Place { repo, revision, path, size, address, leads_to: Mutex::new(None) })
    }

    /// Opens some bytes of a file. No range is asked for where these are all of them.
    pub async fn open(&self, place: &Place, span: Range<u64>) -> Result<Body, HubError> {
        let range = Some(&span).filter(|span| **span != (0..place.size));
        let mut leads_to = place.leads_to.lock().await;
        if let Some(url) = leads_to.clone() {
            drop(leads_to);
            match self.send(url.clone(), range, place.asked()).await {
                Err(error) if url != place.address && is_expired(&error) => {}
                answer => return self.body(answer?, place, range),
            }
            // The signature has expired, as a rule: the Hub gives a new one, to the first that sees it.
            leads_to = place.leads_to.lock().await;
            if leads_to.as_ref() == Some(&url) {
                *leads_to = None;
            }
            if let Some(url) = leads_to.clone() {
                drop(leads_to);
                return self.body(self.send(url, range, place.asked()).await?, place, range);
            }
        }
        let response = self.send(place.address.clone(), range, place.asked()).await?;
        *leads_to = Some(response.url().clone());
        drop(leads_to);
        self.body(response, place, range)
    }

    fn body(&self, response: Response, place: &Place, range: Option<&Range<u64>>) -> Result<Body, HubError> {
        let (url, thing) = (response.url().clone(), place.asked().thing());
        let host = host_of(&url);
        match check(&response, range, place.size) {
            Ok(()) => {
                let whole_instead = range.is_some() && response.status() == StatusCode::OK;
                let skip = range.filter(|_| whole_instead).map_or(0, |range| range.start);
                Ok(Body { response, whole_instead, skip, host, thing, no_progress: self.limits.no_progress, url })
            }
            Err(why) => Err(HubError::Nonsense { host, thing, why }),
        }
    }
}

/// Whether another host's answer may be due to an address that is out of date.
fn is_expired(error: &HubError) -> bool {
    match error {
        HubError::Server { status, .. } => (400..500).contains(status),
        other => !other.is_transient(),
    }
}

/// An error if the answer fits no question of ours.
fn check(response: &Response, range: Option<&Range<u64>>, size: u64) -> Result<(), String> {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(encoding) = header(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(format!("the body is encoded as {encoding:?} though it was asked not to be"));
    }
    match (response.status(), range) {
        // The whole file, whatever was asked for.
        (StatusCode::OK, _) => Ok(()),
        (StatusCode::PARTIAL_CONTENT, Some(range)) => {
            let said = header(CONTENT_RANGE).unwrap_or_default();
            let fits = headers::content_range(said).is_some_and(|(first, last, total)| {
                first == range.start
                    && last.checked_add(1) == Some(range.end)
                    && total.is_none_or(|total| total == size)
            });
            // Fewer bytes than that are counted when they end.
            let why = || format!("range {said:?} for bytes {} to {} of {size}", range.start, range.end);
            if fits { Ok(()) } else { Err(why()) }
        }
        (other, _) => Err(format!("status {other}")),
    }
}

fn commit_revision(commit: &Commit) -> Revision {
    // Forty hex digits are a valid revision by every rule of Revision's.
    commit.to_string().parse().unwrap_or_else(|_| Revision::main())
}

impl Body {
    /// Whether the server sends the whole file, though it was asked for a range.
    pub fn is_whole_instead(&self) -> bool {
        self.whole_instead
    }

    /// Of a whole file, begins at another byte than was asked for.
    pub fn begin_at(&mut self, byte: u64) {
        self.skip = byte;
    }

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
