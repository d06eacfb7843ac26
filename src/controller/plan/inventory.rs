//! The decision for an inventory: a worker looks at a volume, and what it finds is held against the namespace's entries.

use super::attempt::{Standing, standing};
use super::decide::{LISTEN_EVERY, LOOK_EVERY, again_after_silence, delete_job, has_another_image};
use super::draft::Draft;
use super::observed::Scene;
use super::record::{self, counted, signed};
use super::status::{Obstacle, claim_trouble, human_bytes};
use super::storage::storage_of;
use super::wanted::{known_model, merge, wanted_claim};
use super::{Action, Plan, Why, backoff};
use crate::api::inventory::{
    InventoryDisplay, InventoryEntry, InventoryFolder, InventoryPhase, InventoryTotals, LISTED_MAX,
};
use crate::api::job::JobSettings;
use crate::api::status::AttemptsStatus;
use crate::api::{ModelCacheEntry, ModelCacheInventory, ModelCacheInventoryStatus, Phase, condition};
use crate::controller::build;
use crate::controller::config::Config;
use crate::format::inventory::{Inventory, Kept, Leftover, Totals};
use crate::format::layout;
use crate::ident::{Reason, RelPath};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything that one decision is made from.
#[derive(Debug, Clone)]
pub struct ObservedInventory {
    /// The inventory.
    pub inventory: ModelCacheInventory,
    /// The entries of its namespace.
    pub entries: Vec<Arc<ModelCacheEntry>>,
    /// The operator's configuration.
    pub config: Config,
    /// What was seen of the claim and the inventory's Jobs.
    pub scene: Scene,
    /// The time.
    pub now: Timestamp,
    /// A fresh random word for the next task.
    pub nonce: String,
}

impl ObservedInventory {
    /// The Job whose end is recorded in the status already.
    pub fn recorded_job(&self) -> Option<&str> {
        self.attempts()?.last_job.as_deref()
    }

    /// Settings of the worker's Job.
    pub fn job_settings(&self) -> JobSettings {
        merge(self.inventory.spec.job.clone().unwrap_or_default(), &self.config.job)
    }

    /// The cache's root below the claim's root.
    pub fn sub_path(&self) -> Result<Option<RelPath>, Why> {
        let path = self.inventory.spec.sub_path.as_deref().map(str::parse).transpose();
        path.map_err(|error| Why::new(Reason::UnsafePath, format!("spec.subPath: {error}")))
    }

    fn attempts(&self) -> Option<&AttemptsStatus> {
        self.inventory.status.as_ref()?.attempts.as_ref()
    }

    fn phase(&self) -> Option<InventoryPhase> {
        self.inventory.status.as_ref()?.phase
    }

    fn observed_at(&self) -> Option<Timestamp> {
        Some(self.inventory.status.as_ref()?.observed_at.as_ref()?.0)
    }

    /// How long after a look the next one is due.
    fn interval(&self) -> Result<Option<SignedDuration>, Why> {
        let interval = self.inventory.spec.interval.as_deref().map(str::parse).transpose();
        interval.map_err(|error| Why::new(Reason::Unschedulable, format!("spec.interval: {error}")))
    }

    /// The newest value of the retry annotation, when it was not acted on yet.
    fn asked_to_retry(&self) -> Option<&str> {
        record::asked_to_retry(&self.inventory.metadata, self.attempts())
    }

    /// Whether an entry keeps its model on the volume that is looked at.
    fn is_here(&self, entry: &ModelCacheEntry) -> bool {
        let spec = &self.inventory.spec;
        let sub_path = storage_of(entry).and_then(|storage| storage.sub_path.as_ref());
        wanted_claim(entry).as_ref() == Some(&spec.claim_name) && sub_path == spec.sub_path.as_ref()
    }

    fn here(&self) -> impl Iterator<Item = &ModelCacheEntry> {
        self.entries.iter().map(AsRef::as_ref).filter(|entry| self.is_here(entry))
    }
}

