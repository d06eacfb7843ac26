//! What a volume can do, found by doing it: a mount's options and a folder's mode do not tell the whole truth.

use super::{Dir, VolumeError};
use std::path::Path;

/// What a volume can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Names that differ only by case are one file.
    pub ignores_case: bool,
}

/// Creates, syncs, renames and removes a file, so that what does not work is known before the first byte is fetched.
pub(super) fn probe(state: &Dir, ignores_case: Option<bool>) -> Result<Traits, VolumeError> {
    let name = format!("probe-{}", super::unique());
    state.write(Path::new(&name), b"modelcache tries whether it can write here\n")?;
    let seen = state.kind(Path::new(&name.to_uppercase()))?.is_some();
    state.remove_file(Path::new(&name))?;
    Ok(Traits { ignores_case: ignores_case.unwrap_or(seen) })
}
