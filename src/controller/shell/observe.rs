//! Everything that one decision needs, read from the cluster.

use super::reconcile::Context;
use crate::api::{HubConnection, ModelCacheEntry, label};
use crate::controller::plan::{ConnectionSight, Observed, Peer, Warning, attempt, volume_and_key, wanted_claim};
use crate::format::outcome::{Heard, LINE_MAX_BYTES};
use crate::format::task::Task;
use crate::ident::hex;
use futures::{AsyncBufReadExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Namespace, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, Resource, ResourceExt};

/// A running worker's newest progress is within its last lines.
const TAIL_RUNNING: i64 = 20;
/// The end of a worker's log: the outcome and, before it, the metadata in parts of 3 KiB, 1 MiB at most.
const TAIL_ENDED: i64 = 400;
/// Nothing that has just begun needs an explanation yet.
const EXPLAIN_AFTER: SignedDuration = SignedDuration::from_secs(3);

pub(super) async fn observe(context: &Context, entry: &ModelCacheEntry) -> Result<Observed, kube::Error> {
    let client = &context.client;
    let namespace = entry.namespace().unwrap_or_default();
    let ours = ListParams::default().labels(&format!("{}={}", label::ENTRY_UID, entry.uid().unwrap_or_default()));
    let jobs_api = Api::<Job>::namespaced(client.clone(), &namespace);
    let pods_api = Api::<Pod>::namespaced(client.clone(), &namespace);
    let (jobs, pods, connection, claim) = tokio::try_join!(
        jobs_api.list(&ours),
        pods_api.list(&ours),
        connection(client, entry, &namespace),
        claim(client, entry, &namespace),
    )?;
    let mut observed = Observed {
        entry: entry.clone(),
        config: context.config.clone(),
        connection,
        claim,
        storage_class_missing: false,
        jobs: jobs.items,
        pods: pods.items,
        heard: Heard::default(),
        warnings: Vec::new(),
        peers: peers(context, entry),
        namespace_terminating: false,
        now: Timestamp::now(),
        nonce: nonce(),
    };
    if entry.metadata.deletion_timestamp.is_some() {
        let namespace = Api::<Namespace>::all(client.clone()).get_opt(&namespace).await?;
        observed.namespace_terminating =
            namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some());
    }
    listen(&pods_api, &mut observed).await?;
    explain(client, &namespace, &mut observed).await?;
    Ok(observed)
}

async fn connection(client: &Client, entry: &ModelCacheEntry, namespace: &str) -> Result<ConnectionSight, kube::Error> {
    const DEFAULT: &str = "default";
    let api = Api::<HubConnection>::namespaced(client.clone(), namespace);
    let named = entry.spec.connection_name();
    Ok(match api.get_opt(named.unwrap_or(DEFAULT)).await? {
        Some(connection) => ConnectionSight::Found(Box::new(connection)),
        None => named.map_or(ConnectionSight::Defaults, |name| ConnectionSight::Missing(name.to_owned())),
    })
}

async fn claim(
    client: &Client,
    entry: &ModelCacheEntry,
    namespace: &str,
) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
    match wanted_claim(entry) {
        Some(name) => Api::namespaced(client.clone(), namespace).get_opt(&name).await,
        None => Ok(None),
    }
}

/// The other entries in the same volume, from the watch's own memory.
fn peers(context: &Context, entry: &ModelCacheEntry) -> Vec<Peer> {
    let Some((volume, _)) = volume_and_key(entry) else { return Vec::new() };
    let age = |entry: &ModelCacheEntry| (entry.metadata.creation_timestamp.as_ref().map(|time| time.0), entry.uid());
    let all = context.entries.state();
    let neighbours = all.iter().filter(|other| other.namespace() == entry.namespace() && other.uid() != entry.uid());
    neighbours
        .filter_map(|other| {
            let (their_volume, key) = volume_and_key(other)?;
            (their_volume == volume).then(|| Peer {
                name: other.name_any(),
                key,
                older: age(other) < age(entry),
                deleting: other.metadata.deletion_timestamp.is_some(),
            })
        })
        .collect()
}

