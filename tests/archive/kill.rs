//! Imports that are killed: nothing half-published, and the next run ends right.

use crate::build::Tar;
use crate::rig::{BINARY, Rig};
use modelcache::format::layout::Source;
use modelcache::format::task::{ArchivePlace, Delete, Import, MountedFile, Task, Work};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A model of many sizes, not compressible.
fn archive() -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = |length: usize| -> Vec<u8> {
        let mut made = Vec::with_capacity(length + 8);
        while made.len() < length {
            // xorshift
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            made.extend_from_slice(&state.to_le_bytes());
        }
        made.truncate(length);
        made
    };
    let mut tar = Tar::new().metadata();
    for number in 0..40 {
        tar = tar.file(&format!("m/model/part-{number}/weights.bin"), &bytes(number * 30_000));
    }
    tar.symlink("m/model/again.bin", "part-9/weights.bin").end()
}

#[test]
fn killed_at_any_moment_nothing_is_half_published() {
    let rounds: u32 = if std::env::var_os("MODELCACHE_SOAK").is_some() { 200 } else { 20 };
    let bytes = archive();
    let whole = Rig::new();
    let begun = Instant::now();
    let manifest = whole.import(&whole.archive("a", &bytes)).done()["manifest"].clone();
    let takes = begun.elapsed();
    let rig = Rig::new();
    let path = rig.archive("a", &bytes);
    let mut killed = 0;
    for round in 0..rounds {
        let mut child = rig.command(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Spread over all of the run, and a little beyond: where a kill hits is for chance to say.
        wait(takes * (round * 7 % rounds) * 11 / (rounds * 10));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
        let entry = rig.entry();
        if entry.join("model_metadata.json").exists() {
            assert_eq!(rig.import(&path).done()["manifest"], manifest, "round {round}");
            assert!(rig.files() == whole.files(), "round {round}");
            std::fs::remove_dir_all(rig.volume()).unwrap();
        }
    }
    assert_eq!(rig.import(&path).done()["manifest"], manifest);
    assert!(rig.files() == whole.files());
    rig.assert_tidy();
    assert!(killed > 0, "every run was over before its kill");
}

/// A source's unfinished work goes with the entry that nobody will try again, by the task that the controller writes.
#[test]
fn a_removal_takes_the_work_of_a_killed_import_along() {
    let rig = Rig::new();
    let path = rig.archive("a", &archive());
    let stagings = rig.volume().join(".modelcache/staging");
    let is_there = || std::fs::read_dir(&stagings).is_ok_and(|found| found.count() > 0);
    let mut child = rig.command(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !is_there() {
        assert!(child.try_wait().unwrap().is_none(), "it was over before its kill");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(is_there());
    // As the command line calls it.
    let shown = path.display().to_string();
    let import = Import {
        archive: ArchivePlace::File(MountedFile { path, origin: shown }),
        sha256: None,
        expected: None,
        verify_against: None,
    };
    let source = Source::of_import(&import).map(|source| source.digest());
    let work = Work::Delete(Delete { model: None, unfinished_only: true, source, kept: Vec::new() });
    let task = Task { nonce: "n".into(), volume: rig.volume(), sub_path: None, policy: None, work };
    let mut worker = Command::new(BINARY);
    worker.arg("worker").env("MODELCACHE_TASK", serde_json::to_string(&task).unwrap()).stdout(Stdio::null());
    assert!(worker.status().unwrap().success());
    assert!(!is_there());
}

/// Waits without a promise of how long: only the spread matters.
fn wait(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
