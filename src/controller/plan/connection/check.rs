//! Whether a connection's Hub can be reached, and whose token it is.
//!
//! The operator never reads a token: a Job without a volume asks the Hub, when the spec changed, when a person wants it, and every hour
//! while it did not go well. What stands in the worker's own way says nothing of the Hub: then it is Unknown.

use super::ObservedConnection;
use crate::api::{HubConnectionStatus, condition};
use crate::controller::build;
use crate::controller::plan::attempt::{Standing, standing};
use crate::controller::plan::decide::{LISTEN_EVERY, LOOK_EVERY, again_after_silence, delete_job, has_another_image};
use crate::controller::plan::record::{self, Says};
use crate::controller::plan::wanted::{CaSource, HubView, hub_view};
use crate::controller::plan::{Action, ConnectionSight, Notice, Why, backoff};
use crate::format::outcome::{Checked, Failed};
use crate::ident::Reason;
use k8s_openapi::api::batch::v1::Job;
use std::time::Duration;

const TYPES: [&str; 2] = [condition::REACHABLE, condition::AUTHENTICATED];

/// What is done for the check.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) actions: Vec<Action>,
    pub(super) notices: Vec<Notice>,
    pub(super) again: Option<Duration>,
}

/// Decides on the check, and writes what it found into the status.
pub(super) fn decide(observed: &ObservedConnection, status: &mut HubConnectionStatus) -> Step {
    if observed.connection.metadata.deletion_timestamp.is_some() {
        // Owner references take its Jobs.
        return Step::default();
    }
    let before = reasons(status);
    let has_failed = observed.attempts().is_some_and(|attempts| attempts.count > 0);
    let mut actions = record::recorded_jobs(&observed.scene, observed.recorded_job(), has_failed);
    let again = match observed.scene.current(observed.recorded_job()) {
        Some(attempt) if attempt.job.metadata.deletion_timestamp.is_some() => Some(LISTEN_EVERY),
        Some(attempt) if is_stuck(observed, attempt.job) => {
            actions.extend(delete_job(attempt.job));
            record::begin(status.attempts.get_or_insert_default(), asked_to_retry(observed));
            Some(LISTEN_EVERY)
        }
        Some(attempt) => follow(observed, attempt.job, status),
        None => rest(observed, status, &mut actions),
    };
    let notices = TYPES.into_iter().zip(before).filter_map(|(type_, before)| {
        let after = record::reason_of(&status.conditions, type_).map(str::to_owned);
        record::notice(&status.conditions, type_).filter(|_| after != before)
    });
    Step { notices: notices.collect(), actions, again }
}

/// What is said of the check where the cluster does not allow its Job.
pub(super) fn denied(observed: &ObservedConnection, status: &mut HubConnectionStatus, why: &Why) -> Vec<Notice> {
    let before = reasons(status);
    both(observed, status, "Unknown", why.reason.as_str(), &why.message);
    let is_news = before[0].as_deref() != Some(why.reason.as_str());
    record::notice(&status.conditions, condition::REACHABLE).filter(|_| is_news).into_iter().collect()
}

fn reasons(status: &HubConnectionStatus) -> [Option<String>; 2] {
    TYPES.map(|type_| record::reason_of(&status.conditions, type_).map(str::to_owned))
}

fn asked_to_retry(observed: &ObservedConnection) -> Option<&str> {
    record::asked_to_retry(&observed.connection.metadata, observed.attempts())
}

/// Whether a Job cannot start, and another one might.
fn is_stuck(observed: &ObservedConnection, job: &Job) -> bool {
    let another = record::is_of_another_spec(job, &observed.connection.metadata)
        || has_another_image(job, &observed.config.image)
        || asked_to_retry(observed).is_some();
    another && matches!(standing(&observed.scene, job), Standing::Starting(Some(_)))
}

/// No check is under way.
fn rest(
    observed: &ObservedConnection,
    status: &mut HubConnectionStatus,
    actions: &mut Vec<Action>,
) -> Option<Duration> {
    let sight = ConnectionSight::Found(Box::new(observed.connection.clone()));
    let hub = match hub_view(&sight, &observed.config) {
        Ok(hub) => hub,
        Err(why) => {
            both(observed, status, "Unknown", why.reason.as_str(), &why.message);
            return None;
        }
    };
    let left = due(observed, &hub)?;
    if !left.is_zero() {
        return Some(left);
    }
    record::begin(status.attempts.get_or_insert_default(), asked_to_retry(observed));
    if let Some(CaSource::Operator(pem)) = &hub.ca {
        let owner = build::Owner::of_connection(observed);
        actions.push(Action::CreateConfigMap(Box::new(build::ca_config_map(&owner, pem))));
    }
    actions.push(Action::CreateJob(Box::new(build::check_job(observed, &hub))));
    Some(LOOK_EVERY)
}

/// How long it is until the next check; none where that waits for a change.
fn due(observed: &ObservedConnection, hub: &HubView) -> Option<Duration> {
    let checked = observed.connection.status.as_ref().and_then(|status| status.checked_generation);
    let attempts = observed.attempts().filter(|attempts| attempts.count > 0);
    let is_mended = attempts.and_then(|attempts| attempts.last_hub.as_ref()).is_some_and(|last| *last != hub.digest());
    if asked_to_retry(observed).is_some() || is_mended || checked != observed.connection.metadata.generation {
        return Some(Duration::ZERO);
    }
    // A Job that went without a word, as when a person deletes it, left no time for the next.
    record::time_left(attempts, observed.now).or(attempts.map(|_| Duration::ZERO))
}

