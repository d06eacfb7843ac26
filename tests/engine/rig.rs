//! A Hub, a volume and a task.

use crate::fakehub::{self, Hub, HubFile, REPO, Running, sha256};
use modelcache::engine::progress::Progress;
use modelcache::engine::{self, EngineError, Finished, Settings};
use modelcache::format::metadata::ModelMetadata;
use modelcache::format::task::{Delete, Download, FileChoice, HubAccess, MountedFile, Task, Work};
use modelcache::hub::{Limits, Retry};
use modelcache::ident::Reason;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Rig {
    pub(crate) running: Running,
    pub(crate) place: tempfile::TempDir,
    pub(crate) settings: Settings,
    pub(crate) task: Task,
    pub(crate) progress: Arc<Progress>,
}

/// Fast enough for tests, and with no waits between tries.
pub(crate) fn settings() -> Settings {
    let retry = Retry { tries: 4, first: Duration::ZERO, longest: Duration::ZERO };
    let limits = Limits { no_progress: Duration::from_secs(5), retry, ..Limits::default() };
    Settings { limits, ..Settings::default() }
}

pub(crate) fn download_of(task: &mut Task) -> &mut Download {
    match &mut task.work {
        Work::Download(download) => download,
        _ => panic!("not a download"),
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(fakehub::tiny_model()).await
    }

    pub(crate) async fn with(files: Vec<HubFile>) -> Self {
        Self::on(fakehub::start(Hub::new(files)).await)
    }

    pub(crate) fn on(running: Running) -> Self {
        modelcache::hub::install_crypto();
        let place = tempfile::tempdir().unwrap();
        let volume = place.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        let hub = HubAccess {
            endpoint: running.endpoint().parse().unwrap(),
            token: None,
            ca_bundle: None,
            proxy: modelcache::format::task::ProxyChoice::default(),
            limit_bytes_per_second: None,
        };
        let model = serde_json::from_value(serde_json::json!({"repo": REPO})).unwrap();
        let download = Download {
            model,
            hub,
            files: FileChoice::default(),
            requested_by: "ada".into(),
            seen_at: None,
            keep: 0,
            mounted: Vec::new(),
        };
        let task = Task { nonce: "nonce".into(), volume, sub_path: None, policy: None, work: Work::Download(download) };
        Self { running, place, settings: settings(), task, progress: Arc::new(Progress::default()) }
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.running.hub
    }

    pub(crate) fn download(&mut self) -> &mut Download {
        download_of(&mut self.task)
    }

    pub(crate) fn mounted(&self, name: &str, text: &str) -> MountedFile {
        let path = self.place.path().join(name);
        std::fs::write(&path, text).unwrap();
        MountedFile { path, origin: format!("Secret \"{name}\", key \"k\"") }
    }

    pub(crate) async fn run(&mut self) -> Result<Finished, EngineError> {
        self.progress = Arc::new(Progress::default());
        engine::run(&self.task, &self.settings, &self.progress).await
    }

    /// Runs to a failure of this reason; nothing must be published. Gives the message.
    pub(crate) async fn fails(&mut self, reason: Reason) -> String {
        let error = self.run().await.expect_err("it should fail");
        assert_eq!(error.reason(), reason, "{error}");
        assert!(!self.entry().join("model_metadata.json").exists(), "half published");
        error.to_string()
    }

    pub(crate) async fn delete(&self) -> Result<Finished, EngineError> {
        let mut task = self.task.clone();
        let model = download_of(&mut task).model.clone();
        let task = Task {
            work: Work::Delete(Delete { model: Some(model), unfinished_only: false, source: None, kept: Vec::new() }),
            ..task
        };
        engine::run(&task, &self.settings, &Arc::new(Progress::default())).await
    }

    pub(crate) fn volume(&self) -> &Path {
        &self.task.volume
    }

    pub(crate) fn entry(&self) -> PathBuf {
        let mut task = self.task.clone();
        self.volume().join("entries").join(download_of(&mut task).model.entry_name().as_str())
    }

    pub(crate) fn metadata(&self) -> ModelMetadata {
        ModelMetadata::parse(&std::fs::read_to_string(self.entry().join("model_metadata.json")).unwrap()).unwrap()
    }

    /// The published entry is exactly these files, and everything about it fits.
    pub(crate) fn assert_published(&self, expected: &[HubFile]) {
        let model = self.entry().join("model");
        let mut found = BTreeMap::new();
        files_below(&model, &model, &mut found);
        let expected: BTreeMap<_, _> = expected.iter().map(|f| (f.path.clone(), f.bytes.clone())).collect();
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        assert!(found == expected, "other bytes");
        let sums: String = expected.iter().map(|(path, bytes)| format!("{}  model/{path}\n", sha256(bytes))).collect();
        assert_eq!(std::fs::read_to_string(self.entry().join("SHA256SUMS")).unwrap(), sums);
        let bytes: usize = expected.values().map(Vec::len).sum();
        assert_eq!(self.metadata().size_in_bytes, Some(bytes as u64));
        let staging = self.volume().join(".modelcache/staging");
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0, "staging is left");
    }
}

fn files_below(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// What the default choice keeps of the tiny model.
pub(crate) fn chosen() -> Vec<HubFile> {
    fakehub::tiny_model().into_iter().filter(|file| file.path != "pytorch_model.bin").collect()
}
