//! What the status says next.

use super::observed::{Observed, Scene};
use super::{Notice, Plan, Why};
use crate::api::status::{AttemptsStatus, DisplayStatus, ManifestStatus, ProgressStatus, VolumeStatus};
use crate::api::{ModelCacheEntryStatus, Phase, annotation, condition};
use crate::format::outcome::{Done, Failed, Progress};
use crate::ident::{Commit, Reason};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::time::Duration;

/// A status on its way from what it was to what it will be.
#[derive(Debug)]
pub(super) struct Draft {
    status: ModelCacheEntryStatus,
    generation: Option<i64>,
    now: Timestamp,
}

impl Draft {
    pub(super) fn of(observed: &Observed) -> Self {
        let generation = observed.entry.metadata.generation;
        let mut status = observed.entry.status.clone().unwrap_or_default();
        status.observed_generation = generation;
        let mut draft = Self { status, generation, now: observed.now };
        let revision = observed.entry.spec.revision.clone().unwrap_or_else(|| "main".to_owned());
        draft.display().revision.get_or_insert(revision);
        draft
    }

    pub(super) fn into_status(self) -> ModelCacheEntryStatus {
        self.status
    }

    pub(super) fn attempts(&mut self) -> &mut AttemptsStatus {
        self.status.attempts.get_or_insert_default()
    }

    fn display(&mut self) -> &mut DisplayStatus {
        self.status.display.get_or_insert_default()
    }

    /// Sets the phase, and `Ready` to what it implies.
    pub(super) fn phase(&mut self, phase: Phase, reason: &str, message: &str) -> &mut Self {
        self.status.phase = Some(phase);
        self.condition(condition::READY, phase == Phase::Ready, reason, message)
    }

    /// A phase in which something is awaited or has failed.
    pub(super) fn trouble(&mut self, phase: Phase, why: &Why) -> &mut Self {
        if is_about_storage(why.reason) {
            self.condition(condition::STORAGE_READY, false, why.reason.as_str(), &why.message);
        }
        self.phase(phase, why.reason.as_str(), &why.message)
    }

    /// The worker runs, so the claim is mounted; what it does is on its way.
    pub(super) fn at_work(&mut self, phase: Phase, word: &str, message: &str) -> &mut Self {
        self.condition(condition::STORAGE_READY, true, "Bound", "the claim is bound and mounted")
            .condition(condition::TRANSFERRED, false, word, message)
            .phase(phase, word, message)
    }

