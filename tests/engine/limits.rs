//! How much a download takes: of the line, of the Hub, of the memory.

use crate::fakehub::{self, Fault, Hub, HubFile, noise};
use crate::kill::{command, durable};
use crate::rig::{Rig, chosen};
use modelcache::engine::Cut;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::Semaphore;

fn file(path: &str, seed: u64, bytes: usize, lfs: bool) -> HubFile {
    HubFile { path: path.into(), bytes: noise(seed, bytes), lfs }
}

/// For `large` and `small` files: a request for the revision, one for each page, and one for each file that is not empty;
/// what is fetched in ranges is asked for at the other host.
#[tokio::test]
async fn the_requests_are_pages_and_files() {
    const PIECE: usize = 64 * 1024;
    let large = (0..3).map(|n| file(&format!("{n}.safetensors"), n, 200_000, true));
    let small = (0..7).map(|n| file(&format!("{n}.json"), n, 300, false));
    let files: Vec<_> = large.chain(small).chain([file("empty", 0, 0, false)]).collect();
    let cdn = fakehub::start(Hub::new(files.clone())).await;
    let mut rig = Rig::with(files.clone()).await;
    *rig.hub().cdn.lock().unwrap() = Some(cdn.endpoint());
    *rig.hub().page.lock().unwrap() = 3;
    // No piece is long enough to be halved.
    rig.settings.cut = Cut { piece_bytes: PIECE as u64, half_bytes: PIECE as u64 };
    rig.run().await.unwrap();
    rig.assert_published(&files);
    let (pages, large, small) = (files.len().div_ceil(3), 3, 7);
    assert_eq!(rig.hub().seen().len(), 1 + pages + large + small, "{:#?}", rig.hub().seen());
    assert_eq!(cdn.hub.seen().len(), large * 200_000_usize.div_ceil(PIECE));
}

#[tokio::test]
async fn slow_connections_are_answered_with_more_of_them() {
    let files = vec![file("model.safetensors", 1, 6_000_000, true)];
    let mut rig = Rig::with(files.clone()).await;
    rig.settings.cut = Cut { piece_bytes: 64 * 1024, half_bytes: 16 * 1024 };
    // Less than a megabyte a second for each.
    rig.hub().wait_micros.store(20_000, Ordering::Relaxed);
    rig.run().await.unwrap();
    rig.assert_published(&files);
    let most = rig.hub().most_open.load(Ordering::Relaxed);
    assert!((5..=32).contains(&most), "{most} at a time");
}

/// 705 kB at 300 kB/s; the last piece is waited for before it is written.
const AT_THE_LIMIT: Duration = Duration::from_millis(2_200);

#[tokio::test]
async fn a_rate_is_that_of_all_connections() {
    let mut rig = Rig::new().await;
    rig.settings.cut = Cut { piece_bytes: 64 * 1024, half_bytes: 16 * 1024 };
    // Slow enough that bodies overlap, and far faster than the limit.
    rig.hub().wait_micros.store(1_000, Ordering::Relaxed);
    rig.download().hub.limit_bytes_per_second = Some(300_000);
    let began = Instant::now();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    assert!(rig.hub().most_open.load(Ordering::Relaxed) > 1);
    assert!(began.elapsed() >= AT_THE_LIMIT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_rate_can_be_typed() {
    let rig = Rig::new().await;
    let run = async |rate: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
        command.args(["download", "org/tiny", "--endpoint", &rig.running.endpoint(), "--limit-rate", rate, "--volume"]);
        command.arg(rig.volume()).env("HOME", rig.place.path()).env_remove("HF_TOKEN").output().await.unwrap()
    };
    // A twentieth of a byte.
    let refused = run("50m").await;
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("at least 1k"), "{said}");
    assert!(rig.hub().seen().is_empty());
    let began = Instant::now();
    let done = run("300k").await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    rig.assert_published(&chosen());
    assert!(began.elapsed() >= AT_THE_LIMIT, "{:?}", began.elapsed());
}

/// A worker's peak, with as many connections as there may be.
#[tokio::test]
async fn a_worker_stays_below_96_mib() {
    const MOST_KIB: u64 = 96 * 1024;
    let files = vec![file("model.safetensors", 1, 64 * 1024 * 1024, true), file("README.md", 2, 5_000, false)];
    let rig = Rig::with(files.clone()).await;
    rig.hub().wait_micros.store(1_000, Ordering::Relaxed);
    let [reached, open] = [0, 0].map(|permits| Arc::new(Semaphore::new(permits)));
    // The last file is held back, so that the worker is still there when all the others are.
    rig.hub().fault("README.md", 1, Fault::Pause { after: 0, reached, open: Arc::clone(&open) });
    let mut child = command(&rig).spawn().unwrap();
    while durable(&rig, &files) < 64 * 1024 * 1024 {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    open.add_permits(1);
    assert!(child.wait().await.unwrap().success());
    rig.assert_published(&files);
    assert!((4 * 1024..=MOST_KIB).contains(&peak), "{peak} KiB");
}
