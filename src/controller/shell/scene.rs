//! What is seen of one object's claims and Jobs; the same for everything that has workers.

use crate::controller::plan::{Scene, Warning, attempt};
use crate::format::outcome::{Heard, LINE_MAX_BYTES};
use crate::format::task::Task;
use futures::{AsyncBufReadExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{ListParams, LogParams};
use kube::{Api, Client, Resource, ResourceExt};
use std::time::Duration;

/// A running worker's newest progress is within its last lines.
const TAIL_RUNNING: i64 = 20;
/// The end of a worker's log: the outcome and, before it, the metadata in parts of 3 KiB, 1 MiB at most.
const TAIL_ENDED: i64 = 400;
/// A kubelet that says nothing costs a round no more than this: progress can be had in a moment again …
const PATIENCE_RUNNING: Duration = Duration::from_secs(2);
/// … and the end of a worker, with up to 1 MiB of metadata, is worth more.
const PATIENCE_ENDED: Duration = Duration::from_secs(10);
/// Nothing that has just begun needs an explanation yet.
const EXPLAIN_AFTER: SignedDuration = SignedDuration::from_secs(3);

/// Whose claims and Jobs are looked at.
pub(super) struct Subject<'a> {
    pub(super) namespace: &'a str,
    /// The label by which its Jobs and Pods are known, and its uid, which is the value.
    pub(super) label: &'static str,
    pub(super) uid: String,
    /// The claim of the model's volume.
    pub(super) claim: Option<String>,
    /// The claim of an archive.
    pub(super) archive_claim: Option<String>,
    /// The Job whose end is recorded already.
    pub(super) recorded: Option<&'a str>,
    /// Whether it is being deleted.
    pub(super) is_going: bool,
}

pub(super) async fn observe(client: &Client, subject: &Subject<'_>, now: Timestamp) -> Result<Scene, kube::Error> {
    let ours = ListParams::default().labels(&format!("{}={}", subject.label, subject.uid));
    let jobs_api = Api::<Job>::namespaced(client.clone(), subject.namespace);
    let pods_api = Api::<Pod>::namespaced(client.clone(), subject.namespace);
    let (jobs, pods, claim, archive_claim) = tokio::try_join!(
        jobs_api.list(&ours),
        pods_api.list(&ours),
        claim(client, subject.namespace, subject.claim.as_deref()),
        claim(client, subject.namespace, subject.archive_claim.as_deref()),
    )?;
    let mut scene = Scene { claim, archive_claim, jobs: jobs.items, pods: pods.items, ..Scene::default() };
    listen(&pods_api, &mut scene, subject).await?;
    explain(client, subject, &mut scene, now).await?;
    Ok(scene)
}

async fn claim(
    client: &Client,
    namespace: &str,
    name: Option<&str>,
) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
    match name {
        Some(name) => Api::namespaced(client.clone(), namespace).get_opt(name).await,
        None => Ok(None),
    }
}

/// Reads the tail of the newest Pod's log.
async fn listen(api: &Api<Pod>, scene: &mut Scene, subject: &Subject<'_>) -> Result<(), kube::Error> {
    let Some((pod, task)) = speaker(scene, subject.recorded) else { return Ok(()) };
    let ended = attempt::has_ended(pod);
    let (lines, patience) = if ended { (TAIL_ENDED, PATIENCE_ENDED) } else { (TAIL_RUNNING, PATIENCE_RUNNING) };
    let how = LogParams { tail_lines: Some(lines), ..LogParams::default() };
    let heard = tokio::time::timeout(patience, async {
        let log = api.log_stream(&pod.name_any(), &how).await?;
        hear(log, &task.nonce).await.map_err(kube::Error::ReadEvents)
    });
    let is_mute = |_| kube::Error::ReadEvents(std::io::ErrorKind::TimedOut.into());
    match heard.await.map_err(is_mute).flatten() {
        Ok(heard) => scene.heard = heard,
        // The container or its log is gone for good: what the Pod's status says must do.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 400 => {}
        // The kubelet may be restarting: the end of a worker is too good to be missed. What goes waits for nobody's last word.
        Err(error) if ended && !subject.is_going => return Err(error),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "a worker's log cannot be read now");
        }
    }
    Ok(())
}

/// The Pod whose log matters now, and its task.
fn speaker<'a>(scene: &'a Scene, recorded: Option<&str>) -> Option<(&'a Pod, Task)> {
    let current = scene.current(recorded)?;
    let pod = *scene.pods_of(current.job).first()?;
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
async fn explain(client: &Client, subject: &Subject<'_>, scene: &mut Scene, now: Timestamp) -> Result<(), kube::Error> {
    let pending_claim = scene
        .claim
        .as_ref()
        .filter(|claim| claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Pending")));
    let class = pending_claim.and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        scene.storage_class_missing = Api::<StorageClass>::all(client.clone()).get_opt(&class).await?.is_none();
    }
    let old_enough = |created: Option<Timestamp>| created.is_some_and(|created| created + EXPLAIN_AFTER < now);
    let mut puzzles = Vec::new();
    if let Some(claim) = pending_claim.filter(|claim| old_enough(created(*claim))) {
        puzzles.push(("PersistentVolumeClaim", claim.uid()));
    }
    if let Some(current) = scene.current(subject.recorded).filter(|current| old_enough(created(current.job))) {
        match scene.pods_of(current.job).first() {
            None => puzzles.push(("Job", current.job.uid())),
            Some(pod) if !attempt::is_running(pod) && !attempt::has_ended(pod) => puzzles.push(("Pod", pod.uid())),
            Some(_) => {}
        }
    }
    let mut found = Vec::new();
    for (kind, uid) in puzzles {
        found.extend(warning(client, subject.namespace, kind, &uid.unwrap_or_default()).await?);
    }
    scene.warnings = found;
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
