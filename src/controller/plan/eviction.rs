//! How a model goes that nobody used for long, or that has to make room, and how it comes back. Its entry stays.
//!
//! The status says that it goes before the first byte does, so that no model is ever half there and Ready. From then on
//! `status.manifest` tells whether there may still be something on the volume.

use super::attempt::{Standing, standing};
use super::decide::{LISTEN_EVERY, LOOK_EVERY, delete_job, is_of_the_past};
use super::deletion::is_delete;
use super::observed::{ConnectionSight, Observed};
use super::room::{self, kept, rooms, unused_since};
use super::status::{Draft, Obstacle, finish};
use super::storage::storage_of;
use super::usage::{Usage, named};
use super::{Action, Plan, backoff, record};
use crate::api::status::EvictionStatus;
use crate::api::{ModelCacheEntryStatus, Phase, annotation};
use crate::controller::build;
use crate::format::outcome::{Failed, Room};
use crate::ident::{Period, Reason};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// Why the model goes now, if it does.
pub(super) fn due(observed: &Observed) -> Option<EvictionStatus> {
    let status = observed.entry.status.as_ref()?;
    if kept(&observed.entry, Some(status), &observed.scene.consumers).is_some() {
        return None;
    }
    let too_long = by_time(observed, status).filter(|eviction| eviction.at.0 <= observed.now);
    let eviction = too_long.or_else(|| by_room(observed))?;
    Some(EvictionStatus { at: Time(observed.now), why: eviction.why })
}

/// When the model goes if nobody uses it before.
fn by_time(observed: &Observed, status: &ModelCacheEntryStatus) -> Option<EvictionStatus> {
    let (period, whose) = unused_for(observed)?;
    let since = unused_since(status)?;
    let at = since.checked_add(period.duration()).ok()?;
    Some(EvictionStatus { at: Time(at), why: format!("not used for {period} since {since:.0}: {whose}") })
}

/// How long the model may be there unused, and who says so.
fn unused_for(observed: &Observed) -> Option<(Period, String)> {
    let own = observed.entry.spec.retention.as_ref().and_then(|retention| retention.unused_for.as_deref());
    if let Some(own) = own {
        return Some((own.parse().ok()?, "spec.retention.unusedFor".to_owned()));
    }
    let ConnectionSight::Found(connection) = &observed.connection else { return None };
    let text = connection.spec.cache.as_ref()?.retention.as_ref()?.unused_for.as_deref()?;
    let name = connection.metadata.name.as_deref().unwrap_or_default();
    Some((text.parse().ok()?, format!("spec.cache.retention.unusedFor of HubConnection {name:?}")))
}

/// Whether the model is the first to make room.
fn by_room(observed: &Observed) -> Option<EvictionStatus> {
    let ConnectionSight::Found(connection) = &observed.connection else { return None };
    let claim = storage_of(&observed.entry)?.claim_name.as_ref()?;
    if !room::has_limits(connection) {
        return None;
    }
    let rooms = rooms(connection, &observed.neighbours, &observed.scene.consumers, observed.now);
    let room = rooms.iter().find(|room| room.claim == *claim)?;
    (room.first()?.entry == observed.name())
        .then(|| EvictionStatus { at: Time(observed.now), why: room.pressure.clone().unwrap_or_default() })
}

/// Says in the status when the model goes, and gives the time until then.
pub(super) fn tell(observed: &Observed, status: &mut ModelCacheEntryStatus) -> Option<Duration> {
    match status.phase {
        Some(Phase::Evicted) => return None,
        // Nothing of it is told any more, and nobody waits for that.
        _ if observed.entry.metadata.deletion_timestamp.is_some() => status.eviction = None,
        Some(Phase::Ready) if kept(&observed.entry, Some(status), &observed.scene.consumers).is_none() => {
            status.eviction = by_time(observed, status);
        }
        _ => status.eviction = None,
    }
    let at = status.eviction.as_ref()?.at.0;
    Some(Duration::try_from(observed.now.duration_until(at)).unwrap_or_default())
}

