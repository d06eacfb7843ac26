//! A small world for the pure rooms' tests. The names differ from the product's on purpose, so that swapped ones fail.

use crate::api::{ModelCacheEntry, label};
use crate::controller::plan::queue::Queue;
use crate::controller::plan::{ConnectionSight, Observed, Plan, Scene};
use crate::format::outcome::{Done, Failed, Heard, Line, Manifest, Progress, Say, metadata_lines};
use crate::ident::Reason;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde_json::json;

pub(crate) const NONCE: &str = "word";
pub(crate) const COMMIT: &str = "7dbbc90392e2f80f3d3c277d6e90027e55de9125";

/// 2026-11-24T10:00:00Z
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_795_514_400).unwrap()
}

/// An entry with this spec (YAML), and nothing else in the world.
pub(crate) fn observed(spec: &str) -> Observed {
    let entry: ModelCacheEntry = serde_json::from_value(json!({
        "apiVersion": "modelcache.dev/v1alpha1",
        "kind": "ModelCacheEntry",
        "metadata": {
            "name": "bert", "namespace": "team-a", "uid": "uid-1", "generation": 1,
            "creationTimestamp": "2026-11-24T09:00:00Z",
            "managedFields": [{"manager": "modelcache-finalizer", "operation": "Apply", "time": "2026-11-24T09:00:00Z"},
                {"manager": "kubectl-client-side-apply", "operation": "Update", "time": "2026-11-24T09:00:00Z"}],
        },
        "spec": serde_yaml::from_str::<serde_json::Value>(spec).unwrap(),
    }))
    .unwrap();
    Observed {
        entry,
        config: serde_yaml::from_str("image: registry.example/modelcache:1\nendpoint: https://hub.example").unwrap(),
        connection: ConnectionSight::Defaults,
        scene: Scene::default(),
        peers: Vec::new(),
        readers: Vec::new(),
        queue: Queue::default(),
        not_grown: None,
        neighbours: Vec::new(),
        namespace_terminating: false,
        now: now(),
        nonce: NONCE.to_owned(),
    }
}

/// An entry with an own claim.
pub(crate) fn own_claim() -> Observed {
    observed(
        "{repo: org/model, storage: {volumeClaimTemplate: {spec: {storageClassName: fast, resources: {requests: {storage: 1Gi}}}}}}",
    )
}

/// An entry in a claim that others use too; the claim is there and bound.
pub(crate) fn shared_claim() -> Observed {
    let mut observed = observed("{repo: org/model, storage: {claimName: shared, subPath: cache}}");
    observed.entry.metadata.finalizers = Some(vec![crate::api::FINALIZER.to_owned()]);
    observed.scene.claim = Some(claim("shared", "Bound"));
    observed
}

pub(crate) fn claim(name: &str, phase: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "team-a", "uid": format!("uid-{name}"), "creationTimestamp": "2026-11-24T09:00:00Z"},
        "spec": {"storageClassName": "fast"},
        "status": {"phase": phase},
    }))
    .unwrap()
}

impl Observed {
    /// The world after the plan was carried out, as the next round sees it.
    pub(crate) fn after(mut self, plan: &Plan) -> Self {
        use crate::controller::plan::Action;
        self.entry.status = Some(plan.status.clone());
        for action in &plan.actions {
            match action {
                Action::AddFinalizer => self.entry.metadata.finalizers = Some(vec![crate::api::FINALIZER.to_owned()]),
                Action::RemoveFinalizer => self.entry.metadata.finalizers = None,
                Action::CreateClaim(made) => {
                    let mut made = *made.clone();
                    made.metadata.uid = Some("uid-claim".to_owned());
                    made.status = claim("x", "Bound").status;
                    self.scene.claim = Some(made);
                }
                Action::GrowClaim { to, .. } => {
                    let spec = self.scene.claim.as_mut().unwrap().spec.get_or_insert_default();
                    let requests = spec.resources.get_or_insert_default().requests.get_or_insert_default();
                    requests.insert("storage".to_owned(), to.clone());
                }
                Action::DeleteClaim { .. } => self.scene.claim = None,
                Action::SetClaimOwned { .. } | Action::CreateConfigMap(_) | Action::CreateEntry(_) => {}
                Action::CreateJob(made) => self = self.with_job((**made).clone()),
                Action::DeleteJob { name, .. } => {
                    self.scene.jobs.retain(|job| job.metadata.name.as_ref() != Some(name));
                }
            }
        }
        self
    }

    /// Also has this Job.
    pub(crate) fn with_job(mut self, mut job: Job) -> Self {
        let name = job.metadata.name.clone().unwrap();
        job.metadata.uid = Some(format!("uid-{name}"));
        job.metadata.creation_timestamp = Some(Time(self.now));
        self.scene.jobs.push(job);
        self
    }

