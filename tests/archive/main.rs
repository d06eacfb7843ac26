//! Archives through the real binary: good ones of many makers, hostile ones of every kind, and kills at any moment.
#![allow(clippy::unwrap_used, clippy::panic, clippy::format_collect, reason = "a test that cannot go on shall panic")]
#![allow(clippy::cast_possible_truncation, reason = "archives made here are small")]

#[path = "../fakehub/mod.rs"]
mod fakehub;

mod build;
mod good;
mod hostile;
mod kill;
mod policy;
mod remote;
mod rig;
mod round;
mod sameness;
