//! A model that is there: whether the Hub has a newer commit of it, and how that one takes its place.
//!
//! Whatever is asked, downloaded or fails here, the entry stays Ready with what it has: its phase, its `Ready` condition and its
//! commit change in one step, when the newer commit is published whole.

use super::attempt::{Standing, lost, standing};
use super::consumer::Consumer;
use super::decide::{
    LISTEN_EVERY, LOOK_EVERY, again_after_silence, ca_config_map, create_transfer, delete_job, is_of_the_past,
    is_stuck_in_the_past, wait_after,
};
use super::observed::{Attempt, Observed, task_of};
use super::queue::{self, Urgency};
use super::room::arrived;
use super::status::{Draft, Obstacle, finish};
use super::usage::Usage;
use super::wanted::{Wanted, is_mended, known_model};
use super::{Action, Plan, Why, backoff, placement, record};
use crate::api::entry::UpdatePolicy;
use crate::api::status::{ReplacedCommit, UpdateStatus};
use crate::api::{ModelCacheEntrySpec, ModelCacheEntryStatus, annotation, condition};
use crate::controller::build;
use crate::format::outcome::{Done, Failed};
use crate::format::task::{Download, Work};
use crate::ident::{Commit, Period, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How far the clocks of nodes and of the API server may be apart.
const SKEW: SignedDuration = SignedDuration::from_mins(1);
const EVERY: Duration = Duration::from_hours(1);
/// How often it is looked whether the Hub has room for an update.
const FULL_EVERY: Duration = Duration::from_secs(30);
const KEEP: u32 = 1;
/// What becomes of work whose end nobody heard of.
const LOST: &str = "it runs again and finds its work done";

/// What happens when the revision moves.
struct Policy {
    tracks: bool,
    every: Duration,
}

/// Which commit a download is to have, and which older ones stay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The commit that the Hub has; absent where whatever is on the volume will do.
    pub seen_at: Option<Commit>,
    /// How many older snapshots stay.
    pub keep: u32,
    /// The commits that Pods may have mounted.
    pub mounted: Vec<Commit>,
}

impl Freshness {
    pub(super) fn of(observed: &Observed, seen_at: Option<Commit>) -> Self {
        let spec = observed.entry.spec.update.as_ref();
        let keep = spec.and_then(|update| u32::try_from(update.keep?).ok());
        let keep = keep.unwrap_or(if policy(&observed.entry.spec).is_some() { KEEP } else { 0 });
        let mut mounted = mounted(observed);
        // Pods that start until the newer one is there get the present one, and nobody knows of them yet.
        let present = observed.entry.status.as_ref().and_then(|status| status.commit.as_deref()?.parse().ok());
        mounted.extend(present.filter(|present| seen_at.is_some_and(|newer| newer != *present)));
        Self { seen_at, keep, mounted: mounted.into_iter().collect() }
    }
}

/// None where the entry keeps the commit that it has.
fn policy(spec: &ModelCacheEntrySpec) -> Option<Policy> {
    let update = spec.update.as_ref()?;
    let tracks = match update.policy? {
        UpdatePolicy::Pinned => return None,
        UpdatePolicy::Notify => false,
        UpdatePolicy::Track => true,
    };
    let is_archive = spec.source.as_ref().is_some_and(|source| source.hub.is_none());
    let is_commit = spec.revision.as_ref().is_some_and(|revision| revision.parse::<Commit>().is_ok());
    if is_archive || is_commit {
        return None;
    }
    let every = update.interval.as_deref().and_then(|text| text.parse::<Period>().ok());
    Some(Policy { tracks, every: every.map_or(EVERY, |period| period.duration()) })
}

