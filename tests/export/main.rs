//! Archives that are written: read back by programs of other people, killed, refused, sent.
#![allow(clippy::unwrap_used, clippy::panic, clippy::format_collect, reason = "a test that cannot go on shall panic")]

#[path = "../fakehub/mod.rs"]
mod fakehub;

mod archive;
mod kill;
mod pack;
mod rig;
mod trouble;
mod upload;
mod volume;
