//! The engine against a Hub with faults, in this process and as the real binary.
#![allow(clippy::unwrap_used, clippy::panic, clippy::format_collect, reason = "a test that cannot go on shall panic")]

#[path = "../fakehub/mod.rs"]
mod fakehub;

mod faults;
mod happy;
mod kill;
mod network;
mod refusals;
mod rig;
mod verify;
mod volume;
mod worker;