/// The commits that Pods have mounted: by their own path, or by the entry's path while it led there.
fn mounted(observed: &Observed) -> BTreeSet<Commit> {
    let usage = Usage::of(&observed.entry, &observed.scene.consumers);
    let mut commits = usage.mounted;
    let Some(status) = &observed.entry.status else { return commits };
    let replaced = status.update.iter().flat_map(|update| update.replaced.iter().rev());
    let earlier = replaced.map(|replaced| {
        let began = replaced.update_began.as_ref().unwrap_or(&replaced.until);
        (replaced.commit.as_str(), replaced.until.0, began.0)
    });
    let current = status.commit.as_deref().map(|commit| (commit, Timestamp::MAX, Timestamp::MAX));
    // From the oldest on: each may have been there since the update began that brought it.
    let mut since = Timestamp::MIN;
    for (commit, until, next_since) in earlier.chain(current) {
        let may_have = |pod: &Arc<Consumer>| {
            let looked_up_since = |began: Timestamp| began.saturating_add(SKEW).is_ok_and(|by| by >= since);
            pod.started.is_some_and(|started| started < until) && pod.begun.is_none_or(looked_up_since)
        };
        if usage.users.iter().chain(&usage.holders).any(may_have) {
            commits.extend(commit.parse::<Commit>().ok());
        }
        since = next_since;
    }
    commits
}

/// The commits that were replaced, beyond the newest ones that are kept.
fn surplus(status: &ModelCacheEntryStatus, keep: u32) -> Vec<Commit> {
    let replaced = status.update.iter().flat_map(|update| &update.replaced);
    let mut older: Vec<&str> = Vec::new();
    for replaced in replaced.map(|replaced| replaced.commit.as_str()) {
        if Some(replaced) != status.commit.as_deref() && !older.contains(&replaced) {
            older.push(replaced);
        }
    }
    older.into_iter().skip(keep as usize).filter_map(|commit| commit.parse().ok()).collect()
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The Hub is asked.
    Check,
    /// This commit is downloaded.
    Fetch(Commit),
    /// Nothing, for this long.
    Wait(Duration),
}

/// Decides for a model that is on its volume.
pub(super) fn decide(observed: &Observed, wanted: &Wanted, actions: Vec<Action>) -> Plan {
    let Some(policy) = policy(&observed.entry.spec) else { return pinned(observed, actions) };
    let Some(attempt) = observed.current() else { return rest(observed, wanted, &policy, actions) };
    if attempt.job.metadata.deletion_timestamp.is_some() {
        return finish(observed, Draft::of(observed), actions, Some(LISTEN_EVERY));
    }
    if is_unwanted(observed, &policy, &attempt) {
        let mut draft = Draft::of(observed);
        draft.whole();
        update(&mut draft).updating_to = None;
        return finish(observed, draft, record::with(actions, delete_job(attempt.job)), Some(LISTEN_EVERY));
    }
    if is_stuck_in_the_past(observed, attempt.job) {
        return finish(
            observed,
            Draft::of(observed),
            record::with(actions, delete_job(attempt.job)),
            Some(LISTEN_EVERY),
        );
    }
    let name = attempt.job.metadata.name.clone().unwrap_or_default();
    let actions = record::sparing(actions, &name);
    let is_check = attempt.task.as_ref().is_some_and(|task| matches!(task.work, Work::Resolve(_)));
    if is_check {
        follow_check(observed, attempt.job, &name, actions)
    } else {
        follow_download(observed, wanted, attempt.job, &name, actions)
    }
}

/// What a Ready model's Job met.
pub(super) fn obstructed(observed: &Observed, obstacle: &Obstacle) -> Plan {
    let mut draft = Draft::of(observed);
    let again = obstacle.again();
    if let Obstacle::Denied(why) = obstacle {
        in_trouble(&mut draft, why);
    }
    finish(observed, draft, Vec::new(), Some(again))
}

/// Whether what a Job does is not wanted any more.
fn is_unwanted(observed: &Observed, policy: &Policy, attempt: &Attempt<'_>) -> bool {
    match attempt.task.as_ref().map(|task| &task.work) {
        Some(Work::Resolve(_)) => false,
        Some(Work::Download(_)) => !policy.tracks && is_of_the_past(observed, attempt.job),
        _ => true,
    }
}

/// The entry keeps the commit that it has; what an earlier policy began ends.
fn pinned(observed: &Observed, actions: Vec<Action>) -> Plan {
    let mut draft = Draft::of(observed);
    let is_going = |attempt: &Attempt<'_>| attempt.job.metadata.deletion_timestamp.is_none();
    let stopped = observed.current().filter(is_going).and_then(|attempt| delete_job(attempt.job));
    let again = stopped.is_some().then_some(LISTEN_EVERY);
    let had_another_policy = draft.status.update.take().is_some();
    draft.status.conditions.retain(|condition| condition.type_ != condition::DRIFTED);
    if had_another_policy {
        draft.whole().start_anew(None);
    }
    draft.heeds_retry(observed);
    finish(observed, draft, record::with(actions, stopped), again)
}

