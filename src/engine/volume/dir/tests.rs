use super::*;
use crate::ident::Reason;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn folder() -> (tempfile::TempDir, Dir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = Dir::open_root(folder.path()).unwrap();
    (folder, dir)
}

#[test]
fn planted_links_are_never_followed() {
    let (outside, _) = folder();
    let (place, dir) = folder();
    symlink(outside.path(), place.path().join("link")).unwrap();
    symlink(outside.path().join("target"), place.path().join("file")).unwrap();
    for error in [
        dir.make_dir(Path::new("link/x")).unwrap_err(),
        dir.open_part(Path::new("link/x")).unwrap_err(),
        dir.open_part(Path::new("file")).unwrap_err(),
        dir.read(Path::new("file"), 10).unwrap_err(),
    ] {
        assert_eq!(error.reason(), Reason::Conflict, "{error}");
    }
    dir.write(Path::new("file"), b"new").unwrap();
    assert_eq!(std::fs::read(place.path().join("file")).unwrap(), b"new");
    symlink(outside.path().join("target"), place.path().join(".new-other")).unwrap();
    dir.write(Path::new("other"), b"new").unwrap();
    std::fs::write(outside.path().join("keep"), b"").unwrap();
    std::fs::create_dir(place.path().join("tree")).unwrap();
    symlink(outside.path(), place.path().join("tree/link")).unwrap();
    dir.remove_all(Path::new("tree")).unwrap();
    assert!(!place.path().join("tree").exists());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_rename_never_replaces() {
    let (place, dir) = folder();
    dir.write(Path::new("a"), b"a").unwrap();
    dir.write(Path::new("sub/b"), b"b").unwrap();
    assert_eq!(dir.rename(Path::new("a"), Path::new("sub/b")).unwrap_err().reason(), Reason::Conflict);
    dir.rename(Path::new("a"), Path::new("new/c")).unwrap();
    assert_eq!(std::fs::read(place.path().join("new/c")).unwrap(), b"a");
}

#[test]
fn modes_do_not_depend_on_what_was_there() {
    let (place, dir) = folder();
    std::fs::create_dir(place.path().join("group")).unwrap();
    std::fs::set_permissions(place.path().join("group"), std::fs::Permissions::from_mode(0o2777)).unwrap();
    dir.open_part(Path::new("group/x/y")).unwrap();
    let mode = |path: &str| std::fs::metadata(place.path().join(path)).unwrap().mode() & 0o7777;
    // Set-gid is inherited from a folder of an fsGroup, and stays.
    assert_eq!(mode("group/x"), 0o2755);
    assert_eq!(mode("group/x/y"), 0o644);
    assert_eq!(mode("group"), 0o2777);
}

#[test]
fn a_fifo_is_not_waited_for() {
    let (place, dir) = folder();
    rustix::fs::mknodat(rustix::fs::CWD, place.path().join("fifo"), FileType::Fifo, FILE_MODE, 0).unwrap();
    assert_eq!(dir.open_file(Path::new("fifo")).unwrap_err().reason(), Reason::Conflict);
}

#[test]
fn an_emptied_folder_goes_and_a_full_one_stays() {
    let (_place, dir) = folder();
    dir.write(Path::new("a/b/c"), b"").unwrap();
    assert!(!dir.remove_empty(Path::new("a")).unwrap());
    dir.remove_file(Path::new("a/b/c")).unwrap();
    assert!(dir.remove_empty(Path::new("a/b")).unwrap());
    assert!(dir.remove_empty(Path::new("a")).unwrap());
    assert!(dir.remove_empty(Path::new("a/b/c")).unwrap());
}
