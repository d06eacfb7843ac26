//! How an attempt stands: one reading of its Job, its Pods, its log and the events around them.

use super::Why;
use super::observed::{Scene, Warning};
use crate::format::outcome::{Done, Failed, Heard, Line, Outcome, Progress, Say};
use crate::ident::Reason;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// How an attempt stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The worker does not run yet; with a reason where something holds it up.
    Starting(Option<Why>),
    /// The worker runs.
    Running(Option<Progress>),
    /// The worker did its task; with the metadata's text where the task has one.
    Done(Done, Option<String>),
    /// The worker, or the cluster around it, failed.
    Failed(Failed),
    /// The worker succeeded, but what it said is lost: the task is run again, and finds its work done.
    Unheard,
}

/// Reads how the attempt of `job` stands.
pub fn standing(scene: &Scene, job: &Job) -> Standing {
    let pods = scene.pods_of(job);
    if let Some(pod) = pods.first()
        && let Some(ended) = terminated(pod)
    {
        // A disrupted Pod is replaced by the Job (`podFailurePolicy`): only without a successor is it the end.
        if job_failed(job).is_some() || disruption(pod).is_none() {
            return outcome(&scene.heard, job, pod, ended);
        }
        return Standing::Starting(disruption(pod));
    }
    if let Some(why) = job_failed(job) {
        return Standing::Failed(failed(pods.first().and_then(|pod| disruption(pod)).unwrap_or(why)));
    }
    if job_succeeded(job) {
        return Standing::Unheard;
    }
    match pods.first() {
        // A Pod on a lost node says that it runs for ever.
        Some(pod) if is_running(pod) => {
            let is_lost = disruption(pod).filter(|why| why.reason == Reason::NodeLost);
            is_lost.map_or(Standing::Running(scene.heard.progress), |why| Standing::Starting(Some(why)))
        }
        Some(pod) if phase(pod) == "Failed" => {
            // The kubelet may fail a Pod before a container began, as an eviction does.
            Standing::Starting(disruption(pod).or_else(|| Some(Why::new(Reason::Interrupted, pod_message(pod)))))
        }
        Some(pod) => Standing::Starting(held_up(scene, pod).or_else(|| pods.get(1).and_then(|old| disruption(old)))),
        None => Standing::Starting(no_pod(scene)),
    }
}

/// Why what a worker published is not on the volume any more, where that is so: a claim that goes, or that was made after
/// the Job, does not have it.
pub(super) fn lost(scene: &Scene, job: &Job) -> Option<Failed> {
    let made = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|time| time.0);
    let has_it = |claim: &&PersistentVolumeClaim| {
        claim.metadata.deletion_timestamp.is_none() && made(&claim.metadata) <= made(&job.metadata)
    };
    if scene.claim.as_ref().is_some_and(|claim| has_it(&claim)) {
        return None;
    }
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let message = format!(
        "the claim was deleted, or made anew, after Job {name} began: what it published is gone, and it runs again"
    );
    Some(failed(Why::new(Reason::Interrupted, message)))
}

fn failed(why: Why) -> Failed {
    Failed { reason: why.reason, message: why.message, retry_after_seconds: None }
}

/// The end of a worker whose container terminated: its own word, in the log or the termination message, else the kubelet's.
fn outcome(heard: &Heard, job: &Job, pod: &Pod, ended: &ContainerStateTerminated) -> Standing {
    match own_word(heard, pod, ended) {
        // Who was told to stop does not know by whom; the Job and the Pod do.
        Standing::Failed(said) if said.reason == Reason::Interrupted => {
            let stopped_by = past_deadline(job).or_else(|| disruption(pod));
            Standing::Failed(stopped_by.map_or(said, failed))
        }
        other => other,
    }
}

fn own_word(heard: &Heard, pod: &Pod, ended: &ContainerStateTerminated) -> Standing {
    match &heard.outcome {
        Some(Outcome::Done(done)) => {
            // A model without its metadata is no result; a deletion has none.
            let metadata = heard.metadata();
            if done.path.is_some() && metadata.is_none() {
                Standing::Unheard
            } else {
                Standing::Done(done.clone(), metadata)
            }
        }
        Some(Outcome::Failed(failed)) => Standing::Failed(failed.clone()),
        None if ended.exit_code == 0 => Standing::Unheard,
        None => Standing::Failed(termination_message(ended).unwrap_or_else(|| failed(kubelets_word(pod, ended)))),
    }
}

fn termination_message(ended: &ContainerStateTerminated) -> Option<Failed> {
    match serde_json::from_str::<Line>(ended.message.as_deref()?).ok()?.say {
        Say::Failed(failed) => Some(failed),
        Say::Progress(_) | Say::Log { .. } | Say::Metadata { .. } | Say::Done(_) => None,
    }
}

fn kubelets_word(pod: &Pod, ended: &ContainerStateTerminated) -> Why {
    if ended.reason.as_deref() == Some("OOMKilled") {
        let limit = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.containers.first()?.resources.as_ref()?.limits.as_ref()?.get("memory").cloned())
            .map_or_else(|| "its node's memory".to_owned(), |limit| format!("its memory limit of {}", limit.0));
        return Why::new(
            Reason::OOMKilled,
            format!("the worker went over {limit}: raise spec.job.resources.limits.memory"),
        );
    }
    if let Some(why) = disruption(pod) {
        return why;
    }
    if ended.exit_code == 2 {
        let message = "the worker did not understand its task: its image is of another version than the operator's";
        return Why::new(Reason::UnsupportedVersion, message);
    }
    let code = ended.exit_code;
    Why::new(
        Reason::Interrupted,
        format!("the worker ended with exit code {code} before it could say why; it will go on where it stopped"),
    )
}

