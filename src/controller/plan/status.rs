//! What the status says next.

use super::decide::is_kept;
use super::observed::{Observed, PeerStanding, Scene};
use super::queue;
use super::record::{self, Says, signed};
use super::wanted::{Origin, Wanted, known_model};
use super::{Action, Met, Notice, Plan, Why, decide, deletion, effective, eviction, sizing, update, usage};
use crate::api::status::{AttemptsStatus, DisplayStatus, EvictionStatus, ManifestStatus, ResolvedStatus, VolumeStatus};
use crate::api::{ModelCacheEntryStatus, Phase, condition};
use crate::format::outcome::{Done, Failed, Progress, Resolved, Room};
use crate::ident::{Commit, ModelKey, ModelRef, Reason};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A status on its way from what it was to what it will be.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) status: ModelCacheEntryStatus,
    generation: Option<i64>,
    claim_uid: Option<String>,
    now: Timestamp,
}

impl Draft {
    pub(super) fn of(observed: &Observed) -> Self {
        let generation = observed.entry.metadata.generation;
        let mut status = observed.entry.status.clone().unwrap_or_default();
        status.observed_generation = generation;
        let claim_uid = observed.scene.claim.as_ref().and_then(|claim| claim.metadata.uid.clone());
        // Said anew by whoever still waits.
        status.queue = None;
        let mut draft = Self { status, generation, claim_uid, now: observed.now };
        if let Some(model) = known_model(&observed.entry) {
            let display = draft.display();
            display.revision.get_or_insert_with(|| model.revision_or_main().to_string());
            display.model = Some(model.repo.to_string());
        }
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
        self.set_condition(type_, if holds { "True" } else { "False" }, reason, message)
    }

    pub(super) fn has_condition(&self, type_: &str) -> bool {
        record::condition_of(&self.status.conditions, type_).is_some()
    }

    pub(super) fn set_condition(&mut self, type_: &str, status: &str, reason: &str, message: &str) -> &mut Self {
        let says = Says { type_, status, reason, message };
        record::set_condition(&mut self.status.conditions, &says, self.now, self.generation);
        self
    }

    /// The source and the claim of the attempt that begins.
    pub(super) fn begins(&mut self, wanted: &Wanted) -> &mut Self {
        let is_hub = matches!(wanted.origin, Origin::Hub { .. });
        self.status.endpoint = is_hub.then(|| wanted.hub.endpoint.to_string());
        self.display().source = Some(wanted.source_shown());
        let volume = self.status.volume.get_or_insert_default();
        wanted.claim_name.clone_into(&mut volume.claim_name);
        self.attempts().next_retry_at = None;
        self
    }

    /// How far the worker is.
    pub(super) fn progress(&mut self, progress: &Progress) -> &mut Self {
        if let Some((percent, size)) = record::heard(&mut self.status.progress, progress, self.now) {
            self.display().progress = Some(percent);
            self.display().size = Some(size);
        }
        self
    }

    /// The attempt succeeded.
    pub(super) fn done(&mut self, job: &str, done: &Done, metadata: Option<&str>) -> &mut Self {
        self.succeeded(job).measured(done.room);
        if let (Some(volume), Some(path)) = (self.status.volume.as_mut(), &done.path) {
            volume.path = Some(path.to_string());
            volume.claim_uid.clone_from(&self.claim_uid);
        }
        self.status.commit = done.commit.map(|commit| commit.to_string());
        let told = metadata.and_then(|text| Some((text.len(), serde_json::from_str(text).ok()?)));
        let (length, metadata) = told.unzip();
        self.status.metadata = metadata.map(bounded);
        if let Some(model) = self.imported_model() {
            self.display().revision = Some(model.revision_or_main().to_string());
            self.display().model = Some(model.repo.to_string());
        }
        if let Some(commit) = done.commit {
            self.show_commit(commit);
        }
        if let Some(manifest) = done.manifest {
            self.status.manifest = Some(ManifestStatus {
                sha256: manifest.sha256.to_string(),
                files: signed(manifest.files),
                bytes: signed(manifest.bytes),
            });
            self.whole();
        }
        self.condition(condition::STORAGE_READY, true, "Bound", "the claim is bound and mounted").condition(
            condition::TRANSFERRED,
            true,
            "Complete",
            "every byte is on the volume",
        );
        let size = self.display().size.clone().unwrap_or_default();
        let files = done.manifest.map_or(0, |manifest| manifest.files);
        if let Some(why) = &done.unverified {
            self.set_condition(condition::VERIFIED, "Unknown", "NoDigests", why);
            return self.phase(
                Phase::Ready,
                "Published",
                &format!("{files} files, {size}, published; not verified: {why}{}", left_out(length)),
            );
        }
        let message = "every file was checked against the digest that its source names";
        self.condition(condition::VERIFIED, true, "DigestsMatch", message).phase(
            Phase::Ready,
            "Published",
            &format!("{files} files, {size}, verified and published{}", left_out(length)),
        )
    }

