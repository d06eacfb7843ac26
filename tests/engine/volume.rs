//! The volume is not as it should be, or is shared with others.

use crate::fakehub::{COMMIT, Fault};
use crate::rig::{Rig, chosen};
use modelcache::format::layout::Source;
use modelcache::format::task::{Delete, Task, Work};
use modelcache::ident::{ModelRef, Reason};
use std::os::unix::fs::symlink;
use std::time::Duration;

#[tokio::test]
async fn another_layout_is_refused() {
    let mut rig = Rig::new().await;
    std::fs::create_dir(rig.volume().join(".modelcache")).unwrap();
    std::fs::write(rig.volume().join(".modelcache/layout"), "2\n").unwrap();
    let message = rig.fails(Reason::UnsupportedVersion).await;
    assert!(message.contains("\"2\""), "{message}");
    assert!(rig.hub().seen().is_empty());
}

#[tokio::test]
async fn planted_links_lead_nowhere() {
    for place in ["hub", "entries", "views", ".modelcache", "hub/models--org--tiny", "entries/org_2ftiny"] {
        let mut rig = Rig::new().await;
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(rig.volume().join(place).parent().unwrap()).unwrap();
        symlink(outside.path(), rig.volume().join(place)).unwrap();
        let error = rig.run().await.unwrap_err();
        assert_eq!(error.reason(), Reason::Conflict, "{place}: {error}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{place}");
    }
}

#[tokio::test]
async fn what_others_put_into_an_entry_is_not_lost() {
    let mut rig = Rig::new().await;
    std::fs::create_dir_all(rig.entry().join("model")).unwrap();
    std::fs::write(rig.entry().join("model/mine"), "x").unwrap();
    rig.fails(Reason::Conflict).await;
    assert!(rig.entry().join("model/mine").exists());
    std::fs::remove_dir_all(rig.entry()).unwrap();
    rig.run().await.unwrap();
    std::fs::write(rig.entry().join("notes.txt"), "x").unwrap();
    assert_eq!(rig.delete().await.unwrap_err().reason(), Reason::Conflict);
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn an_empty_folder_proves_nothing() {
    let mut rig = Rig::new().await;
    std::fs::create_dir_all(rig.entry()).unwrap();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_missing_file_is_seen_and_only_it_is_fetched() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    std::fs::remove_file(rig.entry().join("model/config.json")).unwrap();
    rig.hub().forget();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    assert_eq!(rig.hub().requests_for("/resolve/").len(), 1);
}

#[tokio::test]
async fn stagings_of_other_plans_of_the_model_go_and_those_of_others_stay() {
    let mut rig = Rig::new().await;
    rig.hub().fault("README.md", usize::MAX, Fault::Cut(1));
    rig.fails(Reason::HubUnavailable).await;
    let staging = rig.volume().join(".modelcache/staging");
    std::fs::create_dir(staging.join("somebody-else")).unwrap();
    rig.hub().heal();
    rig.download().files.exclude = vec!["README.md".into()];
    rig.run().await.unwrap();
    let left: Vec<_> = std::fs::read_dir(staging).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["somebody-else"]);
}

#[tokio::test]
async fn an_entry_that_nobody_heard_of_goes_by_its_source_and_another_ones_stays() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let own = Source::of_download(rig.download()).digest();
    let model = rig.download().model.clone();
    let mut other = rig.download().clone();
    other.files.include = vec!["*.json".into()];
    let other = Source::of_download(&other).digest();
    for (source, stays) in [(None, true), (Some(other), true), (Some(own), false)] {
        let delete = Delete { model: Some(model.clone()), unfinished_only: true, source, kept: Vec::new() };
        let task = Task { work: Work::Delete(delete), ..rig.task.clone() };
        modelcache::engine::run(&task, &rig.settings, &rig.progress).await.unwrap();
        assert_eq!(rig.entry().exists(), stays);
    }
    assert!(!rig.volume().join("hub/models--org--tiny").exists());
}

