//! `modelcache serve`, the real binary, asked as clients ask a Hub.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall panic")]

mod api;
mod files;
mod process;
mod rig;
mod volume;
