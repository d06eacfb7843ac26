//! How large an entry's own claim is made, when it grows, and what is remembered of a volume that was full.

use super::Action;
use super::observed::Observed;
use super::storage::storage_of;
use crate::api::ModelCacheEntry;
use crate::api::condition;
use crate::api::entry::UpdatePolicy;
use crate::controller::config::{Config, Headroom};
use crate::format::layout;
use crate::ident::{ByteCount, Reason};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What providers bill, and the least that they make.
const UNIT_BYTES: u64 = 1 << 30;

/// What an entry's own claim is to ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    /// What the template says.
    Given(Quantity),
    /// So many bytes, by the model's own size.
    Computed(u64),
    /// Nobody knows the model's size yet: it is asked for first.
    Unknown,
}

impl Size {
    /// The size as a claim asks for it.
    pub fn quantity(&self) -> Option<Quantity> {
        match self {
            Self::Given(quantity) => Some(quantity.clone()),
            Self::Computed(bytes) => Some(Quantity(format!("{}Gi", bytes / UNIT_BYTES))),
            Self::Unknown => None,
        }
    }

    fn bytes(&self) -> Option<u64> {
        match self {
            Self::Given(quantity) => bytes_of(quantity),
            Self::Computed(bytes) => Some(*bytes),
            Self::Unknown => None,
        }
    }
}

/// What the own claim of an entry is to ask for; none where the entry uses an existing one.
pub fn size(entry: &ModelCacheEntry, config: &Config) -> Option<Size> {
    let spec = &entry.spec;
    let template = &storage_of(entry)?.volume_claim_template.as_ref()?.spec;
    if let Some(given) = template.storage_request() {
        return Some(Size::Given(given.clone()));
    }
    let resolved = entry.status.as_ref().and_then(|status| status.resolved.as_ref());
    let archive = spec.source.as_ref().and_then(|source| source.archive.as_ref());
    let (files, bytes) = match (archive.and_then(|archive| archive.unpacked_bytes), resolved) {
        (Some(bytes), _) => (0, bytes),
        (None, Some(resolved)) => (resolved.files.unwrap_or_default(), resolved.bytes),
        (None, None) => return Some(Size::Unknown),
    };
    let update = spec.update.clone().unwrap_or_default();
    let copies = match update.policy.unwrap_or_default() {
        // The new snapshot comes beside the one in use, and beside those that are kept.
        UpdatePolicy::Track => u64::try_from(update.keep.unwrap_or(1)).unwrap_or_default().saturating_add(2),
        UpdatePolicy::Pinned | UpdatePolicy::Notify => 1,
    };
    let [files, bytes] = [files, bytes].map(|number| u64::try_from(number).unwrap_or_default());
    let content = layout::content_bytes(bytes, files).saturating_mul(copies);
    let headroom = config.storage.headroom_of(template.storage_class_name.as_deref());
    Some(Size::Computed(with_headroom(content.saturating_add(layout::LISTS_BYTES), headroom)))
}

/// So many bytes with what a file system takes for itself, in whole units.
fn with_headroom(content: u64, headroom: &Headroom) -> u64 {
    let free_percent = 100 - u128::from(headroom.percent);
    let by_share = (u128::from(content) * 100).div_ceil(free_percent);
    let at_least = u128::from(content) + u128::from(headroom.min.bytes());
    let units = by_share.max(at_least).div_ceil(u128::from(UNIT_BYTES)).max(1);
    u64::try_from(units).unwrap_or(u64::MAX).saturating_mul(UNIT_BYTES)
}

/// How much a quantity is, where it is one.
pub fn bytes_of(quantity: &Quantity) -> Option<u64> {
    Some(quantity.0.parse::<ByteCount>().ok()?.bytes())
}

/// What a claim asks for, and what it has.
fn asked_and_there(claim: &PersistentVolumeClaim) -> (Option<&Quantity>, Option<&Quantity>) {
    let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    let there = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    (asked, there)
}

/// The growth of the entry's own claim, where it is to have more than it does. A claim never shrinks, and a claim that is
/// not bound cannot be changed.
pub(super) fn growth(observed: &Observed) -> Option<Action> {
    let size = size(&observed.entry, &observed.config)?;
    let claim = observed.scene.claim.as_ref().filter(|_| observed.claim_is_own())?;
    let is_bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    if !is_bound || claim.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let (asked, there) = asked_and_there(claim);
    // A volume may have more than was asked for: then nothing is missing.
    let has = bytes_of(asked?)?.max(there.and_then(bytes_of).unwrap_or_default());
    if size.bytes()? <= has {
        return None;
    }
    let (name, uid) = (claim.metadata.name.clone()?, claim.metadata.uid.clone()?);
    Some(Action::GrowClaim { name, uid, to: size.quantity()? })
}

