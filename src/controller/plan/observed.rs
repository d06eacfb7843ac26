//! Everything that one decision is made from.

use super::consumer::Consumer;
use super::placement::NodeSight;
use super::queue::Queue;
use super::{Why, known_model, record, volume_of};
use crate::api::status::AttemptsStatus;
use crate::api::{HubConnection, ModelCacheEntry, Phase, condition, label};
use crate::controller::config::Config;
use crate::format::outcome::Heard;
use crate::format::task::{TASK_VARIABLE, Task};
use crate::ident::Reason;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use std::sync::Arc;

/// Everything that one decision is made from.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The entry.
    pub entry: ModelCacheEntry,
    /// The operator's configuration.
    pub config: Config,
    /// The connection that the entry uses.
    pub connection: ConnectionSight,
    /// What was seen of its claim and its Jobs.
    pub scene: Scene,
    /// The other entries that use the same volume.
    pub peers: Vec<Peer>,
    /// The Jobs that still export the model; looked up only while the entry is being deleted.
    pub readers: Vec<String>,
    /// Who takes from Hubs now and who waits for that; looked at only where there is a limit.
    pub queue: Queue,
    /// Why the claim was not allowed to grow a moment ago.
    pub not_grown: Option<Why>,
    /// All entries of the namespace, this one too; looked at only where the connection limits the room of its models.
    pub neighbours: Vec<Arc<ModelCacheEntry>>,
    /// Whether the namespace is being deleted; looked up only while the entry is.
    pub namespace_terminating: bool,
    /// The time.
    pub now: Timestamp,
    /// A fresh random word for the next task.
    pub nonce: String,
}

/// What was seen of the claims and the Jobs of one object.
#[derive(Debug, Clone, Default)]
pub struct Scene {
    /// The claim of the model's volume, if it exists.
    pub claim: Option<PersistentVolumeClaim>,
    /// Whether the claim's StorageClass is missing; looked up only while the claim is pending.
    pub storage_class_missing: bool,
    /// The claim of the archive, if there is to be one and it exists.
    pub archive_claim: Option<PersistentVolumeClaim>,
    /// The object's Jobs.
    pub jobs: Vec<Job>,
    /// The Pods of its Jobs.
    pub pods: Vec<Pod>,
    /// What the newest Pod's log says.
    pub heard: Heard,
    /// Warning events that explain why something waits.
    pub warnings: Vec<Warning>,
    /// The Pods of the namespace that have a claim or name a model, workers among them.
    pub consumers: Vec<Arc<Consumer>>,
    /// Those of the nodes that matter to its Jobs which exist: see [`super::placement::nodes_to_see`].
    pub nodes: Vec<NodeSight>,
}

/// The connection that an entry uses.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectionSight {
    /// None: the operator's defaults hold.
    Defaults,
    /// This one.
    Found(Box<HubConnection>),
    /// The entry names one that does not exist.
    Missing(String),
}

impl ConnectionSight {
    /// The connection that was found, or not, for somebody who names this one.
    pub fn of(named: Option<&str>, found: Option<HubConnection>) -> Self {
        match found {
            Some(connection) => Self::Found(Box::new(connection)),
            None => named.map_or(Self::Defaults, |name| Self::Missing(name.to_owned())),
        }
    }

    /// The connection, where there is one.
    pub fn found(&self) -> Option<&HubConnection> {
        match self {
            Self::Found(connection) => Some(connection),
            Self::Missing(_) | Self::Defaults => None,
        }
    }
}

/// A warning event about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The kind of object it is about.
    pub kind: String,
    /// The event's reason.
    pub reason: String,
    /// The event's message.
    pub message: String,
}

/// Another entry in the same volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its model's key; absent while an import does not know its model yet.
    pub key: Option<String>,
    /// Whether it was there before this entry.
    pub older: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// How it stands.
    pub standing: PeerStanding,
}

/// How another entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerStanding {
    /// Its model is published.
    Keeps,
    /// It has a worker.
    AtWork,
    /// It waits for its turn, or for another attempt.
    Waits,
    /// It does nothing until somebody changes something.
    Stuck,
}

impl PeerStanding {
    fn of(entry: &ModelCacheEntry) -> Self {
        let status = entry.status.as_ref();
        let is_twin = || {
            let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
            let is = |reason: &str| reason == Reason::DuplicateEntry.as_str();
            conditions.any(|condition| condition.type_ == condition::READY && is(&condition.reason))
        };
        match status.and_then(|status| status.phase).unwrap_or_default() {
            Phase::Ready => Self::Keeps,
            Phase::Resolving | Phase::Provisioning | Phase::Downloading | Phase::Importing => Self::AtWork,
            // It waits for the older twin to go.
            Phase::Failed if is_twin() => Self::Waits,
            Phase::Failed | Phase::Suspended | Phase::Evicted => Self::Stuck,
            Phase::Pending | Phase::Queued | Phase::Retrying | Phase::Deleting => Self::Waits,
        }
    }
}

