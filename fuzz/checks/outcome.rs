//! A worker's log, as the controller hears it: foreign lines change nothing, and the last word is the last.

use modelcache::format::outcome::{Heard, METADATA_MAX_BYTES, metadata_lines, shorten};

pub(crate) fn check(input: &[u8]) {
    let Ok(log) = std::str::from_utf8(input) else { return };
    let mut heard = Heard::default();
    let mut ended = None;
    for line in log.lines() {
        heard.hear("n", line);
        if ended.is_none() {
            ended.clone_from(&heard.outcome);
        }
    }
    assert_eq!(heard.outcome, ended);
    let mut other = Heard::default();
    log.lines().for_each(|line| other.hear("another nonce", line));
    if !log.contains("nonce") {
        assert_eq!((other, heard.metadata()), (Heard::default(), None));
    }
    assert!(shorten(log, 100).len() <= 100);
    // Any text goes through the log, though a log is where it comes from.
    let mut again = Heard::default();
    for line in metadata_lines("n", log) {
        again.hear("n", &serde_json::to_string(&line).unwrap());
    }
    assert!(log.is_empty() || log.len() > METADATA_MAX_BYTES || again.metadata().as_deref() == Some(log));
}
