//! The room of shared claims: what a connection's models take, which limit is broken, and whose model would go next.
//!
//! The same function serves two: the connection's status, where people see who would go before anybody goes, and the entry
//! itself, which goes when it is the first. Nothing is remembered: the entries' own statuses are all there is.

use super::consumer::Consumer;
use super::record::condition_of;
use super::status::human_bytes;
use super::storage::storage_of;
use super::usage::Usage;
use super::wanted::wanted_claim;
use crate::api::connection::CacheRetention;
use crate::api::entry::ReclaimPolicy;
use crate::api::{HubConnection, ModelCacheEntry, ModelCacheEntryStatus, Phase, condition};
use crate::ident::ByteCount;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The connection that serves the entries of its namespace that name none.
pub const DEFAULT_CONNECTION: &str = "default";
/// A model that has just arrived is given so long to be used, before it goes to make room: else one that a person brings back
/// into a full claim would go at once.
const ARRIVAL: SignedDuration = SignedDuration::from_mins(10);

/// Why a model does not go, whatever the limits say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// Pods use it.
    InUse,
    /// A Pod mounts a folder above it.
    Mounted,
    /// A Pod will use it when its gates open.
    Awaited,
    /// An export reads from its claim; of which model, its Pod does not say.
    Exported,
    /// `spec.retention.pinned`.
    Pinned,
    /// `spec.reclaimPolicy` keeps the files.
    Retained,
    /// `spec.suspend`.
    Suspended,
    /// It was found on the volume, and nothing could bring it back.
    Found,
    /// It arrived a moment ago.
    New,
}

impl Kept {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Mounted => "mounted by a folder above",
            Self::Awaited => "waited for",
            Self::Exported => "beside a running export",
            Self::Pinned => "pinned",
            Self::Retained => "reclaimPolicy Retain",
            Self::Suspended => "suspended",
            Self::Found => "found on the volume",
            Self::New => "just arrived",
        }
    }
}

/// One shared claim, and a connection's models in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClaimRoom {
    /// The claim.
    pub claim: String,
    /// How many models are in it.
    pub models: usize,
    /// Their bytes.
    pub used_bytes: u64,
    /// What could be written when that was last measured, and when that was.
    pub free: Option<(u64, Timestamp)>,
    /// Which limit is broken, and by how much.
    pub pressure: Option<String>,
    /// The entry whose model is going now: nobody else goes meanwhile.
    pub going: Option<String>,
    /// Whose models may go, the one that was not used for longest first.
    pub next: Vec<Candidate>,
    /// How many do not go, by the reason.
    pub kept: BTreeMap<Kept, usize>,
    /// When the first of those that have just arrived may go.
    pub changes_at: Option<Timestamp>,
}

/// A model that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its entry.
    pub entry: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was last used, or published.
    pub unused_since: Timestamp,
}

impl ClaimRoom {
    /// The entry whose model goes now.
    pub fn first(&self) -> Option<&Candidate> {
        self.next.first().filter(|_| self.pressure.is_some() && self.going.is_none())
    }
}

/// Whether an entry uses the connection of this name.
pub fn uses_connection(entry: &ModelCacheEntry, name: &str) -> bool {
    entry.spec.connection_name().unwrap_or(DEFAULT_CONNECTION) == name
}

/// The shared claims with models of a connection; `entries` and `consumers` are all of its namespace.
pub fn rooms(
    connection: &HubConnection,
    entries: &[Arc<ModelCacheEntry>],
    consumers: &[Arc<Consumer>],
    now: Timestamp,
) -> Vec<ClaimRoom> {
    let mut by_claim: BTreeMap<&str, Vec<&ModelCacheEntry>> = BTreeMap::new();
    for entry in entries {
        if let Some(claim) = shared_claim(entry) {
            by_claim.entry(claim).or_default().push(entry);
        }
    }
    let (limits, name) = (limits(connection), connection.name_any());
    let room = |(claim, all): (&str, Vec<&ModelCacheEntry>)| {
        let ours: Vec<_> = all.iter().copied().filter(|entry| uses_connection(entry, &name)).collect();
        let mut room = ClaimRoom { claim: claim.to_owned(), free: free(&all), ..ClaimRoom::default() };
        // Whichever connection it belongs to: what is going makes room for all.
        room.going = all.iter().find(|entry| is_going(entry)).map(|entry| entry.name_any());
        for entry in ours {
            // A model that is being deleted makes room already.
            let Some(bytes) = bytes(entry).filter(|_| entry.metadata.deletion_timestamp.is_none()) else { continue };
            room.models += 1;
            room.used_bytes = room.used_bytes.saturating_add(bytes);
            let Some((arrived, since)) =
                entry.status.as_ref().and_then(|status| Some((arrived(status)?, unused_since(status)?)))
            else {
                continue;
            };
            let may_go_at = arrived + ARRIVAL;
            match kept(entry, entry.status.as_ref(), consumers).or((now < may_go_at).then_some(Kept::New)) {
                Some(kept) => {
                    *room.kept.entry(kept).or_default() += 1;
                    let changes_at = (kept == Kept::New).then_some(may_go_at);
                    room.changes_at = [room.changes_at, changes_at].into_iter().flatten().min();
                }
                None => room.next.push(Candidate { entry: entry.name_any(), bytes, unused_since: since }),
            }
        }
        room.next.sort_by(|one, other| (one.unused_since, &one.entry).cmp(&(other.unused_since, &other.entry)));
        room.pressure = pressure(&limits, &room);
        room
    };
    by_claim.into_iter().map(room).filter(|room| room.models > 0).collect()
}

