//! Zip: no bytes make the reader panic, hang or give a name that leaves its folder.

use super::tar::{bytes_of, read};
use modelcache::format::archive::{Budget, Contents, Reader};

pub(crate) fn check(text: &[u8]) {
    let bytes = bytes_of(text);
    let budget = Budget::default();
    if let Ok(reader) = Reader::zip(std::io::Cursor::new(&bytes), &budget) {
        read(reader, Contents::new(false));
    }
}
