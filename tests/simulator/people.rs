//! What people do, and what goes wrong.

use super::World;
use super::cluster::NAMESPACE;
use super::consumers::is_consumer;
use super::hub::REPOS;
use super::operator::{Operator, metadata};
use super::specs;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use modelcache::api::entry::ReclaimPolicy;
use modelcache::api::{HubConnection, ModelCacheEntry, annotation};
use modelcache::controller::plan::attempt::is_running;
use modelcache::ident::Reason;
use serde_json::json;
use std::sync::Arc;

const NAMES: [&str; 6] = ["ada", "ben", "cleo", "dan", "eve", "fay"];
pub(crate) const SHARED: [&str; 2] = ["shared", "late"];
/// The claim with the archives.
pub(crate) const ARCHIVE_CLAIM: &str = "usb";

impl World {
    /// The claims that people made before anything began.
    pub(crate) fn furnish(&mut self) {
        for name in SHARED {
            self.make_claim(name);
        }
        self.make_claim(ARCHIVE_CLAIM);
    }

    fn make_claim(&mut self, name: &str) {
        // It takes a person longer than a Job needs to come to its end.
        self.cluster.later(1);
        let mut meta = metadata(name);
        meta.finalizers = Some(vec!["kubernetes.io/pvc-protection".to_owned()]);
        let mut claim = PersistentVolumeClaim { metadata: meta, ..PersistentVolumeClaim::default() };
        let class = if name == "late" { "late" } else { "fast" };
        let spec = claim.spec.get_or_insert_default();
        spec.storage_class_name = Some(class.to_owned());
        spec.access_modes = Some(vec!["ReadWriteMany".to_owned()]);
        let room = Quantity("100Gi".to_owned());
        spec.resources.get_or_insert_default().requests = Some([("storage".to_owned(), room)].into());
        claim.status.get_or_insert_default().phase = Some("Pending".to_owned());
        let _ = self.cluster.create(claim);
    }

    /// Somebody does something.
    pub(crate) fn somebody_acts(&mut self) {
        let name = NAMES[self.dice.below(NAMES.len())];
        if !self.cluster.entries.contains_key(name) {
            return self.make_entry(name);
        }
        match self.dice.below(28) {
            0..4 => self.delete_entry(name),
            4 => {
                self.story.tell(|| format!("somebody forces the deletion of {name}"));
                self.annotate(name, annotation::FORCE_DELETE, "true");
            }
            5..8 => self.ask_to_retry(name),
            8..12 => self.edit(name),
            18..23 => self.make_consumer(),
            23..26 => self.change_consumer(),
            12 => {
                let claims: Vec<_> = self.cluster.claims.keys().cloned().collect();
                if let Some(claim) = self.dice.one_of(claims) {
                    self.story.tell(|| format!("somebody deletes claim {claim}"));
                    self.cluster.delete::<PersistentVolumeClaim>(&claim);
                }
            }
            13..15 => {
                let all: Vec<&str> = SHARED.iter().chain(&[ARCHIVE_CLAIM]).copied().collect();
                for claim in all {
                    if !self.cluster.claims.contains_key(claim) {
                        self.story.tell(|| format!("somebody makes claim {claim}"));
                        self.make_claim(claim);
                    }
                }
            }
            15 => {
                if let Some(job) = self.dice.one_of(self.cluster.jobs.keys().cloned().collect::<Vec<_>>()) {
                    self.story.tell(|| format!("somebody deletes Job {job}"));
                    self.cluster.delete::<Job>(&job);
                }
            }
            16 => {
                let workers = self.cluster.pods.iter().filter(|(_, pod)| !is_consumer(pod));
                let workers: Vec<_> = workers.map(|(name, _)| name.clone()).collect();
                if let Some(pod) = self.dice.one_of(workers) {
                    self.story.tell(|| format!("somebody deletes Pod {pod}"));
                    self.delete_pod(&pod);
                }
            }
            17 => self.switch_connection(),
            _ => {
                let repo = REPOS[self.dice.below(REPOS.len())];
                self.story.tell(|| format!("{repo} gets a new commit"));
                self.hub.moves(repo);
            }
        }
    }

    fn switch_connection(&mut self) {
        let name = ["default", "hub"][self.dice.below(2)];
        if self.cluster.connections.contains_key(name) {
            self.story.tell(|| format!("somebody deletes connection {name}"));
            return self.cluster.delete::<HubConnection>(name);
        }
        self.story.tell(|| format!("somebody makes connection {name}"));
        let mut connection = HubConnection::new(name, specs::connection(&mut self.dice));
        connection.metadata.namespace = Some(NAMESPACE.to_owned());
        connection.metadata.generation = Some(1);
        if self.hubs_are_limited {
            connection.spec.max_concurrent_jobs = [None, Some(1), Some(2)][self.dice.below(3)];
        }
        self.limited |= connection.spec.cache.is_some();
        let _ = self.cluster.create(connection);
    }

