//! A Hub in this process that can be told to misbehave. Used by path from several test binaries.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part of it")]
#![allow(clippy::unwrap_used, clippy::format_collect, reason = "a test that cannot go on shall panic")]

mod body;
pub mod tls;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use sha1::Digest;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub use tls::Authority;

pub const COMMIT: &str = "7dbbc90392e2f80f3d3c277d6e90027e55de9125";
pub const REPO: &str = "org/tiny";
/// Where the Hub tells whose token it is.
const WHOAMI: &str = "/api/whoami-v2";
/// Whose token the Hub wants, where it wants one.
pub const ACCOUNT: &str = "ada";

/// A file of the fake repo.
#[derive(Clone)]
pub struct HubFile {
    pub path: String,
    pub bytes: Vec<u8>,
    /// Listed with `lfs`, as large files are.
    pub lfs: bool,
}

/// What goes wrong with an answer.
#[derive(Clone)]
pub enum Fault {
    /// Another answer altogether.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// A whole message with fewer bytes than listed.
    Short(usize),
    /// The connection is lost after so many bytes.
    Cut(usize),
    /// None: for rules that hold after some requests went well.
    Fine,
    /// The bit in the middle is another.
    Corrupt,
    /// This bit of the file is another.
    Flip(usize),
    /// More bytes than listed.
    Long,
    /// 200 and the whole file, whatever the range.
    IgnoreRange,
    /// A wrong `Content-Range`.
    WrongRange,
    /// No `Content-Length`.
    Chunked,
    /// So many bytes, then a permit for the test, then silence.
    Hang { after: usize, reached: Arc<Semaphore> },
    /// So many bytes of a file (of anything else: none), then a permit for the test, and the rest once the test gives one.
    Pause { after: usize, reached: Arc<Semaphore>, open: Arc<Semaphore> },
}

struct Rule {
    on: String,
    times: usize,
    fault: Fault,
}

/// A request as it was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Path and query.
    pub target: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub user_agent: String,
    pub accept_encoding: Option<String>,
}

pub struct Hub {
    pub files: Mutex<Vec<HubFile>>,
    /// Replaces the listing's JSON.
    pub raw_tree: Mutex<Option<String>>,
    pub info: Mutex<serde_json::Value>,
    /// How many files a page lists.
    pub page: Mutex<usize>,
    pub token: Mutex<Option<String>>,
    /// Where `resolve` sends readers, if not itself.
    pub cdn: Mutex<Option<String>>,
    /// How long the Hub waits before each 16 KiB of a body.
    pub wait_micros: AtomicU64,
    /// How many bytes of bodies were sent.
    pub sent: AtomicU64,
    /// How many bodies are on their way, and the most that ever were.
    open: AtomicUsize,
    pub most_open: AtomicUsize,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    asked_who: Mutex<Vec<Seen>>,
}

/// A running Hub; it ends with this value.
pub struct Running {
    pub hub: Arc<Hub>,
    pub address: SocketAddr,
    /// The name or address that clients use.
    pub host: String,
    pub scheme: &'static str,
    server: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Fault::Answer { status, headers, body: body.into() }
}

/// Bytes that look like nothing, the same in every run.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

