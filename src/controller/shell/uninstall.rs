//! The operator's end: entries in shared claims must not wait for ever for somebody who removes their files.

use super::leader::Leader;
use super::{ShellError, connect, reconcile, write};
use crate::api::{FINALIZER, ModelCacheEntry, label};
use crate::controller::plan::Consumer;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

/// What is to be uninstalled.
#[derive(Debug, Clone)]
pub struct Uninstall {
    /// The operator's namespace.
    pub namespace: String,
    /// Its Deployment.
    pub deployment: String,
    /// This process's name in the Lease.
    pub identity: String,
}

/// What was let go, and what is left.
#[derive(Debug, Clone)]
pub struct Uninstalled {
    /// How many entries had our finalizer.
    pub entries: usize,
    /// The Pods that wait at our gate, as `namespace/name`: nobody takes it off any more.
    pub gated: Vec<String>,
}

/// Ends the operator and takes its finalizer off all entries; their files stay.
///
/// An operator that still works would put the finalizer back, so this waits for the Lease.
pub async fn uninstall(what: &Uninstall) -> Result<Uninstalled, ShellError> {
    let client = connect().await?;
    let scaled = write::scale_to_zero(&client, &what.namespace, &what.deployment).await;
    scaled.map_err(|error| ShellError::Scale(what.deployment.clone(), error))?;
    let mut lease = Leader::new(client.clone(), &what.namespace, &what.identity);
    let never = CancellationToken::new();
    lease.acquire(&never).await;
    let count = tokio::select! {
        count = let_all_go(&client) => count.map_err(ShellError::LetGo)?,
        _ = lease.keep(&never) => return Err(ShellError::LostLease),
    };
    lease.release().await;
    Ok(Uninstalled { entries: count, gated: gated(&client).await })
}

/// Those that wait. Not to know them is no reason to stay.
async fn gated(client: &Client) -> Vec<String> {
    let ours = ListParams::default().labels(&format!("{}=true", label::INJECT));
    match Api::<Consumer>::all(client.clone()).list(&ours).await {
        Ok(pods) => waiting(&pods.items),
        Err(error) => {
            tracing::warn!(error = reconcile::told(&error), "it is not known which Pods wait for models");
            Vec::new()
        }
    }
}

fn waiting(pods: &[Consumer]) -> Vec<String> {
    let waiting = pods.iter().filter(|pod| pod.waits());
    waiting.map(|pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name())).collect()
}

async fn let_all_go(client: &Client) -> Result<usize, kube::Error> {
    let all = Api::<ModelCacheEntry>::all(client.clone()).list(&ListParams::default()).await?.items;
    let is_ours = |entry: &&ModelCacheEntry| entry.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER);
    let mut count = 0;
    for entry in all.iter().filter(is_ours) {
        write::let_go(client, entry).await?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_pods_that_nobody_lets_go_any_more_are_named() {
        let pod = |name: &str, gate: &str, phase: &str| -> Consumer {
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "team-a", "labels": {"modelcache.dev/inject": "true"}},
                "spec": {"containers": [], "schedulingGates": [{"name": gate}]}, "status": {"phase": phase}}))
            .unwrap()
        };
        let pods = [
            pod("waits", "modelcache.dev/ready", "Pending"),
            pod("ended", "modelcache.dev/ready", "Failed"),
            pod("anothers", "example.com/quota", "Pending"),
        ];
        assert_eq!(waiting(&pods), ["team-a/waits"]);
    }
}
