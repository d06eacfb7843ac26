//! An archive on its way to a server, by PUT.
//!
//! A body cannot be sent a second time, so retries and redirects are the caller's: it makes the archive anew for each request.

use super::access;
use super::auth::Auth;
use super::refusal::harmless;
use super::send::{REDIRECTS_MAX, host_of, redirect};
use super::{AccessError, Attempts, HubError, Limits, error, headers};
use crate::format::task::{ArchiveUrl, HubAccess};
use crate::ident::Reason;
use bytes::Bytes;
use futures::stream;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Client, Response, StatusCode, Url};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// The most of an answer's body that is read, in bytes: its first words say what is wrong.
const ANSWER_MAX_BYTES: usize = 4096;

/// Why a server did not take an archive. Each message names the thing, the cause and the next step, and no signature.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The address is none. It may hold a signature, so it is not repeated.
    #[error("the archive's address cannot be written to: it must begin with `https://` or `http://` and name a host")]
    Address,
    /// No request could be made.
    #[error(transparent)]
    Access(AccessError),
    /// The network between here and there.
    #[error(transparent)]
    Network(HubError),
    /// The server takes nothing for too long.
    #[error("{host} took nothing of the archive for {} s: it is retried", .after.as_secs_f32())]
    Stalled {
        /// The server.
        host: String,
        /// How long was waited.
        after: Duration,
    },
    /// An error that may pass.
    #[error("{host} answered {status} for the archive{detail}: it is retried; see the server's own log if it lasts")]
    Busy {
        /// The server.
        host: String,
        /// The status.
        status: u16,
        /// The server's own words.
        detail: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An error that will not pass by itself.
    #[error("{host} did not take the archive, with {who}: it answered {status}{detail}: {}", next_step(*.status))]
    Refused {
        /// The server.
        host: String,
        /// The login that was used.
        who: String,
        /// The status.
        status: u16,
        /// The server's own words.
        detail: String,
    },
}

fn next_step(status: u16) -> &'static str {
    match status {
        401 | 403 => "use a login that may write there, and an address whose signature has not expired",
        409 | 412 => "something is there already: choose another name, or remove it",
        413 | 507 => "it has no room for it: make room there, or choose another server",
        _ => "check that the address is one that takes a PUT",
    }
}

impl UploadError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Address => Reason::ArchiveNotFound,
            Self::Access(error) => error.reason(),
            Self::Network(error) => error.reason(),
            Self::Stalled { .. } => Reason::Stalled,
            Self::Busy { status: 429, .. } => Reason::RateLimited,
            Self::Busy { .. } => Reason::HubUnavailable,
            Self::Refused { status, .. } => match status {
                401 | 403 => Reason::Unauthorized,
                409 | 412 => Reason::Conflict,
                413 | 507 => Reason::OutOfSpace,
                _ => Reason::ArchiveNotFound,
            },
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same request may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Stalled { .. } | Self::Busy { .. } => true,
            Self::Network(error) => error.is_transient(),
            Self::Address | Self::Access(_) | Self::Refused { .. } => false,
        }
    }
}

/// A server that takes an archive, and the means to reach it.
pub struct Store {
    client: Client,
    first: Url,
    url: Url,
    redirects: usize,
    auth: Auth,
    proxies: Matcher,
    limits: Limits,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The server has the archive.
    Stored,
    /// It wants it elsewhere, where the next request goes.
    Moved,
}

/// When something last happened to a request, and who has to do what next.
#[derive(Debug, Clone, Copy)]
struct Taken {
    last: Instant,
    turn: Turn,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The server's, which takes a piece.
    Taking,
    /// Ours: the next piece is being made. A slow disk is no fault of the server's.
    Making,
    /// The server's, which has everything and answers.
    Answering,
}

