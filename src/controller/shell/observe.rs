//! Everything that one decision needs, read from the cluster.

use super::reconcile::Context;
use super::scene::{self, Subject};
use crate::api::export::ExportPhase;
use crate::api::{HubConnection, ModelCacheEntry, ModelCacheExport, ModelCacheImport, ModelCacheInventory, label};
use crate::controller::plan::connection::ObservedConnection;
use crate::controller::plan::export::ObservedExport;
use crate::controller::plan::import::ObservedImport;
use crate::controller::plan::inventory::ObservedInventory;
use crate::controller::plan::placement::{NodeSight, nodes_to_see};
use crate::controller::plan::queue::{self, Queue};
use crate::controller::plan::{
    ConnectionSight, Consumer, Observed, Peer, Scene, archive_claim, attempt, may_remove_files, peers, room,
    wanted_claim,
};
use crate::ident::hex;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use std::sync::Arc;

pub(super) async fn entry(context: &Context, entry: &ModelCacheEntry) -> Result<Observed, kube::Error> {
    let client = &context.client;
    let namespace = entry.namespace().unwrap_or_default();
    let subject = Subject {
        namespace: &namespace,
        label: label::ENTRY_UID,
        uid: entry.uid().unwrap_or_default(),
        claim: wanted_claim(entry),
        archive_claim: archive_claim(entry),
        recorded: entry.status.as_ref().and_then(|status| status.attempts.as_ref()?.last_job.as_deref()),
        is_going: entry.metadata.deletion_timestamp.is_some(),
    };
    let now = Timestamp::now();
    let (mut scene, connection) = tokio::try_join!(
        scene::observe(client, &subject, now),
        connection(client, entry.spec.connection_name(), &namespace)
    )?;
    let removes = may_remove_files(entry, &scene);
    scene.consumers = consumers(context, &namespace, removes).await?;
    let limited = connection.found().is_some_and(room::has_limits);
    scene.nodes = nodes(client, &scene).await?;
    let hub_is_limited =
        context.config.max_concurrent_jobs.is_some() || connection.found().and_then(queue::limit_of).is_some();
    let mut observed = Observed {
        entry: entry.clone(),
        config: context.config.clone(),
        connection,
        scene,
        peers: peers_now(context, entry, removes).await?,
        readers: Vec::new(),
        queue: if hub_is_limited { context.line.queue().await } else { Queue::default() },
        not_grown: None,
        neighbours: if limited { neighbours(context, &namespace) } else { Vec::new() },
        namespace_terminating: false,
        now,
        nonce: nonce(),
    };
    if entry.metadata.deletion_timestamp.is_some() {
        let namespace = Api::<Namespace>::all(client.clone()).get_opt(&namespace).await?;
        observed.namespace_terminating =
            namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some());
        observed.readers = readers(client, entry).await?;
    }
    Ok(observed)
}

pub(super) async fn connection_use(
    context: &Context,
    connection: &HubConnection,
) -> Result<ObservedConnection, kube::Error> {
    let namespace = connection.namespace().unwrap_or_default();
    // The entries' watch may have heard of none yet; it ends with the operator, and then this round ends too.
    let _ = context.entries.wait_until_ready().await;
    let subject = Subject {
        namespace: &namespace,
        label: label::CHECK_UID,
        uid: connection.uid().unwrap_or_default(),
        claim: None,
        archive_claim: None,
        recorded: connection.status.as_ref().and_then(|status| status.attempts.as_ref()?.last_job.as_deref()),
        is_going: connection.metadata.deletion_timestamp.is_some(),
    };
    let now = Timestamp::now();
    let scene = scene::observe(&context.client, &subject, now).await?;
    Ok(ObservedConnection {
        connection: connection.clone(),
        entries: neighbours(context, &namespace),
        consumers: consumers(context, &namespace, false).await?,
        config: context.config.clone(),
        scene,
        running: context.line.running().await,
        now,
        nonce: nonce(),
    })
}

