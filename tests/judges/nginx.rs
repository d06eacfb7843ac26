//! nginx as a Hub that answers from files, and as the content network that it sends its clients to for what is in LFS.

use crate::rig::{COMMIT, REPO, Running, fetch, free_port, model, serve_seed, start};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Nginx {
    pub(crate) url: String,
    home: PathBuf,
    _running: Running,
}

impl Nginx {
    pub(crate) fn start(home: &Path) -> Self {
        let home = home.join("nginx");
        std::fs::create_dir_all(home.join("temporary")).unwrap();
        let (hub, cdn) = (free_port(), free_port());
        std::fs::write(home.join("nginx.conf"), config(&home, hub, cdn)).unwrap();
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-p").arg(&home).arg("-e").arg(home.join("error.log")).arg("-c").arg(home.join("nginx.conf"));
        let running = start(&mut nginx, hub, &home.join("nginx.log"));
        Self { url: format!("http://127.0.0.1:{hub}"), home, _running: running }
    }

    /// The requests that a server saw, one a line: `GET /path 200 authorization`.
    pub(crate) fn asked(&self, server: &str) -> Vec<String> {
        let log = std::fs::read_to_string(self.home.join(format!("{server}.log"))).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

/// What the Hub says of the model: the words of `modelcache serve`, which `huggingface_hub` judges in other tests.
fn listing(home: &Path) -> Vec<serde_json::Value> {
    let (_serving, url) = serve_seed();
    let keep = |path: &str, file: &str| {
        let answer = fetch(&format!("{url}/api/models/{REPO}/{path}"));
        std::fs::write(home.join(file), &answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    };
    let _: serde_json::Value = keep("revision/main", "revision.json");
    match keep(&format!("tree/{COMMIT}?recursive=true"), "tree.json") {
        serde_json::Value::Array(files) => files,
        other => panic!("{other}"),
    }
}

fn config(home: &Path, hub: u16, cdn: u16) -> String {
    let mut files = String::new();
    for file in listing(home) {
        if file["type"] != "file" {
            continue;
        }
        let (path, size) = (file["path"].as_str().unwrap(), file["size"].as_u64().unwrap());
        writeln!(files, "location = /{REPO}/resolve/{COMMIT}/{path} {{ add_header X-Repo-Commit {COMMIT} always;")
            .unwrap();
        if let Some(oid) = file["lfs"]["oid"].as_str() {
            writeln!(files, "add_header X-Linked-Etag '\"{oid}\"' always; add_header X-Linked-Size {size} always;")
                .unwrap();
            writeln!(files, "return 302 http://127.0.0.1:{cdn}/{path}?signature=x; }}").unwrap();
        } else {
            let etag = file["oid"].as_str().unwrap();
            writeln!(files, "add_header ETag '\"{etag}\"' always; alias {}/{path}; }}", model().display()).unwrap();
        }
    }
    let (home, model) = (home.display(), model().display().to_string());
    format!(
        r"
daemon off; master_process off; pid {home}/pid;
events {{ worker_connections 256; }}
http {{
  log_format asked '$request_method $request_uri $status $http_authorization';
  client_body_temp_path {home}/temporary; proxy_temp_path {home}/temporary; fastcgi_temp_path {home}/temporary;
  uwsgi_temp_path {home}/temporary; scgi_temp_path {home}/temporary;
  default_type application/octet-stream; etag off;
  server {{
    listen 127.0.0.1:{hub}; access_log {home}/hub.log asked;
    location = /api/models/{REPO}/revision/main {{ default_type application/json; alias {home}/revision.json; }}
    location = /api/models/{REPO}/tree/{COMMIT} {{ default_type application/json; alias {home}/tree.json; }}
    {files}
    location / {{ add_header X-Error-Code RepoNotFound always; return 404; }}
  }}
  server {{ listen 127.0.0.1:{cdn}; access_log {home}/cdn.log asked; root {model}; limit_rate 120m; }}
}}
"
    )
}
