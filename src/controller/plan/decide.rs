//! The decision: what should be done for one entry, and what its status says.

use super::attempt::{Standing, lost, standing};
use super::observed::{Attempt, Observed, Peer, PeerStanding, task_of};
use super::queue::{self, Urgency};
use super::status::{Draft, claim_trouble, finish};
use super::storage::{self, storage_of};
use super::wanted::{ArchiveSpot, CaSource, Origin, Wanted, is_mended, known_model, leaves_files, settings};
use super::{Action, Freshness, Plan, Why, backoff, deletion, eviction, placement, record, sizing, update};
use crate::api::entry::ReclaimPolicy;
use crate::api::{FINALIZER, ModelCacheEntry, Phase, condition};
use crate::controller::build;
use crate::format::outcome::{Done, Failed};
use crate::format::task::Work;
use crate::ident::{Commit, Reason, Recovery};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use std::time::Duration;

/// How often a running worker's log is looked at.
pub(super) const LISTEN_EVERY: Duration = Duration::from_secs(2);
/// How often something that no watch tells of is looked at while it is awaited.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Decides what should be done for one entry.
pub fn decide(observed: &Observed) -> Plan {
    if observed.entry.metadata.deletion_timestamp.is_some() {
        return deletion::decide(observed);
    }
    let mut actions = housekeeping(observed);
    if observed.entry.spec.suspend == Some(true) {
        return suspend(observed, actions);
    }
    if phase(observed) == Some(Phase::Evicted) {
        return eviction::go_on(observed, actions);
    }
    if is_kept(observed)
        && let Some(why) = eviction::due(observed)
    {
        return eviction::begin(observed, why, actions);
    }
    if let Some(plan) = storage::settle(observed, &actions) {
        return plan;
    }
    let wanted = match Wanted::of(observed) {
        Ok(wanted) => wanted,
        // What is on the volume needs no Hub any more, and nobody's leave.
        Err(why) if why.reason == Reason::ConnectionNotFound && is_kept(observed) => {
            return finish(observed, Draft::of(observed), actions, None);
        }
        Err(why) if why.reason == Reason::PolicyDenied => {
            // What is under way is not allowed any more either.
            let current = observed.current().filter(|attempt| attempt.job.metadata.deletion_timestamp.is_none());
            actions.extend(current.and_then(|attempt| delete_job(attempt.job)));
            if is_kept(observed) {
                return finish(observed, Draft::of(observed), actions, None);
            }
            return refuse(observed, &why, actions);
        }
        Err(why) => return refuse(observed, &why, actions),
    };
    // Who was there first keeps what it has, though an older entry's archive turned out to hold the same later.
    let was_first = matches!(wanted.origin, Origin::Hub { .. }) && is_kept(observed);
    if let Some(why) = duplicate(observed, &wanted).filter(|_| !was_first) {
        return refuse(observed, &why, actions);
    }
    let is_ready = phase(observed) == Some(Phase::Ready);
    actions.extend(sizing::due_growth(observed, is_ready));
    if let Some((job, why)) = queue::in_the_way(observed) {
        return give_way(observed, job, &why, actions);
    }
    if is_kept(observed) {
        let mut plan = update::decide(observed, &wanted, actions);
        if !was_first && elder(observed, |_| true).is_some() {
            // When it has the model, too, no watch of this entry tells of it.
            plan.again = Some(plan.again.unwrap_or(LOOK_EVERY).min(LOOK_EVERY));
        }
        return plan;
    }
    match observed.current() {
        Some(attempt) if attempt.job.metadata.deletion_timestamp.is_some() => {
            let mut draft = Draft::of(observed);
            draft.phase(Phase::Pending, "Pending", "an earlier Job is going away");
            finish(observed, draft, actions, Some(LISTEN_EVERY))
        }
        Some(attempt) if !is_transfer(&attempt) => {
            actions.extend(delete_job(attempt.job));
            finish(observed, Draft::of(observed), actions, Some(LISTEN_EVERY))
        }
        Some(attempt) if is_stuck_in_the_past(observed, attempt.job) => {
            actions.extend(delete_job(attempt.job));
            let mut draft = Draft::of(observed);
            if let Some(retry) = observed.asked_to_retry() {
                draft.start_anew(Some(retry));
            }
            let message = "the Job did not start, and the spec, the operator's settings or the node of its claim changed, or a retry was asked for: it is made anew";
            draft.phase(Phase::Provisioning, "Provisioning", message);
            finish(observed, draft, actions, Some(LISTEN_EVERY))
        }
        Some(attempt) if attempt.task.as_ref().is_some_and(|task| matches!(task.work, Work::Resolve(_))) => {
            follow_question(observed, &wanted, attempt.job, actions)
        }
        Some(attempt) => follow(observed, &wanted, attempt.job, actions),
        None => rest(observed, &wanted, actions),
    }
}

