//! Pods that ask for models by a label and an annotation: what is mounted into them, and what they wait for.
//!
//! Two decisions, parted by time. At its creation a Pod gets volumes, mounts, variables and a scheduling gate
//! (`admit`); only names and paths that are known at that moment are used, whatever is on the volume. Later, when the models are
//! there, the gate comes off ([`wait`](mod@wait)). The first writes nothing: what it could not do the second tells, from the
//! same Pod.

mod admit;
mod ask;
mod choose;
mod sight;
#[cfg(test)]
mod tests;
pub mod wait;

pub use admit::{Admission, admit, is_unsure};
pub(super) use ask::words;
pub use ask::{Injection, Placement, Refusal};
pub use choose::Known;
pub use sight::{EntrySight, Volume};

use crate::ident::RepoId;

/// Everything that is mounted is below this folder. Pods that mount something of their own there are left alone.
const ROOT: &str = "/modelcache";
/// So many models one Pod may ask for: each is three mounts in each of its containers.
const MODELS_MAX: usize = 32;
/// Where `huggingface_hub` looks for models.
const CACHE_VARIABLE: &str = "HF_HUB_CACHE";
/// Where `transformers` looks first, while it still does.
const OLD_CACHE_VARIABLE: &str = "TRANSFORMERS_CACHE";
/// Whether `huggingface_hub` asks a Hub.
const OFFLINE_VARIABLE: &str = "HF_HUB_OFFLINE";

/// The hub cache in a Pod.
fn hub_cache() -> String {
    format!("{ROOT}/hub")
}

/// A model's folder in a Pod.
fn model_folder(repo: &RepoId) -> String {
    format!("{ROOT}/models/{repo}")
}
