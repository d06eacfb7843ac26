#![no_main]

#[path = "../checks/tree.rs"]
mod tree;

libfuzzer_sys::fuzz_target!(|input: &[u8]| tree::check(input));
