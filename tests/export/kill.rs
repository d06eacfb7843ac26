//! SIGKILL and SIGTERM at any moment, against the real binary.

use crate::fakehub::noise;
use crate::rig::{BINARY, Rig};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn worker(rig: &Rig) -> Child {
    let mut command = Command::new(BINARY);
    command.arg("worker").env("MODELCACHE_TASK", serde_json::to_string(&rig.task).unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn large() -> Rig {
    let mut files = crate::rig::files();
    files.push(("second.safetensors".into(), noise(5, 48 << 20)));
    Rig::with(files)
}

/// Nothing has the name, or the whole archive has.
fn assert_whole_or_not_there(path: &Path, whole: &[u8]) {
    assert!(!path.exists() || std::fs::read(path).unwrap() == whole, "half an archive");
}

/// Moments are spread evenly over a run that is not killed, from its start to its last step.
#[test]
fn killed_at_any_moment_nothing_has_the_name_and_the_next_run_tidies_up() {
    let rounds = if std::env::var_os("MODELCACHE_SOAK").is_some() { 200 } else { 20 };
    let mut rig = large();
    let path = rig.to("model.tar");
    let began = Instant::now();
    assert!(worker(&rig).wait().unwrap().success());
    let duration = began.elapsed();
    let whole = std::fs::read(&path).unwrap();
    let mut partial = 0;
    for round in 0..rounds {
        std::fs::remove_file(&path).unwrap();
        let mut child = worker(&rig);
        std::thread::sleep(duration * round / rounds);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_whole_or_not_there(&path, &whole);
        partial += u32::from(rig.names().iter().any(|name| name.starts_with(".modelcache-")));
        assert!(worker(&rig).wait().unwrap().success());
        assert!(std::fs::read(&path).unwrap() == whole, "round {round}");
        assert_eq!(rig.names(), ["model.tar"], "round {round}");
    }
    assert!(partial > 0, "no kill met an archive that was being written");
}

#[test]
fn a_stopped_export_says_interrupted_and_tidies_up() {
    let mut rig = large();
    rig.to("model.tar.gz");
    let child = worker(&rig);
    // What is being written is seen by its hidden name.
    let deadline = Instant::now() + Duration::from_mins(1);
    while rig.names().is_empty() {
        assert!(Instant::now() < deadline, "nothing begins");
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.lines().last().unwrap().contains("\"Interrupted\""), "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(rig.names(), [""; 0]);
}
