//! The bytes: headers, ranges, conditions, and names that want to leave the folder.

use crate::rig::{HELLO_GIT, HELLO_SHA256, Server, header, model, write};
use reqwest::{Method, Response};

const SMALL: &str = "/org/name/resolve/main/config.json";
const WEIGHTS: &str = "/org/name/resolve/main/model.safetensors";

#[tokio::test]
async fn files_come_with_the_hubs_headers() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    let commit = server.json("/api/models/org/name").await["sha"].as_str().unwrap().to_owned();
    for method in [Method::HEAD, Method::GET] {
        let small = server.ask(method.clone(), SMALL).send().await.unwrap();
        assert_eq!(small.status(), 200);
        assert_eq!(header(&small, "etag").unwrap(), format!("\"{HELLO_GIT}\""));
        assert_eq!(header(&small, "x-repo-commit").unwrap(), commit);
        assert_eq!(header(&small, "content-length").unwrap(), "6");
        assert_eq!(header(&small, "accept-ranges").unwrap(), "bytes");
        assert_eq!(header(&small, "x-linked-etag"), None);
        let weights = server.ask(method.clone(), WEIGHTS).send().await.unwrap();
        assert_eq!(header(&weights, "etag").unwrap(), format!("\"{HELLO_SHA256}\""));
        assert_eq!(header(&weights, "x-linked-etag").unwrap(), format!("\"{HELLO_SHA256}\""));
        assert_eq!(header(&weights, "x-linked-size").unwrap(), "6");
        let text = weights.text().await.unwrap();
        assert_eq!(text, if method == Method::GET { "hello\n" } else { "" });
    }
    let odd = server.get("/org/name/resolve/main/a%20b/%C3%BC%5B1%5D%23%3F.txt").await;
    assert_eq!(odd.text().await.unwrap(), "odd");
    let empty = server.get("/org/name/resolve/main/empty.txt").await;
    assert_eq!((header(&empty, "content-length").unwrap().as_str(), empty.text().await.unwrap().as_str()), ("0", ""));
}

async fn ranged(server: &Server, path: &str, range: &str) -> Response {
    server.ask(Method::GET, path).header("range", range).send().await.unwrap()
}

#[tokio::test]
async fn ranges_are_exact() {
    let folder = model();
    let bytes: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    write(folder.path(), "model.safetensors", &bytes);
    let server = Server::of_folder(folder.path()).await;
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=131071-131072", 131_071, 131_072),
        ("bytes=999999-", 999_999, 999_999),
        ("bytes=-10", 999_990, 999_999),
        ("bytes=5-99999999", 5, 999_999),
        ("bytes=-99999999", 0, 999_999),
    ] {
        let part = ranged(&server, WEIGHTS, range).await;
        assert_eq!(part.status(), 206, "{range}");
        assert_eq!(header(&part, "content-range").unwrap(), format!("bytes {first}-{last}/1000000"));
        assert_eq!(header(&part, "content-length").unwrap(), (last - first + 1).to_string());
        assert_eq!(part.bytes().await.unwrap(), bytes[first..=last], "{range}");
    }
    for range in ["bytes=1000000-", "bytes=-0"] {
        let outside = ranged(&server, WEIGHTS, range).await;
        assert_eq!(outside.status(), 416);
        assert_eq!(header(&outside, "content-range").unwrap(), "bytes */1000000");
    }
    for range in ["bytes=0-1,5-6", "bytes=9-1", "lines=0-1", "nonsense"] {
        let whole = ranged(&server, WEIGHTS, range).await;
        assert_eq!((whole.status().as_u16(), header(&whole, "content-range")), (200, None), "{range}");
        assert_eq!(whole.bytes().await.unwrap(), bytes);
    }
    assert_eq!(ranged(&server, "/org/name/resolve/main/empty.txt", "bytes=0-").await.status(), 416);
    let head = server.ask(Method::HEAD, WEIGHTS).header("range", "bytes=0-1").send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length").unwrap().as_str()), (200, "1000000"));
}

#[tokio::test]
async fn conditions_are_about_the_etag() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    let ask = |name: &'static str, value: String| {
        server.ask(Method::GET, SMALL).header("range", "bytes=1-2").header(name, value).send()
    };
    let same = ask("if-range", format!("\"{HELLO_GIT}\"")).await.unwrap();
    assert_eq!((same.status().as_u16(), same.text().await.unwrap().as_str()), (206, "el"));
    for other in [format!("\"{HELLO_SHA256}\""), format!("W/\"{HELLO_GIT}\""), "Tue, 24 Nov 2026 10:00:00 GMT".into()] {
        assert_eq!(ask("if-range", other).await.unwrap().status(), 200);
    }
    for known in [format!("\"x\", W/\"{HELLO_GIT}\""), "*".into()] {
        let unchanged = ask("if-none-match", known).await.unwrap();
        assert_eq!(unchanged.status(), 304);
        assert!(header(&unchanged, "x-repo-commit").is_some());
    }
    assert_eq!(ask("if-none-match", "\"other\"".into()).await.unwrap().status(), 206);
}

#[tokio::test]
async fn no_name_leaves_the_folder() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), "secret", "secret");
    write(place.path(), "model/config.json", "hello\n");
    let server = Server::of_folder(&place.path().join("model")).await;
    for path in [
        "../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "%2e%2e%2fsecret",
        "x/../../secret",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "..%5csecret",
        "config.json%00",
        "./config.json",
        "%ff",
    ] {
        let request = format!("GET /org/name/resolve/main/{path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n");
        let answer = server.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(!answer.ends_with("secret") && !answer.contains("root:"), "{path}: {answer}");
    }
    // A file that was listed, and has become a link out of the folder.
    std::fs::remove_file(place.path().join("model/config.json")).unwrap();
    std::os::unix::fs::symlink("../secret", place.path().join("model/config.json")).unwrap();
    let answer = server.get(SMALL).await;
    assert_eq!(answer.status(), 500);
    assert!(!answer.text().await.unwrap().ends_with("secret"));
}

#[tokio::test]
async fn a_changed_file_is_not_served_under_its_old_etag() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    write(folder.path(), "config.json", "HELLO\n");
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    for path in [SMALL, WEIGHTS] {
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(server.ask(method, path).send().await.unwrap().status(), 500, "{path}");
        }
    }
    assert_eq!(server.get("/org/name/resolve/main/empty.txt").await.status(), 200);
    let log = server.log().await;
    assert!(log.contains("config.json is not served: it changed after it was hashed"), "{log}");
    assert!(log.contains("model.safetensors is not served: it is gone"), "{log}");
}

#[tokio::test]
async fn a_file_that_changes_on_its_way_never_arrives_whole() {
    let folder = model();
    let file = std::fs::File::create(folder.path().join("model.safetensors")).unwrap();
    // More than the sockets' buffers hold.
    file.set_len(64 << 20).unwrap();
    let server = Server::of_folder(folder.path()).await;
    let mut response = server.get(WEIGHTS).await;
    let first = response.chunk().await.unwrap().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", (64 << 20) - 1).unwrap();
    let mut got = first.len();
    let ended = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => got += chunk.len(),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(ended.is_err() && got < 64 << 20, "{got} bytes, {ended:?}");
    assert!(server.log().await.contains("is cut off: it changed while it was sent"));
}
