//! The writes of a round.

use super::{Broken, Surroundings};
use crate::cluster::{Cluster, Object, Refusal, Told};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Resource, ResourceExt};
use modelcache::api::{FINALIZER, HubConnection, HubConnectionStatus, ModelCacheEntry, ModelCacheEntryStatus, label};
use modelcache::controller::config::Config;
use modelcache::controller::plan::{Action, Obstacle, Plan, Why, queue, writers};
use modelcache::ident::Reason;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The StorageClass whose volumes grow.
const GROWS: &str = "fast";

/// One write, as the shell does it.
pub(super) fn act(
    entry: &Arc<ModelCacheEntry>,
    action: &Action,
    around: &mut Surroundings<'_>,
) -> Result<Option<Obstacle>, Broken> {
    let Surroundings { cluster, config, .. } = around;
    cluster.writes += 1;
    let is_same =
        |cluster: &Cluster| cluster.entries.get(&entry.name_any()).filter(|found| found.uid() == entry.uid()).cloned();
    match action {
        Action::AddFinalizer => match is_same(cluster) {
            // No new finalizers can be added if the object is being deleted.
            Some(found) if found.metadata.deletion_timestamp.is_some() => return Err(Broken),
            Some(found) if found.finalizers().is_empty() => {
                cluster.change::<Arc<ModelCacheEntry>>(&entry.name_any(), |entry| {
                    Arc::make_mut(entry).metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
                });
            }
            Some(_) => {}
            None => return Err(Broken),
        },
        Action::RemoveFinalizer => {
            if let Some(found) = is_same(cluster) {
                if found.metadata.deletion_timestamp.is_some() {
                    cluster.remove::<Arc<ModelCacheEntry>>(&entry.name_any());
                } else {
                    cluster.change::<Arc<ModelCacheEntry>>(&entry.name_any(), |entry| {
                        Arc::make_mut(entry).metadata.finalizers = None;
                    });
                }
            }
        }
        Action::CreateClaim(claim) => {
            let mut claim = (**claim).clone();
            claim.metadata.finalizers = Some(vec!["kubernetes.io/pvc-protection".to_owned()]);
            claim.status.get_or_insert_default().phase = Some("Pending".to_owned());
            let there =
                cluster.claims.get(&claim.name_any()).map(|there| there.labels().get(label::ENTRY_UID).cloned());
            return created(cluster.create(claim), there.flatten() == entry.uid(), "PersistentVolumeClaim");
        }
        Action::CreateJob(job) => return create_job(entry, job, cluster, config),
        Action::SetClaimOwned { name, uid, owned } => {
            let owners: Vec<_> = entry.controller_owner_ref(&()).into_iter().filter(|_| *owned).collect();
            if has_uid(cluster, name, uid) {
                cluster.change::<PersistentVolumeClaim>(name, |claim| claim.metadata.owner_references = Some(owners));
            }
        }
        Action::GrowClaim { name, uid, to } if has_uid(cluster, name, uid) => return Ok(grow(cluster, name, to)),
        Action::DeleteClaim { name, uid } if has_uid(cluster, name, uid) => {
            cluster.delete::<PersistentVolumeClaim>(name);
        }
        Action::GrowClaim { .. } | Action::DeleteClaim { .. } => {}
        Action::DeleteJob { name, uid } => {
            if cluster.jobs.get(name).is_some_and(|job| job.uid().as_ref() == Some(uid)) {
                cluster.delete::<Job>(name);
            }
        }
        Action::CreateConfigMap(_) | Action::CreateEntry(_) => panic!("no such action is simulated: {action:?}"),
    }
    Ok(None)
}

fn has_uid(cluster: &Cluster, name: &str, uid: &str) -> bool {
    cluster.claims.get(name).is_some_and(|claim| claim.uid().as_deref() == Some(uid))
}

fn grow(cluster: &mut Cluster, name: &str, to: &Quantity) -> Option<Obstacle> {
    let class = cluster.claims[name].spec.as_ref().and_then(|spec| spec.storage_class_name.clone());
    let reason = match () {
        () if class.as_deref() != Some(GROWS) => Some(Reason::PolicyDenied),
        () if cluster.quota_is_used_up => Some(Reason::QuotaExceeded),
        () => None,
    };
    if let Some(reason) = reason {
        cluster.writes -= 1;
        return Some(Obstacle::Denied(Why::new(reason, "PersistentVolumeClaim is refused")));
    }
    cluster.change::<PersistentVolumeClaim>(name, |claim| {
        let resources = claim.spec.get_or_insert_default().resources.get_or_insert_default();
        resources.requests.get_or_insert_default().insert("storage".to_owned(), to.clone());
    });
    None
}

