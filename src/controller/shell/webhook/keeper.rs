//! Keeps the webhook's certificate: made and renewed in its Secret, trusted by the API server, and served.
//!
//! Every operator does it, leader or not: a new one stands by only when it can answer. The Secret's version decides between two.

use super::WebhookOptions;
use super::certificate::{CertificateError, Kept};
use super::tls::Served;
use crate::controller::shell::{WatchPause, reconcile, write};
use futures::{Stream, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A certificate that ends sooner is renewed.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How often its end is looked at.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// How long to wait after a round that failed.
const PAUSE: Duration = Duration::from_secs(2);
/// Until every API server has heard of another authority.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    client: Client,
    namespace: String,
    host: String,
    secret_name: String,
    configuration_name: String,
    is_own: bool,
    served: Arc<Served>,
    /// What new connections get.
    loaded: Option<Kept>,
    secret: Option<Secret>,
    configuration: Option<MutatingWebhookConfiguration>,
    /// Whether the configuration was looked for.
    has_looked: bool,
    /// Whether the Secret was.
    has_looked_for_secret: bool,
}

/// What happened.
enum Event {
    Secret(Option<Secret>),
    Configuration(Option<MutatingWebhookConfiguration>),
    Trouble(watcher::Error),
}

/// Why a round could not be finished.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("failed to keep the certificate in its Secret")]
    Keep(#[source] kube::Error),
    #[error("failed to tell the API server whom to trust")]
    Trust(#[source] kube::Error),
}

/// What happens next that matters; none where it is time to look without that. Trouble is told, and puts nothing off.
async fn next(events: &mut (impl Stream<Item = Event> + Unpin), due: Instant) -> Option<Event> {
    loop {
        match tokio::time::timeout_at(due, events.next()).await {
            Ok(Some(Event::Trouble(error))) => {
                tracing::warn!(
                    error = reconcile::causes(&error),
                    "the watch of the webhook's certificate is started again"
                );
            }
            Ok(Some(event)) => return Some(event),
            // The watches have no end.
            Ok(None) => tokio::time::sleep_until(due).await,
            Err(_) => return None,
        }
    }
}

impl Keeper {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        host: String,
        options: &WebhookOptions,
        served: Arc<Served>,
    ) -> Self {
        let is_own = !options.has_external_certificate;
        Self {
            client,
            namespace: namespace.to_owned(),
            host,
            secret_name: options.secret.clone(),
            configuration_name: options.configuration.clone(),
            is_own,
            served,
            loaded: None,
            secret: None,
            configuration: None,
            has_looked: !is_own,
            has_looked_for_secret: false,
        }
    }

    /// Keeps it until `stop`.
    pub(super) async fn keep(mut self, stop: CancellationToken) {
        let mut events = self.events();
        let mut wait = LOOK_EVERY;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = next(&mut events, Instant::now() + wait) => self.heed(event),
            }
            wait = match self.round().await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(error = reconcile::causes(&error), "the webhook's certificate is not in order");
                    PAUSE
                }
            };
        }
    }

    fn heed(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Secret(secret)) => {
                self.secret = secret;
                self.has_looked_for_secret = true;
            }
            Some(Event::Configuration(configuration)) => {
                self.configuration = configuration;
                self.has_looked = true;
            }
            Some(Event::Trouble(_)) | None => {}
        }
    }

    fn events(&self) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
        let secrets = watch_object(Api::<Secret>::namespaced(self.client.clone(), &self.namespace), &self.secret_name);
        let secrets = secrets.backoff(WatchPause).map(|seen| seen.map_or_else(Event::Trouble, Event::Secret));
        if !self.is_own {
            return Box::pin(secrets);
        }
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        let configurations = watch_object(api, &self.configuration_name).backoff(WatchPause);
        let configurations = configurations.map(|seen| seen.map_or_else(Event::Trouble, Event::Configuration));
        Box::pin(stream::select(secrets, configurations))
    }

    async fn round(&mut self) -> Result<(), KeepError> {
        let Some(secret) = self.secret.clone() else {
            if let Some(cure) = self.cure_of_a_lost_secret() {
                tracing::warn!(name = self.secret_name, "the webhook's Secret does not exist: {cure}");
            }
            return Ok(());
        };
        let now = Timestamp::now();
        let mut kept = Kept::of(&secret);
        if self.is_own && !kept.as_ref().is_some_and(|kept| kept.is_good(&self.host, now + RENEW_BEFORE)) {
            let renewed = Kept::renewed(kept.as_ref(), &self.host, now)?;
            let put = write::put_certificate(&self.client, &renewed.clone().into_secret(secret)).await;
            // Where another operator was faster, the watch tells of its certificate.
            self.secret = match put.map_err(KeepError::Keep)? {
                Some(secret) => Some(secret),
                None => return Ok(()),
            };
            tracing::info!("the webhook has a new certificate");
            kept = Some(renewed);
        }
        // One that is no good is not served, and the one before goes on for as long as it lasts.
        if let Some(kept) = kept.filter(|kept| kept.is_good(&self.host, now)) {
            return self.put_in_place(kept).await;
        }
        tracing::warn!(secret = self.secret_name, "the webhook's Secret holds no certificate for its Service");
        Ok(())
    }

    /// What to do where the Secret was deleted, or never made. What is loaded goes on being served, until it ends.
    fn cure_of_a_lost_secret(&self) -> Option<&'static str> {
        let is_lost = self.has_looked_for_secret && self.secret.is_none();
        is_lost.then_some(if self.is_own {
            "helm upgrade of the release makes it anew, and the operator a certificate"
        } else {
            "look at the Certificate of that name, which makes it"
        })
    }

    /// The API server trusts before anything is served that it has to trust.
    async fn put_in_place(&mut self, kept: Kept) -> Result<(), KeepError> {
        let before = self.loaded.as_ref().filter(|loaded| loaded.ca != kept.ca).map(|loaded| loaded.ca.clone());
        if !self.has_looked {
            return Ok(());
        }
        if self.is_own {
            // While one authority follows another, both are trusted. The watch tells of this change, and then only one is.
            let bundle = format!("{}{}", kept.ca, before.as_deref().unwrap_or_default());
            self.trust(&bundle).await?;
        }
        if self.loaded.as_ref() != Some(&kept) {
            // Whoever else makes certificates has told the API server by now, which trusts the old one no more.
            if before.is_some() && self.is_own {
                tokio::time::sleep(SETTLE).await;
            }
            self.served.load(kept.certified()?);
            self.loaded = Some(kept);
        }
        Ok(())
    }

    async fn trust(&self, bundle: &str) -> Result<(), KeepError> {
        let Some(configuration) = &self.configuration else {
            tracing::warn!(
                name = self.configuration_name,
                "there is no MutatingWebhookConfiguration: no Pod gets models"
            );
            return Ok(());
        };
        let bundle = ByteString(bundle.as_bytes().to_vec());
        let mut webhooks = configuration.webhooks.iter().flatten();
        if webhooks.all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&bundle)) {
            return Ok(());
        }
        write::put_ca_bundle(&self.client, configuration, &bundle).await.map_err(KeepError::Trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "modelcache-webhook.modelcache-system.svc";

    fn keeper(has_external_certificate: bool) -> Keeper {
        let options = WebhookOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            service: "modelcache-webhook".into(),
            secret: "modelcache-webhook".into(),
            configuration: "modelcache".into(),
            has_external_certificate,
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nowhere = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        Keeper::new(nowhere, "modelcache-system", HOST.into(), &options, Arc::new(Served::default()))
    }

    /// How long it takes until another authority's certificate is served.
    async fn takes(has_external_certificate: bool) -> Duration {
        let mut keeper = keeper(has_external_certificate);
        keeper.heed(Some(Event::Configuration(None)));
        let kept = || Kept::renewed(None, HOST, Timestamp::UNIX_EPOCH).unwrap();
        keeper.put_in_place(kept()).await.unwrap();
        let (begun, other) = (Instant::now(), kept());
        keeper.put_in_place(other.clone()).await.unwrap();
        assert_eq!(keeper.loaded, Some(other));
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn another_authority_is_waited_for_only_where_the_operator_tells_of_it() {
        assert_eq!(takes(true).await, Duration::ZERO, "the API server trusts it, and the old one no more");
        assert_eq!(takes(false).await, SETTLE);
    }

    #[tokio::test]
    async fn a_lost_secret_is_told_with_its_cure() {
        let mut own = keeper(false);
        assert_eq!(own.cure_of_a_lost_secret(), None, "nobody has looked");
        own.heed(Some(Event::Secret(None)));
        assert!(own.cure_of_a_lost_secret().unwrap().contains("helm upgrade"));
        own.heed(Some(Event::Secret(Some(Secret::default()))));
        assert_eq!(own.cure_of_a_lost_secret(), None);
        let mut external = keeper(true);
        external.heed(Some(Event::Secret(None)));
        assert!(external.cure_of_a_lost_secret().unwrap().contains("Certificate"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_all_the_time_does_not_keep_a_round_from_its_time() {
        let troubles = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Some((Event::Trouble(watcher::Error::NoResourceVersion), ()))
        });
        let (mut troubles, begun) = (Box::pin(troubles), Instant::now());
        assert!(next(&mut troubles, begun + PAUSE).await.is_none());
        assert_eq!(begun.elapsed(), PAUSE);
        let mut events =
            Box::pin(stream::iter([Event::Trouble(watcher::Error::NoResourceVersion), Event::Secret(None)]));
        assert!(matches!(next(&mut events, begun + LOOK_EVERY).await, Some(Event::Secret(None))));
    }
}
