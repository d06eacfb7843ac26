//! Archives that are sent to a server.

use crate::fakehub::{Authority, tls};
use crate::rig::Rig;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use futures::StreamExt;
use modelcache::format::outcome::Archive;
use modelcache::format::task::{ArchiveFormat, ArchivePlace, ArchiveUrl, MountedFile, ProxyChoice};
use modelcache::ident::Reason;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as it was seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    target: String,
    authorization: Option<String>,
    length: Option<String>,
    /// None if it was not whole.
    body: Option<Vec<u8>>,
}

/// How a request is answered.
#[derive(Clone)]
enum Play {
    /// After the whole body.
    Answer(u16, String),
    /// To another address, after the whole body.
    Redirect(u16, String),
    /// In the middle of the body.
    Early(u16),
}

#[derive(Default)]
struct Server {
    plays: Mutex<Vec<Play>>,
    seen: Mutex<Vec<Seen>>,
}

struct Running {
    server: Arc<Server>,
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handle(State(server): State<Arc<Server>>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let mut seen = Seen { target: head.uri.to_string(), ..Seen::default() };
    (seen.authorization, seen.length) = (header("authorization"), header("content-length"));
    assert_eq!(head.method, "PUT");
    let play = {
        let mut plays = server.plays.lock().unwrap();
        if plays.is_empty() { Play::Answer(201, String::new()) } else { plays.remove(0) }
    };
    let mut body = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut is_whole = true;
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(_) => is_whole = false,
        }
        if matches!(play, Play::Early(_)) {
            is_whole = false;
            break;
        }
    }
    seen.body = is_whole.then_some(bytes);
    server.seen.lock().unwrap().push(seen);
    let answer = Response::builder();
    match play {
        Play::Answer(status, words) => answer.status(status).body(words.into()).unwrap(),
        Play::Redirect(status, to) => answer.status(status).header("location", to).body(Body::empty()).unwrap(),
        Play::Early(status) => answer.status(status).body(Body::empty()).unwrap(),
    }
}

async fn start(plays: Vec<Play>, authority: Option<&Authority>) -> Running {
    let server = Arc::new(Server { plays: Mutex::new(plays), ..Server::default() });
    let router = Router::new().fallback(handle).with_state(Arc::clone(&server));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (address, task) = match authority {
        None => {
            let listener = TcpListener::bind(any).await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
        }
        Some(authority) => {
            let (listener, address) = tls::listen(authority, any, "localhost").await;
            let address = format!("https://localhost:{}", address.port());
            (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
        }
    };
    Running { server, address, task }
}

impl Running {
    fn seen(&self) -> Vec<Seen> {
        self.server.seen.lock().unwrap().clone()
    }
}

fn url(rig: &mut Rig) -> &mut ArchiveUrl {
    match &mut rig.export().archive {
        ArchivePlace::Url(url) => url,
        _ => panic!("no address"),
    }
}

fn rig(running: &Running) -> Rig {
    let mut rig = Rig::new();
    let url = format!("{}/bucket/model?signature=s3cret", running.address);
    let proxy = ProxyChoice { no_proxy: Some("*".into()), ..ProxyChoice::default() };
    rig.export().archive = ArchivePlace::Url(ArchiveUrl { url, auth: None, ca_bundle: None, proxy });
    rig
}

/// A mounted Secret.
fn secret(rig: &Rig, keys: &[(&str, &str)]) -> MountedFile {
    let path = rig.place.path().join("secret");
    std::fs::create_dir_all(&path).unwrap();
    for (key, value) in keys {
        std::fs::write(path.join(key), value).unwrap();
    }
    MountedFile { path, origin: "Secret \"store\"".into() }
}

fn assert_sent(seen: &Seen, archive: Archive) {
    let body = seen.body.as_ref().expect("not whole");
    assert_eq!((crate::fakehub::sha256(body), body.len() as u64), (archive.sha256.to_string(), archive.size_bytes));
}

#[tokio::test]
async fn a_server_gets_the_bytes_of_the_file_and_their_length() {
    for (name, is_known) in [("a.tar", true), ("a.zip", true), ("a.tar.zst", false), ("a.tar.gz", false)] {
        let running = start(Vec::new(), None).await;
        let mut rig = rig(&running);
        rig.export().format = ArchiveFormat::of_name(name).unwrap();
        let archive = rig.run().await.unwrap().done.archive.unwrap();
        let seen = running.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].target, "/bucket/model?signature=s3cret");
        assert_eq!(seen[0].authorization, None);
        assert_sent(&seen[0], archive);
        assert_eq!(seen[0].length, is_known.then(|| archive.size_bytes.to_string()));
        let path = rig.to(name);
        assert_eq!(rig.run().await.unwrap().done.archive, Some(archive));
        assert!(std::fs::read(path).unwrap() == *seen[0].body.as_ref().unwrap());
    }
}

#[tokio::test]
async fn both_logins() {
    for (keys, header) in [
        (&[("token", "t0ken\n")][..], "Bearer t0ken"),
        (&[("username", "ada"), ("password", "pass word\n")][..], "Basic YWRhOnBhc3Mgd29yZA=="),
    ] {
        let running = start(Vec::new(), None).await;
        let mut rig = rig(&running);
        let auth = secret(&rig, keys);
        url(&mut rig).auth = Some(auth);
        rig.run().await.unwrap();
        assert_eq!(running.seen()[0].authorization.as_deref(), Some(header));
    }
    let running = start(Vec::new(), None).await;
    let mut rig = rig(&running);
    let auth = secret(&rig, &[("username", "ada")]);
    url(&mut rig).auth = Some(auth);
    let message = rig.fails(Reason::SecretNotFound).await;
    assert!(message.contains("Secret \"store\"") && running.seen().is_empty(), "{message}");
}