/// The growth that is due now: what was refused is tried again when the spec changes or somebody asks for it. A finished model
/// in a claim of computed size needs no more, whatever the operator's settings became.
pub(super) fn due_growth(observed: &Observed, is_ready: bool) -> Option<Action> {
    let computed = !matches!(size(&observed.entry, &observed.config)?, Size::Given(_));
    let status = observed.entry.status.as_ref();
    let refused = status.into_iter().flat_map(|status| &status.conditions).any(|condition| {
        condition.type_ == condition::STORAGE_GROWN
            && condition.status == "False"
            && condition.observed_generation == observed.entry.metadata.generation
    });
    let settled = (computed && is_ready) || observed.not_grown.is_some();
    if settled || (refused && observed.asked_to_retry().is_none()) { None } else { growth(observed) }
}

/// What is said of a claim's room: its capacity, and whether the file system is about to be made larger by the next mount.
pub(super) fn room(observed: &Observed) -> Option<String> {
    let claim = observed.scene.claim.as_ref()?;
    let (_, there) = asked_and_there(claim);
    let conditions = claim.status.as_ref().and_then(|status| status.conditions.as_ref());
    let grows = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "FileSystemResizePending" && condition.status == "True");
    let there = there.map_or("unknown", |quantity| quantity.0.as_str());
    Some(if grows { format!("{there}, and more with the next mount") } else { there.to_owned() })
}

/// Whether the last attempt found its volume too small, and the claim has another size now.
pub(super) fn has_other_room(observed: &Observed) -> bool {
    full(observed).is_some_and(|then| room(observed).is_some_and(|now| now != then))
}

/// Whether the claim was too small and is about to grow: what the message says of it.
pub(super) fn awaits_growth(observed: &Observed, grows_now: bool) -> Option<String> {
    let then = full(observed).filter(|then| room(observed).as_deref() == Some(then))?;
    let claim = observed.scene.claim.as_ref().filter(|_| observed.claim_is_own())?;
    let (asked, there) = asked_and_there(claim);
    let is_promised = bytes_of(asked?)? > bytes_of(there?)?;
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let waits = (is_promised || grows_now) && observed.asked_to_retry().is_none();
    waits.then(|| {
        format!("claim {name:?} had {then}, which was too small, and grows: its StorageClass's driver does that")
    })
}

/// What the volume had when it was too small.
fn full(observed: &Observed) -> Option<&str> {
    let attempts = observed.attempts()?;
    let was_full = attempts.last_reason.as_deref() == Some(Reason::OutOfSpace.as_str());
    attempts.last_room.as_deref().filter(|_| was_full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = UNIT_BYTES;

    fn headroom(percent: u8, min: &str) -> Headroom {
        Headroom { percent, min: min.parse().unwrap() }
    }

    #[test]
    fn sizes_are_whole_and_leave_room() {
        let usual = Headroom::default();
        assert_eq!(with_headroom(1, &usual), GIB, "small models take one unit");
        assert_eq!(with_headroom(9 * GIB, &usual), 10 * GIB);
        assert_eq!(with_headroom(9 * GIB + 1, &usual), 11 * GIB);
        assert_eq!(with_headroom(5 * GIB, &headroom(0, "0")), 5 * GIB);
        assert_eq!(with_headroom(5 * GIB, &headroom(0, "1")), 6 * GIB);
        assert_eq!(with_headroom(5 * GIB, &headroom(50, "0")), 10 * GIB);
        assert_eq!(with_headroom(u64::MAX, &usual), u64::MAX);
    }

    proptest! {
        #[test]
        fn what_is_computed_always_fits(content in 0..u64::MAX / 4, percent in 0..=90_u8) {
            let size = with_headroom(content, &headroom(percent, "256Mi"));
            prop_assert!(size >= content && (size == u64::MAX || size.is_multiple_of(GIB)));
            prop_assert!(u128::from(size) * u128::from(100 - percent) >= u128::from(content) * 100 || size == u64::MAX);
        }
    }
}
