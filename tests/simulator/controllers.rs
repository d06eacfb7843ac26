//! What Kubernetes' own controllers do: Jobs make Pods, claims bind, Pods run and end, garbage goes.

use super::World;
use super::cluster::Cluster;
use super::consumers::{is_consumer, is_gated};
use super::disk::Disk;
use super::operator::metadata;
use super::worker::{Around, Worker};
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
    PodCondition,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::ResourceExt;
use modelcache::controller::plan::attempt::{is_running, is_unfinished, may_write};
use modelcache::controller::plan::sizing::bytes_of;
use modelcache::controller::plan::{Warning, observed::task_of};

/// The only node.
pub(crate) const NODE: &str = "node";

/// One thing that a controller may do now.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    /// A Job makes a Pod, or takes note of one's end, or its time is up.
    Job(String),
    /// A Pod gets its node, begins to run, or its worker does a little.
    Pod(String),
    /// A claim gets its volume.
    Bind(String),
    /// A claim gets all the room that it asks for.
    Resize(String),
    /// A claim that is being deleted goes.
    Unprotect(String),
    /// A Pod whose owner is gone is deleted.
    CollectPod(String),
    CollectJob(String),
    CollectClaim(String),
}

/// The claims that a Pod mounts.
pub(crate) fn claims_of(pod: &Pod) -> Vec<&str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str())).collect()
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn class(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

/// What happened to a Pod without its worker's doing.
fn has_condition(pod: &Pod, type_: &str) -> bool {
    pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|condition| condition.type_ == type_)
}

/// What a claim asks for, and what it has.
fn asked_and_there(claim: &PersistentVolumeClaim) -> (Option<Quantity>, Option<Quantity>) {
    let asked = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("storage"));
    let there = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
    (asked.cloned(), there.cloned())
}