    fn make_entry(&mut self, name: &str) {
        let spec = specs::entry(&mut self.dice);
        self.story.tell(|| format!("somebody creates {name}: {spec}"));
        let entry: ModelCacheEntry = serde_json::from_value(json!({
            "apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
            "metadata": {"name": name, "generation": 1}, "spec": spec,
        }))
        .unwrap();
        let _ = self.cluster.create(Arc::new(entry));
    }

    pub(crate) fn delete_entry(&mut self, name: &str) {
        self.story.tell(|| format!("somebody deletes {name}"));
        self.cluster.delete::<Arc<ModelCacheEntry>>(name);
    }

    pub(crate) fn ask_to_retry(&mut self, name: &str) {
        let word = self.cluster.version.to_string();
        self.story.tell(|| format!("somebody asks {name} to retry"));
        self.annotate(name, annotation::RETRY, &word);
    }

    fn annotate(&mut self, name: &str, key: &str, value: &str) {
        self.cluster.change::<Arc<ModelCacheEntry>>(name, |entry| {
            let all = Arc::make_mut(entry).metadata.annotations.get_or_insert_default();
            all.insert(key.to_owned(), value.to_owned());
        });
    }

    fn edit(&mut self, name: &str) {
        let dice = &mut self.dice;
        let mut what = "";
        self.cluster.change::<Arc<ModelCacheEntry>>(name, |entry| {
            let entry = Arc::make_mut(entry);
            let before = entry.spec.clone();
            what = specs::change(entry, dice);
            if entry.spec != before {
                entry.metadata.generation = entry.metadata.generation.map(|generation| generation + 1);
            }
        });
        self.story.tell(|| format!("somebody changes {what} of {name}"));
    }

    /// Something goes wrong, or is mended.
    pub(crate) fn something_happens(&mut self) {
        let pods: Vec<String> = self
            .cluster
            .pods
            .iter()
            .filter(|(_, pod)| is_running(pod) && !is_consumer(pod))
            .map(|(name, _)| name.clone())
            .collect();
        let pod = self.dice.one_of(pods);
        let what = self.dice.below(16);
        self.story.tell(|| format!("fault {what} on {pod:?}"));
        match (what, pod) {
            (0, Some(pod)) => self.end_pod(&pod, 137),
            (1, Some(pod)) => self.disrupt(&pod, "EvictionByEvictionAPI"),
            (2, Some(pod)) => self.disrupt(&pod, "DeletionByTaintManager"),
            (3, Some(pod)) => self.logs.entry(pod).or_default().is_lost = true,
            (4, Some(pod)) => {
                // The runtime throws the older half away.
                if let Some(log) = self.logs.get_mut(&pod) {
                    log.lines.drain(..log.lines.len() / 2);
                }
            }
            (5, Some(pod)) => {
                self.hung.insert(pod);
            }
            (6, _) => self.hung.clear(),
            (7, _) => {
                let all = [None, Some(Reason::HubUnavailable), Some(Reason::RateLimited), Some(Reason::TLSUntrusted)];
                self.hub.trouble = all[self.dice.below(all.len())];
            }
            (8, _) => self.hub.lies = !self.hub.lies,
            (9, _) => {
                let refusals = [None, None, Some(Reason::GatedModel), Some(Reason::RepoNotFound)];
                let refusal = refusals[self.dice.below(refusals.len())];
                self.hub.refuses(REPOS[self.dice.below(REPOS.len())], refusal);
            }
            (10, _) => {
                let (read_only, full) = (self.dice.happens(300), self.dice.happens(300));
                if let Some(disk) = self.dice.one_of(self.disks.values_mut()) {
                    (disk.is_read_only, disk.is_full) = (read_only, full);
                }
            }
            (11, _) => self.cluster.quota_is_used_up = !self.cluster.quota_is_used_up,
            (12, _) => self.pods_are_refused = !self.pods_are_refused,
            (13, _) => self.operator = Operator::start(&mut self.cluster),
            (14, _) => self.operator.relist(&mut self.cluster),
            (15, _) => self.failing = [0, 0, 50, 300][self.dice.below(4)],
            _ => {}
        }
    }

    /// Whoever uses a model needs it no more.
    pub(crate) fn end_consumers(&mut self) {
        let consumers = self.cluster.pods.iter().filter(|(_, pod)| is_consumer(pod));
        for name in consumers.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.delete_pod(&name);
        }
    }

    /// Nothing goes wrong any more; what only people can mend stays.
    pub(crate) fn calm_down(&mut self) {
        self.hub.calms_down();
        self.hung.clear();
        self.cluster.quota_is_used_up = false;
        self.pods_are_refused = false;
        self.failing = 0;
        for disk in self.disks.values_mut() {
            (disk.is_read_only, disk.is_full) = (false, false);
        }
    }
}

/// Whether somebody said that the files may stay.
pub(crate) fn may_leave_files(entry: &ModelCacheEntry) -> bool {
    entry.spec.reclaim_policy == Some(ReclaimPolicy::Retain)
        || entry.annotations().contains_key(annotation::FORCE_DELETE)
}
