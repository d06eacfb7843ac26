//! The JSON side: info, trees, references, paths.

use crate::rig::{COMMIT, HELLO_GIT, HELLO_SHA256, REPO, Server, header, model, named, publish, refused, write};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;

fn paths(items: &Value) -> Vec<&str> {
    items.as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn info_says_what_the_metadata_says() {
    let (folder, metadata) = (model(), tempfile::NamedTempFile::new().unwrap());
    let said = json!({
        "version": 0, "url": "u", "modelDefinition": {"key": "hf@org/name"}, "commitHash": COMMIT,
        "lastModified": "2022-11-07T08:44:33.000Z", "libraryName": "sentence-transformers",
        "pipelineName": "sentence-similarity", "tags": ["bert", "en"], "taggedLanguages": ["en"],
    });
    std::fs::write(metadata.path(), said.to_string()).unwrap();
    let args = ["--model".into(), named(REPO, folder.path()), "--metadata".into(), named(REPO, metadata.path())];
    let server = Server::start(args).await;
    for path in ["/api/models/org/name", "/api/models/org/name/revision/main", "/api/models/org%2Fname/"] {
        let info = server.json(path).await;
        assert_eq!(info["id"], REPO);
        assert_eq!(info["sha"], COMMIT);
        assert_eq!(info["lastModified"], said["lastModified"]);
        assert_eq!(info["library_name"], said["libraryName"]);
        assert_eq!(info["pipeline_tag"], said["pipelineName"]);
        assert_eq!(info["tags"], said["tags"]);
        assert_eq!(info["cardData"]["language"], said["taggedLanguages"]);
        assert_eq!(info["siblings"].as_array().unwrap().len(), 5);
        assert_eq!(info["siblings"][0], json!({"rfilename": "1_Pooling/config.json"}));
    }
    let info = server.json(&format!("/api/models/org/name/revision/{COMMIT}?blobs=true")).await;
    let small = json!({"rfilename": "config.json", "size": 6, "blobId": HELLO_GIT});
    assert!(info["siblings"].as_array().unwrap().contains(&small), "{info}");
    let weights = info["siblings"].as_array().unwrap().last().unwrap();
    // The pointer's own numbers are `git lfs pointer`'s and `git hash-object`'s.
    let lfs = json!({"sha256": HELLO_SHA256, "size": 6, "pointerSize": 126});
    assert_eq!(weights["lfs"], lfs);
}

#[tokio::test]
async fn a_folder_without_metadata_has_a_commit_of_its_files() {
    let folder = model();
    let sha = |server: Server| async move { server.json("/api/models/org/name").await["sha"].clone() };
    let first = sha(Server::of_folder(folder.path()).await).await;
    assert_eq!(sha(Server::of_folder(folder.path()).await).await, first);
    write(folder.path(), "empty.txt", "no more");
    assert_ne!(sha(Server::of_folder(folder.path()).await).await, first);
}

#[tokio::test]
async fn trees_list_files_and_folders() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    let root = server.json("/api/models/org/name/tree/main").await;
    assert_eq!(paths(&root), ["1_Pooling", "a b", "config.json", "empty.txt", "model.safetensors"]);
    assert_eq!(root[0]["type"], "directory");
    assert_eq!(root[2], json!({"type": "file", "path": "config.json", "size": 6, "oid": HELLO_GIT}));
    assert_eq!(root[4]["lfs"]["oid"], HELLO_SHA256);
    assert_ne!(root[4]["oid"], HELLO_GIT);
    let all = server.json("/api/models/org/name/tree/main?recursive=true&expand=false").await;
    assert_eq!(all.as_array().unwrap().len(), 7);
    let below = server.json("/api/models/org/name/tree/main/a%20b?expand=true").await;
    assert_eq!(paths(&below), ["a b/ü[1]#?.txt"]);
    assert_eq!(below[0]["lastCommit"]["id"].as_str().unwrap().len(), 40);
    let (status, code, _) = server.refusal("/api/models/org/name/tree/main/nope").await;
    assert_eq!((status, code.as_str()), (404, "EntryNotFound"));
}

