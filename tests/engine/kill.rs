//! SIGKILL at any moment, against the real binary.

use crate::fakehub::{self, Fault, HubFile, noise};
use crate::rig::Rig;
use modelcache::engine::journal;
use modelcache::format::outcome::{Line, Say};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

pub(crate) fn command(rig: &Rig) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    command.arg("worker").env("MODELCACHE_TASK", serde_json::to_string(&rig.task).unwrap());
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

fn worker(rig: &Rig) -> Child {
    command(rig).spawn().unwrap()
}

async fn kill(mut child: Child) {
    child.kill().await.unwrap();
}

fn model(bytes: usize) -> Vec<HubFile> {
    let mut files = fakehub::tiny_model();
    files.retain(|file| !file.path.starts_with("pytorch"));
    files.push(HubFile { path: "second.safetensors".into(), bytes: noise(5, bytes), lfs: true });
    files
}

fn assert_not_half_published(rig: &Rig) {
    if rig.entry().exists() {
        for name in ["model_metadata.json", "SHA256SUMS", "model/second.safetensors"] {
            assert!(rig.entry().join(name).exists(), "half published: {name}");
        }
    }
}

/// The bytes that the journal of a killed run vouches for; all of them after a publication.
pub(crate) fn durable(rig: &Rig, files: &[HubFile]) -> u64 {
    let all = files.iter().map(|file| file.bytes.len() as u64).sum();
    if rig.volume().join("hub/models--org--tiny/snapshots").exists() {
        return all;
    }
    let Ok(stagings) = std::fs::read_dir(rig.volume().join(".modelcache/staging")) else { return 0 };
    let text = stagings.flatten().find_map(|staging| std::fs::read(staging.path().join("journal")).ok());
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let read = journal::parse(&text.unwrap_or_default(), |file| sorted.get(file).map(|file| file.bytes.len() as u64));
    read.values().map(modelcache::engine::ranges::Coverage::bytes).sum()
}

/// Runs the worker to its end; gives how many bytes it fetched. (What the Hub sends would count what is still on its way to
/// a killed forerunner.)
async fn finish(rig: &Rig, files: &[HubFile]) -> u64 {
    let output = command(rig).stdout(Stdio::piped()).output().await.unwrap();
    assert!(output.status.success());
    rig.assert_published(files);
    let last = String::from_utf8(output.stdout).unwrap().lines().last().map(serde_json::from_str::<Line>);
    match last.unwrap().unwrap().say {
        Say::Done(done) => done.bytes_fetched,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn killed_in_the_middle_of_a_file_nothing_is_half_published_and_little_is_fetched_again() {
    let files = model(3_000_000);
    for after in [0, 16 * 1024, 1_500_000, 2_999_999] {
        let rig = Rig::with(files.clone()).await;
        let reached = Arc::new(Semaphore::new(0));
        rig.hub().fault("second.safetensors", 1, Fault::Hang { after, reached: Arc::clone(&reached) });
        let child = worker(&rig);
        reached.acquire().await.unwrap().forget();
        kill(child).await;
        assert!(!rig.entry().exists(), "half published");
        rig.hub().heal();
        finish(&rig, &files).await;
    }
}

/// Moments are spread evenly over a run that is not killed: its start, the transfer, verification and publication.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_next_run_ends_right_and_fetches_only_what_was_on_its_way() {
    let rounds = if std::env::var_os("MODELCACHE_SOAK").is_some() { 200 } else { 20 };
    let files = model(24 * 1024 * 1024);
    let total: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
    let slow = || async {
        let rig = Rig::with(files.clone()).await;
        rig.hub().wait_micros.store(1_000, Ordering::Relaxed);
        rig
    };
    let began = Instant::now();
    finish(&slow().await, &files).await;
    let whole = began.elapsed();
    for round in 0..rounds {
        let rig = slow().await;
        let child = worker(&rig);
        tokio::time::sleep(whole * round / rounds).await;
        kill(child).await;
        assert_not_half_published(&rig);
        let durable = durable(&rig, &files);
        let again = finish(&rig, &files).await;
        // A piece that is halved may have been sent a little farther.
        assert!(
            again <= total - durable + total / 10,
            "round {round}: {again} fetched again, {durable} in the journal"
        );
    }
}

#[tokio::test]
async fn killed_around_the_publication_the_next_run_ends_right() {
    let files = model(3_000_000);
    // The kill races with verification and publication, which begin when the last byte has left the Hub.
    for round in 0..6 {
        let rig = Rig::with(files.clone()).await;
        let child = worker(&rig);
        // All seven non-empty bodies have been asked for; what follows is the race.
        while rig.hub().requests_for("/resolve/").len() < 7 {
            tokio::task::yield_now().await;
        }
        for _ in 0..round * 400 {
            tokio::task::yield_now().await;
        }
        kill(child).await;
        assert_not_half_published(&rig);
        finish(&rig, &files).await;
    }
}
