//! The same again, something else under the same name, and what a mistake on the command line gives.

use crate::build::{COMMIT, CONFIG, Tar, metadata, zip};
use crate::fakehub::sha256;
use crate::rig::{Rig, below};

#[test]
fn the_same_archive_again_is_a_no_op_and_is_not_even_opened() {
    let rig = Rig::new();
    let bytes = Tar::seed().end();
    let archive = rig.archive("a", &bytes);
    let first = rig.import(&archive).done();
    let before = below(&rig.volume());
    assert_eq!(rig.import(&archive).done()["manifest"], first["manifest"]);
    std::fs::remove_file(&archive).unwrap();
    assert_eq!(rig.import(&archive).done()["manifest"], first["manifest"]);
    assert!(below(&rig.volume()) == before);
    // The same model in another archive: read, and found to be there.
    let other = rig.archive("b", &zip(&crate::build::seed()));
    assert_eq!(rig.import(&other).done()["manifest"], first["manifest"]);
    // By its digest, wherever it comes from.
    let digest = sha256(&bytes);
    let again = rig.archive("c", &bytes);
    rig.import_with(&again, &["--sha256", &digest]).done();
    std::fs::remove_file(&again).unwrap();
    rig.import_with(&rig.path("gone"), &["--sha256", &digest]).done();
    rig.assert_tidy();
}

#[test]
fn other_bytes_or_another_commit_are_a_conflict_that_names_both_digests() {
    let rig = Rig::new();
    let path = rig.path("a");
    rig.import(&rig.archive("a", &Tar::seed().end())).done();
    let before = below(&rig.volume());
    let there = sha256(format!("{}  model/config.json\n", sha256(CONFIG)).as_bytes());
    // Another archive under the same name: its size and time tell.
    let other = Tar::new().metadata().file("m/model/config.json", b"other").end();
    std::fs::write(&path, other).unwrap();
    let given = sha256(format!("{}  model/config.json\n", sha256(b"other")).as_bytes());
    let message = rig.import(&path).failed("Conflict");
    assert!(message.contains(&there) && message.contains(&given) && message.contains("delete"), "{message}");
    let text = metadata().replace(COMMIT, &"0".repeat(40));
    let moved = Tar::new().file("m/model_metadata.json", text.as_bytes()).file("m/model/config.json", CONFIG).end();
    let message = rig.import(&rig.archive("b", &moved)).failed("Conflict");
    assert!(message.contains(COMMIT) && message.contains(&"0".repeat(40)), "{message}");
    // The same commit under another key shares the snapshot, and may not change it.
    let text = metadata().replace("org/tiny", "org/tiny@v1");
    let shared = Tar::new().file("m/model_metadata.json", text.as_bytes()).file("m/model/config.json", b"other").end();
    let message = rig.import(&rig.archive("c", &shared)).failed("Conflict");
    assert!(message.contains(&sha256(CONFIG)) && message.contains(&sha256(b"other")), "{message}");
    assert!(below(&rig.volume()) == before);
    rig.assert_tidy();
}

#[test]
fn an_entry_that_lost_a_file_is_made_whole() {
    let rig = Rig::new();
    let archive = rig.archive("a", &Tar::seed().file("m/model/more", b"more").end());
    rig.import(&archive).done();
    std::fs::remove_file(rig.entry().join("model/more")).unwrap();
    rig.import(&archive).done();
    assert_eq!(rig.files()["more"], b"more");
    rig.assert_tidy();
}

#[test]
fn two_revisions_share_their_files() {
    let rig = Rig::new();
    rig.import(&rig.archive("a", &Tar::seed().end())).done();
    let text = metadata().replace("org/tiny", "org/tiny@v1");
    let tar = Tar::new().file("m/model_metadata.json", text.as_bytes()).file("m/model/config.json", CONFIG);
    rig.import(&rig.archive("b", &tar.file("m/model/more", b"more").end())).done();
    let model = rig.volume().join("entries/org_2ftiny_40v1/model");
    assert_eq!(below(&model).into_keys().collect::<Vec<_>>(), ["config.json", "more"]);
}

#[test]
fn what_was_asked_for_is_checked() {
    let rig = Rig::new();
    let bytes = Tar::seed().end();
    let archive = rig.archive("a", &bytes);
    let message = rig.import_with(&archive, &["--repo", "org/other"]).failed("ModelMismatch");
    assert!(message.contains("org/other") && message.contains("org/tiny"), "{message}");
    rig.import_with(&archive, &["--repo", "org/tiny", "--revision", "v1"]).failed("ModelMismatch");
    let message = rig.import_with(&archive, &["--sha256", &sha256(b"other")]).failed("ChecksumMismatch");
    assert!(message.contains(&sha256(&bytes)) && message.contains(&sha256(b"other")), "{message}");
    rig.assert_untouched();
    rig.import_with(&archive, &["--repo", "org/tiny", "--sha256", &sha256(&bytes)]).done();
}

#[test]
fn a_digest_is_of_all_bytes_of_every_kind() {
    let tar = [Tar::seed().end(), b"behind the end".repeat(9999)].concat();
    for bytes in [tar.clone(), crate::build::gzip(&tar), crate::build::zstd(&tar), zip(&crate::build::seed())] {
        let rig = Rig::new();
        let archive = rig.archive("a", &bytes);
        rig.import_with(&archive, &["--sha256", &sha256(b"other")]).failed("ChecksumMismatch");
        rig.assert_untouched();
        rig.import_with(&archive, &["--sha256", &sha256(&bytes)]).done();
    }
}

#[test]
fn no_archive_there() {
    let rig = Rig::new();
    rig.import(&rig.path("nothing")).failed("ArchiveNotFound");
    std::fs::create_dir(rig.path("folder")).unwrap();
    let message = rig.import(&rig.path("folder")).failed("ArchiveNotFound");
    assert!(message.contains("modelcache pack"), "{message}");
    rig.import(std::path::Path::new("/dev/null")).failed("ArchiveNotFound");
    rig.assert_untouched();
}

#[test]
fn an_interrupted_deletion_is_finished_first() {
    let rig = Rig::new();
    rig.import(&rig.archive("a", &Tar::seed().end())).done();
    // What a deletion does first: the entry's folder is moved away, and the rest is still to go.
    let digest = sha256(b"org/tiny");
    let trash = rig.volume().join(".modelcache/staging").join(format!("deleted-{}", &digest[..16]));
    std::fs::rename(rig.entry(), &trash).unwrap();
    let other = Tar::new().metadata().file("m/model/config.json", b"other").end();
    rig.import(&rig.archive("b", &other)).done();
    assert_eq!(rig.files()["config.json"], b"other");
    rig.assert_tidy();
}