pub(super) async fn export(context: &Context, export: &ModelCacheExport) -> Result<ObservedExport, kube::Error> {
    let client = &context.client;
    let namespace = export.namespace().unwrap_or_default();
    let named = |entry: &Arc<ModelCacheEntry>| {
        entry.namespace().as_ref() == Some(&namespace) && entry.name_any() == export.spec.entry_ref.name
    };
    let entry = context.entries.state().into_iter().find(named).map(|entry| (*entry).clone());
    let subject = Subject {
        namespace: &namespace,
        label: label::EXPORT_UID,
        uid: export.uid().unwrap_or_default(),
        claim: entry.as_ref().and_then(wanted_claim),
        archive_claim: export.spec.destination.claim_name.clone(),
        recorded: export.status.as_ref().and_then(|status| status.attempts.as_ref()?.last_job.as_deref()),
        is_going: export.metadata.deletion_timestamp.is_some(),
    };
    let now = Timestamp::now();
    let (mut scene, connection) =
        tokio::try_join!(scene::observe(client, &subject, now), connection(client, None, &namespace))?;
    if export.status.as_ref().is_none_or(|status| status.phase != Some(ExportPhase::Complete)) {
        scene.consumers = consumers(context, &namespace, false).await?;
        scene.nodes = nodes(client, &scene).await?;
    }
    Ok(ObservedExport {
        export: export.clone(),
        entry,
        config: context.config.clone(),
        connection,
        scene,
        now,
        nonce: nonce(),
    })
}

pub(super) async fn import(context: &Context, import: &ModelCacheImport) -> Result<ObservedImport, kube::Error> {
    let client = &context.client;
    let namespace = import.namespace().unwrap_or_default();
    let subject = Subject {
        namespace: &namespace,
        label: label::IMPORT_UID,
        uid: import.uid().unwrap_or_default(),
        claim: import.spec.source.claim_name.clone(),
        archive_claim: None,
        recorded: import.status.as_ref().and_then(|status| status.attempts.as_ref()?.last_job.as_deref()),
        is_going: import.metadata.deletion_timestamp.is_some(),
    };
    let now = Timestamp::now();
    let (scene, entries) = tokio::try_join!(scene::observe(client, &subject, now), entries(context, import))?;
    Ok(ObservedImport {
        import: import.clone(),
        entries,
        config: context.config.clone(),
        scene,
        refused: Vec::new(),
        now,
        nonce: nonce(),
    })
}

pub(super) async fn inventory(
    context: &Context,
    inventory: &ModelCacheInventory,
) -> Result<ObservedInventory, kube::Error> {
    let namespace = inventory.namespace().unwrap_or_default();
    let subject = Subject {
        namespace: &namespace,
        label: label::INVENTORY_UID,
        uid: inventory.uid().unwrap_or_default(),
        claim: Some(inventory.spec.claim_name.clone()),
        archive_claim: None,
        recorded: inventory.status.as_ref().and_then(|status| status.attempts.as_ref()?.last_job.as_deref()),
        is_going: inventory.metadata.deletion_timestamp.is_some(),
    };
    let now = Timestamp::now();
    let scene = scene::observe(&context.client, &subject, now).await?;
    Ok(ObservedInventory {
        inventory: inventory.clone(),
        entries: neighbours(context, &namespace),
        config: context.config.clone(),
        scene,
        now,
        nonce: nonce(),
    })
}

