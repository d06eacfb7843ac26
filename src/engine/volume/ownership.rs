//! The one thing that is done as root, where a volume's driver ignores `fsGroup`: what modelcache keeps on a volume is given to the
//! user that its workers run as.

use super::{Dir, VolumeError, cache_root};
use crate::format::layout;
use crate::ident::RelPath;
use rustix::process::{Gid, Uid};
use std::ffi::OsStr;
use std::path::Path;

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    uid: Uid,
    gid: Gid,
}

impl Owner {
    /// A user and a group.
    pub fn new(uid: u32, gid: u32) -> Self {
        Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) }
    }

    pub(super) fn ids(self) -> (Uid, Gid) {
        (self.uid, self.gid)
    }
}

/// Gives the cache's root, which is made where it is missing, and what modelcache keeps in it to an owner, and nothing else; false
/// where that was done before. The root comes last, so that its owner says that all the rest is done.
pub fn take_over(path: &Path, sub_path: Option<&RelPath>, owner: Owner) -> Result<bool, VolumeError> {
    let root = cache_root(&Dir::open_root(path)?, sub_path)?;
    if root.owner()? == owner {
        return Ok(false);
    }
    for folder in [layout::HUB, layout::ENTRIES, layout::VIEWS, layout::STATE] {
        root.give_all(OsStr::new(folder), owner)?;
    }
    root.give(owner)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Reason;
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// Who owns a thing itself.
    fn owner_of(path: &Path) -> (u32, u32) {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid())
    }

    /// A volume that somebody else filled, and what lies beside it.
    fn filled() -> (tempfile::TempDir, tempfile::TempDir) {
        let (volume, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in
            ["hub/models--a/refs/main", "entries/a/SHA256SUMS", "views/a/refs/main", ".modelcache/layout", "other/mine"]
        {
            let path = volume.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(outside.path().join("secret"), "x").unwrap();
        symlink(outside.path(), volume.path().join("hub/planted")).unwrap();
        symlink(outside.path().join("secret"), volume.path().join("entries/a/model")).unwrap();
        (volume, outside)
    }

    #[test]
    fn what_is_modelcaches_gets_an_owner_and_nothing_else_does() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (volume, outside) = filled();
        assert!(take_over(volume.path(), None, Owner::new(65532, 65533)).unwrap());
        let of = |name: &str| owner_of(&volume.path().join(name));
        for ours in [
            "",
            "hub/models--a/refs/main",
            "entries/a/SHA256SUMS",
            "views/a",
            ".modelcache/layout",
            "hub/planted",
            "entries/a/model",
        ] {
            assert_eq!(of(ours), (65532, 65533), "{ours}");
        }
        let foreign =
            [of("other"), of("other/mine"), owner_of(outside.path()), owner_of(&outside.path().join("secret"))];
        assert_eq!(BTreeSet::from(foreign), BTreeSet::from([(0, 0)]));
        // The root's owner is believed from then on.
        std::os::unix::fs::lchown(volume.path().join("hub"), Some(0), Some(0)).unwrap();
        assert!(!take_over(volume.path(), None, Owner::new(65532, 65533)).unwrap());
        assert_eq!(of("hub"), (0, 0));
    }

    #[test]
    fn a_folder_of_a_claim_is_made_and_its_surroundings_are_left_alone() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (volume, _outside) = filled();
        let sub_path: RelPath = "other/cache".parse().unwrap();
        assert!(take_over(volume.path(), Some(&sub_path), Owner::new(1000, 1000)).unwrap());
        let of = |name: &str| owner_of(&volume.path().join(name));
        assert_eq!([of("other/cache"), of("other"), of(""), of("hub")], [(1000, 1000), (0, 0), (0, 0), (0, 0)]);
    }

    #[test]
    fn a_root_that_is_a_link_is_refused() {
        let (volume, outside) = filled();
        symlink(outside.path(), volume.path().join("cache")).unwrap();
        let error = take_over(volume.path(), Some(&"cache".parse().unwrap()), Owner::new(1000, 1000)).unwrap_err();
        assert_eq!(error.reason(), Reason::Conflict, "{error}");
    }
}
