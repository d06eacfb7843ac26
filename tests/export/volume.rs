//! `modelcache list` and `usage`, with the real binary.

use crate::fakehub::COMMIT;
use crate::rig::{BINARY, ROOT, Rig, files};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn said(command: &str, volume: &Path, more: &[&str], code: i32) -> String {
    let output = Command::new(BINARY).args([command, "--volume"]).arg(volume).args(more).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(command: &str, volume: &Path) -> Value {
    serde_json::from_str(&said(command, volume, &["--output", "json"], 0)).unwrap()
}

/// A second entry, of the revision `v1`, that has one file of the first one.
fn second_entry(rig: &Rig) {
    let entries = rig.volume().join("entries");
    let sums = std::fs::read_to_string(entries.join(ROOT).join("SHA256SUMS")).unwrap();
    let line = sums.lines().find(|line| line.ends_with("model.safetensors")).unwrap();
    let second = entries.join("org_2ftiny_40v1");
    std::fs::create_dir(&second).unwrap();
    std::fs::write(second.join("SHA256SUMS"), format!("{line}\n")).unwrap();
    let metadata = serde_json::json!({
        "commitHash": COMMIT, "modelDefinition": {"key": "hf@org/tiny@v1"}, "sizeInBytes": 1_700_003, "version": 0, "url": "u"
    });
    std::fs::write(second.join("model_metadata.json"), metadata.to_string()).unwrap();
}

#[test]
fn a_list_of_what_is_there() {
    let rig = Rig::new();
    second_entry(&rig);
    let text = said("list", rig.volume(), &[], 0);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["MODEL", "COMMIT", "FILES", "SIZE", "STATE"]);
    assert_eq!(lines[1], ["org/tiny", &COMMIT[..12], "9", "1.8", "MB", "complete"]);
    assert_eq!(lines[2][0], "org/tiny@v1");
    let all = json("list", rig.volume());
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!(all[0]["key"], "hf@org/tiny");
    assert_eq!(all[0]["manifest"]["files"], files().len());
    assert_eq!(all[0]["metadata"]["unknown"][0], "kept");

    std::fs::remove_file(rig.snapshot().join("config.json")).unwrap();
    std::fs::write(rig.volume().join("entries/org_2ftiny_40v1/SHA256SUMS"), "nonsense").unwrap();
    let text = said("list", rig.volume(), &[], 0);
    assert!(text.contains("files are missing") && text.contains("damaged"), "{text}");
    let all = json("list", rig.volume());
    assert_eq!(all[0]["complete"], false);
    assert!(all[1]["problem"].as_str().unwrap().contains("SHA256SUMS"), "{all}");
}

#[test]
fn what_takes_the_room() {
    let rig = Rig::new();
    second_entry(&rig);
    let staging = rig.volume().join(".modelcache/staging/some/files");
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::write(staging.join("part"), vec![0; 1000]).unwrap();
    std::fs::write(rig.snapshot().join("1_Pooling/nobodys"), vec![0; 77]).unwrap();
    let orphan = rig.volume().join("hub/models--old--one/snapshots/0123456789012345678901234567890123456789");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("weights"), vec![0; 5000]).unwrap();
    let all = json("usage", rig.volume());
    let total: usize = files().iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!((&all["bytes"], &all["sharedBytes"]), (&total.into(), &1_700_003.into()));
    assert_eq!((&all["entries"][0]["bytes"], &all["entries"][0]["sharedBytes"]), (&total.into(), &1_700_003.into()));
    assert_eq!(
        (&all["entries"][1]["bytes"], &all["entries"][1]["sharedBytes"]),
        (&1_700_003.into(), &1_700_003.into())
    );
    assert_eq!(all["staging"], serde_json::json!([{"path": ".modelcache/staging/some", "files": 1, "bytes": 1000}]));
    let orphans: Vec<_> = all["orphans"].as_array().unwrap().iter().map(|one| one["bytes"].as_u64().unwrap()).collect();
    assert_eq!(orphans, [5000, 77]);
    assert!(all["freeBytes"].as_u64().unwrap() > 0);
    let text = said("usage", rig.volume(), &[], 0);
    for part in [
        "1.8 MB in all, 1.7 MB of it shared",
        "1.0 kB of partial work",
        "5.0 kB in 1 files that no entry lists",
        "free",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Nobody knows what an entry lists that cannot be read.
    std::fs::write(rig.volume().join("entries/org_2ftiny_40v1/SHA256SUMS"), "nonsense").unwrap();
    assert_eq!(json("usage", rig.volume())["orphans"].as_array().unwrap().len(), 1);
}

#[test]
fn a_wrong_path_is_no_empty_volume() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["list", "usage"] {
        let text = said(command, folder.path(), &["--output", "json"], 3);
        assert!(text.contains("FileNotFound") && text.contains("is no volume of modelcache"), "{text}");
    }
    std::fs::create_dir(folder.path().join(".modelcache")).unwrap();
    std::fs::write(folder.path().join(".modelcache/layout"), "1\n").unwrap();
    assert_eq!(json("list", folder.path()), serde_json::json!([]));
}
