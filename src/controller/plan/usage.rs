//! Who uses a model, and what is said of it.
//!
//! A Pod *uses* a model when it mounts the model's own folders, or names it by annotation. One that mounts a folder
//! above them *holds* it: the files must stay, but nobody knows whether they are read. With an own claim, which holds one model, such a
//! Pod uses it. Pods that ended and the operator's own workers never count.

use super::consumer::{Consumer, MountedClaim};
use super::observed::Observed;
use super::record::{Says, condition_of, set_condition};
use super::storage::storage_of;
use super::wanted::{known_model, wanted_claim};
use crate::api::{ModelCacheEntry, ModelCacheEntryStatus, condition};
use crate::format::layout;
use crate::ident::{Commit, EntryName, ModelRef};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Pods that come and go in a storm give one write of an entry's status in this time.
const WRITTEN_AT_MOST_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// So many Pods are named; of the others, the number is told.
const NAMED_MAX: usize = 5;

/// Who has to do with one entry's model; the newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// The Pods that use it.
    pub users: Vec<Arc<Consumer>>,
    /// The Pods that mount a folder above its own: its files must stay.
    pub holders: Vec<Arc<Consumer>>,
    /// The Pods that will use it when their scheduling gates open.
    pub waiting: Vec<Arc<Consumer>>,
    /// The commits of its repo that Pods mount by path.
    pub mounted: BTreeSet<Commit>,
}

/// What a Pod has to do with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Nothing,
    Holds,
    Uses,
}

/// Where a model's folders are, as paths below the claim's root.
struct Place<'a> {
    claim: String,
    root: &'a Path,
    model: ModelRef,
    entry: PathBuf,
    view: PathBuf,
    repo: PathBuf,
    snapshots: PathBuf,
    snapshot: Option<PathBuf>,
    /// The snapshots that it had before, and may still keep.
    older: Vec<PathBuf>,
    /// Whether the claim is the entry's own.
    is_alone: bool,
}

impl Usage {
    /// Who of a namespace's Pods has to do with the model of one of its entries.
    pub fn of(entry: &ModelCacheEntry, consumers: &[Arc<Consumer>]) -> Self {
        let place = Place::of(entry);
        let mut usage = Self::default();
        for consumer in consumers.iter().filter(|consumer| !consumer.is_over && consumer.worker.is_none()) {
            let model = || place.as_ref().map(|place| place.model.to_string());
            let mut reach = if is_named(entry, model, consumer) { Reach::Uses } else { Reach::Nothing };
            if let Some(place) = &place {
                for claim in consumer.claims.iter().filter(|claim| claim.name == place.claim) {
                    let reaches = claim.folders.iter().map(|folder| place.reach(folder, claim));
                    reach = reaches.fold(reach, Ord::max);
                    usage.mounted.extend(claim.folders.iter().filter_map(|folder| place.commit(folder)));
                }
            }
            match reach {
                Reach::Uses if consumer.is_gated => usage.waiting.push(Arc::clone(consumer)),
                Reach::Uses => usage.users.push(Arc::clone(consumer)),
                Reach::Holds if !consumer.is_gated => usage.holders.push(Arc::clone(consumer)),
                Reach::Holds | Reach::Nothing => {}
            }
        }
        for pods in [&mut usage.users, &mut usage.holders, &mut usage.waiting] {
            pods.sort_by(|one, other| other.created().cmp(&one.created()).then_with(|| one.name().cmp(other.name())));
        }
        usage
    }
}

/// Whether an entry looks at a Pod of its namespace: the Pod has its claim, or names it or its model.
pub fn concerns(entry: &ModelCacheEntry, consumer: &Consumer) -> bool {
    let model = || known_model(entry).map(|model| model.to_string());
    wanted_claim(entry).is_some_and(|claim| consumer.has_claim(&claim)) || is_named(entry, model, consumer)
}

/// Whether a Pod's annotation names an entry: by its own name, or by its model's. One that was given its models uses those entries
/// alone, whoever else keeps the same model.
fn is_named(entry: &ModelCacheEntry, model: impl FnOnce() -> Option<String>, consumer: &Consumer) -> bool {
    let given = consumer.injection.as_ref().map(|injection| &injection.entries).filter(|given| !given.is_empty());
    if let Some(given) = given {
        return given.iter().any(|name| Some(name) == entry.metadata.name.as_ref());
    }
    if consumer.models.is_empty() {
        return false;
    }
    let model = model();
    consumer.models.iter().any(|word| Some(word) == entry.metadata.name.as_ref() || Some(word) == model.as_ref())
}

impl<'a> Place<'a> {
    fn of(entry: &'a ModelCacheEntry) -> Option<Self> {
        let model = known_model(entry)?;
        let storage = storage_of(entry)?;
        let root = Path::new(storage.sub_path.as_deref().unwrap_or_default());
        let status = entry.status.as_ref();
        let snapshot = |commit: &str| Some(root.join(layout::snapshot(&model.repo, &commit.parse().ok()?)));
        let replaced = status.and_then(|status| status.update.as_ref()).map(|update| update.replaced.as_slice());
        let name = model.entry_name();
        Some(Self {
            claim: wanted_claim(entry)?,
            root,
            entry: root.join(layout::entry(&name)),
            view: root.join(layout::view(&name)),
            repo: root.join(layout::repo(&model.repo)),
            snapshots: root.join(layout::snapshots(&model.repo)),
            snapshot: status.and_then(|status| snapshot(status.commit.as_deref()?)),
            older: replaced.iter().flat_map(|all| all.iter()).filter_map(|one| snapshot(&one.commit)).collect(),
            is_alone: storage.volume_claim_template.is_some(),
            model,
        })
    }

