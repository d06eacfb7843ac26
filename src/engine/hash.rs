//! Hashing a file's bytes once, for everything that is asked of them.

use crate::ident::{FileDigest, GitBlobSha1, Sha256};
use sha2::Digest;
use std::io::{self, Read};

/// The size of the buffer in which files are read.
const BUFFER_BYTES: usize = 512 * 1024;

/// What a file's bytes hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashed {
    /// For `SHA256SUMS`.
    pub(super) sha256: Sha256,
    /// In the Hub's own kind.
    pub(super) digest: FileDigest,
}

/// A running hash.
pub(super) struct Hasher {
    sha256: sha2::Sha256,
    git: Option<sha1::Sha1>,
}

impl Hasher {
    /// For a file of `size` bytes that must become `expected`: git's digest begins with the size, so it must be known.
    pub(super) fn new(expected: &FileDigest, size: u64) -> Self {
        match expected {
            FileDigest::Sha256(_) => Self::plain(),
            FileDigest::GitBlob(_) => Self::with_git(size),
        }
    }

    /// For a file of which nothing is promised.
    pub(super) fn plain() -> Self {
        Self { sha256: sha2::Sha256::new(), git: None }
    }

    /// The same, with git's digest of it as well.
    pub(super) fn with_git(size: u64) -> Self {
        Self { git: Some(sha1::Sha1::new_with_prefix(format!("blob {size}\0"))), ..Self::plain() }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    /// Reads everything from a reader; gives the number of bytes.
    pub(super) fn read(&mut self, mut from: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut total = 0;
        loop {
            let got = match from.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.update(&buffer[..got]);
            total += got as u64;
        }
    }

    pub(super) fn finish(self) -> Hashed {
        let sha256 = Sha256::from_bytes(self.sha256.finalize().into());
        let digest = match self.git {
            Some(git) => FileDigest::GitBlob(GitBlobSha1::from_bytes(git.finalize().into())),
            None => FileDigest::Sha256(sha256),
        };
        Hashed { sha256, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_as_git_and_sha256sum_have_them() {
        let hash = |expected: FileDigest| {
            let mut hasher = Hasher::new(&expected, 6);
            assert_eq!(hasher.read(&b"hello\n"[..]).unwrap(), 6);
            hasher.finish()
        };
        let git = FileDigest::GitBlob("ce013625030ba8dba906f756967f9e9ca394464a".parse().unwrap());
        let sha: Sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".parse().unwrap();
        assert_eq!(hash(git), Hashed { sha256: sha, digest: git });
        assert_eq!(hash(FileDigest::Sha256(sha)).digest, FileDigest::Sha256(sha));
    }
}
