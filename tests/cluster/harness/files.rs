//! A server of files that takes and gives them, with TLS and a login.

use super::lab;
use crate::fakehub::{Authority, tls};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Method, Request, Response, StatusCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

const FILE_MAX_BYTES: usize = 64 << 20;

/// The files by their paths, and what must stand in `Authorization`.
pub struct Files {
    pub kept: Mutex<HashMap<String, Vec<u8>>>,
    login: String,
}

pub struct RunningFiles {
    pub files: Arc<Files>,
    /// `https://host:port`
    pub address: String,
    task: JoinHandle<()>,
}

impl Drop for RunningFiles {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RunningFiles {
    pub async fn start(authority: &Authority, login: &str) -> Self {
        let address = lab::host_address();
        let host = address.ip().to_string();
        let (listener, address) = tls::listen(authority, address, &host).await;
        let files = Arc::new(Files { kept: Mutex::default(), login: login.to_owned() });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&files));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { files, address: format!("https://{host}:{}", address.port()), task }
    }
}

async fn handle(State(files): State<Arc<Files>>, request: Request<Body>) -> Response<Body> {
    let answer = |status: StatusCode, body: Vec<u8>| Response::builder().status(status).body(body.into()).unwrap();
    let (head, body) = request.into_parts();
    let login = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    if login != Some(&files.login) {
        return answer(StatusCode::UNAUTHORIZED, Vec::new());
    }
    let path = head.uri.path().to_owned();
    if head.method == Method::PUT {
        let Ok(bytes) = to_bytes(body, FILE_MAX_BYTES).await else {
            return answer(StatusCode::BAD_REQUEST, Vec::new());
        };
        files.kept.lock().unwrap().insert(path, bytes.to_vec());
        return answer(StatusCode::CREATED, Vec::new());
    }
    let found = files.kept.lock().unwrap().get(&path).cloned();
    found.map_or_else(|| answer(StatusCode::NOT_FOUND, Vec::new()), |bytes| answer(StatusCode::OK, bytes))
}
