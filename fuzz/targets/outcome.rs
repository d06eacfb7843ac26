#![no_main]

#[path = "../checks/outcome.rs"]
mod outcome;

libfuzzer_sys::fuzz_target!(|input: &[u8]| outcome::check(input));
