//! What a volume can do, found by doing it: a mount's options and a folder's mode do not tell the whole truth.

use super::{Dir, VolumeError};
use std::path::Path;

/// What a volume can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Names that differ only by case are one file.
    pub ignores_case: bool,
}

/// Creates, syncs, renames, links and removes a file, so that what does not work is known before the first byte is fetched.
pub(super) fn probe(root: &Dir, folder: &Path, ignores_case: Option<bool>) -> Result<Traits, VolumeError> {
    let file = folder.join("probe");
    root.write(&file, b"modelcache tries whether it can write here\n")?;
    let seen = root.kind(&folder.join("PROBE"))?.is_some();
    // A file system without links is none the worse for it: then files are copied.
    root.link(&file, &folder.join("link"))?;
    Ok(Traits { ignores_case: ignores_case.unwrap_or(seen) })
}
