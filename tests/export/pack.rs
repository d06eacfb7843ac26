//! `modelcache pack`, with the real binary and the real git.

use crate::fakehub::{self, COMMIT, Hub};
use crate::rig::{BINARY, ROOT, succeed};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Folder {
    place: tempfile::TempDir,
    endpoint: String,
}

impl Folder {
    /// A folder `model`, and a Hub that is not there.
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("model")).unwrap();
        // Nothing listens on the discard port, and no name has to be looked up.
        let folder = Self { place, endpoint: "http://127.0.0.1:9".into() };
        folder.write("config.json", "{}");
        folder.write("sub/weights.bin", "weights");
        folder
    }

    fn path(&self, below: &str) -> PathBuf {
        self.place.path().join("model").join(below)
    }

    fn write(&self, below: &str, text: &str) {
        std::fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        std::fs::write(self.path(below), text).unwrap();
    }

    fn pack(&self, more: &[&str], code: i32) -> Value {
        self.pack_folder(&self.path(""), &self.place.path().join("out.tar"), more, code)
    }

    fn pack_folder(&self, folder: &Path, file: &Path, more: &[&str], code: i32) -> Value {
        let mut command = Command::new(BINARY);
        command.arg("pack").arg(folder).args(["--repo", "org/tiny", "--output", "json", "--endpoint", &self.endpoint]);
        command
            .arg("--file")
            .arg(file)
            .args(more)
            .env("HOME", self.place.path())
            .env("USER", "ada")
            .env("NO_PROXY", "*");
        command.env_remove("HF_TOKEN").env_remove("HF_HOME").env_remove("HF_ENDPOINT");
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text} {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap()
    }

    /// What is in the archive.
    fn names(&self) -> Vec<String> {
        let file = self.place.path().join("out.tar");
        let listing = succeed(Command::new("tar").arg("--list").arg("--file").arg(file));
        listing.lines().map(str::to_owned).collect()
    }

    fn refused(&self, reason: &str, part: &str) {
        let failed = self.pack(&[], 3);
        assert_eq!(failed["reason"], reason, "{failed}");
        assert!(failed["message"].as_str().unwrap().contains(part), "{failed}");
        assert!(!self.place.path().join("out.tar").exists());
    }
}

#[test]
fn a_folder_without_a_hub_has_what_the_command_line_says() {
    let folder = Folder::new();
    for tools in [".cache/huggingface/x", "__MACOSX/x", "._config.json", "sub/.DS_Store", "sub/.git/HEAD"] {
        folder.write(tools, "a tool's");
    }
    let words =
        ["--library", "transformers", "--pipeline", "fill-mask", "--tag", "en", "--tag", "x", "--commit", COMMIT];
    let done = folder.pack(&words, 0);
    let metadata = &done["metadata"];
    assert_eq!(metadata["libraryName"], "transformers");
    assert_eq!(metadata["tags"], serde_json::json!(["en", "x"]));
    assert_eq!((&metadata["commitHash"], &metadata["downloadedBy"]), (&COMMIT.into(), &"ada".into()));
    assert_eq!(metadata["url"], "http://127.0.0.1:9/org%2Ftiny/tree/main");
    assert_eq!((&metadata["sizeInBytes"], &done["manifest"]["files"]), (&9.into(), &2.into()));
    let inside = ["/", "/SHA256SUMS", "/model/", "/model/config.json", "/model/sub/", "/model/sub/weights.bin"];
    let mut expected: Vec<_> = inside.iter().map(|name| format!("{ROOT}{name}")).collect();
    expected.push(format!("{ROOT}/model_metadata.json"));
    assert_eq!(folder.names(), expected);
    let out = tempfile::tempdir().unwrap();
    succeed(Command::new("tar").arg("-xf").arg(folder.place.path().join("out.tar")).current_dir(&out));
    succeed(Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(out.path().join(ROOT)));
}

#[test]
fn a_clone_says_its_commit_and_its_git_folder_stays_out() {
    let folder = Folder::new();
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(words).current_dir(folder.path(""));
        succeed(command.env("GIT_CONFIG_GLOBAL", "/dev/null")).trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "m"]);
    let commit = git(&["rev-parse", "HEAD"]);
    let pack = |folder: &Folder| {
        let done = folder.pack(&[], 0);
        assert_eq!(done["metadata"]["commitHash"], commit);
        assert!(folder.names().iter().all(|name| !name.contains(".git")));
        std::fs::remove_file(folder.place.path().join("out.tar")).unwrap();
    };
    pack(&folder);
    git(&["pack-refs", "--all"]);
    pack(&folder);
    git(&["checkout", "--quiet", "--detach"]);
    pack(&folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_answers_says_the_rest() {
    let running = fakehub::start(Hub::new(Vec::new())).await;
    let mut folder = Folder::new();
    folder.endpoint = running.endpoint();
    let done = tokio::task::spawn_blocking(move || folder.pack(&["--pipeline", "mine"], 0)).await.unwrap();
    let metadata = &done["metadata"];
    assert_eq!(
        (&metadata["libraryName"], &metadata["pipelineName"]),
        (&"sentence-transformers".into(), &"mine".into())
    );
    assert_eq!(metadata["taggedLanguages"], serde_json::json!(["en"]));
    // The Hub's commit is that of its own files.
    assert_eq!(metadata.get("commitHash"), None);
}

#[test]
fn a_snapshot_of_a_hub_cache_is_packed_with_what_it_links_to() {
    let folder = Folder::new();
    let cache = folder.place.path().join("hub/models--org--tiny");
    let snapshot = cache.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir(cache.join("blobs")).unwrap();
    std::fs::write(cache.join("blobs/abc"), "blob").unwrap();
    symlink("../../blobs/abc", snapshot.join("config.json")).unwrap();
    let done = folder.pack_folder(&snapshot, &folder.place.path().join("out.tar"), &[], 0);
    assert_eq!((&done["metadata"]["commitHash"], &done["manifest"]["bytes"]), (&COMMIT.into(), &4.into()));
    assert!(folder.names().contains(&format!("{ROOT}/model/config.json")));
}

#[test]
fn what_is_no_model_is_refused_with_the_way_out() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n";
    let folder = Folder::new();
    folder.write("sub/weights.bin", pointer);
    folder.refused("ArchiveInvalid", "run `git lfs install` and clone again");

    let folder = Folder::new();
    symlink("/etc/hostname", folder.path("link")).unwrap();
    folder.refused("ArchiveInvalid", "a link that leaves the folder");
    std::fs::remove_file(folder.path("link")).unwrap();
    symlink("sub", folder.path("link")).unwrap();
    folder.refused("ArchiveInvalid", "a link to a folder");
    std::fs::remove_file(folder.path("link")).unwrap();
    folder.write("CONFIG.json", "{}");
    folder.refused("ArchiveInvalid", "by case");
    std::fs::remove_file(folder.path("CONFIG.json")).unwrap();
    folder.write("a\\b", "");
    folder.refused("ArchiveUnsafe", "a\\b");
    std::fs::remove_file(folder.path("a\\b")).unwrap();
    symlink("sub/weights.bin", folder.path("link")).unwrap();
    folder.pack(&[], 0);

    let failed = folder.pack_folder(&folder.path(""), &folder.path("sub/out.tar"), &[], 3);
    assert!(failed["message"].as_str().unwrap().contains("choose a file outside"), "{failed}");
    let failed = folder.pack_folder(&folder.path("absent"), &folder.place.path().join("x.tar"), &[], 3);
    assert!(failed["message"].as_str().unwrap().contains("there is no such folder"), "{failed}");
}
