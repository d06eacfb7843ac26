//! The headers of the protocol. The first byte of the input says which.

use http::{HeaderMap, HeaderValue};
use modelcache::hub::headers::{content_range, next_link, pause};
use std::time::Duration;

const A_DAY: Duration = Duration::from_hours(24);

pub(crate) fn check(input: &[u8]) {
    let Some((which, value)) = input.split_first() else { return };
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let name = match which {
        b'l' => "link",
        b'r' => "ratelimit",
        b'a' => "retry-after",
        _ => {
            if let Some(range) = value.to_str().ok().and_then(content_range) {
                let (first, last, total) = range;
                let total = total.map_or_else(|| "*".to_owned(), |total| total.to_string());
                assert_eq!(content_range(&format!("bytes {first}-{last}/{total}")), Some(range));
            }
            return;
        }
    };
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), value)]);
    assert!(pause(&headers).is_none_or(|pause| pause <= A_DAY));
    if let Some(next) = next_link(&headers) {
        assert!(!next.contains('>'));
    }
}
