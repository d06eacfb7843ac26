//! The worker's Job: one attempt, one Job, one container without any power (design 6).

use super::claim::{CA_KEY, ca_config_map_name};
use super::{derived_name, labels, owner, short_digest};
use crate::api::connection::{CaBundleKind, ProxySpec};
use crate::api::job::{FsGroupChangePolicy, JobSettings};
use crate::api::{annotation, label};
use crate::controller::config::Config;
use crate::controller::plan::{CaSource, HubView, Observed, Wanted, parse_model};
use crate::format::task::{Delete, Download, HubAccess, MountedFile, ProxyChoice, TASK_VARIABLE, Task, Work};
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EnvVar, KeyToPath, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The user and group of the worker where nobody chooses others: "nonroot" of the image.
const NONROOT: i64 = 65532;
/// Where the worker finds the claim.
const VOLUME_PATH: &str = "/volume";
const TOKEN_DIR: &str = "/hub-token";
const TOKEN_FILE: &str = "token";
const CA_DIR: &str = "/hub-ca";
const CA_FILE: &str = "ca.crt";
/// A worker that is told to stop says so and exits well within this time.
const GRACE_SECONDS: i64 = 20;
/// A Job that nobody collects any more, because the operator is gone, goes by itself.
const TTL_SECONDS: i32 = 7 * 24 * 3600;

/// The Job of the next attempt to download.
pub fn download_job(observed: &Observed, wanted: &Wanted) -> Job {
    let token = wanted.hub.token.as_ref().map(|secret| MountedFile {
        path: format!("{TOKEN_DIR}/{TOKEN_FILE}").into(),
        origin: format!("Secret {:?}, key {:?}", secret.name, secret.key),
    });
    let ca_bundle = wanted.hub.ca.as_ref().map(|source| MountedFile {
        path: format!("{CA_DIR}/{CA_FILE}").into(),
        origin: match source {
            CaSource::Object(object) => format!("{} {:?}, key {:?}", object.kind.as_str(), object.name, object.key),
            CaSource::Operator(_) => "the operator's CA bundle".to_owned(),
        },
    });
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: VOLUME_PATH.into(),
        sub_path: wanted.sub_path.clone(),
        work: Work::Download(Download {
            model: wanted.model.clone(),
            hub: HubAccess {
                endpoint: wanted.hub.endpoint.clone(),
                token,
                ca_bundle,
                proxy: proxy(wanted.hub.proxy.as_ref()),
                limit_bytes_per_second: None,
            },
            files: wanted.files.clone(),
            requested_by: wanted.requested_by.clone(),
        }),
    };
    let volumes = hub_volumes(observed, &wanted.hub);
    job(observed, &task, &wanted.claim_name, &wanted.job, volumes)
}

/// The Job that removes the entry's files from a shared claim. It needs no Hub, so it cannot fail for one.
pub fn delete_job(observed: &Observed) -> Option<Job> {
    let spec = &observed.entry.spec;
    let storage = spec.storage.as_ref()?;
    let task = Task {
        nonce: observed.nonce.clone(),
        volume: VOLUME_PATH.into(),
        sub_path: storage.sub_path.as_deref().and_then(|path| path.parse().ok()),
        work: Work::Delete(Delete { model: parse_model(spec).ok()? }),
    };
    let settings = spec.job.clone().unwrap_or_else(|| observed.config.job.clone());
    Some(job(observed, &task, storage.claim_name.as_deref()?, &settings, Vec::new()))
}

fn proxy(spec: Option<&ProxySpec>) -> ProxyChoice {
    let ProxySpec { http, https, no_proxy } = spec.cloned().unwrap_or_default();
    ProxyChoice { http, https, no_proxy }
}

/// A volume of the Pod and where it is mounted.
struct Mount {
    volume: Volume,
    path: &'static str,
}

