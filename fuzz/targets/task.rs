#![no_main]

#[path = "../checks/task.rs"]
mod task;

libfuzzer_sys::fuzz_target!(|input: &[u8]| task::check(input));