fn create_job(
    entry: &ModelCacheEntry,
    job: &Job,
    cluster: &mut Cluster,
    config: &Config,
) -> Result<Option<Obstacle>, Broken> {
    for budget in queue::budgets(job, config) {
        let (jobs, pods) = labelled(cluster, budget.label, &budget.value);
        if queue::is_spent(job, &jobs, &pods, budget.limit, cluster.now) {
            cluster.writes -= 1;
            return Ok(Some(Obstacle::Full));
        }
    }
    if let Some(volume) = job.labels().get(label::VOLUME) {
        let (jobs, pods) = labelled(cluster, label::VOLUME, volume);
        if let Some(writer) = writers::hindrance(job, &jobs, &pods) {
            cluster.writes -= 1;
            return Ok(Some(Obstacle::Busy(writer)));
        }
    }
    let there = cluster.jobs.get(&job.name_any()).map(|there| there.labels().get(label::ENTRY_UID).cloned());
    created(cluster.create(job.clone()), there.flatten() == entry.uid(), "Job")
}

/// The Jobs and Pods with this label.
pub(crate) fn labelled(cluster: &Cluster, label: &str, value: &str) -> (Vec<Job>, Vec<Pod>) {
    let has = |labels: &BTreeMap<String, String>| labels.get(label).is_some_and(|found| found == value);
    let jobs = cluster.jobs.values().filter(|job| has(job.labels())).cloned().collect();
    (jobs, cluster.pods.values().filter(|pod| has(pod.labels())).cloned().collect())
}

fn created(result: Result<(), Refusal>, is_ours: bool, kind: &str) -> Result<Option<Obstacle>, Broken> {
    let denied = |reason| Ok(Some(Obstacle::Denied(Why::new(reason, format!("{kind} is refused")))));
    match result {
        Ok(()) => Ok(None),
        Err(Refusal::AlreadyExists) if is_ours => Ok(None),
        Err(Refusal::AlreadyExists) => denied(Reason::Conflict),
        Err(Refusal::Quota) => denied(Reason::QuotaExceeded),
        Err(Refusal::Terminating) => Err(Broken),
    }
}

/// An object with a status that the operator writes.
pub(super) trait Subject: ResourceExt {
    type Kept: Object + Told;
    type Status: PartialEq;
    fn said(&self) -> Option<&Self::Status>;
    fn kept_version(kept: &mut Self::Kept) -> Option<String> {
        kept.meta().resource_version.clone()
    }
    fn say(kept: &mut Self::Kept, status: Self::Status);
}

impl Subject for ModelCacheEntry {
    type Kept = Arc<Self>;
    type Status = ModelCacheEntryStatus;
    fn said(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }
    fn say(kept: &mut Arc<Self>, status: Self::Status) {
        Arc::make_mut(kept).status = Some(status);
    }
}

impl Subject for HubConnection {
    type Kept = Self;
    type Status = HubConnectionStatus;
    fn said(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }
    fn say(kept: &mut Self, status: Self::Status) {
        kept.status = Some(status);
    }
}

/// Writes the status where it differs from what was observed; gives when to look again.
pub(super) fn status<K: Subject>(
    object: &K,
    plan: Plan<K::Status>,
    around: &mut Surroundings<'_>,
) -> Result<Option<Duration>, Broken> {
    if object.said() == Some(&plan.status) {
        return Ok(plan.again);
    }
    let has_failed = around.dice.happens(around.failing);
    if has_failed && around.dice.happens(500) {
        return Err(Broken);
    }
    around.cluster.writes += 1;
    let there = K::Kept::all(around.cluster).get_mut(&object.name_any()).and_then(K::kept_version);
    // Where it is not what was observed any more, nothing is written.
    if there.is_some() && there == object.resource_version() {
        let status = plan.status;
        around.cluster.change::<K::Kept>(&object.name_any(), |kept| K::say(kept, status));
    }
    if has_failed { Err(Broken) } else { Ok(plan.again) }
}
