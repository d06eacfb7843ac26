//! How an entry goes: looked at before anything else, and without resolving a reference.
//!
//! What keeps a deletion from going on is told by the condition `DeletionBlocked`, and `modelcache.dev/force-delete`
//! lets it end: it overrides the Pods that use the model, and whatever else is in the way leaves the files behind.

use super::attempt::{Standing, is_unfinished, lost, may_write, standing};
use super::decide::{LISTEN_EVERY, LOOK_EVERY, delete_job, has_finalizer, is_misplaced, is_of_the_past};
use super::observed::{Observed, Peer, PeerStanding, Scene, task_of};
use super::record;
use super::status::{Draft, Obstacle, finish, human_bytes};
use super::storage::storage_of;
use super::usage::{Usage, named};
use super::{Action, Notice, Plan, Why, backoff, wanted};
use crate::api::entry::ReclaimPolicy;
use crate::api::{ModelCacheEntry, Phase, annotation, condition};
use crate::controller::build;
use crate::format::task::Work;
use crate::ident::{ModelKey, Reason};
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

/// How long past its grace period a Pod on a lost node is waited for, and how long a forced removal may take.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);
/// How long a twin may take to take the files over.
const HAND_OVER: SignedDuration = SignedDuration::from_mins(10);
/// The reasons of `DeletionBlocked` while somebody needs the files. Force overrides them; what else blocks leaves files behind.
const IN_USE: &str = "InUse";
const EXPORTING: &str = "Exporting";
const HANDED_OVER: &str = "HandedOver";

/// The reason of the notice that the finalizer went and the files may have stayed.
pub const FILES_LEFT_BEHIND: &str = "FilesLeftBehind";

/// What keeps a deletion from going on.
struct Blocked {
    reason: &'static str,
    message: String,
}

impl Blocked {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<&Why> for Blocked {
    fn from(why: &Why) -> Self {
        Self::new(why.reason.as_str(), why.message.clone())
    }
}

/// Whether a round may begin to remove an entry's files. Then the API server is asked for its neighbours: the watches may not
/// have heard of a Pod that began, or a twin that published, a moment ago.
pub fn may_remove_files(entry: &ModelCacheEntry, scene: &Scene) -> bool {
    let is_evicted =
        entry.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Evicted) && status.manifest.is_some());
    let removes = |job: &Job| is_delete(job) && is_unfinished(job);
    (is_evicted || entry.metadata.deletion_timestamp.is_some()) && !scene.jobs.iter().any(removes)
}

/// Decides how an entry that is being deleted goes on.
pub(super) fn decide(observed: &Observed) -> Plan {
    if !has_finalizer(observed) {
        // Owner references take Jobs and an own claim; nothing is left to do.
        return finish(observed, Draft::of(observed), Vec::new(), None);
    }
    if observed.namespace_terminating {
        // Nothing can be created in it any more, and its claims go with it.
        return let_go(
            observed,
            Some("the namespace is being deleted, and nothing can be removed from its claims any more"),
        );
    }
    // What was published and is not recorded yet has to be removed too.
    if let Some(attempt) = observed.current().filter(|attempt| !is_delete(attempt.job))
        && let Standing::Done(done, metadata) = standing(&observed.scene, attempt.job)
        && lost(&observed.scene, attempt.job).is_none()
    {
        let mut draft = Draft::of(observed);
        draft.done(attempt.job.metadata.name.as_deref().unwrap_or_default(), &done, metadata.as_deref());
        draft.phase(Phase::Deleting, "Deleting", "the worker's end is recorded");
        return finish(observed, draft, delete_job(attempt.job).into_iter().collect(), Some(LISTEN_EVERY));
    }
    let transfers: Vec<_> = observed.scene.jobs.iter().filter(|job| !is_delete(job)).collect();
    if transfers.iter().any(|job| job.metadata.deletion_timestamp.is_none()) {
        let actions = transfers
            .into_iter()
            .filter(|job| job.metadata.deletion_timestamp.is_none())
            .filter_map(delete_job)
            .collect();
        return deleting(observed, actions, "the worker's Job is stopped first", None);
    }
    let forced = observed.annotation(annotation::FORCE_DELETE) == Some("true");
    let worker = observed.scene.pods.iter().find(|pod| is_waited_for(observed, pod));
    if forced && (worker.is_some() || is_obstructed(observed)) {
        return give_up(observed);
    }
    if let Some(pod) = worker {
        return deleting(observed, Vec::new(), "the worker's Pod ends first", still_ends(observed, pod));
    }
    if !has_files_to_remove(observed) {
        return let_go(observed, None);
    }
    remove_files(observed, forced)
}

