//! What exports, imports and inventories say of themselves alike: a phase, the condition `Complete`, and what was tried.

use super::record::{self, Says};
use super::status::Obstacle;
use super::{Action, Notice, Plan};
use crate::api::export::ExportPhase;
use crate::api::import::ImportPhase;
use crate::api::inventory::InventoryPhase;
use crate::api::status::AttemptsStatus;
use crate::api::{ModelCacheExportStatus, ModelCacheImportStatus, ModelCacheInventoryStatus, condition};
use crate::format::outcome::Failed;
use crate::ident::Recovery;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use std::time::Duration;

/// A status whose condition is `Complete`.
pub(super) trait Completes: Clone + Default {
    /// Its phases.
    type Phase: Copy + PartialEq;
    /// Something is waited for.
    const PENDING: Self::Phase;
    /// It is done.
    const COMPLETE: Self::Phase;
    /// It failed, and is tried again by itself.
    const RETRYING: Self::Phase;
    /// It failed.
    const FAILED: Self::Phase;
    /// The phase and the conditions.
    fn said(&self) -> (Option<Self::Phase>, &[Condition]);
    /// What all such statuses hold.
    fn parts(&mut self) -> Parts<'_, Self::Phase>;
}

/// What all statuses whose condition is `Complete` hold.
pub(super) struct Parts<'a, P> {
    observed_generation: &'a mut Option<i64>,
    phase: &'a mut Option<P>,
    conditions: &'a mut Vec<Condition>,
    attempts: &'a mut Option<AttemptsStatus>,
}

macro_rules! completes {
    ($status:ty, $phase:ty) => {
        impl Completes for $status {
            type Phase = $phase;
            const PENDING: $phase = <$phase>::Pending;
            const COMPLETE: $phase = <$phase>::Complete;
            const RETRYING: $phase = <$phase>::Retrying;
            const FAILED: $phase = <$phase>::Failed;
            fn said(&self) -> (Option<$phase>, &[Condition]) {
                (self.phase, &self.conditions)
            }
            fn parts(&mut self) -> Parts<'_, $phase> {
                let Self { observed_generation, phase, conditions, attempts, .. } = self;
                Parts { observed_generation, phase, conditions, attempts }
            }
        }
    };
}

completes!(ModelCacheExportStatus, ExportPhase);
completes!(ModelCacheImportStatus, ImportPhase);
completes!(ModelCacheInventoryStatus, InventoryPhase);

/// A status on its way from what it was to what it will be.
pub(super) struct Draft<S: Completes> {
    pub(super) status: S,
    pub(super) now: Timestamp,
    /// What people are told of besides the phase.
    pub(super) notices: Vec<Notice>,
    generation: Option<i64>,
    before: Option<(Option<S::Phase>, Option<String>)>,
}

impl<S: Completes> Draft<S> {
    pub(super) fn of(object: &ObjectMeta, status: Option<&S>, now: Timestamp) -> Self {
        let generation = object.generation;
        let before = status.map(told);
        let mut status = status.cloned().unwrap_or_default();
        *status.parts().observed_generation = generation;
        Self { status, now, notices: Vec::new(), generation, before }
    }

    pub(super) fn attempts(&mut self) -> &mut AttemptsStatus {
        self.status.parts().attempts.get_or_insert_default()
    }

    /// Sets the phase, and `Complete` to what it implies.
    pub(super) fn phase(&mut self, phase: S::Phase, reason: &str, message: &str) {
        let (now, generation) = (self.now, self.generation);
        let parts = self.status.parts();
        *parts.phase = Some(phase);
        let status = if phase == S::COMPLETE { "True" } else { "False" };
        let says = Says { type_: condition::COMPLETE, status, reason, message };
        record::set_condition(parts.conditions, &says, now, generation);
    }

    /// An attempt begins; a retry forgets what was tried.
    pub(super) fn begins(&mut self, retry: Option<&str>) {
        record::begin(self.attempts(), retry);
    }

    /// An attempt failed; `wait` is how long until the next one, if there is one by itself.
    pub(super) fn failed(&mut self, job: &Job, failed: &Failed, wait: Option<Duration>) {
        let now = self.now;
        record::count_failure(self.attempts(), job, failed, wait, now);
        let phase = if failed.reason.exit_code() == 1 { S::RETRYING } else { S::FAILED };
        self.phase(phase, failed.reason.as_str(), &failed.message);
    }

    /// The plan as it turns out when an action met an obstacle.
    pub(super) fn obstructed(mut self, obstacle: &Obstacle) -> Plan<S> {
        match obstacle {
            Obstacle::Busy(writer) => self.phase(S::PENDING, "Queued", &format!("waits for {writer}")),
            // Nothing of theirs takes from a Hub.
            Obstacle::Full => {}
            Obstacle::Denied(why) => {
                let lasts = why.reason.recovery() == Recovery::Change;
                self.phase(if lasts { S::FAILED } else { S::PENDING }, why.reason.as_str(), &why.message);
            }
        }
        self.finish(Vec::new(), Some(Duration::from_secs(30)))
    }

    /// A plan of the drafted status: what changed for people becomes a notice.
    pub(super) fn finish(self, actions: Vec<Action>, again: Option<Duration>) -> Plan<S> {
        let Self { status, mut notices, before, .. } = self;
        let changed = before != Some(told(&status));
        let (_, conditions) = status.said();
        notices.extend(record::notice(conditions, condition::COMPLETE).filter(|_| changed));
        Plan { actions, status, notices, again }
    }
}

/// What people are told of a status.
fn told<S: Completes>(status: &S) -> (Option<S::Phase>, Option<String>) {
    let (phase, conditions) = status.said();
    (phase, record::reason_of(conditions, condition::COMPLETE).map(str::to_owned))
}
