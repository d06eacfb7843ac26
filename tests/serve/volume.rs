//! A cache volume whose entries come and go.

use crate::rig::{COMMIT, Server, named, publish, refused, write};
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;

fn remove(volume: &Path, entry: &Path) {
    std::fs::rename(entry, volume.join("removed")).unwrap();
    std::fs::remove_dir_all(volume.join("removed")).unwrap();
}

fn siblings(info: &Value) -> Vec<&str> {
    info["siblings"].as_array().unwrap().iter().map(|file| file["rfilename"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn entries_come_and_go() {
    let volume = tempfile::tempdir().unwrap();
    let server = Server::of_volume(volume.path()).await;
    assert_eq!(server.refusal("/api/models/org/name").await.1, "RepoNotFound");
    let first = publish(volume.path(), "org/name", Some(COMMIT), &[("a", "x"), ("model.bin", "w")]);
    let info = server.json("/api/models/org/name").await;
    assert_eq!((info["sha"].as_str().unwrap(), siblings(&info)), (COMMIT, vec!["a", "model.bin"]));
    assert_eq!(info["tags"][0], "t");
    assert_eq!(server.get("/org/name/resolve/main/a").await.text().await.unwrap(), "x");
    // Another commit takes the entry's place.
    remove(volume.path(), &first);
    publish(volume.path(), "org/name", Some(&"2".repeat(40)), &[("a", "y")]);
    assert_eq!(server.json("/api/models/org/name").await["sha"], "2".repeat(40));
    assert_eq!(server.get("/org/name/resolve/main/a").await.text().await.unwrap(), "y");
    assert_eq!(server.refusal(&format!("/org/name/resolve/{COMMIT}/a")).await.1, "RevisionNotFound");
    std::fs::remove_dir_all(volume.path().join("entries")).unwrap();
    assert_eq!(server.refusal("/api/models/org/name").await.1, "RepoNotFound");
}

#[tokio::test]
async fn a_settled_volume_is_not_read_again() {
    let volume = tempfile::tempdir().unwrap();
    let entry = publish(volume.path(), "org/name", Some(COMMIT), &[("a", "x")]);
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    let entries = std::fs::File::open(volume.path().join("entries")).unwrap();
    entries.set_modified(long_ago).unwrap();
    let server = Server::of_volume(volume.path()).await;
    // A change that leaves the folder's time alone, as none of ours does.
    remove(volume.path(), &entry);
    entries.set_modified(long_ago).unwrap();
    assert_eq!(server.get("/api/models/org/name").await.status(), 200);
    assert_eq!(server.get("/org/name/resolve/main/a").await.text().await.unwrap(), "x");
}

#[tokio::test]
async fn an_entry_is_its_list() {
    let volume = tempfile::tempdir().unwrap();
    publish(volume.path(), "org/name", Some(COMMIT), &[("a", "x")]);
    let snapshot = volume.path().join(format!("hub/models--org--name/snapshots/{COMMIT}"));
    write(&snapshot, "unlisted", "secret");
    let server = Server::of_volume(volume.path()).await;
    assert_eq!(siblings(&server.json("/api/models/org/name").await), ["a"]);
    assert_eq!(server.refusal("/org/name/resolve/main/unlisted").await.1, "EntryNotFound");
    // A folder without metadata is no entry.
    std::fs::create_dir_all(volume.path().join("entries/a_2fb")).unwrap();
    assert_eq!(server.refusal("/api/models/a/b").await.1, "RepoNotFound");
    // Another entry of the same commit adds its files.
    publish(volume.path(), "org/name@v1", Some(COMMIT), &[("b", "y")]);
    assert_eq!(siblings(&server.json("/api/models/org/name").await), ["a", "b"]);
}

#[tokio::test]
async fn a_model_without_a_commit_has_its_lists() {
    let volume = tempfile::tempdir().unwrap();
    publish(volume.path(), "gpt2", None, &[("a", "x")]);
    let server = Server::of_volume(volume.path()).await;
    let info = server.json("/api/models/gpt2").await;
    let snapshots = std::fs::read_dir(volume.path().join("hub/models--gpt2/snapshots")).unwrap();
    let names: Vec<OsString> = snapshots.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [info["sha"].as_str().unwrap()]);
    assert_eq!(server.get("/gpt2/resolve/main/a").await.text().await.unwrap(), "x");
}

#[tokio::test]
async fn a_damaged_entry_spoils_no_other() {
    let volume = tempfile::tempdir().unwrap();
    for model in ["a/rot", "a/gap", "a/link", "a/text", "a/good"] {
        publish(volume.path(), model, Some(COMMIT), &[("a", "x")]);
    }
    let snapshot = |name: &str| volume.path().join(format!("hub/models--a--{name}/snapshots/{COMMIT}/a"));
    std::fs::write(snapshot("rot"), "X").unwrap();
    std::fs::remove_file(snapshot("gap")).unwrap();
    std::fs::remove_file(snapshot("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", snapshot("link")).unwrap();
    write(volume.path(), "entries/a_2ftext/model_metadata.json", "{}");
    let server = Server::of_volume(volume.path()).await;
    assert_eq!(server.get("/a/good/resolve/main/a").await.text().await.unwrap(), "x");
    for name in ["rot", "gap", "link", "text"] {
        assert_eq!(server.refusal(&format!("/api/models/a/{name}")).await.1, "RepoNotFound", "{name}");
    }
    let log = server.log().await;
    assert!(log.contains("the entry a_2frot is not served: a is damaged"), "{log}");
    assert!(log.contains("the entry a_2fgap is not served: a is listed, but not there"), "{log}");
    assert!(log.contains("the entry a_2ftext is not served: its metadata is invalid"), "{log}");
}

#[tokio::test]
async fn folders_and_a_volume_together() {
    let (volume, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    publish(volume.path(), "org/name", Some(COMMIT), &[("a", "volume")]);
    publish(volume.path(), "org/other", Some(COMMIT), &[("a", "other")]);
    write(folder.path(), "a", "folder");
    let args = ["--volume".into(), volume.path().to_owned(), "--model".into(), named("org/name", folder.path())];
    let server = Server::start(args).await;
    assert_eq!(server.get("/org/name/resolve/main/a").await.text().await.unwrap(), "folder");
    assert_eq!(server.get("/org/other/resolve/main/a").await.text().await.unwrap(), "other");
    assert_eq!(refused(&server.get("/org/third/resolve/main/a").await).1, "RepoNotFound");
}