/// Whether the model was published, in a claim that is still there.
pub(super) fn is_kept(observed: &Observed) -> bool {
    let Some(claim) = observed.scene.claim.as_ref().filter(|claim| claim.metadata.deletion_timestamp.is_none()) else {
        return false;
    };
    // Another claim of the same name does not have it.
    let volume = observed.entry.status.as_ref().and_then(|status| status.volume.as_ref());
    let published_to = volume.and_then(|volume| volume.claim_uid.as_ref());
    phase(observed) == Some(Phase::Ready) && published_to.is_none_or(|uid| claim.metadata.uid.as_ref() == Some(uid))
}

fn is_transfer(attempt: &Attempt<'_>) -> bool {
    let is = |work: &Work| matches!(work, Work::Download(_) | Work::Import(_) | Work::Adopt(_) | Work::Resolve(_));
    attempt.task.as_ref().is_some_and(|task| is(&task.work))
}

/// Whether a Job cannot start and was made for an earlier spec, or for a node that need not be its own any more. A Job's own
/// spec cannot be changed, and the new one may be the remedy.
pub(super) fn is_stuck_in_the_past(observed: &Observed, job: &Job) -> bool {
    let Standing::Starting(Some(why)) = standing(&observed.scene, job) else { return false };
    is_of_the_past(observed, job) || observed.asked_to_retry().is_some() || is_misplaced(observed, job, &why)
}

/// Whether no node can take a Job that one made now would not keep from another node.
pub(super) fn is_misplaced(observed: &Observed, job: &Job, why: &Why) -> bool {
    let settings = || settings(&observed.entry, &observed.connection, &observed.config);
    // A question has no volume, and is placed nowhere.
    let has_volume = task_of(job).is_some_and(|task| !matches!(task.work, Work::Resolve(_)));
    why.reason == Reason::Unschedulable && has_volume && placement::is_elsewhere(&observed.scene, settings(), job)
}

/// Whether a Job was made for an earlier spec, or by an operator with another image.
pub(super) fn is_of_the_past(observed: &Observed, job: &Job) -> bool {
    record::is_of_another_spec(job, &observed.entry.metadata) || has_another_image(job, &observed.config.image)
}

/// Whether a Job's worker is of another image than this operator's.
pub(super) fn has_another_image(job: &Job, image: &str) -> bool {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let worker = pod.and_then(|pod| pod.containers.first()?.image.as_deref());
    worker.is_some_and(|worker| worker != image)
}

/// What cannot begin at all: it waits for the cluster, or for a change of the spec.
fn refuse(observed: &Observed, why: &Why, actions: Vec<Action>) -> Plan {
    let mut draft = Draft::of(observed);
    let waits = why.reason.recovery() == Recovery::Watch;
    draft.trouble(if waits { Phase::Pending } else { Phase::Failed }, why);
    // The older twin may go, and no watch of this entry tells of it.
    let again = (waits || why.reason == Reason::DuplicateEntry).then_some(LOOK_EVERY);
    finish(observed, draft, actions, again)
}

fn duplicate(observed: &Observed, wanted: &Wanted) -> Option<Why> {
    let model = known_model(&observed.entry)?;
    // What is there stays as long as the older one has nothing.
    let twin = elder(observed, |twin| twin.standing == PeerStanding::Keeps || !is_kept(observed))?;
    let message = format!(
        "entry {:?} keeps {model} in claim {:?} already: use it, or delete this one",
        twin.name, wanted.claim_name
    );
    Some(Why::new(Reason::DuplicateEntry, message))
}

