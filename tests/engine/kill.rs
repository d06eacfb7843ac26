//! SIGKILL at any moment, against the real binary.

use crate::fakehub::{self, Fault, HubFile, noise};
use crate::rig::Rig;
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

fn worker(rig: &Rig) -> Child {
    Command::new(env!("CARGO_BIN_EXE_modelcache"))
        .arg("worker")
        .env("MODELCACHE_TASK", serde_json::to_string(&rig.task).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn kill(mut child: Child) {
    child.kill().await.unwrap();
}

fn model() -> Vec<HubFile> {
    let mut files = fakehub::tiny_model();
    files.retain(|file| !file.path.starts_with("pytorch"));
    files.push(HubFile { path: "second.safetensors".into(), bytes: noise(5, 3_000_000), lfs: true });
    files
}

#[tokio::test]
async fn killed_in_the_middle_of_a_file_nothing_is_half_published_and_little_is_fetched_again() {
    for after in [0, 16 * 1024, 1_500_000, 2_999_999] {
        let rig = Rig::with(model()).await;
        let reached = Arc::new(Semaphore::new(0));
        rig.hub().fault("second.safetensors", 1, Fault::Hang { after, reached: Arc::clone(&reached) });
        let child = worker(&rig);
        reached.acquire().await.unwrap().forget();
        kill(child).await;
        assert!(!rig.entry().exists(), "half published");
        rig.hub().heal();
        let mut second = worker(&rig);
        assert!(second.wait().await.unwrap().success());
        rig.assert_published(&model());
    }
}

#[tokio::test]
async fn killed_around_the_publication_the_next_run_ends_right() {
    // The kill races with verification and publication, which begin when the last byte has left the Hub.
    for round in 0..6 {
        let rig = Rig::with(model()).await;
        let child = worker(&rig);
        // All eight non-empty bodies have been asked for; what follows is the race.
        while rig.hub().requests_for("/resolve/").len() < 7 {
            tokio::task::yield_now().await;
        }
        for _ in 0..round * 400 {
            tokio::task::yield_now().await;
        }
        kill(child).await;
        if rig.entry().join("model_metadata.json").exists() {
            assert!(rig.entry().join("SHA256SUMS").exists() && rig.entry().join("model/second.safetensors").exists());
        }
        let mut second = worker(&rig);
        assert!(second.wait().await.unwrap().success());
        rig.assert_published(&model());
    }
}
