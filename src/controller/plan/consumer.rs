//! A Pod, trimmed to what decisions need: the memory of all Pods of a cluster stays small.

use super::inject::{Injection, words};
use super::trimmed::{self, stands_for};
use crate::api::{annotation, label};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, PodStatus, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A Pod, trimmed on arrival.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "Pod")]
pub struct Consumer {
    /// Name, namespace, uid, version and times; nothing else is kept.
    metadata: ObjectMeta,
    /// Whether it ended, so that it reads and writes nothing any more.
    pub is_over: bool,
    /// Whether scheduling gates keep it from starting.
    pub is_gated: bool,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// When its kubelet accepted it. What it mounts by a link was resolved after that.
    pub started: Option<Timestamp>,
    /// When the last of its containers began, each of which resolves its links anew; absent while one has yet to begin.
    pub begun: Option<Timestamp>,
    /// Its service account.
    pub account: String,
    /// Kind and name of what controls it, such as `Deployment/web`; its own where nothing does.
    pub owner: String,
    /// The uid of the object whose worker it is.
    pub worker: Option<String>,
    /// Whether it is the worker of an export, which reads a model.
    pub is_export: bool,
    /// The claims that it mounts.
    pub claims: Vec<MountedClaim>,
    /// The models and entries that its annotation names.
    pub models: Vec<String>,
    /// What it asked for by label, and what became of that.
    pub injection: Option<Injection>,
}

/// A claim that a Pod has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedClaim {
    /// The claim.
    pub name: String,
    /// The folders below the claim's root that a container sees; the root is the empty path.
    pub folders: Vec<PathBuf>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// When it was created.
    pub fn created(&self) -> Option<Timestamp> {
        self.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// Whether it has been told to end.
    pub fn is_ending(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Who it is, for people: `team-a/default/Deployment/web`.
    pub fn identity(&self) -> String {
        format!("{}/{}/{}", self.metadata.namespace.as_deref().unwrap_or_default(), self.account, self.owner)
    }

    /// Whether a container sees exactly this folder of a claim.
    pub fn mounts(&self, claim: &str, folder: &Path) -> bool {
        self.claims.iter().any(|mounted| mounted.name == claim && mounted.folders.iter().any(|seen| seen == folder))
    }

    /// Whether it waits at our gate.
    pub fn waits(&self) -> bool {
        !self.is_over && self.injection.as_ref().is_some_and(|injection| injection.gate.is_some())
    }

    /// Whether it asked for models and got none.
    pub fn got_nothing(&self) -> bool {
        !self.is_over
            && self.injection.as_ref().is_some_and(|injection| injection.is_asked && injection.entries.is_empty())
    }

    /// Whether it has this claim, mounted in a container or not.
    pub fn has_claim(&self, name: &str) -> bool {
        self.claims.iter().any(|claim| claim.name == name)
    }

    /// Whether anything about it may matter to anybody.
    pub fn matters(&self) -> bool {
        self.worker.is_some() || !self.claims.is_empty() || !self.models.is_empty() || self.injection.is_some()
    }

    /// Whether nothing that is kept of it changed.
    pub fn is_like(&self, other: &Self) -> bool {
        trimmed::is_like(self, other)
    }
}

impl From<Pod> for Consumer {
    fn from(pod: Pod) -> Self {
        let injection = Injection::of(&pod);
        let (metadata, spec) = (pod.metadata, pod.spec.unwrap_or_default());
        let status = pod.status.unwrap_or_default();
        Self {
            is_over: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            is_gated: spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
            begun: begun(&status),
            started: status.start_time.map(|Time(time)| time),
            owner: owner(&metadata),
            worker: worker(&metadata),
            is_export: worker(&metadata).is_some() && has_label(&metadata, label::EXPORT_UID),
            claims: claims(&spec),
            models: models(&metadata),
            injection,
            node: spec.node_name,
            account: spec.service_account_name.unwrap_or_else(|| "default".to_owned()),
            metadata: trimmed::metadata(metadata),
        }
    }
}

fn begun(status: &PodStatus) -> Option<Timestamp> {
    let init = status.init_container_statuses.iter().flatten();
    let all = init
        .chain(status.container_statuses.iter().flatten())
        .chain(status.ephemeral_container_statuses.iter().flatten());
    // One that ended reads nothing any more; where it begins again, it waits first.
    let living = all.filter(|container| container.state.as_ref().is_none_or(|state| state.terminated.is_none()));
    let begun = |container: &ContainerStatus| {
        container.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(|Time(time)| *time)
    };
    living.map(begun).collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn owner(metadata: &ObjectMeta) -> String {
    let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let Some(controller) = controller else {
        return format!("Pod/{}", metadata.name.as_deref().unwrap_or_default());
    };
    // A ReplicaSet is named after its Deployment and a digest of the Pod's template.
    let hash = metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
    let deployment = hash
        .filter(|_| controller.kind == "ReplicaSet")
        .and_then(|hash| controller.name.strip_suffix(hash)?.strip_suffix('-'));
    match deployment {
        Some(name) => format!("Deployment/{name}"),
        None => format!("{}/{}", controller.kind, controller.name),
    }
}

fn has_label(metadata: &ObjectMeta, key: &str) -> bool {
    metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(key))
}

fn worker(metadata: &ObjectMeta) -> Option<String> {
    let made_by_job = metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Job");
    let labels = metadata.labels.as_ref().filter(|_| made_by_job)?;
    [label::ENTRY_UID, label::EXPORT_UID, label::IMPORT_UID, label::INVENTORY_UID, label::CHECK_UID]
        .into_iter()
        .find_map(|key| labels.get(key).cloned())
}

/// The annotation's words: entries or models, separated by commas or spaces.
fn models(metadata: &ObjectMeta) -> Vec<String> {
    let named = metadata.annotations.as_ref().and_then(|all| all.get(annotation::MODELS));
    named.into_iter().flat_map(|text| words(text)).map(str::to_owned).collect()
}

fn claims(spec: &PodSpec) -> Vec<MountedClaim> {
    let init = spec.init_containers.iter().flatten().flat_map(|container| container.volume_mounts.iter().flatten());
    let main = spec.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten());
    let ephemeral =
        spec.ephemeral_containers.iter().flatten().flat_map(|container| container.volume_mounts.iter().flatten());
    let mounts: Vec<_> = init.chain(main).chain(ephemeral).collect();
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        let mut folders: Vec<_> =
            mounts.iter().filter(|mount| mount.name == volume.name).map(|mount| folder(mount)).collect();
        folders.sort_unstable();
        folders.dedup();
        Some(MountedClaim { name: volume.persistent_volume_claim.as_ref()?.claim_name.clone(), folders })
    };
    spec.volumes.iter().flatten().filter_map(claim).collect()
}

