//! The operator's end: entries in shared claims must not wait for ever for somebody who removes their files.

use super::leader::Leader;
use super::{ShellError, connect, write};
use crate::api::{FINALIZER, ModelCacheEntry};
use kube::api::ListParams;
use kube::{Api, Client};
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

/// Ends the operator and takes its finalizer off all entries; their files stay. Gives how many entries there were.
///
/// An operator that still works would put the finalizer back, so this waits for the Lease.
pub async fn uninstall(what: &Uninstall) -> Result<usize, ShellError> {
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
    Ok(count)
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
