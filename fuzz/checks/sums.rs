//! `SHA256SUMS`: what can be read is written in one form only, and names nothing outside the model's folder.

use modelcache::format::sums::Sums;
use std::path::Component;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(sums) = Sums::parse(text) else { return };
    for (path, _) in sums.iter() {
        assert!(path.as_path().components().all(|name| matches!(name, Component::Normal(_))), "{path:?}");
    }
    let written = sums.to_string();
    assert_eq!(Sums::parse(&written).expect("what is written can be read"), sums);
    assert_eq!(sums.manifest(0).files, written.lines().count() as u64);
}
