//! What the tests need to be there, and what they say when it is not.

use kube::Client;
use std::net::{IpAddr, SocketAddr};

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
