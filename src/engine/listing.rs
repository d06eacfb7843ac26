//! Which archives a folder holds.
//!
//! A file is an archive by its first bytes, whatever its name: lists of digests and notes lie beside archives on every
//! disk that is carried around. What is wrong inside an archive is told when it is imported.

use super::volume::{Dir, Kind, VolumeError};
use super::{EngineError, Finished, Told, blocking};
use crate::format::archive::{PREFIX_BYTES, detect};
use crate::format::outcome::{Done, Listing, METADATA_MAX_BYTES};
use crate::format::task::{List, Task};
use std::io::Read;
use std::path::Path;

/// So many of the files that are no archives are named.
const NAMED_MAX: usize = 5;

/// Lists a folder: the regular files in it, without those whose names begin with a dot. Links are not followed.
pub async fn run(task: &Task, list: &List) -> Result<Finished, EngineError> {
    let (volume, list) = (task.volume.clone(), list.clone());
    blocking(move || {
        let root = Dir::open_root(&volume).map_err(EngineError::Volume)?;
        let below = list.folder.as_ref().map_or(Path::new(""), |folder| folder.as_path());
        let folder = root.open_dir(below).map_err(EngineError::Volume)?;
        let folder = folder.ok_or_else(|| EngineError::NoFolder { origin: list.origin.clone() })?;
        let listing = listing(&folder).map_err(EngineError::Volume)?;
        let bytes = serde_json::json!(listing).to_string().len();
        if bytes > METADATA_MAX_BYTES {
            let (archives, max) = (listing.archives.len(), METADATA_MAX_BYTES);
            return Err(EngineError::LongListing { origin: list.origin, archives, bytes, max });
        }
        Ok(Finished { done: Done::default(), told: Told::Listing(listing) })
    })
    .await
}

fn listing(folder: &Dir) -> Result<Listing, VolumeError> {
    let mut listing = Listing::default();
    for name in folder.list()? {
        let path = Path::new(&name);
        if name.as_encoded_bytes().starts_with(b".") || folder.kind(path)? != Some(Kind::File) {
            continue;
        }
        // A name that is no text cannot be in a manifest either.
        match name.to_str() {
            // One that cannot be read keeps no other out: its own entry says why.
            Some(text) if beginning(folder, path).map_or(true, |bytes| detect(&bytes).is_ok()) => {
                listing.archives.push(text.to_owned());
            }
            _ => {
                listing.others += 1;
                if listing.such_as.len() < NAMED_MAX {
                    listing.such_as.push(name.to_string_lossy().into_owned());
                }
            }
        }
    }
    Ok(listing)
}

fn beginning(folder: &Dir, name: &Path) -> Result<Vec<u8>, VolumeError> {
    // It may go while we look: then it is none.
    let Some((file, _)) = folder.open_file(name)? else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let read = file.take(PREFIX_BYTES as u64).read_to_end(&mut bytes);
    read.map_err(|error| VolumeError::new("read", &folder.shown(name), error))?;
    Ok(bytes)
}
