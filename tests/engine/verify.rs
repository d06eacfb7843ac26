//! `modelcache verify`, as the real binary.

use crate::fakehub::{COMMIT, sha256};
use crate::rig::{Rig, chosen};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SNAPSHOT: &str = "hub/models--org--tiny/snapshots";

fn snapshot(rig: &Rig) -> PathBuf {
    rig.volume().join(SNAPSHOT).join(COMMIT)
}

fn verify(volume: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    command.arg("verify").arg("--volume").arg(volume).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

/// The exit code, and the JSON that must say the same.
#[track_caller]
fn judged(volume: &Path, more: &[&str]) -> (i32, Value) {
    let output = verify(volume, &[more, &["--output", "json"]].concat());
    let code = output.status.code().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(said["type"] == "done", code == 0, "{said:#}");
    (code, said)
}

/// One problem is found, of this kind and reason, in text and in JSON. Gives the JSON's problem.
#[track_caller]
fn one_problem(rig: &Rig, kind: &str, reason: &str) -> Value {
    let (code, said) = judged(rig.volume(), &[]);
    assert_eq!((code, &said["reason"]), (3, &Value::from(reason)), "{said:#}");
    let problems: Vec<&Value> =
        said["entries"].as_array().unwrap().iter().flat_map(|entry| entry["problems"].as_array().unwrap()).collect();
    assert_eq!(problems.len(), 1, "{said:#}");
    assert_eq!((&problems[0]["type"], &problems[0]["reason"]), (&Value::from(kind), &Value::from(reason)));
    let output = verify(rig.volume(), &[]);
    assert_eq!(output.status.code(), Some(3));
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().filter(|line| line.starts_with(kind) && line.contains("org/tiny")).count(), 1, "{lines}");
    assert!(text(&output.stderr).contains(reason), "{output:?}");
    problems[0].clone()
}

#[tokio::test]
async fn a_good_volume_is_good() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let bytes: usize = chosen().iter().map(|file| file.bytes.len()).sum();
    for more in [&[][..], &["org/tiny"]] {
        let (code, said) = judged(rig.volume(), more);
        assert_eq!(code, 0, "{said:#}");
        assert_eq!((&said["files"], &said["bytes"]), (&7.into(), &bytes.into()));
        assert_eq!(said["entries"][0]["key"], "hf@org/tiny");
        assert_eq!(said["entries"][0]["commit"], COMMIT);
    }
    let output = verify(rig.volume(), &[]);
    assert!(text(&output.stdout).starts_with("1 entry, 7 files, "), "{output:?}");
    assert!(text(&output.stdout).contains("all as listed"), "{output:?}");
}

#[tokio::test]
async fn a_flipped_bit_is_found_with_both_digests() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let path = snapshot(&rig).join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let before = sha256(&bytes);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let problem = one_problem(&rig, "changed", "ChecksumMismatch");
    assert_eq!(problem["path"], "model.safetensors");
    assert_eq!((&problem["expected"], &problem["found"]), (&before.clone().into(), &sha256(&bytes).into()));
    let lines = text(&verify(rig.volume(), &["org/tiny"]).stdout);
    assert!(lines.contains(&before) && lines.contains(&sha256(&bytes)), "{lines}");
}

#[tokio::test]
async fn truncated_missing_and_planted_files_are_found() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let path = snapshot(&rig).join("1_Pooling/config.json");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(one_problem(&rig, "changed", "ChecksumMismatch")["bytes"], whole.len() - 1);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(one_problem(&rig, "missing", "FileNotFound")["path"], "1_Pooling/config.json");
    // The right bytes behind a link are not the volume's.
    std::fs::write(rig.place.path().join("elsewhere"), &whole).unwrap();
    std::os::unix::fs::symlink(rig.place.path().join("elsewhere"), &path).unwrap();
    assert_eq!(one_problem(&rig, "unreadable", "Conflict")["path"], "1_Pooling/config.json");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    one_problem(&rig, "unreadable", "Conflict");
    std::fs::remove_dir(&path).unwrap();
    std::fs::remove_dir(path.parent().unwrap()).unwrap();
    one_problem(&rig, "missing", "FileNotFound");
}

#[tokio::test]
async fn wrong_bytes_count_more_than_absent_ones() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    std::fs::remove_file(snapshot(&rig).join("README.md")).unwrap();
    std::fs::write(snapshot(&rig).join("config.json"), "{}").unwrap();
    let (code, said) = judged(rig.volume(), &[]);
    assert_eq!((code, &said["reason"]), (3, &"ChecksumMismatch".into()), "{said:#}");
    assert!(said["message"].as_str().unwrap().contains("1 changed, 1 missing"), "{said:#}");
}

#[tokio::test]
async fn extra_files_are_told_and_are_no_failure() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    std::fs::create_dir_all(snapshot(&rig).join("notes/old")).unwrap();
    std::fs::write(snapshot(&rig).join("notes/old/x\n"), "x").unwrap();
    let (code, said) = judged(rig.volume(), &[]);
    assert_eq!((code, &said["entries"][0]["extra"]), (0, &serde_json::json!(["notes/old/x\n"])), "{said:#}");
    let lines = text(&verify(rig.volume(), &[]).stdout);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains("extra") && lines.contains(r"notes/old/x\n"), "{lines}");
}

