//! What is written down: metadata, checksums, the volume's layout, and the words between controller and worker.
//!
//! This room owns every byte format that outlives a process. It knows names (`ident`) and the standard library's
//! readers and writers, and must not know HTTP, Kubernetes, the clock or the environment.

pub mod archive;
pub mod inventory;
pub mod layout;
pub mod metadata;
pub mod outcome;
mod policy;
pub mod sums;
pub mod task;
