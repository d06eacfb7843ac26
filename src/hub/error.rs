//! What can go wrong between here and a Hub, and what a network error really was.

use crate::ident::{Endpoint, Reason};
use std::error::Error;
use std::time::Duration;

/// Why the Hub did not give what it was asked for. A message names the thing, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The Hub knows, or tells, of no such repo.
    #[error(
        "repo {repo} is not on {endpoint}, or is private and hidden from {who}: check the name, or use a token whose account may read it"
    )]
    RepoNotFound {
        /// The repo.
        repo: String,
        /// The Hub.
        endpoint: Endpoint,
        /// The login that was used.
        who: String,
    },
    /// The repo has no such revision.
    #[error("repo {repo} on {endpoint} has no revision {revision:?}: use a branch, tag or commit that exists")]
    RevisionNotFound {
        /// The repo.
        repo: String,
        /// The Hub.
        endpoint: Endpoint,
        /// The revision.
        revision: String,
    },
    /// The Hub lists a file that it then does not have.
    #[error(
        "{endpoint} lists the file {path} of {repo} but does not have it: exclude the file, or have the repo repaired"
    )]
    FileNotFound {
        /// The repo.
        repo: String,
        /// The Hub.
        endpoint: Endpoint,
        /// The file.
        path: String,
    },
    /// The token was refused, or may not do this.
    #[error("{endpoint} refused {who} for {repo}{detail}: use a valid token with read access")]
    Unauthorized {
        /// The repo.
        repo: String,
        /// The Hub.
        endpoint: Endpoint,
        /// The login that was used.
        who: String,
        /// The Hub's own words.
        detail: String,
    },
    /// A licence must be accepted first.
    #[error(
        "{repo} is gated and {who} has no access: accept the licence at {endpoint}/{repo} with the token's account"
    )]
    Gated {
        /// The repo.
        repo: String,
        /// The Hub.
        endpoint: Endpoint,
        /// The login that was used.
        who: String,
    },
    /// Too many requests.
    #[error("{host} asks to be left alone{}: use a token, whose account has a larger allowance, or wait", seconds(*.retry_after))]
    RateLimited {
        /// Who asks.
        host: String,
        /// For how long.
        retry_after: Option<Duration>,
    },
    /// An answer that is an error of the server's.
    #[error("{host} answered {status} for {thing}{detail}: it is retried; see the Hub's own status if it lasts")]
    Server {
        /// Who answered.
        host: String,
        /// The status.
        status: u16,
        /// What was asked for.
        thing: String,
        /// The server's own words.
        detail: String,
        /// For how long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that is not in the Hub's protocol.
    #[error("{host} does not answer like a Hub for {thing}: {why}: check that the endpoint is a Hub")]
    Nonsense {
        /// Who answered.
        host: String,
        /// What was asked for.
        thing: String,
        /// What is wrong with it.
        why: String,
    },
    /// A body that ended early.
    #[error("{host} ended {thing} early, {got} of {expected} bytes arrived: it is retried")]
    Short {
        /// Who answered.
        host: String,
        /// The file.
        thing: String,
        /// The bytes that are there.
        got: u64,
        /// The bytes that were promised.
        expected: u64,
    },
    /// No bytes for too long.
    #[error("{host} stopped sending {thing} for {} s: it is retried", .after.as_secs_f32())]
    Stalled {
        /// Who fell silent.
        host: String,
        /// What was asked for.
        thing: String,
        /// How long was waited.
        after: Duration,
    },
    /// The network between here and there.
    #[error("{}", .fault.sentence(.host, .cause))]
    Network {
        /// Who was asked.
        host: String,
        /// What kind of failure.
        fault: Fault,
        /// What the library said, without addresses, which may be signed.
        cause: String,
    },
}

/// What a network error really was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The certificate is not signed by anybody who is trusted, or is for another host, or is out of date.
    Untrusted,
    /// The proxy cannot be reached or refused.
    Proxy,
    /// No connection.
    Unreachable,
    /// The connection was lost on the way.
    Broken,
}

impl Fault {
    fn sentence(self, host: &str, cause: &str) -> String {
        match self {
            Self::Untrusted => format!(
                "the certificate of {host} is not trusted ({cause}): add its authority to the connection's CA bundle"
            ),
            Self::Proxy => {
                format!("the proxy does not let {host} be reached ({cause}): check the proxy's address and login")
            }
            Self::Unreachable => {
                format!("{host} cannot be reached ({cause}): check the endpoint, DNS, network policies and proxies")
            }
            Self::Broken => format!("the connection to {host} was lost ({cause}): it is retried"),
        }
    }
}

fn seconds(pause: Option<Duration>) -> String {
    pause.map(|pause| format!(" for {} s", pause.as_secs())).unwrap_or_default()
}

impl HubError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::RepoNotFound { .. } => Reason::RepoNotFound,
            Self::RevisionNotFound { .. } => Reason::RevisionNotFound,
            Self::FileNotFound { .. } => Reason::FileNotFound,
            Self::Unauthorized { .. } => Reason::Unauthorized,
            Self::Gated { .. } => Reason::GatedModel,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::Stalled { .. } => Reason::Stalled,
            Self::Server { .. } | Self::Nonsense { .. } | Self::Short { .. } => Reason::HubUnavailable,
            Self::Network { fault, .. } => match fault {
                Fault::Untrusted => Reason::TLSUntrusted,
                Fault::Proxy => Reason::ProxyError,
                Fault::Unreachable | Fault::Broken => Reason::HubUnavailable,
            },
        }
    }

    /// How long the Hub wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether somebody may have had too much: fewer requests at a time may help.
    pub fn is_overload(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Server { .. } | Self::Stalled { .. } => true,
            Self::Network { fault, .. } => *fault == Fault::Unreachable,
            _ => false,
        }
    }

    /// Whether the same request may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Server { .. } | Self::Short { .. } | Self::Stalled { .. } => true,
            Self::Network { fault, .. } => *fault != Fault::Untrusted,
            Self::RepoNotFound { .. }
            | Self::RevisionNotFound { .. }
            | Self::FileNotFound { .. }
            | Self::Unauthorized { .. }
            | Self::Gated { .. }
            | Self::Nonsense { .. } => false,
        }
    }
}

/// Sorts a network error by walking through its sources.
pub(super) fn network(host: &str, error: reqwest::Error, proxy: Option<&str>) -> HubError {
    // Redirects end in signed addresses: whoever reads one in a log could use it.
    let error = error.without_url();
    let mut cause = chain(&error);
    let fault = if is_untrusted(&error) {
        Fault::Untrusted
    } else if cause.contains("tunnel error") || (proxy.is_some() && error.is_connect()) {
        cause = proxy.map_or(cause.clone(), |proxy| format!("by way of {proxy}: {cause}"));
        Fault::Proxy
    } else if error.is_connect() || error.is_timeout() {
        Fault::Unreachable
    } else {
        Fault::Broken
    };
    HubError::Network { host: host.to_owned(), fault, cause }
}

fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(tls) = tls {
            return matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
        }
        // An io::Error shows what it wraps as itself, so what it wraps is walked into by hand.
        next = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    false
}

/// An error and its sources in one line, without saying the same thing twice.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let one = error.to_string();
        if !text.contains(&one) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&one);
        }
        next = error.source();
    }
    text
}