#[tokio::test]
async fn what_only_the_record_of_a_source_names_goes_unless_others_have_it() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let model = rig.download().model.clone();
    let main = ModelRef { revision: Some("main".parse().unwrap()), ..model.clone() };
    let source = Some(Source::of_download(rig.download()).digest());
    // An archive's entry may name nothing, or the repo and not the revision.
    for (named, kept, stays) in [
        (None, vec![main.key(), model.key()], true),
        (Some(model.clone()), vec![model.key()], true),
        (Some(main.clone()), vec![main.key()], false),
    ] {
        let delete = Delete { model: named, unfinished_only: true, source, kept };
        let task = Task { work: Work::Delete(delete), ..rig.task.clone() };
        modelcache::engine::run(&task, &rig.settings, &rig.progress).await.unwrap();
        assert_eq!(rig.entry().exists(), stays);
    }
    assert!(!rig.volume().join("hub/models--org--tiny").exists());
}

#[tokio::test]
async fn a_deletion_leaves_nothing_of_its_own_and_everything_of_others() {
    let mut rig = Rig::new().await;
    std::fs::write(rig.volume().join("foreign"), "x").unwrap();
    std::fs::create_dir_all(rig.volume().join("hub")).unwrap();
    std::fs::write(rig.volume().join("hub/CACHEDIR.TAG"), "x").unwrap();
    rig.run().await.unwrap();
    // Another entry with fewer files of the same commit.
    rig.download().model.revision = Some("v1".parse().unwrap());
    rig.download().files.include = vec!["*.json".into()];
    rig.run().await.unwrap();
    let snapshot = rig.volume().join(format!("hub/models--org--tiny/snapshots/{COMMIT}"));
    rig.download().model.revision = None;
    rig.delete().await.unwrap();
    assert!(!rig.entry().exists() && !rig.volume().join("views/org_2ftiny").exists());
    assert!(!snapshot.join("model.safetensors").exists() && snapshot.join("1_Pooling/config.json").exists());
    assert!(rig.volume().join("hub/models--org--tiny/refs/v1").exists());
    // Again: done already.
    rig.delete().await.unwrap();
    rig.download().model.revision = Some("v1".parse().unwrap());
    rig.delete().await.unwrap();
    assert!(!rig.volume().join("hub/models--org--tiny").exists());
    assert!(rig.volume().join("hub/CACHEDIR.TAG").exists() && rig.volume().join("foreign").exists());
    assert_eq!(std::fs::read_dir(rig.volume().join(".modelcache/sources")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(rig.volume().join(".modelcache/staging")).unwrap().count(), 0);
    // And back again.
    rig.download().model.revision = None;
    rig.download().files.include.clear();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_deletion_that_was_killed_is_finished_by_whoever_comes_next() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    // Killed right after the entry's folder went away, as the name of the trash says.
    let prefix = modelcache::format::layout::staging_prefix(&rig.download().model);
    let trash = rig.volume().join(format!(".modelcache/staging/deleted-{}", prefix.trim_end_matches('-')));
    std::fs::rename(rig.entry(), trash).unwrap();
    rig.delete().await.unwrap();
    assert!(!rig.volume().join("hub/models--org--tiny").exists());
    assert_eq!(std::fs::read_dir(rig.volume().join(".modelcache/staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_unreadable_neighbour_stops_a_deletion() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let neighbour = rig.volume().join("entries/org_2ftiny_40v1");
    std::fs::create_dir(&neighbour).unwrap();
    std::fs::write(neighbour.join("model_metadata.json"), "{").unwrap();
    let error = rig.delete().await.unwrap_err();
    assert!(error.to_string().contains("org_2ftiny_40v1"), "{error}");
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_volume_that_fails_in_the_middle_ends_the_run() {
    let mut rig = Rig::new().await;
    rig.hub().fault("README.md", usize::MAX, Fault::Cut(1));
    rig.fails(Reason::HubUnavailable).await;
    rig.hub().heal();
    let staging = std::fs::read_dir(rig.volume().join(".modelcache/staging")).unwrap().next().unwrap().unwrap().path();
    let folder = staging.join("files/1_Pooling");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::write(&folder, "in the way").unwrap();
    std::fs::write(staging.join("journal"), "").unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), rig.fails(Reason::Conflict)).await;
    assert!(ended.expect("it hangs").contains("1_Pooling"));
    std::fs::remove_file(folder).unwrap();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}
