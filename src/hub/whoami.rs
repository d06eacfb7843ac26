//! Whose token it is: the one question that needs no repo.

use super::error::Fault;
use super::refusal::harmless;
use super::send::{host_of, redirect};
use super::{Hub, HubError, headers};
use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::time::timeout;

/// What is asked for, in messages.
const THING: &str = "whose token it is";
/// How often it is tried, where time may mend what is wrong.
const TRIES: u32 = 3;
/// The longest answer that is read, in bytes: it lists all organisations of a person.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Who a Hub takes the bearer of the token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// This account.
    Account(String),
    /// The token was refused; why, and what to do.
    Refused(String),
    /// There is no token.
    Anonymous,
    /// The Hub answers, and does not say; why.
    Untold(String),
}

#[derive(Deserialize)]
struct Answer {
    name: String,
}

impl Hub {
    /// Asks whose token it is. An error means that the Hub was not reached.
    pub async fn whoami(&self) -> Result<Who, HubError> {
        let mut attempts = self.attempts();
        for _ in 1..TRIES {
            let error = match self.whoami_once().await {
                Ok(who) => return Ok(who),
                Err(error) => error,
            };
            let Some(wait) = attempts.next_wait(&error) else { return Err(error) };
            tracing::warn!("{error}; the next try is in {} s", wait.as_secs());
            tokio::time::sleep(wait).await;
        }
        self.whoami_once().await
    }

    async fn whoami_once(&self) -> Result<Who, HubError> {
        let url = format!("{}/api/whoami-v2", self.endpoint);
        let url = Url::parse(&url).map_err(|_| self.strange("its address is invalid"))?;
        self.keep_quiet().await;
        let response = self.request(&url, true, None).await?;
        let status = response.status();
        let host = host_of(&url);
        let retry_after = headers::pause(response.headers());
        match status.as_u16() {
            200..=299 => self.account(response).await,
            _ if redirect(&response, &url).is_some() => Ok(Who::Untold("it sends the question elsewhere".to_owned())),
            401 | 403 if self.login.is_none() => Ok(Who::Anonymous),
            401 | 403 => Ok(Who::Refused(format!(
                "{} refused {} ({status}): use a valid token with read access",
                self.endpoint,
                self.who()
            ))),
            407 => Err(HubError::Network { host, fault: Fault::Proxy, cause: "407, it wants a login".into() }),
            429 => Err(HubError::RateLimited { host, retry_after }),
            408 | 500..=599 => Err(HubError::Server {
                host,
                status: status.as_u16(),
                thing: THING.to_owned(),
                detail: String::new(),
                retry_after,
            }),
            // Mirrors and plain servers know no accounts.
            _ => Ok(Who::Untold(format!("it answers {status} to the question whose token it is"))),
        }
    }

    async fn account(&self, mut response: Response) -> Result<Who, HubError> {
        let url = response.url().clone();
        let mut bytes = Vec::new();
        loop {
            let piece = timeout(self.limits.no_progress, response.chunk()).await.map_err(|_| HubError::Stalled {
                host: host_of(&url),
                thing: THING.to_owned(),
                after: self.limits.no_progress,
            })?;
            let Some(piece) = piece.map_err(|error| self.network(&url, error))? else { break };
            if bytes.len() + piece.len() > ANSWER_MAX_BYTES {
                return Ok(Who::Untold("its answer is too long".to_owned()));
            }
            bytes.extend_from_slice(&piece);
        }
        let named = serde_json::from_slice::<Answer>(&bytes).ok().map(|answer| harmless(&answer.name));
        Ok(match named.filter(|name| !name.is_empty()) {
            Some(_) if self.login.is_none() => Who::Anonymous,
            Some(name) => Who::Account(name),
            None => Who::Untold("its answer names nobody".to_owned()),
        })
    }

    fn strange(&self, why: &str) -> HubError {
        HubError::Nonsense { host: host_of(&self.base), thing: THING.to_owned(), why: why.to_owned() }
    }
}
