//! The documentation, held against the code: what people see in a cluster has a section that explains it.
#![cfg(feature = "operator")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

use kube::CustomResourceExt;
use modelcache::api::{ModelCacheEntry, ModelCacheImport, ModelCacheInventory, condition};
use modelcache::ident::Reason;
use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The names that have a section (`### Name`) with text in it.
fn sections(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("### ") {
            let body = std::iter::from_fn(|| lines.next_if(|line| !line.starts_with('#')));
            if body.map(str::trim).collect::<String>().len() > 80 {
                found.push(name.trim_matches('`'));
            }
        }
    }
    found
}

/// The names of a kind's phases, from the schema that the API server has.
fn phases<K: CustomResourceExt>() -> Vec<String> {
    let crd = serde_json::to_value(K::crd()).unwrap();
    let phase = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["phase"];
    phase["enum"].as_array().unwrap().iter().filter_map(|name| name.as_str()).map(str::to_owned).collect()
}

/// Those of the names that have no section.
fn missing<'a>(names: impl IntoIterator<Item = &'a str>, text: &str) -> Vec<String> {
    let there = sections(text);
    names.into_iter().filter(|name| !there.contains(name)).map(str::to_owned).collect()
}

#[test]
fn every_phase_reason_and_condition_has_a_section_in_troubleshooting() {
    let text = read("docs/TROUBLESHOOTING.md");
    let of_inventories = phases::<ModelCacheInventory>();
    let (mut phases, of_imports) = (phases::<ModelCacheEntry>(), phases::<ModelCacheImport>());
    assert!(phases.len() >= 12 && of_imports.len() >= 6, "{phases:?} {of_imports:?}");
    phases.extend(of_imports);
    phases.extend(of_inventories);
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
    let conditions = [
        condition::READY,
        condition::STORAGE_READY,
        condition::STORAGE_GROWN,
        condition::TRANSFERRED,
        condition::VERIFIED,
        condition::COMPLETE,
        condition::IN_USE,
        condition::DRIFTED,
        condition::WITHIN_LIMITS,
        condition::REACHABLE,
        condition::AUTHENTICATED,
        condition::DELETION_BLOCKED,
    ];
    let gaps = missing(phases.iter().map(String::as_str).chain(reasons).chain(conditions), &text);
    assert!(
        gaps.is_empty(),
        "no section (`### Name` and more than a line of text) in docs/TROUBLESHOOTING.md for: {gaps:?}"
    );
}

#[test]
fn every_room_is_in_the_architecture() {
    let text = read("docs/ARCHITECTURE.md");
    let folder = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    for entry in folder {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            assert!(text.contains(&format!("`{name}`")), "docs/ARCHITECTURE.md says nothing of the room `{name}`");
        }
    }
}

#[test]
fn the_examples_are_of_this_api() {
    use serde::Deserialize;
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with('#'), "{}: an example begins with what to expect", path.display());
        for document in serde_yaml::Deserializer::from_str(&text) {
            let object = serde_json::Value::deserialize(document).unwrap();
            let kind = object["kind"].as_str().unwrap().to_owned();
            let name = path.display();
            match kind.as_str() {
                "ModelCacheEntry" => {
                    serde_json::from_value::<ModelCacheEntry>(object.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                "ModelCacheImport" => {
                    serde_json::from_value::<ModelCacheImport>(object.clone())
                        .unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                "ModelCacheInventory" => {
                    serde_json::from_value::<ModelCacheInventory>(object.clone())
                        .unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                "HubConnection" => {
                    serde_json::from_value::<modelcache::api::HubConnection>(object.clone())
                        .unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                "ModelCacheExport" => {
                    serde_json::from_value::<modelcache::api::ModelCacheExport>(object.clone())
                        .unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                _ => {}
            }
            kinds.push(kind);
        }
    }
    for kind in
        ["ModelCacheEntry", "ModelCacheImport", "HubConnection", "ModelCacheExport", "ModelCacheInventory", "Pod"]
    {
        assert!(kinds.iter().any(|other| other == kind), "no example of a {kind}");
    }
}

#[test]
fn a_gap_would_be_seen() {
    let text = "### Ready\nshort\n### `Failed`\nA text that is long enough to be a section, and not only a heading with a word under it.\n";
    assert_eq!(missing(["Ready", "Failed", "Retrying"], text), ["Ready", "Retrying"]);
}
