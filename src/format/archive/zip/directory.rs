//! The directory at a zip's end: what it says, and what of that is refused before a member is looked at.

use super::super::error::shown;
use super::fields::{ELSEWHERE, HAS_DESCRIPTOR, extra, u16_at, u32_at, u64_at, zip64};
use crate::format::archive::limits::{FILE_MAX_BYTES, MEMBERS_MAX, NAMES_MAX_BYTES};
use crate::format::archive::{ArchiveError, MemberKind};
use std::io::{BufReader, Read, Seek, SeekFrom};

const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const END64_BYTES: usize = 56;
const ENTRY_BYTES: usize = 46;
/// The end record, its comment of at most 64 KiB, and the locator before it.
const TAIL_BYTES: u64 = (END_BYTES + 0xffff + LOCATOR_BYTES) as u64;
const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;
/// Encrypted, patched, strongly encrypted, or with masked headers.
const REFUSED_FLAGS: u16 = 1 | 1 << 5 | 1 << 6 | 1 << 13;
/// The field of names in UTF-8 besides those in the header, by Info-ZIP.
const UNICODE_PATH: u16 = 0x7075;
/// Systems that separate names with `\`: FAT, NTFS, VFAT.
const BACKSLASH_SYSTEMS: [u16; 3] = [0, 10, 14];

/// The members, in the order in which they lie in the file.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) entries: Vec<Entry>,
    /// Where the directory begins, and so the members end.
    pub(super) at: u64,
    /// The length of the whole file.
    pub(super) length: u64,
}

/// What the directory says of a member.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) name_in_header: Vec<u8>,
    pub(super) backslashes: bool,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) sum: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    pub(super) at: u64,
    attributes: u32,
}

/// Where the directory is.
struct End {
    at: u64,
    length: u64,
    count: u64,
}

impl Directory {
    pub(super) fn read(input: &mut (impl Read + Seek)) -> Result<Self, ArchiveError> {
        let failed = |error| ArchiveError::from_io(error, None);
        let length = input.seek(SeekFrom::End(0)).map_err(failed)?;
        let start = length.saturating_sub(TAIL_BYTES);
        input.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut tail = Vec::new();
        input.by_ref().take(TAIL_BYTES).read_to_end(&mut tail).map_err(failed)?;
        let end = find_end(input, &tail, start)?;
        input.seek(SeekFrom::Start(end.at)).map_err(failed)?;
        let mut entries = read_entries(BufReader::new(input.by_ref().take(end.length)), &end)?;
        entries.sort_by_key(|entry| entry.at);
        if entries.first().is_some_and(|first| first.at != 0) {
            return Err(whole("something is before its first member (a self-extracting archive is not read)"));
        }
        for pair in entries.windows(2) {
            if pair[0].at == pair[1].at {
                return Err(ArchiveError::damaged(&pair[1].shown(), "it overlaps another member"));
            }
        }
        if let Some(last) = entries.last().filter(|last| last.at >= end.at) {
            return Err(ArchiveError::damaged(&last.shown(), "it lies behind the directory"));
        }
        Ok(Self { entries, at: end.at, length })
    }
}

fn whole(why: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged { member: None, why: why.into() }
}

fn split() -> ArchiveError {
    whole("it is a part of a split archive, which is not read")
}

/// Finds the end record in the file's last bytes, which begin at `start`.
fn find_end(input: &mut (impl Read + Seek), tail: &[u8], start: u64) -> Result<End, ArchiveError> {
    let is_end = |at: &usize| {
        tail[*at..].starts_with(b"PK\x05\x06") && at + END_BYTES + usize::from(u16_at(tail, at + 20)) == tail.len()
    };
    let mut ends = (0..tail.len().saturating_sub(END_BYTES - 1)).filter(is_end);
    let at = ends.next().ok_or(ArchiveError::Cut { member: None })?;
    if ends.next().is_some() {
        return Err(whole("two end records could be its end"));
    }
    let record = &tail[at..];
    if [u16_at(record, 4), u16_at(record, 6)].iter().any(|disk| *disk != 0 && *disk != 0xffff) {
        return Err(split());
    }
    let small =
        End { at: u32_at(record, 16).into(), length: u32_at(record, 12).into(), count: u16_at(record, 10).into() };
    if u16_at(record, 8) != u16_at(record, 10) {
        return Err(split());
    }
    let locator =
        at.checked_sub(LOCATOR_BYTES).map(|from| &tail[from..at]).filter(|bytes| bytes.starts_with(b"PK\x06\x07"));
    let (end, behind) = match locator {
        None => (small, start + at as u64),
        Some(locator) => read_end64(input, locator, start + (at - LOCATOR_BYTES) as u64, &small)?,
    };
    if end.at.checked_add(end.length) != Some(behind) {
        return Err(whole("its directory is not where its end record says (or something was put before it)"));
    }
    if end.count > MEMBERS_MAX {
        return Err(ArchiveError::TooMany { member: format!("number {}", end.count) });
    }
    Ok(end)
}