/// The model is about to go: whatever is under way for it ends.
pub(super) fn begin(observed: &Observed, eviction: EvictionStatus, mut actions: Vec<Action>) -> Plan {
    let living = observed.scene.jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_none());
    actions.extend(living.filter_map(delete_job));
    let mut draft = Draft::of(observed);
    draft.start_anew(None);
    let message = format!("the model goes: {}", eviction.why);
    draft.evicting(eviction).phase(Phase::Evicted, "Evicting", &message);
    finish(observed, draft, actions, Some(LISTEN_EVERY))
}

/// The model is going or gone; or it comes back.
pub(super) fn go_on(observed: &Observed, actions: Vec<Action>) -> Plan {
    let is_going = observed.has_files();
    if let Some(why) = comes_back(observed) {
        let mut draft = Draft::of(observed);
        if !is_going {
            draft.forget_volume();
        }
        draft.start_anew(observed.asked_to_retry());
        draft.phase(Phase::Pending, "Pending", &format!("the model comes back: {why}"));
        return finish(observed, draft, actions, Some(LISTEN_EVERY));
    }
    if !is_going {
        return finish(observed, Draft::of(observed), actions, None);
    }
    let Some(claim) = &observed.scene.claim else { return gone(observed, None, actions) };
    let is_ending = claim.metadata.deletion_timestamp.is_some();
    if observed.claim_is_own() {
        if is_ending {
            return going(observed, actions, "the entry's claim is being deleted", LOOK_EVERY);
        }
        let (name, uid) = (claim.metadata.name.clone(), claim.metadata.uid.clone());
        let delete = name.zip(uid).map(|(name, uid)| Action::DeleteClaim { name, uid });
        return going(
            observed,
            record::with(actions, delete),
            "the entry's own claim is deleted with the model",
            LISTEN_EVERY,
        );
    }
    if is_ending || claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        return gone(observed, None, actions);
    }
    remove_files(observed, actions)
}

/// Why the model comes back, if it does.
fn comes_back(observed: &Observed) -> Option<String> {
    let observed_generation = observed.entry.status.as_ref().and_then(|status| status.observed_generation);
    if observed.asked_to_retry().is_some() {
        return Some("a retry was asked for".to_owned());
    }
    if observed_generation != observed.entry.metadata.generation {
        return Some("the spec changed".to_owned());
    }
    let usage = Usage::of(&observed.entry, &observed.scene.consumers);
    let is_untouched = observed.scene.jobs.is_empty() && observed.attempts_count() == 0;
    match () {
        () if !usage.users.is_empty() => Some(format!("Pod {} uses it", named(&usage.users))),
        () if !usage.waiting.is_empty() => Some(format!("Pod {} waits for it", named(&usage.waiting))),
        // What mounts a folder above is no wish for a model, but a reason not to take one away.
        () if !usage.holders.is_empty() && is_untouched && observed.has_files() => {
            Some(format!("Pod {} mounts a folder above it", named(&usage.holders)))
        }
        () => None,
    }
}

fn remove_files(observed: &Observed, actions: Vec<Action>) -> Plan {
    let Some(attempt) = observed.current() else { return start_or_wait(observed, actions) };
    let job = attempt.job;
    let name = job.metadata.name.as_deref().unwrap_or_default();
    if job.metadata.deletion_timestamp.is_some() {
        return going(observed, actions, "an earlier Job ends first", LISTEN_EVERY);
    }
    let is_useless = !is_delete(job) || is_of_the_past(observed, job);
    match standing(&observed.scene, job) {
        Standing::Done(done, _) if is_delete(job) => gone(observed, Some((name, done.room)), actions),
        Standing::Starting(_) | Standing::Running(_) | Standing::Done(..) if is_useless => {
            going(observed, record::with(actions, delete_job(job)), "an earlier Job ends first", LISTEN_EVERY)
        }
        Standing::Starting(Some(why)) => {
            let mut draft = Draft::of(observed);
            draft.phase(Phase::Evicted, why.reason.as_str(), &why.message);
            finish(observed, draft, actions, Some(LOOK_EVERY))
        }
        Standing::Starting(None) | Standing::Running(_) | Standing::Done(..) => {
            going(observed, actions, &format!("Job {name} removes the model's files"), LISTEN_EVERY)
        }
        // Done, but how much is free now is lost with its log, and without that others would go for nothing.
        Standing::Unheard => {
            failed(observed, job, &record::unheard(name, "it runs again and finds its work done"), actions)
        }
        Standing::Failed(failure) => failed(observed, job, &failure, actions),
    }
}