    /// What mounting a folder has to do with the model; the Pod has these folders of the claim.
    fn reach(&self, folder: &Path, claim: &MountedClaim) -> Reach {
        let is_own = [Some(&self.entry), Some(&self.view), self.snapshot.as_ref()];
        if is_own.into_iter().flatten().any(|own| folder.starts_with(own)) {
            return Reach::Uses;
        }
        if folder == self.snapshots || folder == self.repo {
            // A hub cache is all snapshots of a repo and the view of one entry: the others' are only mounted along.
            return if self.has_view_of_sibling(claim) { Reach::Holds } else { Reach::Uses };
        }
        if self.older.iter().any(|older| folder.starts_with(older)) {
            return Reach::Holds;
        }
        match self.entry.starts_with(folder) || self.snapshots.starts_with(folder) {
            true if self.is_alone => Reach::Uses,
            true => Reach::Holds,
            false => Reach::Nothing,
        }
    }

    /// Whether a Pod has the view of another entry of this repo, and not the model's own.
    fn has_view_of_sibling(&self, claim: &MountedClaim) -> bool {
        let views = self.root.join(layout::VIEWS);
        let has_sibling = claim.folders.iter().any(|folder| {
            let name =
                folder.strip_prefix(&views).ok().and_then(|below| below.components().next()?.as_os_str().to_str());
            let other = name.and_then(|name| name.parse::<EntryName>().ok()?.model().ok());
            other.is_some_and(|other| other.repo == self.model.repo && other != self.model)
        });
        has_sibling && !claim.folders.iter().any(|folder| folder.starts_with(&self.view))
    }

    /// The commit whose snapshot, or a folder in it, is mounted.
    fn commit(&self, folder: &Path) -> Option<Commit> {
        folder.strip_prefix(&self.snapshots).ok()?.components().next()?.as_os_str().to_str()?.parse().ok()
    }
}

/// Some Pods by name, and the number of the others.
pub(super) fn named(pods: &[Arc<Consumer>]) -> String {
    let names: Vec<_> = pods.iter().take(NAMED_MAX).map(|pod| pod.name()).collect();
    match pods.len().checked_sub(NAMED_MAX) {
        None | Some(0) => names.join(", "),
        Some(others) => format!("{} and {others} more", names.join(", ")),
    }
}

/// Writes who uses the model into its status. When that was written less than a minute ago it is left for later, and the
/// time until then is given.
pub(super) fn tell(observed: &Observed, status: &mut ModelCacheEntryStatus) -> Option<Duration> {
    let users = Usage::of(&observed.entry, &observed.scene.consumers).users;
    let wait = if is_told(status, &users) { None } else { write(observed, status, &users) };
    // The volume's file knows the download's own use only.
    if let (Some(used), Some(metadata)) = (&status.usage, &mut status.metadata) {
        if let Some(Time(at)) = used.last_used_at {
            metadata.insert("lastDssUsage".to_owned(), at.as_millisecond().into());
        }
        if let Some(by) = &used.last_used_by {
            metadata.insert("lastUsedBy".to_owned(), by.clone().into());
        }
    }
    wait
}

/// The newest Pods are named, so a message is another one as soon as a Pod begins.
fn sentence(users: &[Arc<Consumer>]) -> (bool, &'static str, String) {
    match users.len() {
        0 => (false, "NotUsed", "no Pod uses the model".to_owned()),
        1 => (true, "Used", format!("1 Pod uses the model: {}", named(users))),
        count => (true, "Used", format!("{count} Pods use the model: {}", named(users))),
    }
}

fn is_told(status: &ModelCacheEntryStatus, users: &[Arc<Consumer>]) -> bool {
    let (_, reason, message) = sentence(users);
    match condition_of(&status.conditions, condition::IN_USE) {
        Some(told) => told.reason == reason && told.message == message,
        // Nobody ever used it: nothing is said.
        None => users.is_empty(),
    }
}

fn write(observed: &Observed, status: &mut ModelCacheEntryStatus, users: &[Arc<Consumer>]) -> Option<Duration> {
    let now: Timestamp = observed.now;
    let usage = status.usage.get_or_insert_default();
    if let Some(Time(last)) = usage.last_used_at
        && last <= now
        && now < last + WRITTEN_AT_MOST_EVERY
    {
        return Duration::try_from(now.duration_until(last + WRITTEN_AT_MOST_EVERY)).ok();
    }
    usage.last_used_at = Some(Time(now));
    usage.last_used_by = users.first().map(|newest| newest.identity()).or(usage.last_used_by.take());
    usage.pods = i32::try_from(users.len()).ok();
    let (holds, reason, message) = sentence(users);
    let says =
        Says { type_: condition::IN_USE, status: if holds { "True" } else { "False" }, reason, message: &message };
    set_condition(&mut status.conditions, &says, now, observed.entry.metadata.generation);
    None
}
