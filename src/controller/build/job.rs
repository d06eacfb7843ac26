//! The worker's Job: one attempt, one Job, one container without any power (design 6).

use super::{Owner, short_digest};
use crate::api::job::{FsGroupChangePolicy, Ids, JobSettings};
use crate::api::{annotation, label};
use crate::controller::config::Config;
use crate::format::task::{TASK_VARIABLE, Task, Work};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The user and group of the worker where nobody chooses others: "nonroot" of the image.
const NONROOT: i64 = 65532;
/// Where the worker finds the claim.
pub(super) const VOLUME_PATH: &str = "/volume";
/// A worker that is told to stop says so and exits well within this time.
const GRACE_SECONDS: i64 = 20;
/// A Job that nobody collects any more, because the operator is gone, goes by itself.
const TTL_SECONDS: i32 = 7 * 24 * 3600;

/// A volume of the Pod and where it is mounted.
pub(super) struct Mount {
    pub(super) volume: Volume,
    pub(super) path: &'static str,
    pub(super) read_only: bool,
}

impl Mount {
    /// A claim.
    pub(super) fn claim(name: &str, claim_name: &str, path: &'static str, read_only: bool) -> Self {
        let source = PersistentVolumeClaimVolumeSource {
            claim_name: claim_name.to_owned(),
            // Also keeps the Pod's fsGroup from changing the owner of everything on it.
            read_only: read_only.then_some(true),
        };
        let volume = Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
        Self { volume, path, read_only }
    }
}

/// One attempt.
pub(super) struct Attempt<'a> {
    pub(super) owner: &'a Owner,
    pub(super) config: &'a Config,
    pub(super) task: &'a Task,
    /// The claim that the task writes to, if it writes to a model's volume.
    pub(super) writes_to: Option<&'a str>,
    pub(super) settings: &'a JobSettings,
    pub(super) mounts: Vec<Mount>,
}

impl Attempt<'_> {
    /// The labels by which no two Jobs write to one repo of one volume at a time.
    fn writer_labels(&self) -> BTreeMap<String, String> {
        let Some(claim_name) = self.writes_to else { return BTreeMap::new() };
        let writer = match &self.task.work {
            Work::Download(download) => short_digest(&[download.model.repo.as_str()]),
            Work::Delete(delete) => match &delete.model {
                Some(model) => short_digest(&[model.repo.as_str()]),
                None => label::ANY_REPO.to_owned(),
            },
            Work::Import(import) => match &import.expected {
                Some(expected) => short_digest(&[expected.repo.as_str()]),
                None => label::ANY_REPO.to_owned(),
            },
            Work::Adopt(adopt) => short_digest(&[adopt.model.repo.as_str()]),
            Work::Export(_) | Work::List(_) | Work::Inventory | Work::Resolve(_) | Work::Check(_) => {
                return BTreeMap::new();
            }
        };
        let sub_path = self.task.sub_path.as_ref().map_or("", |path| path.as_str());
        BTreeMap::from([
            (label::WRITER.to_owned(), writer),
            (label::VOLUME.to_owned(), short_digest(&[claim_name, sub_path])),
        ])
    }

    pub(super) fn job(self) -> Job {
        let kind = match self.task.work {
            Work::Delete(_) => "delete",
            Work::Resolve(_) => "resolve",
            Work::Check(_) => "check",
            Work::Download(_)
            | Work::Import(_)
            | Work::Adopt(_)
            | Work::Export(_)
            | Work::List(_)
            | Work::Inventory => "transfer",
        };
        let mut labels = self.owner.labels.clone();
        labels.extend(self.writer_labels());
        // The name changes only when the end of the last Job is recorded: creating the next one twice creates one.
        let recorded = self.owner.recorded.as_deref().unwrap_or_default();
        let name = self.owner.derived_name(&[&self.owner.uid, kind, recorded]);
        let mut pod_labels = self.settings.labels.clone().unwrap_or_default();
        pod_labels.extend(labels.clone());
        Job {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.owner.namespace.clone()),
                labels: Some(labels),
                annotations: Some(BTreeMap::from([(annotation::GENERATION.to_owned(), self.owner.generation.clone())])),
                owner_references: Some(self.owner.reference.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(JobSpec {
                active_deadline_seconds: self.settings.active_deadline_seconds,
                backoff_limit: Some(0),
                pod_failure_policy: Some(pod_failure_policy()),
                ttl_seconds_after_finished: Some(TTL_SECONDS),
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(pod_labels),
                        annotations: self.settings.annotations.clone(),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(self.pod()),
                },
                ..JobSpec::default()
            }),
            status: None,
        }
    }

    fn pod(self) -> PodSpec {
        let Attempt { config, task, settings, .. } = self;
        let ownership = self
            .writes_to
            .filter(|_| config.ownership_init.enabled)
            .and_then(|_| ownership_init(config, task, settings));
        let containers = vec![container(config, task, settings, &self.mounts)];
        let pull_secrets = settings.image_pull_secrets.clone().unwrap_or_else(|| config.image_pull_secrets.clone());
        PodSpec {
            restart_policy: Some("Never".to_owned()),
            automount_service_account_token: Some(false),
            // Neighbours' addresses in a worker's environment are of no use, and thousands of them slow its start.
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            service_account_name: settings.service_account_name.clone(),
            node_selector: settings.node_selector.clone(),
            tolerations: settings.tolerations.clone(),
            affinity: settings.affinity.clone(),
            priority_class_name: settings.priority_class_name.clone(),
            image_pull_secrets: Some(pull_secrets).filter(|secrets| !secrets.is_empty()),
            security_context: Some(pod_security(settings)),
            init_containers: ownership.map(|container| vec![container]),
            containers,
            volumes: Some(self.mounts.into_iter().map(|mount| mount.volume).collect()),
            ..PodSpec::default()
        }
    }
}

