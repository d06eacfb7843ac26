//! Where an archive's files go while it is read: into a staging, or nowhere when it is only looked at.

use crate::engine::volume::{Part, Staging, Volume, VolumeError, scratch};
use crate::ident::RelPath;
use std::path::PathBuf;
use std::sync::Arc;

/// Smaller files are not worth a look at the free space.
const LOOKED_MIN_BYTES: u64 = 1024 * 1024;
/// The name of an archive that must be read from its end.
const SPOOL: &str = "spool";

/// Where one file lies in a staging.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Stored {
    /// Where the model has it.
    Model(RelPath),
    /// Beside the model, by number: only links can mean it.
    Spare(usize),
}

/// A place for an archive's files.
#[derive(Debug, Clone)]
pub(super) struct Store(Option<(Arc<Volume>, Arc<Staging>)>);

impl Store {
    pub(super) fn staging(volume: &Arc<Volume>, staging: &Arc<Staging>) -> Self {
        Self(Some((Arc::clone(volume), Arc::clone(staging))))
    }

    /// Keeps nothing.
    pub(super) fn nowhere() -> Self {
        Self(None)
    }

    pub(super) fn is_real(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses early what would not fit.
    pub(super) fn check_space(&self, bytes: u64, files: u64) -> Result<(), VolumeError> {
        self.0.as_ref().map_or(Ok(()), |(volume, _)| volume.check_space(bytes, files))
    }

    /// Makes a file; none where nothing is kept.
    pub(super) fn create(&self, stored: &Stored, size: u64) -> Result<Option<Part>, VolumeError> {
        let Some((volume, staging)) = &self.0 else { return Ok(None) };
        if size >= LOOKED_MIN_BYTES {
            volume.check_space(size, 1)?;
        }
        let part = match stored {
            Stored::Model(path) => staging.open_part(path, size)?.0,
            Stored::Spare(number) => staging.open_spare(&spare(*number), size)?,
        };
        Ok(Some(part))
    }

    /// A file for an archive whose end must be known first.
    pub(super) fn spool(&self) -> Result<Part, VolumeError> {
        match &self.0 {
            Some((_, staging)) => staging.open_spare(SPOOL, 0),
            None => scratch(),
        }
    }
}

/// The name of a spare file in its staging.
fn spare(number: usize) -> String {
    format!("spare/{number}")
}

/// Where a file lies, relative to the cache's root.
pub(super) fn place(staging: &Staging, stored: &Stored) -> PathBuf {
    match stored {
        Stored::Model(path) => staging.file(path),
        Stored::Spare(number) => staging.path(&spare(*number)),
    }
}
