//! Reading and hashing many files on all cores.

use super::Problem;
use crate::engine::progress::Progress;
use crate::engine::volume::{Dir, VolumeError};
use crate::ident::{RelPath, Sha256};
use rustix::fs::Advice;
use sha2::Digest;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Small enough for the nearer caches, large enough that the calls cost nothing.
const BUFFER_BYTES: usize = 256 * 1024;

/// What a file turned out to be.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Found {
    /// It was read to its end.
    Hashed { sha256: Sha256, bytes: u64 },
    /// It is not there.
    Missing,
    /// It could not be read.
    Unreadable(Arc<VolumeError>),
}

impl Found {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Hashed { bytes, .. } => *bytes,
            Self::Missing | Self::Unreadable(_) => 0,
        }
    }

    /// What is wrong with it, given what is listed.
    pub(super) fn against(&self, path: &RelPath, expected: Sha256) -> Option<Problem> {
        let path = path.clone();
        match self {
            Self::Hashed { sha256, .. } if *sha256 == expected => None,
            Self::Hashed { sha256, bytes } => Some(Problem::Changed { path, expected, found: *sha256, bytes: *bytes }),
            Self::Missing => Some(Problem::Missing { path }),
            Self::Unreadable(error) => Some(Problem::Unreadable { path, error: Arc::clone(error) }),
        }
    }
}

/// Hashes files below a folder, given with their sizes. One file is one core's work.
pub(in crate::engine) fn read_all(
    root: &Dir,
    files: BTreeMap<PathBuf, u64>,
    progress: &Progress,
) -> BTreeMap<PathBuf, Found> {
    let mut files: Vec<(PathBuf, u64)> = files.into_iter().collect();
    // The largest first: a large one that is begun last would be waited for alone.
    files.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut done = Vec::new();
        while let Some((path, _)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((path.clone(), look(root, path, &mut buffer, progress)));
            progress.file_done();
        }
        done
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(files.len());
    thread::scope(|scope| {
        let running: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for thread in running {
            done.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done.into_iter().collect()
    })
}

fn look(root: &Dir, path: &Path, buffer: &mut [u8], progress: &Progress) -> Found {
    let read = root.open_file(path).and_then(|opened| {
        let hashed = opened.map(|(file, _)| hash(file, buffer, progress)).transpose();
        hashed.map_err(|error| VolumeError::new("read", &root.shown(path), error))
    });
    match read {
        Ok(Some((sha256, bytes))) => Found::Hashed { sha256, bytes },
        Ok(None) => Found::Missing,
        Err(error) => Found::Unreadable(Arc::new(error)),
    }
}

fn hash(mut file: File, buffer: &mut [u8], progress: &Progress) -> io::Result<(Sha256, u64)> {
    // Advice that a file system does not take costs speed only.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
    let mut hasher = sha2::Sha256::new();
    let mut total = 0;
    loop {
        let got = match file.read(buffer) {
            Ok(0) => return Ok((Sha256::from_bytes(hasher.finalize().into()), total)),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..got]);
        total += got as u64;
        // The rate is made of what was fetched; here it is the disk that it is fetched from.
        progress.fetched(got as u64);
    }
}
