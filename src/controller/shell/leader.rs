//! The Lease, kept: one operator at a time writes to the cluster.

use super::write;
use crate::controller::plan::lease::{GIVE_UP_AFTER, LEASE_SECONDS, LeaseMove, LeaseView, RENEW_EVERY, decide};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const NAME: &str = "modelcache-operator";
/// How long one call may take before it counts as failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// How long to wait after a renewal that failed.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Our side of the Lease.
pub(super) struct Leader {
    api: Api<Lease>,
    me: String,
    /// The renewal that was seen last, and when we first saw it.
    seen: Option<(LeaseView, Timestamp)>,
}

impl Leader {
    pub(super) fn new(client: Client, namespace: &str, me: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), me: me.to_owned(), seen: None }
    }

    /// Waits until the Lease is ours; false when `stop` came first.
    pub(super) async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            let wait = match self.step().await {
                Ok(None) => return true,
                Ok(Some(wait)) => wait,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the lease cannot be read or written");
                    Duration::from_secs(2)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Renews until `stop` (false) or until the Lease is, or may be, lost (true).
    pub(super) async fn keep(&mut self, stop: &CancellationToken) -> bool {
        let mut renewed = Instant::now();
        let mut wait = RENEW_EVERY;
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(wait.min(GIVE_UP_AFTER.saturating_sub(renewed.elapsed()))) => {}
            }
            let before = Instant::now();
            match self.step().await {
                Ok(None) => (renewed, wait) = (before, RENEW_EVERY),
                Ok(Some(_)) => return true,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the lease was not renewed");
                    wait = RETRY_EVERY;
                }
            }
            if renewed.elapsed() >= GIVE_UP_AFTER {
                return true;
            }
        }
    }

    /// Gives the Lease back, so that the next one need not wait for its end.
    pub(super) async fn release(&mut self) {
        let current = self.api.get_opt(NAME).await;
        if let Ok(Some(mut lease)) = current
            && let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.me))
        {
            spec.holder_identity = Some(String::new());
            if let Err(error) = write::replace_lease(&self.api, NAME, &lease).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease was not given back; it ends by itself"
                );
            }
        }
    }

    /// One look and, where it is due, one write: `None` when the Lease is ours, else how long to wait.
    async fn step(&mut self) -> Result<Option<Duration>, kube::Error> {
        match tokio::time::timeout(CALL_TIMEOUT, self.try_step()).await {
            Ok(result) => result,
            Err(_) => Err(kube::Error::Service("the API server did not answer in time".into())),
        }
    }

    async fn try_step(&mut self) -> Result<Option<Duration>, kube::Error> {
        let lease = self.api.get_opt(NAME).await?;
        let now = Timestamp::now();
        let seen = lease.as_ref().map(view);
        let first_seen = match (&self.seen, &seen) {
            (Some((old, at)), Some(new)) if old == new => *at,
            _ => now,
        };
        self.seen = seen.clone().map(|view| (view, first_seen));
        let taken = match decide(seen.as_ref(), &self.me, first_seen, now) {
            LeaseMove::Wait(wait) => return Ok(Some(wait)),
            LeaseMove::Acquire | LeaseMove::Renew => write::put_lease(&self.api, NAME, &self.ours(lease, now)).await,
        };
        match taken {
            Ok(()) => Ok(None),
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(Duration::from_secs(1))),
            Err(error) => Err(error),
        }
    }

    fn ours(&self, old: Option<Lease>, now: Timestamp) -> Lease {
        let mut lease = old.unwrap_or_default();
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(&self.me) {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + 1);
            spec.acquire_time = Some(MicroTime(now));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = Some(LEASE_SECONDS);
        spec.renew_time = Some(MicroTime(now));
        lease.metadata.name = Some(NAME.to_owned());
        lease
    }
}

fn view(lease: &Lease) -> LeaseView {
    let spec = lease.spec.clone().unwrap_or_default();
    LeaseView {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed_at: spec.renew_time.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        seconds: spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS),
    }
}
