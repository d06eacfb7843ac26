//! How an entry goes: looked at before anything else, and without resolving a reference.

use super::attempt::{Standing, may_write, standing};
use super::decide::{LISTEN_EVERY, LOOK_EVERY, delete_job, has_finalizer, is_of_the_past};
use super::observed::{Observed, task_of};
use super::record;
use super::status::{Draft, finish};
use super::{Action, Notice, Plan, Why, backoff, wanted};
use crate::api::entry::ReclaimPolicy;
use crate::api::{Phase, annotation, condition};
use crate::controller::build;
use crate::format::task::Work;
use crate::ident::Reason;
use k8s_openapi::api::batch::v1::Job;

/// Decides how an entry that is being deleted goes on.
pub(super) fn decide(observed: &Observed) -> Plan {
    if !has_finalizer(observed) {
        // Owner references take Jobs and an own claim; nothing is left to do.
        return finish(observed, Draft::of(observed), Vec::new(), None);
    }
    if observed.namespace_terminating {
        // Nothing can be created in it any more, and its claims go with it.
        return let_go(observed, None);
    }
    // What was published and is not recorded yet has to be removed too.
    if let Some(attempt) = observed.current().filter(|attempt| !is_delete(attempt.job))
        && let Standing::Done(done, metadata) = standing(&observed.scene, attempt.job)
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
        return deleting(observed, actions, "the worker's Job is stopped first");
    }
    if observed.annotation(annotation::FORCE_DELETE) == Some("true") {
        return let_go(observed, Some("deletion was forced: the entry's files may be left in the claim"));
    }
    let writers = observed.scene.pods.iter().filter(|pod| may_write(pod) && !belongs_to_deletion(observed, pod));
    if writers.count() > 0 {
        return deleting(observed, Vec::new(), "the worker's Pod ends first");
    }
    if !has_files_to_remove(observed) {
        return let_go(observed, None);
    }
    remove_files(observed)
}

fn is_delete(job: &Job) -> bool {
    task_of(job).is_some_and(|task| matches!(task.work, Work::Delete(_)))
}

fn belongs_to_deletion(observed: &Observed, pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let uids: Vec<_> = owners.map(|owner| owner.uid.as_str()).collect();
    observed
        .scene
        .jobs
        .iter()
        .filter(|job| is_delete(job))
        .any(|job| job.metadata.uid.as_deref().is_some_and(|uid| uids.contains(&uid)))
}

/// Whether there is, or may be, something of this entry on a volume that outlives it.
fn has_files_to_remove(observed: &Observed) -> bool {
    let spec = &observed.entry.spec;
    let shared = spec.storage.as_ref().is_some_and(|storage| storage.claim_name.is_some());
    if !shared || spec.reclaim_policy == Some(ReclaimPolicy::Retain) {
        return false;
    }
    // What an unfinished import left goes too, though nobody knows its model.
    let is_import = spec.source.as_ref().is_some_and(|source| source.archive.is_some());
    match wanted::known_model(&observed.entry).map(|model| model.key().to_string()) {
        // A twin keeps the same model in the same place: the files are the twin's now.
        Some(key) if observed.peers.iter().any(|peer| peer.key == key && peer.takes_over) => return false,
        None if !is_import => return false,
        _ => {}
    }
    observed.scene.claim.as_ref().is_some_and(|claim| {
        claim.metadata.deletion_timestamp.is_none()
            // On a claim without a volume there is nothing, and a Job would give it one.
            && claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    })
}

fn remove_files(observed: &Observed) -> Plan {
    let current = observed.current();
    let Some(attempt) = current.filter(|attempt| is_delete(attempt.job)) else {
        return start_or_wait(observed);
    };
    let name = attempt.job.metadata.name.clone().unwrap_or_default();
    match standing(&observed.scene, attempt.job) {
        Standing::Done(..) | Standing::Unheard => let_go(observed, None),
        // The new spec may be the remedy, and a Job's own cannot be changed.
        Standing::Starting(Some(_)) if is_of_the_past(observed, attempt.job) => {
            let actions = delete_job(attempt.job).into_iter().collect();
            deleting(observed, actions, "the Job did not start and the spec changed: it is made anew")
        }
        Standing::Starting(why) => {
            let mut draft = Draft::of(observed);
            draft.phase(Phase::Deleting, "Deleting", &format!("Job {name} removes the entry's files"));
            block(&mut draft, why.as_ref());
            finish(observed, draft, Vec::new(), Some(LOOK_EVERY))
        }
        Standing::Running(_) => deleting(observed, Vec::new(), &format!("Job {name} removes the entry's files")),
        Standing::Failed(failed) => {
            let count = observed.attempts_count();
            // Nobody changes the spec of an entry that goes: every failure is tried again.
            let wait = backoff::delay(Reason::HubUnavailable, count + 1, None, 0).unwrap_or(backoff::RECHECK);
            let mut draft = Draft::of(observed);
            draft.failed(attempt.job, &failed, Some(wait));
            let why = Why::new(failed.reason, failed.message);
            draft.phase(Phase::Deleting, "Deleting", "the entry's files could not be removed; it is tried again");
            block(&mut draft, Some(&why));
            finish(observed, draft, Vec::new(), Some(wait))
        }
    }
}

/// No removal is under way: it starts, unless an earlier one failed and the next is not due yet.
fn start_or_wait(observed: &Observed) -> Plan {
    let phase = observed.entry.status.as_ref().and_then(|status| status.phase);
    let left = record::time_left(observed.attempts(), observed.now).unwrap_or_default();
    if phase == Some(Phase::Deleting) && !left.is_zero() {
        return finish(observed, Draft::of(observed), Vec::new(), Some(left));
    }
    let mut actions: Vec<_> = observed.scene.jobs.iter().filter_map(delete_job).collect();
    match build::delete_job(observed) {
        Some(job) => actions.push(Action::CreateJob(Box::new(job))),
        None => return let_go(observed, None),
    }
    deleting(observed, actions, "a Job that removes the entry's files is created")
}

fn block(draft: &mut Draft, why: Option<&Why>) {
    if let Some(why) = why {
        let message = format!(
            "{}. To let the entry go and leave the files: kubectl annotate it with {}=true",
            why.message,
            annotation::FORCE_DELETE
        );
        draft.condition(condition::DELETION_BLOCKED, true, why.reason.as_str(), &message);
    }
}

fn deleting(observed: &Observed, actions: Vec<Action>, message: &str) -> Plan {
    let mut draft = Draft::of(observed);
    if observed.entry.status.as_ref().and_then(|status| status.phase) != Some(Phase::Deleting) {
        // What the transfer waited for is no reason to wait with the removal.
        draft.start_anew(None);
    }
    draft.phase(Phase::Deleting, "Deleting", message);
    finish(observed, draft, actions, Some(LISTEN_EVERY))
}

fn let_go(observed: &Observed, left_behind: Option<&str>) -> Plan {
    let mut plan = finish(observed, Draft::of(observed), vec![Action::RemoveFinalizer], None);
    plan.notices = left_behind
        .into_iter()
        .map(|message| Notice { warning: true, reason: "FilesLeftBehind".to_owned(), message: message.to_owned() })
        .collect();
    plan
}
