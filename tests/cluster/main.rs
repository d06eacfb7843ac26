//! The operator on a real cluster: every storage kind, every way an entry can fail, and what people see of it.
//!
//! Needs the cluster of `hack/lab` with the operator in it; `hack/test` sees to both. Tests have a namespace each and run
//! side by side: they mostly wait, so more threads than cores are right (`--test-threads=16`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::format_collect,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::match_wild_err_arm,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on shall panic"
)]

mod archives;
mod connections;
mod deletion;
mod eviction;
#[path = "../fakehub/mod.rs"]
mod fakehub;
mod happy;
mod harness;
mod inject;
mod inventory;
mod lifecycle;
mod refusals;
mod settings;
mod sizing;
mod storage;
mod updates;
mod usage;
mod workers;

use fakehub::HubFile;

/// The folder of the tiny model's entry.
const ENTRY: &str = "org_2ftiny";

/// What the default choice keeps of the tiny model.
fn chosen() -> Vec<HubFile> {
    fakehub::tiny_model().into_iter().filter(|file| file.path != "pytorch_model.bin").collect()
}
