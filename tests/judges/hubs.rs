//! Other people's Hubs, from which the engine downloads.

use crate::nginx::Nginx;
use crate::rig::{
    COMMIT, ENTRY, REPO, Running, assert_is_the_model, assert_sums, download, free_port, last_line, metadata, model,
    modelcache, start, venv,
};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn git(home: &Path, repo: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=judge", "-c", "user.email=judge@example.invalid"]).args(args).current_dir(repo);
    // No configuration of the machine's counts, and its filters for LFS least of all.
    last_line(git.env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null"))
}

/// Olah in its offline mode over a git repository with the weights in LFS; gives its address and the commit.
fn olah(home: &Path) -> (Running, String, String) {
    let repo = home.join("mirrors/models").join(REPO);
    std::fs::create_dir_all(&repo).unwrap();
    last_line(Command::new("cp").arg("-r").arg(model().join(".")).arg(&repo));
    git(home, &repo, &["init", "--quiet", "--initial-branch", "main"]);
    git(home, &repo, &["lfs", "install", "--local"]);
    git(home, &repo, &["add", "--all"]);
    git(home, &repo, &["commit", "--quiet", "--message", "The model"]);
    assert!(git(home, &repo, &["lfs", "ls-files"]).ends_with("* model.safetensors"));
    let commit = git(home, &repo, &["rev-parse", "HEAD"]);
    let (port, config) = (free_port(), home.join("olah.toml"));
    let text = format!(
        "[basic]\nhost = \"127.0.0.1\"\nport = {port}\nrepos-path = \"{}\"\nmirrors-path = [\"{}\"]\n\n[accessibility]\noffline = true\n",
        home.join("repos").display(),
        home.join("mirrors").display(),
    );
    std::fs::write(&config, text).unwrap();
    let mut olah = Command::new(venv().join("bin/olah-cli"));
    olah.arg("--config").arg(config).arg("--log-path").arg(home.join("logs")).current_dir(home).env("HOME", home);
    let running = start(&mut olah, port, &home.join("olah.log"));
    (running, format!("http://127.0.0.1:{port}"), commit)
}

#[test]
fn olah_feeds_the_engine() {
    let home = tempfile::tempdir().unwrap();
    let (_olah, url, commit) = olah(home.path());
    let volume = home.path().join("volume");
    let done = download(home.path(), &volume, &url, &[]);
    assert_eq!(done["commit"], commit);
    assert_is_the_model(&volume.join("entries").join(ENTRY).join("model"));
    assert_sums(&volume);
    assert_eq!(metadata(&volume).commit_hash.unwrap().to_string(), commit);
}

#[test]
fn nginx_feeds_the_engine_by_way_of_a_cdn() {
    let home = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(home.path());
    let (volume, token) = (home.path().join("volume"), home.path().join("token"));
    std::fs::write(&token, "hf_judge").unwrap();
    let done = download(home.path(), &volume, &nginx.url, &["--token-file".as_ref(), token.as_os_str()]);
    assert_eq!(done["commit"], COMMIT);
    // What a slow connection had under way when another took over the second half of its piece comes twice.
    let (fetched, bytes) = (done["bytesFetched"].as_u64().unwrap(), done["manifest"]["bytes"].as_u64().unwrap());
    assert!(fetched >= bytes && fetched <= bytes + bytes / 10, "{fetched} bytes were fetched for {bytes}");
    assert_is_the_model(&volume.join("entries").join(ENTRY).join("model"));
    assert_sums(&volume);
    // Who was asked what: the Hub with the token, the other host without.
    let (hub, cdn) = (nginx.asked("hub"), nginx.asked("cdn"));
    assert!(hub.iter().all(|line| line.ends_with("Bearer hf_judge")), "{hub:?}");
    assert!(hub.iter().any(|line| line.contains("/resolve/") && line.contains(" 302 ")), "{hub:?}");
    assert!(
        !cdn.is_empty() && cdn.iter().all(|line| line.contains("model.safetensors") && line.ends_with(" -")),
        "{cdn:?}"
    );
}

#[test]
fn nginx_feeds_the_engine_after_a_kill() {
    let home = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(home.path());
    let volume = home.path().join("volume");
    let mut first = modelcache();
    first.args(["download", REPO, "--endpoint", &nginx.url, "--volume"]).arg(&volume).env("HOME", home.path());
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // In the middle of the weights, which nginx sends at a rate that makes them last.
    let end = Instant::now() + Duration::from_secs(30);
    while nginx.asked("hub").iter().all(|line| !line.contains(" 302 ")) {
        assert!(Instant::now() < end, "the weights were not asked for");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!volume.join("entries").join(ENTRY).exists());
    download(home.path(), &volume, &nginx.url, &[]);
    assert_is_the_model(&volume.join("entries").join(ENTRY).join("model"));
    assert_sums(&volume);
}
