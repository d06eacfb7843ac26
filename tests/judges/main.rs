//! The real peers: clients, Hubs and readers that modelcache must agree with. A test is named after its judge.
//!
//! They are installed by `hack/judges/setup`, and found by `MODELCACHE_JUDGES`, the path that it prints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on shall panic")]

mod clients;
mod hubs;
mod nginx;
mod readers;
mod rig;
