//! What the tests need to be there, and what they say when it is not.

use kube::Client;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set. These tests need the cluster of hack/lab: run `hack/test`, or `hack/lab up && eval \"$(hack/lab env)\" && hack/install`")
    })
}

/// A client of the cluster in `KUBECONFIG`. Each test has its own: a client belongs to its test's runtime.
pub async fn client() -> Client {
    modelcache::hub::install_crypto();
    let _ = variable("KUBECONFIG");
    Client::try_default().await.expect("KUBECONFIG names a cluster: `hack/lab up` starts one")
}

/// An address of this machine that Pods can reach, at a free port.
pub fn host_address() -> SocketAddr {
    let host: IpAddr = variable("LAB_HOST_IP").parse().expect("LAB_HOST_IP is an address");
    SocketAddr::new(host, 0)
}

/// An image with a shell, for Pods that read models.
pub fn shell_image() -> String {
    variable("LAB_SHELL_IMAGE")
}

/// Where the API server writes what was asked of it.
pub fn audit_log() -> String {
    variable("LAB_AUDIT_LOG")
}

/// A turn on the cluster, until the file is closed. Tests that stop parts of it have it for themselves; all others, of this
/// run and of any other on this machine, share it.
pub fn turn() -> File {
    let path = Path::new(&variable("LAB_STATE")).join("tests.lock");
    let file = File::options().create(true).append(true).open(path).unwrap();
    let taken = if env!("CARGO_CRATE_NAME") == "disruption" { file.lock() } else { file.lock_shared() };
    taken.unwrap();
    file
}
