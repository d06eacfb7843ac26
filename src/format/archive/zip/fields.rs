//! The fields of zip's records, all in little endian.

use super::directory::Entry;

pub(super) const LOCAL_BYTES: usize = 30;
/// The longest data descriptor: a signature, a checksum, two sizes of eight bytes.
pub(super) const DESCRIPTOR_BYTES: usize = 24;
/// A field of four bytes that does not fit says so, and is in an extra field.
pub(super) const ELSEWHERE: u32 = u32::MAX;
/// A descriptor follows the data.
pub(super) const HAS_DESCRIPTOR: u16 = 1 << 3;
/// What must be the same in both headers: encryption, descriptor, patches, strong encryption, UTF-8, masked headers.
const COMPARED_FLAGS: u16 = 1 | HAS_DESCRIPTOR | 1 << 5 | 1 << 6 | 1 << 11 | 1 << 13;
const ZIP64: u16 = 1;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(field)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

/// One of the extra fields; none if it is not there, an error if they make no sense or it is there twice.
pub(super) fn extra(fields: &[u8], wanted: u16) -> Result<Option<&[u8]>, &'static str> {
    const WRONG: &str = "its extra fields contradict themselves";
    let mut found = None;
    let mut rest = fields;
    // Some writers pad with fewer bytes than a field has.
    while rest.len() >= 4 {
        let (id, length) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
        let value = rest.get(4..4 + length).ok_or(WRONG)?;
        if id == wanted && found.replace(value).is_some() {
            return Err(WRONG);
        }
        rest = &rest[4 + length..];
    }
    Ok(found)
}

/// Replaces what is elsewhere by what the zip64 field has, in its fixed order.
pub(super) fn zip64(fields: &[u8], numbers: &mut [&mut u64]) -> Result<(), &'static str> {
    const WRONG: &str = "its zip64 field is missing or too short";
    if numbers.iter().all(|number| **number != u64::from(ELSEWHERE)) {
        return Ok(());
    }
    let mut value = extra(fields, ZIP64)?.ok_or(WRONG)?;
    for number in numbers.iter_mut().filter(|number| ***number == u64::from(ELSEWHERE)) {
        if value.len() < 8 {
            return Err(WRONG);
        }
        **number = u64_at(value, 0);
        value = &value[8..];
    }
    Ok(())
}

/// A local header.
pub(super) struct Local {
    flags: u16,
    method: u16,
    sum: u32,
    packed: u64,
    size: u64,
    pub(super) name_length: usize,
    pub(super) extra_length: usize,
}

impl Local {
    pub(super) fn parse(bytes: &[u8; LOCAL_BYTES]) -> Option<Self> {
        bytes.starts_with(b"PK\x03\x04").then(|| Self {
            flags: u16_at(bytes, 6),
            method: u16_at(bytes, 8),
            sum: u32_at(bytes, 14),
            packed: u32_at(bytes, 18).into(),
            size: u32_at(bytes, 22).into(),
            name_length: u16_at(bytes, 26).into(),
            extra_length: u16_at(bytes, 28).into(),
        })
    }

    pub(super) fn take_zip64(&mut self, fields: &[u8]) -> Result<(), &'static str> {
        zip64(fields, &mut [&mut self.size, &mut self.packed])
    }

    /// What it says that the directory does not. Before a descriptor, zeros say nothing.
    pub(super) fn differs(&self, entry: &Entry, name: &[u8]) -> Option<&'static str> {
        let open = entry.has_descriptor();
        let other = |mine: u64, its: u64| mine != its && !(open && mine == 0);
        if name != entry.name_in_header {
            Some("name")
        } else if self.method != entry.method {
            Some("method")
        } else if (self.flags ^ entry.flags) & COMPARED_FLAGS != 0 {
            Some("flags")
        } else if other(self.size, entry.size) || other(self.packed, entry.packed) {
            Some("size")
        } else if other(self.sum.into(), entry.sum.into()) {
            Some("checksum")
        } else {
            None
        }
    }
}

/// Whether bytes are a member's descriptor: with or without a signature, with sizes of four or eight bytes.
pub(super) fn is_descriptor(bytes: &[u8], entry: &Entry) -> bool {
    let forms = [(false, false), (true, false), (false, true), (true, true)];
    forms.iter().any(|(signed, wide)| {
        let mut form = Vec::with_capacity(DESCRIPTOR_BYTES);
        if *signed {
            form.extend_from_slice(b"PK\x07\x08");
        }
        form.extend_from_slice(&entry.sum.to_le_bytes());
        for number in [entry.packed, entry.size] {
            let number = number.to_le_bytes();
            form.extend_from_slice(if *wide { &number } else { &number[..4] });
        }
        bytes.starts_with(&form)
    })
}