/// What took a Pod away, when it was the cluster's own doing.
fn disruption(pod: &Pod) -> Option<Why> {
    let status = pod.status.as_ref()?;
    let about = |word: &str| format!("the worker's Pod was {word}: {}", pod_message(pod));
    if status.reason.as_deref() == Some("Evicted") {
        return Some(Why::new(Reason::Evicted, about("evicted")));
    }
    let condition = pod_condition(pod, "DisruptionTarget").filter(|condition| condition.status == "True")?;
    Some(match condition.reason.as_deref() {
        Some("DeletionByTaintManager" | "DeletionByPodGC") => Why::new(Reason::NodeLost, about("lost with its node")),
        Some("PreemptionByScheduler") => Why::new(Reason::Evicted, about("preempted")),
        _ => Why::new(Reason::Evicted, about("evicted")),
    })
}

fn pod_message(pod: &Pod) -> String {
    let own = pod.status.as_ref().and_then(|status| status.message.clone());
    let of_disruption = || pod_condition(pod, "DisruptionTarget").and_then(|condition| condition.message.clone());
    own.or_else(of_disruption).unwrap_or_else(|| "the cluster gives no message".to_owned())
}

/// Why a Pod that exists does not run.
fn held_up(scene: &Scene, pod: &Pod) -> Option<Why> {
    if let Some(scheduled) = pod_condition(pod, "PodScheduled")
        && scheduled.status == "False"
    {
        let message = scheduled.message.clone().unwrap_or_default();
        return Some(
            super::status::claim_trouble(scene)
                .unwrap_or_else(|| Why::new(Reason::Unschedulable, format!("no node can take the worker: {message}"))),
        );
    }
    let container = before(pod).find(|status| waits(status)).or_else(|| container(pod))?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.as_deref().unwrap_or("no message");
    match waiting.reason.as_deref().unwrap_or_default() {
        word @ ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull"
        | "ImageInspectError") => {
            let image = &container.image;
            Some(Why::new(Reason::ImagePullFailed, format!("{word} for the worker's image {image:?}: {message}")))
        }
        word @ ("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            Some(Why::new(Reason::PermissionDenied, format!("{word}: {message}")))
        }
        _ => warning_about(&scene.warnings, "Pod").map(|warning| {
            Why::new(Reason::PVCPending, format!("the worker's volumes cannot be mounted: {}", warning.message))
        }),
    }
}

/// Why a Job has no Pod.
fn no_pod(scene: &Scene) -> Option<Why> {
    let warning = warning_about(&scene.warnings, "Job")?;
    let text = warning.message.as_str();
    let reason = if text.contains("quota")
        || text.contains("LimitRange")
        || text.contains("maximum")
        || text.contains("minimum")
    {
        Reason::QuotaExceeded
    } else if text.contains("PodSecurity") {
        Reason::PolicyDenied
    } else {
        Reason::Unschedulable
    };
    Some(Why::new(reason, format!("the worker's Pod cannot be created: {text}")))
}

pub(super) fn warning_about<'a>(warnings: &'a [Warning], kind: &str) -> Option<&'a Warning> {
    warnings.iter().rev().find(|warning| warning.kind == kind)
}

fn job_failed(job: &Job) -> Option<Why> {
    job_condition(job, "Failed")?;
    Some(past_deadline(job).unwrap_or_else(|| {
        Why::new(
            Reason::Interrupted,
            "the worker's Pod went away before it could say why; it will go on where it stopped",
        )
    }))
}

/// Whether the Job's time is up. The Job says so before it ends its Pods, and calls itself failed only when they are gone.
fn past_deadline(job: &Job) -> Option<Why> {
    let failing = job_condition(job, "Failed").or_else(|| job_condition(job, "FailureTarget"))?;
    (failing.reason.as_deref() == Some("DeadlineExceeded")).then(|| {
        Why::new(
            Reason::DeadlineExceeded,
            "the Job ran longer than spec.job.activeDeadlineSeconds; it will go on where it stopped",
        )
    })
}

fn job_condition<'a>(job: &'a Job, type_: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// Whether a Job may still have a Pod that writes.
pub fn is_unfinished(job: &Job) -> bool {
    job_failed(job).is_none() && !job_succeeded(job)
}

pub(super) fn job_succeeded(job: &Job) -> bool {
    job_condition(job, "Complete").is_some()
}

/// Whether a Pod may still write to its volume.
pub fn may_write(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether the worker's container came to its end, or will never begin.
pub fn has_ended(pod: &Pod) -> bool {
    terminated(pod).is_some()
}

/// Whether the worker's container runs.
pub fn is_running(pod: &Pod) -> bool {
    container(pod).and_then(|status| status.state.as_ref()?.running.as_ref()).is_some()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// The containers that have to end well before the worker's begins.
fn before(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten())
}

fn waits(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.waiting.is_some())
}

/// The end of the worker's container, or of one before it that failed.
fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let failed = before(pod).filter_map(end_of).find(|ended| ended.exit_code != 0);
    failed.or_else(|| container(pod).and_then(end_of))
}

fn end_of(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}
