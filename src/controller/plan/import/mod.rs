//! The decision for an import: the archives are listed, each gets an entry, and the entries are followed.
//!
//! Which archives there are is in the cluster and nowhere else: an archive is an entry with the import's label. The end of a
//! listing is recorded only when every archive that it named has an entry or a reason why not, so an operator that is killed
//! in between hears the same list again and goes on.

mod tally;

use super::attempt::{Standing, standing};
use super::decide::{LISTEN_EVERY, LOOK_EVERY, delete_job};
use super::draft::Draft;
use super::observed::Scene;
use super::record;
use super::status::{Obstacle, claim_trouble};
use super::wanted::{ArchiveSpot, merge};
use super::{Action, Met, Notice, Plan, Why, backoff};
use crate::api::import::{ImportPhase, ImportedArchive};
use crate::api::job::JobSettings;
use crate::api::status::AttemptsStatus;
use crate::api::{ModelCacheEntry, ModelCacheImport, ModelCacheImportStatus, Phase};
use crate::controller::build;
use crate::controller::config::Config;
use crate::format::outcome::{Failed, Listing};
use crate::ident::{Reason, Recovery, RelPath};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// The most archives of one import: their entries are made in one round, which an operator that stops must not wait for long.
const ARCHIVES_MAX: usize = 1000;

/// Everything that one decision is made from.
#[derive(Debug, Clone)]
pub struct ObservedImport {
    /// The import.
    pub import: ModelCacheImport,
    /// The entries that were made for it and are not being deleted.
    pub entries: Vec<ModelCacheEntry>,
    /// The operator's configuration.
    pub config: Config,
    /// What was seen of the archives' claim and the import's Jobs.
    pub scene: Scene,
    /// The entries, by name, that the cluster refused in this round.
    pub refused: Vec<(String, Why)>,
    /// The time.
    pub now: Timestamp,
    /// A fresh random word for the next task.
    pub nonce: String,
}

/// A folder in a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The claim.
    pub claim: String,
    /// The folder below its root; absent: the root.
    pub path: Option<RelPath>,
}

/// Where the archives of an import are.
enum Place<'a> {
    Folder(Folder),
    Urls(&'a [String]),
}

impl ObservedImport {
    /// The Job whose end is recorded in the status already.
    pub fn recorded_job(&self) -> Option<&str> {
        self.attempts()?.last_job.as_deref()
    }

    /// Settings of the Job that lists.
    pub fn job_settings(&self) -> JobSettings {
        merge(self.import.spec.job.clone().unwrap_or_default(), &self.config.job)
    }

    fn attempts(&self) -> Option<&AttemptsStatus> {
        self.import.status.as_ref()?.attempts.as_ref()
    }

    /// Whether the newest listing failed.
    fn has_failed(&self) -> bool {
        self.attempts().is_some_and(|attempts| attempts.count > 0)
    }

    fn was_listed(&self) -> bool {
        self.import.status.as_ref().is_some_and(|status| status.found.is_some())
    }

    /// The newest value of the retry annotation, when it was not acted on yet.
    fn asked_to_retry(&self) -> Option<&str> {
        record::asked_to_retry(&self.import.metadata, self.attempts())
    }

    fn place(&self) -> Result<Place<'_>, Why> {
        let source = &self.import.spec.source;
        match (&source.claim_name, &source.urls) {
            (Some(claim), None) => {
                let path = source.path.as_deref().map(str::parse).transpose();
                let path = path.map_err(|error| Why::new(Reason::UnsafePath, format!("spec.source.path: {error}")))?;
                Ok(Place::Folder(Folder { claim: claim.clone(), path }))
            }
            (None, Some(urls)) => Ok(Place::Urls(urls)),
            _ => Err(Why::new(Reason::ArchiveNotFound, "spec.source must have exactly one of claimName and urls")),
        }
    }
}

impl Folder {
    /// The folder, for people.
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) => format!("the folder {path} in claim {:?}", self.claim),
            None => format!("claim {:?}", self.claim),
        }
    }

    /// An archive in it; the name comes from the volume, and may be one that no manifest should hold.
    fn archive(&self, name: &str) -> Result<ArchiveSpot, Why> {
        let path = self.path.as_ref().map_or_else(|| name.to_owned(), |path| format!("{path}/{name}"));
        let path = path.parse().map_err(|error| {
            Why::new(Reason::UnsafePath, format!("{error}: give the file another name, and retry the import"))
        })?;
        Ok(ArchiveSpot::Claim { name: self.claim.clone(), path })
    }
}

