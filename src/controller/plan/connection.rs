//! What is said of a connection: whether its Hub can be reached, how much its models take, and which of them would go next.

pub(super) mod check;

use super::Plan;
use super::consumer::Consumer;
use super::observed::Scene;
use super::queue::Running;
use super::record::{Says, counted, notice, reason_of, set_condition, signed};
use super::room::{self, ClaimRoom, rooms, uses_connection};
use super::status::Obstacle;
use super::wanted::merge;
use crate::api::connection::{ClaimUseStatus, ConnectionQueue, NextToGo};
use crate::api::job::JobSettings;
use crate::api::status::AttemptsStatus;
use crate::api::{HubConnection, HubConnectionStatus, ModelCacheEntry, Phase, condition};
use crate::controller::config::Config;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// So many of those that would go are named.
const NAMED_MAX: usize = 3;

/// Everything that one decision is made from.
#[derive(Debug, Clone)]
pub struct ObservedConnection {
    /// The connection.
    pub connection: HubConnection,
    /// The entries of its namespace.
    pub entries: Vec<Arc<ModelCacheEntry>>,
    /// The Pods of its namespace that may have to do with models.
    pub consumers: Vec<Arc<Consumer>>,
    /// The operator's configuration.
    pub config: Config,
    /// What was seen of the Jobs that check the connection.
    pub scene: Scene,
    /// Who takes from Hubs now.
    pub running: Vec<Running>,
    /// The time.
    pub now: Timestamp,
    /// A fresh random word for the next task.
    pub nonce: String,
}

impl ObservedConnection {
    /// The Job whose end is recorded in the status already.
    pub fn recorded_job(&self) -> Option<&str> {
        self.attempts()?.last_job.as_deref()
    }

    /// Settings of the worker's Job.
    pub fn job_settings(&self) -> JobSettings {
        let own = self.connection.spec.cache.as_ref().and_then(|cache| cache.job.clone());
        merge(own.unwrap_or_default(), &self.config.job)
    }

    pub(super) fn attempts(&self) -> Option<&AttemptsStatus> {
        self.connection.status.as_ref()?.attempts.as_ref()
    }
}

/// Whether what is said of a connection may be another after this change of an entry. While its model is on the way, nothing
/// that counts changes but that the entry goes.
pub fn counts_anew(entry: &ModelCacheEntry) -> bool {
    let phase = entry.status.as_ref().and_then(|status| status.phase);
    // A phase before these may be that of an entry without a finalizer, whose end is told with no word of its deletion.
    let is_on_the_way = matches!(phase, Some(Phase::Resolving | Phase::Downloading | Phase::Importing));
    !is_on_the_way || entry.metadata.deletion_timestamp.is_some()
}

/// Decides what is said of one connection. All that is done for one is its check: the entry that goes first goes by itself.
pub fn decide(observed: &ObservedConnection) -> Plan<HubConnectionStatus> {
    let connection = &observed.connection;
    let name = connection.name_any();
    let ours: Vec<_> = observed.entries.iter().filter(|entry| uses_connection(entry, &name)).collect();
    let manifests = ours.iter().filter_map(|entry| entry.status.as_ref()?.manifest.as_ref());
    let rooms = rooms(connection, &observed.entries, &observed.consumers, observed.now);
    let mut status = connection.status.clone().unwrap_or_default();
    let before = reason_of(&status.conditions, condition::WITHIN_LIMITS).map(str::to_owned);
    status.observed_generation = connection.metadata.generation;
    status.entries = counted(ours.len());
    status.bytes = manifests.map(|manifest| manifest.bytes).fold(0, i64::saturating_add);
    status.queue = queue(observed, &ours);
    status.claims = rooms.iter().map(claim_use).collect();
    if room::has_limits(connection) {
        let (holds, reason, message) = judge(&rooms);
        let says = Says {
            type_: condition::WITHIN_LIMITS,
            status: if holds { "True" } else { "False" },
            reason,
            message: &message,
        };
        set_condition(&mut status.conditions, &says, observed.now, connection.metadata.generation);
    } else {
        status.conditions.retain(|condition| condition.type_ != condition::WITHIN_LIMITS);
    }
    let after = reason_of(&status.conditions, condition::WITHIN_LIMITS).map(str::to_owned);
    let is_news = after != before && (before.is_some() || after.as_deref() != Some("WithinLimits"));
    let mut notices: Vec<_> =
        notice(&status.conditions, condition::WITHIN_LIMITS).filter(|_| is_news).into_iter().collect();
    for notice in &mut notices {
        notice.warning = notice.reason == NOTHING_TO_EVICT;
    }
    let checked = check::decide(observed, &mut status);
    notices.extend(checked.notices);
    let again = rooms.iter().filter(|room| room.pressure.is_some()).filter_map(|room| room.changes_at).min();
    let again = again.map(|at| Duration::try_from(observed.now.duration_until(at)).unwrap_or_default());
    let again = [again, checked.again].into_iter().flatten().min();
    Plan { actions: checked.actions, status, notices, again }
}