pub fn git_sha1(bytes: &[u8]) -> String {
    let mut hash = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A small model with everything in it: folders, an empty file, awkward names, LFS and not.
pub fn tiny_model() -> Vec<HubFile> {
    let file = |path: &str, bytes: Vec<u8>, lfs| HubFile { path: path.into(), bytes, lfs };
    vec![
        file(".gitattributes", b"*.bin filter=lfs\n".to_vec(), false),
        file("1_Pooling/config.json", b"{}\n".to_vec(), false),
        file("README.md", noise(1, 5_000), false),
        file("awful [name] #1 %20 é?.txt", b"awful\n".to_vec(), false),
        file("config.json", b"{\"model_type\": \"bert\"}\n".to_vec(), false),
        file("empty", Vec::new(), false),
        file("model.safetensors", noise(2, 700_000), true),
        file("pytorch_model.bin", noise(3, 10_000), true),
    ]
}

impl Hub {
    pub fn new(files: Vec<HubFile>) -> Arc<Self> {
        let info = serde_json::json!({
            "id": REPO, "sha": COMMIT, "lastModified": "2022-11-07T08:44:33.000Z", "library_name": "sentence-transformers",
            "pipeline_tag": "sentence-similarity", "tags": ["tf", "bert", "en", "region:us"], "private": false
        });
        Arc::new(Self {
            files: Mutex::new(files),
            raw_tree: Mutex::default(),
            info: Mutex::new(info),
            page: Mutex::new(1000),
            token: Mutex::default(),
            cdn: Mutex::default(),
            wait_micros: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            rules: Mutex::default(),
            seen: Mutex::default(),
            asked_who: Mutex::default(),
        })
    }

    /// The next `times` requests whose path holds `on` get a fault.
    pub fn fault(&self, on: &str, times: usize, fault: Fault) {
        self.rules.lock().unwrap().push(Rule { on: on.into(), times, fault });
    }

    pub fn heal(&self) {
        self.rules.lock().unwrap().clear();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    pub fn requests_for(&self, part: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.target.contains(part)).collect()
    }

    /// The requests that asked whose token it is; no others have to do with a model.
    pub fn asked_who(&self) -> Vec<Seen> {
        self.asked_who.lock().unwrap().clone()
    }

    fn next_fault(&self, path: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        // A connection is checked whenever it likes: only rules of its own hold for that.
        let is_meant = |rule: &Rule| path.contains(&rule.on) && (path != WHOAMI || rule.on.contains("whoami"));
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && is_meant(rule))?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }

    fn info(&self) -> Response<Body> {
        json(self.info.lock().unwrap().to_string(), None)
    }

    fn tree(&self, request: &Request<Body>) -> Response<Body> {
        if let Some(raw) = self.raw_tree.lock().unwrap().clone() {
            return json(raw, None);
        }
        let files = self.files.lock().unwrap();
        let page = *self.page.lock().unwrap();
        let query = request.uri().query().unwrap_or_default();
        let from: usize = query.split("cursor=").nth(1).map_or(0, |text| text.parse().unwrap());
        let mut entries: Vec<_> = files.iter().skip(from).take(page).map(entry).collect();
        if from == 0 {
            entries
                .push(serde_json::json!({"type": "directory", "oid": "0".repeat(40), "size": 0, "path": "1_Pooling"}));
        }
        let host = request.headers()["host"].to_str().unwrap();
        let next = (from + page < files.len()).then(|| {
            format!("<http://{host}{}?recursive=true&cursor={}>; rel=\"next\"", request.uri().path(), from + page)
        });
        json(serde_json::Value::from(entries).to_string(), next)
    }
}

fn entry(file: &HubFile) -> serde_json::Value {
    let mut value = serde_json::json!({
        "type": "file", "path": file.path, "size": file.bytes.len(), "oid": git_sha1(&file.bytes), "xetHash": "redacted"
    });
    if file.lfs {
        value["oid"] = git_sha1(b"pointer").into();
        value["lfs"] = serde_json::json!({"oid": sha256(&file.bytes), "size": file.bytes.len(), "pointerSize": 134});
    }
    value
}

fn json(text: String, link: Option<String>) -> Response<Body> {
    let mut response = Response::builder().header("content-type", "application/json");
    if let Some(link) = link {
        response = response.header("link", link);
    }
    response.body(text.into()).unwrap()
}

pub fn refusal(status: u16, code: &str) -> Response<Body> {
    let response = Response::builder().status(status).header("x-error-code", code);
    response.body(Body::from("{\"error\":\"…\"}")).unwrap()
}

async fn handle(State(hub): State<Arc<Hub>>, request: Request<Body>) -> Response<Body> {
    let (path, fault) = hub.notice(&request);
    if let Some(Fault::Pause { reached, open, .. }) = fault.as_ref().filter(|_| path.starts_with("/api/")) {
        reached.add_permits(1);
        open.acquire().await.unwrap().forget();
    }
    hub.respond(&path, &request, fault)
}

