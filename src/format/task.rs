//! The typed description of one piece of work: written by the controller, done by a worker (design 6).

pub use super::policy::Policy;
use crate::ident::{Commit, Endpoint, ModelKey, ModelRef, RelPath, RepoId, Revision, Sha256};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The environment variable in which a worker finds its task, as JSON.
pub const TASK_VARIABLE: &str = "MODELCACHE_TASK";

/// One piece of work, whole: a worker reads nothing else but the files that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// Carried by every line that the worker writes; lines without it are not the worker's.
    pub nonce: String,
    /// Where the volume's root is mounted; empty for a [`Work::Resolve`] and a [`Work::Check`], which have none.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub volume: PathBuf,
    /// A folder below the volume's root that is the cache's root. The worker makes it, as the kubelet would make it as root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<RelPath>,
    /// What may be kept; absent: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// What to do.
    pub work: Work,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    /// Download a model from a Hub and publish it.
    Download(Download),
    /// Publish the model that an archive holds.
    Import(Import),
    /// Write an entry into an archive.
    Export(Export),
    /// Remove an entry and what no other entry lists.
    Delete(Delete),
    /// Tell which archives a folder holds.
    List(List),
    /// Tell which commit a model is at, and what room it takes.
    Resolve(Resolve),
    /// Tell whether a Hub can be reached, and whose token it is.
    Check(Check),
    /// Tell what is on the volume, held against its entries. Nothing is written.
    Inventory,
    /// Take a model that is on the volume already, after reading all of it. Nothing is written.
    Adopt(Adopt),
}

/// A download from a Hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Download {
    /// The model.
    pub model: ModelRef,
    /// Where the Hub is and how to reach it.
    pub hub: HubAccess,
    /// Which of the model's files.
    #[serde(default)]
    pub files: FileChoice,
    /// Goes into `downloadedBy` and, at first, `lastUsedBy`.
    pub requested_by: String,
    /// The commit that the revision was seen at: an entry that has another one is out of date, and is updated. Absent: an entry
    /// that is complete is done, and the Hub is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<Commit>,
    /// How many snapshots that the entry had before stay on the volume, the newest first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub keep: u32,
    /// Commits that running Pods mount by their paths: their snapshots stay, however many are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounted: Vec<Commit>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The import of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Import {
    /// Where the archive is.
    pub archive: ArchivePlace,
    /// What the SHA-256 of all the archive's bytes must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// What the archive must hold; another model is `ModelMismatch`. Absent: the archive says which model it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The Hub whose digests the files are compared with, besides the archive's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_against: Option<HubAccess>,
}

/// What an archive must hold. Any revision of the repo will do where none is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    /// The repo.
    pub repo: RepoId,
    /// The revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
}

/// The writing of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Export {
    /// The model whose entry is written.
    pub model: ModelRef,
    /// Which kind of archive.
    pub format: ArchiveFormat,
    /// Where it goes. A file appears under its name only when it is whole.
    pub archive: ArchivePlace,
    /// The latest use of the model, for the metadata in the archive. Absent: what the volume says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Leaves out everything that the seed's documentation does not name (`SHA256SUMS`).
    #[serde(default)]
    pub seed_strict: bool,
}

/// Where an archive is read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ArchivePlace {
    /// A file.
    File(MountedFile),
    /// An address: read by GET, written by PUT.
    Url(ArchiveUrl),
    /// Standard input or output.
    Stdio,
}

/// The address of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArchiveUrl {
    /// The address. Its query may hold a signature, so it is never shown.
    pub url: String,
    /// The files `token` (sent as `Bearer`), or `username` and `password` (sent as `Basic`), in a mounted folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<MountedFile>,
    /// The file that holds CA certificates in PEM, trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<MountedFile>,
    /// The proxies, where any are set.
    #[serde(default, skip_serializing_if = "ProxyChoice::is_empty")]
    pub proxy: ProxyChoice,
}

/// Which kind of archive is written. Archives that are read say themselves what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveFormat {
    /// Not compressed.
    Tar,
    /// Compressed with gzip.
    TarGz,
    /// Compressed with zstd.
    TarZst,
    /// A zip archive, its members not compressed.
    Zip,
}

impl ArchiveFormat {
    /// What a file's name says of its format.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        match () {
            () if ends(&[".tar"]) => Some(Self::Tar),
            () if ends(&[".tar.gz", ".tgz"]) => Some(Self::TarGz),
            () if ends(&[".tar.zst", ".tzst"]) => Some(Self::TarZst),
            () if ends(&[".zip"]) => Some(Self::Zip),
            () => None,
        }
    }
}

/// When and by whom a model was used last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usage {
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The identity.
    pub by: String,
}

/// The removal of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delete {
    /// The model whose entry goes. Absent where only an archive would have said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelRef>,
    /// Whether only unfinished work goes: the entry on the volume is somebody else's, if there is one, unless `source` is
    /// recorded to have ended in it.
    #[serde(default)]
    pub unfinished_only: bool,
    /// Where the model was to come from: the digest of [`crate::format::layout::Source`]. Unfinished work of an archive goes by
    /// it, and so does what it was published as, where nobody heard of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Sha256>,
    /// Models that others have or are about to have: where only the record of the source says which model it ended in, these stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<ModelKey>,
}