/// Reads the end record of zip64; gives where it begins too. Both records must say the same.
fn read_end64(
    input: &mut (impl Read + Seek),
    locator: &[u8],
    behind: u64,
    small: &End,
) -> Result<(End, u64), ArchiveError> {
    let failed = |error| ArchiveError::from_io(error, None);
    if u32_at(locator, 4) != 0 || u32_at(locator, 16) > 1 {
        return Err(split());
    }
    let at = u64_at(locator, 8);
    if at >= behind {
        return Err(whole("its zip64 end record is not where its locator says"));
    }
    let mut record = [0; END64_BYTES];
    input.seek(SeekFrom::Start(at)).map_err(failed)?;
    input.read_exact(&mut record).map_err(failed)?;
    let ends = at.checked_add(12).and_then(|at| at.checked_add(u64_at(&record, 4)));
    if !record.starts_with(b"PK\x06\x06") || ends != Some(behind) {
        return Err(whole("its zip64 end record is not where its locator says"));
    }
    if u32_at(&record, 16) != 0 || u32_at(&record, 20) != 0 || u64_at(&record, 24) != u64_at(&record, 32) {
        return Err(split());
    }
    let end = End { at: u64_at(&record, 48), length: u64_at(&record, 40), count: u64_at(&record, 32) };
    let same = |small: u64, wide: u64, most: u64| small == most || small == wide;
    let elsewhere = u64::from(ELSEWHERE);
    if !same(small.at, end.at, elsewhere)
        || !same(small.length, end.length, elsewhere)
        || !same(small.count, end.count, 0xffff)
    {
        return Err(whole("its two end records disagree"));
    }
    Ok((end, at))
}

fn read_entries(mut input: impl Read, end: &End) -> Result<Vec<Entry>, ArchiveError> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut used, mut names) = (0_u64, 0_usize);
    for _ in 0..end.count {
        let last = entries.last().map(Entry::shown);
        let cut = |error| ArchiveError::from_io(error, last.as_deref());
        let mut record = [0; ENTRY_BYTES];
        input.read_exact(&mut record).map_err(cut)?;
        if !record.starts_with(b"PK\x01\x02") {
            return Err(whole("its directory has fewer members than its end record says"));
        }
        let lengths = [28, 30, 32].map(|at| usize::from(u16_at(&record, at)));
        let mut texts = vec![0; lengths.iter().sum()];
        input.read_exact(&mut texts).map_err(cut)?;
        used += (ENTRY_BYTES + texts.len()) as u64;
        let entry = Entry::parse(&record, &texts[..lengths[0]], &texts[lengths[0]..lengths[0] + lengths[1]])?;
        names = names.saturating_add(lengths[0]).saturating_add(entry.name.len());
        if names > NAMES_MAX_BYTES {
            return Err(ArchiveError::TooMany { member: entry.shown() });
        }
        entries.push(entry);
    }
    if used != end.length {
        return Err(whole("its directory has more members than its end record says"));
    }
    Ok(entries)
}

impl Entry {
    fn parse(record: &[u8; ENTRY_BYTES], name: &[u8], fields: &[u8]) -> Result<Self, ArchiveError> {
        let text = String::from_utf8_lossy(name).into_owned();
        let damaged = |why: &'static str| ArchiveError::damaged(&text, why);
        let (mut packed, mut size) = (u64::from(u32_at(record, 20)), u64::from(u32_at(record, 24)));
        let mut at = u64::from(u32_at(record, 42));
        zip64(fields, &mut [&mut size, &mut packed, &mut at]).map_err(damaged)?;
        let (flags, method) = (u16_at(record, 8), u16_at(record, 10));
        if !matches!(u16_at(record, 34), 0 | 0xffff) {
            return Err(split());
        }
        if flags & REFUSED_FLAGS != 0 {
            return Err(ArchiveError::unsupported(&text, "is encrypted or patched, which is not read"));
        }
        if method != STORED && method != DEFLATED {
            return Err(ArchiveError::unsupported(
                &text,
                format!("is compressed with method {method}: only stored and deflated ones are read"),
            ));
        }
        if size > FILE_MAX_BYTES || packed > FILE_MAX_BYTES {
            return Err(ArchiveError::Size { member: shown(&text) });
        }
        if method == STORED && size != packed {
            return Err(damaged("it is stored, and its two sizes differ"));
        }
        let wide = extra(fields, UNICODE_PATH).map_err(damaged)?;
        let wide = wide.map(|field| unicode_path(field, name)).transpose().map_err(damaged)?;
        Ok(Self {
            name: wide.unwrap_or_else(|| name.to_owned()),
            name_in_header: name.to_owned(),
            backslashes: BACKSLASH_SYSTEMS.contains(&(u16_at(record, 4) >> 8)),
            flags,
            method,
            sum: u32_at(record, 16),
            packed,
            size,
            at,
            attributes: u32_at(record, 38),
        })
    }

    pub(super) fn shown(&self) -> String {
        shown(&String::from_utf8_lossy(&self.name))
    }

    pub(super) fn has_descriptor(&self) -> bool {
        self.flags & HAS_DESCRIPTOR != 0
    }

    /// What the attributes and the name say that it is; a link's target is its data.
    pub(super) fn kind(&self) -> Result<MemberKind, ArchiveError> {
        const FOLDER_ATTRIBUTE: u32 = 0x10;
        let is_folder_name = self.name.ends_with(b"/") || (self.backslashes && self.name.ends_with(b"\\"));
        let kind = match (self.attributes >> 16) & 0o170_000 {
            0o040_000 => MemberKind::Folder,
            0o120_000 => MemberKind::Symlink { target: Vec::new() },
            0 | 0o100_000 if is_folder_name => MemberKind::Folder,
            0 if self.attributes & FOLDER_ATTRIBUTE != 0 && self.size == 0 => MemberKind::Folder,
            0 | 0o100_000 => MemberKind::File { size: self.size },
            _ => MemberKind::Special,
        };
        if kind == MemberKind::Folder && self.size > 0 {
            return Err(ArchiveError::damaged(&self.shown(), "it is a folder and has data"));
        }
        Ok(kind)
    }
}

/// The name in Info-ZIP's field, if it is this name's: it holds the checksum of the one in the header.
fn unicode_path(field: &[u8], name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if field.len() < 5 || field[0] != 1 || u32_at(field, 1) != crc32fast::hash(name) {
        return Err("its Unicode name is of another name");
    }
    Ok(field[5..].to_vec())
}