pub(crate) fn is_scheduled(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

/// Whether the Job owns nothing that runs or ends any more, and what became of it.
enum Next {
    MakePod,
    Complete,
    Fail(&'static str),
    EndPods,
    Forget(String),
}

impl World {
    /// Everything that controllers may do now.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let cluster = &self.cluster;
        let mut moves = Vec::new();
        for (name, job) in &cluster.jobs {
            if is_orphan(cluster, job.owner_references()) {
                moves.push(Move::CollectJob(name.clone()));
            } else if next_of(cluster, job).is_some() {
                moves.push(Move::Job(name.clone()));
            }
        }
        for (name, pod) in &cluster.pods {
            if pod.metadata.deletion_timestamp.is_none() && is_orphan(cluster, pod.owner_references()) {
                moves.push(Move::CollectPod(name.clone()));
            }
            if self.pod_can_move(pod) {
                moves.push(Move::Pod(name.clone()));
            }
        }
        for (name, claim) in &cluster.claims {
            let is_going = claim.metadata.deletion_timestamp.is_some();
            let is_used = |pod: &Pod| claims_of(pod).contains(&name.as_str()) && may_write(pod) && is_scheduled(pod);
            let is_wanted = |pod: &Pod| claims_of(pod).contains(&name.as_str()) && may_write(pod) && !is_gated(pod);
            if is_going && !cluster.pods.values().any(is_used) {
                moves.push(Move::Unprotect(name.clone()));
            }
            let can_bind = match class(claim) {
                "missing" => false,
                "late" => cluster.pods.values().any(is_wanted),
                _ => true,
            };
            if !is_going && claim_phase(claim) == "Pending" && can_bind {
                moves.push(Move::Bind(name.clone()));
            }
            let (asked, there) = asked_and_there(claim);
            if !is_going && claim_phase(claim) == "Bound" && asked != there {
                moves.push(Move::Resize(name.clone()));
            }
            if !is_going && is_orphan(cluster, claim.owner_references()) {
                moves.push(Move::CollectClaim(name.clone()));
            }
        }
        moves
    }

    fn pod_can_move(&self, pod: &Pod) -> bool {
        if is_consumer(pod) {
            return self.consumer_can_move(pod);
        }
        let is_going = pod.metadata.deletion_timestamp.is_some();
        if self.hung.contains(&pod.name_any()) {
            return false;
        }
        if is_running(pod) {
            return self.workers.contains_key(&pod.name_any()) || is_going;
        }
        if !may_write(pod) {
            return is_going && self.is_accounted(pod);
        }
        is_going || is_scheduled(pod) || self.can_be_scheduled(pod) || !has_condition(pod, "PodScheduled")
    }

    pub(crate) fn can_be_scheduled(&self, pod: &Pod) -> bool {
        claims_of(pod).iter().all(|name| {
            self.cluster
                .claims
                .get(*name)
                .is_some_and(|claim| claim_phase(claim) == "Bound" && claim.metadata.deletion_timestamp.is_none())
        })
    }

    /// A Job's finalizer holds a Pod until the Job took note of its end.
    fn is_accounted(&self, pod: &Pod) -> bool {
        let owners = pod.owner_references();
        let job =
            self.cluster.jobs.values().find(|job| owners.iter().any(|owner| Some(&owner.uid) == job.uid().as_ref()));
        job.is_none_or(|job| !is_unfinished(job) || job.metadata.deletion_timestamp.is_some())
            || has_condition(pod, "DisruptionTarget")
    }

    pub(crate) fn do_move(&mut self, what: Move) {
        self.story.tell(|| format!("{what:?}"));
        match what {
            Move::Job(name) => self.move_job(&name),
            Move::Pod(name) => self.move_pod(&name),
            Move::Bind(name) => {
                let claim = self.cluster.claims[&name].uid().unwrap();
                self.disks.insert(claim, Disk::default());
                self.cluster.change::<PersistentVolumeClaim>(&name, |claim| {
                    claim.status.get_or_insert_default().phase = Some("Bound".to_owned());
                });
                self.resize(&name);
            }
            Move::Resize(name) => self.resize(&name),
            Move::Unprotect(name) => {
                self.disks.remove(&self.cluster.claims[&name].uid().unwrap());
                self.cluster.remove::<PersistentVolumeClaim>(&name);
            }
            Move::CollectPod(name) => self.delete_pod(&name),
            Move::CollectJob(name) => self.cluster.delete::<Job>(&name),
            Move::CollectClaim(name) => self.cluster.delete::<PersistentVolumeClaim>(&name),
        }
    }

    fn resize(&mut self, name: &str) {
        let claim = &self.cluster.claims[name];
        let (uid, asked) = (claim.uid().unwrap(), asked_and_there(claim).0.unwrap());
        self.disks.get_mut(&uid).unwrap().capacity_bytes = bytes_of(&asked).unwrap();
        self.cluster.change::<PersistentVolumeClaim>(name, |claim| {
            let capacity = claim.status.get_or_insert_default().capacity.get_or_insert_default();
            capacity.insert("storage".to_owned(), asked);
        });
    }

    /// Asks for a Pod's end: one that never ran goes at once.
    pub(crate) fn delete_pod(&mut self, name: &str) {
        let now = self.cluster.now;
        self.cluster.change::<Pod>(name, |pod| {
            pod.metadata.deletion_timestamp.get_or_insert(Time(now));
        });
    }

    fn move_job(&mut self, name: &str) {
        let job = self.cluster.jobs[name].clone();
        match next_of(&self.cluster, &job) {
            Some(Next::MakePod) => self.make_pod(&job),
            Some(Next::Complete) => self.end_job(name, "Complete", "CompletionsReached"),
            Some(Next::Fail(reason)) => self.end_job(name, "Failed", reason),
            Some(Next::EndPods) => {
                for pod in self.cluster.pods_of(&job) {
                    self.delete_pod(&pod);
                }
                self.end_job(name, "FailureTarget", "DeadlineExceeded");
            }
            Some(Next::Forget(pod)) => self.delete_pod(&pod),
            None => {}
        }
    }

    fn end_job(&mut self, name: &str, type_: &str, reason: &str) {
        let condition = JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            ..JobCondition::default()
        };
        self.cluster.change::<Job>(name, |job| {
            job.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
        });
    }

    fn make_pod(&mut self, job: &Job) {
        let uid = job.uid().unwrap();
        if self.pods_are_refused {
            let message = "pods is forbidden: exceeded quota".to_owned();
            let warning = Warning { kind: "Job".into(), reason: "FailedCreate".into(), message };
            self.cluster.warnings.insert(uid, warning);
            // It is tried again later: nothing else happens to the Job meanwhile.
            return;
        }
        let template = job.spec.as_ref().unwrap().template.clone();
        let mut meta = metadata(&format!("{}-{}", job.name_any(), self.cluster.version));
        meta.labels = template.metadata.and_then(|meta| meta.labels);
        meta.owner_references = Some(vec![OwnerReference {
            kind: "Job".into(),
            name: job.name_any(),
            uid,
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        let mut pod = Pod { metadata: meta, spec: template.spec, status: None };
        pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
        let _ = self.cluster.create(pod);
    }

    fn move_pod(&mut self, name: &str) {
        let pod = self.cluster.pods[name].clone();
        if is_consumer(&pod) {
            return self.move_consumer(&pod);
        }
        let is_going = pod.metadata.deletion_timestamp.is_some();
        if is_running(&pod) {
            return self.work(name, &pod, is_going);
        }
        if !may_write(&pod) || is_going && !is_scheduled(&pod) && is_orphan(&self.cluster, pod.owner_references()) {
            self.logs.remove(name);
            return self.cluster.remove::<Pod>(name);
        }
        if is_going {
            return self.end_pod(name, 137);
        }
        if !is_scheduled(&pod) {
            return self.schedule(name, &pod);
        }
        let state = ContainerState { running: Some(ContainerStateRunning::default()), ..ContainerState::default() };
        let owner = pod.owner_references().first().map(|owner| owner.uid.clone());
        let job = self.cluster.jobs.values().find(|job| job.uid() == owner);
        // Its own text of the task is what a worker reads.
        let task = job.and_then(task_of).or_else(|| task_of(&as_job(&pod)));
        if let Some(task) = task {
            self.workers.insert(name.to_owned(), Worker::new(task));
        }
        self.cluster.change::<Pod>(name, |pod| set_state(pod, "Running", state));
    }

    fn schedule(&mut self, name: &str, pod: &Pod) {
        if self.can_be_scheduled(pod) {
            return self.cluster.change::<Pod>(name, |pod| {
                pod.spec.get_or_insert_default().node_name = Some(NODE.to_owned());
                pod.status.get_or_insert_default().conditions = None;
            });
        }
        let unbound = PodCondition {
            type_: "PodScheduled".to_owned(),
            status: "False".to_owned(),
            message: Some("0/1 nodes are available: a claim is not bound".to_owned()),
            ..PodCondition::default()
        };
        self.cluster.change::<Pod>(name, |pod| {
            pod.status.get_or_insert_default().conditions.get_or_insert_default().push(unbound);
        });
    }

    /// The worker of a running Pod does a little, or is told to stop.
    fn work(&mut self, name: &str, pod: &Pod, is_going: bool) {
        let Some(mut worker) = self.workers.remove(name) else { return self.end_pod(name, 137) };
        let log = self.logs.entry(name.to_owned()).or_default();
        if is_going && self.dice.happens(500) {
            let code = worker.is_stopped(&mut log.lines);
            return self.end_pod(name, code);
        }
        let claim = claims_of(pod).first().and_then(|name| self.cluster.claims.get(*name)?.uid());
        let disk = claim.and_then(|uid| self.disks.get_mut(&uid));
        if disk.is_none() && !claims_of(pod).is_empty() {
            return self.end_pod(name, 137);
        }
        let now = self.cluster.now.as_second();
        let around = Around { disk, hub: &self.hub, log: &mut log.lines, dice: &mut self.dice, now };
        match worker.step(around) {
            None => {
                self.workers.insert(name.to_owned(), worker);
            }
            Some(code) => self.end_pod(name, code),
        }
    }

    /// The container of a Pod ends.
    pub(crate) fn end_pod(&mut self, name: &str, code: i32) {
        self.workers.remove(name);
        let ended = ContainerStateTerminated { exit_code: code, ..ContainerStateTerminated::default() };
        let state = ContainerState { terminated: Some(ended), ..ContainerState::default() };
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.cluster.change::<Pod>(name, |pod| set_state(pod, phase, state));
    }

    /// The cluster takes a Pod away.
    pub(crate) fn disrupt(&mut self, name: &str, reason: &str) {
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            ..PodCondition::default()
        };
        self.cluster.change::<Pod>(name, |pod| {
            pod.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
        });
        self.delete_pod(name);
    }
}

fn as_job(pod: &Pod) -> Job {
    let mut job = Job::default();
    job.spec.get_or_insert_default().template.spec.clone_from(&pod.spec);
    job
}

fn set_state(pod: &mut Pod, phase: &str, state: ContainerState) {
    let status = pod.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    let container = ContainerStatus { name: "worker".into(), state: Some(state), ..ContainerStatus::default() };
    status.container_statuses = Some(vec![container]);
}

fn is_orphan(cluster: &Cluster, owners: &[OwnerReference]) -> bool {
    !owners.is_empty() && !owners.iter().any(|owner| cluster.has_owner(&owner.uid))
}

/// What a Job's controller does next: one Pod at a time, none after a failure that is not the cluster's own doing.
fn next_of(cluster: &Cluster, job: &Job) -> Option<Next> {
    let is_failing = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "FailureTarget");
    let pods: Vec<&Pod> = cluster.pods_of(job).iter().map(|name| &cluster.pods[name]).collect();
    let ended = |phase: &str| {
        pods.iter().find(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase))
    };
    if !is_unfinished(job) {
        // A Pod of a finished Job that is not deleted stays until the Job goes.
        return None;
    }
    if is_failing {
        return pods.iter().all(|pod| !may_write(pod)).then_some(Next::Fail("DeadlineExceeded"));
    }
    if ended("Succeeded").is_some() {
        return Some(Next::Complete);
    }
    let disrupted = |pod: &&&Pod| has_condition(pod, "DisruptionTarget");
    if pods.iter().any(|pod| !may_write(pod) && !disrupted(&pod)) {
        return Some(Next::Fail("BackoffLimitExceeded"));
    }
    let deadline = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    if let (Some(deadline), Some(created)) = (deadline, &job.metadata.creation_timestamp)
        && (cluster.now.duration_since(created.0)).as_secs() > deadline
    {
        return Some(Next::EndPods);
    }
    if let Some(gone) = pods.iter().find(|pod| !may_write(pod) && pod.metadata.deletion_timestamp.is_none()) {
        return Some(Next::Forget(gone.name_any()));
    }
    pods.iter().all(|pod| !may_write(pod)).then_some(Next::MakePod)
}