fn header(request: &Request<Body>, name: &str) -> Option<String> {
    request.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

impl Hub {
    /// Writes a request down; gives its path, and what shall go wrong with it.
    fn notice(&self, request: &Request<Body>) -> (String, Option<Fault>) {
        let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8().unwrap().into_owned();
        let log = if path == WHOAMI { &self.asked_who } else { &self.seen };
        log.lock().unwrap().push(Seen {
            at: Instant::now(),
            target: request.uri().to_string(),
            authorization: header(request, "authorization"),
            range: header(request, "range"),
            user_agent: header(request, "user-agent").unwrap_or_default(),
            accept_encoding: header(request, "accept-encoding"),
        });
        let fault = self.next_fault(&path);
        (path, fault)
    }

    fn respond(self: &Arc<Self>, path: &str, request: &Request<Body>, fault: Option<Fault>) -> Response<Body> {
        if let Some(Fault::Answer { status, headers, body }) = fault {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            return response.body(body.into()).unwrap();
        }
        let wanted = self.token.lock().unwrap().clone();
        let given = header(request, "authorization");
        if !path.starts_with("/cdn/") && wanted.is_some_and(|token| given != Some(format!("Bearer {token}"))) {
            return refusal(401, "RepoNotFound");
        }
        // Without tokens it knows no accounts, as mirrors.
        if path == WHOAMI && self.token.lock().unwrap().is_some() {
            return json(serde_json::json!({"type": "user", "name": ACCOUNT, "orgs": []}).to_string(), None);
        }
        if path.starts_with(&format!("/api/models/{REPO}/revision/")) {
            return self.info();
        }
        let commit = self.info.lock().unwrap()["sha"].as_str().unwrap().to_owned();
        if path.starts_with(&format!("/api/models/{REPO}/tree/{commit}")) {
            return self.tree(request);
        }
        let files = self.files.lock().unwrap().clone();
        let range = header(request, "range");
        if let Some(name) = path.strip_prefix(&format!("/{REPO}/resolve/{commit}/")) {
            let cdn = self.cdn.lock().unwrap().clone();
            return match files.iter().find(|file| file.path == name) {
                None => refusal(404, "EntryNotFound"),
                Some(file) if file.lfs && cdn.is_some() => Response::builder()
                    .status(StatusCode::FOUND)
                    .header("location", format!("{}/cdn/{}?signature=secret", cdn.unwrap(), file.path))
                    .body(Body::from("a redirect"))
                    .unwrap(),
                Some(file) => body::answer(self, file, range, fault),
            };
        }
        match path.strip_prefix("/cdn/").and_then(|name| files.iter().find(|file| file.path == name)) {
            Some(file) => body::answer(self, file, range, fault),
            None => refusal(404, "RepoNotFound"),
        }
    }
}

fn router(hub: &Arc<Hub>) -> Router {
    Router::new().fallback(handle).with_state(Arc::clone(hub))
}

/// Starts a Hub without TLS, for this machine alone.
pub async fn start(hub: Arc<Hub>) -> Running {
    start_at(hub, (Ipv4Addr::LOCALHOST, 0).into()).await
}

/// Starts a Hub without TLS at an address.
pub async fn start_at(hub: Arc<Hub>, address: SocketAddr) -> Running {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(&hub);
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Running { hub, address, host: address.ip().to_string(), scheme: "http", server }
}

/// Starts a Hub with a certificate for `localhost` from an authority that nobody knows.
pub async fn start_tls(hub: Arc<Hub>, authority: &Authority) -> Running {
    start_tls_at(hub, authority, (Ipv4Addr::LOCALHOST, 0).into(), "localhost").await
}

/// Starts a Hub at an address, with a certificate for `host` from an authority that nobody knows.
pub async fn start_tls_at(hub: Arc<Hub>, authority: &Authority, address: SocketAddr, host: &str) -> Running {
    let (listener, address) = tls::listen(authority, address, host).await;
    let router = router(&hub);
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Running { hub, address, host: host.to_owned(), scheme: "https", server }
}

impl Running {
    pub fn endpoint(&self) -> String {
        format!("{}://{}:{}", self.scheme, self.host, self.address.port())
    }
}
