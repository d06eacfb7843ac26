//! The reads of a round.

use super::{Log, Operator, Surroundings, line};
use crate::cluster::Cluster;
use crate::controllers::NODE;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use modelcache::api::{ModelCacheEntry, label};
use modelcache::controller::plan::placement::{NodeSight, nodes_to_see};
use modelcache::controller::plan::queue::Queue;
use modelcache::controller::plan::{
    ConnectionSight, Consumer, Observed, Scene, archive_claim, attempt, may_remove_files, peers, room, wanted_claim,
};
use modelcache::format::outcome::Heard;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is seen first: claims and Jobs.
pub(super) fn first(entry: &ModelCacheEntry, cluster: &Cluster) -> Scene {
    let claim = |name: Option<String>| name.and_then(|name| cluster.claims.get(&name).cloned());
    let uid = entry.uid();
    Scene {
        claim: claim(wanted_claim(entry)),
        archive_claim: claim(archive_claim(entry)),
        jobs: cluster.jobs.values().filter(|job| job.labels().get(label::ENTRY_UID) == uid.as_ref()).cloned().collect(),
        ..Scene::default()
    }
}

impl Operator {
    /// All that a decision needs, when half of it was seen already.
    pub(super) fn observe(
        &self,
        entry: &Arc<ModelCacheEntry>,
        now: Timestamp,
        mut scene: Scene,
        around: &mut Surroundings<'_>,
    ) -> Observed {
        let cluster = &*around.cluster;
        let uid = entry.uid();
        scene.pods =
            cluster.pods.values().filter(|pod| pod.labels().get(label::ENTRY_UID) == uid.as_ref()).cloned().collect();
        let recorded = entry.status.as_ref().and_then(|status| status.attempts.as_ref()?.last_job.as_deref());
        scene.heard = listen(&scene, recorded, around.logs);
        explain(&mut scene, recorded, cluster, now);
        let named = entry.spec.connection_name();
        let found = cluster.connections.get(named.unwrap_or(room::DEFAULT_CONNECTION));
        let connection = ConnectionSight::of(named, found.cloned());
        let asks = may_remove_files(entry, &scene);
        scene.consumers = if asks {
            let all = cluster.pods.values().map(|pod| Consumer::from(pod.clone()));
            all.filter(Consumer::matters).map(Arc::new).collect()
        } else {
            self.consumers.values().cloned().collect()
        };
        let node = NodeSight { name: NODE.to_owned(), hostname: NODE.to_owned(), is_ready: true, taints: Vec::new() };
        scene.nodes = nodes_to_see(&scene).contains(NODE).then_some(node).into_iter().collect();
        let is_limited = connection.found().is_some_and(room::has_limits);
        let queue = if line::is_limited(&connection, around) { self.queue(around.config) } else { Queue::default() };
        Observed {
            entry: (**entry).clone(),
            config: around.config.clone(),
            connection,
            scene,
            peers: peers(entry, if asks { &cluster.entries } else { &self.known }.values().map(AsRef::as_ref)),
            readers: Vec::new(),
            queue,
            neighbours: if is_limited { self.known.values().cloned().collect() } else { Vec::new() },
            not_grown: None,
            namespace_terminating: entry.metadata.deletion_timestamp.is_some() && cluster.is_terminating,
            now,
            nonce: format!("{:016x}", around.dice.next()),
        }
    }
}

/// Reads the tail of the newest Pod's log, as the shell does.
fn listen(scene: &Scene, recorded: Option<&str>, logs: &BTreeMap<String, Log>) -> Heard {
    let mut heard = Heard::default();
    let Some(current) = scene.current(recorded) else { return heard };
    let pods = scene.pods_of(current.job);
    let (Some(pod), Some(task)) = (pods.first(), &current.task) else { return heard };
    let has_ended = attempt::has_ended(pod);
    if !has_ended && !attempt::is_running(pod) {
        return heard;
    }
    let Some(log) = logs.get(&pod.name_any()).filter(|log| !log.is_lost) else { return heard };
    let tail = if has_ended { 400 } else { 20 };
    for line in &log.lines[log.lines.len().saturating_sub(tail)..] {
        heard.hear(&task.nonce, line);
    }
    heard
}

/// Looks for the reason why something waits, as the shell does.
fn explain(scene: &mut Scene, recorded: Option<&str>, cluster: &Cluster, now: Timestamp) {
    let is_pending = |claim: &&PersistentVolumeClaim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Pending"))
    };
    let pending = scene.claim.as_ref().filter(is_pending);
    let class = pending.and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
    scene.storage_class_missing = class.as_deref() == Some("missing");
    let old = |meta: &ObjectMeta| {
        meta.creation_timestamp.as_ref().is_some_and(|time| time.0 + SignedDuration::from_secs(3) < now)
    };
    let mut puzzles: Vec<Option<String>> = Vec::new();
    puzzles.extend(pending.filter(|claim| old(&claim.metadata)).map(ResourceExt::uid));
    if let Some(current) = scene.current(recorded).filter(|current| old(&current.job.metadata)) {
        match scene.pods_of(current.job).first() {
            None => puzzles.push(current.job.uid()),
            Some(pod) if !attempt::is_running(pod) && !attempt::has_ended(pod) => puzzles.push(pod.uid()),
            Some(_) => {}
        }
    }
    scene.warnings = puzzles.iter().flatten().filter_map(|uid| cluster.warnings.get(uid).cloned()).collect();
}
