//! The Hub says no, each time for a reason of its own.

use crate::fakehub::{COMMIT, HubFile, answer, git_sha1, noise};
use crate::rig::{Rig, chosen};
use modelcache::ident::Reason;
use std::time::Duration;

const ALWAYS: usize = usize::MAX;

async fn refused(on: &str, status: u16, headers: &[(&'static str, &str)], reason: Reason) -> String {
    let mut rig = Rig::new().await;
    rig.hub().fault(on, ALWAYS, answer(status, headers, "{}"));
    rig.fails(reason).await
}

#[tokio::test]
async fn an_unknown_repo_is_not_found_though_the_hub_says_401() {
    let message =
        refused("/revision/", 401, &[("x-error-message", "Invalid username or password.")], Reason::RepoNotFound).await;
    assert!(message.contains("org/tiny") && message.contains("no token is set"), "{message}");
    refused("/revision/", 401, &[("x-error-code", "RepoNotFound")], Reason::RepoNotFound).await;
    refused("/revision/", 404, &[], Reason::RepoNotFound).await;
}

#[tokio::test]
async fn a_bad_token_is_told_apart_and_never_shown() {
    let mut rig = Rig::new().await;
    let file = rig.mounted("hub-token", "hf_verysecret");
    rig.download().hub.token = Some(file);
    let words = "Invalid credentials in Authorization header";
    rig.hub().fault("/revision/", ALWAYS, answer(401, &[("x-error-message", words)], "{}"));
    let message = rig.fails(Reason::Unauthorized).await;
    assert!(message.contains("Secret \"hub-token\"") && !message.contains("verysecret"), "{message}");
}

#[tokio::test]
async fn a_token_without_scope_is_unauthorized() {
    let message =
        refused("/revision/", 403, &[("x-error-message", "fine-grained scope missing")], Reason::Unauthorized).await;
    assert!(message.contains("fine-grained scope missing"), "{message}");
}

#[tokio::test]
async fn a_gated_model_says_where_the_licence_is() {
    for status in [401, 403] {
        let message = refused("/resolve/", status, &[("x-error-code", "GatedRepo")], Reason::GatedModel).await;
        assert!(message.contains("/org/tiny") && message.contains("accept the licence"), "{message}");
    }
}

#[tokio::test]
async fn an_unknown_revision_is_named() {
    let message = refused("/revision/", 404, &[("x-error-code", "RevisionNotFound")], Reason::RevisionNotFound).await;
    assert!(message.contains("\"main\""), "{message}");
}

#[tokio::test]
async fn a_listed_file_that_is_not_there_is_named() {
    // Mirrors leave the code out.
    for headers in [&[("x-error-code", "EntryNotFound")][..], &[]] {
        let message = refused("README.md", 404, headers, Reason::FileNotFound).await;
        assert!(message.contains("README.md"), "{message}");
    }
}

#[tokio::test]
async fn a_pause_is_kept_and_then_reported() {
    let mut rig = Rig::new().await;
    rig.hub().fault("/resolve/", 2, answer(429, &[("ratelimit", "\"resolvers\";r=0;t=0")], ""));
    rig.run().await.unwrap();

    let mut rig = Rig::new().await;
    rig.hub().fault("/tree/", ALWAYS, answer(429, &[("retry-after", "3600")], ""));
    let error = rig.run().await.unwrap_err();
    assert_eq!((error.reason(), error.retry_after().map(|pause| pause.as_secs())), (Reason::RateLimited, Some(3600)));
    // A pause that long is not waited for, and not asked again.
    assert_eq!(rig.hub().requests_for("/tree/").len(), 1);
}

#[tokio::test]
async fn a_pause_holds_for_all_connections() {
    let mut files: Vec<_> = chosen().into_iter().filter(|file| file.lfs).collect();
    files.extend((0..40).map(|n| HubFile { path: format!("{n}.json"), bytes: noise(n, 100), lfs: false }));
    for header in [("ratelimit", "\"resolvers\";r=0;t=1"), ("retry-after", "1")] {
        let mut rig = Rig::with(files.clone()).await;
        // The largest file is asked for first.
        rig.hub().fault("model.safetensors", 1, answer(429, &[header], ""));
        rig.run().await.unwrap();
        rig.assert_published(&files);
        let asked: Vec<_> = rig.hub().requests_for("/resolve/").into_iter().map(|seen| seen.at).collect();
        // Some were on their way when the answer came.
        let late = asked.iter().filter(|at| at.duration_since(asked[0]) >= Duration::from_millis(990)).count();
        assert!(late >= 20, "{header:?}: {late} of {} requests waited", asked.len());
    }
}

#[tokio::test]
async fn server_errors_are_tried_again_and_then_reported() {
    for status in [500, 502, 503, 504, 408] {
        let mut rig = Rig::new().await;
        rig.hub().fault("/revision/", 3, answer(status, &[], "oops"));
        rig.hub().fault("config.json", 3, answer(status, &[], "oops"));
        rig.run().await.unwrap();
    }
    let message = refused("/revision/", 503, &[], Reason::HubUnavailable).await;
    assert!(message.contains("503"), "{message}");
}

#[tokio::test]
async fn what_is_no_hub_is_said_to_be_none() {
    let mut rig = Rig::new().await;
    rig.hub().fault("/revision/", ALWAYS, answer(200, &[("content-type", "text/html")], "<html>log in</html>"));
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("text/html"), "{message}");

    for raw in [
        "{\"error\":1}",
        "[{\"type\":\"file\",\"path\":\"a\",\"size\":1}]",
        "[{\"type\":\"file\",\"path\":\"a\",\"size\":-1,\"oid\":\"00\"}]",
    ] {
        let mut rig = Rig::new().await;
        *rig.hub().raw_tree.lock().unwrap() = Some(raw.into());
        rig.fails(Reason::HubUnavailable).await;
    }
    let mut rig = Rig::new().await;
    *rig.hub().raw_tree.lock().unwrap() = Some(format!("[{}]", " ".repeat(17 * 1024 * 1024)));
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("longer than"), "{message}");
}

