//! A staging's journal: whatever a crash or a broken disk leaves of it, it never says more than the plan allows, and what it
//! says can be written down and read again.

use modelcache::engine::journal::{parse, text};

const SIZES: [u64; 4] = [0, 1, 100, u64::MAX];

pub(crate) fn check(bytes: &[u8]) {
    let size_of = |file: usize| SIZES.get(file).copied();
    let mut parsed = parse(bytes, size_of);
    for (file, coverage) in &parsed {
        let mut before = None;
        for span in coverage.spans() {
            assert!(span.start < span.end && span.end <= SIZES[*file], "{file}: {span:?}");
            assert!(before.is_none_or(|end| end < span.start), "{file}: {coverage:?}");
            before = Some(span.end);
        }
    }
    parsed.retain(|_, coverage| !coverage.is_empty());
    assert_eq!(parse(text(&parsed).as_bytes(), size_of), parsed);
}