    /// The progress is that of the published files.
    pub(super) fn whole(&mut self) -> &mut Self {
        if let Some(ManifestStatus { files, bytes, .. }) = self.status.manifest {
            let (files, bytes) = (u64::try_from(files).unwrap_or_default(), u64::try_from(bytes).unwrap_or_default());
            self.progress(&Progress {
                bytes_done: bytes,
                bytes_total: bytes,
                files_done: files,
                files_total: files,
                bytes_per_second: 0,
            });
            self.display().progress = Some("100%".to_owned());
            self.display().size = Some(human_bytes(bytes));
        }
        self
    }

    /// How many attempts ended since the last success.
    pub(super) fn attempts_count(&self) -> i64 {
        self.status.attempts.as_ref().map_or(0, |attempts| attempts.count)
    }

    /// The model that the metadata names.
    fn imported_model(&self) -> Option<ModelRef> {
        let key = self.status.metadata.as_ref()?.get("modelDefinition")?.get("key")?;
        Some(key.as_str()?.parse::<ModelKey>().ok()?.model().clone())
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
        self.count_failure(job, failed, wait);
        let phase = if failed.reason.exit_code() == 1 { Phase::Retrying } else { Phase::Failed };
        let why = Why::new(failed.reason, failed.message.clone());
        if failed.reason == Reason::ChecksumMismatch {
            self.condition(condition::VERIFIED, false, why.reason.as_str(), &why.message);
        }
        self.condition(condition::TRANSFERRED, false, why.reason.as_str(), &why.message);
        self.trouble(phase, &why)
    }

    /// What the model takes is known; a claim can be made for it.
    pub(super) fn resolved(&mut self, job: &str, resolved: &Resolved) -> &mut Self {
        self.attempts().last_job = Some(job.to_owned());
        self.display().size = Some(human_bytes(resolved.bytes));
        self.status.resolved = Some(ResolvedStatus {
            commit: resolved.commit.map(|commit| commit.to_string()),
            files: resolved.files.map(signed),
            bytes: signed(resolved.bytes),
        });
        let message = format!("the model takes {}: a claim is made for it", human_bytes(resolved.bytes));
        self.phase(Phase::Resolving, "Resolving", &message)
    }

    /// The volume was too small: what it had, and, where its size was computed from what the model was, that this is asked again.
    pub(super) fn out_of_space(&mut self, room: Option<String>, asks_again: bool) -> &mut Self {
        let now = self.now;
        let attempts = self.attempts();
        attempts.last_room = room;
        if asks_again {
            attempts.next_retry_at = Some(Time(now));
            let said = attempts.last_message.clone().unwrap_or_default();
            self.status.resolved = None;
            let message = format!("{said}; its size is asked for again, as the model may have changed");
            self.trouble(Phase::Retrying, &Why::new(Reason::OutOfSpace, message));
        }
        self
    }

    /// A Job did what it was to do.
    pub(super) fn succeeded(&mut self, job: &str) -> &mut Self {
        record::success(self.attempts(), job);
        self
    }

    /// A Job failed; `wait` is how long until the next one. What is said of the model does not change.
    pub(super) fn count_failure(&mut self, job: &Job, failed: &Failed, wait: Option<Duration>) -> &mut Self {
        let now = self.now;
        record::count_failure(self.attempts(), job, failed, wait, now);
        self
    }

    /// The room of the volume at the end of a Job; where it does not say, an earlier measure no longer holds.
    pub(super) fn measured(&mut self, room: Option<Room>) -> &mut Self {
        let now = self.now;
        if let Some(volume) = &mut self.status.volume {
            volume.free_bytes = room.map(|room| signed(room.free_bytes));
            volume.capacity_bytes = room.map(|room| signed(room.capacity_bytes));
            volume.measured_at = Some(Time(now));
        }
        self
    }