/// A removal failed: every failure is tried again.
fn failed(observed: &Observed, job: &Job, failure: &Failed, actions: Vec<Action>) -> Plan {
    let wait = backoff::delay(Reason::HubUnavailable, observed.attempts_count() + 1, None, 0);
    let wait = wait.unwrap_or(backoff::RECHECK);
    let mut draft = Draft::of(observed);
    draft.count_failure(job, failure, Some(wait));
    let message = format!("the model's files could not be removed, which is tried again: {}", failure.message);
    draft.phase(Phase::Evicted, failure.reason.as_str(), &message);
    finish(observed, draft, actions, Some(wait))
}

/// No removal is under way: it starts, unless an earlier one failed and the next is not due yet.
fn start_or_wait(observed: &Observed, actions: Vec<Action>) -> Plan {
    let left = record::time_left(observed.attempts(), observed.now).unwrap_or_default();
    if !left.is_zero() {
        return finish(observed, Draft::of(observed), actions, Some(left));
    }
    let job = match build::delete_job(observed) {
        Ok(Some(job)) => job,
        Ok(None) => return gone(observed, None, actions),
        Err(why) => {
            let mut draft = Draft::of(observed);
            draft.phase(Phase::Evicted, why.reason.as_str(), &why.message);
            return finish(observed, draft, actions, Some(LOOK_EVERY));
        }
    };
    let create = Action::CreateJob(Box::new(job));
    going(
        observed,
        record::with(actions, Some(create)),
        "a Job that removes the model's files is created",
        LISTEN_EVERY,
    )
}

/// What the removal met.
pub(super) fn obstructed(observed: &Observed, obstacle: &Obstacle) -> Plan {
    let mut draft = Draft::of(observed);
    match obstacle {
        Obstacle::Busy(writer) => {
            let message =
                format!("the model goes as soon as {writer}, which writes to the same model in this volume, ends");
            draft.phase(Phase::Evicted, "Evicting", &message)
        }
        // A removal takes from no Hub.
        Obstacle::Full => &mut draft,
        Obstacle::Denied(why) => draft.phase(Phase::Evicted, why.reason.as_str(), &why.message),
    };
    finish(observed, draft, Vec::new(), Some(obstacle.again()))
}

fn going(observed: &Observed, actions: Vec<Action>, message: &str, again: Duration) -> Plan {
    let mut draft = Draft::of(observed);
    draft.phase(Phase::Evicted, "Evicting", message);
    finish(observed, draft, actions, Some(again))
}

/// Nothing is left on the volume; with the Job that removed it, and the room that there was then.
fn gone(observed: &Observed, removed: Option<(&str, Option<Room>)>, actions: Vec<Action>) -> Plan {
    let mut draft = Draft::of(observed);
    if let Some((job, room)) = removed {
        draft.measured(room).succeeded(job);
    }
    let why = observed.entry.status.as_ref().and_then(|status| status.eviction.as_ref()).map(|eviction| &eviction.why);
    let why = why.map_or("it was not used", String::as_str);
    let message = format!(
        "the model is gone ({why}). A Pod that mounts or names it brings it back, and so does a new value of the annotation {}",
        annotation::RETRY
    );
    draft.forget_files().phase(Phase::Evicted, "Evicted", &message);
    finish(observed, draft, actions, None)
}
