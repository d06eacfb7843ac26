//! An archive behind an address: read once from beginning to end, and gone on with where a connection was lost.

use super::access;
use super::auth::Auth;
use super::error::Fault;
use super::send::{REDIRECTS_MAX, host_of, redirect};
use super::{AccessError, Attempts, HubError, Limits, error, headers};
use crate::format::task::{ArchiveUrl, HubAccess};
use crate::ident::Reason;
use bytes::{Buf, Bytes};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use std::time::Duration;
use tokio::time::timeout;

/// Why an archive's server did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No request could be made.
    #[error(transparent)]
    Access(AccessError),
    /// No address.
    #[error(
        "the archive's address {shown} is invalid: it must be like `https://host/path`, without a user or password"
    )]
    Address {
        /// The address without its secrets.
        shown: String,
    },
    /// Nothing there.
    #[error("there is no archive at {place} (status {status}): check the address")]
    NotFound {
        /// The address without its query.
        place: String,
        /// The status.
        status: u16,
    },
    /// The login was refused.
    #[error("{place} refused {who} (status {status}): use a login that may read it")]
    Refused {
        /// The address without its query.
        place: String,
        /// The login.
        who: String,
        /// The status.
        status: u16,
    },
    /// An answer that makes no sense, or is of another archive than the bytes before it.
    #[error("{place} {why}: run it again")]
    Answer {
        /// The address without its query.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// The network, or a server that has too much to do.
    #[error(transparent)]
    Network(HubError),
}

impl RemoteError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Access(error) => error.reason(),
            Self::Address { .. } | Self::NotFound { .. } => Reason::ArchiveNotFound,
            Self::Refused { .. } => Reason::Unauthorized,
            Self::Answer { .. } => Reason::HubUnavailable,
            Self::Network(error) => error.reason(),
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Network(error) => error.retry_after(),
            _ => None,
        }
    }
}

/// An archive behind an address, and the means to reach it.
pub struct Remote {
    client: Client,
    url: Url,
    auth: Auth,
    proxies: Matcher,
    limits: Limits,
}

/// The bytes of an archive on their way.
#[derive(Debug)]
pub struct RemoteBody {
    response: Response,
    url: Url,
    place: String,
    /// Bytes that are dropped first: the server sends everything again.
    skip: u64,
    /// How many bytes the archive has, where the server says so.
    pub total: Option<u64>,
    /// What tells this archive from another one at the same address; none if the server has no such thing.
    pub version: Option<String>,
}

/// An address without what may be secret in it.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), host_of(url), url.path())
}

