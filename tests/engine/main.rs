//! The engine against a Hub with faults, in this process and as the real binary.

#[path = "../fakehub/mod.rs"]
mod fakehub;

mod faults;
mod happy;
mod kill;
mod network;
mod refusals;
mod rig;
mod volume;
mod worker;
