//! `model_metadata.json`: what can be read is written in one form only, and nothing of it is lost.

use modelcache::format::metadata::ModelMetadata;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(metadata) = ModelMetadata::parse(text) else { return };
    let written = metadata.to_json();
    let again = ModelMetadata::parse(&written).expect("what is written can be read");
    assert_eq!(again, metadata);
    assert_eq!(again.to_json(), written);
    assert_eq!(metadata.key.model().entry_name().model().unwrap(), *metadata.key.model());
}
