//! A cluster: its objects, what the API server does with them, and the word of each change.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use modelcache::api::{HubConnection, ModelCacheEntry};
use modelcache::controller::plan::{Consumer, Warning};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The one namespace.
pub(crate) const NAMESPACE: &str = "team-a";

/// What is in the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) now: Timestamp,
    /// Counts every change: the next resourceVersion, and the number in the next uid.
    pub(crate) version: u64,
    pub(crate) entries: BTreeMap<String, Arc<ModelCacheEntry>>,
    pub(crate) claims: BTreeMap<String, PersistentVolumeClaim>,
    pub(crate) jobs: BTreeMap<String, Job>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) connections: BTreeMap<String, HubConnection>,
    /// Events, by the uid of what they are about.
    pub(crate) warnings: BTreeMap<String, Warning>,
    /// What the operator's watches have not told yet.
    pub(crate) watches: BTreeMap<Kind, VecDeque<Change>>,
    /// Whether a quota refuses new Jobs and claims.
    pub(crate) quota_is_used_up: bool,
    /// Whether the namespace is being deleted.
    pub(crate) is_terminating: bool,
    /// What the operator wrote, ever.
    pub(crate) writes: u64,
}

/// What is watched. Each kind has its own watch, and they are not in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Entry,
    Claim,
    Job,
    Pod,
    Connection,
}

pub(crate) const KINDS: [Kind; 5] = [Kind::Entry, Kind::Claim, Kind::Job, Kind::Pod, Kind::Connection];

/// The word of a change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) name: String,
    /// The object as it was then; none where it is gone.
    pub(crate) seen: Option<Seen>,
    /// The object's labels and owner.
    pub(crate) about: ObjectMeta,
}

/// What a watch hands over of an object.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Entry(Arc<ModelCacheEntry>),
    Consumer(Arc<Consumer>),
    Connection(Arc<HubConnection>),
    Job(Arc<Job>),
    /// Nothing but that it is there.
    Other,
}

/// An object of any kind, as far as the API server cares.
pub(crate) trait Object: Clone {
    const KIND: Kind;
    fn meta(&mut self) -> &mut ObjectMeta;
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self>;
}

macro_rules! object {
    ($type:ty, $kind:ident, $all:ident) => {
        impl Object for $type {
            const KIND: Kind = Kind::$kind;
            fn meta(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
            fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
                &mut cluster.$all
            }
        }
    };
}

object!(PersistentVolumeClaim, Claim, claims);
object!(Job, Job, jobs);
object!(Pod, Pod, pods);
object!(HubConnection, Connection, connections);

impl Object for Arc<ModelCacheEntry> {
    const KIND: Kind = Kind::Entry;
    fn meta(&mut self) -> &mut ObjectMeta {
        &mut Self::make_mut(self).metadata
    }
    fn all(cluster: &mut Cluster) -> &mut BTreeMap<String, Self> {
        &mut cluster.entries
    }
}

