//! Everything goes well.

use crate::fakehub::{self, COMMIT, Fault, Hub, REPO, noise};
use crate::rig::{Rig, chosen};
use modelcache::format::layout;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

#[tokio::test]
async fn a_model_is_published_as_the_design_says() {
    let mut rig = Rig::new().await;
    let finished = rig.run().await.unwrap();
    rig.assert_published(&chosen());
    let read = |path: &str| std::fs::read_to_string(rig.volume().join(path)).unwrap();
    assert_eq!(read("hub/models--org--tiny/refs/main"), COMMIT);
    assert_eq!(read("views/org_2ftiny/refs/main"), COMMIT);
    assert_eq!(read(".modelcache/layout").trim(), "1");
    let link = std::fs::read_link(rig.entry().join("model")).unwrap();
    assert_eq!(link.to_str().unwrap(), format!("../../hub/models--org--tiny/snapshots/{COMMIT}"));
    let done = finished.done;
    assert_eq!(done.path.unwrap().as_str(), "entries/org_2ftiny/model");
    assert_eq!(done.commit.unwrap().to_string(), COMMIT);
    assert_eq!(done.manifest.unwrap().files, 7);
    assert_eq!(
        done.manifest.unwrap().sha256.to_string(),
        fakehub::sha256(read("entries/org_2ftiny/SHA256SUMS").as_bytes())
    );
    assert_eq!(done.bytes_fetched, done.manifest.unwrap().bytes);
    let report = rig.progress.report(0);
    assert_eq!((report.bytes_done, report.files_done), (report.bytes_total, report.files_total));
}

#[tokio::test]
async fn the_metadata_is_the_hubs() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let metadata = rig.metadata();
    assert_eq!(metadata.key.to_string(), "hf@org/tiny");
    assert_eq!(metadata.url, format!("{}/org%2Ftiny/tree/main", rig.running.endpoint()));
    assert_eq!(metadata.tagged_languages.unwrap(), ["en"]);
    assert_eq!(metadata.pipeline_name.unwrap(), "sentence-similarity");
    assert_eq!(metadata.downloaded_by.unwrap(), "ada");
    assert_eq!(metadata.last_modified.unwrap(), "2022-11-07T08:44:33.000Z");
    assert_eq!(metadata.download_date, metadata.last_dss_usage);
}

#[tokio::test]
async fn fields_that_the_hub_lacks_are_left_out() {
    let mut rig = Rig::new().await;
    *rig.hub().info.lock().unwrap() = serde_json::json!({"sha": COMMIT});
    rig.run().await.unwrap();
    let text = std::fs::read_to_string(rig.entry().join("model_metadata.json")).unwrap();
    for field in ["tags", "taggedLanguages", "libraryName", "pipelineName", "lastModified"] {
        assert!(!text.contains(field), "{text}");
    }
}

#[tokio::test]
async fn a_second_run_asks_nobody() {
    let mut rig = Rig::new().await;
    let first = rig.run().await.unwrap();
    rig.hub().forget();
    let second = rig.run().await.unwrap();
    assert!(rig.hub().seen().is_empty());
    assert_eq!(second.done.manifest, first.done.manifest);
    assert_eq!(second.done.bytes_fetched, 0);
    assert_eq!(second.metadata(), first.metadata());
}

#[tokio::test]
async fn the_requests_are_few_and_honest() {
    let mut rig = Rig::new().await;
    *rig.hub().page.lock().unwrap() = 3;
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    let seen = rig.hub().seen();
    // One revision, three pages, six files that are not empty.
    assert_eq!(seen.len(), 1 + 3 + 6, "{seen:#?}");
    for one in seen {
        assert_eq!(one.user_agent, format!("modelcache/{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(one.accept_encoding.unwrap(), "identity");
        assert_eq!(one.authorization, None);
    }
}

#[tokio::test]
async fn a_revision_has_its_own_entry_key_and_view() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.download().model.revision = Some("refs/pr/1".parse().unwrap());
    rig.hub().forget();
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    assert!(rig.entry().ends_with("org_2ftiny_40refs_2fpr_2f1"));
    assert_eq!(rig.metadata().key.to_string(), "hf@org/tiny@refs/pr/1");
    let read = |path: &str| std::fs::read_to_string(rig.volume().join(path)).unwrap();
    for name in ["main", "refs/pr/1"] {
        assert_eq!(read(&format!("views/org_2ftiny_40refs_2fpr_2f1/refs/{name}")), COMMIT);
    }
    // The commit is the same: its files are rehashed, not fetched.
    assert!(rig.hub().requests_for("/resolve/").is_empty());
    assert!(rig.hub().requests_for("/revision/refs%2Fpr%2F1").len() == 1);
}

/// Makes the volume forget that the task was done, as a controller does that follows a branch.
fn forget_source(rig: &mut Rig) {
    let record = layout::source(&layout::Source::of_download(rig.download()).digest());
    std::fs::remove_file(rig.volume().join(record)).unwrap();
}

#[tokio::test]
async fn a_moved_branch_replaces_the_entry_and_keeps_the_old_snapshot() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    let mut files = chosen();
    files[2].bytes = noise(9, 4_000);
    *rig.hub().files.lock().unwrap() = files.clone();
    let newer = "b".repeat(40);
    rig.download().seen_at = Some(newer.parse().unwrap());
    rig.download().keep = 1;
    // What a Pod has mounted is a folder, whatever its name becomes.
    let mounted = std::fs::File::open(rig.volume().join("views/org_2ftiny/refs")).unwrap();
    rig.hub().info.lock().unwrap()["sha"] = newer.clone().into();
    rig.run().await.unwrap();
    rig.assert_published(&files);
    let read = |path: &str| std::fs::read_to_string(rig.volume().join(path)).unwrap();
    assert_eq!(read("hub/models--org--tiny/refs/main"), newer);
    assert_eq!(read("views/org_2ftiny/refs/main"), newer);
    let seen = std::fs::read_to_string(format!("/proc/self/fd/{}/main", mounted.as_raw_fd())).unwrap();
    assert_eq!(seen, COMMIT, "a running Pod keeps what it started with");
    assert!(rig.volume().join(format!("hub/models--org--tiny/snapshots/{COMMIT}/README.md")).exists());
    rig.hub().forget();
    rig.run().await.unwrap();
    assert!(rig.hub().seen().is_empty(), "it is up to date");
    assert_eq!(rig.progress.report(0).files_done, rig.progress.report(0).files_total);
}

