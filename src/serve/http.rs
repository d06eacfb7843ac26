//! Requests in, answers out.

use super::answer;
use super::ask::{self, Ask, Unasked};
use super::body;
use super::catalog::{Catalog, ServedFile, Snapshot};
use super::library::Library;
use super::range::{self, Piece, Unsatisfiable};
use super::refusal::{REPO_COMMIT, Refusal};
use super::token::Token;
use super::tree::{self, Listing, PAGE, PAGE_EXPANDED};
use crate::ident::{Commit, RelPath, RepoId};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONNECTION, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HOST, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, LINK, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use form_urlencoded::Serializer;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;
use tokio::time::Instant;

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The longest list of paths that is read, in bytes.
const PATHS_MAX_BYTES: usize = 2 * 1024 * 1024;
const READ: &str = "GET, HEAD";

struct App {
    library: Arc<Library>,
    token: Option<Token>,
}

/// The routes: a Hub's addresses are read by `ask`, since an id is one or two names.
pub(super) fn router(library: Library, token: Option<Token>) -> Router {
    let app = Arc::new(App { library: Arc::new(library), token });
    Router::new().route("/healthz", get(|| async { "ok\n" })).fallback(handle).with_state(app)
}

async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let started = Instant::now();
    // The query may hold anything, and the headers a token: neither is logged.
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = app.answer(request).await.unwrap_or_else(IntoResponse::into_response);
    if !method.is_safe() && !response.status().is_success() {
        // What the client still sends is not read, so the connection ends here: it must not ask its next question on it.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, ms) = (response.status().as_u16(), started.elapsed().as_millis());
    tracing::debug!("{method} {path} {status} {ms} ms");
    response
}

impl App {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        if let Some(token) = &self.token {
            token.check(request.headers().get(AUTHORIZATION))?;
        }
        let (parts, content) = request.into_parts();
        let ask = ask::parse(parts.uri.path());
        match (&parts.method, &ask) {
            (&Method::POST, Ok(Ask::PathsInfo { .. })) | (&Method::GET | &Method::HEAD, _) => {}
            (_, Ok(Ask::PathsInfo { .. })) => return Err(Refusal::Method { allow: "POST" }),
            _ => return Err(Refusal::Method { allow: READ }),
        }
        let ask = ask.map_err(|unasked| match unasked {
            Unasked::NoSuchAddress => Refusal::NoSuchAddress,
            Unasked::NoSuchRepo(id) => Refusal::RepoNotFound { id },
        })?;
        let catalog = self.catalog().await?;
        let query = Params::read(parts.uri.query().unwrap_or_default().as_bytes());
        match ask {
            Ask::Info { repo, revision } => {
                let snapshot = catalog.snapshot(&repo, &revision)?;
                Ok(json(&answer::info(&repo, snapshot, query.flag("blobs")), Some(&snapshot.commit)))
            }
            Ask::Refs { repo } => Ok(json(&answer::refs(catalog.repo(&repo)?, query.flag("include_prs")), None)),
            Ask::Tree { repo, revision, folder } => {
                let snapshot = catalog.snapshot(&repo, &revision)?;
                listing(snapshot, folder, &query, &parts.uri, &parts.headers)
            }
            Ask::PathsInfo { .. } if parts.method != Method::POST => Err(Refusal::Method { allow: "POST" }),
            Ask::PathsInfo { repo, revision } => paths_info(&catalog, &repo, &revision, &parts.headers, content).await,
            Ask::File { repo, revision, path } => {
                let snapshot = catalog.snapshot(&repo, &revision)?;
                let file = Arc::clone(snapshot.file(&path)?);
                send(file, &path, &snapshot.commit, &parts.method, &parts.headers).await
            }
        }
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, Refusal> {
        if !self.library.blocks() {
            return Ok(self.library.current());
        }
        let library = Arc::clone(&self.library);
        tokio::task::spawn_blocking(move || library.current()).await.map_err(|_| Refusal::Internal)
    }
}

/// The parameters of a query or a form.
struct Params(Vec<(String, String)>);

impl Params {
    fn read(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1"))
    }
}

fn json(value: &serde_json::Value, commit: Option<&Commit>) -> Response {
    let mut response = Json(value).into_response();
    if let Some(commit) = commit {
        put(response.headers_mut(), REPO_COMMIT, &commit.to_string());
    }
    response
}

/// Sets a header whose text this server made. Text that no header can hold is left out, and never comes.
fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    headers.extend(HeaderValue::from_str(text).ok().map(|value| (name, value)));
}

fn listing(
    snapshot: &Snapshot,
    folder: String,
    query: &Params,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let expand = query.flag("expand");
    let most = if expand { PAGE_EXPANDED } else { PAGE };
    let limit = match query.get("limit").map(str::parse::<usize>) {
        None => most,
        Some(Ok(limit)) if limit > 0 => limit.min(most),
        Some(_) => return Err(Refusal::BadRequest { why: "limit must be a positive number" }),
    };
    let after = query.get("cursor").map(str::to_owned);
    let listing = Listing { folder, recursive: query.flag("recursive"), expand, limit, after };
    let Some(page) = tree::page(snapshot, &listing) else {
        return Err(Refusal::EntryNotFound { path: listing.folder, commit: snapshot.commit });
    };
    let mut response = json(&page.items.into(), Some(&snapshot.commit));
    if let Some(next) = page.next {
        let query = Serializer::new(String::new())
            .append_pair("recursive", if listing.recursive { "true" } else { "false" })
            .append_pair("expand", if expand { "true" } else { "false" })
            .append_pair("limit", &limit.to_string())
            .append_pair("cursor", &next)
            .finish();
        put(response.headers_mut(), LINK, &format!("<{}{}?{query}>; rel=\"next\"", base(headers), uri.path()));
    }
    Ok(response)
}