/// A check is under way, or its end is not recorded yet.
fn follow(observed: &ObservedConnection, job: &Job, status: &mut HubConnectionStatus) -> Option<Duration> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let checked = match standing(&observed.scene, job) {
        Standing::Starting(None) => return Some(LOOK_EVERY),
        Standing::Running(_) => return Some(LISTEN_EVERY),
        Standing::Starting(Some(why)) => {
            both(observed, status, "Unknown", why.reason.as_str(), &why.message);
            return Some(LOOK_EVERY);
        }
        Standing::Done(done, _) => done.checked.map(|checked| Ok(*checked)),
        Standing::Unheard => None,
        Standing::Failed(failed) => Some(Err(failed)),
    };
    // A spec that changed meanwhile is checked next.
    status.checked_generation = record::generation_of(job);
    status.authenticated_as = None;
    match checked {
        None => {
            let count = status.attempts.as_ref().map_or(0, |attempts| attempts.count);
            Some(failed(observed, status, job, &record::unheard(name, "it is asked again"), again_after_silence(count)))
        }
        Some(Err(failure)) => {
            let wait = wait_after(status, &failure);
            Some(failed(observed, status, job, &failure, wait))
        }
        Some(Ok(checked)) => found(observed, status, job, checked),
    }
}

/// What stood in the worker's own way passes soon; everything else is looked at every hour.
fn wait_after(status: &HubConnectionStatus, failure: &Failed) -> Duration {
    let count = status.attempts.as_ref().map_or(0, |attempts| attempts.count);
    let soon = backoff::delay(failure.reason, count + 1, None, 0).filter(|_| is_of_the_worker(failure.reason));
    soon.unwrap_or(backoff::RECHECK)
}

/// Whether a reason speaks of the worker, and not of the Hub.
fn is_of_the_worker(reason: Reason) -> bool {
    use Reason::{DeadlineExceeded, Evicted, Interrupted, NodeLost, OOMKilled};
    [Interrupted, OOMKilled, Evicted, NodeLost, DeadlineExceeded].contains(&reason)
}

fn failed(
    observed: &ObservedConnection,
    status: &mut HubConnectionStatus,
    job: &Job,
    failure: &Failed,
    wait: Duration,
) -> Duration {
    let attempts = status.attempts.get_or_insert_default();
    record::count_failure(attempts, job, failure, Some(wait), observed.now);
    let (reason, message) = (failure.reason.as_str(), &failure.message);
    match failure.reason {
        Reason::SecretNotFound => {
            say(observed, status, condition::REACHABLE, "Unknown", reason, message);
            say(observed, status, condition::AUTHENTICATED, "False", reason, message);
        }
        other if is_of_the_worker(other) => both(observed, status, "Unknown", reason, message),
        _ => {
            say(observed, status, condition::REACHABLE, "False", reason, message);
            say(observed, status, condition::AUTHENTICATED, "Unknown", reason, message);
        }
    }
    wait
}

/// The Hub answered.
fn found(
    observed: &ObservedConnection,
    status: &mut HubConnectionStatus,
    job: &Job,
    checked: Checked,
) -> Option<Duration> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let attempts = status.attempts.get_or_insert_default();
    let mut again = None;
    if let Checked::Refused { why } = &checked {
        let failure = Failed { reason: Reason::Unauthorized, message: why.clone(), retry_after_seconds: None };
        record::count_failure(attempts, job, &failure, Some(backoff::RECHECK), observed.now);
        again = Some(backoff::RECHECK);
    } else {
        record::success(attempts, name);
    }
    say(observed, status, condition::REACHABLE, "True", "Answered", "the Hub answered");
    match checked {
        Checked::Account { name } => {
            let message = format!("the Hub takes the token for {name:?}");
            say(observed, status, condition::AUTHENTICATED, "True", "TokenAccepted", &message);
            status.authenticated_as = Some(name);
        }
        Checked::Refused { why } => {
            say(observed, status, condition::AUTHENTICATED, "False", Reason::Unauthorized.as_str(), &why);
        }
        Checked::Anonymous => {
            let message = "no token is set: only what the Hub gives to everybody can be had";
            say(observed, status, condition::AUTHENTICATED, "False", "Anonymous", message);
        }
        Checked::Untold { why } => {
            let message = format!("the Hub does not say whose token it is: {why}");
            say(observed, status, condition::AUTHENTICATED, "Unknown", "NotTold", &message);
        }
    }
    again
}

fn both(observed: &ObservedConnection, status: &mut HubConnectionStatus, holds: &str, reason: &str, message: &str) {
    for type_ in TYPES {
        say(observed, status, type_, holds, reason, message);
    }
}

fn say(
    observed: &ObservedConnection,
    status: &mut HubConnectionStatus,
    type_: &str,
    holds: &str,
    reason: &str,
    message: &str,
) {
    let says = Says { type_, status: holds, reason, message };
    record::set_condition(&mut status.conditions, &says, observed.now, observed.connection.metadata.generation);
}