/// Decides what should be done for one inventory.
pub fn decide(observed: &ObservedInventory) -> Plan<ModelCacheInventoryStatus> {
    let mut draft = draft(observed);
    if observed.inventory.metadata.deletion_timestamp.is_some() {
        // Owner references take its Jobs.
        return draft.finish(Vec::new(), None);
    }
    let failed = matches!(observed.phase(), Some(InventoryPhase::Failed | InventoryPhase::Retrying));
    let mut actions = record::recorded_jobs(&observed.scene, observed.recorded_job(), failed);
    if let Some(attempt) = observed.scene.current(observed.recorded_job()) {
        if attempt.job.metadata.deletion_timestamp.is_some() {
            return draft.finish(actions, Some(LISTEN_EVERY));
        }
        if is_stuck(observed, attempt.job) {
            actions.extend(delete_job(attempt.job));
            draft.begins(observed.asked_to_retry());
            draft.phase(InventoryPhase::Pending, "Starting", "the Job did not start: it is made anew");
            return draft.finish(actions, Some(LISTEN_EVERY));
        }
        return follow(observed, attempt.job, draft, actions);
    }
    match due(observed) {
        Ok(Some(Duration::ZERO)) => begin(observed, draft, actions),
        Ok(again) => draft.finish(actions, again),
        Err(why) => refuse(draft, actions, &why),
    }
}

fn refuse(
    mut draft: Draft<ModelCacheInventoryStatus>,
    actions: Vec<Action>,
    why: &Why,
) -> Plan<ModelCacheInventoryStatus> {
    draft.phase(InventoryPhase::Failed, why.reason.as_str(), &why.message);
    draft.finish(actions, None)
}

/// Whether a Job cannot start, and another one might: a retry was asked for, or it was made for other settings.
fn is_stuck(observed: &ObservedInventory, job: &Job) -> bool {
    let another = record::is_of_another_spec(job, &observed.inventory.metadata)
        || has_another_image(job, &observed.config.image)
        || observed.asked_to_retry().is_some();
    another && matches!(standing(&observed.scene, job), Standing::Starting(Some(_)))
}

/// How long it is until the next look; none where that waits for a change.
fn due(observed: &ObservedInventory) -> Result<Option<Duration>, Why> {
    if observed.asked_to_retry().is_some() {
        return Ok(Some(Duration::ZERO));
    }
    let attempts = observed.attempts();
    if attempts.is_some_and(|attempts| attempts.count > 0)
        && let Some(left) = record::time_left(attempts, observed.now)
    {
        return Ok(Some(left));
    }
    let interval = observed.interval()?;
    let is_failed = observed.phase() == Some(InventoryPhase::Failed);
    let changed = observed.inventory.status.as_ref().and_then(|status| status.observed_generation)
        != observed.inventory.metadata.generation;
    match (observed.observed_at(), interval) {
        _ if is_failed && changed => Ok(Some(Duration::ZERO)),
        (None, _) if !is_failed => Ok(Some(Duration::ZERO)),
        (Some(at), Some(interval)) if !is_failed => Ok(Some(left(at + interval, observed.now))),
        // What lasts is looked at again at the interval too.
        (_, Some(interval)) => {
            let failed_at = observed.inventory.status.as_ref().and_then(|status| {
                let said = record::condition_of(&status.conditions, condition::COMPLETE)?;
                Some(said.last_transition_time.0)
            });
            let last = failed_at.max(observed.observed_at()).unwrap_or(observed.now);
            Ok(Some(left(last + interval, observed.now)))
        }
        _ => Ok(None),
    }
}

fn left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_until(until)).unwrap_or_default()
}

