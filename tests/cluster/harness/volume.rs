//! A volume of the lab and its folder on this machine.

use super::command::{lab, run};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// A persistent volume; it goes with this value.
pub struct Volume {
    pub name: String,
    /// The volume's root on this machine.
    pub folder: PathBuf,
    kind: &'static str,
    kept: AtomicBool,
}

impl Volume {
    pub fn local(name: &str) -> Self {
        Self::made("pv", name, &lab(&["pv", name, "1Gi"]))
    }

    pub fn disk(name: &str, size_mib: u32) -> Self {
        Self::made("disk", name, &lab(&["disk", name, &size_mib.to_string()]))
    }

    fn made(kind: &'static str, name: &str, said: &str) -> Self {
        Self { name: name.to_owned(), folder: said.trim().into(), kind, kept: AtomicBool::new(false) }
    }

    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/lab");
        if let Err(error) = run(Command::new(script).args([self.kind, "--delete", &self.name])) {
            eprintln!("{error}");
        }
    }
}
