//! The decision for an export: one entry, written into one archive, once.

use super::attempt::{Standing, standing};
use super::decide::{LISTEN_EVERY, LOOK_EVERY, again_after_silence, delete_job, has_another_image};
use super::draft::Draft;
use super::observed::{ConnectionSight, Scene};
use super::record::{self, signed};
use super::status::{Obstacle, claim_trouble, human_bytes};
use super::storage::storage_of;
use super::wanted::{ArchiveSpot, CaSource, HubView, hub_view, known_model, settings, wanted_claim};
use super::{Action, Plan, Why, backoff, placement};
use crate::api::export::{ArchiveStatus, ExportDisplay, ExportFormat, ExportPhase};
use crate::api::job::JobSettings;
use crate::api::status::AttemptsStatus;
use crate::api::{ModelCacheEntry, ModelCacheExport, ModelCacheExportStatus, Phase};
use crate::controller::build::{self, Owner};
use crate::controller::config::Config;
use crate::format::outcome::Done;
use crate::format::task::{ArchiveFormat, Usage};
use crate::ident::{ModelRef, Reason, Recovery, RelPath};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use std::time::Duration;

/// Everything that one decision is made from.
#[derive(Debug, Clone)]
pub struct ObservedExport {
    /// The export.
    pub export: ModelCacheExport,
    /// The entry that it names, if it exists.
    pub entry: Option<ModelCacheEntry>,
    /// The operator's configuration.
    pub config: Config,
    /// The connection named `default` in the namespace.
    pub connection: ConnectionSight,
    /// What was seen of the entry's claim and the export's Jobs.
    pub scene: Scene,
    /// The time.
    pub now: Timestamp,
    /// A fresh random word for the next task.
    pub nonce: String,
}

/// What an export asks for, with every name parsed.
#[derive(Debug, Clone)]
pub struct WantedExport {
    /// The uid of the entry.
    pub entry: String,
    /// The model.
    pub model: ModelRef,
    /// The claim of its volume.
    pub claim_name: String,
    /// The cache's root below the claim's root.
    pub sub_path: Option<RelPath>,
    /// Which kind of archive.
    pub format: ArchiveFormat,
    /// Where it goes.
    pub destination: ArchiveSpot,
    /// The latest use of the model.
    pub usage: Option<Usage>,
    /// How to reach what is not in the cluster.
    pub hub: HubView,
    /// Settings of the worker's Job.
    pub job: JobSettings,
}

impl ObservedExport {
    /// The Job whose end is recorded in the status already.
    pub fn recorded_job(&self) -> Option<&str> {
        self.attempts()?.last_job.as_deref()
    }

    fn attempts(&self) -> Option<&AttemptsStatus> {
        self.export.status.as_ref()?.attempts.as_ref()
    }

    fn phase(&self) -> Option<ExportPhase> {
        self.export.status.as_ref()?.phase
    }

    /// The newest value of the retry annotation, when it was not acted on yet.
    fn asked_to_retry(&self) -> Option<&str> {
        record::asked_to_retry(&self.export.metadata, self.attempts())
    }
}

/// Where an export's archive goes.
pub fn destination(export: &ModelCacheExport) -> Result<ArchiveSpot, Why> {
    let destination = &export.spec.destination;
    match (&destination.url, &destination.claim_name, &destination.path) {
        (Some(url), None, None) => Ok(ArchiveSpot::Url {
            url: url.clone(),
            auth: destination.auth_secret_ref.as_ref().map(|secret| secret.name.clone()),
        }),
        (None, Some(name), Some(path)) => {
            let path = path.parse();
            let path =
                path.map_err(|error| Why::new(Reason::ArchiveInvalid, format!("spec.destination.path: {error}")))?;
            Ok(ArchiveSpot::Claim { name: name.clone(), path })
        }
        _ => Err(Why::new(Reason::ArchiveInvalid, "spec.destination must have either url, or claimName and path")),
    }
}