/// Decides what should be done for one import.
pub fn decide(observed: &ObservedImport) -> Plan<ModelCacheImportStatus> {
    let mut draft = tally::draft(observed);
    if observed.import.metadata.deletion_timestamp.is_some() {
        // Owner references take its Jobs; the entries stay.
        return draft.finish(Vec::new(), None);
    }
    let mut actions = record::recorded_jobs(&observed.scene, observed.recorded_job(), observed.has_failed());
    if let Some(attempt) = observed.scene.current(observed.recorded_job()) {
        if attempt.job.metadata.deletion_timestamp.is_some() {
            return draft.finish(actions, Some(LISTEN_EVERY));
        }
        if is_stuck_in_the_past(observed, attempt.job) {
            actions.extend(delete_job(attempt.job));
            draft.phase(
                ImportPhase::Pending,
                "Starting",
                "the Job did not start and spec.job changed: it is made anew",
            );
            return draft.finish(actions, Some(LISTEN_EVERY));
        }
        return follow(observed, attempt.job, draft, actions);
    }
    match due(observed) {
        Some(Duration::ZERO) => begin(observed, draft, actions),
        again => rest(observed, draft, actions, again),
    }
}

/// The plan as it turns out when actions met obstacles. An entry that is refused keeps no other from being made.
pub fn obstructed(observed: &ObservedImport, met: &[Met<'_>]) -> Plan<ModelCacheImportStatus> {
    let mut again = observed.clone();
    for Met { action, obstacle } in met {
        let why = match obstacle {
            Obstacle::Denied(why) => why.clone(),
            // Nothing that an import makes takes from a Hub.
            Obstacle::Full => continue,
            Obstacle::Busy(writer) => Why::new(Reason::Conflict, format!("waits for {writer}")),
        };
        if let Action::CreateEntry(entry) = action {
            again.refused.push((entry.metadata.name.clone().unwrap_or_default(), why));
            continue;
        }
        let mut draft = tally::draft(observed);
        let lasts = why.reason.recovery() == Recovery::Change;
        let phase = if lasts { ImportPhase::Failed } else { ImportPhase::Pending };
        draft.phase(phase, why.reason.as_str(), &why.message);
        return draft.finish(Vec::new(), Some(Duration::from_secs(30)));
    }
    decide(&again)
}

/// Whether a Job cannot start and was made for earlier settings; the new ones may be the remedy.
fn is_stuck_in_the_past(observed: &ObservedImport, job: &Job) -> bool {
    record::is_of_another_spec(job, &observed.import.metadata)
        && matches!(standing(&observed.scene, job), Standing::Starting(Some(_)))
}

/// How long it is until the archives are listed; none where that waits for a retry.
fn due(observed: &ObservedImport) -> Option<Duration> {
    if observed.asked_to_retry().is_some() {
        return Some(Duration::ZERO);
    }
    let untried = !observed.was_listed() && !observed.has_failed();
    record::time_left(observed.attempts(), observed.now).or(untried.then_some(Duration::ZERO))
}

/// Nothing is to be listed: the entries are followed, unless the newest listing failed.
fn rest(
    observed: &ObservedImport,
    mut draft: Draft<ModelCacheImportStatus>,
    actions: Vec<Action>,
    again: Option<Duration>,
) -> Plan<ModelCacheImportStatus> {
    if !observed.has_failed() {
        draft.settle();
    }
    let again = again.or(draft.look_again());
    draft.finish(actions, again)
}

/// Begins a listing. Addresses need none.
fn begin(
    observed: &ObservedImport,
    mut draft: Draft<ModelCacheImportStatus>,
    mut actions: Vec<Action>,
) -> Plan<ModelCacheImportStatus> {
    let folder = match observed.place() {
        Ok(Place::Folder(folder)) => folder,
        Ok(Place::Urls(urls)) => {
            draft.begins(observed.asked_to_retry());
            let auth = observed.import.spec.source.auth_secret_ref.as_ref().map(|secret| secret.name.clone());
            let spots = urls.iter().map(|url| Ok(ArchiveSpot::Url { url: url.clone(), auth: auth.clone() })).collect();
            return listed(observed, draft, actions, spots);
        }
        Err(why) => {
            draft.phase(ImportPhase::Failed, why.reason.as_str(), &why.message);
            return draft.finish(actions, None);
        }
    };
    if observed.scene.claim.is_none() {
        let message = format!("claim {:?} of spec.source does not exist in this namespace: create it", folder.claim);
        draft.phase(ImportPhase::Pending, Reason::PVCPending.as_str(), &message);
        return draft.finish(actions, Some(LOOK_EVERY));
    }
    draft.begins(observed.asked_to_retry());
    let job = build::list_job(observed, &folder);
    let message = format!("Job {} is created", job.metadata.name.as_deref().unwrap_or_default());
    actions.push(Action::CreateJob(Box::new(job)));
    draft.phase(ImportPhase::Listing, "Starting", &message);
    draft.finish(actions, Some(LOOK_EVERY))
}

/// A listing is under way, or its end is not recorded yet.
fn follow(
    observed: &ObservedImport,
    job: &Job,
    mut draft: Draft<ModelCacheImportStatus>,
    actions: Vec<Action>,
) -> Plan<ModelCacheImportStatus> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let failed = match standing(&observed.scene, job) {
        Standing::Starting(why) => {
            match why.or_else(|| claim_trouble(&observed.scene)) {
                Some(why) => draft.phase(ImportPhase::Pending, why.reason.as_str(), &why.message),
                None => draft.phase(ImportPhase::Listing, "Starting", &format!("Job {name} starts")),
            }
            return draft.finish(actions, Some(LOOK_EVERY));
        }
        Standing::Running(_) => {
            draft.phase(ImportPhase::Listing, "Listing", &format!("Job {name} looks for archives"));
            return draft.finish(actions, Some(LISTEN_EVERY));
        }
        Standing::Done(_, text) => match (text.and_then(|text| serde_json::from_str(&text).ok()), observed.place()) {
            (Some(listing), Ok(Place::Folder(folder))) => {
                return heard(observed, draft, actions, job, &folder, &listing);
            }
            _ => None,
        },
        Standing::Unheard => None,
        Standing::Failed(failed) => Some(failed),
    };
    let count = observed.attempts().map_or(0, |attempts| attempts.count);
    let (failed, wait) = match failed {
        None => (record::unheard(name, "it runs again"), Some(Duration::ZERO)),
        Some(failed) => {
            let wait = backoff::delay(failed.reason, count + 1, failed.retry_after_seconds, 0);
            (failed, wait)
        }
    };
    draft.failed(job, &failed, wait);
    draft.finish(actions, wait)
}

