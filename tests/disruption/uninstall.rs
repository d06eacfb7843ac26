//! The operator is uninstalled: what it leaves behind can go without it.

use crate::chosen;
use crate::harness::command::{program, run};
use crate::harness::{Stage, operator, shared};
use kube::ResourceExt;
use modelcache::api::ModelCacheEntry;
use serde_json::json;
use std::io::Write;
use std::process::Command;
use tempfile::NamedTempFile;

fn helm(args: &[&str]) -> String {
    let namespace = operator::namespace();
    let mut helm = Command::new(program("helm"));
    run(helm.args(args).args(["--namespace", &namespace])).unwrap_or_else(|error| panic!("{error}"))
}

/// A cluster without the operator; with the end of this value it is there again, with the values that it had.
struct Uninstalled {
    values: NamedTempFile,
}

impl Uninstalled {
    fn new() -> Self {
        let mut values = NamedTempFile::new().unwrap();
        values.write_all(helm(&["get", "values", "modelcache", "--output", "yaml"]).as_bytes()).unwrap();
        let without = Self { values };
        helm(&["uninstall", "modelcache", "--wait", "--timeout=4m"]);
        without
    }
}

impl Drop for Uninstalled {
    fn drop(&mut self) {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/modelcache");
        let values = self.values.path().to_string_lossy().into_owned();
        let mut install = vec!["upgrade", "--install", "modelcache", chart, "--values", &values];
        install.extend(["--take-ownership", "--force-conflicts", "--wait", "--timeout=3m"]);
        helm(&install);
    }
}

#[tokio::test]
async fn an_entry_in_a_shared_claim_goes_without_the_operator_and_leaves_its_files() {
    let mut stage = Stage::new("uninstall").await;
    let volume = stage.local("models").await;
    stage.entry("tiny", shared("models", json!({}))).await;
    let entry = stage.until_ready("tiny").await;
    assert!(!entry.finalizers().is_empty(), "with the operator there, its files would be removed");
    let without = Uninstalled::new();
    let left = stage.api::<ModelCacheEntry>().get("tiny").await.unwrap();
    assert!(left.finalizers().is_empty(), "nobody is there to take them off: {:?}", left.finalizers());
    stage.delete("tiny").await;
    volume.assert_holds(&entry, &chosen());
    drop(without);
    operator::until_ready(&stage.client, 1).await;
}