fn wanted(observed: &ObservedExport, entry: &ModelCacheEntry) -> Result<WantedExport, Why> {
    let no_model = || Why::new(Reason::ArchiveInvalid, "the entry names no model yet");
    let storage = storage_of(entry);
    let usage = entry.status.as_ref().and_then(|status| status.usage.as_ref());
    Ok(WantedExport {
        entry: entry.metadata.uid.clone().unwrap_or_default(),
        model: known_model(entry).ok_or_else(no_model)?,
        claim_name: wanted_claim(entry).ok_or_else(no_model)?,
        sub_path: storage.and_then(|storage| storage.sub_path.as_deref()).and_then(|path| path.parse().ok()),
        format: match observed.export.spec.format {
            ExportFormat::Tar => ArchiveFormat::Tar,
            ExportFormat::TarGz => ArchiveFormat::TarGz,
            ExportFormat::TarZst => ArchiveFormat::TarZst,
            ExportFormat::Zip => ArchiveFormat::Zip,
        },
        destination: destination(&observed.export)?,
        usage: usage.and_then(|usage| {
            let at_ms = usage.last_used_at.as_ref()?.0.as_millisecond();
            Some(Usage { at_ms, by: usage.last_used_by.clone()? })
        }),
        hub: hub_view(&observed.connection, &observed.config)?,
        job: settings(entry, &observed.connection, &observed.config),
    })
}

/// Decides what should be done for one export.
pub fn decide(observed: &ObservedExport) -> Plan<ModelCacheExportStatus> {
    let draft = draft(observed);
    if observed.export.metadata.deletion_timestamp.is_some() {
        // Owner references take its Jobs; the archive stays.
        return draft.finish(Vec::new(), None);
    }
    let failed = matches!(observed.phase(), Some(ExportPhase::Failed | ExportPhase::Retrying));
    let housekeeping = record::recorded_jobs(&observed.scene, observed.recorded_job(), failed);
    if observed.phase() == Some(ExportPhase::Complete) {
        return draft.finish(housekeeping, None);
    }
    if let Some(attempt) = observed.scene.current(observed.recorded_job()) {
        if attempt.job.metadata.deletion_timestamp.is_some() {
            return draft.finish(housekeeping, Some(LISTEN_EVERY));
        }
        if is_stuck(observed, attempt.job) {
            let mut draft = draft;
            draft.begins(observed.asked_to_retry());
            draft.phase(ExportPhase::Pending, "Starting", "the Job did not start: it is made anew");
            return draft.finish(delete_job(attempt.job).into_iter().collect(), Some(LISTEN_EVERY));
        }
        return follow(observed, attempt.job, draft, housekeeping);
    }
    match due(observed) {
        Some(Duration::ZERO) => begin(observed, draft, housekeeping),
        again => draft.finish(housekeeping, again),
    }
}

/// Whether a Job cannot start, and another one might: the operator's image is another, or somebody asks for a retry.
fn is_stuck(observed: &ObservedExport, job: &Job) -> bool {
    (observed.asked_to_retry().is_some() || has_another_image(job, &observed.config.image))
        && matches!(standing(&observed.scene, job), Standing::Starting(Some(_)))
}

/// How long it is until the next attempt; none where it waits for a change.
fn due(observed: &ObservedExport) -> Option<Duration> {
    let has_failed = matches!(observed.phase(), Some(ExportPhase::Failed | ExportPhase::Retrying));
    let attempts = observed.attempts();
    let mended = attempts
        .and_then(|attempts| attempts.last_hub.as_ref())
        .is_some_and(|hub| hub_view(&observed.connection, &observed.config).is_ok_and(|view| view.digest() != *hub));
    if observed.asked_to_retry().is_some() || !has_failed || mended {
        return Some(Duration::ZERO);
    }
    let untried = attempts.is_none_or(|attempts| attempts.count == 0);
    record::time_left(attempts, observed.now).or(untried.then_some(Duration::ZERO))
}