/// The entries that were made for an import. The watch's own memory may not have those that were made a moment ago, and an
/// import without them would look complete: where it has other than the recorded number, the API server is asked.
async fn entries(context: &Context, import: &ModelCacheImport) -> Result<Vec<ModelCacheEntry>, kube::Error> {
    let (namespace, uid) = (import.namespace(), import.uid());
    let ours = |entry: &ModelCacheEntry| {
        entry.namespace() == namespace
            && entry.labels().get(label::IMPORT_UID) == uid.as_ref()
            && entry.metadata.deletion_timestamp.is_none()
    };
    let all = context.entries.state();
    let known: Vec<_> = all.iter().filter(|entry| ours(entry)).map(|entry| (**entry).clone()).collect();
    let recorded = import.status.as_ref().and_then(|status| Some(status.found? - status.refused.unwrap_or_default()));
    if recorded.is_none_or(|count| usize::try_from(count).is_ok_and(|count| count == known.len())) {
        return Ok(known);
    }
    let by_label =
        ListParams::default().labels(&format!("{}={}", label::IMPORT_UID, uid.as_deref().unwrap_or_default()));
    let api = Api::<ModelCacheEntry>::namespaced(context.client.clone(), namespace.as_deref().unwrap_or_default());
    Ok(api.list(&by_label).await?.items.into_iter().filter(|entry| ours(entry)).collect())
}

/// The connection of this name, else the one of the namespace.
async fn connection(client: &Client, named: Option<&str>, namespace: &str) -> Result<ConnectionSight, kube::Error> {
    let api = Api::<HubConnection>::namespaced(client.clone(), namespace);
    Ok(ConnectionSight::of(named, api.get_opt(named.unwrap_or(room::DEFAULT_CONNECTION)).await?))
}

/// The namespace's Pods that may have to do with models. Before files are removed the API server is asked: the watch may not
/// have heard of a Pod that began a moment ago.
async fn consumers(context: &Context, namespace: &str, ask: bool) -> Result<Vec<Arc<Consumer>>, kube::Error> {
    if ask {
        let all = Api::<Consumer>::namespaced(context.client.clone(), namespace).list(&ListParams::default()).await?;
        return Ok(all.items.into_iter().filter(Consumer::matters).map(Arc::new).collect());
    }
    // It ends with the watch: then this round ends too.
    let _ = context.consumers.wait_until_ready().await;
    Ok(context.consumers.state_filter(|pod| pod.namespace().as_deref() == Some(namespace)))
}

/// The nodes that matter to an object's Jobs.
async fn nodes(client: &Client, scene: &Scene) -> Result<Vec<NodeSight>, kube::Error> {
    let api = Api::<Node>::all(client.clone());
    let mut seen = Vec::new();
    for name in nodes_to_see(scene) {
        seen.extend(api.get_opt(&name).await?.map(NodeSight::from));
    }
    Ok(seen)
}

/// The Jobs that export an entry and have not ended.
async fn readers(client: &Client, entry: &ModelCacheEntry) -> Result<Vec<String>, kube::Error> {
    let by_label = format!("{}={}", label::READS, entry.uid().unwrap_or_default());
    let api = Api::<Job>::namespaced(client.clone(), &entry.namespace().unwrap_or_default());
    let jobs = api.list(&ListParams::default().labels(&by_label)).await?;
    Ok(jobs.items.iter().filter(|job| attempt::is_unfinished(job)).map(ResourceExt::name_any).collect())
}

/// The entries of a namespace, from the watch's own memory.
fn neighbours(context: &Context, namespace: &str) -> Vec<Arc<ModelCacheEntry>> {
    context.entries.state_filter(|entry| entry.namespace().as_deref() == Some(namespace))
}

/// The other entries of its volume; before files are removed the API server is asked.
async fn peers_now(context: &Context, entry: &ModelCacheEntry, ask: bool) -> Result<Vec<Peer>, kube::Error> {
    if ask {
        let namespace = entry.namespace().unwrap_or_default();
        let all = Api::<ModelCacheEntry>::namespaced(context.client.clone(), &namespace);
        return Ok(peers(entry, &all.list(&ListParams::default()).await?.items));
    }
    Ok(peers(entry, context.entries.state().iter().map(AsRef::as_ref)))
}

/// A random word that nobody who does not see the task can guess.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    let filled = rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes);
    debug_assert!(filled.is_ok(), "the system has randomness");
    hex(&bytes)
}