/// Begins a look.
fn begin(
    observed: &ObservedInventory,
    mut draft: Draft<ModelCacheInventoryStatus>,
    mut actions: Vec<Action>,
) -> Plan<ModelCacheInventoryStatus> {
    let sub_path = match observed.sub_path() {
        Ok(sub_path) => sub_path,
        Err(why) => return refuse(draft, actions, &why),
    };
    let claim = &observed.inventory.spec.claim_name;
    if observed.scene.claim.is_none() {
        let message = format!("claim {claim:?} of spec.claimName does not exist in this namespace: create it");
        draft.phase(InventoryPhase::Pending, Reason::PVCPending.as_str(), &message);
        return draft.finish(actions, Some(LOOK_EVERY));
    }
    // What a person asks for shows that it begins; what comes round by itself changes nothing until it has ended.
    let is_quiet = observed.asked_to_retry().is_none() && observed.phase() == Some(InventoryPhase::Complete);
    draft.begins(observed.asked_to_retry());
    let job = build::inventory_job(observed, sub_path);
    let message = format!("Job {} is created", job.metadata.name.as_deref().unwrap_or_default());
    actions.push(Action::CreateJob(Box::new(job)));
    if !is_quiet {
        draft.phase(InventoryPhase::Pending, "Starting", &message);
    }
    draft.finish(actions, Some(LOOK_EVERY))
}

/// A look is under way, or its end is not recorded yet.
fn follow(
    observed: &ObservedInventory,
    job: &Job,
    mut draft: Draft<ModelCacheInventoryStatus>,
    actions: Vec<Action>,
) -> Plan<ModelCacheInventoryStatus> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let is_quiet = observed.phase() == Some(InventoryPhase::Complete);
    let failed = match standing(&observed.scene, job) {
        Standing::Starting(why) => {
            match why.or_else(|| claim_trouble(&observed.scene)) {
                Some(why) => draft.phase(InventoryPhase::Pending, why.reason.as_str(), &why.message),
                None if is_quiet => {}
                None => draft.phase(InventoryPhase::Pending, "Starting", &format!("Job {name} starts")),
            }
            return draft.finish(actions, Some(LOOK_EVERY));
        }
        Standing::Running(_) => {
            if !is_quiet {
                draft.phase(InventoryPhase::Listing, "Listing", &format!("Job {name} looks at the volume"));
            }
            return draft.finish(actions, Some(LISTEN_EVERY));
        }
        Standing::Done(_, text) => {
            if let Some(found) = text.and_then(|text| serde_json::from_str::<Inventory>(&text).ok()) {
                draft.found(observed, name, found);
                let again =
                    observed.interval().ok().flatten().map(|interval| left(observed.now + interval, observed.now));
                return draft.finish(actions, again);
            }
            None
        }
        Standing::Unheard => None,
        Standing::Failed(failed) => Some(failed),
    };
    let count = observed.attempts().map_or(0, |attempts| attempts.count);
    let (failed, wait) = match failed {
        None => (record::unheard(name, "it runs again"), Some(again_after_silence(count))),
        Some(failed) => {
            let wait = backoff::delay(failed.reason, count + 1, failed.retry_after_seconds, 0);
            (failed, wait)
        }
    };
    draft.failed(job, &failed, wait);
    draft.finish(actions, wait)
}

/// The plan as it turns out when an action met an obstacle.
pub fn obstructed(observed: &ObservedInventory, obstacle: &Obstacle) -> Plan<ModelCacheInventoryStatus> {
    draft(observed).obstructed(obstacle)
}

fn draft(observed: &ObservedInventory) -> Draft<ModelCacheInventoryStatus> {
    Draft::of(&observed.inventory.metadata, observed.inventory.status.as_ref(), observed.now)
}

