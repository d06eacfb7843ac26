//! Everything that a server serves, kept up to date.

use super::catalog::{Catalog, Offer};
use super::explain;
use super::folder::{Folder, FolderError};
use super::volume::{Shelf, VolumeError};
use crate::ident::ModelRef;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Why a library cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// One of its folders.
    #[error("failed to prepare {model}")]
    Folder {
        /// The model.
        model: ModelRef,
        /// The cause.
        source: Box<FolderError>,
    },
    /// Its volume.
    #[error("failed to prepare the volume")]
    Volume {
        /// The cause.
        source: VolumeError,
    },
    /// Two folders for one model.
    #[error("{model} is given twice")]
    Twice {
        /// The model.
        model: ModelRef,
    },
}

/// Folders and a volume.
#[derive(Debug)]
pub struct Library {
    folders: Vec<Offer>,
    volume: Option<Mutex<(Shelf, Arc<Catalog>)>>,
    /// What the folders alone offer.
    fixed: Arc<Catalog>,
}

impl Library {
    /// Opens everything and hashes what must be hashed. Blocks, for hours if the models are big and the disk is slow.
    pub fn open(folders: &[Folder], volume: Option<&Path>) -> Result<Self, LibraryError> {
        let mut offers: Vec<Offer> = Vec::new();
        for folder in folders {
            if offers.iter().any(|offer| offer.model == folder.model) {
                return Err(LibraryError::Twice { model: folder.model.clone() });
            }
            let offer = folder
                .offer()
                .map_err(|source| LibraryError::Folder { model: folder.model.clone(), source: Box::new(source) })?;
            offers.push(offer);
        }
        let fixed = Arc::new(Catalog::of(&offers));
        let opened = volume.map(Shelf::open).transpose().map_err(|source| LibraryError::Volume { source })?;
        let volume = opened.map(|shelf| Mutex::new((shelf, Arc::clone(&fixed))));
        let library = Self { folders: offers, volume, fixed };
        library.refresh(SystemTime::now()).map_err(|source| LibraryError::Volume { source })?;
        Ok(library)
    }

    /// How many repos are served now.
    pub fn repos(&self) -> usize {
        self.current().len()
    }

    /// What is served now. Blocks while a volume is looked at.
    pub(super) fn current(&self) -> Arc<Catalog> {
        match self.refresh(SystemTime::now()) {
            Ok(catalog) => catalog,
            Err(error) => {
                // What is known can still be served: each file is looked at again when it is opened.
                tracing::warn!("failed to look for new entries: {}", explain(&error));
                self.known()
            }
        }
    }

    /// Whether [`Self::current`] may block.
    pub(super) fn blocks(&self) -> bool {
        self.volume.is_some()
    }

    fn known(&self) -> Arc<Catalog> {
        match &self.volume {
            None => Arc::clone(&self.fixed),
            Some(volume) => Arc::clone(&volume.lock().unwrap_or_else(PoisonError::into_inner).1),
        }
    }

    fn refresh(&self, now: SystemTime) -> Result<Arc<Catalog>, VolumeError> {
        let Some(volume) = &self.volume else { return Ok(Arc::clone(&self.fixed)) };
        let mut volume = volume.lock().unwrap_or_else(PoisonError::into_inner);
        let (entries, catalog) = &mut *volume;
        if entries.refresh(now)? {
            *catalog = Arc::new(Catalog::of(self.folders.iter().chain(entries.offers())));
        }
        Ok(Arc::clone(catalog))
    }
}
