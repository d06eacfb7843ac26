//! The worker's contract (design 6) and the command line, with the real binary.

use crate::fakehub::{Fault, answer};
use crate::rig::{Rig, chosen};
use modelcache::format::outcome::{Heard, LINE_MAX_BYTES, Outcome, TERMINATION_MAX_BYTES};
use modelcache::ident::Reason;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Semaphore;

const BINARY: &str = env!("CARGO_BIN_EXE_modelcache");

fn worker(rig: &Rig) -> Command {
    let log = rig.place.path().join("termination-log");
    std::fs::write(&log, "").unwrap();
    let mut command = Command::new(BINARY);
    command.arg("worker").env("MODELCACHE_TASK", serde_json::to_string(&rig.task).unwrap());
    command.env("MODELCACHE_TERMINATION_LOG", log).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Everything that a worker said; each line must be ours.
fn heard(rig: &Rig, output: &Output) -> (Heard, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "stderr is for nobody");
    let mut heard = Heard::default();
    for line in text.lines() {
        assert!(line.len() < LINE_MAX_BYTES);
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap()["nonce"] == "nonce", "{line}");
        assert!(heard.outcome.is_none(), "a line after the last one");
        heard.hear("nonce", line);
    }
    let log = std::fs::read_to_string(rig.place.path().join("termination-log")).unwrap();
    assert!(log.len() <= TERMINATION_MAX_BYTES);
    assert_eq!(log.trim(), text.lines().last().unwrap());
    (heard, text)
}

#[tokio::test]
async fn a_worker_says_everything_in_lines() {
    let mut rig = Rig::new().await;
    let tags: Vec<String> = (0..2000).map(|n| format!("tag:{n}")).collect();
    rig.hub().info.lock().unwrap()["tags"] = tags.into();
    rig.task.sub_path = Some("team".parse().unwrap());
    let output = worker(&rig).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let (heard, _) = heard(&rig, &output);
    let Some(Outcome::Done(done)) = heard.outcome.clone() else { panic!("not done") };
    assert_eq!(done.path.unwrap().as_str(), "team/entries/org_2ftiny/model");
    let room = done.room.unwrap();
    assert!(0 < room.free_bytes && room.free_bytes <= room.capacity_bytes, "{room:?}");
    let progress = heard.progress.unwrap();
    assert_eq!((progress.bytes_done, progress.files_done), (progress.bytes_total, progress.files_total));
    let file = rig.volume().join("team/entries/org_2ftiny/model_metadata.json");
    assert_eq!(heard.metadata().unwrap(), std::fs::read_to_string(file).unwrap());
}

#[tokio::test]
async fn failures_have_their_exit_codes() {
    for (status, code, reason, exit) in [
        (403, "GatedRepo", Reason::GatedModel, 3),
        (404, "RevisionNotFound", Reason::RevisionNotFound, 3),
        (429, "", Reason::RateLimited, 1),
    ] {
        let rig = Rig::new().await;
        let headers = [("x-error-code", code), ("retry-after", "99")];
        rig.hub().fault("/revision/", usize::MAX, answer(status, &headers, ""));
        let output = worker(&rig).output().await.unwrap();
        assert_eq!(output.status.code(), Some(exit), "{reason}");
        let (heard, _) = heard(&rig, &output);
        let Some(Outcome::Failed(failed)) = heard.outcome else { panic!("not failed") };
        assert_eq!(failed.reason, reason);
        assert_eq!(failed.retry_after_seconds, (reason == Reason::RateLimited).then_some(99));
    }
}

#[tokio::test]
async fn a_task_that_cannot_be_read_is_bad_usage() {
    let rig = Rig::new().await;
    for text in ["", "{\"nonce\":\"nonce\",\"newer\":1}"] {
        let output = worker(&rig).env("MODELCACHE_TASK", text).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stdout).unwrap().contains("UnsupportedVersion"));
    }
}

#[tokio::test]
async fn a_stopped_worker_says_interrupted() {
    let rig = Rig::new().await;
    let reached = Arc::new(Semaphore::new(0));
    rig.hub().fault("model.safetensors", 1, Fault::Hang { after: 50_000, reached: Arc::clone(&reached) });
    let child = worker(&rig).spawn().unwrap();
    reached.acquire().await.unwrap().forget();
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (heard, _) = heard(&rig, &output);
    assert!(matches!(heard.outcome, Some(Outcome::Failed(failed)) if failed.reason == Reason::Interrupted));
}

fn download(rig: &Rig, shell: &str) -> Command {
    let mut command = Command::new("sh");
    let volume = rig.volume().display();
    let endpoint = rig.running.endpoint();
    command.args([
        "-c",
        &format!("{shell} {BINARY} download org/tiny --volume {volume} --endpoint {endpoint} --output json"),
    ]);
    command.env("HOME", rig.place.path()).env_remove("HF_TOKEN").kill_on_drop(true);
    command
}

#[tokio::test]
async fn the_umask_does_not_matter() {
    let rig = Rig::new().await;
    let output = download(&rig, "umask 077; exec").output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    rig.assert_published(&chosen());
    check_modes(rig.volume());
}

