//! Zip: no bytes make the reader panic, hang or give a name that leaves its folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelcache::format::archive::{Budget, Contents, Reader, resolve};

/// Seeds are text, as no binaries are kept in git: two hex digits a byte, anything else is skipped.
fn bytes_of(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = text.iter().filter_map(|byte| char::from(*byte).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fuzz_target!(|text: &[u8]| {
    let bytes = bytes_of(text);
    let budget = Budget::default();
    let Ok(mut reader) = Reader::zip(std::io::Cursor::new(&bytes), &budget) else { return };
    let mut contents = Contents::new(false);
    let mut buffer = vec![0; 4096];
    while let Ok(Some(member)) = reader.next_member() {
        if contents.take(&member).is_err() {
            return;
        }
        let _ = reader.read(&mut buffer);
    }
    let _ = resolve(&contents, |_| true);
    let _ = contents.finish();
});