/// An older entry of the same model in the same place, of this kind.
fn elder(observed: &Observed, is: impl Fn(&Peer) -> bool) -> Option<&Peer> {
    let key = known_model(&observed.entry)?.key().to_string();
    // One that goes waits until this one has taken its files over.
    let is_twin = |peer: &&Peer| peer.older && !peer.deleting && peer.key.as_ref() == Some(&key);
    observed.peers.iter().filter(is_twin).find(|twin| is(twin))
}

/// What depends neither on how the work stands nor on a Hub: our finalizer, the claim's owner, recorded Jobs.
fn housekeeping(observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    match (leaves_files(&observed.entry), has_finalizer(observed)) {
        (true, false) if may_have_written(observed) => actions.push(Action::AddFinalizer),
        (false, true) => actions.push(Action::RemoveFinalizer),
        _ => {}
    }
    actions.extend(claim_owner(observed));
    let failed = match phase(observed) {
        Some(Phase::Failed | Phase::Retrying) => true,
        // A failed removal, check or update.
        Some(Phase::Ready | Phase::Evicted) => observed.attempts_count() > 0,
        _ => false,
    };
    actions.extend(record::recorded_jobs(&observed.scene, observed.recorded_job(), failed));
    actions
}

/// Whether an attempt was begun at some time. From then on, and not before, there may be something to remove.
fn may_have_written(observed: &Observed) -> bool {
    // While a default's claim is waited for, the default may still be another one tomorrow.
    let is_settled = observed.entry.spec.storage.is_some() || storage::has_begun(observed);
    let status = observed.entry.status.as_ref();
    // Who waits for its turn has made nothing yet.
    let names_volume = status.is_some_and(|status| status.volume.is_some() && status.queue.is_none());
    (is_settled && names_volume) || !observed.scene.jobs.is_empty()
}

pub(super) fn has_finalizer(observed: &Observed) -> bool {
    observed.entry.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER)
}

fn phase(observed: &Observed) -> Option<Phase> {
    observed.entry.status.as_ref()?.phase
}

fn claim_owner(observed: &Observed) -> Option<Action> {
    let spec = &observed.entry.spec;
    storage_of(&observed.entry)?.volume_claim_template.as_ref()?;
    let claim = observed.scene.claim.as_ref().filter(|_| observed.claim_is_own())?;
    let owned = claim.metadata.owner_references.iter().flatten().any(|owner| owner.uid == observed.uid());
    let should = spec.reclaim_policy.unwrap_or_default() == ReclaimPolicy::Delete;
    let (name, uid) = (claim.metadata.name.clone()?, claim.metadata.uid.clone()?);
    (owned != should).then_some(Action::SetClaimOwned { name, uid, owned: should })
}

pub(super) fn delete_job(job: &Job) -> Option<Action> {
    Some(Action::DeleteJob { name: job.metadata.name.clone()?, uid: job.metadata.uid.clone()? })
}

fn suspend(observed: &Observed, mut actions: Vec<Action>) -> Plan {
    let going: Vec<_> = observed.scene.jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_none()).collect();
    actions.extend(going.into_iter().filter_map(delete_job));
    let mut draft = Draft::of(observed);
    // A finished model stays usable; only further work is stopped.
    if is_kept(observed) {
        draft.whole();
        return finish(observed, draft, actions, None);
    }
    draft.phase(Phase::Suspended, "Suspended", "spec.suspend is true: set it to false to go on");
    finish(observed, draft, actions, None)
}

/// A Job that cannot start leaves its place in a Hub's budget to those who wait for it.
fn give_way(observed: &Observed, job: &Job, why: &Why, actions: Vec<Action>) -> Plan {
    let wait = backoff::after_giving_way(observed.attempts_count() + 1, spread(observed.uid()));
    let message = format!("{}; others that wait for the Hub had its place meanwhile, and it tries again", why.message);
    let why = Why::new(why.reason, message);
    let failed = Failed { reason: why.reason, message: why.message.clone(), retry_after_seconds: None };
    let mut draft = Draft::of(observed);
    if is_kept(observed) {
        update::note_failure(&mut draft, job, &failed, Some(wait));
    } else {
        draft.count_failure(job, &failed, Some(wait));
        draft.trouble(Phase::Retrying, &why);
    }
    draft.heeds_retry(observed);
    // What is recorded goes in the next round: a round that has not heard of this one must not make the Job again.
    finish(observed, draft, actions, Some(LISTEN_EVERY))
}

