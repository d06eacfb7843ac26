//! A Hub of a few repos whose branches move, made of nothing but numbers: what a file of a commit holds can be asked anywhere.

use crate::ident::hex;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use sha1::Digest;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, Mutex};

pub(super) const REPOS: [&str; 2] = ["org/one", "org/two"];
pub(super) const BRANCHES: [&str; 2] = ["main", "v1"];
/// How many commits a repo has.
pub(super) const VERSIONS: u32 = 6;

/// The commit of a version, as text.
pub(super) fn commit(repo: &str, version: u32) -> String {
    hex(&sha1::Sha1::digest(format!("{repo} {version}")))
}

/// The version of a commit.
pub(super) fn version(repo: &str, text: &str) -> Option<u32> {
    static KNOWN: LazyLock<BTreeMap<String, (&str, u32)>> = LazyLock::new(|| {
        let each = |repo: &'static str| (0..VERSIONS).map(move |version| (commit(repo, version), (repo, version)));
        REPOS.into_iter().flat_map(each).collect()
    });
    KNOWN.get(text).filter(|(of, _)| *of == repo).map(|(_, version)| *version)
}

/// Every file of a version: its bytes, and whether it is listed with a SHA-256. Some change with each version, some seldom.
pub(super) fn files(repo: &str, version: u32) -> BTreeMap<String, (Vec<u8>, bool)> {
    let text = |name: &str, state: u32, times: usize| format!("{repo} {name} {state}\n").repeat(times).into_bytes();
    let gone = format!("only/in/{}.txt", version % 3);
    [
        ("README.md".to_owned(), (text("readme", version, 3), false)),
        ("config.json".to_owned(), (text("config", version / 2, 2), false)),
        ("model.safetensors".to_owned(), (text("weights", version / 3, 200), true)),
        ("tokenizer/vocab.json".to_owned(), (text("vocab", 0, 40), true)),
        (gone, (text("gone", version % 3, 1), false)),
    ]
    .into()
}

/// Where each branch is.
#[derive(Default)]
pub(super) struct Hub(Mutex<BTreeMap<(String, String), u32>>);

impl Hub {
    pub(super) fn at(&self, repo: &str, branch: &str) -> u32 {
        self.0.lock().unwrap().get(&(repo.to_owned(), branch.to_owned())).copied().unwrap_or_default()
    }

    pub(super) fn moves(&self, repo: &str, branch: &str, version: u32) {
        self.0.lock().unwrap().insert((repo.to_owned(), branch.to_owned()), version);
    }

    /// Starts answering; gives the address.
    pub(super) async fn start(self: &Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(self));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }
}

async fn answer(State(hub): State<Arc<Hub>>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let path = percent_encoding::percent_decode_str(&path).decode_utf8().unwrap().into_owned();
    let (is_api, path) = path.strip_prefix("api/models/").map_or((false, path.as_str()), |path| (true, path));
    let mut parts = path.splitn(5, '/');
    let mut next = || parts.next().unwrap_or_default();
    let (repo, what, at, file) = (format!("{}/{}", next(), next()), next(), next(), next());
    match (is_api, what) {
        (true, "revision") => {
            let sha = commit(&repo, hub.at(&repo, at));
            json(&serde_json::json!({"sha": sha, "tags": ["en"], "lastModified": "2026-01-01T00:00:00.000Z"}))
        }
        (true, "tree") => {
            let list = files(&repo, version(&repo, at).unwrap());
            json(&list.iter().map(|(path, (bytes, is_large))| entry(path, bytes, *is_large)).collect())
        }
        _ => {
            let (bytes, _) = files(&repo, version(&repo, at).unwrap()).remove(file).unwrap();
            Response::new(Body::from(bytes))
        }
    }
}

fn entry(path: &str, bytes: &[u8], is_large: bool) -> serde_json::Value {
    let git = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
    let mut value = serde_json::json!({"type": "file", "path": path, "size": bytes.len(), "oid": hex(&git)});
    if is_large {
        let sha256 = hex(&sha2::Sha256::digest(bytes));
        value["lfs"] = serde_json::json!({"oid": sha256, "size": bytes.len(), "pointerSize": 134});
    }
    value
}

fn json(value: &serde_json::Value) -> Response<Body> {
    Response::builder().header("content-type", "application/json").body(Body::from(value.to_string())).unwrap()
}
