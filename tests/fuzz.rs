//! What `hack/fuzz` runs with a nightly compiler for as long as one likes, run briefly with any compiler: the checks of
//! `fuzz/checks`, on their seeds and on random changes of them. The same changes in every run; `MODELCACHE_SOAK` makes them many.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a check that finds something shall panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../fuzz/checks/headers.rs"]
mod headers;
#[path = "../fuzz/checks/journal.rs"]
mod journal;
#[path = "../fuzz/checks/metadata.rs"]
mod metadata;
#[path = "../fuzz/checks/outcome.rs"]
mod outcome;
#[path = "../fuzz/checks/sums.rs"]
mod sums;
#[path = "../fuzz/checks/tar.rs"]
mod tar;
#[path = "../fuzz/checks/task.rs"]
mod task;
#[path = "../fuzz/checks/tree.rs"]
mod tree;
#[path = "../fuzz/checks/zip.rs"]
mod zip;

/// The numbers of one run: another start, other changes.
const START: u64 = 0x6d6f_6465_6c63;
const CHANGES: usize = 30_000;
const CHANGES_OF_SOAK: usize = 3_000_000;
const LENGTH_MAX: usize = 16 * 1024;
/// What the formats are made of: a change that keeps the form reaches farther than one that breaks it.
const WORDS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    ";",
    "=",
    "<",
    ">",
    "/",
    "..",
    "-",
    " ",
    "\n",
    "\0",
    "é",
    "\u{202e}",
    "null",
    "1e400",
    "-1",
    "0",
    "18446744073709551615",
    "18446744073709551616",
    "drop",
    "bytes ",
    "rel=next",
    "r=0;t=",
    "C:",
    "\\u0000",
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64: short, and good enough for picking.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(16)).min(bytes.len());
    match random.below(7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
        2 => _ = bytes.drain(at..end),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => bytes.truncate(at),
        5 => {
            let other = random.of(seeds);
            let from = random.below(other.len() + 1);
            bytes.splice(at.., other[from..].iter().copied());
        }
        _ => _ = bytes.splice(at..end, random.of(WORDS).bytes()),
    }
    bytes.truncate(LENGTH_MAX);
}

fn run(name: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The system's order is not the same everywhere.
    paths.sort();
    let seeds: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let checked = |bytes: &[u8]| {
        let shown = String::from_utf8_lossy(bytes);
        assert!(catch_unwind(AssertUnwindSafe(|| check(bytes))).is_ok(), "{name}, found with: {shown:?}");
    };
    for seed in &seeds {
        checked(seed);
    }
    let changes = if std::env::var_os("MODELCACHE_SOAK").is_some() { CHANGES_OF_SOAK } else { CHANGES };
    let mut random = Random(START);
    for _ in 0..changes {
        let mut bytes = random.of(&seeds).clone();
        for _ in 0..=random.below(5) {
            change(&mut random, &mut bytes, &seeds);
        }
        checked(&bytes);
    }
}

/// One test for each check, and a list that must be that of the fuzz targets.
macro_rules! checks {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $name::check);
        })*

        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

checks!(headers, journal, metadata, outcome, sums, tar, task, tree, zip);

#[test]
fn every_fuzz_target_is_run_here() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/targets");
    let mut found: Vec<_> = std::fs::read_dir(targets).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert_eq!(found.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect::<Vec<_>>(), ALL);
}
