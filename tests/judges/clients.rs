//! `huggingface_hub` as a client of `modelcache serve`.

use crate::rig::{COMMIT, REPO, assert_is_the_model, download, last_line, metadata, python, seed, serve, serve_seed};
use modelcache::format::metadata::ModelMetadata;
use std::path::Path;

#[test]
fn huggingface_hub_downloads_from_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let (_serving, url) = serve_seed();
    let folder = last_line(python("client.py", home.path()).args([REPO, COMMIT]).env("HF_ENDPOINT", url));
    assert_is_the_model(Path::new(&folder));
}

#[test]
fn huggingface_hub_downloads_from_a_volume() {
    let home = tempfile::tempdir().unwrap();
    let volume = home.path().join("volume");
    {
        let (_serving, url) = serve_seed();
        download(home.path(), &volume, &url, &[]);
    }
    let (_serving, url) = serve(["--volume".as_ref(), volume.as_os_str()]);
    let folder = last_line(python("client.py", home.path()).args([REPO, COMMIT]).env("HF_ENDPOINT", &url));
    assert_is_the_model(Path::new(&folder));
    // And the next cluster's cache is this one's copy.
    let copy = home.path().join("copy");
    download(home.path(), &copy, &url, &[]);
    assert_is_the_model(&copy.join("entries").join(crate::rig::ENTRY).join("model"));
}

#[test]
fn huggingface_hub_logs_in() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "hf_judge\n").unwrap();
    let named = |path: std::path::PathBuf| format!("{REPO}={}", path.display());
    let token = token.display().to_string();
    let args = ["--model", &named(crate::rig::model()), "--metadata", &named(seed()), "--token-file", &token];
    let (_serving, url) = serve(args);
    let ask = |token: Option<&str>| {
        let mut client = python("client.py", home.path());
        client.args([REPO, COMMIT]).env("HF_ENDPOINT", &url).envs(token.map(|token| ("HF_TOKEN", token)));
        client
    };
    last_line(&mut ask(Some("hf_judge")));
    for (token, error) in [(None, "RepositoryNotFoundError"), (Some("hf_other"), "Invalid credentials")] {
        let output = ask(token).env("HF_HOME", home.path().join("empty")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(error), "{said}");
    }
}

#[test]
fn the_seeds_values_arrive_in_the_volume() {
    let home = tempfile::tempdir().unwrap();
    let (_serving, url) = serve_seed();
    download(home.path(), &home.path().join("volume"), &url, &[]);
    let (got, seed) = (metadata(&home.path().join("volume")), std::fs::read_to_string(seed()).unwrap());
    let seed = ModelMetadata::parse(&seed).unwrap();
    // What the Hub says is the seed's, and the rest is this download's own.
    let expected = ModelMetadata {
        download_date: got.download_date,
        downloaded_by: got.downloaded_by.clone(),
        last_dss_usage: got.download_date,
        last_used_by: got.downloaded_by.clone(),
        size_in_bytes: got.size_in_bytes,
        url: format!("{url}/sentence-transformers%2Fall-MiniLM-L6-v2/tree/main"),
        ..seed
    };
    assert!(got.download_date.is_some() && got.downloaded_by.is_some());
    assert_eq!(got.size_in_bytes, Some(91_618_861));
    assert_eq!(got, expected);
}
