//! A stage for one test on a real cluster: a namespace of its own under the *restricted* Pod Security Standard, a Hub that
//! can be told to misbehave, and volumes whose folders on the host can be looked into.
//!
//! Used by path from two test binaries. Nothing here sleeps: tests wait for what they want to see, with a deadline.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses another part of it")]

pub mod command;
pub mod files;
pub mod gate;
pub mod lab;
pub mod look;
pub mod operator;
pub mod pods;
pub mod stage;
pub mod volume;
pub mod wait;

pub use command::try_kubectl;
pub use gate::Gate;
pub use stage::{Stage, apart, shared};