#[tokio::test]
async fn entries_that_share_a_snapshot_are_judged_each_by_its_own_list() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.download().model.revision = Some("v1".parse().unwrap());
    rig.download().files.include = vec!["*.json".into()];
    rig.run().await.unwrap();
    let (code, said) = judged(rig.volume(), &[]);
    // Each file is read once, and what the other entry lists is not extra.
    assert_eq!((code, &said["files"]), (0, &7.into()), "{said:#}");
    assert_eq!(said["entries"].as_array().unwrap().len(), 2);
    let (code, said) = judged(rig.volume(), &["org/tiny", "--revision", "v1"]);
    assert_eq!((code, &said["entries"][0]["extra"]), (0, &serde_json::json!([])), "{said:#}");
    std::fs::write(snapshot(&rig).join("README.md"), "other").unwrap();
    assert_eq!(judged(rig.volume(), &["org/tiny", "--revision", "v1"]).0, 0);
    assert_eq!(judged(rig.volume(), &["org/tiny"]).0, 3);
    std::fs::write(snapshot(&rig).join("config.json"), "other").unwrap();
    let (_, said) = judged(rig.volume(), &[]);
    let counts: Vec<_> =
        said["entries"].as_array().unwrap().iter().map(|entry| entry["problems"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 1]);
}

#[tokio::test]
async fn damaged_metadata_is_told_and_keeps_nobody_from_the_rest() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.download().model.revision = Some("v1".parse().unwrap());
    rig.run().await.unwrap();
    rig.download().model.revision = None;
    let entry = rig.entry();
    let keep = |name: &str| std::fs::read_to_string(entry.join(name)).unwrap();
    let (metadata, sums) = (keep("model_metadata.json"), keep("SHA256SUMS"));
    let put = |name: &str, text: &str| std::fs::write(entry.join(name), text).unwrap();

    put("model_metadata.json", "{");
    one_problem(&rig, "metadata", "Conflict");
    std::fs::remove_file(entry.join("model_metadata.json")).unwrap();
    one_problem(&rig, "metadata", "Conflict");
    put("model_metadata.json", &metadata.replace("hf@org/tiny", "hf@org/other"));
    one_problem(&rig, "metadata", "Conflict");
    let bytes = rig_size(&metadata);
    put("model_metadata.json", &metadata.replace(&bytes, "7"));
    assert!(one_problem(&rig, "metadata", "Conflict")["message"].as_str().unwrap().contains(&bytes));
    put("model_metadata.json", &metadata);
    put("SHA256SUMS", "nonsense");
    one_problem(&rig, "metadata", "Conflict");
    std::fs::remove_file(entry.join("SHA256SUMS")).unwrap();
    one_problem(&rig, "metadata", "Conflict");
    put("SHA256SUMS", &sums);
    std::fs::remove_file(entry.join("model")).unwrap();
    assert_eq!(judged(rig.volume(), &[]).0, 0, "some file systems have no links");
    std::os::unix::fs::symlink("../../hub", entry.join("model")).unwrap();
    one_problem(&rig, "metadata", "Conflict");
}

fn rig_size(metadata: &str) -> String {
    serde_json::from_str::<Value>(metadata).unwrap()["sizeInBytes"].to_string()
}

#[tokio::test]
async fn what_is_not_there_is_no_proof() {
    let mut rig = Rig::new().await;
    let (code, said) = judged(rig.volume(), &[]);
    assert_eq!((code, &said["reason"]), (3, &"FileNotFound".into()), "an empty folder is no volume: {said:#}");
    rig.download().model.revision = Some("v1".parse().unwrap());
    rig.run().await.unwrap();
    for repo in ["org/other", "org/tiny"] {
        let (code, said) = judged(rig.volume(), &[repo]);
        assert_eq!((code, &said["reason"]), (3, &"FileNotFound".into()), "{said:#}");
        let message = said["message"].as_str().unwrap();
        assert!(message.contains(repo) && message.contains("org/tiny@v1") == (repo == "org/tiny"), "{message}");
    }
    rig.delete().await.unwrap();
    assert_eq!(judged(rig.volume(), &[]).0, 0, "an empty cache is fine");
    assert_eq!(judged(&rig.place.path().join("nowhere"), &[]).1["reason"], "PermissionDenied");
    for bad in [&["not a repo"][..], &["--revision", "v1"], &["org/tiny", "--output", "xml"]] {
        assert_eq!(verify(rig.volume(), bad).status.code(), Some(2), "{bad:?}");
    }
}

/// Everything that a write would change.
fn state(folder: &Path, found: &mut BTreeMap<PathBuf, (i64, i64, u64)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stat = std::fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            state(&path, found);
        }
        found.insert(path, (stat.ctime(), stat.ctime_nsec(), stat.size()));
    }
}

#[tokio::test]
async fn a_read_only_mount_will_do() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let mut before = BTreeMap::new();
    state(rig.volume(), &mut before);
    // A mount of this process's own, which ends with it. Somebody who is not root becomes it in a namespace.
    let script = r#"mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && ! touch "$1/x" 2>/dev/null && exec "$2" verify --volume "$1""#;
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(rig.volume()).arg(env!("CARGO_BIN_EXE_modelcache"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut after = BTreeMap::new();
    state(rig.volume(), &mut after);
    assert_eq!(before, after);
}
