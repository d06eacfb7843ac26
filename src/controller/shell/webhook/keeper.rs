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
    /// Whether it was looked for.
    has_looked: bool,
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
        }
    }

    /// Keeps it until `stop`.
    pub(super) async fn keep(mut self, stop: CancellationToken) {
        let mut events = self.events();
        let mut wait = LOOK_EVERY;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(event) = events.next() => match event {
                    Event::Secret(secret) => self.secret = secret,
                    Event::Configuration(configuration) => {
                        self.configuration = configuration;
                        self.has_looked = true;
                    }
                    Event::Trouble(error) => {
                        tracing::warn!(error = reconcile::causes(&error), "the watch of the webhook's certificate is started again");
                        continue;
                    }
                },
                () = tokio::time::sleep(wait) => {}
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
            if before.is_some() {
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
