#![no_main]

#[allow(dead_code, reason = "tar has a target of its own")]
#[path = "../checks/tar.rs"]
mod tar;
#[path = "../checks/zip.rs"]
mod zip;

libfuzzer_sys::fuzz_target!(|input: &[u8]| zip::check(input));
