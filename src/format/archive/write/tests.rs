use super::*;
use crate::format::task::ArchiveFormat;
use std::io::{Read, Write};

const FACTS: FileFacts = FileFacts { size: 5, crc32: 0x3610_a686 };

/// A small archive of `hello` under each path.
fn archive(container: Container, paths: &[&str]) -> Vec<u8> {
    let mut frame = Frame::new(container);
    let mut bytes = frame.folder("root");
    for path in paths {
        bytes.extend(frame.before_file(path, FACTS));
        bytes.extend(b"hello");
        bytes.extend(frame.after_file(FACTS));
    }
    bytes.extend(frame.end());
    assert_eq!(frame.length(), bytes.len() as u64);
    bytes
}

fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = ::tar::Archive::new(tar);
    let name = |entry: std::io::Result<::tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, if entry.header().entry_type().is_dir() { "" } else { "hello" });
        entry.path().unwrap().to_str().unwrap().to_owned()
    };
    archive.entries().unwrap().map(name).collect()
}

#[test]
fn long_and_foreign_names_come_back() {
    let long = format!("root/{}/{}é", "x".repeat(200), "é".repeat(120));
    for edge in 95..=110 {
        let name = format!("root/{}", "é".repeat(edge / 2) + &"y".repeat(edge % 2));
        assert_eq!(names(&archive(Container::Tar, &[&name, &long])), ["root/", &name, &long]);
    }
}

#[test]
fn the_bytes_never_change() {
    use sha2::Digest;
    let digest = |container| {
        let bytes = archive(container, &["root/model/config.json", &format!("root/model/{}", "n".repeat(150))]);
        crate::ident::hex(&sha2::Sha256::digest(bytes))
    };
    // A change here gives every archive another SHA-256: it must be meant, and in the CHANGELOG.
    assert_eq!(digest(Container::Tar), "bab8869066ed914d70eebdac4dbc69319e00adcaa632aa59a97c64384391b32c");
    assert_eq!(digest(Container::Zip), "40ac524947cd12ed19393bfc2459422ab11ca8cc24f132553aef6f6c20683fd0");
}

#[test]
fn sizes_beyond_eight_gibibytes_are_in_the_header() {
    let size = 20 << 30;
    let mut frame = Frame::new(Container::Tar);
    let header = frame.before_file("a", FileFacts { size, crc32: 0 });
    let parsed = ::tar::Header::from_byte_slice(&header);
    assert_eq!(parsed.entry_size().unwrap(), size);
    frame.end();
    assert_eq!(frame.length(), 512 + size + 1024);
}

/// A zip of holes: what a reader of the directory would see of it. The reader is Python's, in tests/export.
#[test]
fn large_members_and_offsets_get_their_64_bit_fields() {
    let large = FileFacts { size: 5 << 30, crc32: 7 };
    let mut frame = Frame::new(Container::Zip);
    let first = frame.before_file("a", large);
    assert_eq!(first[18..26], [0xff; 8]);
    assert_eq!(first[28..30], [20, 0]);
    let at = frame.length();
    let second = frame.before_file("b", FACTS);
    assert_eq!(second.len(), 31);
    let directory = frame.length();
    let end = frame.end();
    assert_eq!(frame.length(), directory + end.len() as u64);
    let second = 46 + 1 + 20;
    // The second member's sizes fit and its offset does not.
    assert_eq!(end[second + 20..second + 24], [5, 0, 0, 0]);
    assert_eq!(end[second + 42..second + 46], [0xff; 4]);
    assert_eq!(end[second + 51..second + 59], at.to_le_bytes());
    let tail = end.len() - 22 - 20 - 56;
    assert_eq!(end[tail..tail + 4], 0x0606_4b50_u32.to_le_bytes());
    assert_eq!(end[tail + 48..tail + 56], directory.to_le_bytes());
}

fn compressed(format: ArchiveFormat, workers: u32, pieces: usize, bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(format, workers, Vec::new()).unwrap();
    for piece in bytes.chunks(pieces) {
        compressor.write_all(piece).unwrap();
    }
    compressor.finish().unwrap()
}

/// Some that compress and some that do not, over several of the jobs that zstd cuts its input into.
fn sample() -> Vec<u8> {
    let noise = |n: u32| n.wrapping_mul(0x9e37_79b9).rotate_left(9).to_le_bytes();
    let mut bytes: Vec<u8> = (0..1_300_000).flat_map(noise).collect();
    bytes.extend(vec![7; 3_000_000]);
    bytes
}

#[test]
fn neither_the_number_of_workers_nor_the_pieces_change_the_bytes_of_zstd() {
    let bytes = sample();
    let one = compressed(ArchiveFormat::TarZst, 1, 256 * 1024, &bytes);
    for (workers, pieces) in [(0, 100_000), (2, 256 * 1024), (8, 999_983), (3, 40_000_000)] {
        assert!(compressed(ArchiveFormat::TarZst, workers, pieces, &bytes) == one, "{workers} workers, {pieces}");
    }
    let small = compressed(ArchiveFormat::TarZst, 1, 10, b"small");
    assert_eq!(compressed(ArchiveFormat::TarZst, 4, 1, b"small"), small);
    assert_eq!(zstd::decode_all(&small[..]).unwrap(), b"small");
}

#[test]
fn gzip_gives_the_same_bytes_for_the_same_pieces() {
    let bytes = sample();
    let one = compressed(ArchiveFormat::TarGz, 1, 256 * 1024, &bytes);
    assert!(compressed(ArchiveFormat::TarGz, 5, 256 * 1024, &bytes) == one);
    let mut back = Vec::new();
    flate2::read::GzDecoder::new(&one[..]).read_to_end(&mut back).unwrap();
    assert!(back == bytes);
}
