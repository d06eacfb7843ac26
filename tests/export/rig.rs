//! A volume with one model on it, made by hand as the layout says, and the real binary.

use crate::fakehub::{COMMIT, noise, sha256};
use modelcache::engine::progress::Progress;
use modelcache::engine::{self, EngineError, Finished, Settings};
use modelcache::format::task::{ArchiveFormat, ArchivePlace, Export, MountedFile, Task, Work};
use modelcache::hub::{Limits, Retry};
use modelcache::ident::Reason;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_modelcache");
pub(crate) const REPO: &str = "org/tiny";
pub(crate) const ROOT: &str = "org_2ftiny";

pub(crate) type Files = Vec<(String, Vec<u8>)>;

pub(crate) struct Rig {
    pub(crate) place: tempfile::TempDir,
    pub(crate) task: Task,
    pub(crate) settings: Settings,
}

/// Everything that is awkward about a model: folders, an empty file, foreign, long and dotted names.
pub(crate) fn files() -> Files {
    let long = format!("{}/{}/{}.json", "d".repeat(120), "é".repeat(100), "n".repeat(200));
    let mut files: Files = [
        (".gitattributes", b"*.bin filter=lfs\n".to_vec()),
        ("1_Pooling/config.json", b"{}\n".to_vec()),
        ("README.md", noise(1, 5_000)),
        ("awful [name] #1 %20 é?.txt", b"awful\n".to_vec()),
        ("config.json", b"{\"model_type\": \"bert\"}\n".to_vec()),
        ("empty", Vec::new()),
        ("model.safetensors", noise(2, 1_700_003)),
        ("模型/vocab.txt", vec![b'x'; 100_000]),
    ]
    .map(|(path, bytes)| (path.to_owned(), bytes))
    .to_vec();
    files.push((long, b"long\n".to_vec()));
    files
}

/// Puts a model on a volume.
pub(crate) fn publish(volume: &Path, mut files: Files) {
    files.sort();
    let snapshot = volume.join(format!("hub/models--org--tiny/snapshots/{COMMIT}"));
    let entry = volume.join("entries").join(ROOT);
    std::fs::create_dir_all(&entry).unwrap();
    let mut sums = String::new();
    let mut bytes = 0;
    for (path, content) in &files {
        let file = snapshot.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        writeln!(sums, "{}  model/{path}", sha256(content)).unwrap();
        bytes += content.len();
    }
    std::os::unix::fs::symlink(format!("../../hub/models--org--tiny/snapshots/{COMMIT}"), entry.join("model")).unwrap();
    std::fs::write(entry.join("SHA256SUMS"), sums).unwrap();
    let metadata = serde_json::json!({
        "commitHash": COMMIT, "modelDefinition": {"key": format!("hf@{REPO}")}, "sizeInBytes": bytes, "version": 0,
        "url": "https://hub.example/org%2Ftiny/tree/main", "lastDssUsage": 5, "lastUsedBy": "ada", "unknown": ["kept"],
    });
    std::fs::write(entry.join("model_metadata.json"), metadata.to_string()).unwrap();
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(files())
    }

    pub(crate) fn with(files: Files) -> Self {
        modelcache::hub::install_crypto();
        let place = tempfile::tempdir().unwrap();
        let volume = place.path().join("volume");
        publish(&volume, files);
        let out = place.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let archive = file(out.join("model.tar"));
        let model = serde_json::from_value(serde_json::json!({"repo": REPO})).unwrap();
        let export = Export { model, format: ArchiveFormat::Tar, archive, usage: None, seed_strict: false };
        let task = Task { nonce: "nonce".into(), volume, sub_path: None, policy: None, work: Work::Export(export) };
        let retry = Retry { tries: 4, first: Duration::ZERO, longest: Duration::ZERO };
        let limits = Limits { no_progress: Duration::from_secs(5), retry, ..Limits::default() };
        Self { place, task, settings: Settings { limits, ..Settings::default() } }
    }

    pub(crate) fn export(&mut self) -> &mut Export {
        match &mut self.task.work {
            Work::Export(export) => export,
            _ => panic!("not an export"),
        }
    }

    pub(crate) fn to(&mut self, name: &str) -> PathBuf {
        let path = self.out().join(name);
        let export = self.export();
        export.format = ArchiveFormat::of_name(name).unwrap();
        export.archive = file(path.clone());
        path
    }

    pub(crate) fn volume(&self) -> &Path {
        &self.task.volume
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.volume().join(format!("hub/models--org--tiny/snapshots/{COMMIT}"))
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.place.path().join("out")
    }

    /// What is in the folder of archives.
    pub(crate) fn names(&self) -> Vec<String> {
        let found = std::fs::read_dir(self.out()).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) async fn run(&self) -> Result<Finished, EngineError> {
        engine::run(&self.task, &self.settings, &Arc::new(Progress::default())).await
    }

    /// Runs to a failure of this reason, which leaves nothing; gives the message.
    pub(crate) async fn fails(&self, reason: Reason) -> String {
        let before = self.names();
        let error = self.run().await.expect_err("it should fail");
        assert_eq!(error.reason(), reason, "{error}");
        assert_eq!(self.names(), before, "something is left");
        error.to_string()
    }
}

pub(crate) fn file(path: PathBuf) -> ArchivePlace {
    ArchivePlace::File(MountedFile { origin: path.display().to_string(), path })
}

/// Runs a command that must succeed; gives what it says.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Whether a program is on this machine.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing");
    found
}