/// Why the model of an entry with this status does not go, whatever the limits say.
pub fn kept(
    entry: &ModelCacheEntry,
    status: Option<&ModelCacheEntryStatus>,
    consumers: &[Arc<Consumer>],
) -> Option<Kept> {
    let spec = &entry.spec;
    if spec.retention.as_ref().and_then(|retention| retention.pinned) == Some(true) {
        return Some(Kept::Pinned);
    }
    if spec.reclaim_policy == Some(ReclaimPolicy::Retain) {
        return Some(Kept::Retained);
    }
    if spec.suspend == Some(true) {
        return Some(Kept::Suspended);
    }
    if spec.source.as_ref().is_some_and(|source| source.volume.is_some()) {
        return Some(Kept::Found);
    }
    let usage = Usage::of(entry, consumers);
    match () {
        // A use that ended a moment ago is not in the status yet, and neither is when it was.
        () if !usage.users.is_empty() || status.is_some_and(says_in_use) => Some(Kept::InUse),
        () if !usage.holders.is_empty() => Some(Kept::Mounted),
        () if !usage.waiting.is_empty() => Some(Kept::Awaited),
        () if is_exported(entry, consumers) => Some(Kept::Exported),
        () => None,
    }
}

/// When a published model was last used, or published if nobody used it since. A newer commit of it is no use.
pub fn unused_since(status: &ModelCacheEntryStatus) -> Option<Timestamp> {
    let arrived = arrived(status)?;
    let used = status.usage.as_ref().and_then(|usage| usage.last_used_at.as_ref());
    Some(used.map_or(arrived, |used| used.0.max(arrived)))
}

/// Since when a model is there; absent while it is not.
pub fn arrived(status: &ModelCacheEntryStatus) -> Option<Timestamp> {
    let ready = condition_of(&status.conditions, condition::READY)?;
    (status.phase == Some(Phase::Ready) && ready.status == "True").then_some(ready.last_transition_time.0)
}

fn is_exported(entry: &ModelCacheEntry, consumers: &[Arc<Consumer>]) -> bool {
    let Some(claim) = wanted_claim(entry) else { return false };
    consumers.iter().any(|pod| pod.is_export && !pod.is_over && pod.has_claim(&claim))
}

fn says_in_use(status: &ModelCacheEntryStatus) -> bool {
    condition_of(&status.conditions, condition::IN_USE).is_some_and(|said| said.status == "True")
}

fn shared_claim(entry: &ModelCacheEntry) -> Option<&str> {
    storage_of(entry)?.claim_name.as_deref()
}

/// The bytes of what is on the volume.
fn bytes(entry: &ModelCacheEntry) -> Option<u64> {
    u64::try_from(entry.status.as_ref()?.manifest.as_ref()?.bytes).ok()
}

/// Whether a model is on its way off the volume.
fn is_going(entry: &ModelCacheEntry) -> bool {
    entry.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Evicted) && status.manifest.is_some())
}

/// The newest measure, whoever took it.
fn free(entries: &[&ModelCacheEntry]) -> Option<(u64, Timestamp)> {
    let volumes = entries.iter().filter_map(|entry| entry.status.as_ref()?.volume.as_ref());
    let measured = volumes.filter_map(|volume| Some((volume.measured_at.as_ref()?.0, volume.free_bytes)));
    let (at, bytes) = measured.max_by_key(|(at, _)| *at)?;
    Some((u64::try_from(bytes?).ok()?, at))
}

fn limits(connection: &HubConnection) -> CacheRetention {
    connection.spec.cache.as_ref().and_then(|cache| cache.retention.clone()).unwrap_or_default()
}

/// Whether a connection limits the room of its models at all.
pub fn has_limits(connection: &HubConnection) -> bool {
    let limits = limits(connection);
    limits.max_used.is_some() || limits.min_free.is_some()
}

fn pressure(limits: &CacheRetention, room: &ClaimRoom) -> Option<String> {
    let bytes = |text: &Option<String>| text.as_deref().and_then(|text| Some(text.parse::<ByteCount>().ok()?.bytes()));
    if let Some(most) = bytes(&limits.max_used).filter(|most| room.used_bytes > *most) {
        let (used, most) = (human_bytes(room.used_bytes), human_bytes(most));
        return Some(format!("the models in claim {:?} take {used}, maxUsed is {most}", room.claim));
    }
    let (free, _) = room.free?;
    let least = bytes(&limits.min_free).filter(|least| free < *least)?;
    let (free, least) = (human_bytes(free), human_bytes(least));
    Some(format!("{free} are free in claim {:?}, minFree is {least}", room.claim))
}
