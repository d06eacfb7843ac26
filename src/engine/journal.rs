//! The journal of a staging: which bytes of which file are on the disk for good. Pure: the text and its meaning.
//!
//! ```text
//! modelcache journal 1
//! 0 0 4194304          file 0 of the plan has its bytes 0 to 4194304 (without the last)
//! 0 drop               nothing of file 0 counts any more
//! ```
//!
//! A line is appended only after what it says is on the disk. The staging's own name says which plan the numbers belong
//! to. Whatever a crash leaves of the last line ends the reading, and a journal that lies costs a file's second transfer
//! at worst: a file is published only after all its bytes were hashed.

use super::ranges::{Coverage, Span};
use std::collections::HashMap;
use std::fmt::Write;

/// The first line. Another one makes the journal say nothing.
const HEAD: &str = "modelcache journal 1\n";
/// The longest journal that is read, in bytes: far more than it grows to before it is said again in fewer lines.
pub const JOURNAL_MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Reads a journal; `size_of` gives the size of a file of the plan, and nothing for a number that is not in it.
pub fn parse(bytes: &[u8], size_of: impl Fn(usize) -> Option<u64>) -> HashMap<usize, Coverage> {
    let mut files: HashMap<usize, Coverage> = HashMap::new();
    let Some(mut rest) = bytes.strip_prefix(HEAD.as_bytes()) else { return files };
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = std::str::from_utf8(&rest[..end]).ok().and_then(record);
        rest = &rest[end + 1..];
        let Some((file, span)) = line else { break };
        let Some(size) = size_of(file) else { break };
        match span {
            None => _ = files.remove(&file),
            Some(span) if span.end <= size => files.entry(file).or_default().insert(span),
            Some(_) => break,
        }
    }
    files
}

fn record(line: &str) -> Option<(usize, Option<Span>)> {
    let mut words = line.split(' ');
    let file = words.next()?.parse().ok()?;
    let span = match words.next()? {
        "drop" => None,
        start => Some(Span::new(start.parse().ok()?, words.next()?.parse().ok()?)),
    };
    let fits = words.next().is_none() && span.is_none_or(|span| span.start <= span.end);
    fits.then_some((file, span))
}

/// A journal that says just this.
pub fn text<'a>(files: impl IntoIterator<Item = (&'a usize, &'a Coverage)>) -> String {
    let mut text = HEAD.to_owned();
    for (file, coverage) in files {
        for span in coverage.spans() {
            add(&mut text, *file, *span);
        }
    }
    text
}

/// Adds the line of some bytes.
pub fn add(text: &mut String, file: usize, span: Span) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{file} {} {}", span.start, span.end);
}

/// Adds the line of a file that does not count any more.
pub fn add_drop(text: &mut String, file: usize) {
    let _ = writeln!(text, "{file} drop");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<(usize, Vec<(u64, u64)>)> {
        let parsed = parse(text.as_bytes(), |file| (file < 3).then_some(100));
        let mut files: Vec<_> = parsed
            .into_iter()
            .map(|(file, coverage)| (file, coverage.spans().iter().map(|span| (span.start, span.end)).collect()))
            .collect();
        files.sort_unstable();
        files
    }

    #[test]
    fn lines_add_up_until_one_is_broken() {
        let head = HEAD;
        assert_eq!(read(&format!("{head}0 0 10\n1 5 6\n0 10 20\n")), [(0, vec![(0, 20)]), (1, vec![(5, 6)])]);
        assert_eq!(read(&format!("{head}0 0 10\n0 drop\n0 50 60\n")), [(0, vec![(50, 60)])]);
        for tail in
            ["0 10 2", "0 10 20", "x\n0 10 20\n", "0 10 101\n0 10 20\n", "3 0 1\n0 10 20\n", "0 20 10\n0 10 20\n"]
        {
            assert_eq!(read(&format!("{head}0 0 10\n{tail}")), [(0, vec![(0, 10)])], "{tail:?}");
        }
        for text in ["", "0 0 10\n", "modelcache journal 2\n0 0 10\n"] {
            assert_eq!(read(text), []);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(spans in prop::collection::vec((0_usize..3, 0_u64..50, 0_u64..50), 0..20), cut in 0_usize..400) {
            let mut files: HashMap<usize, Coverage> = HashMap::new();
            let mut appended = HEAD.to_owned();
            for (file, start, length) in spans {
                let span = Span::new(start, start + length);
                files.entry(file).or_default().insert(span);
                add(&mut appended, file, span);
            }
            files.retain(|_, coverage| !coverage.is_empty());
            let size = |file| (file < 3).then_some(100);
            prop_assert_eq!(&parse(text(&files).as_bytes(), size), &files);
            let mut parsed = parse(appended.as_bytes(), size);
            parsed.retain(|_, coverage| !coverage.is_empty());
            prop_assert_eq!(&parsed, &files);
            // A torn journal never says more than the whole one.
            for (file, coverage) in parse(&appended.as_bytes()[..cut.min(appended.len())], size) {
                for span in coverage.spans() {
                    prop_assert!(files[&file].gaps(*span).is_empty());
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut text = HEAD.as_bytes().to_vec();
            text.extend(bytes);
            parse(&text, |_| Some(9));
        }
    }
}
