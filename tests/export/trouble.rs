//! What goes wrong, and that nothing is left of it.

use crate::rig::{BINARY, REPO, Rig, file, succeed};
use modelcache::ident::Reason;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

#[tokio::test]
async fn a_damaged_volume_makes_no_archive() {
    for name in ["model.tar", "model.tar.gz", "model.tar.zst", "model.zip"] {
        let mut rig = Rig::new();
        rig.to(name);
        for path in ["model.safetensors", "config.json"] {
            let path = rig.snapshot().join(path);
            let good = std::fs::read(&path).unwrap();
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let message = rig.fails(Reason::ChecksumMismatch).await;
            assert!(message.contains(path.to_str().unwrap()) && message.contains("expected sha256"), "{message}");
            std::fs::write(&path, &good[..middle]).unwrap();
            rig.fails(Reason::ChecksumMismatch).await;
            std::fs::remove_file(&path).unwrap();
            rig.fails(Reason::FileNotFound).await;
            std::fs::write(&path, &good).unwrap();
        }
        rig.run().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let mut rig = Rig::new();
    rig.export().model.revision = Some("v1".parse().unwrap());
    let message = rig.fails(Reason::FileNotFound).await;
    assert!(message.contains("org/tiny@v1") && message.contains("which has org/tiny of it"), "{message}");
    rig.export().model.revision = None;
    rig.export().archive = file(rig.place.path().join("nowhere/model.tar"));
    let message = rig.fails(Reason::PermissionDenied).await;
    assert!(message.contains("nowhere does not exist: create the folder"), "{message}");
    rig.export().archive = file("/".into());
    rig.fails(Reason::ArchiveNotFound).await;
}

#[tokio::test]
async fn links_and_folders_in_the_way_are_not_followed() {
    let mut rig = Rig::new();
    let path = rig.to("model.tar");
    let elsewhere = rig.place.path().join("elsewhere");
    symlink(&elsewhere, &path).unwrap();
    rig.fails(Reason::Conflict).await;
    assert!(!elsewhere.exists());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    rig.fails(Reason::Conflict).await;
}

#[tokio::test]
async fn an_archive_among_what_modelcache_keeps_is_refused() {
    let mut rig = Rig::new();
    let volume = rig.volume().to_owned();
    std::fs::create_dir_all(volume.join(".modelcache/staging")).unwrap();
    std::fs::create_dir(volume.join("out")).unwrap();
    let again = rig.place.path().join("again");
    symlink(&volume, &again).unwrap();
    for root in [&volume, &again] {
        for folder in ["hub", "entries/org_2ftiny", ".modelcache/staging", "out/../hub/models--org--tiny"] {
            let path = root.join(folder).join("model.tar");
            rig.export().archive = file(path.clone());
            let message = rig.fails(Reason::Conflict).await;
            assert!(message.contains("of the model's own volume"), "{message}");
            let names = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|found| found.unwrap().file_name());
            let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("tar")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
    // Elsewhere on the same volume is its owner's choice.
    rig.export().archive = file(volume.join("out/model.tar"));
    rig.run().await.unwrap();
}

fn export(rig: &Rig, before: &str, words: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    let script = format!("{before} && exec \"$@\"");
    command.args(["--mount", "sh", "-c", &script, "sh", BINARY, "export", REPO, "--output", "json", "--volume"]);
    command.arg(rig.volume()).args(words).output().unwrap()
}

fn can_mount() -> bool {
    let can = Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success());
    rustix::process::geteuid().is_root() && can
}

#[tokio::test]
async fn a_full_disk_is_named_and_left_as_it_was() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new();
    let out = rig.out();
    for name in ["model.tar", "model.tar.zst"] {
        let before = format!("mount -t tmpfs -o size=1m tmpfs {}", out.display());
        // The file system goes with its namespace, so it is looked at from inside.
        let script = format!("{before} && \"$@\"; code=$?; ls -A {} >&2; exit $code", out.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh", BINARY, "export", REPO, "--output", "json", "--volume"]);
        let output = command.arg(rig.volume()).arg("--file").arg(out.join(name)).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("\"OutOfSpace\""), "{said}");
        assert_eq!(output.status.code(), Some(3));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!errors.contains(".modelcache-"), "{errors}");
    }
}

#[tokio::test]
async fn a_read_only_volume_can_be_exported_and_a_read_only_folder_is_named() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new();
    let read_only = |path: &Path| {
        let path = path.display();
        format!("mount --bind {path} {path} && mount -o remount,bind,ro {path}")
    };
    let archive = rig.out().join("model.tar");
    let output = export(&rig, &read_only(rig.volume()), &["--file", archive.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(&archive).unwrap();
    let output = export(&rig, &read_only(&rig.out()), &["--file", archive.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"VolumeReadOnly\""));
}

#[tokio::test]
async fn a_pipe_gets_the_same_bytes_and_the_words_go_elsewhere() {
    let mut rig = Rig::new();
    let path = rig.to("model.tar");
    let archive = rig.run().await.unwrap().done.archive.unwrap();
    let output =
        Command::new(BINARY).args(["export", REPO, "--file", "-", "--volume"]).arg(rig.volume()).output().unwrap();
    assert!(output.stdout == std::fs::read(path).unwrap());
    assert!(String::from_utf8(output.stderr).unwrap().contains(&archive.sha256.to_string()));
    // Who reads only a part of it.
    let script = "\"$1\" export org/tiny --file - --volume \"$2\" 2>&3 3>&1 1>&4 4>&1 | head -c 1000 >/dev/null";
    succeed(Command::new("sh").args(["-c", script, "sh", BINARY]).arg(rig.volume()));
}

#[tokio::test]
async fn a_damaged_model_in_a_pipe_has_no_end() {
    let rig = Rig::new();
    std::fs::write(rig.snapshot().join("config.json"), b"{\"model_type\": \"tree\"}\n").unwrap();
    let output =
        Command::new(BINARY).args(["export", REPO, "--file", "-", "--volume"]).arg(rig.volume()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(!output.stdout.ends_with(&[0; 1024]), "it looks whole");
}
