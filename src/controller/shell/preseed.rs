//! What the configuration wants to be there: created once after each start, where it is absent.

use super::{reconcile, write};
use crate::controller::build;
use crate::controller::config::Preseed;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A namespace or a definition may be on its way; what is refused is told again every few minutes.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

pub(super) async fn run(client: Client, preseed: Preseed, stop: CancellationToken) {
    let entries = preseed.entries.iter().map(build::seeded_entry).collect();
    let imports = preseed.imports.iter().map(build::seeded_import).collect();
    let both = async { tokio::join!(create_all(&client, entries), create_all(&client, imports)) };
    tokio::select! {
        _ = both => {}
        () = stop.cancelled() => {}
    }
}

async fn create_all<K>(client: &Client, mut missing: Vec<K>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let mut pause = FIRST;
    loop {
        let mut failed = Vec::new();
        for object in missing {
            let (kind, namespace, name) = (K::kind(&()), object.namespace(), object.name_any());
            match write::create_absent(client, &object).await {
                Ok(true) => tracing::info!(%kind, namespace, name, "created, as the chart's value preseed asks"),
                Ok(false) => {}
                Err(error) => {
                    let error = reconcile::told(&error);
                    tracing::warn!(%kind, namespace, name, error, "preseed: it cannot be created now and is tried again");
                    failed.push(object);
                }
            }
        }
        if failed.is_empty() {
            return;
        }
        missing = failed;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
