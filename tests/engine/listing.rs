//! The listing of a folder of archives, with the real binary.

use modelcache::format::outcome::{Heard, Listing, Outcome};
use modelcache::format::task::{List, Task, Work};
use modelcache::ident::Reason;
use std::path::Path;
use std::process::Command;

/// What a worker says of a folder, and its exit code.
fn list(volume: &Path, folder: Option<&str>) -> (Heard, Option<i32>) {
    let list = List { folder: folder.map(|path| path.parse().unwrap()), origin: "the folder in claim \"usb\"".into() };
    let task =
        Task { nonce: "nonce".into(), volume: volume.into(), sub_path: None, policy: None, work: Work::List(list) };
    let output = Command::new(env!("CARGO_BIN_EXE_modelcache"))
        .arg("worker")
        .env("MODELCACHE_TASK", serde_json::to_string(&task).unwrap())
        .env("MODELCACHE_TERMINATION_LOG", volume.join("no-such-file"))
        .output()
        .unwrap();
    let mut heard = Heard::default();
    String::from_utf8(output.stdout).unwrap().lines().for_each(|line| heard.hear("nonce", line));
    (heard, output.status.code())
}

fn names(heard: &Heard) -> Listing {
    assert!(matches!(heard.outcome, Some(Outcome::Done(_))), "{:?}", heard.outcome);
    serde_json::from_str(&heard.metadata().unwrap()).unwrap()
}

fn failed(heard: &Heard) -> (Reason, String) {
    match &heard.outcome {
        Some(Outcome::Failed(failed)) => (failed.reason, failed.message.clone()),
        other => panic!("{other:?}"),
    }
}

const GZIP: &[u8] = b"\x1f\x8b\x08";

#[test]
fn archives_are_found_by_what_they_are() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("models/new");
    std::fs::create_dir_all(folder.join("folder.tar")).unwrap();
    for (name, bytes) in [
        ("b.tgz", GZIP),
        ("no ending", b"PK\x03\x04"),
        ("SHA256SUMS", b"abc  b.tgz"),
        ("empty.tar", b""),
        (".hidden.tgz", GZIP),
    ] {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    std::os::unix::fs::symlink("b.tgz", folder.join("link.tgz")).unwrap();
    std::fs::write(place.path().join("elsewhere.tgz"), GZIP).unwrap();
    let (heard, code) = list(place.path(), Some("models/new"));
    let listing = names(&heard);
    assert_eq!((code, listing.archives), (Some(0), vec!["b.tgz".to_owned(), "no ending".to_owned()]));
    assert_eq!((listing.others, listing.such_as), (2, vec!["SHA256SUMS".to_owned(), "empty.tar".to_owned()]));
    assert_eq!(names(&list(place.path(), None).0).archives, ["elsewhere.tgz"]);
}

#[test]
fn a_long_list_arrives_whole_and_one_that_is_too_long_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let name = |n: usize| format!("{n:05}{}", "x".repeat(245));
    (0..1000).for_each(|n| std::fs::write(place.path().join(name(n)), GZIP).unwrap());
    let listing = names(&list(place.path(), None).0);
    assert_eq!((listing.archives.len(), listing.archives[999].clone()), (1000, name(999)));
    (1000..4500).for_each(|n| std::fs::write(place.path().join(name(n)), GZIP).unwrap());
    let (heard, code) = list(place.path(), None);
    let (reason, message) = failed(&heard);
    assert_eq!((code, reason), (Some(3), Reason::ArchiveInvalid));
    assert!(message.contains("holds 4500 archives") && message.contains("several folders"), "{message}");
}

#[test]
fn a_folder_that_is_not_there_is_named_and_a_link_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let (reason, message) = failed(&list(place.path(), Some("models")).0);
    assert_eq!(reason, Reason::ArchiveNotFound);
    assert!(message.contains("the folder in claim \"usb\" does not exist"), "{message}");
    std::os::unix::fs::symlink("/etc", place.path().join("models")).unwrap();
    assert_eq!(failed(&list(place.path(), Some("models")).0).0, Reason::Conflict);
}
