//! The few headers that the protocol needs, read strictly. Pure.

use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// How long the server wants to be left alone: `RateLimit` when it says that nothing remains, else `Retry-After`.
pub fn pause(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let limit = text("ratelimit").and_then(rate_limit);
    let seconds = limit.or_else(|| text(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok()))?;
    // A day is for ever to a download; it also keeps clocks from overflowing.
    Some(Duration::from_secs(seconds.min(24 * 3600)))
}

/// `"api";r=0;t=55` (draft-09 of the IETF's): the 55, since r is 0.
fn rate_limit(text: &str) -> Option<u64> {
    let mut remaining = None;
    let mut after = None;
    for part in text.split(';') {
        match part.trim().split_once('=') {
            Some(("r", value)) => remaining = value.parse::<u64>().ok(),
            Some(("t", value)) => after = value.parse::<u64>().ok(),
            _ => {}
        }
    }
    (remaining == Some(0)).then_some(after).flatten()
}

/// The address of the next page: `Link: <address>; rel="next"`.
pub fn next_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all("link").iter().filter_map(|value| value.to_str().ok()).find_map(next_of)
}

fn next_of(mut rest: &str) -> Option<String> {
    while let Some(start) = rest.find('<') {
        let (address, after) = rest[start + 1..].split_once('>')?;
        // The parameters of one link end where the next begins.
        let end = after.find('<').unwrap_or(after.len());
        let is_next = after[..end].split([';', ',']).any(|parameter| {
            parameter.trim().split_once('=').is_some_and(|(name, value)| {
                name.trim().eq_ignore_ascii_case("rel")
                    && value.trim().trim_matches('"').split(' ').any(|one| one.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(address.to_owned());
        }
        rest = &after[end..];
    }
    None
}

/// `bytes 5-9/10`: first, last and (where it is known) total.
pub fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn pauses() {
        let seconds = |name, value| pause(&headers(name, value)).map(|pause| pause.as_secs());
        assert_eq!(seconds("ratelimit", "\"resolvers\";r=0;t=55"), Some(55));
        assert_eq!(seconds("ratelimit", "\"api\";r=7;t=55"), None);
        assert_eq!(seconds("retry-after", "12"), Some(12));
        assert_eq!(seconds("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(seconds("retry-after", "18446744073709551615"), Some(86_400));
    }

    #[test]
    fn links() {
        let next = |value| next_link(&headers("link", value));
        assert_eq!(next("<http://h/a?cursor=x,y>; rel=\"next\""), Some("http://h/a?cursor=x,y".into()));
        assert_eq!(next("<http://h/p>; rel=prev, <http://h/n>; rel=next"), Some("http://h/n".into()));
        assert_eq!(next("<http://h/p>; rel=\"prev\""), None);
        assert_eq!(next("http://h/p; rel=next"), None);
    }

    #[test]
    fn ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for text in ["bytes */10", "bytes 5/10", "5-9/10", "bytes -1-9/10", ""] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "[ -~]{0,40}|[<>;,=\"relnxt /0-9*bytes-]{0,40}") {
            let _ = content_range(&text);
            let _ = next_of(&text);
            let _ = rate_limit(&text);
        }
    }
}