#[tokio::test]
async fn long_trees_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..2300 {
        write(folder.path(), &format!("part-{}/{number}.txt", number % 7), number.to_string());
    }
    let server = Server::of_folder(folder.path()).await;
    let mut next = Some("/api/models/org/name/tree/main?recursive=true".to_owned());
    let (mut sizes, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(path) = next {
        let response = server.get(&path).await;
        let link = header(&response, "link");
        next = link.map(|link| {
            let address = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
            address.strip_prefix(&server.url).unwrap_or_else(|| panic!("{address} is not absolute")).to_owned()
        });
        let page: Value = response.json().await.unwrap();
        sizes.push(page.as_array().unwrap().len());
        seen.extend(paths(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(sizes, [1000, 1000, 307]);
    assert_eq!(seen.len(), 2307);
    let expanded = server.get("/api/models/org/name/tree/main?recursive=true&expand=true").await;
    assert!(header(&expanded, "link").unwrap().contains("expand=true"));
    assert_eq!(expanded.json::<Value>().await.unwrap().as_array().unwrap().len(), 50);
    assert_eq!(server.refusal("/api/models/org/name/tree/main?limit=0").await.0, 400);
}

#[tokio::test]
async fn a_page_behind_a_proxy_names_the_proxys_address() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    let ask = |host: &str| {
        format!(
            "GET /api/models/org/name/tree/main?limit=1 HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
        )
    };
    let answer = server.raw(&ask("hub.example")).await;
    assert!(answer.contains("link: <https://hub.example/api/models/org/name/tree/main?recursive=false"), "{answer}");
    let answer = server.raw(&ask("evil>;x=\"")).await;
    assert!(!answer.contains("evil"), "{answer}");
}

#[tokio::test]
async fn references_are_the_named_revisions() {
    let volume = tempfile::tempdir().unwrap();
    publish(volume.path(), "org/name", Some(COMMIT), &[("a", "x")]);
    publish(volume.path(), "org/name@v1.0", Some(&"2".repeat(40)), &[("a", "y")]);
    publish(volume.path(), "org/name@refs/pr/7", Some(&"3".repeat(40)), &[("a", "z")]);
    publish(volume.path(), &format!("org/name@{}", "4".repeat(40)), Some(&"4".repeat(40)), &[("a", "w")]);
    let server = Server::of_volume(volume.path()).await;
    let refs = server.json("/api/models/org/name/refs").await;
    assert_eq!(refs["branches"][0], json!({"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}));
    assert_eq!(refs["branches"][1]["name"], "v1.0");
    assert_eq!((refs["branches"].as_array().unwrap().len(), refs.get("pullRequests")), (2, None));
    let refs = server.json("/api/models/org/name/refs?include_prs=1").await;
    assert_eq!(refs["pullRequests"][0], json!({"name": "7", "ref": "refs/pr/7", "targetCommit": "3".repeat(40)}));
    for revision in ["refs%2Fpr%2F7", "refs/pr/7"] {
        assert_eq!(server.json(&format!("/api/models/org/name/revision/{revision}")).await["sha"], "3".repeat(40));
        assert_eq!(server.get(&format!("/org/name/resolve/{revision}/a")).await.text().await.unwrap(), "z");
    }
    assert_eq!(server.get(&format!("/org/name/resolve/{}/a", "4".repeat(40))).await.text().await.unwrap(), "w");
}

#[tokio::test]
async fn paths_are_told_in_one_question() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    let path = "/api/models/org/name/paths-info/main";
    let form = server.ask(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
    let answer: Value =
        form.body("paths=config.json&paths=nope&paths=a+b&expand=False").send().await.unwrap().json().await.unwrap();
    assert_eq!(paths(&answer), ["config.json", "a b"]);
    let asked = json!({"paths": ["a b/ü[1]#?.txt", "../x"], "expand": true});
    let answer: Value = server.ask(Method::POST, path).json(&asked).send().await.unwrap().json().await.unwrap();
    assert_eq!(paths(&answer), ["a b/ü[1]#?.txt"]);
    assert!(answer[0].get("lastCommit").is_some());
    // The answer may come while the client still sends, and then be lost with the connection.
    let too_long = server.ask(Method::POST, path).body("x".repeat(3 << 20)).send().await;
    assert!(
        too_long
            .map_or(true, |response| response.status() == 400 && header(&response, "connection").unwrap() == "close")
    );
    let broken =
        server.ask(Method::POST, path).header("content-type", "application/json").body("{").send().await.unwrap();
    assert_eq!(broken.status(), 400);
    assert_eq!(header(&server.get(path).await, "allow").unwrap(), "POST");
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_the_hubs_words() {
    let folder = model();
    let server = Server::start([OsString::from("--model"), named("gpt2", folder.path()).into()]).await;
    for (path, status, code) in [
        ("/api/models/org/name", 404, "RepoNotFound"),
        ("/api/models/a/b/revision/main", 404, "RepoNotFound"),
        ("/api/models/..%2f..", 404, "RepoNotFound"),
        ("/org/name/resolve/main/config.json", 404, "RepoNotFound"),
        ("/api/models/gpt2/revision/v9", 404, "RevisionNotFound"),
        ("/api/models/gpt2/tree/v9", 404, "RevisionNotFound"),
        ("/gpt2/resolve/0000000000000000000000000000000000000000/config.json", 404, "RevisionNotFound"),
        ("/gpt2/resolve/main/nope", 404, "EntryNotFound"),
        ("/gpt2/resolve/main/1_Pooling", 404, "EntryNotFound"),
        ("/api/datasets/gpt2", 404, ""),
        ("/api/models/gpt2/xet-read-token/main", 404, ""),
        ("/", 404, ""),
    ] {
        let (got, word, message) = server.refusal(path).await;
        assert_eq!((got, word.as_str()), (status, code), "{path}");
        assert!(!message.is_empty(), "{path}");
    }
    assert_eq!(server.get("/gpt2/resolve/main/config.json").await.text().await.unwrap(), "hello\n");
    let missing = server.ask(Method::HEAD, "/gpt2/resolve/main/nope").send().await.unwrap();
    assert_eq!(refused(&missing).1, "EntryNotFound");
    assert_eq!(header(&missing, "x-repo-commit").unwrap().len(), 40);
    assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");
}

#[tokio::test]
async fn nothing_can_be_written() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    let paths = ["/api/models/org/name", "/org/name/resolve/main/config.json", "/api/repos/create", "/"];
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        for path in paths {
            let response = server.ask(method.clone(), path).body("x").send().await.unwrap();
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(header(&response, "allow").unwrap(), "GET, HEAD");
        }
    }
}
