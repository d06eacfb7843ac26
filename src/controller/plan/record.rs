//! What entries, exports and imports have in common: conditions, progress, attempts, retries.

use super::attempt::{has_ended, is_unfinished};
use super::decide::{LOOK_EVERY, delete_job};
use super::observed::Scene;
use super::status::human_bytes;
use super::{Action, Notice};
use crate::api::annotation;
use crate::api::status::{AttemptsStatus, ProgressStatus};
use crate::format::outcome::{Failed, Progress};
use crate::ident::Reason;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use std::time::Duration;

/// What a condition says.
pub(super) struct Says<'a> {
    pub(super) type_: &'a str,
    pub(super) status: &'a str,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

/// Sets a condition; its time moves only when its status does.
pub(super) fn set_condition(
    conditions: &mut Vec<Condition>,
    says: &Says<'_>,
    now: Timestamp,
    observed_generation: Option<i64>,
) {
    let old = conditions.iter().position(|condition| condition.type_ == says.type_);
    let since = old
        .map(|index| &conditions[index])
        .filter(|condition| condition.status == says.status)
        .map_or(Time(now), |condition| condition.last_transition_time.clone());
    let new = Condition {
        type_: says.type_.to_owned(),
        status: says.status.to_owned(),
        reason: says.reason.to_owned(),
        message: says.message.to_owned(),
        last_transition_time: since,
        observed_generation,
    };
    match old {
        Some(index) => conditions[index] = new,
        None => conditions.push(new),
    }
}

/// Takes what was heard of a worker; gives the same as people read it: `45%`, and the size of the whole.
pub(super) fn heard(
    status: &mut Option<ProgressStatus>,
    progress: &Progress,
    now: Timestamp,
) -> Option<(String, String)> {
    let left = progress.bytes_total.saturating_sub(progress.bytes_done);
    let new = ProgressStatus {
        bytes_done: signed(progress.bytes_done),
        bytes_total: signed(progress.bytes_total),
        files_done: signed(progress.files_done),
        files_total: signed(progress.files_total),
        bytes_per_second: signed(progress.bytes_per_second),
        eta_seconds: left.checked_div(progress.bytes_per_second).map(signed),
        updated_at: Some(Time(now)),
    };
    // Nothing new was heard: nothing is written.
    let unchanged =
        status.as_ref().is_some_and(|old| ProgressStatus { updated_at: old.updated_at.clone(), ..new.clone() } == *old);
    if !unchanged {
        *status = Some(new);
    }
    let percent = (progress.bytes_done * 100).checked_div(progress.bytes_total)?;
    Some((format!("{}%", percent.min(100)), human_bytes(progress.bytes_total)))
}

/// An attempt failed; `wait` is how long until the next one, if there is one by itself.
pub(super) fn count_failure(
    attempts: &mut AttemptsStatus,
    job: &Job,
    failed: &Failed,
    wait: Option<Duration>,
    now: Timestamp,
) {
    attempts.count += 1;
    attempts.last_reason = Some(failed.reason.to_string());
    attempts.last_message = Some(failed.message.clone());
    attempts.next_retry_at = wait.and_then(|wait| SignedDuration::try_from(wait).ok()).map(|wait| Time(now + wait));
    attempts.last_job.clone_from(&job.metadata.name);
    attempts.last_hub = job.metadata.annotations.as_ref().and_then(|all| all.get(annotation::HUB).cloned());
}

/// Why an attempt failed whose end this status is the first to record.
pub fn newly_failed<'a>(old: Option<&AttemptsStatus>, new: Option<&'a AttemptsStatus>) -> Option<&'a str> {
    let new = new.filter(|new| new.count > old.map_or(0, |old| old.count))?;
    new.last_reason.as_deref()
}

/// The attempts after a success.
pub(super) fn success(attempts: &mut AttemptsStatus, job: &str) {
    *attempts = AttemptsStatus {
        last_job: Some(job.to_owned()),
        last_retry: attempts.last_retry.take(),
        ..AttemptsStatus::default()
    };
}

