//! What reads a published volume with no network: `huggingface_hub`, safetensors, tokenizers, transformers, sha256sum.
//!
//! Each sees the volume through a read-only mount, in a mount namespace of its own that is gone when it ends.

use crate::rig::{COMMIT, ENTRY, REPO, assert_sums, download, last_line, python, serve_seed};
use std::path::Path;
use std::process::Command;

fn published(home: &Path) -> std::path::PathBuf {
    let volume = home.join("volume");
    let (_serving, url) = serve_seed();
    download(home, &volume, &url, &[]);
    assert_sums(&volume);
    volume
}

/// Runs a judge where `from` is mounted on `to`, read-only.
fn judge_below_mounts(home: &Path, cache: &Path, mounts: &[(&Path, &Path)]) -> String {
    let script = r#"
while [ "$1" != -- ]; do
  mkdir -p "$2" && mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" || exit 9
  shift 2
done
shift
exec "$@"
"#;
    let mut reader = python("reader.py", home);
    reader.args([REPO, COMMIT]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    for (from, to) in mounts {
        command.arg(from).arg(to);
    }
    command.arg("--").arg(reader.get_program()).args(reader.get_args());
    for (name, value) in reader.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    last_line(command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", cache))
}

#[test]
fn huggingface_hub_transformers_tokenizers_and_safetensors_read_the_volume() {
    let home = tempfile::tempdir().unwrap();
    let volume = published(home.path());
    let mount = home.path().join("mount");
    let folder = judge_below_mounts(home.path(), &mount.join("hub"), &[(&volume, &mount)]);
    assert!(Path::new(&folder).starts_with(mount.join("hub")), "{folder}");
}

/// As a Pod composes it by two mounts with a subPath: this entry's view, whatever other entries do.
#[test]
fn huggingface_hub_transformers_tokenizers_and_safetensors_read_a_view() {
    let home = tempfile::tempdir().unwrap();
    let volume = published(home.path());
    let cache = home.path().join("cache");
    let repo = cache.join("models--sentence-transformers--all-MiniLM-L6-v2");
    let refs = volume.join("views").join(ENTRY).join("refs");
    let snapshots = volume.join("hub").join(repo.file_name().unwrap()).join("snapshots");
    // The folder that holds both mounts is read-only too, as it is to a Pod that is not root.
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::create_dir_all(repo.join("snapshots")).unwrap();
    let mounts = [(&*cache, &*cache), (&*refs, &*repo.join("refs")), (&*snapshots, &*repo.join("snapshots"))];
    let folder = judge_below_mounts(home.path(), &cache, &mounts);
    assert!(Path::new(&folder).starts_with(repo.join("snapshots")), "{folder}");
}