#[tokio::test]
async fn errors_that_pass_are_tried_again_with_the_whole_archive() {
    let plays = vec![Play::Answer(500, String::new()), Play::Early(503), Play::Answer(429, String::new())];
    let running = start(plays, None).await;
    let archive = rig(&running).run().await.unwrap().done.archive.unwrap();
    let seen = running.seen();
    assert_eq!(seen.len(), 4);
    assert_sent(&seen[3], archive);
}

#[tokio::test]
async fn errors_that_last_are_told_with_the_servers_words() {
    let running = start(vec![Play::Answer(500, "disk\nbroken".into()); 4], None).await;
    let message = rig(&running).fails(Reason::HubUnavailable).await;
    assert!(message.contains("answered 500") && message.contains("disk broken"), "{message}");
    assert_eq!(running.seen().len(), 4);
    for (status, reason) in [
        (401, Reason::Unauthorized),
        (403, Reason::Unauthorized),
        (404, Reason::ArchiveNotFound),
        (405, Reason::ArchiveNotFound),
        (412, Reason::Conflict),
        (507, Reason::OutOfSpace),
    ] {
        let running = start(vec![Play::Answer(status, "because".into())], None).await;
        let message = rig(&running).fails(reason).await;
        assert!(message.contains(&status.to_string()) && message.contains("because"), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
        assert_eq!(running.seen().len(), 1, "{status} was tried again");
    }
}

#[tokio::test]
async fn a_redirect_is_followed_and_the_login_stays_at_home() {
    let other = start(Vec::new(), None).await;
    let plays = vec![Play::Redirect(307, "/else?x=1".into()), Play::Redirect(308, format!("{}/there", other.address))];
    let running = start(plays, None).await;
    let mut rig = rig(&running);
    let auth = secret(&rig, &[("token", "t0ken")]);
    url(&mut rig).auth = Some(auth);
    let archive = rig.run().await.unwrap().done.archive.unwrap();
    let seen = running.seen();
    assert_eq!(seen[1].target, "/else?x=1");
    assert_eq!(seen[1].authorization.as_deref(), Some("Bearer t0ken"));
    let there = other.seen();
    assert_eq!((there[0].target.as_str(), &there[0].authorization), ("/there", &None));
    assert_sent(&there[0], archive);

    let circle = start(vec![Play::Redirect(307, "/again".into()); 30], None).await;
    self::rig(&circle).fails(Reason::ArchiveNotFound).await;
}

#[tokio::test]
async fn a_damaged_model_is_never_sent_whole() {
    for format in [ArchiveFormat::Tar, ArchiveFormat::TarZst] {
        let running = start(Vec::new(), None).await;
        let mut rig = rig(&running);
        rig.export().format = format;
        std::fs::write(rig.snapshot().join("config.json"), b"{\"model_type\": \"tree\"}\n").unwrap();
        rig.fails(Reason::ChecksumMismatch).await;
        assert!(running.seen().iter().all(|seen| seen.body.is_none()), "a whole archive arrived");
    }
}

#[tokio::test]
async fn an_authority_of_ones_own() {
    let authority = Authority::new();
    let running = start(Vec::new(), Some(&authority)).await;
    let mut rig = rig(&running);
    rig.fails(Reason::TLSUntrusted).await;
    assert!(running.seen().is_empty());
    let path = rig.place.path().join("ca.pem");
    std::fs::write(&path, &authority.pem).unwrap();
    url(&mut rig).ca_bundle = Some(MountedFile { path, origin: "ConfigMap \"ca\"".into() });
    let archive = rig.run().await.unwrap().done.archive.unwrap();
    assert_sent(&running.seen()[0], archive);
}

#[tokio::test]
async fn nobody_there_and_no_address() {
    let running = start(Vec::new(), None).await;
    let mut rig = rig(&running);
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    url(&mut rig).url = format!("http://{closed}/x");
    rig.fails(Reason::HubUnavailable).await;
    url(&mut rig).proxy = ProxyChoice { http: Some(format!("http://{closed}")), ..ProxyChoice::default() };
    url(&mut rig).url = "http://store.example/x".into();
    rig.fails(Reason::ProxyError).await;
    url(&mut rig).url = "ftp://me:s3cret@store/x".into();
    let message = rig.fails(Reason::ArchiveNotFound).await;
    assert!(!message.contains("s3cret"), "{message}");
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_given_up() {
    // The system takes the connection and some of the bytes; nobody reads them.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let running = start(Vec::new(), None).await;
    let mut rig = rig(&running);
    url(&mut rig).url = format!("http://{}/x", listener.local_addr().unwrap());
    rig.settings.limits.retry.tries = 1;
    rig.settings.limits.no_progress = Duration::from_millis(200);
    rig.settings.limits.first_byte = Duration::from_millis(200);
    let message = rig.fails(Reason::Stalled).await;
    assert!(message.contains("took nothing of the archive for 0.2 s"), "{message}");
}
