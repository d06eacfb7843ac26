//! Which kind of archive some bytes are, by their beginning; names are not looked at.

use super::ArchiveError;
use super::tar::is_header;
use serde::{Deserialize, Serialize};

/// How many bytes from the beginning tell the kind: a tar's first header.
pub const PREFIX_BYTES: usize = 512;

/// A kind of archive that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Container {
    /// Not compressed.
    Tar,
    /// Compressed with gzip.
    TarGz,
    /// Compressed with zstd.
    TarZst,
    /// A zip archive.
    Zip,
}

/// What other files begin with, for a message that helps.
const OTHERS: &[(&[u8], &str)] = &[
    (b"\xfd7zXZ\0", "compressed with xz, which is not read"),
    (b"BZh", "compressed with bzip2, which is not read"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive, which is not read"),
    (b"Rar!", "a RAR archive, which is not read"),
    (b"\x04\x22\x4d\x18", "compressed with lz4, which is not read"),
    (b"MZ", "a program (a self-extracting archive is not read)"),
    (b"\x7fELF", "a program (a self-extracting archive is not read)"),
    (b"#!", "a script (a self-extracting archive is not read)"),
    (b"PK\x07\x08", "a part of a split zip archive, which is not read"),
    (b"PK00PK", "a part of a split zip archive, which is not read"),
    (b"<", "a web page or XML, not an archive"),
    (b"{", "JSON, not an archive"),
    (b"version https://git-lfs", "a pointer of git LFS, not an archive (run `git lfs pull` first)"),
];

/// Tells the kind by the first [`PREFIX_BYTES`], or all there are.
pub fn detect(prefix: &[u8]) -> Result<Container, ArchiveError> {
    if prefix.starts_with(b"PK\x03\x04") || prefix.starts_with(b"PK\x05\x06") {
        return Ok(Container::Zip);
    }
    if is_header(prefix) {
        return Ok(Container::Tar);
    }
    match prefix {
        [] => return Err(ArchiveError::Unknown { found: "empty" }),
        [0x1f, 0x8b, ..] => return Ok(Container::TarGz),
        // A frame, or one that is skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => return Ok(Container::TarZst),
        _ => {}
    }
    let other = OTHERS.iter().find(|(magic, _)| prefix.starts_with(magic));
    Err(ArchiveError::Unknown { found: other.map_or("no archive of a kind that is read", |(_, found)| found) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_by_their_beginning() {
        assert_eq!(detect(b"PK\x03\x04\x14").unwrap(), Container::Zip);
        assert_eq!(detect(b"\x1f\x8b\x08").unwrap(), Container::TarGz);
        assert_eq!(detect(b"\x28\xb5\x2f\xfd").unwrap(), Container::TarZst);
        // The end marker of an empty tar.
        assert_eq!(detect(&[0; 512]).unwrap(), Container::Tar);
        for (bytes, word) in [(&b""[..], "empty"), (b"MZ\x90", "program"), (b"BZh9", "bzip2"), (b"hello", "no archive")]
        {
            let error = detect(bytes).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
