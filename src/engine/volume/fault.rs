//! What a file system's error means for a person: classified here and nowhere else.

use crate::ident::Reason;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// Why the volume cannot be used. Each message names the thing, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The volume is full.
    #[error("the volume is full: failed to {verb} {path}: {source}: enlarge the volume, or delete models from it", path = .path.display())]
    Full {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The volume would become full.
    #[error("the model does not fit: {needed} more bytes are needed and {free} are free below {path}: enlarge the volume, or delete models from it", path = .path.display())]
    TooSmall {
        /// Where.
        path: PathBuf,
        /// Still to come, blocks and headroom included.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// The volume does not take writes.
    #[error("failed to {verb} {path}: the volume is read-only: mount it with write access for the worker", path = .path.display())]
    ReadOnly {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The volume does not take this user's writes.
    #[error("failed to {verb} {path}: permission denied for {who}; {found}: {hint}", path = .path.display(), hint = way_out(.found))]
    Denied {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// The user and group that tried.
        who: String,
        /// What was found.
        found: Found,
    },
    /// Something that modelcache did not make is in the way.
    #[error("failed to {verb} {path}: {why}: move away what is there, modelcache did not make it", path = .path.display())]
    Occupied {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// A name that the file system does not take.
    #[error("failed to {verb} {path}: {source}: the volume's file system does not take this name; exclude the file, or use another volume", path = .path.display())]
    Name {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such folder.
    #[error("the volume {path} does not exist: create the folder, or correct the path", path = .path.display())]
    Missing {
        /// Where.
        path: PathBuf,
    },
    /// Another layout.
    #[error("{path} says that the volume has layout version {found:?}, and this release knows version 1 only: use a newer release, or another volume", path = .path.display())]
    Version {
        /// The layout file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Anything else, such as a broken disk or a lost server: it may be better next time.
    #[error("failed to {verb} {path}: {source}: it is retried; check the volume's storage if it lasts", path = .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl VolumeError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Full { .. } | Self::TooSmall { .. } => Reason::OutOfSpace,
            Self::ReadOnly { .. } => Reason::VolumeReadOnly,
            Self::Denied { .. } | Self::Missing { .. } => Reason::PermissionDenied,
            Self::Occupied { .. } => Reason::Conflict,
            Self::Name { .. } => Reason::UnsafePath,
            Self::Version { .. } => Reason::UnsupportedVersion,
            Self::Io { .. } => Reason::Interrupted,
        }
    }

    /// Sorts what the system said.
    pub(in crate::engine) fn new(verb: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::Full { verb, path, source },
            Some(Errno::ROFS) => Self::ReadOnly { verb, path },
            Some(Errno::ACCESS | Errno::PERM) => {
                let found = owner_of(&path);
                Self::Denied { verb, path, who: whoami(), found }
            }
            Some(Errno::LOOP) => Self::occupied(verb, path, "it is a symbolic link"),
            Some(Errno::NOTDIR) => Self::occupied(verb, path, "it, or a folder above it, is a link or a file"),
            Some(Errno::ISDIR) => Self::occupied(verb, path, "it is a folder"),
            Some(Errno::EXIST) => Self::occupied(verb, path, "something is there already"),
            Some(Errno::NOTEMPTY) => Self::occupied(verb, path, "it is not empty"),
            Some(Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ) => Self::Name { verb, path, source },
            _ => Self::Io { verb, path, source },
        }
    }

    fn occupied(verb: &'static str, path: PathBuf, why: &str) -> Self {
        Self::Occupied { verb, path, why: why.to_owned() }
    }
}

fn whoami() -> String {
    let mut groups: Vec<u32> =
        rustix::process::getgroups().unwrap_or_default().into_iter().map(rustix::process::Gid::as_raw).collect();
    groups.sort_unstable();
    groups.dedup();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    format!("uid {uid}, gid {gid}, groups {groups:?}")
}

/// The owner and mode of the nearest thing on the way that can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(Option<Box<Owned>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_deref() {
            Some(Owned { path, uid, gid, mode }) => {
                write!(f, "{} belongs to {uid}:{gid} with mode {mode:04o}", path.display())
            }
            None => f.write_str("its owner cannot be seen"),
        }
    }
}

fn owner_of(path: &Path) -> Found {
    use std::os::unix::fs::MetadataExt;
    let look = |one: &Path| {
        let found = std::fs::symlink_metadata(one).ok()?;
        let (uid, gid, mode) = (found.uid(), found.gid(), found.mode() & 0o7777);
        Some(Box::new(Owned { path: one.to_owned(), uid, gid, mode }))
    };
    Found(path.ancestors().find_map(look))
}

/// The settings that mend it, the likeliest first.
fn way_out(Found(owned): &Found) -> String {
    // A server that takes root for nobody (NFS root_squash) gives what root makes to this user.
    const NOBODY: [u32; 2] = [65534, 65533];
    let of_ids = |ids: &str| format!("set {ids} in the entry's job.securityContext to ids that may write there");
    match owned.as_deref() {
        Some(Owned { uid, .. }) if NOBODY.contains(uid) => format!(
            "this looks like an NFS export with root_squash, where neither fsGroup nor ownershipInit.enabled can change an owner: change the folder's owner on the server, or {}",
            of_ids("runAsUser, runAsGroup or supplementalGroups")
        ),
        Some(Owned { gid, mode, .. }) if mode & 0o020 != 0 => format!(
            "the group {gid} may write there: set fsGroup: {gid} in the entry's job.securityContext, or supplementalGroups: [{gid}] where the volume's driver does not support fsGroup"
        ),
        _ => format!(
            "the volume's driver did not apply fsGroup (a CSI driver says by its fsGroupPolicy whether it does): {}, change the folder's owner (on NFS with root_squash, on the server), or let the chart's ownershipInit.enabled change it",
            of_ids("runAsUser, runAsGroup or supplementalGroups")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_reasons() {
        let reason = |errno: Errno| VolumeError::new("write", Path::new("/v/x"), errno.into()).reason();
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(reason(errno), Reason::OutOfSpace);
        }
        assert_eq!(reason(Errno::ROFS), Reason::VolumeReadOnly);
        assert_eq!(reason(Errno::ACCESS), Reason::PermissionDenied);
        assert_eq!(reason(Errno::PERM), Reason::PermissionDenied);
        assert_eq!(reason(Errno::LOOP), Reason::Conflict);
        assert_eq!(reason(Errno::NAMETOOLONG), Reason::UnsafePath);
        assert_eq!(reason(Errno::IO), Reason::Interrupted);
    }

    #[test]
    fn a_denial_names_who_what_and_the_way_out() {
        let text = VolumeError::new("create", Path::new("/nowhere/x"), Errno::ACCESS.into()).to_string();
        for part in
            ["/nowhere/x", "uid ", "gid ", "belongs to", "fsGroup", "ownershipInit.enabled", "job.securityContext"]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_was_found_decides_what_is_proposed() {
        let hint = |uid, gid, mode| way_out(&Found(Some(Box::new(Owned { path: "/v".into(), uid, gid, mode }))));
        assert!(hint(65534, 65534, 0o755).contains("root_squash, where neither"));
        assert!(hint(0, 2000, 0o2775).contains("supplementalGroups: [2000]"));
        assert!(hint(0, 0, 0o755).contains("fsGroupPolicy"));
    }
}
