//! A volume of the lab and its folder on this machine.

use super::command::{lab, run};
use k8s_openapi::api::core::v1::PersistentVolume;
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

    /// One that a provisioner of the cluster made on this machine, and removes.
    pub fn of(volume: &PersistentVolume) -> Self {
        let folder = volume.spec.as_ref().and_then(|spec| spec.host_path.as_ref()).map(|host| host.path.clone());
        let folder = folder.expect("the lab's provisioner makes folders").into();
        Self { name: volume.metadata.name.clone().unwrap_or_default(), folder, kind: "pv", kept: AtomicBool::new(true) }
    }

    fn made(kind: &'static str, name: &str, said: &str) -> Self {
        Self { name: name.to_owned(), folder: said.trim().into(), kind, kept: AtomicBool::new(false) }
    }

    /// Makes a disk larger, once no Pod has it. The cluster does not hear of it.
    pub fn grow(&self, size_mib: u32) {
        lab(&["disk", "--grow", &self.name, &size_mib.to_string()]);
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
