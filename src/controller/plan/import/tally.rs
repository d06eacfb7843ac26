//! What is said of an import: its entries, counted.

use super::super::decide::LOOK_EVERY;
use super::{Folder, ObservedImport, Place, left_alone};
use crate::api::import::{ImportPhase, ImportedArchive, LISTED_MAX};
use crate::api::{ModelCacheEntry, ModelCacheImportStatus, Phase, condition};
use crate::controller::plan::draft::Draft;
use crate::controller::plan::record::{self};
use crate::controller::plan::wanted::without_query;
use crate::format::outcome::{Listing, shorten};
use std::time::Duration;

/// The longest text of an archive in the status, in bytes: 200 of them must fit an object.
const TEXT_MAX_BYTES: usize = 512;

/// A text as it goes into the status of an archive.
pub(super) fn shortened(text: &str) -> String {
    shorten(text, TEXT_MAX_BYTES)
}

/// The name of an entry's archive, for people: the file's, or the address without its query.
pub(super) fn name_of(entry: &ModelCacheEntry) -> String {
    let archive = entry.spec.source.as_ref().and_then(|source| source.archive.as_ref());
    let place = archive.and_then(|archive| {
        let file = archive.path.as_deref().and_then(|path| path.rsplit('/').next());
        file.or_else(|| archive.url.as_deref().map(without_query))
    });
    shortened(place.unwrap_or_default())
}

fn archive_of(entry: &ModelCacheEntry) -> ImportedArchive {
    let status = entry.status.as_ref();
    let phase = status.and_then(|status| status.phase).unwrap_or_default();
    let ready = status.and_then(|status| record::condition_of(&status.conditions, condition::READY));
    ImportedArchive {
        name: name_of(entry),
        entry: entry.metadata.name.clone().unwrap_or_default(),
        phase,
        reason: ready.filter(|_| phase != Phase::Ready).map(|ready| ready.reason.clone()),
        refusal: None,
    }
}

/// Trouble first, then what is under way, then what is done.
fn rank(archive: &ImportedArchive) -> u8 {
    match archive.phase {
        Phase::Failed => 0,
        Phase::Ready => 2,
        _ => 1,
    }
}

/// The status as it is, with the entries counted anew.
pub(super) fn draft(observed: &ObservedImport) -> Draft<ModelCacheImportStatus> {
    let mut draft = Draft::of(&observed.import.metadata, observed.import.status.as_ref(), observed.now);
    draft.status.source = observed.place().ok().map(|place| match place {
        Place::Folder(Folder { claim, path: None }) => claim,
        Place::Folder(Folder { claim, path: Some(path) }) => format!("{claim}/{path}"),
        Place::Urls([url]) => shortened(without_query(url)),
        Place::Urls(urls) => format!("{} addresses", urls.len()),
    });
    if observed.was_listed() {
        let all = std::mem::take(&mut draft.status.archives);
        let refused: Vec<_> = all.into_iter().filter(|archive| archive.refusal.is_some()).collect();
        let count = usize::try_from(draft.status.refused.unwrap_or_default()).unwrap_or_default();
        draft.count(&observed.entries, &refused, count);
    }
    draft
}

impl Draft<ModelCacheImportStatus> {
    /// Counts entries and refusals. Of the refusals of an earlier listing only those that the status had room for are known.
    pub(super) fn count(&mut self, entries: &[ModelCacheEntry], refused: &[ImportedArchive], refused_count: usize) {
        let number = |count: usize| Some(record::counted(count));
        let mut all: Vec<_> = entries.iter().map(archive_of).collect();
        let of_phase = |phase: Phase| all.iter().filter(|archive| archive.phase == phase).count();
        self.status.found = number(all.len() + refused_count);
        self.status.ready = number(of_phase(Phase::Ready));
        self.status.failed = number(of_phase(Phase::Failed) + refused_count);
        self.status.refused = number(refused_count);
        all.extend(refused.iter().cloned());
        all.sort_by(|one, other| (rank(one), &one.name, &one.entry).cmp(&(rank(other), &other.name, &other.entry)));
        all.truncate(LISTED_MAX);
        self.status.archives = all;
    }

    /// When to count again though nothing is heard: the entries are read from another watch's memory than the one that
    /// wakes us.
    pub(super) fn look_again(&self) -> Option<Duration> {
        (self.status.phase == Some(ImportPhase::Importing)).then_some(LOOK_EVERY)
    }

    /// Sets the phase to what the counted archives imply.
    pub(super) fn settle(&mut self) {
        let numbers = (self.status.found, self.status.ready, self.status.failed);
        let (Some(found), Some(ready), Some(failed)) = numbers else { return };
        if ready + failed < found {
            let message = format!("{ready} of {found} archives are in, {failed} failed; see status.archives");
            return self.phase(ImportPhase::Importing, "Importing", &message);
        }
        let Some(first) = self.status.archives.first().filter(|_| failed > 0).cloned() else {
            let message = format!("every archive is in: {found} of them");
            return self.phase(ImportPhase::Complete, "Imported", &message);
        };
        let reason = first.reason.unwrap_or_else(|| "Failed".to_owned());
        let why = match first.refusal {
            Some(refusal) => format!("{reason}: {refusal}"),
            None => format!("{reason}; entry {:?} says more", first.entry),
        };
        let message = format!("{failed} of {found} archives failed, the first is {:?}: {why}", first.name);
        self.phase(ImportPhase::Failed, &reason, &message);
    }

    /// What a listing says of files that are no archives.
    pub(super) fn ignored(&mut self, listing: &Listing, folder: &Folder) {
        self.status.ignored = Some(record::signed(listing.others));
        self.notices.extend(left_alone(listing, folder));
    }
}