    /// Sets a condition; its time moves only when its status does.
    pub(super) fn condition(&mut self, type_: &str, holds: bool, reason: &str, message: &str) -> &mut Self {
        let status = if holds { "True" } else { "False" };
        let old = self.status.conditions.iter().position(|condition| condition.type_ == type_);
        let since = old
            .map(|index| &self.status.conditions[index])
            .filter(|condition| condition.status == status)
            .map_or(Time(self.now), |condition| condition.last_transition_time.clone());
        let new = Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: since,
            observed_generation: self.generation,
        };
        match old {
            Some(index) => self.status.conditions[index] = new,
            None => self.status.conditions.push(new),
        }
        self
    }

    /// The Hub and the claim of the attempt that begins.
    pub(super) fn begins(&mut self, endpoint: &str, claim: &str) -> &mut Self {
        self.status.endpoint = Some(endpoint.to_owned());
        let volume = self.status.volume.get_or_insert_default();
        claim.clone_into(&mut volume.claim_name);
        self.attempts().next_retry_at = None;
        self
    }

    /// How far the worker is.
    pub(super) fn progress(&mut self, progress: &Progress) -> &mut Self {
        let left = progress.bytes_total.saturating_sub(progress.bytes_done);
        let new = ProgressStatus {
            bytes_done: signed(progress.bytes_done),
            bytes_total: signed(progress.bytes_total),
            files_done: signed(progress.files_done),
            files_total: signed(progress.files_total),
            bytes_per_second: signed(progress.bytes_per_second),
            eta_seconds: left.checked_div(progress.bytes_per_second).map(signed),
            updated_at: Some(Time(self.now)),
        };
        // Nothing new was heard: nothing is written.
        let unchanged = self
            .status
            .progress
            .as_ref()
            .is_some_and(|old| ProgressStatus { updated_at: old.updated_at.clone(), ..new.clone() } == *old);
        if !unchanged {
            self.status.progress = Some(new);
        }
        if let Some(percent) = (progress.bytes_done * 100).checked_div(progress.bytes_total) {
            self.display().progress = Some(format!("{}%", percent.min(100)));
            self.display().size = Some(human_bytes(progress.bytes_total));
        }
        self
    }

    /// The attempt succeeded.
    pub(super) fn done(&mut self, job: &str, done: &Done, metadata: Option<&str>) -> &mut Self {
        *self.attempts() = AttemptsStatus {
            last_job: Some(job.to_owned()),
            last_retry: self.attempts().last_retry.take(),
            ..AttemptsStatus::default()
        };
        if let (Some(volume), Some(path)) = (self.status.volume.as_mut(), &done.path) {
            volume.path = Some(path.to_string());
        }
        self.status.commit = done.commit.map(|commit| commit.to_string());
        if let Some(commit) = done.commit {
            self.show_commit(commit);
        }
        self.status.metadata = metadata.and_then(|text| serde_json::from_str(text).ok());
        if let Some(manifest) = done.manifest {
            self.status.manifest = Some(ManifestStatus {
                sha256: manifest.sha256.to_string(),
                files: signed(manifest.files),
                bytes: signed(manifest.bytes),
            });
            self.progress(&Progress {
                bytes_done: manifest.bytes,
                bytes_total: manifest.bytes,
                files_done: manifest.files,
                files_total: manifest.files,
                bytes_per_second: 0,
            });
            self.display().progress = Some("100%".to_owned());
            self.display().size = Some(human_bytes(manifest.bytes));
        }
        self.condition(condition::STORAGE_READY, true, "Bound", "the claim is bound and mounted")
            .condition(condition::TRANSFERRED, true, "Complete", "every byte is on the volume")
            .condition(
                condition::VERIFIED,
                true,
                "DigestsMatch",
                "every file was checked against the digest that the Hub names",
            );
        let size = self.display().size.clone().unwrap_or_default();
        let files = done.manifest.map_or(0, |manifest| manifest.files);
        self.phase(Phase::Ready, "Published", &format!("{files} files, {size}, verified and published"))
    }

    fn show_commit(&mut self, commit: Commit) {
        let commit = commit.to_string();
        let display = self.display();
        let revision = display.revision.as_deref().unwrap_or("main");
        let revision = revision.split('@').next().unwrap_or(revision);
        display.revision =
            Some(if revision == commit { commit[..7].to_owned() } else { format!("{revision}@{}", &commit[..7]) });
    }

    /// The attempt failed; `wait` is how long until the next one, if there is one by itself.
    pub(super) fn failed(&mut self, job: &Job, failed: &Failed, wait: Option<Duration>) -> &mut Self {
        let next = wait.and_then(|wait| jiff::SignedDuration::try_from(wait).ok()).map(|wait| Time(self.now + wait));
        let attempts = self.attempts();
        attempts.count += 1;
        attempts.last_reason = Some(failed.reason.to_string());
        attempts.last_message = Some(failed.message.clone());
        attempts.next_retry_at = next;
        attempts.last_job.clone_from(&job.metadata.name);
        attempts.last_hub = job.metadata.annotations.as_ref().and_then(|all| all.get(annotation::HUB).cloned());
        let phase = if failed.reason.exit_code() == 1 { Phase::Retrying } else { Phase::Failed };
        let why = Why::new(failed.reason, failed.message.clone());
        if failed.reason == Reason::ChecksumMismatch {
            self.condition(condition::VERIFIED, false, why.reason.as_str(), &why.message);
        }
        self.condition(condition::TRANSFERRED, false, why.reason.as_str(), &why.message);
        self.trouble(phase, &why)
    }

    /// Forgets what was tried: a change of the spec or a retry starts anew.
    pub(super) fn start_anew(&mut self, retry: Option<&str>) -> &mut Self {
        let attempts = self.attempts();
        attempts.count = 0;
        attempts.next_retry_at = None;
        if let Some(retry) = retry {
            attempts.last_retry = Some(retry.to_owned());
        }
        self
    }

    /// What is known of a volume that is no more.
    pub(super) fn forget_volume(&mut self) -> &mut Self {
        self.status.commit = None;
        self.status.manifest = None;
        self.status.metadata = None;
        self.status.progress = None;
        if let Some(volume) = &mut self.status.volume {
            *volume = VolumeStatus { path: None, ..volume.clone() };
        }
        self
    }
}

