#![no_main]

#[path = "../checks/tar.rs"]
mod tar;

libfuzzer_sys::fuzz_target!(|input: &[u8]| tar::check(input));