/// An attempt is under way, or its end is not recorded yet.
fn follow(observed: &Observed, wanted: &Wanted, job: &Job, actions: Vec<Action>) -> Plan {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let mut draft = Draft::of(observed);
    draft.begins(wanted);
    let again = match standing(&observed.scene, job) {
        Standing::Starting(None) => {
            draft.phase(Phase::Provisioning, "Provisioning", &format!("Job {name} starts"));
            Some(LOOK_EVERY)
        }
        Standing::Starting(Some(why)) => {
            draft.trouble(Phase::Provisioning, &why);
            Some(LOOK_EVERY)
        }
        Standing::Running(progress) => {
            let progress = progress.unwrap_or_default();
            if !matches!(wanted.origin, Origin::Hub { .. }) {
                draft.progress(&progress);
                let verb = if matches!(wanted.origin, Origin::Volume { .. }) { "reads" } else { "imports" };
                let message = format!("Job {name} {verb} {}; see status.progress", wanted.source_shown());
                draft.at_work(Phase::Importing, "Importing", &message);
            } else if progress.bytes_total == 0 {
                draft.at_work(Phase::Resolving, "Resolving", &format!("Job {name} asks the Hub for the list of files"));
            } else {
                draft.progress(&progress);
                draft.at_work(Phase::Downloading, "Downloading", &format!("Job {name} downloads; see status.progress"));
            }
            Some(LISTEN_EVERY)
        }
        Standing::Done(done, metadata) => {
            if let Some(lost) = lost(&observed.scene, job) {
                Some(vain(observed, &mut draft, job, &lost))
            } else {
                draft.done(name, &done, metadata.as_deref());
                None
            }
        }
        Standing::Unheard => {
            let unheard = record::unheard(name, "it runs again and finds its work done");
            Some(vain(observed, &mut draft, job, &unheard))
        }
        Standing::Failed(failed) => fail(observed, &mut draft, job, &failed),
    };
    draft.heeds_retry(observed);
    finish(observed, draft, record::sparing(actions, name), again)
}

/// An attempt failed; gives when the next one is due, if there is one by itself.
fn fail(observed: &Observed, draft: &mut Draft, job: &Job, failed: &Failed) -> Option<Duration> {
    let wait = wait_after(observed, failed);
    draft.failed(job, failed, wait);
    if failed.reason != Reason::OutOfSpace {
        return wait;
    }
    // The Hub may have moved since the claim was made: asked once, and not again after a second failure.
    let is_first = observed.attempts().is_none_or(|attempts| attempts.last_room.is_none());
    let was_resolved = observed.entry.status.as_ref().is_some_and(|status| status.resolved.is_some());
    let asks_again = is_first
        && was_resolved
        && matches!(sizing::size(&observed.entry, &observed.config), Some(sizing::Size::Computed(_)));
    draft.out_of_space(sizing::room(observed), asks_again);
    if asks_again { Some(Duration::ZERO) } else { wait }
}

/// It is asked what the model takes, before there is a claim for it.
fn follow_question(observed: &Observed, wanted: &Wanted, job: &Job, actions: Vec<Action>) -> Plan {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let mut draft = Draft::of(observed);
    draft.begins(wanted);
    let again = match standing(&observed.scene, job) {
        Standing::Starting(Some(why)) => {
            draft.trouble(Phase::Resolving, &why);
            Some(LOOK_EVERY)
        }
        Standing::Starting(None) | Standing::Running(_) => {
            draft.phase(Phase::Resolving, "Resolving", &format!("Job {name} asks how large the model is"));
            Some(LISTEN_EVERY)
        }
        Standing::Done(Done { resolved: Some(resolved), .. }, _) => {
            draft.resolved(name, &resolved);
            Some(Duration::ZERO)
        }
        Standing::Done(..) | Standing::Unheard => {
            Some(vain(observed, &mut draft, job, &record::unheard(name, "it is asked again")))
        }
        Standing::Failed(failed) => fail(observed, &mut draft, job, &failed),
    };
    draft.heeds_retry(observed);
    finish(observed, draft, record::sparing(actions, name), again)
}

/// The worker succeeded, and nobody heard of it, or what it did is gone; gives when it is tried again.
fn vain(observed: &Observed, draft: &mut Draft, job: &Job, why: &Failed) -> Duration {
    let wait = again_after_silence(observed.attempts_count());
    draft.failed(job, why, Some(wait));
    wait
}

