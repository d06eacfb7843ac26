//! A volume, archives beside it, and the real binary.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_modelcache");

pub(crate) struct Rig {
    pub(crate) place: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// The last object on standard output.
    pub(crate) said: Value,
    pub(crate) log: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_else(|| panic!("nothing said: {log}"));
        Self { code: output.status.code().unwrap(), said: serde_json::from_str(last).unwrap(), log }
    }

    #[track_caller]
    pub(crate) fn done(self) -> Value {
        assert_eq!((self.code, self.said["type"].as_str()), (0, Some("done")), "{}\n{}", self.said, self.log);
        self.said
    }

    /// A failure of this reason; gives the message.
    #[track_caller]
    pub(crate) fn failed(self, reason: &str) -> String {
        assert_eq!(self.said["reason"], reason, "{}\n{}", self.said, self.log);
        assert_eq!((self.code, self.said["type"].as_str()), (3, Some("failed")), "{}", self.said);
        self.said["message"].as_str().unwrap().to_owned()
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn volume(&self) -> PathBuf {
        self.place.path().join("volume")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn archive(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn command(&self, archive: &Path) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("import").arg(archive).args(["--output", "json", "--volume"]).arg(self.volume());
        command.env("MODELCACHE_LOG", "modelcache=warn").stdin(Stdio::null());
        command
    }

    pub(crate) fn import_with(&self, archive: &Path, more: &[&str]) -> Ended {
        Ended::of(&self.command(archive).args(more).output().unwrap())
    }

    pub(crate) fn import(&self, archive: &Path) -> Ended {
        self.import_with(archive, &[])
    }

    /// The same through a pipe.
    pub(crate) fn pipe(&self, archive: &Path) -> Ended {
        let file = std::fs::File::open(archive).unwrap();
        Ended::of(&self.command(Path::new("-")).stdin(file).output().unwrap())
    }

    pub(crate) fn entry(&self) -> PathBuf {
        self.volume().join("entries/org_2ftiny")
    }

    /// The model's files.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        below(&self.entry().join("model"))
    }

    /// Nothing but the layout's empty folders: no refusal leaves anything behind.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        let found = names_below(&self.volume());
        let allowed = [
            ".modelcache",
            ".modelcache/layout",
            ".modelcache/sources",
            ".modelcache/staging",
            "entries",
            "hub",
            "views",
        ];
        let other: Vec<_> = found.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(other.is_empty(), "left behind: {other:?}");
    }

    /// No partial work is left.
    #[track_caller]
    pub(crate) fn assert_tidy(&self) {
        assert_eq!(names_below(&self.volume().join(".modelcache/staging")), Vec::<String>::new());
    }
}

/// Looks at an archive.
pub(crate) fn inspect(archive: &Path) -> Ended {
    let mut command = Command::new(BINARY);
    command.arg("inspect").arg(archive).args(["--output", "json"]).stdin(Stdio::null());
    Ended::of(&command.output().unwrap())
}

/// Every file below a folder, links followed.
pub(crate) fn below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names_below(folder) {
        let path = folder.join(&name);
        if path.is_file() {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
    found
}

fn names_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}
