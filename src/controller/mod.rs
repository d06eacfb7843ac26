//! The controller: brings what is in the cluster to what the entries ask for.
//!
//! `plan` and `build` are pure: they decide and they make objects, from values alone. `shell` observes, applies and
//! patches; it is the only place that talks to Kubernetes. Controller and worker meet only in the types of
//! [`crate::format::task`] and [`crate::format::outcome`].

pub mod build;
pub mod config;
#[cfg(test)]
pub(crate) mod fixture;
pub mod plan;
pub mod shell;