/// A Job with the task that it carries.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    /// The Job.
    pub job: &'a Job,
    /// The task; absent when the Job does not carry one that this release reads.
    pub task: Option<Task>,
}

impl Observed {
    /// The entry's name.
    pub fn name(&self) -> &str {
        self.entry.metadata.name.as_deref().unwrap_or_default()
    }

    /// The entry's namespace.
    pub fn namespace(&self) -> &str {
        self.entry.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The entry's uid.
    pub fn uid(&self) -> &str {
        self.entry.metadata.uid.as_deref().unwrap_or_default()
    }

    /// An annotation of the entry.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.entry.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// What was tried.
    pub fn attempts(&self) -> Option<&AttemptsStatus> {
        self.entry.status.as_ref()?.attempts.as_ref()
    }

    /// The newest value of the retry annotation, when it was not acted on yet.
    pub fn asked_to_retry(&self) -> Option<&str> {
        record::asked_to_retry(&self.entry.metadata, self.attempts())
    }

    /// The Job whose end is recorded in the status already.
    pub fn recorded_job(&self) -> Option<&str> {
        self.attempts()?.last_job.as_deref()
    }

    /// How many attempts ended since the last success, change of the spec or retry.
    pub fn attempts_count(&self) -> i64 {
        self.attempts().map_or(0, |attempts| attempts.count)
    }

    /// The Job that is at work, or whose end is not recorded yet.
    pub fn current(&self) -> Option<Attempt<'_>> {
        self.scene.current(self.recorded_job())
    }

    /// Whether there is, or may be, something of the model on its volume.
    pub fn has_files(&self) -> bool {
        self.entry.status.as_ref().is_some_and(|status| status.manifest.is_some())
    }

    /// Whether the claim was made for this entry (and not by somebody else under the same name).
    pub fn claim_is_own(&self) -> bool {
        let uid = self.scene.claim.as_ref().and_then(|claim| claim.metadata.labels.as_ref()?.get(label::ENTRY_UID));
        uid.map(String::as_str) == Some(self.uid())
    }
}

impl Scene {
    /// The Job that is at work, or whose end is not recorded yet; `recorded` is the one whose end is.
    pub fn current(&self, recorded: Option<&str>) -> Option<Attempt<'_>> {
        let job = self.jobs.iter().filter(|job| job.metadata.name.as_deref() != recorded).max_by_key(|job| {
            let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
            // A Job that goes away counts only when there is no other.
            (job.metadata.deletion_timestamp.is_none(), created)
        })?;
        Some(Attempt { job, task: task_of(job) })
    }

    /// The Pods of a Job, the newest first.
    pub fn pods_of(&self, job: &Job) -> Vec<&Pod> {
        let uid = job.metadata.uid.as_deref();
        let mut pods: Vec<_> = self
            .pods
            .iter()
            .filter(|pod| pod.metadata.owner_references.iter().flatten().any(|owner| Some(owner.uid.as_str()) == uid))
            .collect();
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)));
        pods
    }
}

/// The other entries of the namespace that use the same volume as this one.
pub fn peers<'a>(entry: &ModelCacheEntry, all: impl IntoIterator<Item = &'a ModelCacheEntry>) -> Vec<Peer> {
    let Some(volume) = volume_of(entry) else { return Vec::new() };
    // Of those of one second the first by name goes first, as for the Pods that ask for their model.
    let age = |entry: &ModelCacheEntry| {
        (entry.metadata.creation_timestamp.as_ref().map(|time| time.0), entry.name_any(), entry.uid())
    };
    let neighbours =
        all.into_iter().filter(|other| other.namespace() == entry.namespace() && other.uid() != entry.uid());
    neighbours
        .filter(|other| volume_of(other).as_ref() == Some(&volume))
        .map(|other| Peer {
            name: other.name_any(),
            key: known_model(other).map(|model| model.key().to_string()),
            standing: PeerStanding::of(other),
            older: age(other) < age(entry),
            deleting: other.metadata.deletion_timestamp.is_some(),
        })
        .collect()
}

/// The task that a Job carries in its environment.
pub fn task_of(job: &Job) -> Option<Task> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let env = pod.containers.first()?.env.as_ref()?;
    let text = env.iter().find(|variable| variable.name == TASK_VARIABLE)?.value.as_ref()?;
    serde_json::from_str(text).ok()
}