/// An attempt begins; a retry forgets what was tried.
pub(super) fn begin(attempts: &mut AttemptsStatus, retry: Option<&str>) {
    attempts.next_retry_at = None;
    if let Some(retry) = retry {
        attempts.count = 0;
        attempts.last_retry = Some(retry.to_owned());
    }
}

/// The worker succeeded, but what it said is lost; `then` is what becomes of its work.
pub(super) fn unheard(job: &str, then: &str) -> Failed {
    let message = format!("Job {job} succeeded but its log is lost; {then}");
    Failed { reason: Reason::Interrupted, message, retry_after_seconds: None }
}

/// Whether a Job was made for another generation of an object's spec.
pub(super) fn is_of_another_spec(job: &Job, object: &ObjectMeta) -> bool {
    let made_for = job.metadata.annotations.as_ref().and_then(|all| all.get(annotation::GENERATION));
    made_for.is_some_and(|made_for| *made_for != object.generation.unwrap_or_default().to_string())
}

/// The generation of the spec that a Job was made for.
pub(super) fn generation_of(job: &Job) -> Option<i64> {
    job.metadata.annotations.as_ref()?.get(annotation::GENERATION)?.parse().ok()
}

/// The newest value of the retry annotation, when it was not acted on yet.
pub(super) fn asked_to_retry<'a>(object: &'a ObjectMeta, attempts: Option<&AttemptsStatus>) -> Option<&'a str> {
    let asked = object.annotations.as_ref()?.get(annotation::RETRY)?.as_str();
    let acted = attempts.and_then(|attempts| attempts.last_retry.as_deref());
    (acted != Some(asked)).then_some(asked)
}

/// How long it is until the next attempt, and nothing when it is due; none where no time is set.
pub(super) fn time_left(attempts: Option<&AttemptsStatus>, now: Timestamp) -> Option<Duration> {
    let due = attempts?.next_retry_at.as_ref()?.0;
    if due <= now {
        return Some(Duration::ZERO);
    }
    Some(Duration::try_from(now.duration_until(due)).unwrap_or(LOOK_EVERY))
}

/// The Jobs whose end is recorded go. The last one that failed stays for people to look at its log, until the next attempt or
/// success; one that was given up before its worker ran has none.
pub(super) fn recorded_jobs(scene: &Scene, recorded: Option<&str>, has_failed: bool) -> Vec<Action> {
    let stays = has_failed && scene.current(recorded).is_none();
    let is_given_up = |job: &Job| is_unfinished(job) && !scene.pods_of(job).into_iter().any(has_ended);
    let is_over = |job: &&Job| job.metadata.name.as_deref() == recorded && job.metadata.deletion_timestamp.is_none();
    let over = scene.jobs.iter().filter(is_over);
    over.filter(|job| !stays || is_given_up(job)).filter_map(delete_job).collect()
}

/// What is to be done, but for the end of this Job: the last one that failed may go now, the one at work may not.
pub(super) fn sparing(mut actions: Vec<Action>, job: &str) -> Vec<Action> {
    actions.retain(|action| !matches!(action, Action::DeleteJob { name, .. } if name == job));
    actions
}

/// Some actions, and perhaps one more.
pub(super) fn with(mut actions: Vec<Action>, action: Option<Action>) -> Vec<Action> {
    actions.extend(action);
    actions
}

/// What people who watch events are told of a condition.
pub(super) fn notice(conditions: &[Condition], type_: &str) -> Option<Notice> {
    let said = condition_of(conditions, type_)?;
    Some(Notice {
        warning: Reason::of_name(&said.reason).is_some(),
        reason: said.reason.clone(),
        message: said.message.clone(),
    })
}

/// The condition of a type.
pub(super) fn condition_of<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The reason that a condition gives.
pub(super) fn reason_of<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a str> {
    condition_of(conditions, type_).map(|condition| condition.reason.as_str())
}

pub(super) fn counted(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
