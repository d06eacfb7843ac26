//! The one enum of reasons: events, conditions, logs, metrics and exit codes all use these words.

use serde::{Deserialize, Serialize};

/// Why something is not (yet) as it should be. The name is what a person sees; `docs/TROUBLESHOOTING.md` has a section on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    /// The Hub has no such repo, or hides it from this token.
    RepoNotFound,
    /// The repo has no such branch, tag or commit.
    RevisionNotFound,
    /// The choice of files leaves nothing, or the Hub lacks a file that its own listing names.
    FileNotFound,
    /// The Hub refused the token.
    Unauthorized,
    /// The model's licence has not been accepted by the token's owner.
    GatedModel,
    /// Bytes arrived whole but are not the bytes that the Hub's listing promises.
    ChecksumMismatch,
    /// The volume is, or would become, full.
    OutOfSpace,
    /// The worker may not write to the volume.
    PermissionDenied,
    /// The volume is mounted read-only.
    VolumeReadOnly,
    /// A file name from the Hub would be dangerous or ambiguous on the volume.
    UnsafePath,
    /// No archive at the given place.
    ArchiveNotFound,
    /// The archive breaks a rule of its format.
    ArchiveInvalid,
    /// The archive tries something dangerous.
    ArchiveUnsafe,
    /// The archive holds another model than the one asked for.
    ModelMismatch,
    /// A metadata or layout version that this release does not know.
    UnsupportedVersion,
    /// Another entry already keeps this model in this volume.
    DuplicateEntry,
    /// Something with this name and other content is already there.
    Conflict,
    /// The connection's policy does not allow this model.
    PolicyDenied,
    /// The Hub's certificate is not signed by a known authority, or the CA bundle cannot be read.
    TLSUntrusted,
    /// The Hub asked for a pause (429).
    RateLimited,
    /// The Hub cannot be reached or answers with a server error.
    HubUnavailable,
    /// Bytes stopped arriving.
    Stalled,
    /// The proxy refused or cannot be reached.
    ProxyError,
    /// The worker was stopped, or its end was not seen.
    Interrupted,
    /// The worker went over its memory limit.
    OOMKilled,
    /// The worker's Pod was evicted.
    Evicted,
    /// The worker's node went away.
    NodeLost,
    /// The Job ran longer than `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// The claim does not bind.
    PVCPending,
    /// The claim's StorageClass does not exist.
    StorageClassNotFound,
    /// No node can take the worker's Pod.
    Unschedulable,
    /// The worker's image cannot be pulled.
    ImagePullFailed,
    /// A `ResourceQuota` or `LimitRange` forbids the object.
    QuotaExceeded,
    /// The named HubConnection does not exist.
    ConnectionNotFound,
    /// A Secret (or a key in it) that a connection names does not exist.
    SecretNotFound,
}

/// What makes another attempt worthwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Time: retried with exponential backoff.
    Backoff,
    /// Something outside the spec (token, gate, CA, a missing object): rechecked hourly, or on a retry.
    Recheck,
    /// A change of the spec, or a retry that a person asks for.
    Change,
    /// The cluster: it is watched, and the attempt goes on by itself.
    Watch,
}

impl Reason {
    /// Every reason, for tests that hold the documentation against the enum.
    pub const ALL: [Self; 35] = [
        Self::RepoNotFound,
        Self::RevisionNotFound,
        Self::FileNotFound,
        Self::Unauthorized,
        Self::GatedModel,
        Self::ChecksumMismatch,
        Self::OutOfSpace,
        Self::PermissionDenied,
        Self::VolumeReadOnly,
        Self::UnsafePath,
        Self::ArchiveNotFound,
        Self::ArchiveInvalid,
        Self::ArchiveUnsafe,
        Self::ModelMismatch,
        Self::UnsupportedVersion,
        Self::DuplicateEntry,
        Self::Conflict,
        Self::PolicyDenied,
        Self::TLSUntrusted,
        Self::RateLimited,
        Self::HubUnavailable,
        Self::Stalled,
        Self::ProxyError,
        Self::Interrupted,
        Self::OOMKilled,
        Self::Evicted,
        Self::NodeLost,
        Self::DeadlineExceeded,
        Self::PVCPending,
        Self::StorageClassNotFound,
        Self::Unschedulable,
        Self::ImagePullFailed,
        Self::QuotaExceeded,
        Self::ConnectionNotFound,
        Self::SecretNotFound,
    ];

    /// What makes another attempt worthwhile.
    pub fn recovery(self) -> Recovery {
        match self {
            Self::RateLimited
            | Self::HubUnavailable
            | Self::Stalled
            | Self::ProxyError
            | Self::Interrupted
            | Self::OOMKilled
            | Self::Evicted
            | Self::NodeLost
            | Self::DeadlineExceeded => Recovery::Backoff,
            Self::RepoNotFound
            | Self::Unauthorized
            | Self::GatedModel
            | Self::TLSUntrusted
            | Self::SecretNotFound
            | Self::ArchiveNotFound => Recovery::Recheck,
            Self::RevisionNotFound
            | Self::FileNotFound
            | Self::ChecksumMismatch
            | Self::OutOfSpace
            | Self::PermissionDenied
            | Self::VolumeReadOnly
            | Self::UnsafePath
            | Self::ArchiveInvalid
            | Self::ArchiveUnsafe
            | Self::ModelMismatch
            | Self::UnsupportedVersion
            | Self::DuplicateEntry
            | Self::Conflict
            | Self::PolicyDenied => Recovery::Change,
            Self::PVCPending
            | Self::StorageClassNotFound
            | Self::Unschedulable
            | Self::ImagePullFailed
            | Self::QuotaExceeded
            | Self::ConnectionNotFound => Recovery::Watch,
        }
    }

    /// The worker's exit code: 1 may succeed on retry, 3 will not until something changes (design 6).
    pub fn exit_code(self) -> u8 {
        if self.recovery() == Recovery::Backoff { 1 } else { 3 }
    }

    /// The reason of this name; none where it is another word, such as a phase.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The reason's name, as everybody sees it.
    pub fn as_str(self) -> &'static str {
        macro_rules! names { ($($name:ident),* $(,)?) => { match self { $(Self::$name => stringify!($name)),* } } }
        names!(
            RepoNotFound,
            RevisionNotFound,
            FileNotFound,
            Unauthorized,
            GatedModel,
            ChecksumMismatch,
            OutOfSpace,
            PermissionDenied,
            VolumeReadOnly,
            UnsafePath,
            ArchiveNotFound,
            ArchiveInvalid,
            ArchiveUnsafe,
            ModelMismatch,
            UnsupportedVersion,
            DuplicateEntry,
            Conflict,
            PolicyDenied,
            TLSUntrusted,
            RateLimited,
            HubUnavailable,
            Stalled,
            ProxyError,
            Interrupted,
            OOMKilled,
            Evicted,
            NodeLost,
            DeadlineExceeded,
            PVCPending,
            StorageClassNotFound,
            Unschedulable,
            ImagePullFailed,
            QuotaExceeded,
            ConnectionNotFound,
            SecretNotFound,
        )
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