/// Nothing is under way.
fn rest(observed: &Observed, wanted: &Wanted, policy: &Policy, mut actions: Vec<Action>) -> Plan {
    let mut draft = Draft::of(observed);
    let retry = observed.asked_to_retry();
    let spec_changed = observed.entry.status.as_ref().and_then(|status| status.observed_generation)
        != observed.entry.metadata.generation;
    if retry.is_some() || spec_changed || is_mended(observed, wanted) {
        draft.start_anew(retry);
    }
    if spec_changed && !policy.tracks {
        update(&mut draft).updating_to = None;
    }
    let step = match next_step(&draft.status, policy, retry.is_some(), observed.now) {
        // The same task, done once more, lets go of what is kept no more.
        Step::Wait(_) if may_tidy(observed, &draft.status) => {
            let present = draft.status.commit.as_deref().and_then(|commit| commit.parse().ok());
            present.map_or(Step::Check, Step::Fetch)
        }
        step => step,
    };
    let again = match step {
        Step::Wait(left) => {
            tell(observed, &mut draft);
            left
        }
        // Whoever has no model yet goes first.
        Step::Check | Step::Fetch(_) if queue::place(observed, wanted, Urgency::Update).is_some() => {
            draft.still_asked(observed);
            tell(observed, &mut draft);
            FULL_EVERY
        }
        Step::Check => {
            actions.extend(ca_config_map(observed, wanted));
            actions.extend(build::resolve_job(observed, wanted).map(|job| Action::CreateJob(Box::new(job))));
            tell(observed, &mut draft);
            LOOK_EVERY
        }
        Step::Fetch(commit) => {
            // The worker goes where the claim is.
            let job = match placement::place(&observed.scene, wanted.job.clone()) {
                Ok(job) => job,
                Err(why) => {
                    draft.still_asked(observed);
                    in_trouble(&mut draft, &why);
                    return finish(observed, draft, actions, Some(LOOK_EVERY));
                }
            };
            let wanted = &Wanted { job, ..wanted.clone() };
            let name = create_transfer(observed, wanted, Some(commit), &mut actions);
            draft.begins(wanted);
            if newer(&draft.status) == Some(commit) {
                update(&mut draft).updating_to = Some(commit.to_string());
                downloads(observed, &mut draft, &name);
            }
            LOOK_EVERY
        }
    };
    finish(observed, draft, actions, Some(again))
}

/// Whether it is time to let go of older snapshots that nobody has any more: not while an earlier try waits for its next one, or for a person.
fn may_tidy(observed: &Observed, status: &ModelCacheEntryStatus) -> bool {
    let attempts = status.attempts.as_ref();
    let is_due = match record::time_left(attempts, observed.now) {
        Some(left) => left.is_zero(),
        None => attempts.is_none_or(|attempts| attempts.count == 0),
    };
    let Freshness { keep, mounted, .. } = Freshness::of(observed, None);
    is_due && surplus(status, keep).iter().any(|commit| !mounted.contains(commit))
}

fn next_step(status: &ModelCacheEntryStatus, policy: &Policy, retry: bool, now: Timestamp) -> Step {
    let update = status.update.clone().unwrap_or_default();
    let attempts = status.attempts.as_ref();
    let left = record::time_left(attempts, now);
    let newer = newer(status);
    let target = if policy.tracks || retry { newer } else { newer.filter(|_| update.updating_to.is_some()) };
    if let Some(commit) = target {
        match left {
            Some(Duration::ZERO) => return Step::Fetch(commit),
            Some(left) => return Step::Wait(left),
            None if attempts.is_none_or(|attempts| attempts.count == 0) => return Step::Fetch(commit),
            // What speaks against this commit will not pass by itself: perhaps the next one is better.
            None => {}
        }
    } else if retry {
        return Step::Check;
    }
    let last = [update.checked_at.map(|time| time.0), arrived(status)].into_iter().flatten().max();
    let due = last.and_then(|last| last.checked_add(policy.every).ok()).unwrap_or(now);
    let until_due = Duration::try_from(now.duration_until(due)).unwrap_or_default();
    match until_due.max(left.unwrap_or_default()) {
        Duration::ZERO => Step::Check,
        wait => Step::Wait(wait),
    }
}