/// A Pod that the cluster took away is replaced within the attempt; exit codes 2 and 3 end it. Only the controller retries.
fn pod_failure_policy() -> PodFailurePolicy {
    let ignore = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: Some("True".to_owned()),
        }]),
        on_exit_codes: None,
    };
    let fail = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: None,
            operator: "In".to_owned(),
            values: vec![2, 3],
        }),
        on_pod_conditions: None,
    };
    PodFailurePolicy { rules: vec![ignore, fail] }
}

fn container(config: &Config, task: &Task, settings: &JobSettings, mounts: &[Mount]) -> Container {
    let mount = |mount: &Mount| VolumeMount {
        name: mount.volume.name.clone(),
        mount_path: mount.path.to_owned(),
        read_only: mount.read_only.then_some(true),
        ..VolumeMount::default()
    };
    #[expect(clippy::expect_used, reason = "a task is plain data with text keys")]
    let task = serde_json::to_string(task).expect("a task becomes JSON");
    Container {
        name: "worker".to_owned(),
        image: Some(config.image.clone()),
        image_pull_policy: config.image_pull_policy.clone(),
        args: Some(vec!["worker".to_owned()]),
        env: Some(vec![EnvVar { name: TASK_VARIABLE.to_owned(), value: Some(task), value_from: None }]),
        volume_mounts: Some(mounts.iter().map(mount).collect()),
        resources: Some(settings.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(container_security(None)),
        ..Container::default()
    }
}

fn container_security(capabilities: Option<&[&str]>) -> SecurityContext {
    let add = capabilities.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add }),
        ..SecurityContext::default()
    }
}

/// The container that gives the cache to the worker's user before the worker starts: it alone runs as root, with the power to
/// look everywhere and to change owners. None where the cluster assigns the ids.
fn ownership_init(config: &Config, task: &Task, settings: &JobSettings) -> Option<Container> {
    let who = who(settings);
    let (uid, gid) = (who.user?, who.group?);
    let mut args =
        vec!["own".to_owned(), format!("--volume={VOLUME_PATH}"), format!("--uid={uid}"), format!("--gid={gid}")];
    args.extend(task.sub_path.as_ref().map(|path| format!("--sub-path={path}")));
    Some(Container {
        name: "ownership".to_owned(),
        image: Some(config.image.clone()),
        image_pull_policy: config.image_pull_policy.clone(),
        args: Some(args),
        volume_mounts: Some(vec![VolumeMount {
            name: "volume".to_owned(),
            mount_path: VOLUME_PATH.to_owned(),
            ..VolumeMount::default()
        }]),
        resources: Some(settings.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(SecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            run_as_non_root: Some(false),
            ..container_security(Some(&["CHOWN", "DAC_OVERRIDE"]))
        }),
        ..Container::default()
    })
}

/// Enough for any model: the worker's memory does not grow with the model's size. The limit leaves room for the page cache.
fn default_resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
                .collect::<BTreeMap<_, _>>(),
        )
    };
    ResourceRequirements {
        requests: quantities(&[("cpu", "100m"), ("memory", "128Mi")]),
        limits: quantities(&[("memory", "512Mi")]),
        claims: None,
    }
}

/// The worker's ids; those that the cluster assigns are unset.
struct Who {
    user: Option<i64>,
    group: Option<i64>,
    fs_group: Option<i64>,
}

fn who(settings: &JobSettings) -> Who {
    let own = settings.security_context.clone().unwrap_or_default();
    let other = match own.ids.unwrap_or_default() {
        Ids::Default => Some(NONROOT),
        Ids::Assigned => None,
    };
    Who { user: own.run_as_user.or(other), group: own.run_as_group.or(other), fs_group: own.fs_group.or(other) }
}

fn pod_security(settings: &JobSettings) -> PodSecurityContext {
    let Who { user, group, fs_group } = who(settings);
    let own = settings.security_context.clone().unwrap_or_default();
    let policy = match own.fs_group_change_policy {
        Some(FsGroupChangePolicy::Always) => "Always",
        // A recursive change of owner takes hours on large volumes.
        Some(FsGroupChangePolicy::OnRootMismatch) | None => "OnRootMismatch",
    };
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: user,
        run_as_group: group,
        fs_group,
        fs_group_change_policy: Some(policy.to_owned()),
        supplemental_groups: own.supplemental_groups,
        se_linux_options: own.se_linux_options,
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}
