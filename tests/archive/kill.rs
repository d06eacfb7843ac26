//! Imports that are killed: nothing half-published, and the next run ends right.

use crate::build::Tar;
use crate::rig::Rig;
use std::process::Stdio;
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
    let rounds = std::env::var("MODELCACHE_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(20_u32);
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

/// Waits without a promise of how long: only the spread matters.
fn wait(time: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
