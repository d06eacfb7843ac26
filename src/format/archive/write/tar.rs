//! Headers of tar, in GNU's form.

use tar::{EntryType, Header};

const BLOCK: usize = 512;
static ZEROS: [u8; BLOCK] = [0; BLOCK];
/// 1980-01-01, as in a zip, which has no earlier day. GNU tar warns of the first second of 1970.
const MTIME: u64 = 315_532_800;
/// The name of the member that holds the next one's name.
const LONG_NAME: &str = "././@LongLink";
/// The longest name that a header has room for, in bytes.
const NAME_MAX_BYTES: usize = 100;

/// A folder's header; the path ends with a slash.
pub(super) fn folder(path: &str) -> Vec<u8> {
    member(path, 0, EntryType::Directory, 0o755)
}

/// A file's header.
pub(super) fn file(path: &str, size: u64) -> Vec<u8> {
    member(path, size, EntryType::Regular, 0o644)
}

/// Zeros up to the end of a file's last block.
pub(super) fn padding(size: u64) -> &'static [u8] {
    // The remainder is below 512.
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { &[] } else { &ZEROS[over..] }
}

/// Two blocks of zeros.
pub(super) fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

fn member(path: &str, size: u64, kind: EntryType, mode: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    if path.len() > NAME_MAX_BYTES {
        let size = path.len() as u64 + 1;
        bytes.extend_from_slice(header(LONG_NAME, size, EntryType::GNULongName, 0o644).as_bytes());
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(padding(size));
    }
    let mut end = path.len().min(NAME_MAX_BYTES);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    bytes.extend_from_slice(header(&path[..end], size, kind, mode).as_bytes());
    bytes
}

fn header(name: &str, size: u64, kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    // From 8 GiB on in base 256.
    header.set_size(size);
    header.set_cksum();
    header
}
