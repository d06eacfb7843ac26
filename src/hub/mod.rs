//! The Hub, as a downloader meets it: every address of its protocol and every error it answers with.
//!
//! This room owns HTTP: clients, proxies, certificates, redirects, watchdogs, pauses, and what an answer means. It knows
//! names and the task's description of a Hub, and must not know volumes, files that are written, or Kubernetes.

mod access;
mod api;
mod auth;
mod body;
mod error;
pub mod headers;
mod language;
mod listing;
mod refusal;
mod remote;
mod retry;
mod send;
mod upload;
mod whoami;

pub use access::{AccessError, install_crypto};
pub use api::ModelInfo;
pub use body::{Body, Place};
pub use error::HubError;
pub use listing::{Listed, Page};
pub use remote::{Remote, RemoteBody, RemoteError};
pub use retry::{Attempts, Retry};
pub use upload::{Answer, Store, UploadError};
pub use whoami::Who;

use crate::format::task::HubAccess;
use crate::ident::Endpoint;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::HeaderValue;
use reqwest::{Client, Url};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a Hub may take for what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// From a request to the first byte of its answer.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub no_progress: Duration,
    /// The longest pause that the Hub may ask for and that is waited for here; longer ones are the caller's.
    pub pause_max: Duration,
    /// How often, and after which waits, a request is tried again.
    pub retry: Retry,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_mins(1),
            no_progress: Duration::from_secs(30),
            pause_max: Duration::from_mins(1),
            retry: Retry::default(),
        }
    }
}

/// A Hub and the means to reach it.
pub struct Hub {
    client: Client,
    endpoint: Endpoint,
    base: Url,
    login: Option<Login>,
    proxies: Matcher,
    limits: Limits,
    /// Until when the Hub wants to be left alone: one answer of 429 holds for every request of this process.
    quiet_until: Mutex<Option<Instant>>,
}

/// A login: a token, and where it comes from. Only the latter can be printed.
#[derive(Clone)]
pub struct Login {
    header: HeaderValue,
    origin: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the token from {}", self.origin)
    }
}

impl Hub {
    /// Reads the token and the CA bundle, and builds the client. Opens no connection. `login` is for a token that is in no
    /// file; the task's own file comes first.
    pub fn new(access: &HubAccess, limits: Limits, login: Option<Login>) -> Result<Self, AccessError> {
        let base = access::base(&access.endpoint)?;
        Ok(Self {
            client: access::client(access, &limits)?,
            endpoint: access.endpoint.clone(),
            base,
            login: access.token.as_ref().map(Login::read).transpose()?.or(login),
            proxies: access::proxies(&access.proxy),
            limits,
            quiet_until: Mutex::new(None),
        })
    }

    /// The Hub's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The tries of one more request or file.
    pub fn attempts(&self) -> Attempts {
        Attempts::new(self.limits.retry, self.limits.pause_max)
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