/// The address by which the client reached this server; empty, and so relative, where it did not say.
fn base(headers: &HeaderMap) -> String {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = if text(FORWARDED_PROTO) == Some("https") { "https" } else { "http" };
    let plain = |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    text(HOST).filter(plain).map(|host| format!("{scheme}://{host}")).unwrap_or_default()
}

#[derive(Deserialize)]
struct PathsAsked {
    paths: OneOrMany,
    #[serde(default)]
    expand: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

async fn paths_info(
    catalog: &Catalog,
    repo: &RepoId,
    revision: &str,
    headers: &HeaderMap,
    content: Body,
) -> Result<Response, Refusal> {
    let snapshot = catalog.snapshot(repo, revision)?;
    let bad = |why| Refusal::BadRequest { why };
    let bytes = axum::body::to_bytes(content, PATHS_MAX_BYTES)
        .await
        .map_err(|_| bad("the list of paths is too long or broken"))?;
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let (paths, expand) = if is_json {
        let asked: PathsAsked = serde_json::from_slice(&bytes).map_err(|_| bad("expected {\"paths\": [...]}"))?;
        let paths = match asked.paths {
            OneOrMany::One(path) => vec![path],
            OneOrMany::Many(paths) => paths,
        };
        (paths, asked.expand)
    } else {
        let form = Params::read(&bytes);
        let expand = form.flag("expand");
        (form.0.into_iter().filter(|(name, _)| name == "paths").map(|(_, path)| path).collect(), expand)
    };
    let items = tree::items(snapshot);
    let found = |path: &String| {
        let path = path.trim_end_matches('/');
        items.get(path).map(|item| answer::item(snapshot, path, *item, expand))
    };
    // What is not there is left out, as on the Hub.
    let found: Vec<_> = paths.iter().filter_map(found).collect();
    Ok(json(&found.into(), Some(&snapshot.commit)))
}

/// A file, or the part of it that is asked for.
async fn send(
    file: Arc<ServedFile>,
    path: &str,
    commit: &Commit,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let etag = format!("\"{}\"", file.etag());
    if headers.get(IF_NONE_MATCH).is_some_and(|known| names(known, &etag)) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        put(response.headers_mut(), ETAG, &etag);
        put(response.headers_mut(), REPO_COMMIT, &commit.to_string());
        return Ok(response);
    }
    let size = file.size();
    let piece = if *method == Method::GET { asked_piece(headers, &etag, size) } else { Ok(Piece::Whole) };
    let piece = piece.map_err(|Unsatisfiable| Refusal::Range { size })?;
    let described = describe(&file, path, commit, &etag);
    let opened = tokio::task::spawn_blocking(move || body::open(&file)).await.map_err(|_| Refusal::Internal)??;
    let body = if *method == Method::HEAD { Body::empty() } else { body::body(opened, piece) };
    let mut response = Response::new(body);
    *response.headers_mut() = described;
    let length = match piece {
        Piece::Whole => size,
        Piece::Part { first, length } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {first}-{}/{size}", first + length - 1);
            put(response.headers_mut(), CONTENT_RANGE, &range);
            length
        }
    };
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    Ok(response)
}

/// What a request's `Range` means, unless its `If-Range` names other bytes. A date there names none: none is given out.
fn asked_piece(headers: &HeaderMap, etag: &str, size: u64) -> Result<Piece, Unsatisfiable> {
    let Some(range) = headers.get(RANGE).and_then(|range| range.to_str().ok()) else { return Ok(Piece::Whole) };
    if headers.get(IF_RANGE).is_some_and(|known| known.as_bytes() != etag.as_bytes()) {
        return Ok(Piece::Whole);
    }
    range::piece(range, size)
}

/// Whether an `If-None-Match` names the `ETag`.
fn names(known: &HeaderValue, etag: &str) -> bool {
    let known = known.to_str().unwrap_or_default();
    known.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

fn describe(file: &ServedFile, path: &str, commit: &Commit, etag: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, ETAG, etag);
    put(&mut headers, REPO_COMMIT, &commit.to_string());
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A model's files are data: no browser shall run them in this server's name.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let name = path.parse::<RelPath>().map(|path| path.file_name().to_owned()).unwrap_or_default();
    let name = utf8_percent_encode(&name, NON_ALPHANUMERIC);
    put(&mut headers, CONTENT_DISPOSITION, &format!("inline; filename*=UTF-8''{name}"));
    if file.pointer().is_some() {
        put(&mut headers, LINKED_ETAG, etag);
        put(&mut headers, LINKED_SIZE, &file.size().to_string());
    }
    headers
}