/// How long to wait after another failure; none where that is not tried again by itself.
pub(super) fn wait_after(observed: &Observed, failed: &Failed) -> Option<Duration> {
    let count = observed.attempts_count() + 1;
    backoff::delay(failed.reason, count, failed.retry_after_seconds, spread(observed.uid()))
}

/// How long to wait after a success that nobody heard of: once at once, and then no faster than after any interruption.
pub(super) fn again_after_silence(count: i64) -> Duration {
    let wait = if count == 0 { None } else { backoff::delay(Reason::Interrupted, count + 1, None, 0) };
    wait.unwrap_or_default()
}

/// A number that differs between entries and stays the same for one.
fn spread(uid: &str) -> u64 {
    uid.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// Nothing is under way: what was achieved holds, or another attempt is due, or it is not due yet.
fn rest(observed: &Observed, wanted: &Wanted, actions: Vec<Action>) -> Plan {
    let status = observed.entry.status.as_ref();
    let attempts = observed.attempts();
    let retry = observed.asked_to_retry();
    match phase(observed) {
        Some(Phase::Failed | Phase::Retrying) => {
            let changed = sizing::has_other_room(observed)
                || is_mended(observed, wanted)
                || was_forbidden(observed)
                || status.and_then(|status| status.observed_generation) != observed.entry.metadata.generation;
            if retry.is_some() || changed {
                let mut draft = Draft::of(observed);
                draft.start_anew(retry);
                return begin(observed, wanted, draft, actions);
            }
            match record::time_left(attempts, observed.now) {
                Some(Duration::ZERO) => begin(observed, wanted, Draft::of(observed), actions),
                Some(left) => finish(observed, Draft::of(observed), actions, Some(left)),
                // Refused before any attempt (a twin, a bad name): the cause is gone, or we would not be here.
                None if attempts.is_none_or(|attempts| attempts.count == 0) => {
                    begin(observed, wanted, Draft::of(observed), actions)
                }
                None => finish(observed, Draft::of(observed), actions, None),
            }
        }
        Some(Phase::Ready) => {
            let mut draft = Draft::of(observed);
            draft.forget_volume();
            let mut observed = observed.clone();
            observed.entry.status.get_or_insert_default().resolved = None;
            begin(&observed, wanted, draft, actions)
        }
        _ => {
            let mut draft = Draft::of(observed);
            if let Some(retry) = retry {
                draft.start_anew(Some(retry));
            }
            begin(observed, wanted, draft, actions)
        }
    }
}

/// Whether a policy, which allows it by now, was in the way, and not how the last attempt ended.
fn was_forbidden(observed: &Observed) -> bool {
    let conditions = observed.entry.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let denied = Some(Reason::PolicyDenied.as_str());
    record::reason_of(conditions, condition::READY) == denied
        && observed.attempts().and_then(|attempts| attempts.last_reason.as_deref()) != denied
}

/// Begins an attempt: the claim first, then the Job.
fn begin(observed: &Observed, wanted: &Wanted, mut draft: Draft, mut actions: Vec<Action>) -> Plan {
    draft.begins(wanted);
    let asks = sizing::size(&observed.entry, &observed.config) == Some(sizing::Size::Unknown);
    let grows = actions.iter().any(|action| matches!(action, Action::GrowClaim { .. }));
    if let Some(message) = sizing::awaits_growth(observed, grows) {
        draft.phase(Phase::Provisioning, "Provisioning", &message);
        return finish(observed, draft, actions, Some(LOOK_EVERY));
    }
    let claim = match claim_for_attempt(observed, wanted) {
        ClaimMove::Create if !asks => build::claim(observed, wanted),
        ClaimMove::Use | ClaimMove::Create => None,
        ClaimMove::Wait(why) => {
            draft.trouble(Phase::Provisioning, &why);
            return finish(observed, draft, actions, Some(LOOK_EVERY));
        }
        ClaimMove::Refuse(why) => {
            draft.trouble(Phase::Failed, &why);
            return finish(observed, draft, actions, Some(LOOK_EVERY));
        }
    };
    let (job, phase, word) = if let Some(job) = asks.then(|| build::resolve_job(observed, wanted)).flatten() {
        (job, Phase::Resolving, "Resolving")
    } else {
        let wanted = match placement::place(&observed.scene, wanted.job.clone()) {
            Ok(job) => &Wanted { job, ..wanted.clone() },
            Err(why) => {
                draft.trouble(Phase::Provisioning, &why);
                return finish(observed, draft, actions, Some(LOOK_EVERY));
            }
        };
        (build::transfer_job(observed, wanted, &Freshness::of(observed, None)), Phase::Provisioning, "Provisioning")
    };
    // Nothing is made for an entry before its turn.
    if let Some(place) = queue::place(observed, wanted, Urgency::Absent) {
        let again = draft.queued(observed, &place);
        return finish(observed, draft, actions, Some(again));
    }
    actions.extend(claim.map(|claim| Action::CreateClaim(Box::new(claim))));
    actions.extend(ca_config_map(observed, wanted));
    if leaves_files(&observed.entry) && !has_finalizer(observed) && !actions.contains(&Action::AddFinalizer) {
        actions.push(Action::AddFinalizer);
    }
    let name = job.metadata.name.clone().unwrap_or_default();
    actions.push(Action::CreateJob(Box::new(job)));
    draft.phase(phase, word, &format!("Job {name} is created"));
    finish(observed, draft, actions, Some(LOOK_EVERY))
}

/// Creates the Job of a transfer, with what it needs, and gives its name.
pub(super) fn create_transfer(
    observed: &Observed,
    wanted: &Wanted,
    seen_at: Option<Commit>,
    actions: &mut Vec<Action>,
) -> String {
    actions.extend(ca_config_map(observed, wanted));
    let job = build::transfer_job(observed, wanted, &Freshness::of(observed, seen_at));
    let name = job.metadata.name.clone().unwrap_or_default();
    actions.push(Action::CreateJob(Box::new(job)));
    name
}

pub(super) fn ca_config_map(observed: &Observed, wanted: &Wanted) -> Option<Action> {
    let CaSource::Operator(pem) = wanted.hub.ca.as_ref()? else { return None };
    Some(Action::CreateConfigMap(Box::new(build::ca_config_map(&build::Owner::of(observed), pem))))
}

/// What to do about the claim before an attempt.
enum ClaimMove {
    Use,
    Create,
    Wait(Why),
    Refuse(Why),
}

/// The entry with which a claim goes.
fn owner_of(claim: &PersistentVolumeClaim) -> Option<&OwnerReference> {
    let is_entry = |owner: &&OwnerReference| owner.kind == ModelCacheEntry::kind(&());
    claim.metadata.owner_references.iter().flatten().find(is_entry)
}

fn claim_for_attempt(observed: &Observed, wanted: &Wanted) -> ClaimMove {
    if let Origin::Archive { place: ArchiveSpot::Claim { name, .. }, .. } = &wanted.origin
        && observed.scene.archive_claim.is_none()
    {
        let message = format!("claim {name:?} of the archive does not exist in this namespace: create it");
        return ClaimMove::Wait(Why::new(Reason::PVCPending, message));
    }
    let name = &wanted.claim_name;
    let Some(claim) = &observed.scene.claim else {
        if wanted.template.is_some() {
            return ClaimMove::Create;
        }
        return ClaimMove::Wait(Why::new(
            Reason::PVCPending,
            format!("claim {name:?} does not exist in this namespace: create it"),
        ));
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return ClaimMove::Wait(Why::new(Reason::PVCPending, format!("claim {name:?} is being deleted")));
    }
    if let Some(owner) = owner_of(claim).filter(|owner| owner.uid != observed.uid()) {
        let message = format!(
            "claim {name:?} is entry {:?}'s own and goes with it: use a claim that no entry owns, or set reclaimPolicy Retain there",
            owner.name
        );
        return ClaimMove::Refuse(Why::new(Reason::Conflict, message));
    }
    if wanted.template.is_some() && !observed.claim_is_own() {
        let message = format!(
            "claim {name:?} exists and was not made for this entry: name it in spec.storage.claimName to use it, or give the entry another name"
        );
        return ClaimMove::Refuse(Why::new(Reason::Conflict, message));
    }
    match claim_trouble(&observed.scene) {
        // A claim that is only pending may wait for its first consumer: the Job is what binds it.
        Some(why) if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") => {
            ClaimMove::Wait(why)
        }
        _ => ClaimMove::Use,
    }
}