/// The plan as it turns out when the check's Job met an obstacle.
pub fn obstructed(observed: &ObservedConnection, obstacle: &Obstacle) -> Plan<HubConnectionStatus> {
    let Plan { mut status, mut notices, .. } = decide(observed);
    // Nothing began: what was due is due, and who asked still asks.
    status.attempts = observed.attempts().cloned();
    if let Obstacle::Denied(why) = obstacle {
        notices.extend(check::denied(observed, &mut status, why));
    }
    Plan { actions: Vec::new(), status, notices, again: Some(Duration::from_secs(30)) }
}

/// Who takes from the Hub by way of the connection; absent where nobody does or waits.
fn queue(observed: &ObservedConnection, ours: &[&Arc<ModelCacheEntry>]) -> Option<ConnectionQueue> {
    let uid = observed.connection.uid().unwrap_or_default();
    let waits = |entry: &&&Arc<ModelCacheEntry>| entry.status.as_ref().is_some_and(|status| status.queue.is_some());
    let queue = ConnectionQueue {
        running: counted(observed.running.iter().filter(|running| running.is_of(&uid)).count()),
        waiting: counted(ours.iter().filter(waits).count()),
    };
    (queue != ConnectionQueue::default()).then_some(queue)
}

const NOTHING_TO_EVICT: &str = "NothingToEvict";

fn judge(rooms: &[ClaimRoom]) -> (bool, &'static str, String) {
    let broken: Vec<_> = rooms.iter().filter_map(|room| Some((room, room.pressure.as_deref()?))).collect();
    if let Some((room, pressure)) = broken.iter().find(|(room, _)| room.going.is_none() && room.next.is_empty()) {
        let kept = kept(room).unwrap_or_else(|| "none is whole".to_owned());
        let message =
            format!("{pressure}, and no model may go ({kept}): raise the limit, enlarge the claim, or delete entries");
        return (false, NOTHING_TO_EVICT, message);
    }
    match broken.first() {
        Some((room, pressure)) => {
            let who = room.going.as_ref().or(room.next.first().map(|next| &next.entry)).cloned().unwrap_or_default();
            (false, "Evicting", format!("{pressure}: the model of entry {who:?} goes"))
        }
        None => (true, "WithinLimits", "no claim is over a limit".to_owned()),
    }
}

fn kept(room: &ClaimRoom) -> Option<String> {
    let kept: Vec<_> = room.kept.iter().map(|(kept, count)| format!("{}: {count}", kept.as_str())).collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}

fn claim_use(room: &ClaimRoom) -> ClaimUseStatus {
    let next = room.next.iter().take(NAMED_MAX).map(|next| NextToGo {
        entry: next.entry.clone(),
        bytes: signed(next.bytes),
        unused_since: Time(next.unused_since),
    });
    ClaimUseStatus {
        claim_name: room.claim.clone(),
        models: counted(room.models),
        used_bytes: signed(room.used_bytes),
        free_bytes: room.free.map(|(bytes, _)| signed(bytes)),
        measured_at: room.free.map(|(_, at)| Time(at)),
        pressure: room.pressure.clone(),
        going: room.going.clone(),
        next: next.collect(),
        kept: kept(room),
    }
}