/// The folder below the volume's root. Where it depends on the Pod's environment, the part before that.
fn folder(mount: &VolumeMount) -> PathBuf {
    let plain = mount.sub_path.as_deref().unwrap_or_default();
    let known = |text: &str| {
        let names = Path::new(text).components();
        names.take_while(|name| !name.as_os_str().to_string_lossy().contains("$(")).collect()
    };
    mount.sub_path_expr.as_deref().map_or_else(|| Path::new(plain).components().collect(), known)
}

stands_for!(Consumer, Pod);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn consumer(pod: serde_json::Value) -> Consumer {
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_is_trimmed_to_what_is_needed() {
        let pod = consumer(json!({
            "metadata": {
                "name": "web-5d4f-x", "namespace": "team-a", "uid": "u", "resourceVersion": "7",
                "managedFields": [{"manager": "kubelet"}],
                "labels": {"pod-template-hash": "5d4f"}, "annotations": {"modelcache.dev/models": "bert, org/model@v1"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f", "uid": "r", "controller": true}],
            },
            "spec": {
                "nodeName": "node-1", "serviceAccountName": "web",
                "volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}, {"name": "x", "emptyDir": {}}],
                "initContainers": [{"name": "i", "volumeMounts": [{"name": "m", "mountPath": "/i", "subPath": "entries/a/"}]}],
                "containers": [{"name": "c", "volumeMounts": [{"name": "m", "mountPath": "/m", "subPathExpr": "views/$(X)/refs"}, {"name": "x", "mountPath": "/x"}]}],
                "ephemeralContainers": [{"name": "e", "volumeMounts": [{"name": "m", "mountPath": "/e"}]}],
            },
            "status": {"phase": "Running", "startTime": "2026-11-24T09:00:00Z"},
        }));
        assert_eq!(pod.identity(), "team-a/web/Deployment/web");
        assert_eq!(pod.models, ["bert", "org/model@v1"]);
        let folders = ["", "entries/a", "views"].map(PathBuf::from).to_vec();
        assert_eq!(pod.claims, [MountedClaim { name: "models".into(), folders }]);
        assert_eq!(
            (pod.node.as_deref(), pod.is_over, pod.is_gated, &pod.worker),
            (Some("node-1"), false, false, &None)
        );
        assert!(pod.metadata.managed_fields.is_none() && pod.metadata.labels.is_none());
    }

    #[test]
    fn a_link_is_looked_up_until_the_last_container_began() {
        let begun = |states: serde_json::Value| {
            let state = |state: &serde_json::Value| json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state});
            let all: Vec<_> = states.as_array().unwrap().iter().map(state).collect();
            consumer(json!({"metadata": {}, "spec": {"containers": []}, "status": {"containerStatuses": all}})).begun
        };
        let running = |at: &str| json!({"running": {"startedAt": format!("2026-11-24T{at}:00Z")}});
        let ended = json!({"terminated": {"exitCode": 0}});
        let last = "2026-11-24T09:05:00Z".parse().ok();
        assert_eq!(begun(json!([running("09:00"), running("09:05"), ended])), last);
        assert_eq!(begun(json!([running("09:00"), {"waiting": {}}])), None, "it may get anything yet");
        assert_eq!(begun(json!([])), None);
    }

    #[test]
    fn only_jobs_of_the_operator_have_workers() {
        let made = |kind: &str| {
            consumer(json!({"metadata": {"name": "w", "labels": {"modelcache.dev/export-uid": "e"},
                "ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": "j", "uid": "j"}]}, "spec": {"containers": []}}))
        };
        assert_eq!(made("Job").worker, Some("e".into()));
        assert!(made("Job").is_export);
        assert_eq!(made("ReplicaSet").worker, None, "a label alone hides nobody");
    }

    #[test]
    fn another_version_alone_is_no_news() {
        let pod = |version: &str, phase: &str| {
            consumer(
                json!({"metadata": {"name": "p", "resourceVersion": version}, "spec": {"containers": []}, "status": {"phase": phase}}),
            )
        };
        assert!(pod("1", "Pending").is_like(&pod("2", "Running")));
        assert!(!pod("1", "Running").is_like(&pod("2", "Succeeded")));
    }
}
