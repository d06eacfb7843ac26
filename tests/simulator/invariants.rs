//! What holds after every step.

use super::World;
use super::cluster::Cluster;
use super::controllers::claims_of;
use super::disk::StagingId;
use super::hub::{archive, truth};
use super::operator::labelled;
use super::people::may_leave_files;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use modelcache::api::entry::ReclaimPolicy;
use modelcache::api::{ModelCacheEntry, Phase, label};
use modelcache::controller::plan::{attempt, known_model, observed::task_of, queue, volume_of};
use modelcache::format::task::Work;
use modelcache::ident::ModelRef;
use std::collections::BTreeMap;

/// The place of an entry: claim (its uid), root, key.
pub(crate) type Place = (String, String, String);

/// A repo, where it is known, and the Pod that writes to it.
type Writer<'a> = (Option<String>, &'a str);

/// Where an entry keeps its model, when its claim is there and its model is known.
pub(crate) fn place_of(cluster: &Cluster, entry: &ModelCacheEntry) -> Option<Place> {
    let (claim, root) = volume_of(entry)?;
    let key = known_model(entry)?.key().to_string();
    let claim = cluster.claims.get(&claim)?;
    claim.metadata.deletion_timestamp.is_none().then_some(())?;
    Some((claim.uid()?, root.unwrap_or_default(), key))
}

/// Where an entry's model really is: an archive's may never have been heard of.
fn true_place(cluster: &Cluster, entry: &ModelCacheEntry) -> Option<Place> {
    let (claim, root, key) = place_of(cluster, entry).or_else(|| {
        let (claim, root) = volume_of(entry)?;
        let claim = cluster.claims.get(&claim).filter(|claim| claim.metadata.deletion_timestamp.is_none())?;
        Some((claim.uid()?, root.unwrap_or_default(), String::new()))
    })?;
    let archive = entry.spec.source.as_ref().and_then(|source| archive(source.archive.as_ref()?.path.as_deref()?).ok());
    let fits = |model: &ModelRef| entry.spec.repo.as_deref().is_none_or(|repo| repo == model.repo.as_str());
    let key = archive.map(|archive| archive.model).filter(fits).map_or(key, |model| model.key().to_string());
    (!key.is_empty()).then_some((claim, root, key))
}

pub(crate) fn phase(entry: &ModelCacheEntry) -> Option<Phase> {
    entry.status.as_ref()?.phase
}