/// Reads the tail of the newest Pod's log.
async fn listen(api: &Api<Pod>, observed: &mut Observed) -> Result<(), kube::Error> {
    let Some((pod, task)) = speaker(observed) else { return Ok(()) };
    let ended = attempt::has_ended(pod);
    let how = LogParams { tail_lines: Some(if ended { TAIL_ENDED } else { TAIL_RUNNING }), ..LogParams::default() };
    match api.log_stream(&pod.name_any(), &how).await {
        Ok(log) => match hear(log, &task.nonce).await {
            Ok(heard) => observed.heard = heard,
            Err(error) if ended => return Err(kube::Error::ReadEvents(error)),
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "a worker's log was cut off"),
        },
        // The container or its log is gone for good: what the Pod's status says must do.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 400 => {}
        // The kubelet may be restarting: the end of a worker is too good to be missed.
        Err(error) if ended => return Err(error),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a running worker's log cannot be read now");
        }
    }
    Ok(())
}

/// The Pod whose log matters now, and its task.
fn speaker(observed: &Observed) -> Option<(&Pod, Task)> {
    let current = observed.current()?;
    let pod = *observed.pods_of(current.job).first()?;
    (attempt::has_ended(pod) || attempt::is_running(pod)).then_some((pod, current.task?))
}

async fn hear(log: impl futures::AsyncBufRead, nonce: &str) -> Result<Heard, std::io::Error> {
    let mut heard = Heard::default();
    let mut lines = std::pin::pin!(log.lines());
    while let Some(line) = lines.try_next().await? {
        if line.len() <= LINE_MAX_BYTES {
            heard.hear(nonce, &line);
        }
    }
    Ok(heard)
}

/// Looks for the reason why something waits: only while it does, and not at once.
async fn explain(client: &Client, namespace: &str, observed: &mut Observed) -> Result<(), kube::Error> {
    let pending_claim = observed
        .claim
        .as_ref()
        .filter(|claim| claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Pending")));
    let class = pending_claim.and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        observed.storage_class_missing = Api::<StorageClass>::all(client.clone()).get_opt(&class).await?.is_none();
    }
    let old_enough = |created: Option<Timestamp>| created.is_some_and(|created| created + EXPLAIN_AFTER < observed.now);
    let mut puzzles = Vec::new();
    if let Some(claim) = pending_claim.filter(|claim| old_enough(created(*claim))) {
        puzzles.push(("PersistentVolumeClaim", claim.uid()));
    }
    if let Some(current) = observed.current().filter(|current| old_enough(created(current.job))) {
        match observed.pods_of(current.job).first() {
            None => puzzles.push(("Job", current.job.uid())),
            Some(pod) if !attempt::is_running(pod) && !attempt::has_ended(pod) => puzzles.push(("Pod", pod.uid())),
            Some(_) => {}
        }
    }
    let mut found = Vec::new();
    for (kind, uid) in puzzles {
        found.extend(warning(client, namespace, kind, &uid.unwrap_or_default()).await?);
    }
    observed.warnings = found;
    Ok(())
}

fn created(object: &impl Resource) -> Option<Timestamp> {
    object.meta().creation_timestamp.as_ref().map(|time| time.0)
}

/// The newest event about an object that says why it waits.
async fn warning(client: &Client, namespace: &str, kind: &str, uid: &str) -> Result<Option<Warning>, kube::Error> {
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(50);
    let events = Api::<Event>::namespaced(client.clone(), namespace).list(&about).await?;
    // FailedBinding is a normal event, and yet the reason why a claim waits.
    let telling = events
        .items
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning") || event.reason.as_deref() == Some("FailedBinding"));
    let newest = telling.max_by_key(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
        series.or(event.last_timestamp.as_ref().map(|time| time.0)).or(event.event_time.as_ref().map(|time| time.0))
    });
    Ok(newest.map(|event| Warning {
        kind: kind.to_owned(),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
    }))
}

/// A random word that nobody who does not see the task can guess.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    let filled = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    debug_assert!(filled.is_ok(), "the system has randomness");
    hex(&bytes)
}