/// The commit that the Hub has, where it is another one.
fn newer(status: &ModelCacheEntryStatus) -> Option<Commit> {
    let latest = status.update.as_ref()?.latest_commit.as_ref()?;
    if Some(latest) == status.commit.as_ref() { None } else { latest.parse().ok() }
}

fn follow_check(observed: &Observed, job: &Job, name: &str, actions: Vec<Action>) -> Plan {
    let mut draft = Draft::of(observed);
    let again = match standing(&observed.scene, job) {
        Standing::Starting(None) => Some(LOOK_EVERY),
        Standing::Starting(Some(why)) => {
            in_trouble(&mut draft, &why);
            Some(LOOK_EVERY)
        }
        Standing::Running(_) => Some(LISTEN_EVERY),
        Standing::Done(done, _) => {
            let latest = done.resolved.and_then(|resolved| resolved.commit).map(|commit| commit.to_string());
            let is_hopeless = update(&mut draft).updating_to.is_some()
                && update(&mut draft).updating_to == latest
                && record::time_left(observed.attempts(), observed.now).is_none();
            let update = update(&mut draft);
            update.checked_at = Some(Time(observed.now));
            update.latest_commit = latest;
            if is_hopeless {
                draft.attempts().last_job = Some(name.to_owned());
            } else {
                draft.succeeded(name);
            }
            tell(observed, &mut draft);
            None
        }
        Standing::Unheard => Some(failed(observed, &mut draft, job, &record::unheard(name, LOST))),
        Standing::Failed(failure) => Some(failed(observed, &mut draft, job, &failure)),
    };
    draft.heeds_retry(observed);
    finish(observed, draft, actions, again)
}

fn follow_download(observed: &Observed, wanted: &Wanted, job: &Job, name: &str, actions: Vec<Action>) -> Plan {
    let mut draft = Draft::of(observed);
    draft.begins(wanted);
    let again = match standing(&observed.scene, job) {
        Standing::Starting(None) => Some(LOOK_EVERY),
        Standing::Starting(Some(why)) => {
            in_trouble(&mut draft, &why);
            Some(LOOK_EVERY)
        }
        Standing::Running(progress) => {
            if let Some(progress) = progress.filter(|progress| progress.bytes_total > 0) {
                draft.progress(&progress);
            }
            if !is_tidying(observed, job) {
                downloads(observed, &mut draft, name);
            }
            Some(LISTEN_EVERY)
        }
        Standing::Done(done, metadata) => {
            if let Some(lost) = lost(&observed.scene, job) {
                Some(failed(observed, &mut draft, job, &lost))
            } else {
                published(observed, &mut draft, job, &done, metadata.as_deref());
                None
            }
        }
        Standing::Unheard => Some(failed(observed, &mut draft, job, &record::unheard(name, LOST))),
        Standing::Failed(failure) => {
            let wait = wait_after(observed, &failure);
            note_failure(&mut draft, job, &failure, wait);
            wait
        }
    };
    // Whoever asks meanwhile asks for a look at the Hub, which this Job does not do.
    if !is_tidying(observed, job) {
        draft.heeds_retry(observed);
    }
    finish(observed, draft, actions, again)
}

fn download_of(job: &Job) -> Option<Download> {
    match task_of(job)?.work {
        Work::Download(download) => Some(download),
        _ => None,
    }
}

/// Whether a Job has the commit that is there already, and only lets go of older ones.
fn is_tidying(observed: &Observed, job: &Job) -> bool {
    let seen_at = download_of(job).and_then(|download| download.seen_at).map(|commit| commit.to_string());
    seen_at.is_some() && seen_at == observed.entry.status.as_ref().and_then(|status| status.commit.clone())
}

