//! Headers of zip: members as they are (stored), sizes and CRC before the bytes, 64-bit fields only where they are needed.
//!
//! By hand, since what writes zip streams otherwise puts the CRC after the bytes, and Java's reader, for one, takes no
//! stored member like that. The format is PKWARE's APPNOTE 6.3.

use super::FileFacts;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const EXTRA_64: u16 = 1;
/// Version 2.0 knows folders, 4.5 knows 64-bit fields.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
/// The attributes are Unix's.
const MADE_BY_UNIX: u16 = 3 << 8;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
/// 1980-01-01 00:00, the first moment that there is.
const DATE: u16 = 1 << 5 | 1;
const FOLDER_ATTRIBUTES: u32 = 0o040_755 << 16 | 0x10;
const FILE_ATTRIBUTES: u32 = 0o100_644 << 16;

/// What the archive's end says of the members so far.
#[derive(Debug, Default)]
pub(super) struct Directory {
    bytes: Vec<u8>,
    members: u64,
}

impl Directory {
    /// A folder's header; the path ends with a slash.
    pub(super) fn folder(&mut self, path: &str, offset: u64) -> Vec<u8> {
        self.add(path, FileFacts { size: 0, crc32: 0 }, FOLDER_ATTRIBUTES, offset)
    }

    /// A file's header.
    pub(super) fn file(&mut self, path: &str, facts: FileFacts, offset: u64) -> Vec<u8> {
        self.add(path, facts, FILE_ATTRIBUTES, offset)
    }

    fn add(&mut self, path: &str, facts: FileFacts, attributes: u32, offset: u64) -> Vec<u8> {
        let FileFacts { size, crc32 } = facts;
        // A local header has both sizes in 64 bits or none.
        let extra = extra(&if small(size).is_none() { vec![size, size] } else { Vec::new() });
        let mut local = Vec::new();
        put_32(&mut local, LOCAL);
        put_common(&mut local, path, facts, !extra.is_empty());
        put_16(&mut local, length(&extra));
        local.extend_from_slice(path.as_bytes());
        local.extend_from_slice(&extra);

        let mut large = if small(size).is_none() { vec![size, size] } else { Vec::new() };
        if small(offset).is_none() {
            large.push(offset);
        }
        let extra = self::extra(&large);
        let bytes = &mut self.bytes;
        put_32(bytes, CENTRAL);
        put_16(bytes, MADE_BY_UNIX | VERSION_64);
        put_common(bytes, path, FileFacts { size, crc32 }, !extra.is_empty());
        put_16(bytes, length(&extra));
        // No comment, the first disk, no internal attributes.
        bytes.extend_from_slice(&[0; 6]);
        put_32(bytes, attributes);
        put_32(bytes, small(offset).unwrap_or(u32::MAX));
        bytes.extend_from_slice(path.as_bytes());
        bytes.extend_from_slice(&extra);
        self.members += 1;
        local
    }

    /// The directory and what follows it; `offset` is where it begins.
    pub(super) fn end(self, offset: u64) -> Vec<u8> {
        let Self { mut bytes, members } = self;
        let size = bytes.len() as u64;
        let few = u16::try_from(members).ok().filter(|members| *members != u16::MAX);
        if few.is_none() || small(size).is_none() || small(offset).is_none() {
            put_32(&mut bytes, END_64);
            // The record's size, without this field and the one before.
            put_64(&mut bytes, 44);
            put_16(&mut bytes, MADE_BY_UNIX | VERSION_64);
            put_16(&mut bytes, VERSION_64);
            bytes.extend_from_slice(&[0; 8]);
            for field in [members, members, size, offset] {
                put_64(&mut bytes, field);
            }
            put_32(&mut bytes, LOCATOR_64);
            put_32(&mut bytes, 0);
            put_64(&mut bytes, offset + size);
            put_32(&mut bytes, 1);
        }
        put_32(&mut bytes, END);
        bytes.extend_from_slice(&[0; 4]);
        for _ in 0..2 {
            put_16(&mut bytes, few.unwrap_or(u16::MAX));
        }
        put_32(&mut bytes, small(size).unwrap_or(u32::MAX));
        put_32(&mut bytes, small(offset).unwrap_or(u32::MAX));
        put_16(&mut bytes, 0);
        bytes
    }
}

/// The fields that both kinds of headers have, from the needed version to the name's length.
fn put_common(bytes: &mut Vec<u8>, path: &str, facts: FileFacts, is_64: bool) {
    put_16(bytes, if is_64 { VERSION_64 } else { VERSION });
    put_16(bytes, UTF8);
    // Stored, at midnight.
    put_32(bytes, 0);
    put_16(bytes, DATE);
    put_32(bytes, facts.crc32);
    for _ in 0..2 {
        put_32(bytes, small(facts.size).unwrap_or(u32::MAX));
    }
    put_16(bytes, length(path.as_bytes()));
}

/// The field with what has no room in 32 bits.
fn extra(large: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if !large.is_empty() {
        put_16(&mut bytes, EXTRA_64);
        put_16(&mut bytes, length(large) * 8);
        for field in large {
            put_64(&mut bytes, *field);
        }
    }
    bytes
}

/// A number that 32 bits have room for; the largest one means that it is elsewhere.
fn small(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| *number != u32::MAX)
}

/// Paths have at most 4096 bytes and a root's name before them, extra fields three numbers.
fn length<T>(of: &[T]) -> u16 {
    u16::try_from(of.len()).unwrap_or(u16::MAX)
}

fn put_16(bytes: &mut Vec<u8>, number: u16) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_64(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}