impl Store {
    /// Reads the login and the CA bundle, and builds the client. Opens no connection.
    pub fn new(place: &ArchiveUrl, limits: Limits) -> Result<Self, UploadError> {
        let url = Url::parse(&place.url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or(UploadError::Address)?;
        let endpoint = url.origin().ascii_serialization().parse().map_err(|_| UploadError::Address)?;
        let (ca_bundle, proxy) = (place.ca_bundle.clone(), place.proxy.clone());
        let proxies = access::proxies(&proxy);
        let access = HubAccess { endpoint, token: None, ca_bundle, proxy, limit_bytes_per_second: None };
        let client = access::client(&access, &limits).map_err(UploadError::Access)?;
        let auth = Auth::read(place.auth.as_ref()).map_err(UploadError::Access)?;
        Ok(Self { client, first: url.clone(), url, redirects: 0, auth, proxies, limits })
    }

    /// The tries of one upload.
    pub fn attempts(&self) -> Attempts {
        Attempts::new(self.limits.retry, self.limits.pause_max)
    }

    /// Sends an archive; an error in it ends the request so that the server sees that it is not whole.
    pub async fn put(
        &mut self,
        length: Option<u64>,
        pieces: mpsc::Receiver<io::Result<Bytes>>,
    ) -> Result<Answer, UploadError> {
        let taken = Arc::new(Mutex::new(Taken { last: Instant::now(), turn: Turn::Taking }));
        let mut request = self.client.put(self.url.clone()).header(CONTENT_TYPE, "application/octet-stream");
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        // A login is for the host that was named, and for no other that it sends us to.
        if self.is_own() {
            request = self.auth.put_into(request);
        }
        let request = request.body(body(pieces, Arc::clone(&taken)));
        let response = tokio::select! {
            response = request.send() => response.map_err(|error| UploadError::Network(self.network(error)))?,
            error = self.stalled(&taken) => return Err(error),
        };
        self.judge(response).await
    }

    async fn judge(&mut self, response: Response) -> Result<Answer, UploadError> {
        let status = response.status();
        if status.is_success() {
            return Ok(Answer::Stored);
        }
        let host = host_of(&self.url);
        if status != StatusCode::SEE_OTHER
            && let Some(Ok(next)) = redirect(&response, &self.url)
            && self.redirects < REDIRECTS_MAX
        {
            self.redirects += 1;
            self.url = next;
            return Ok(Answer::Moved);
        }
        let retry_after = headers::pause(response.headers());
        let words = self.words(response).await;
        let detail = if words.is_empty() { String::new() } else { format!(" ({words})") };
        let status = status.as_u16();
        Err(match status {
            408 | 425 | 429 | 500..=506 | 508..=599 => UploadError::Busy { host, status, detail, retry_after },
            _ => UploadError::Refused { host, who: self.who(), status, detail },
        })
    }

    /// The first of the server's own words.
    async fn words(&self, mut response: Response) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < ANSWER_MAX_BYTES {
            match timeout(self.limits.no_progress, response.chunk()).await {
                Ok(Ok(Some(piece))) => bytes.extend_from_slice(&piece),
                _ => break,
            }
        }
        harmless(&String::from_utf8_lossy(&bytes))
    }

    /// Returns when the server took nothing for too long.
    async fn stalled(&self, taken: &Mutex<Taken>) -> UploadError {
        loop {
            let Taken { last, turn } = *taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (since, after) = match turn {
                Turn::Taking => (last, self.limits.no_progress),
                Turn::Making => (Instant::now(), self.limits.no_progress),
                Turn::Answering => (last, self.limits.first_byte),
            };
            if Instant::now() >= since + after {
                return UploadError::Stalled { host: host_of(&self.url), after };
            }
            sleep_until(since + after).await;
        }
    }

    fn network(&self, error: reqwest::Error) -> HubError {
        let proxy = access::proxy_of(&self.proxies, &self.url);
        error::network(&host_of(&self.url), error, proxy.as_deref())
    }

    fn is_own(&self) -> bool {
        self.url.origin() == self.first.origin()
    }

    fn who(&self) -> String {
        if self.is_own() { self.auth.who() } else { Auth::None.who() }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("host", &host_of(&self.url)).finish_non_exhaustive()
    }
}

/// A body of pieces that come from another thread.
fn body(pieces: mpsc::Receiver<io::Result<Bytes>>, taken: Arc<Mutex<Taken>>) -> Body {
    let next = |(mut pieces, taken): (mpsc::Receiver<io::Result<Bytes>>, Arc<Mutex<Taken>>)| async move {
        touch(&taken, Turn::Making);
        let piece = pieces.recv().await;
        touch(&taken, if piece.is_some() { Turn::Taking } else { Turn::Answering });
        piece.map(|piece| (piece, (pieces, taken)))
    };
    Body::wrap_stream(stream::unfold((pieces, taken), next))
}

fn touch(taken: &Mutex<Taken>, turn: Turn) {
    *taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Taken { last: Instant::now(), turn };
}