fn is_about_storage(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::OutOfSpace
            | Reason::PermissionDenied
            | Reason::VolumeReadOnly
            | Reason::PVCPending
            | Reason::StorageClassNotFound
    )
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A size for people, in binary units.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Why the claim cannot be used (yet), when that is so.
pub(super) fn claim_trouble(scene: &Scene) -> Option<Why> {
    let claim = scene.claim.as_ref()?;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or("(default)");
    match claim.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Bound") => None,
        Some("Lost") => Some(Why::new(
            Reason::PVCPending,
            format!("claim {name:?} lost its volume: restore the PersistentVolume or delete the claim"),
        )),
        _ if scene.storage_class_missing => Some(Why::new(
            Reason::StorageClassNotFound,
            format!(
                "claim {name:?} asks for StorageClass {class:?}, which does not exist: create it, or recreate the entry with another class"
            ),
        )),
        _ => {
            let said = super::attempt::warning_about(&scene.warnings, "PersistentVolumeClaim")
                .map_or("the cluster gives no reason", |warning| warning.message.as_str());
            Some(Why::new(Reason::PVCPending, format!("claim {name:?} of StorageClass {class:?} is not bound: {said}")))
        }
    }
}

/// Why an action could not be done now. An expected thing, not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// This Job or Pod writes to the same repo of the same volume.
    Busy(String),
    /// The cluster does not allow it.
    Denied(Why),
}

/// The plan as it turns out when an action met an obstacle.
pub fn obstructed(observed: &Observed, obstacle: &Obstacle) -> Plan {
    let mut draft = Draft::of(observed);
    match obstacle {
        Obstacle::Busy(writer) => draft.phase(
            Phase::Queued,
            "Queued",
            &format!("waits for {writer}, which writes to the same model in this volume"),
        ),
        Obstacle::Denied(why) if why.reason == Reason::Conflict => draft.trouble(Phase::Failed, why),
        Obstacle::Denied(why) => draft.trouble(Phase::Pending, why),
    };
    let again = match obstacle {
        Obstacle::Busy(_) => Duration::from_secs(3),
        Obstacle::Denied(_) => Duration::from_secs(30),
    };
    finish(observed, draft, Vec::new(), Some(again))
}

/// A plan of a drafted status: what changed for people becomes a notice.
pub(super) fn finish(observed: &Observed, draft: Draft, actions: Vec<super::Action>, again: Option<Duration>) -> Plan {
    let status = draft.into_status();
    let word = |status: &ModelCacheEntryStatus| {
        status.conditions.iter().find(|condition| condition.type_ == condition::READY).map(|ready| ready.reason.clone())
    };
    let old = observed.entry.status.as_ref();
    let mut notices = Vec::new();
    if old.and_then(word) != word(&status) || old.and_then(|old| old.phase) != status.phase {
        let ready = status.conditions.iter().find(|condition| condition.type_ == condition::READY);
        notices.extend(ready.map(|ready| Notice {
            warning: Reason::ALL.iter().any(|reason| reason.as_str() == ready.reason),
            reason: ready.reason.clone(),
            message: ready.message.clone(),
        }));
    }
    Plan { actions, status, notices, again }
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn sizes_for_people() {
        let shown: Vec<_> = [0, 1023, 1024, 91_652_688, 1_073_741_823, 5 << 40].into_iter().map(human_bytes).collect();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "87.4 MiB", "1.0 GiB", "5.0 TiB"]);
    }
}
