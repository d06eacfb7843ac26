//! The operator on a real cluster whose parts die: the operator itself, the kubelet, the API server; and the operator at
//! rest. These tests stop what everybody uses, or use all of it (other people's programs),
//! so they run one after the other: `--test-threads=1`.
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

mod defaults;
#[path = "../fakehub/mod.rs"]
mod fakehub;
#[path = "../cluster/harness/mod.rs"]
mod harness;
mod idle;
mod inject;
mod kwok;
mod leader;
mod node;
mod operator_killed;
mod programs;
mod uninstall;

use fakehub::HubFile;
use harness::Stage;
use harness::volume::Volume;

/// What the default choice keeps of the tiny model.
fn chosen() -> Vec<HubFile> {
    fakehub::tiny_model().into_iter().filter(|file| file.path != "pytorch_model.bin").collect()
}

/// An entry is Ready and right, and its Hub gave each file once.
async fn assert_fetched_once(stage: &Stage, volume: &Volume, name: &str, hub: &fakehub::Running) {
    let entry = stage.until_ready(name).await;
    volume.assert_holds(&entry, &chosen());
    let fetched = hub.hub.requests_for("/resolve/");
    assert_eq!(fetched.len(), 6, "{name}: a file that was there is fetched again: {fetched:?}");
}
