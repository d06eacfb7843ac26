//! Archives, byte by byte: what no honest tool would write can be written here.

use flate2::Compression;
use std::io::Write;
use tar::{EntryType, Header};

pub(crate) const COMMIT: &str = "7dbbc90392e2f80f3d3c277d6e90027e55de9125";

/// Metadata of `org/tiny`.
pub(crate) fn metadata() -> String {
    format!(
        r#"{{"commitHash":"{COMMIT}","modelDefinition":{{"key":"hf@org/tiny"}},"url":"https://hub/org%2Ftiny","version":0}}"#
    )
}

pub(crate) const CONFIG: &[u8] = b"{\"model_type\": \"bert\"}\n";

/// A tar that grows.
#[derive(Clone)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// A root folder with a small model in it, and no end yet.
    pub(crate) fn seed() -> Self {
        Self::new().metadata().file("m/model/config.json", CONFIG)
    }

    pub(crate) fn metadata(self) -> Self {
        self.file("m/model_metadata.json", metadata().as_bytes())
    }

    /// A header of any name, type and size, with its checksum.
    pub(crate) fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Header {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(size);
        header.set_mtime(0);
        header.set_entry_type(EntryType::new(kind));
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        header
    }

    pub(crate) fn raw(mut self, header: &Header, data: &[u8]) -> Self {
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn member(self, name: &[u8], kind: u8, link: &[u8], data: &[u8]) -> Self {
        self.raw(&Self::header(name, kind, data.len() as u64, link), data)
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        self.member(name.as_bytes(), b'0', b"", data)
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.member(name.as_bytes(), b'5', b"", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(name.as_bytes(), b'2', target.as_bytes(), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.member(name.as_bytes(), b'1', target.as_bytes(), b"")
    }

    /// A PAX header for the next member.
    pub(crate) fn pax(self, key: &str, value: &[u8]) -> Self {
        self.member(b"PaxHeaders/x", b'x', b"", &record(key, value))
    }

    /// The end marker.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// One PAX record, whose length counts itself.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length.to_string().len() + body != length {
        length = length.to_string().len() + body;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A member of a zip, with everything that its two headers may say of it.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    /// The local header's name, where it is another one.
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// Added to the checksum in the directory, or in both.
    pub(crate) wrong_sum: u32,
    pub(crate) wrong_local_sum: u32,
    /// Added to the size in the directory.
    pub(crate) wrong_size: u32,
    pub(crate) mode: u32,
    pub(crate) made_by: u16,
    pub(crate) extra: Vec<u8>,
    pub(crate) disk: u16,
    pub(crate) is_zip64: bool,
    /// Where the directory says that it begins, where that is not true.
    pub(crate) at: Option<u32>,
}

impl Member {
    pub(crate) fn new(name: &str, data: &[u8]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            local_name: None,
            data: data.to_vec(),
            method: 0,
            flags: 0,
            wrong_sum: 0,
            wrong_local_sum: 0,
            wrong_size: 0,
            mode: 0o100_644,
            made_by: 3,
            extra: Vec::new(),
            disk: 0,
            is_zip64: false,
            at: None,
        }
    }

    pub(crate) fn deflated(mut self) -> Self {
        self.method = 8;
        self
    }

    /// With a descriptor behind the data.
    pub(crate) fn described(mut self) -> Self {
        self.flags |= 8;
        self
    }
}

/// A zip of these members.
pub(crate) fn zip(members: &[Member]) -> Vec<u8> {
    zip_with(members, |_| {})
}

/// The same, its end record changed before it is written.
pub(crate) fn zip_with(members: &[Member], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let at = member.at.unwrap_or(bytes.len() as u32);
        let packed = if member.method == 8 {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&member.data).unwrap();
            encoder.finish().unwrap()
        } else {
            member.data.clone()
        };
        let sum = crc32fast::hash(&member.data).wrapping_add(member.wrong_sum);
        let size = (member.data.len() as u32).wrapping_add(member.wrong_size);
        let common = |sum: u32, packed: u32, size: u32| {
            let mut fields = Vec::new();
            for field in [20, member.flags, member.method, 0, 0x21] {
                fields.extend_from_slice(&u16::to_le_bytes(field));
            }
            for field in [sum, packed, size] {
                fields.extend_from_slice(&field.to_le_bytes());
            }
            fields
        };
        let is_described = member.flags & 8 != 0;
        let local_sum = sum.wrapping_add(member.wrong_local_sum);
        let (open_sum, open_packed, open_size) =
            if is_described { (0, 0, 0) } else { (local_sum, packed.len() as u32, member.data.len() as u32) };
        let mut extra = member.extra.clone();
        let (mut wide_packed, mut wide_size) = (packed.len() as u32, size);
        if member.is_zip64 {
            extra.extend_from_slice(&[1, 0, 16, 0]);
            extra.extend_from_slice(&u64::from(size).to_le_bytes());
            extra.extend_from_slice(&(packed.len() as u64).to_le_bytes());
            (wide_packed, wide_size) = (u32::MAX, u32::MAX);
        }
        let (open_packed, open_size) = if member.is_zip64 { (u32::MAX, u32::MAX) } else { (open_packed, open_size) };
        let local_name = member.local_name.as_ref().unwrap_or(&member.name);
        bytes.extend_from_slice(b"PK\x03\x04");
        bytes.extend_from_slice(&common(open_sum, open_packed, open_size));
        bytes.extend_from_slice(&(local_name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(extra.len() as u16).to_le_bytes());
        bytes.extend_from_slice(local_name);
        bytes.extend_from_slice(&extra);
        bytes.extend_from_slice(&packed);
        if is_described {
            bytes.extend_from_slice(b"PK\x07\x08");
            for field in [local_sum, packed.len() as u32, member.data.len() as u32] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
        }
        directory.extend_from_slice(b"PK\x01\x02");
        directory.extend_from_slice(&(member.made_by << 8 | 0x14).to_le_bytes());
        directory.extend_from_slice(&common(sum, wide_packed, wide_size));
        for field in [member.name.len() as u16, extra.len() as u16, 0, member.disk, 0] {
            directory.extend_from_slice(&field.to_le_bytes());
        }
        directory.extend_from_slice(&(member.mode << 16).to_le_bytes());
        directory.extend_from_slice(&at.to_le_bytes());
        directory.extend_from_slice(&member.name);
        directory.extend_from_slice(&extra);
    }
    let at = bytes.len() as u32;
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    for _ in 0..2 {
        end.extend_from_slice(&(members.len() as u16).to_le_bytes());
    }
    end.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    end.extend_from_slice(&at.to_le_bytes());
    end.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&directory);
    change(&mut end);
    bytes.extend_from_slice(&end);
    bytes
}

/// The members of a small model.
pub(crate) fn seed() -> Vec<Member> {
    vec![Member::new("m/model_metadata.json", metadata().as_bytes()), Member::new("m/model/config.json", CONFIG)]
}

/// The same and others behind.
pub(crate) fn seed_and(others: impl IntoIterator<Item = Member>) -> Vec<Member> {
    seed().into_iter().chain(others).collect()
}