/// The plan as it turns out when an action met an obstacle.
pub(super) fn obstructed(observed: &Observed, obstacle: &Obstacle) -> Plan {
    let blocked = match obstacle {
        Obstacle::Busy(writer) => {
            Blocked::new("Queued", format!("waits for {writer}, which writes to the same model in this volume"))
        }
        Obstacle::Full => Blocked::new("Queued", "waits for a place at its Hub".to_owned()),
        Obstacle::Denied(why) => why.into(),
    };
    deleting(observed, Vec::new(), "the Job that removes the entry's files cannot be created", Some(blocked))
}

pub(super) fn is_delete(job: &Job) -> bool {
    task_of(job).is_some_and(|task| matches!(task.work, Work::Delete(_)))
}

fn belongs_to_deletion(observed: &Observed, pod: &Pod) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let uids: Vec<_> = owners.map(|owner| owner.uid.as_str()).collect();
    observed
        .scene
        .jobs
        .iter()
        .filter(|job| is_delete(job))
        .any(|job| job.metadata.uid.as_deref().is_some_and(|uid| uids.contains(&uid)))
}

/// Whether a worker's Pod may still write, and is not given up.
fn is_waited_for(observed: &Observed, pod: &Pod) -> bool {
    may_write(pod) && !belongs_to_deletion(observed, pod) && !is_given_up(observed, pod)
}

/// A Pod on a node that is gone, or not heard of, ends for nobody to see.
fn is_given_up(observed: &Observed, pod: &Pod) -> bool {
    let Some(Time(due)) = pod.metadata.deletion_timestamp else { return false };
    let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else { return false };
    let node = observed.scene.nodes.iter().find(|node| node.name == *name);
    node.is_none_or(|node| !node.is_ready) && due + PATIENCE <= observed.now
}

/// The uids of the Pods that are waited for no more.
fn given_up(observed: &Observed) -> Option<String> {
    let pods = observed.scene.pods.iter().filter(|pod| may_write(pod) && is_given_up(observed, pod));
    let uids: Vec<_> = pods.filter_map(|pod| pod.metadata.uid.clone()).collect();
    (!uids.is_empty()).then(|| uids.join(","))
}

