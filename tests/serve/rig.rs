//! A running server, folders and volumes to serve, and a client.

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub(crate) const REPO: &str = "org/name";
pub(crate) const COMMIT: &str = "7dbbc90392e2f80f3d3c277d6e90027e55de9125";
pub(crate) const HELLO_GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
pub(crate) const HELLO_SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// The real binary, serving. It ends with this value.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    client: Client,
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    command.arg("serve").args(["--listen", "127.0.0.1:0"]).env("MODELCACHE_LOG", "modelcache=debug");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl Server {
    pub(crate) async fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        modelcache::hub::install_crypto();
        let mut child = command().args(args).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_mins(1), lines.next_line()).await.unwrap().unwrap();
        let Some(line) = line else {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
            panic!("the server did not start: {said}");
        };
        let url = line.strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url, client: Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) async fn of_folder(folder: &Path) -> Self {
        Self::start([OsStr::new("--model"), named(REPO, folder).as_os_str()]).await
    }

    pub(crate) async fn of_volume(volume: &Path) -> Self {
        Self::start([OsStr::new("--volume"), volume.as_os_str()]).await
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    /// The status, `X-Error-Code` and `X-Error-Message` of a refusal.
    pub(crate) async fn refusal(&self, path: &str) -> (u16, String, String) {
        refused(&self.get(path).await)
    }

    /// Sends bytes as they are, which a tidy client would not, and gives the answer as text.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Ends the server, and gives what it logged.
    pub(crate) async fn log(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().await.unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
        log
    }
}

pub(crate) fn refused(response: &Response) -> (u16, String, String) {
    let text = |name: &str| header(response, name).unwrap_or_default();
    (response.status().as_u16(), text("x-error-code"), text("x-error-message"))
}

pub(crate) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

/// `REPO=DIR`.
pub(crate) fn named(repo: &str, path: &Path) -> PathBuf {
    format!("{repo}={}", path.display()).into()
}

pub(crate) fn write(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A folder with a small file, a folder, an empty file, an awkward name and weights.
pub(crate) fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "config.json", "hello\n");
    write(folder.path(), "1_Pooling/config.json", "{}");
    write(folder.path(), "empty.txt", "");
    write(folder.path(), "a b/ü[1]#?.txt", "odd");
    write(folder.path(), "model.safetensors", "hello\n");
    folder
}

/// Writes a complete entry into a volume, as the engine lays it out.
pub(crate) fn publish(volume: &Path, model: &str, commit: Option<&str>, files: &[(&str, &str)]) -> PathBuf {
    use modelcache::ident::ModelKey;
    use sha2::Digest;
    let key: ModelKey = format!("hf@{model}").parse().unwrap();
    let mut sums = String::new();
    let mut sorted = files.to_vec();
    sorted.sort_unstable();
    for (name, text) in &sorted {
        writeln!(sums, "{}  model/{name}", hex(&sha2::Sha256::digest(text))).unwrap();
    }
    let snapshot = commit.map_or_else(|| hex(&sha2::Sha256::digest(&sums))[..40].to_owned(), str::to_owned);
    let repo = key.model().repo.as_str().replace('/', "--");
    let snapshot = volume.join(format!("hub/models--{repo}/snapshots/{snapshot}"));
    for (name, text) in files {
        write(&snapshot, name, text);
    }
    let mut metadata = serde_json::json!({"version": 0, "url": "u", "modelDefinition": {"key": key}, "tags": ["t"]});
    if let Some(commit) = commit {
        metadata["commitHash"] = commit.into();
    }
    // The folder comes by one rename, as the engine publishes it.
    let (staged, entry) = (volume.join("staged"), volume.join("entries").join(key.model().entry_name().as_str()));
    write(&staged, "SHA256SUMS", &sums);
    write(&staged, "model_metadata.json", metadata.to_string());
    std::fs::create_dir_all(volume.join("entries")).unwrap();
    std::fs::rename(&staged, &entry).unwrap();
    entry
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