    /// The newest Job's Pod, with this status (JSON).
    pub(crate) fn with_pod(mut self, status: &serde_json::Value) -> Self {
        let job = self.scene.jobs.last().unwrap().clone();
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "pod", "namespace": "team-a", "uid": "uid-pod"},
            "spec": {"containers": [{"name": "worker", "resources": {"limits": {"memory": "512Mi"}}}]},
            "status": status,
        }))
        .unwrap();
        pod.metadata.creation_timestamp = Some(Time(self.now));
        pod.metadata.labels = Some([(label::ENTRY_UID.to_owned(), "uid-1".to_owned())].into());
        pod.metadata.owner_references =
            Some(vec![OwnerReference { uid: job.metadata.uid.unwrap(), ..OwnerReference::default() }]);
        self.scene.pods = vec![pod];
        self
    }

    /// The newest Job's Pod runs.
    pub(crate) fn running(self) -> Self {
        self.with_pod(&json!({"phase": "Running", "containerStatuses": [worker(&json!({"running": {}}))]}))
    }

    /// The newest Job's Pod ended with this exit code.
    pub(crate) fn ended(self, code: i32) -> Self {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.with_pod(
            &json!({"phase": phase, "containerStatuses": [worker(&json!({"terminated": {"exitCode": code}}))]}),
        )
    }

    /// The newest Job has this condition.
    pub(crate) fn job_condition(mut self, type_: &str, reason: &str) -> Self {
        let condition = JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            ..JobCondition::default()
        };
        self.scene.jobs.last_mut().unwrap().status =
            Some(JobStatus { conditions: Some(vec![condition]), ..JobStatus::default() });
        self
    }

    /// The worker said this.
    pub(crate) fn says(mut self, say: Say) -> Self {
        let line = serde_json::to_string(&Line { nonce: NONCE.to_owned(), say }).unwrap();
        self.scene.heard.hear(NONCE, &line);
        self
    }

    /// The worker downloaded, said so and ended.
    pub(crate) fn succeeded(mut self) -> Self {
        let manifest = Manifest { sha256: "ab".repeat(32).parse().unwrap(), files: 13, bytes: 91_652_688 };
        for line in metadata_lines(NONCE, &json!({"version": 0, "commitHash": COMMIT}).to_string()) {
            self = self.says(line.say);
        }
        let path = "cache/entries/org_2fmodel/model".parse().unwrap();
        let done = Done { path: Some(path), commit: COMMIT.parse().ok(), manifest: Some(manifest), ..Done::default() };
        self.says(Say::Done(done)).ended(0)
    }

    /// The worker said that it failed, and ended.
    pub(crate) fn failed(self, reason: Reason, retry_after_seconds: Option<u64>) -> Self {
        let failed = Failed { reason, message: format!("about {reason}"), retry_after_seconds };
        self.says(Say::Failed(failed)).ended(i32::from(reason.exit_code()))
    }

    /// The worker said how far it is.
    pub(crate) fn progressed(self, bytes_done: u64, bytes_total: u64) -> Self {
        self.says(Say::Progress(Progress {
            bytes_done,
            bytes_total,
            files_done: 1,
            files_total: 2,
            bytes_per_second: 10,
        }))
    }

    /// So many seconds later.
    pub(crate) fn later(mut self, seconds: i64) -> Self {
        self.now += jiff::SignedDuration::from_secs(seconds);
        self
    }

    /// The Pods and the log are gone.
    pub(crate) fn forgotten(mut self) -> Self {
        forget(&mut self.scene);
        self
    }

    /// An annotation is set.
    pub(crate) fn annotated(mut self, key: &str, value: &str) -> Self {
        self.entry.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        self
    }

    /// Somebody deleted the entry.
    pub(crate) fn deleted(mut self) -> Self {
        self.entry.metadata.deletion_timestamp = Some(Time(self.now));
        self
    }
}

/// A container's status with this state.
pub(crate) fn worker(state: &serde_json::Value) -> serde_json::Value {
    json!({"name": "worker", "image": "registry.example/modelcache:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

/// The Pods and the log are gone; of those that ended their Jobs took note.
pub(crate) fn forget(scene: &mut Scene) {
    let exit_code = |pod: &Pod| {
        let worker = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        Some(worker.state.as_ref()?.terminated.as_ref()?.exit_code)
    };
    let pods = std::mem::take(&mut scene.pods);
    for job in scene.jobs.iter_mut().filter(|job| job.status.is_none()) {
        let is_of = |pod: &&Pod| {
            pod.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
        };
        let Some(code) = pods.iter().find(is_of).and_then(exit_code) else { continue };
        let type_ = if code == 0 { "Complete" } else { "Failed" };
        let condition = JobCondition { type_: type_.to_owned(), status: "True".to_owned(), ..JobCondition::default() };
        job.status = Some(JobStatus { conditions: Some(vec![condition]), ..JobStatus::default() });
    }
    scene.heard = Heard::default();
}
