//! Which files are in LFS, and what files hash to: streamed, and several at a time.

use super::catalog::Stamp;
use crate::ident::{FileDigest, GitBlobSha1, RelPath, Sha256};
use sha2::Digest;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// From this size on a file is in LFS whatever its name, as on the Hub.
const LFS_MIN_BYTES: u64 = 10 * 1024 * 1024;
/// The endings of weights and other binaries, which are in LFS whatever their size.
const LFS_ENDINGS: [&str; 21] = [
    "arrow",
    "bin",
    "ckpt",
    "ftz",
    "gguf",
    "h5",
    "joblib",
    "model",
    "msgpack",
    "npy",
    "npz",
    "onnx",
    "onnx_data",
    "ot",
    "parquet",
    "pb",
    "pickle",
    "pkl",
    "pt",
    "pth",
    "safetensors",
];
/// The size of the buffer in which files are read.
const BUFFER_BYTES: usize = 256 * 1024;

/// Whether the Hub would keep such a file in LFS.
pub(super) fn in_lfs(path: &RelPath, size: u64) -> bool {
    let ending = path.file_name().rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    size >= LFS_MIN_BYTES || ending.is_some_and(|ending| LFS_ENDINGS.contains(&ending.as_str()))
}

/// Both digests of a file, and the state it was in. A file that changes meanwhile is an error.
pub(super) fn both(file: &File) -> io::Result<(Sha256, GitBlobSha1, Stamp)> {
    let mut sha256 = sha2::Sha256::new();
    let mut git = None;
    let stamp = read(file, |stamp, bytes| {
        sha256.update(bytes);
        git.get_or_insert_with(|| git_blob(stamp.size)).update(bytes);
    })?;
    let git = git.unwrap_or_else(|| git_blob(0));
    Ok((Sha256::from_bytes(sha256.finalize().into()), GitBlobSha1::from_bytes(git.finalize().into()), stamp))
}

/// The digest that the Hub would promise of a file, and the state it was in.
pub(super) fn promised(path: &RelPath, file: &File) -> io::Result<(FileDigest, Stamp)> {
    if in_lfs(path, file.metadata()?.len()) {
        let mut hash = sha2::Sha256::new();
        let stamp = read(file, |_, bytes| hash.update(bytes))?;
        return Ok((FileDigest::Sha256(Sha256::from_bytes(hash.finalize().into())), stamp));
    }
    let (_, git, stamp) = both(file)?;
    Ok((FileDigest::GitBlob(git), stamp))
}

fn git_blob(size: u64) -> sha1::Sha1 {
    sha1::Sha1::new_with_prefix(format!("blob {size}\0"))
}

fn read(mut file: &File, mut feed: impl FnMut(Stamp, &[u8])) -> io::Result<Stamp> {
    let stamp = Stamp::of(file)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut total = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => {
                feed(stamp, &buffer[..got]);
                total += got as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if total != stamp.size || Stamp::of(file)? != stamp {
        return Err(io::Error::other("it changed while it was read"));
    }
    Ok(stamp)
}

/// Does the same work on many things, on as many threads as there are processors; the results come in the things' order.
pub(super) fn in_parallel<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(things.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(things.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((index, thing)) = take(&next, things) {
                    let result = work(thing);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(next: &AtomicUsize, things: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    things.get(index).map(|thing| (index, thing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn lfs_goes_by_name_and_size() {
        let lfs = |path: &str, size| in_lfs(&path.parse().unwrap(), size);
        assert!(
            lfs("a/model.safetensors", 0) && lfs("x.BIN", 1) && lfs("tokenizer.model", 1) && lfs("x", LFS_MIN_BYTES)
        );
        assert!(!lfs("config.json", 9) && !lfs("bin", 9) && !lfs("x.bin/readme", 9));
    }

    #[test]
    fn digests_as_git_and_sha256sum_have_them() {
        let (sha256, git, stamp) = both(&file(b"hello\n")).unwrap();
        assert_eq!(sha256.to_string(), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(git.to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(stamp.size, 6);
        let (_, empty, _) = both(&file(b"")).unwrap();
        assert_eq!(empty.to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    }

    #[test]
    fn parallel_results_keep_their_order() {
        let things: Vec<u32> = (0..100).collect();
        assert_eq!(in_parallel(&things, |thing| thing * 2), (0..100).map(|thing| thing * 2).collect::<Vec<_>>());
        assert!(in_parallel(&[0u8; 0], |_| ()).is_empty());
    }
}
