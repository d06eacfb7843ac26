//! What an archive may ask of its reader, in one place. `docs/ARCHIVES.md` names these figures.

use super::ArchiveError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The most members of an archive, headers that only describe the next one included.
pub const MEMBERS_MAX: u64 = 1_000_000;
/// The longest data of a PAX header, a GNU long name or a map of holes, in bytes.
pub const HEADER_DATA_MAX_BYTES: u64 = 1024 * 1024;
/// The largest window of a zstd frame, as a power of two: 128 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The most bytes that one byte of an archive may become, links that become copies included …
pub const RATIO_MAX: u64 = 200;
/// … once so many bytes were unpacked.
pub const RATIO_FREE_BYTES: u64 = 64 * 1024 * 1024;
/// The largest size of a file that is taken for a size: 1 PiB.
pub const FILE_MAX_BYTES: u64 = 1 << 50;
/// The longest names of all files and links together, in bytes: longer lists of checksums are not read either.
pub const NAMES_MAX_BYTES: usize = crate::format::sums::SUMS_MAX_BYTES;
/// The most names in a path, folders and file.
pub const DEPTH_MAX: usize = 128;
/// The longest file that may be a pointer of git LFS, in bytes.
pub const POINTER_MAX_BYTES: u64 = 1024;

/// What was read of one archive, and what that became. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    read: Arc<AtomicU64>,
    unpacked: Arc<AtomicU64>,
}

impl Budget {
    /// So many more bytes were read.
    pub fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many more bytes come out of the archive.
    pub fn unpack(&self, bytes: u64) -> Result<(), ArchiveError> {
        let read = self.read.load(Ordering::Relaxed);
        let unpacked = self.unpacked.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if unpacked > RATIO_FREE_BYTES && unpacked > read.saturating_mul(RATIO_MAX) {
            return Err(ArchiveError::Ratio { read, unpacked });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_may_be_dense_and_much_may_not() {
        let budget = Budget::default();
        budget.read(1);
        budget.unpack(RATIO_FREE_BYTES).unwrap();
        budget.unpack(1).unwrap_err();
        budget.read(RATIO_FREE_BYTES);
        budget.clone().unpack(RATIO_FREE_BYTES).unwrap();
    }
}
