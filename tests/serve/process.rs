//! The process: its token, its memory, its end, and what it says.

use crate::rig::{Server, command, header, model, named, refused, write};
use reqwest::Method;
use rustix::process::Signal;
use std::ffi::OsString;
use std::time::{Duration, Instant};

const WEIGHTS: &str = "/org/name/resolve/main/model.safetensors";
const BIG: u64 = 300 << 20;

/// A folder whose weights are long and take no space.
fn big() -> tempfile::TempDir {
    let folder = model();
    std::fs::File::create(folder.path().join("model.safetensors")).unwrap().set_len(BIG).unwrap();
    folder
}

fn kib(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn with_a_token_everything_needs_it() {
    let (folder, token) = (model(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(token.path(), "hf_right\n").unwrap();
    let args = ["--model".into(), named("org/name", folder.path()), "--token-file".into(), token.path().to_owned()];
    let server = Server::start(args).await;
    let ask = |path: &str, token: &str| server.ask(Method::GET, path).bearer_auth(token).send();
    for path in ["/api/models/org/name", WEIGHTS, "/api/models/a/b", "/", "/api/models/org/name/refs"] {
        let anonymous = server.get(path).await;
        assert_eq!(refused(&anonymous).0, 401, "{path}");
        assert_eq!(refused(&anonymous).1, "RepoNotFound", "{path}");
        assert!(header(&anonymous, "www-authenticate").unwrap().starts_with("Bearer"));
        let wrong = refused(&ask(path, "hf_wrong").await.unwrap());
        assert_eq!(wrong, (401, String::new(), "Invalid credentials in Authorization header".to_owned()));
    }
    assert_eq!(ask(WEIGHTS, "hf_right").await.unwrap().text().await.unwrap(), "hello\n");
    assert_eq!(ask("/api/models/a/b", "hf_right").await.unwrap().status(), 404);
    assert_eq!(server.get("/healthz").await.status(), 200);
    let log = server.log().await;
    assert!(log.contains("GET /org/name/resolve/main/model.safetensors 200"), "{log}");
    assert!(!log.contains("hf_right") && !log.contains("hf_wrong"), "{log}");
}

#[tokio::test]
async fn memory_stays_small_whatever_is_served() {
    let folder = big();
    let server = Server::of_folder(folder.path()).await;
    let started = Instant::now();
    let mut running = Vec::new();
    for _ in 0..4 {
        let mut response = server.get(WEIGHTS).await;
        running.push(tokio::spawn(async move {
            let mut got = 0;
            while let Some(chunk) = response.chunk().await.unwrap() {
                got += chunk.len() as u64;
            }
            got
        }));
    }
    // And clients that take nothing.
    let mut slow = Vec::new();
    for _ in 0..10 {
        slow.push(server.get(WEIGHTS).await);
    }
    for one in running {
        assert_eq!(one.await.unwrap(), BIG);
    }
    let seconds = started.elapsed().as_secs_f64();
    // Without the pages of the program itself, of which a debug build has three times as many.
    let peak = kib(&server, "VmHWM:") - kib(&server, "RssFile:");
    println!("4 downloads of 300 MiB in {seconds:.2} s, 10 stalled clients, peak {} MiB", peak >> 10);
    assert!(peak < 16 << 10, "{peak} KiB");
    // Each has a stack: workers, readers, and the one that waits for signals.
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap().count();
    assert!(threads <= 8 + 16 + 1, "{threads} threads");
}

#[tokio::test]
async fn running_downloads_end_before_the_server_does() {
    let folder = big();
    let mut server = Server::of_folder(folder.path()).await;
    let mut response = server.get(WEIGHTS).await;
    let mut got = response.chunk().await.unwrap().unwrap().len() as u64;
    server.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.child.try_wait().unwrap().is_none());
    assert!(server.ask(Method::GET, "/healthz").send().await.is_err(), "no new connection is taken");
    while let Some(chunk) = response.chunk().await.unwrap() {
        got += chunk.len() as u64;
    }
    assert_eq!(got, BIG);
    let ended = tokio::time::timeout(Duration::from_secs(10), server.child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    let folder = model();
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::of_folder(folder.path()).await;
        // A kept connection that asks nothing must not hold it.
        assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");
        let started = Instant::now();
        server.signal(signal);
        assert_eq!(server.child.wait().await.unwrap().code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_said_at_once() {
    let place = tempfile::tempdir().unwrap();
    write(place.path(), "model/a", "x");
    write(place.path(), "empty-token", "\n");
    write(place.path(), "bad.json", "{}");
    write(place.path(), "linked/a", "x");
    std::os::unix::fs::symlink("/etc/passwd", place.path().join("linked/b")).unwrap();
    let path = |name: &str| place.path().join(name).into_os_string();
    let model = |name: &str| named("org/name", &place.path().join(name)).into_os_string();
    let cases: [(&[OsString], i32, &str); 8] = [
        (&[], 2, "--volume"),
        (&["--model".into(), "org/name".into()], 2, "REPO=PATH"),
        (&["--model".into(), model("nowhere")], 1, "No such file"),
        (&["--model".into(), model("linked")], 1, "linked/b: it is a link"),
        (&["--volume".into(), path("nowhere")], 1, "nowhere"),
        (&["--model".into(), model("model"), "--token-file".into(), path("empty-token")], 1, "it is empty"),
        (&["--model".into(), model("model"), "--metadata".into(), model("bad.json")], 1, "`version` is missing"),
        (&["--model".into(), model("model"), "--model".into(), model("model")], 1, "org/name is given twice"),
    ];
    for (args, code, words) in cases {
        let output = command().args(args).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let folder = model();
    let server = Server::of_folder(folder.path()).await;
    let taken = server.url.strip_prefix("http://").unwrap();
    let model = named("org/name", folder.path()).into_os_string();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_modelcache"));
    let output = command.arg("serve").arg("--model").arg(model).args(["--listen", taken]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(taken) && said.contains("in use"), "{said}");
}