/// Why the API server does not create an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    AlreadyExists,
    Quota,
    Terminating,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            now: Timestamp::from_second(1_795_514_400).unwrap(),
            version: 1,
            entries: BTreeMap::new(),
            claims: BTreeMap::new(),
            jobs: BTreeMap::new(),
            pods: BTreeMap::new(),
            connections: BTreeMap::new(),
            warnings: BTreeMap::new(),
            watches: KINDS.into_iter().map(|kind| (kind, VecDeque::new())).collect(),
            quota_is_used_up: false,
            is_terminating: false,
            writes: 0,
        }
    }

    pub(crate) fn later(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    /// Creates an object: uid, time and version are the API server's.
    pub(crate) fn create<T: Object + Told>(&mut self, mut object: T) -> Result<(), Refusal> {
        let name = object.meta().name.clone().unwrap();
        if self.is_terminating {
            return Err(Refusal::Terminating);
        }
        if T::all(self).contains_key(&name) {
            return Err(Refusal::AlreadyExists);
        }
        if self.quota_is_used_up && matches!(T::KIND, Kind::Job | Kind::Claim) {
            return Err(Refusal::Quota);
        }
        self.version += 1;
        let (uid, now) = (format!("uid-{}", self.version), self.now);
        let meta = object.meta();
        meta.uid = Some(uid);
        meta.creation_timestamp = Some(Time(now));
        meta.namespace = Some(NAMESPACE.to_owned());
        self.put(object);
        Ok(())
    }

    /// Keeps an object as it is now, and tells the watch.
    pub(crate) fn put<T: Object + Told>(&mut self, mut object: T) {
        self.version += 1;
        object.meta().resource_version = Some(self.version.to_string());
        let name = object.meta().name.clone().unwrap();
        self.tell::<T>(&name, &mut object, true);
        T::all(self).insert(name, object);
    }

    /// Changes an object, if it is there.
    pub(crate) fn change<T: Object + Told>(&mut self, name: &str, change: impl FnOnce(&mut T)) {
        if let Some(mut object) = T::all(self).get(name).cloned() {
            change(&mut object);
            self.put(object);
        }
    }

    /// Asks for an object's deletion: it goes when no finalizer holds it.
    pub(crate) fn delete<T: Object + Told>(&mut self, name: &str) {
        let now = self.now;
        let Some(mut object) = T::all(self).get(name).cloned() else { return };
        if object.meta().finalizers.as_ref().is_none_or(Vec::is_empty) {
            return self.remove::<T>(name);
        }
        if object.meta().deletion_timestamp.is_none() {
            object.meta().deletion_timestamp = Some(Time(now));
            if T::KIND == Kind::Entry {
                object.meta().generation = object.meta().generation.map(|generation| generation + 1);
            }
            self.put(object);
        }
    }

    /// An object is gone.
    pub(crate) fn remove<T: Object + Told>(&mut self, name: &str) {
        if let Some(mut object) = T::all(self).remove(name) {
            self.version += 1;
            self.tell::<T>(name, &mut object, false);
        }
    }

    fn tell<T: Object + Told>(&mut self, name: &str, object: &mut T, is_there: bool) {
        let seen = is_there.then(|| object.seen());
        let meta = object.meta();
        let about = ObjectMeta {
            labels: meta.labels.clone(),
            owner_references: meta.owner_references.clone(),
            ..ObjectMeta::default()
        };
        let change = Change { name: name.to_owned(), seen, about };
        self.watches.get_mut(&T::KIND).unwrap().push_back(change);
    }

    /// Whether something with this uid exists that can own others.
    pub(crate) fn has_owner(&self, uid: &str) -> bool {
        let is = |meta: &ObjectMeta| meta.uid.as_deref() == Some(uid);
        self.entries.values().any(|entry| is(&entry.metadata)) || self.jobs.values().any(|job| is(&job.metadata))
    }

    /// The Pods that a Job owns.
    pub(crate) fn pods_of(&self, job: &Job) -> Vec<String> {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let owned = |pod: &&Pod| pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid);
        self.pods.values().filter(owned).filter_map(|pod| pod.metadata.name.clone()).collect()
    }
}

/// What a watch hands over besides the name.
pub(crate) trait Told {
    fn seen(&self) -> Seen {
        Seen::Other
    }
}

impl Told for PersistentVolumeClaim {}
impl Told for Job {
    fn seen(&self) -> Seen {
        Seen::Job(Arc::new(self.clone()))
    }
}
impl Told for Pod {
    fn seen(&self) -> Seen {
        Seen::Consumer(Arc::new(Consumer::from(self.clone())))
    }
}
impl Told for HubConnection {
    fn seen(&self) -> Seen {
        Seen::Connection(Arc::new(self.clone()))
    }
}
impl Told for Arc<ModelCacheEntry> {
    fn seen(&self) -> Seen {
        Seen::Entry(Self::clone(self))
    }
}