/// The listing of a folder of archives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct List {
    /// The folder below the task's volume. Absent: the volume's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<RelPath>,
    /// What a person calls it, for messages: `the folder models in claim usb`.
    pub origin: String,
}

/// The question what a model is and takes. No byte of it is fetched, and no volume is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Resolve {
    /// A model on a Hub.
    Hub(Question),
    /// The model that an archive holds.
    Archive(ArchivePlace),
}

/// A model on a Hub, and which of its files are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// The model.
    pub model: ModelRef,
    /// Where the Hub is and how to reach it.
    pub hub: HubAccess,
    /// Which of the model's files.
    #[serde(default)]
    pub files: FileChoice,
}

/// The question whether a Hub can be reached. No volume is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// Where the Hub is and how to reach it.
    pub hub: HubAccess,
}

/// The adoption of a model that is on the volume already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adopt {
    /// The model.
    pub model: ModelRef,
    /// The digest that its `SHA256SUMS` must have. Absent: whatever was published last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Sha256>,
}

/// Where a Hub is and how to reach it. Secrets are files: their text is in no task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubAccess {
    /// The Hub.
    pub endpoint: Endpoint,
    /// The file that holds the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<MountedFile>,
    /// The file that holds CA certificates in PEM, trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<MountedFile>,
    /// The proxies, where any are set.
    #[serde(default, skip_serializing_if = "ProxyChoice::is_empty")]
    pub proxy: ProxyChoice,
    /// The most bytes per second, over all connections of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second: Option<u64>,
}

/// A file, and what a person calls it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Where it comes from, for messages: `Secret "hub-token", key "token"`.
    pub origin: String,
}

/// Proxies by scheme; where none is set, the environment's (`HTTPS_PROXY` and friends) hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyChoice {
    /// For `http://` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// For `https://` addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_proxy: Option<String>,
}

impl ProxyChoice {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which files of a model are kept (design 5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileChoice {
    /// Which weights.
    #[serde(default)]
    pub weights: Weights,
    /// Globs; where any are given, only what one of them matches is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Globs; what one of them matches is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// Which weights of a model are kept. The other files are kept in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Weights {
    /// The first format of this enum's order that the model has.
    #[default]
    Auto,
    /// Every format.
    All,
    /// `*.safetensors`
    Safetensors,
    /// `*.bin`, `*.pt`, `*.pth`
    Pytorch,
    /// `*.gguf`
    Gguf,
    /// `*.onnx`
    Onnx,
    /// `*.h5`
    Tensorflow,
    /// `*.msgpack`
    Flax,
    /// `*.ot`
    Rust,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_goes_through_json_and_back() {
        let task = Task {
            nonce: "n".into(),
            volume: "/volume".into(),
            sub_path: Some("team/a".parse().unwrap()),
            policy: Some(Policy {
                origin: "HubConnection \"default\"".into(),
                repos: vec!["org/*".into()],
                weights: vec![Weights::Safetensors],
            }),
            work: Work::Download(Download {
                model: ModelRef { repo: "org/name".parse().unwrap(), revision: Some("v1".parse().unwrap()) },
                hub: HubAccess {
                    endpoint: "https://hub.example".parse().unwrap(),
                    token: Some(MountedFile { path: "/t".into(), origin: "Secret \"a\", key \"b\"".into() }),
                    ca_bundle: None,
                    proxy: ProxyChoice::default(),
                    limit_bytes_per_second: Some(1),
                },
                files: FileChoice::default(),
                requested_by: "ada".into(),
                seen_at: Some(Commit::from_bytes([7; 20])),
                keep: 2,
                mounted: vec![Commit::from_bytes([8; 20])],
            }),
        };
        let text = serde_json::to_string(&task).unwrap();
        assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task);
    }

    #[test]
    fn a_download_that_updates_nothing_says_nothing_of_updates() {
        let text = r#"{"model":{"repo":"org/name"},"hub":{"endpoint":"https://hub.example"},"files":{"weights":"Auto"},"requestedBy":"ada"}"#;
        let download: Download = serde_json::from_str(text).unwrap();
        assert_eq!((download.seen_at, download.keep, download.mounted.len()), (None, 0, 0));
        assert_eq!(
            serde_json::to_string(&download).unwrap(),
            text.replace("https://hub.example", download.hub.endpoint.to_string().as_str())
        );
    }

    #[test]
    fn a_name_says_its_format() {
        for (name, format) in [
            ("a.tar", Some(ArchiveFormat::Tar)),
            ("a.TAR.gz", Some(ArchiveFormat::TarGz)),
            ("a.tgz", Some(ArchiveFormat::TarGz)),
            ("a.tar.zst", Some(ArchiveFormat::TarZst)),
            ("a.zip", Some(ArchiveFormat::Zip)),
            ("a.zst", None),
            ("tar", None),
        ] {
            assert_eq!(ArchiveFormat::of_name(name), format, "{name}");
        }
    }

    #[test]
    fn a_field_of_a_newer_controller_is_refused_not_ignored() {
        let text = r#"{"nonce":"n","volume":"/v","work":{"delete":{"model":{"repo":"a/b"}}},"newer":1}"#;
        assert!(serde_json::from_str::<Task>(text).unwrap_err().to_string().contains("newer"));
    }
}