/// A folder's list has arrived.
fn heard(
    observed: &ObservedImport,
    mut draft: Draft<ModelCacheImportStatus>,
    actions: Vec<Action>,
    job: &Job,
    folder: &Folder,
    listing: &Listing,
) -> Plan<ModelCacheImportStatus> {
    if let Some(why) = useless(observed, folder, listing) {
        let failed = Failed { reason: why.reason, message: why.message, retry_after_seconds: None };
        let wait = backoff::delay(failed.reason, 1, None, 0);
        draft.failed(job, &failed, wait);
        return draft.finish(actions, wait);
    }
    record::success(draft.attempts(), job.metadata.name.as_deref().unwrap_or_default());
    draft.ignored(listing, folder);
    let spots = listing.archives.iter().map(|name| folder.archive(name).map_err(|why| (name.clone(), why))).collect();
    listed(observed, draft, actions, spots)
}

/// Why nothing can be done with a list.
fn useless(observed: &ObservedImport, folder: &Folder, listing: &Listing) -> Option<Why> {
    let (shown, count, others) = (folder.shown(), listing.archives.len(), listing.others);
    if count > ARCHIVES_MAX {
        let message = format!(
            "{shown} holds {count} archives, and one import takes {ARCHIVES_MAX}: spread them over several folders, and import each"
        );
        return Some(Why::new(Reason::ArchiveInvalid, message));
    }
    // A disk that was emptied after its import takes nothing away.
    (count == 0 && observed.entries.is_empty()).then(|| {
        let message = format!(
            "{shown} holds no archive of a kind that is read (and {others} other files): put archives there, or create an import of another folder"
        );
        Why::new(Reason::ArchiveNotFound, message)
    })
}

/// Every archive gets an entry, where it has none.
fn listed(
    observed: &ObservedImport,
    mut draft: Draft<ModelCacheImportStatus>,
    mut actions: Vec<Action>,
    spots: Vec<Result<ArchiveSpot, (String, Why)>>,
) -> Plan<ModelCacheImportStatus> {
    let mut entries = observed.entries.clone();
    let mut refused = Vec::new();
    for spot in spots {
        let spot = match spot {
            Ok(spot) => spot,
            Err((name, why)) => {
                refused.push(refusal(name, String::new(), &why));
                continue;
            }
        };
        let entry = build::imported_entry(&observed.import, &spot);
        let name = entry.metadata.name.clone().unwrap_or_default();
        if observed.entries.iter().any(|there| there.metadata.name == entry.metadata.name) {
            continue;
        }
        match observed.refused.iter().find(|(refused, _)| *refused == name) {
            Some((_, why)) => refused.push(refusal(tally::name_of(&entry), name, why)),
            None => entries.push(entry.clone()),
        }
        actions.push(Action::CreateEntry(Box::new(entry)));
    }
    let mut again = None;
    if !refused.is_empty() {
        again = Some(backoff::RECHECK);
        let due = SignedDuration::try_from(backoff::RECHECK).map_or(observed.now, |wait| observed.now + wait);
        draft.attempts().next_retry_at = Some(Time(due));
    }
    draft.count(&entries, &refused, refused.len());
    draft.settle();
    let again = again.or(draft.look_again());
    draft.finish(actions, again)
}

fn refusal(name: String, entry: String, why: &Why) -> ImportedArchive {
    ImportedArchive {
        name,
        entry,
        phase: Phase::Failed,
        reason: Some(why.reason.to_string()),
        refusal: Some(tally::shortened(&why.message)),
    }
}

/// What is told of files that are no archives.
fn left_alone(listing: &Listing, folder: &Folder) -> Option<Notice> {
    let (first, rest) = listing.such_as.split_first()?;
    let names = rest.iter().fold(format!("{first:?}"), |names, name| format!("{names}, {name:?}"));
    let message = format!(
        "files in {} that are no archives are left alone: {} of them, such as {names}",
        folder.shown(),
        listing.others
    );
    Some(Notice { warning: false, reason: "FilesIgnored".to_owned(), message })
}
