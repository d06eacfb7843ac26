//! modelcache keeps Hugging Face models in persistent volumes, and can prove what is on them.
//!
//! The rooms and the arrows between them are described in `docs/ARCHITECTURE.md`; a test reads the `use` lines and checks
//! the arrows.

#[cfg(feature = "operator")]
pub mod api;
pub mod cli;
#[cfg(feature = "operator")]
pub mod controller;
pub mod engine;
pub mod format;
pub mod hub;
pub mod ident;
#[cfg(feature = "operator")]
pub mod kubectl;
#[cfg(feature = "operator")]
pub mod serve;
