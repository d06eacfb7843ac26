//! One request: its redirects, its watchdogs, its token, and the pause that holds for all.

use super::error::Fault;
use super::refusal::Asked;
use super::{Hub, HubError, access, error, headers};
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, LOCATION, RANGE};
use reqwest::{Response, StatusCode, Url};
use std::ops::Range;
use tokio::time::{Instant, timeout};

/// The most redirects that are followed.
pub(super) const REDIRECTS_MAX: usize = 20;

/// An address's host and port, for messages: the rest may be signed.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Hub {
    /// Asks for an address, or for some of its bytes, and follows redirects by hand to a successful answer.
    pub(super) async fn send(
        &self,
        first: Url,
        range: Option<&Range<u64>>,
        asked: Asked<'_>,
    ) -> Result<Response, HubError> {
        let mut url = first;
        for _ in 0..=REDIRECTS_MAX {
            self.keep_quiet().await;
            let own = url.origin() == self.base.origin();
            let host = host_of(&url);
            let response = self.request(&url, own, range).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let Some(next) = redirect(&response, &url) else {
                let refusal = self.refusal(asked, &host, own, status, response.headers());
                self.heed(&refusal);
                return Err(refusal);
            };
            url = next.map_err(|why| HubError::Nonsense { host, thing: asked.thing(), why })?;
        }
        let why = format!("more than {REDIRECTS_MAX} redirects");
        Err(HubError::Nonsense { host: host_of(&url), thing: asked.thing(), why })
    }

    pub(super) async fn request(&self, url: &Url, own: bool, range: Option<&Range<u64>>) -> Result<Response, HubError> {
        // A compressed body would have no length, and a range of it would be of something else.
        let mut request = self.client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
        if let Some(login) = self.login.as_ref().filter(|_| own) {
            request = request.header(AUTHORIZATION, login.header.clone());
        }
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        match timeout(self.limits.first_byte, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.network(url, error)),
            Err(_) => Err(HubError::Network {
                host: host_of(url),
                fault: Fault::Unreachable,
                cause: format!("no answer within {} s", self.limits.first_byte.as_secs_f32()),
            }),
        }
    }

    pub(super) fn network(&self, url: &Url, error: reqwest::Error) -> HubError {
        error::network(&host_of(url), error, access::proxy_of(&self.proxies, url).as_deref())
    }

    /// Remembers how long the Hub wants to be left alone.
    fn heed(&self, refusal: &HubError) {
        let Some(pause) = refusal.retry_after().filter(|pause| *pause <= self.limits.pause_max) else { return };
        let until = Instant::now() + pause;
        if let Ok(mut quiet_until) = self.quiet_until.lock() {
            *quiet_until = Some(quiet_until.map_or(until, |before| before.max(until)));
        }
    }

    pub(super) async fn keep_quiet(&self) {
        let until = self.quiet_until.lock().ok().and_then(|until| *until);
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Where an answer redirects to; nothing if it is no redirect.
pub(super) fn redirect(response: &Response, url: &Url) -> Option<Result<Url, String>> {
    let follow = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if !follow.contains(&response.status()) {
        return None;
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = location.and_then(|location| url.join(location).ok());
    Some(match next {
        Some(next) if matches!(next.scheme(), "http" | "https") && next.has_host() => Ok(next),
        _ => Err("a redirect to nowhere".to_owned()),
    })
}

/// The address of a listing's next page.
pub(super) fn next_page(response: &Response) -> Option<String> {
    headers::next_link(response.headers())
}