impl World {
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.note_forced();
        self.note_spared();
        self.check_writers()?;
        self.check_budgets()?;
        self.check_disks()?;
        self.check_ready()?;
        self.check_in_use()?;
        self.check_evicted()?;
        self.check_gone()
    }

    /// One writer at a time per claim, root and repo.
    fn check_writers(&self) -> Result<(), String> {
        let mut seen: BTreeMap<(String, String), Vec<Writer<'_>>> = BTreeMap::new();
        for (name, worker) in &self.workers {
            let Some(pod) = self.cluster.pods.get(name).filter(|pod| attempt::may_write(pod)) else { continue };
            let Some((root, repo)) = worker.writes_to() else { continue };
            let claim = claims_of(pod)[0].to_owned();
            let others = seen.entry((claim, root)).or_default();
            let meets = |other: &&Writer<'_>| other.0.is_none() || repo.is_none() || other.0 == repo;
            if let Some((_, other)) = others.iter().find(meets) {
                return Err(format!("Pods {other} and {name} write to one repo of one volume"));
            }
            others.push((repo, name));
        }
        Ok(())
    }

    /// No more Jobs take from a Hub than may, and Pods of Jobs that are gone count too.
    fn check_budgets(&self) -> Result<(), String> {
        let of_connections =
            self.cluster.connections.values().filter_map(|connection| {
                Some((label::CONNECTION_UID, connection.uid()?, queue::limit_of(connection)?))
            });
        let hubs = self.cluster.jobs.values().filter_map(|job| job.labels().get(label::HUB));
        let of_hubs = hubs.filter_map(|hub| Some((label::HUB, hub.clone(), self.config.max_concurrent_jobs?)));
        for (label, value, limit) in of_connections.chain(of_hubs) {
            let (jobs, pods) = labelled(&self.cluster, label, &value);
            let at_work: Vec<_> = jobs.iter().filter(|job| attempt::is_unfinished(job)).collect();
            let is_of = |pod: &Pod| {
                pod.owner_references()
                    .iter()
                    .any(|owner| at_work.iter().any(|job| job.uid().as_ref() == Some(&owner.uid)))
            };
            let left = pods.iter().filter(|pod| queue::may_take(pod, self.cluster.now) && !is_of(pod)).count();
            if at_work.len() + left > usize::try_from(limit).unwrap() {
                return Err(format!(
                    "{} Jobs and {left} Pods without one take from a Hub that lets {limit}",
                    at_work.len()
                ));
            }
        }
        Ok(())
    }

    /// What is published is whole, and is what its source has; and each file is somebody's.
    fn check_disks(&self) -> Result<(), String> {
        for root in self.disks.values().flat_map(|disk| disk.roots.values()) {
            for entry in root.entries.values().chain(root.kept.values()) {
                let truth = truth(&entry.model.repo, entry.commit);
                let is_true = entry.files.iter().all(|(name, digest)| truth.get(name) == Some(digest));
                if !is_true || !root.holds(entry) {
                    return Err(format!("{entry:?} on a volume is not whole and right: {root:?}"));
                }
            }
            for (place, files) in &root.snapshots {
                let lists: Vec<_> = root.lists().filter(|list| list.place() == *place).collect();
                let is_nobodys = |name: &&&str| !lists.iter().any(|list| list.files.contains_key(**name));
                if let Some(name) = files.keys().find(is_nobodys) {
                    return Err(format!("nobody lists {name} of {place:?} on a volume: {root:?}"));
                }
            }
        }
        Ok(())
    }

    /// Who goes by itself may go.
    fn check_evicted(&self) -> Result<(), String> {
        for (name, entry) in &self.cluster.entries {
            let before = self.before.get(name).filter(|before| before.uid() == entry.uid());
            let begins =
                phase(entry) == Some(Phase::Evicted) && before.and_then(|one| phase(one)) != Some(Phase::Evicted);
            let spec = &entry.spec;
            let is_pinned = spec.retention.as_ref().and_then(|retention| retention.pinned) == Some(true);
            let is_kept = is_pinned || spec.reclaim_policy == Some(ReclaimPolicy::Retain) || spec.suspend == Some(true);
            // What was asked for a moment ago, nobody may have heard of.
            let is_heard =
                entry.status.as_ref().and_then(|status| status.observed_generation) == entry.metadata.generation;
            if begins && is_kept && is_heard {
                return Err(format!("{name} is evicted though its spec keeps it"));
            }
        }
        Ok(())
    }

    /// Who is Ready has its model, as long as its claim is the one it was when it became so.
    fn check_ready(&mut self) -> Result<(), String> {
        for (name, entry) in &self.cluster.entries {
            let uid = entry.uid().unwrap();
            if phase(entry) != Some(Phase::Ready) || entry.metadata.deletion_timestamp.is_some() {
                self.ready.remove(&uid);
                continue;
            }
            let place = place_of(&self.cluster, entry);
            let since = self.ready.entry(uid).or_insert_with(|| place.clone());
            let Some(place) = place.filter(|place| since.as_ref() == Some(place)) else { continue };
            let there = self.disks.get(&place.0).and_then(|disk| disk.roots.get(&place.1)?.entries.get(&place.2));
            if there.is_none() {
                return Err(format!("{name} is Ready and its model is not on its volume"));
            }
        }
        Ok(())
    }

    /// The models that a removal is told to leave to others, where nobody heard which one its archive holds.
    fn note_spared(&mut self) {
        for job in self.cluster.jobs.values() {
            if !self.read.insert(job.uid().unwrap()) {
                continue;
            }
            let Some(Work::Delete(delete)) = task_of(job).map(|task| task.work) else { continue };
            let Some(uid) = job.labels().get(label::ENTRY_UID) else { continue };
            self.spared.extend(delete.kept.iter().map(|key| (uid.clone(), key.to_string())));
        }
    }

    /// Who is gone left nothing behind that nobody else keeps.
    fn check_gone(&mut self) -> Result<(), String> {
        let gone: Vec<_> = self
            .before
            .iter()
            .filter(|(name, entry)| self.cluster.entries.get(*name).is_none_or(|now| now.uid() != entry.uid()))
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect();
        for (name, entry) in gone {
            let Some(place) = true_place(&self.cluster, &entry) else { continue };
            let had_no_finalizer = entry.finalizers().is_empty();
            let is_spared = self.spared.contains(&(entry.uid().unwrap(), place.2.clone()));
            if may_leave_files(&entry) || had_no_finalizer || is_spared {
                self.left_behind.insert(place);
                continue;
            }
            if self.left_behind.contains(&place) || self.is_kept_by_another(&place) {
                continue;
            }
            let root = self.disks.get(&place.0).and_then(|disk| disk.roots.get(&place.1));
            let Some(root) = root else { continue };
            let is_staging = |id: &StagingId| matches!(id, StagingId::Download(key, ..) if *key == place.2);
            if root.lists().any(|list| list.key() == place.2) || root.stagings.keys().any(is_staging) {
                return Err(format!("{name} is gone and left files behind: {root:?}"));
            }
        }
        self.before.clone_from(&self.cluster.entries);
        Ok(())
    }

    fn is_kept_by_another(&self, place: &Place) -> bool {
        self.cluster.entries.values().any(|entry| place_of(&self.cluster, entry).as_ref() == Some(place))
    }
}