/// Token and CA are optional mounts: where one is missing the Pod still starts, and the worker says which. Waiting for the
/// kubelet's own word would take minutes, and the operator would need to read Secrets.
fn hub_volumes(observed: &Observed, hub: &HubView) -> Vec<Mount> {
    let item = |key: &str, path: &str| Some(vec![KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }]);
    let secret = |name: &str, key: &str, path: &str| SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        items: item(key, path),
        optional: Some(true),
        default_mode: Some(0o440),
    };
    let config_map = |name: String, key: &str| ConfigMapVolumeSource {
        name,
        items: item(key, CA_FILE),
        optional: Some(true),
        default_mode: None,
    };
    let mut mounts = Vec::new();
    if let Some(token) = &hub.token {
        let volume = Volume {
            name: "hub-token".into(),
            secret: Some(secret(&token.name, &token.key, TOKEN_FILE)),
            ..Volume::default()
        };
        mounts.push(Mount { volume, path: TOKEN_DIR });
    }
    if let Some(source) = &hub.ca {
        let mut volume = Volume { name: "hub-ca".into(), ..Volume::default() };
        match source {
            CaSource::Object(object) if object.kind == CaBundleKind::Secret => {
                volume.secret = Some(secret(&object.name, &object.key, CA_FILE));
            }
            CaSource::Object(object) => volume.config_map = Some(config_map(object.name.clone(), &object.key)),
            CaSource::Operator(pem) => volume.config_map = Some(config_map(ca_config_map_name(observed, pem), CA_KEY)),
        }
        mounts.push(Mount { volume, path: CA_DIR });
    }
    mounts
}

fn job(observed: &Observed, task: &Task, claim_name: &str, settings: &JobSettings, mounts: Vec<Mount>) -> Job {
    let repo = match &task.work {
        Work::Download(download) => download.model.repo.as_str(),
        Work::Import(import) => import.expected.as_ref().map_or("*", |expected| expected.repo.as_str()),
        Work::Export(export) => export.model.repo.as_str(),
        Work::Delete(delete) => delete.model.repo.as_str(),
    };
    let kind = if matches!(task.work, Work::Delete(_)) { "delete" } else { "transfer" };
    let sub_path = task.sub_path.as_ref().map_or("", |path| path.as_str());
    let mut all_labels = labels(observed);
    all_labels.insert(label::WRITER.to_owned(), short_digest(&[claim_name, sub_path, repo]));
    // The name changes only when the end of the last Job is recorded: creating the next one twice creates one.
    let name = derived_name(observed, &[observed.uid(), kind, observed.recorded_job().unwrap_or_default()]);
    let mut pod_labels = settings.labels.clone().unwrap_or_default();
    pod_labels.extend(all_labels.clone());
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(observed.namespace().to_owned()),
            labels: Some(all_labels),
            annotations: Some(BTreeMap::from([(annotation::GENERATION.to_owned(), observed.generation())])),
            owner_references: Some(owner(&observed.entry)),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: settings.active_deadline_seconds,
            backoff_limit: Some(0),
            pod_failure_policy: Some(pod_failure_policy()),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: settings.annotations.clone(),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(&observed.config, task, claim_name, settings, mounts)),
            },
            ..JobSpec::default()
        }),
        status: None,
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

fn pod(config: &Config, task: &Task, claim_name: &str, settings: &JobSettings, mounts: Vec<Mount>) -> PodSpec {
    let volume = Mount {
        volume: Volume {
            name: "volume".into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name.to_owned(),
                read_only: None,
            }),
            ..Volume::default()
        },
        path: VOLUME_PATH,
    };
    let mounts: Vec<_> = std::iter::once(volume).chain(mounts).collect();
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
        containers: vec![container(config, task, settings, &mounts)],
        volumes: Some(mounts.into_iter().map(|mount| mount.volume).collect()),
        ..PodSpec::default()
    }
}

fn container(config: &Config, task: &Task, settings: &JobSettings, mounts: &[Mount]) -> Container {
    let mount = |mount: &Mount| VolumeMount {
        name: mount.volume.name.clone(),
        mount_path: mount.path.to_owned(),
        read_only: (mount.path != VOLUME_PATH).then_some(true),
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
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
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

fn pod_security(settings: &JobSettings) -> PodSecurityContext {
    let own = settings.security_context.clone().unwrap_or_default();
    let policy = match own.fs_group_change_policy {
        Some(FsGroupChangePolicy::Always) => "Always",
        // A recursive change of owner takes hours on large volumes.
        Some(FsGroupChangePolicy::OnRootMismatch) | None => "OnRootMismatch",
    };
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(own.run_as_user.unwrap_or(NONROOT)),
        run_as_group: Some(own.run_as_group.unwrap_or(NONROOT)),
        fs_group: Some(own.fs_group.unwrap_or(NONROOT)),
        fs_group_change_policy: Some(policy.to_owned()),
        supplemental_groups: own.supplemental_groups,
        se_linux_options: own.se_linux_options,
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}