#[tokio::test]
async fn a_listing_that_goes_elsewhere_or_in_circles_is_refused() {
    let mut rig = Rig::new().await;
    rig.hub().fault("/tree/", ALWAYS, answer(200, &[("link", "<http://evil.example/x>; rel=\"next\"")], "[]"));
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("evil.example"), "{message}");

    let mut rig = Rig::new().await;
    let again = format!("</api/models/org/tiny/tree/{COMMIT}?recursive=true&expand=false>; rel=\"next\"");
    rig.hub().fault("/tree/", ALWAYS, answer(200, &[("link", &again)], "[]"));
    rig.fails(Reason::HubUnavailable).await;

    let mut rig = Rig::new().await;
    rig.hub().fault("/tree/", ALWAYS, answer(302, &[("location", "?loop")], ""));
    let message = rig.fails(Reason::HubUnavailable).await;
    assert!(message.contains("redirects"), "{message}");
}

#[tokio::test]
async fn hostile_names_are_refused_with_the_name() {
    for name in ["../evil", "/etc/evil", "a\\\\evil", "C:evil", "a/../../evil", "evil\\u0000"] {
        let mut rig = Rig::new().await;
        let oid = git_sha1(b"x");
        *rig.hub().raw_tree.lock().unwrap() =
            Some(format!("[{{\"type\":\"file\",\"path\":\"{name}\",\"size\":1,\"oid\":\"{oid}\"}}]"));
        let message = rig.fails(Reason::UnsafePath).await;
        assert!(message.contains("evil"), "{message}");
        assert!(rig.hub().requests_for("/resolve/").is_empty());
    }
}

#[tokio::test]
async fn names_that_collide_without_case_are_refused_there() {
    let mut rig = Rig::new().await;
    let mut files = crate::fakehub::tiny_model();
    files[4].path = "readme.MD".into();
    *rig.hub().files.lock().unwrap() = files;
    rig.settings.ignores_case = Some(true);
    let message = rig.fails(Reason::UnsafePath).await;
    assert!(message.contains("README.md") && message.contains("readme.MD"), "{message}");
    rig.settings.ignores_case = None;
    rig.run().await.unwrap();
}

#[tokio::test]
async fn a_choice_that_leaves_nothing_is_named() {
    let mut rig = Rig::new().await;
    rig.download().files.include = vec!["*.gguf".into()];
    let message = rig.fails(Reason::FileNotFound).await;
    assert!(message.contains("*.gguf"), "{message}");
}