/// What is said of a worker's Pod that should have ended.
fn still_ends(observed: &Observed, pod: &Pod) -> Option<Blocked> {
    let Time(due) = pod.metadata.deletion_timestamp.clone()?;
    if observed.now < due {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let message = match observed.scene.nodes.iter().find(|sight| sight.name == node) {
        Some(sight) if sight.is_ready => format!("the worker's Pod {name} does not end on node {node}"),
        Some(_) => {
            format!("the worker's Pod {name} is on node {node}, which is not ready: waits until {}", due + PATIENCE)
        }
        None => format!("the worker's Pod {name} is on node {node}, which is gone: waits until {}", due + PATIENCE),
    };
    Some(Blocked::new("WorkerStillEnds", message))
}

/// Whether something is known to be in the way of removing the files, other than that somebody needs them.
fn is_obstructed(observed: &Observed) -> bool {
    let conditions = observed.entry.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let blocked = record::condition_of(conditions, condition::DELETION_BLOCKED);
    let is_needed = |reason: &str| [IN_USE, EXPORTING, HANDED_OVER].contains(&reason);
    blocked.is_some_and(|blocked| blocked.status == "True" && !is_needed(&blocked.reason))
}

/// Whether there is, or may be, something of this entry on a volume that outlives it.
fn has_files_to_remove(observed: &Observed) -> bool {
    let spec = &observed.entry.spec;
    let shared = storage_of(&observed.entry).is_some_and(|storage| storage.claim_name.is_some());
    if !shared || spec.reclaim_policy == Some(ReclaimPolicy::Retain) {
        return false;
    }
    // What an unfinished import left goes too, though nobody knows its model.
    let is_import = spec.source.as_ref().is_some_and(|source| source.archive.is_some());
    if wanted::known_model(&observed.entry).is_none() && !is_import {
        return false;
    }
    // A twin keeps the same model in the same place: the files are the twin's now.
    if twins(observed).any(|twin| twin.standing == PeerStanding::Keeps) {
        return false;
    }
    observed.scene.claim.as_ref().is_some_and(|claim| {
        // On a claim without a volume there is nothing, and a Job would give it one.
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        claim.metadata.deletion_timestamp.is_none() && phase == Some("Bound")
    })
}

/// The entries that stay and keep the same model in the same place, or will.
fn twins(observed: &Observed) -> impl Iterator<Item = &Peer> {
    let key = wanted::certain_model(&observed.entry).map(|model| model.key().to_string());
    observed.peers.iter().filter(move |peer| !peer.deleting && peer.key.is_some() && peer.key == key)
}

/// The entries that are about to take the files over, or may be: the archive that was not read yet may hold their model.
fn heirs(observed: &Observed) -> impl Iterator<Item = &Peer> {
    let is_certain = wanted::certain_model(&observed.entry).is_some();
    let repo = wanted::parse_model(&observed.entry.spec).ok().filter(|_| !is_certain).map(|model| model.repo);
    let may_be_ours = move |peer: &&Peer| {
        let key = peer.key.as_deref().and_then(|key| key.parse::<ModelKey>().ok());
        !peer.deleting && key.is_some_and(|key| Some(&key.model().repo) == repo.as_ref())
    };
    let all = twins(observed).chain(observed.peers.iter().filter(may_be_ours));
    all.filter(|peer| matches!(peer.standing, PeerStanding::AtWork | PeerStanding::Waits))
}

fn remove_files(observed: &Observed, forced: bool) -> Plan {
    let current = observed.current();
    let Some(attempt) = current.filter(|attempt| is_delete(attempt.job)) else {
        return start_or_wait(observed, forced);
    };
    let name = attempt.job.metadata.name.clone().unwrap_or_default();
    let removes = format!("Job {name} removes the entry's files");
    match standing(&observed.scene, attempt.job) {
        Standing::Done(..) | Standing::Unheard => let_go(observed, None),
        Standing::Starting(Some(_)) | Standing::Failed(_) if forced => give_up(observed),
        _ if forced && is_older(&attempt.job.metadata, PATIENCE, observed) => give_up(observed),
        // The new spec may be the remedy, and a Job's own cannot be changed.
        Standing::Starting(Some(why))
            if is_of_the_past(observed, attempt.job) || is_misplaced(observed, attempt.job, &why) =>
        {
            let actions = delete_job(attempt.job).into_iter().collect();
            let message = "the Job did not start, and the spec or the node of its claim changed: it is made anew";
            deleting(observed, actions, message, None)
        }
        Standing::Starting(why) => deleting(observed, Vec::new(), &removes, why.as_ref().map(Blocked::from)),
        Standing::Running(_) => deleting(observed, Vec::new(), &removes, None),
        Standing::Failed(failed) => {
            let count = observed.attempts_count();
            // Nobody changes the spec of an entry that goes: every failure is tried again.
            let wait = backoff::delay(Reason::HubUnavailable, count + 1, None, 0).unwrap_or(backoff::RECHECK);
            let mut draft = Draft::of(observed);
            draft.failed(attempt.job, &failed, Some(wait));
            let why = Why::new(failed.reason, format!("{}; until then {} stays", failed.message, files(observed)));
            draft.phase(Phase::Deleting, "Deleting", "the entry's files could not be removed; it is tried again");
            block(&mut draft, Blocked::from(&why));
            finish(observed, draft, Vec::new(), Some(wait))
        }
    }
}

fn is_older(object: &ObjectMeta, than: SignedDuration, observed: &Observed) -> bool {
    object.creation_timestamp.as_ref().is_some_and(|Time(created)| *created + than <= observed.now)
}

/// No removal is under way: it starts, unless something speaks against it, or an earlier one failed and the next is not due.
fn start_or_wait(observed: &Observed, forced: bool) -> Plan {
    if let Some(blocked) = spared(observed).filter(|_| !forced) {
        return deleting(observed, Vec::new(), "the entry's files stay for now", Some(blocked));
    }
    let phase = observed.entry.status.as_ref().and_then(|status| status.phase);
    let left = record::time_left(observed.attempts(), observed.now).unwrap_or_default();
    if phase == Some(Phase::Deleting) && !left.is_zero() {
        return finish(observed, Draft::of(observed), Vec::new(), Some(left));
    }
    let mut actions: Vec<_> = observed.scene.jobs.iter().filter_map(delete_job).collect();
    match build::delete_job(observed) {
        Ok(Some(mut job)) => {
            if let Some(uids) = given_up(observed) {
                job.metadata.annotations.get_or_insert_default().insert(annotation::GIVEN_UP.to_owned(), uids);
            }
            actions.push(Action::CreateJob(Box::new(job)));
        }
        Ok(None) => return let_go(observed, None),
        Err(why) => return deleting(observed, Vec::new(), "the entry's files stay for now", Some(Blocked::from(&why))),
    }
    deleting(observed, actions, "a Job that removes the entry's files is created", None)
}

/// Who still needs the files.
fn spared(observed: &Observed) -> Option<Blocked> {
    // What is not published is of no use to anybody.
    let published = observed.entry.status.as_ref().is_some_and(|status| status.manifest.is_some());
    let Usage { mut users, holders, .. } = Usage::of(&observed.entry, &observed.scene.consumers);
    users.extend(holders);
    if published && !users.is_empty() {
        let message =
            format!("Pods mount the model, or a folder above it: {}. It goes when they are gone", named(&users));
        return Some(Blocked::new(IN_USE, message));
    }
    if !observed.readers.is_empty() {
        let message = format!("an export still reads it: Job {}", observed.readers.join(", "));
        return Some(Blocked::new(EXPORTING, message));
    }
    // Who does not come to it in time may wait for something that never comes. As long as its worker is at work, the removal's own
    // Job is not created.
    let Time(since) = observed.entry.metadata.deletion_timestamp.clone()?;
    if observed.now >= since + HAND_OVER {
        return None;
    }
    // An import's model may turn out to be this one.
    let mut unknown = observed.peers.iter().filter(|peer| peer.key.is_none() && peer.standing == PeerStanding::AtWork);
    if let Some(peer) = unknown.next() {
        let message = format!("entry {:?} imports a model that is not known yet into the same volume", peer.name);
        return Some(Blocked::new("Queued", message));
    }
    let heir = heirs(observed).next()?;
    Some(Blocked::new(HANDED_OVER, format!("entry {:?} of the same model takes the files over", heir.name)))
}

fn block(draft: &mut Draft, blocked: Blocked) {
    let Blocked { reason, message } = blocked;
    let message = format!(
        "{}. To let the entry go whatever becomes of the files: kubectl annotate it with {}=true",
        message,
        annotation::FORCE_DELETE
    );
    draft.condition(condition::DELETION_BLOCKED, true, reason, &message);
}

fn deleting(observed: &Observed, actions: Vec<Action>, message: &str, blocked: Option<Blocked>) -> Plan {
    let mut draft = Draft::of(observed);
    if observed.entry.status.as_ref().and_then(|status| status.phase) != Some(Phase::Deleting) {
        // What the transfer waited for is no reason to wait with the removal.
        draft.start_anew(None);
    }
    draft.phase(Phase::Deleting, "Deleting", message);
    let again = if blocked.is_some() { LOOK_EVERY } else { LISTEN_EVERY };
    match blocked {
        Some(blocked) => block(&mut draft, blocked),
        None if draft.has_condition(condition::DELETION_BLOCKED) => {
            draft.condition(condition::DELETION_BLOCKED, false, "Deleting", message);
        }
        None => {}
    }
    finish(observed, draft, actions, Some(again))
}

fn give_up(observed: &Observed) -> Plan {
    let_go(observed, Some(&format!("deletion was forced: {} may be left behind", files(observed))))
}

/// What is, or may be, on the volume, for people.
fn files(observed: &Observed) -> String {
    let status = observed.entry.status.as_ref();
    let volume = status.and_then(|status| status.volume.as_ref());
    let place = volume.and_then(|volume| volume.path.as_deref()).unwrap_or("unfinished work");
    let claim = volume.map(|volume| volume.claim_name.as_str()).unwrap_or_default();
    let bytes = status.and_then(|status| u64::try_from(status.manifest.as_ref()?.bytes).ok());
    let size = bytes.map(|bytes| format!(" ({})", human_bytes(bytes))).unwrap_or_default();
    format!("{place}{size} in claim {claim:?}")
}

fn let_go(observed: &Observed, left_behind: Option<&str>) -> Plan {
    let mut plan = finish(observed, Draft::of(observed), vec![Action::RemoveFinalizer], None);
    plan.notices = left_behind
        .into_iter()
        .map(|message| Notice { warning: true, reason: FILES_LEFT_BEHIND.to_owned(), message: message.to_owned() })
        .collect();
    plan
}
