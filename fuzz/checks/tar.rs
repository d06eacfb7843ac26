//! Tar and what it may be compressed with: no bytes make the reader panic, hang or give a name that leaves its folder.

use modelcache::format::archive::{Budget, Contents, Place, Reader, detect, resolve};
use std::path::Component;

/// Seeds are text, as no binaries are kept in git: two hex digits a byte, anything else is skipped.
pub(crate) fn bytes_of(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.iter().filter_map(digit).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4) | pair[1]).collect()
}

/// Gives every block the checksum of a header: no mutation finds it by itself.
fn with_checksums(bytes: &mut [u8]) {
    if bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return;
    }
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|byte| *byte != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

pub(crate) fn check(text: &[u8]) {
    let mut bytes = bytes_of(text);
    with_checksums(&mut bytes);
    let Ok(container) = detect(&bytes[..bytes.len().min(512)]) else { return };
    let budget = Budget::default();
    if let Ok(reader) = Reader::tar(container, &bytes[..], Some(bytes.len() as u64), &budget) {
        read(reader, Contents::new(true));
    }
}

/// Reads an archive to its end, or to what is wrong with it.
pub(crate) fn read(mut reader: Reader<'_>, mut contents: Contents) {
    let mut buffer = vec![0; 4096];
    while let Ok(Some(member)) = reader.next_member() {
        match contents.take(&member) {
            Ok(Place::Model(path)) => {
                let mut names = path.as_path().components();
                assert!(names.all(|name| matches!(name, Component::Normal(_))), "{path:?}");
            }
            Ok(_) => {}
            Err(_) => return,
        }
        // Some of the data is read and the rest is skipped.
        let _ = reader.read(&mut buffer);
    }
    let _ = resolve(&contents, |_| true);
    let _ = contents.finish();
}