impl Draft<ModelCacheInventoryStatus> {
    /// What a worker found, held against the entries.
    fn found(&mut self, observed: &ObservedInventory, job: &str, found: Inventory) {
        record::success(self.attempts(), job);
        let Inventory { entries, orphans, stagings, totals } = found;
        let (keepers, stagers) = (keepers(observed), stagers(observed));
        let mut entries: Vec<_> = entries.into_iter().map(|kept| entry(kept, &keepers)).collect();
        let adoptable = entries.iter().filter(|entry| entry.object.is_none() && entry.trouble.is_none()).count();
        // Stable: within these, the worker's order stays.
        entries.sort_by_key(|entry| entry.object.is_some());
        entries.truncate(LISTED_MAX);
        let stagings: Vec<_> = stagings.into_iter().map(|staging| folder(staging, &stagers)).collect();
        let leaked = stagings.iter().filter(|staging| staging.object.is_none()).count();
        let cut = signed(totals.entries) - counted(entries.len());
        let message = told(&totals, adoptable, leaked, cut);
        self.status.observed_at = Some(Time(self.now));
        self.status.display = Some(InventoryDisplay {
            size: human_bytes(totals.bytes),
            free: totals.room.map(|room| human_bytes(room.free_bytes)),
        });
        self.status.totals = Some(InventoryTotals {
            entries: signed(totals.entries),
            adoptable: counted(adoptable),
            bytes: signed(totals.bytes),
            shared_bytes: signed(totals.shared_bytes),
            orphans: signed(totals.orphans),
            orphan_bytes: signed(totals.orphan_bytes),
            stagings: signed(totals.stagings),
            staging_bytes: signed(totals.staging_bytes),
            leaked: counted(leaked),
            free_bytes: totals.room.map(|room| signed(room.free_bytes)),
            capacity_bytes: totals.room.map(|room| signed(room.capacity_bytes)),
        });
        self.status.entries = entries;
        self.status.orphans = orphans.into_iter().map(|orphan| folder(orphan, &BTreeMap::new())).collect();
        self.status.stagings = stagings;
        self.phase(InventoryPhase::Complete, "Listed", &message);
    }
}

/// What was found, in a sentence.
fn told(totals: &Totals, adoptable: usize, leaked: usize, cut: i64) -> String {
    let Totals { entries, bytes, orphans, .. } = totals;
    let rest = if cut > 0 { format!("; status.entries leaves out {cut} of the smaller ones") } else { String::new() };
    format!(
        "{entries} entries with {}: {adoptable} of those listed could be adopted; {orphans} orphan snapshots, {leaked} leaked stagings{rest}",
        human_bytes(*bytes)
    )
}

/// The entries of the namespace on this volume, by their models' keys: where twins are, the one that is Ready, else the older.
fn keepers(observed: &ObservedInventory) -> BTreeMap<String, String> {
    let mut here: Vec<_> = observed.here().collect();
    here.sort_by_key(|entry| {
        let is_ready = entry.status.as_ref().and_then(|status| status.phase) == Some(Phase::Ready);
        (is_ready, std::cmp::Reverse(entry.metadata.creation_timestamp.as_ref().map(|time| time.0)))
    });
    let named = |entry: &ModelCacheEntry| {
        Some((known_model(entry)?.key().to_string(), entry.metadata.name.clone().unwrap_or_default()))
    };
    here.into_iter().filter_map(named).collect()
}

/// How the names of the stagings begin that an entry's work has, and the entry.
fn stagers(observed: &ObservedInventory) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in observed.here() {
        let name = entry.metadata.name.clone().unwrap_or_default();
        if let Some(model) = known_model(entry) {
            found.insert(layout::deleted_staging(&model), name.clone());
            found.insert(layout::staging_prefix(&model), name.clone());
        }
        if let Some(source) = build::archive_source(entry) {
            found.insert(layout::import_staging_prefix(Some(source)), name);
        }
    }
    found
}

fn entry(kept: Kept, keepers: &BTreeMap<String, String>) -> InventoryEntry {
    let Kept { key, commit, manifest, files, bytes, shared_bytes, trouble } = kept;
    let model = key.model();
    InventoryEntry {
        model: model.repo.to_string(),
        revision: model.revision.as_ref().map(ToString::to_string),
        commit: commit.map(|commit| commit.to_string()),
        manifest_sha256: manifest.map(|manifest| manifest.to_string()),
        files: signed(files),
        bytes: signed(bytes),
        shared_bytes: signed(shared_bytes),
        object: keepers.get(&key.to_string()).cloned(),
        trouble,
    }
}

fn folder(leftover: Leftover, owners: &BTreeMap<String, String>) -> InventoryFolder {
    let Leftover { path, files, bytes } = leftover;
    let name = path.rsplit('/').next().unwrap_or_default();
    let object = owners.iter().find(|(prefix, _)| name.starts_with(prefix.as_str())).map(|(_, object)| object.clone());
    InventoryFolder { path, files: signed(files), bytes: signed(bytes), object }
}
