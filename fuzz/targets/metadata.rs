#![no_main]

#[path = "../checks/metadata.rs"]
mod metadata;

libfuzzer_sys::fuzz_target!(|input: &[u8]| metadata::check(input));