/// The newer commit is there, whole: everything that is said of the model switches at once.
fn published(observed: &Observed, draft: &mut Draft, job: &Job, done: &Done, metadata: Option<&str>) {
    let before = draft.status.commit.clone();
    let now = Time(observed.now);
    let Freshness { keep, mounted: mut stays, .. } = Freshness::of(observed, None);
    let is_tidying = is_tidying(observed, job);
    // What was mounted when the Job began is on the volume, though nobody may have it any more.
    stays.extend(download_of(job).into_iter().flat_map(|download| download.mounted));
    draft.done(job.metadata.name.as_deref().unwrap_or_default(), done, metadata);
    let commit = draft.status.commit.clone();
    let update = update(draft);
    // Where older snapshots were let go of and nothing else, nobody asked the Hub.
    if !is_tidying || before != commit {
        update.updating_to = None;
        update.checked_at = Some(now.clone());
        update.latest_commit.clone_from(&commit);
    }
    if let Some(before) = before.filter(|before| Some(before) != commit.as_ref()) {
        let update_began = job.metadata.creation_timestamp.clone();
        update.replaced.insert(0, ReplacedCommit { commit: before, until: now, update_began });
    }
    let surplus = surplus(&draft.status, keep);
    let is_gone = |commit: &Commit| surplus.contains(commit) && !stays.contains(commit);
    let update = draft.status.update.get_or_insert_default();
    update.replaced.retain(|replaced| replaced.commit.parse().is_ok_and(|commit| !is_gone(&commit)));
    tell(observed, draft);
}

/// Something failed that is tried again in any case.
fn failed(observed: &Observed, draft: &mut Draft, job: &Job, failure: &Failed) -> Duration {
    let wait = if failure.reason == Reason::Interrupted && failure.retry_after_seconds.is_none() {
        again_after_silence(observed.attempts_count())
    } else {
        wait_after(observed, failure).unwrap_or(backoff::RECHECK)
    };
    note_failure(draft, job, failure, Some(wait));
    wait
}

/// An attempt failed beside a model that is there and stays Ready; `wait` is how long until the next one.
pub(super) fn note_failure(draft: &mut Draft, job: &Job, failure: &Failed, wait: Option<Duration>) {
    draft.whole().count_failure(job, failure, wait);
    in_trouble(draft, &Why::new(failure.reason, failure.message.clone()));
}

fn update(draft: &mut Draft) -> &mut UpdateStatus {
    draft.status.update.get_or_insert_default()
}

/// Says whether the Hub has a newer commit, unless there is a failure to tell of.
fn tell(observed: &Observed, draft: &mut Draft) {
    if draft.has_condition(condition::DRIFTED) && draft.attempts_count() > 0 {
        return;
    }
    let (revision, here) = (revision(observed), draft.status.commit.clone().unwrap_or_default());
    match newer(&draft.status) {
        None => draft.set_condition(
            condition::DRIFTED,
            "False",
            "UpToDate",
            &format!("{revision} is at {here}, which is here"),
        ),
        Some(newer) => {
            let message = format!(
                "{revision} moved on the Hub from {here} to {newer}: a new value of the annotation {} downloads it",
                annotation::RETRY
            );
            draft.set_condition(condition::DRIFTED, "True", "NewCommit", &message)
        }
    };
}

/// Says that the newer commit is on its way.
fn downloads(observed: &Observed, draft: &mut Draft, job: &str) {
    let here = draft.status.commit.clone().unwrap_or_default();
    let newer = update(draft).updating_to.clone().unwrap_or_default();
    let message = format!("{} moved on the Hub from {here} to {newer}, which Job {job} downloads", revision(observed));
    draft.set_condition(condition::DRIFTED, "True", "Updating", &message);
}

/// Says why the Hub's commit is not known, or cannot be had.
fn in_trouble(draft: &mut Draft, why: &Why) {
    let status = if newer(&draft.status).is_some() { "True" } else { "Unknown" };
    draft.set_condition(condition::DRIFTED, status, why.reason.as_str(), &why.message);
}

fn revision(observed: &Observed) -> String {
    known_model(&observed.entry).map(|model| model.revision_or_main().to_string()).unwrap_or_default()
}