    /// The model goes from now on.
    pub(super) fn evicting(&mut self, eviction: EvictionStatus) -> &mut Self {
        self.status.eviction = Some(eviction);
        self
    }

    /// The model is no longer on the volume. What it was stays in the status, for people and for whoever wants it back.
    pub(super) fn forget_files(&mut self) -> &mut Self {
        let metadata = self.status.metadata.take();
        self.forget_volume();
        self.status.metadata = metadata;
        self.status
            .conditions
            .retain(|condition| [condition::READY, condition::IN_USE].contains(&condition.type_.as_str()));
        self.display().progress = None;
        self
    }

    /// What a retry asks for is under way, or done: the wish is fulfilled.
    pub(super) fn heeds_retry(&mut self, observed: &Observed) -> &mut Self {
        if let Some(retry) = observed.asked_to_retry() {
            self.attempts().last_retry = Some(retry.to_owned());
        }
        self
    }

    /// What a retry asks for could not begin yet: the wish stands.
    pub(super) fn still_asked(&mut self, observed: &Observed) -> &mut Self {
        self.attempts().last_retry = observed.attempts().and_then(|attempts| attempts.last_retry.clone());
        self
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

    /// Whether the claim may be as large as it is wanted; said only where it may not.
    fn grown(&mut self, observed: &Observed) -> &mut Self {
        if let Some(why) = &observed.not_grown {
            return self.condition(condition::STORAGE_GROWN, false, why.reason.as_str(), &why.message);
        }
        if sizing::growth(observed).is_none() {
            self.status.conditions.retain(|condition| condition.type_ != condition::STORAGE_GROWN);
        }
        self
    }

    /// What is known of a volume that is no more.
    pub(super) fn forget_volume(&mut self) -> &mut Self {
        self.status.commit = None;
        self.status.manifest = None;
        self.status.metadata = None;
        self.status.progress = None;
        self.status.resolved = None;
        self.status.update = None;
        if let Some(volume) = &mut self.status.volume {
            *volume = VolumeStatus { path: None, claim_uid: None, ..volume.clone() };
        }
        self
    }
}

/// The most of a model's metadata that goes into a status, in bytes: with all else, the API server must take it.
const METADATA_MAX_BYTES: usize = 64 * 1024;

/// Metadata as a status can hold it. Where it is too long, what modelcache does not know is left out, and long lists.
fn bounded(metadata: Map<String, Value>) -> Map<String, Value> {
    const KNOWN: [&str; 12] = [
        "commitHash",
        "downloadDate",
        "downloadedBy",
        "lastDssUsage",
        "lastModified",
        "lastUsedBy",
        "libraryName",
        "pipelineName",
        "sizeInBytes",
        "modelDefinition",
        "url",
        "version",
    ];
    const VALUE_MAX_BYTES: usize = METADATA_MAX_BYTES / 16;
    if json!(metadata).to_string().len() <= METADATA_MAX_BYTES {
        return metadata;
    }
    let fits = |value: &Value| value.to_string().len() <= VALUE_MAX_BYTES;
    metadata.into_iter().filter(|(key, value)| KNOWN.contains(&key.as_str()) && fits(value)).collect()
}

/// What is said where metadata of this length was too long.
fn left_out(length: Option<usize>) -> String {
    length.filter(|length| *length > METADATA_MAX_BYTES).map_or_else(String::new, |length| {
        format!("; its metadata has {length} bytes: status.metadata holds the well-known fields, the volume's file all")
    })
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
    /// A worker of this writes to the same repo of the same volume.
    Busy(String),
    /// As many Jobs take from the Hub as may.
    Full,
    /// The cluster does not allow it.
    Denied(Why),
}

impl Obstacle {
    /// When to look again.
    pub(super) fn again(&self) -> Duration {
        match self {
            Self::Busy(_) | Self::Full => Duration::from_secs(3),
            Self::Denied(_) => Duration::from_secs(30),
        }
    }
}

/// The plan as it turns out when actions met obstacles.
pub fn obstructed(observed: &Observed, met: &[Met<'_>]) -> Plan {
    let mut observed = observed.clone();
    let mut hindrance = None;
    for Met { action, obstacle } in met {
        match (action, obstacle) {
            (Action::GrowClaim { .. }, Obstacle::Denied(why)) => observed.not_grown = Some(why.clone()),
            _ => hindrance = Some(obstacle),
        }
    }
    // What the claim has may do: everything else goes on.
    let Some(obstacle) = hindrance else { return decide(&observed) };
    if observed.entry.metadata.deletion_timestamp.is_some() {
        return deletion::obstructed(&observed, obstacle);
    }
    match observed.entry.status.as_ref().and_then(|status| status.phase) {
        Some(Phase::Evicted) => return eviction::obstructed(&observed, obstacle),
        Some(Phase::Ready) if is_kept(&observed) => return update::obstructed(&observed, obstacle),
        _ => {}
    }
    let mut draft = Draft::of(&observed);
    match obstacle {
        Obstacle::Busy(writer) => draft.phase(
            Phase::Queued,
            "Queued",
            &format!("waits for {writer}, which writes to the same model in this volume"),
        ),
        Obstacle::Full => {
            if let Ok(wanted) = Wanted::of(&observed) {
                draft.queued(&observed, &queue::place_behind(&observed, &wanted));
            }
            &mut draft
        }
        Obstacle::Denied(why) if why.reason == Reason::Conflict => draft.trouble(Phase::Failed, why),
        Obstacle::Denied(why) => draft.trouble(Phase::Pending, why),
    };
    let again = match obstacle {
        Obstacle::Busy(_) => again_behind(&observed, obstacle.again()),
        Obstacle::Full | Obstacle::Denied(_) => obstacle.again(),
    };
    finish(&observed, draft, Vec::new(), Some(again))
}

/// When one that another's worker keeps waiting looks again, so long for each that comes first: those of a thousand archives that come later need not ask every other
/// second.
fn again_behind(observed: &Observed, each: Duration) -> Duration {
    const LONGEST: Duration = Duration::from_mins(5);
    let ahead = observed.peers.iter().filter(|peer| peer.older && peer.standing == PeerStanding::Waits).count();
    each.saturating_mul(u32::try_from(ahead + 1).unwrap_or(u32::MAX)).min(LONGEST)
}

/// A plan of a drafted status: what changed for people becomes a notice.
pub(super) fn finish(observed: &Observed, mut draft: Draft, actions: Vec<Action>, again: Option<Duration>) -> Plan {
    draft.grown(observed);
    let mut status = draft.into_status();
    if observed.entry.metadata.deletion_timestamp.is_none() {
        effective::tell(observed, &mut status);
    }
    let told_later = usage::tell(observed, &mut status);
    let goes_later = eviction::tell(observed, &mut status);
    let again = [again, told_later, goes_later].into_iter().flatten().min();
    let notices = notices(observed.entry.status.as_ref(), &status);
    Plan { actions, status, notices, again }
}

/// What changed for people who watch events: the phase or its reason, whether the claim grew, and whether the Hub has a newer
/// commit.
fn notices(before: Option<&ModelCacheEntryStatus>, after: &ModelCacheEntryStatus) -> Vec<Notice> {
    let reason =
        |status: &ModelCacheEntryStatus, type_: &str| record::reason_of(&status.conditions, type_).map(str::to_owned);
    let told = |status: &ModelCacheEntryStatus| (status.phase, reason(status, condition::READY));
    let mut notices = Vec::new();
    if before.map(told).unwrap_or_default() != told(after) {
        notices.extend(record::notice(&after.conditions, condition::READY));
    }
    let grown = |status: &ModelCacheEntryStatus| reason(status, condition::STORAGE_GROWN);
    if before.and_then(grown) != grown(after) {
        notices.extend(record::notice(&after.conditions, condition::STORAGE_GROWN));
    }
    let drifted = |status: &ModelCacheEntryStatus| reason(status, condition::DRIFTED);
    let had_drifted = before.and_then(drifted);
    // That a model is up to date is news only where it was not.
    let is_news =
        drifted(after) != had_drifted && (had_drifted.is_some() || drifted(after).as_deref() != Some("UpToDate"));
    notices.extend(record::notice(&after.conditions, condition::DRIFTED).filter(|_| is_news));
    for notice in &mut notices {
        // The word is also the reason of a worker whose Pod was evicted.
        notice.warning &= !(after.phase == Some(Phase::Evicted) && notice.reason == "Evicted");
    }
    notices
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