fn check_modes(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = std::fs::symlink_metadata(&path).unwrap();
        let mode = found.permissions().mode() & 0o777;
        if found.is_dir() {
            assert_eq!(mode, 0o755, "{}", path.display());
            check_modes(&path);
        } else if found.is_file() {
            assert_eq!(mode, 0o644, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn the_command_line_takes_the_usual_token() {
    let rig = Rig::new().await;
    *rig.hub().token.lock().unwrap() = Some("hf_env".into());
    let output = download(&rig, "exec").env("HF_TOKEN", "hf_env").output().await.unwrap();
    assert!(output.status.success());
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((done["type"].as_str().unwrap(), done["metadata"]["version"].as_u64().unwrap()), ("done", 0));

    let rig = Rig::new().await;
    *rig.hub().token.lock().unwrap() = Some("hf_file".into());
    std::fs::create_dir_all(rig.place.path().join(".cache/huggingface")).unwrap();
    std::fs::write(rig.place.path().join(".cache/huggingface/token"), "hf_file\n").unwrap();
    let output = download(&rig, "exec").output().await.unwrap();
    assert!(output.status.success());
}

#[tokio::test]
async fn a_dry_run_touches_nothing() {
    let rig = Rig::new().await;
    let endpoint = rig.running.endpoint();
    let output = Command::new(BINARY)
        .args(["download", "org/tiny", "--endpoint", &endpoint, "--dry-run", "--volume"])
        .arg(rig.volume())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("model.safetensors") && !text.contains("pytorch_model.bin") && text.contains("7 files"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(rig.volume()).unwrap().count(), 0);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn an_unwritable_volume_names_the_user_and_the_setting() {
    if !is_root() {
        return;
    }
    let rig = Rig::new().await;
    std::fs::set_permissions(rig.place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = download(&rig, "exec setpriv --reuid 65534 --regid 65534 --clear-groups").output().await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let failed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(failed["reason"], "PermissionDenied");
    let message = failed["message"].as_str().unwrap();
    for part in ["uid 65534", "belongs to 0:0 with mode 0755", "fsGroup"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn folders_of_another_user_are_seen_before_the_first_byte() {
    if !is_root() {
        return;
    }
    for (place, owner) in [
        ("hub", 0),
        ("entries", 0),
        ("views", 0),
        (".modelcache/sources", 0),
        ("hub/models--org--tiny/snapshots", 0),
        ("views/org_2ftiny", 0),
    ] {
        let rig = Rig::new().await;
        std::fs::set_permissions(rig.place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut made = rig.volume().to_owned();
        std::os::unix::fs::chown(&made, Some(65532), Some(65532)).unwrap();
        for name in Path::new(place).components() {
            made.push(name);
            std::fs::create_dir(&made).unwrap();
            std::os::unix::fs::chown(&made, Some(65532), Some(65532)).unwrap();
        }
        std::os::unix::fs::chown(&made, Some(owner), Some(owner)).unwrap();
        let output = download(&rig, "exec setpriv --reuid 65532 --regid 65532 --clear-groups").output().await.unwrap();
        assert_eq!(output.status.code(), Some(3), "{place}: {}", String::from_utf8_lossy(&output.stderr));
        let failed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let message = failed["message"].as_str().unwrap();
        assert_eq!(failed["reason"], "PermissionDenied", "{message}");
        assert!(message.contains(&format!("{} belongs to 0:0", made.display())), "{message}");
        assert!(rig.hub().seen().is_empty(), "{place}: the Hub was asked");
    }
}

#[tokio::test]
async fn a_volume_that_a_group_may_write_names_the_group() {
    if !is_root() {
        return;
    }
    let rig = Rig::new().await;
    std::fs::set_permissions(rig.place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(rig.volume(), Some(0), Some(2000)).unwrap();
    std::fs::set_permissions(rig.volume(), std::fs::Permissions::from_mode(0o2775)).unwrap();
    let output = download(&rig, "exec setpriv --reuid 65532 --regid 65532 --clear-groups").output().await.unwrap();
    let failed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(failed["message"].as_str().unwrap().contains("fsGroup: 2000"), "{failed}");
    let output = download(&rig, "exec setpriv --reuid 65532 --regid 65532 --groups 2000").output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_read_only_volume_is_named() {
    let rig = Rig::new().await;
    let volume = rig.volume().display();
    let mount = format!("mount --bind {volume} {volume} && mount -o remount,bind,ro {volume} && exec");
    let can = Command::new("unshare").args(["--mount", "true"]).status().await.is_ok_and(|status| status.success());
    if !is_root() || !can {
        return;
    }
    let mut inner = download(&rig, &mount);
    let script = inner.as_std_mut().get_args().nth(1).unwrap().to_owned();
    let output = Command::new("unshare").args(["--mount", "sh", "-c"]).arg(script).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"VolumeReadOnly\""));
}

#[tokio::test]
async fn a_volume_that_others_fill_meanwhile_is_named_and_ends_the_run() {
    let can = Command::new("unshare").args(["--mount", "true"]).status().await.is_ok_and(|status| status.success());
    if !is_root() || !can {
        return;
    }
    let rig = Rig::new().await;
    // Two seconds for the weights; somebody else takes all there is in the first half of them.
    rig.hub().wait_micros.store(50_000, Ordering::Relaxed);
    let volume = rig.volume().display();
    let fill = format!("(sleep 0.7; dd if=/dev/zero of={volume}/filler bs=4k) >/dev/null 2>&1");
    let mount = format!("mount -t tmpfs -o size=6m tmpfs {volume} && {{ {fill} & }} && exec");
    let inner = download(&rig, &mount);
    let script = inner.as_std().get_args().nth(1).unwrap().to_owned();
    let run = Command::new("unshare").args(["--mount", "sh", "-c"]).arg(script).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(20), run).await.expect("it hangs").unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"OutOfSpace\"") && text.contains("the volume is full"), "{text}");
    assert_eq!(output.status.code(), Some(3));
}