impl Remote {
    /// Reads the login and the CA bundle, and builds the client. Opens no connection.
    pub fn new(archive: &ArchiveUrl, limits: Limits) -> Result<Self, RemoteError> {
        let cut = archive.url.split(['?', '#']).next().unwrap_or_default();
        let url = Url::parse(&archive.url).ok();
        let is_plain = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        };
        let Some(url) = url.filter(is_plain) else {
            let shown = if cut.contains('@') { "(hidden)".to_owned() } else { cut.to_owned() };
            return Err(RemoteError::Address { shown });
        };
        let Ok(endpoint) = format!("{}://{}", url.scheme(), host_of(&url)).parse() else {
            return Err(RemoteError::Address { shown: shown(&url) });
        };
        let access = HubAccess {
            endpoint,
            token: None,
            ca_bundle: archive.ca_bundle.clone(),
            proxy: archive.proxy.clone(),
            limit_bytes_per_second: None,
        };
        let client = access::client(&access, &limits).map_err(RemoteError::Access)?;
        let proxies = access::proxies(&archive.proxy);
        let auth = Auth::read(archive.auth.as_ref()).map_err(RemoteError::Access)?;
        Ok(Self { client, url, auth, proxies, limits })
    }

    /// The tries of one archive.
    pub fn attempts(&self) -> Attempts {
        Attempts::new(self.limits.retry, self.limits.pause_max)
    }

    /// The address without its query, for messages.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Opens the archive from a byte on. `version` is of the bytes before it; an empty one says that their mixture will be
    /// seen in any case.
    pub async fn open(&self, from: u64, version: Option<&str>) -> Result<RemoteBody, RemoteError> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.request(&url, from, version).await?;
            if let Some(next) = redirect(&response, &url) {
                url = next.map_err(|why| self.answer(why))?;
                continue;
            }
            return if response.status().is_success() {
                self.body(response, url, from, version)
            } else {
                Err(self.refusal(&response, &url))
            };
        }
        Err(self.answer(format!("redirects more than {REDIRECTS_MAX} times")))
    }

    fn answer(&self, why: impl Into<String>) -> RemoteError {
        RemoteError::Answer { place: self.shown(), why: why.into() }
    }

    async fn request(&self, url: &Url, from: u64, version: Option<&str>) -> Result<Response, RemoteError> {
        let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        // Another host must not learn what is for this one.
        if url.origin() == self.url.origin() {
            request = self.auth.put_into(request);
        }
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
            if let Some(version) = version.filter(|version| !version.is_empty()) {
                request = request.header(IF_RANGE, version);
            }
        }
        match timeout(self.limits.first_byte, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.network(url, error)),
            Err(_) => Err(RemoteError::Network(HubError::Network {
                host: host_of(url),
                fault: Fault::Unreachable,
                cause: format!("no answer within {} s", self.limits.first_byte.as_secs_f32()),
            })),
        }
    }

    fn network(&self, url: &Url, failed: reqwest::Error) -> RemoteError {
        let proxy = access::proxy_of(&self.proxies, url);
        RemoteError::Network(error::network(&host_of(url), failed, proxy.as_deref()))
    }

    fn refusal(&self, response: &Response, url: &Url) -> RemoteError {
        let (place, status) = (self.shown(), response.status().as_u16());
        let retry_after = headers::pause(response.headers());
        let host = host_of(url);
        match status {
            404 | 410 => RemoteError::NotFound { place, status },
            401 | 403 => {
                let who = self.auth.who();
                RemoteError::Refused { place, who, status }
            }
            407 => {
                let cause = "407, it wants a login".to_owned();
                RemoteError::Network(HubError::Network { host, fault: Fault::Proxy, cause })
            }
            429 => RemoteError::Network(HubError::RateLimited { host, retry_after }),
            408 | 500..=599 => {
                let detail = String::new();
                RemoteError::Network(HubError::Server { host, status, thing: place, detail, retry_after })
            }
            _ => self.answer(format!("answered {status}")),
        }
    }

    fn body(&self, response: Response, url: Url, from: u64, version: Option<&str>) -> Result<RemoteBody, RemoteError> {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if header(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(self.answer("encodes the archive though it was asked not to"));
        }
        // A weak tag does not promise the same bytes.
        let tag = header(ETAG).filter(|tag| tag.starts_with('"')).or_else(|| header(LAST_MODIFIED));
        let now = tag.map(str::to_owned);
        let (skip, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT if from > 0 => {
                match headers::content_range(header(CONTENT_RANGE).unwrap_or_default()) {
                    Some((first, _, total)) if first == from => (0, total),
                    _ => return Err(self.answer("answered with another range than it was asked for")),
                }
            }
            StatusCode::OK => (from, response.content_length()),
            other => return Err(self.answer(format!("answered {other}"))),
        };
        if from > 0 && (version.is_none() || (now.is_some() && now.as_deref() != version)) {
            return Err(self.answer("changed, or may have changed, while it was read"));
        }
        let place = self.shown();
        Ok(RemoteBody { response, url, place, skip, total, version: now })
    }
}

impl RemoteBody {
    /// The next piece; none at the end.
    pub async fn next(&mut self, remote: &Remote) -> Result<Option<Bytes>, RemoteError> {
        loop {
            let Ok(piece) = timeout(remote.limits.no_progress, self.response.chunk()).await else {
                let (host, after) = (host_of(&self.url), remote.limits.no_progress);
                return Err(RemoteError::Network(HubError::Stalled { host, thing: self.place.clone(), after }));
            };
            let piece = piece.map_err(|error| remote.network(&self.url, error))?;
            let Some(mut piece) = piece else { return Ok(None) };
            let dropped = self.skip.min(piece.len() as u64);
            self.skip -= dropped;
            piece.advance(usize::try_from(dropped).unwrap_or(piece.len()));
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// Whether the server sends everything from the first byte on, whatever it is asked for.
    pub fn is_from_the_start(&self) -> bool {
        self.skip > 0
    }

    /// The error of a body that ended early.
    pub fn short(&self, got: u64, expected: u64) -> RemoteError {
        let (host, thing) = (host_of(&self.url), self.place.clone());
        RemoteError::Network(HubError::Short { host, thing, got, expected })
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("place", &self.shown()).finish_non_exhaustive()
    }
}