#[tokio::test]
async fn other_bytes_at_the_same_commit_are_a_conflict() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    forget_source(&mut rig);
    let mut files = chosen();
    files[2].bytes = noise(9, 4_000);
    *rig.hub().files.lock().unwrap() = files;
    let error = rig.run().await.unwrap_err();
    assert_eq!(error.reason(), modelcache::ident::Reason::Conflict);
    assert!(error.to_string().contains("expected gitblob:") && error.to_string().contains("found gitblob:"), "{error}");
    // What was published before stays as it was.
    std::fs::remove_dir_all(rig.volume().join(".modelcache/staging")).unwrap();
    std::fs::create_dir(rig.volume().join(".modelcache/staging")).unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_changed_choice_grows_the_snapshot() {
    let mut rig = Rig::new().await;
    rig.run().await.unwrap();
    rig.download().files.weights = modelcache::format::task::Weights::All;
    rig.hub().forget();
    rig.run().await.unwrap();
    rig.assert_published(&fakehub::tiny_model());
    assert_eq!(rig.hub().requests_for("/resolve/").len(), 1);
}

#[tokio::test]
async fn a_sub_path_is_made_and_named() {
    let mut rig = Rig::new().await;
    rig.task.sub_path = Some("teams/a".parse().unwrap());
    let finished = rig.run().await.unwrap();
    let path = finished.done.path.unwrap();
    assert_eq!(path.as_str(), "teams/a/entries/org_2ftiny/model");
    assert!(rig.volume().join(path.as_path()).join("config.json").exists());
    assert_eq!(std::fs::metadata(rig.volume().join("teams")).unwrap().mode() & 0o777, 0o755);
}

#[tokio::test]
async fn the_token_stays_at_home() {
    let cdn = fakehub::start(Hub::new(fakehub::tiny_model())).await;
    let mut rig = Rig::new().await;
    *rig.hub().token.lock().unwrap() = Some("hf_secret".into());
    *rig.hub().cdn.lock().unwrap() = Some(cdn.endpoint());
    let file = rig.mounted("token", "hf_secret\n");
    rig.download().hub.token = Some(file);
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    assert_eq!(cdn.hub.seen().len(), 1);
    assert!(cdn.hub.seen().iter().all(|seen| seen.authorization.is_none()));
    assert!(rig.hub().seen().iter().all(|seen| seen.authorization.as_deref() == Some("Bearer hf_secret")));
}

#[tokio::test]
async fn redirects_on_the_hub_itself_are_followed() {
    let mut rig = Rig::new().await;
    let tree = format!("/api/models/{REPO}/tree/{COMMIT}/?recursive=true&expand=false");
    rig.hub().fault("/tree/", 1, fakehub::answer(307, &[("location", &tree)], ""));
    let real = format!("{}/api/models/{REPO}/revision/main", rig.running.endpoint());
    rig.hub().fault("/revision/", 1, fakehub::answer(301, &[("location", &real)], ""));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_file_that_moved_on_the_hub_itself_is_followed_with_the_token() {
    let mut rig = Rig::new().await;
    *rig.hub().token.lock().unwrap() = Some("hf_secret".into());
    let file = rig.mounted("token", "hf_secret\n");
    rig.download().hub.token = Some(file);
    let cached = format!("/{REPO}/resolve/{COMMIT}/config.json?cached");
    rig.hub().fault("config.json", 2, fakehub::answer(307, &[("location", &cached)], "moved"));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    assert_eq!(rig.hub().requests_for("config.json?cached").len(), 2);
}

#[tokio::test]
async fn awful_names_are_followed_to_another_host() {
    let cdn = fakehub::start(Hub::new(fakehub::tiny_model())).await;
    let mut rig = Rig::new().await;
    // Brackets are not allowed in an address, and sent all the same.
    let awful = format!("{}/cdn/awful%20[name]%20%231%20%2520%20%C3%A9%3F.txt?signature=a^b|c", cdn.endpoint());
    rig.hub().fault("awful", 1, fakehub::answer(302, &[("location", &awful)], "a redirect"));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
    assert_eq!(cdn.hub.seen().len(), 1);
}

#[tokio::test]
async fn a_body_without_a_length_is_fine() {
    let mut rig = Rig::new().await;
    rig.hub().fault("/resolve/", 99, Fault::Chunked);
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}