/// Begins an attempt, if the entry is Ready.
fn begin(
    observed: &ObservedExport,
    mut draft: Draft<ModelCacheExportStatus>,
    mut actions: Vec<Action>,
) -> Plan<ModelCacheExportStatus> {
    let name = &observed.export.spec.entry_ref.name;
    let ready = |entry: &&ModelCacheEntry| {
        let phase = entry.status.as_ref().and_then(|status| status.phase);
        phase == Some(Phase::Ready) && entry.metadata.deletion_timestamp.is_none()
    };
    let Some(entry) = observed.entry.as_ref().filter(ready) else {
        let message = match &observed.entry {
            Some(_) => format!("entry {name:?} is not Ready: the export starts when it is"),
            None => format!("entry {name:?} does not exist in this namespace: create it, or another export"),
        };
        draft.phase(ExportPhase::Pending, "WaitsForEntry", &message);
        // The entry is read from another watch's memory than the one that wakes us.
        return draft.finish(actions, Some(LOOK_EVERY));
    };
    let wanted = wanted(observed, entry).and_then(|wanted| {
        let job = placement::place(&observed.scene, wanted.job.clone())?;
        Ok(WantedExport { job, ..wanted })
    });
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(why) if why.reason.recovery() == Recovery::Watch => {
            draft.phase(ExportPhase::Pending, why.reason.as_str(), &why.message);
            return draft.finish(actions, Some(LOOK_EVERY));
        }
        Err(why) => {
            draft.phase(ExportPhase::Failed, why.reason.as_str(), &why.message);
            return draft.finish(actions, None);
        }
    };
    if let ArchiveSpot::Claim { name, .. } = &wanted.destination
        && observed.scene.archive_claim.is_none()
    {
        let message = format!("claim {name:?} of spec.destination does not exist in this namespace: create it");
        draft.phase(ExportPhase::Pending, Reason::PVCPending.as_str(), &message);
        return draft.finish(actions, Some(LOOK_EVERY));
    }
    draft.begins(observed.asked_to_retry());
    let owner = Owner::of_export(observed);
    if let (Some(CaSource::Operator(pem)), ArchiveSpot::Url { .. }) = (&wanted.hub.ca, &wanted.destination) {
        actions.push(Action::CreateConfigMap(Box::new(build::ca_config_map(&owner, pem))));
    }
    let job = build::export_job(&owner, &observed.config, &wanted, &observed.nonce);
    let message = format!("Job {} is created", job.metadata.name.as_deref().unwrap_or_default());
    actions.push(Action::CreateJob(Box::new(job)));
    draft.phase(ExportPhase::Pending, "Starting", &message);
    draft.finish(actions, Some(LOOK_EVERY))
}

/// An attempt is under way, or its end is not recorded yet.
fn follow(
    observed: &ObservedExport,
    job: &Job,
    mut draft: Draft<ModelCacheExportStatus>,
    actions: Vec<Action>,
) -> Plan<ModelCacheExportStatus> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let again = match standing(&observed.scene, job) {
        Standing::Starting(why) => {
            let why = why.or_else(|| claim_trouble(&observed.scene));
            match why {
                Some(why) => draft.phase(ExportPhase::Pending, why.reason.as_str(), &why.message),
                None => draft.phase(ExportPhase::Pending, "Starting", &format!("Job {name} starts")),
            }
            Some(LOOK_EVERY)
        }
        Standing::Running(progress) => {
            if let Some((percent, _)) =
                progress.and_then(|progress| record::heard(&mut draft.status.progress, &progress, observed.now))
            {
                draft.display().progress = Some(percent);
            }
            draft.phase(ExportPhase::Exporting, "Exporting", &format!("Job {name} writes; see status.progress"));
            Some(LISTEN_EVERY)
        }
        Standing::Done(done, _) => {
            draft.done(observed, name, &done);
            None
        }
        Standing::Unheard => {
            let failed = record::unheard(name, "it runs again and finds its work done");
            let wait = again_after_silence(observed.attempts().map_or(0, |attempts| attempts.count));
            draft.failed(job, &failed, Some(wait));
            Some(wait)
        }
        Standing::Failed(failed) => {
            let count = observed.attempts().map_or(0, |attempts| attempts.count);
            let wait = backoff::delay(failed.reason, count + 1, failed.retry_after_seconds, 0);
            draft.failed(job, &failed, wait);
            wait
        }
    };
    draft.finish(actions, again)
}

/// The plan as it turns out when an action met an obstacle.
pub fn obstructed(observed: &ObservedExport, obstacle: &Obstacle) -> Plan<ModelCacheExportStatus> {
    draft(observed).obstructed(obstacle)
}

fn draft(observed: &ObservedExport) -> Draft<ModelCacheExportStatus> {
    Draft::of(&observed.export.metadata, observed.export.status.as_ref(), observed.now)
}

impl Draft<ModelCacheExportStatus> {
    fn display(&mut self) -> &mut ExportDisplay {
        self.status.display.get_or_insert_default()
    }

    fn done(&mut self, observed: &ObservedExport, job: &str, done: &Done) {
        record::success(self.attempts(), job);
        let location = destination(&observed.export).map(|spot| spot.shown()).unwrap_or_default();
        self.display().progress = Some("100%".to_owned());
        if let Some(archive) = done.archive {
            self.display().size = Some(human_bytes(archive.size_bytes));
            self.status.archive = Some(ArchiveStatus {
                sha256: archive.sha256.to_string(),
                size_bytes: signed(archive.size_bytes),
                location: location.clone(),
            });
        }
        self.phase(ExportPhase::Complete, "Written", &format!("the archive is whole: {location}"));
    }
}
