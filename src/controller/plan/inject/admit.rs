//! What is done to a Pod when it is created.

use super::ask::ask;
use super::choose::{Chosen, Folders, Known};
use super::sight::Volume as Place;
use super::{CACHE_VARIABLE, OFFLINE_VARIABLE, hub_cache, model_folder};
use crate::api::{GATE, annotation};
use crate::format::layout;
use crate::ident::hex;
use json_patch::Patch;
use k8s_openapi::api::core::v1::{
    Container, EnvVar, PersistentVolumeClaimVolumeSource, Pod, PodSchedulingGate, PodSpec, Volume, VolumeMount,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// What is done to a Pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// It asks for nothing.
    NotAsked,
    /// Nothing, because of this.
    Untouched(String),
    /// This.
    Changed {
        /// The changes; they add, and replace nothing of the author's.
        patch: Patch,
        /// The models that it asks for and does not get, each with its cause.
        missing: Vec<String>,
    },
}

/// Decides what is done to a Pod. Nothing is written besides: the same Pod gets the same answer, dry-run or not.
pub fn admit(pod: &Pod, known: &Known<'_>) -> Admission {
    let words = match ask(pod) {
        None => return Admission::NotAsked,
        Some(Err(refusal)) => return Admission::Untouched(refusal.to_string()),
        Some(Ok(words)) => words,
    };
    match known.choose(&words) {
        Err(refusal) => Admission::Untouched(refusal.to_string()),
        Ok((chosen, missing)) if chosen.is_empty() => Admission::Untouched(missing.join("; ")),
        Ok((chosen, missing)) => {
            // Both went through the same types, so what these do not know is in neither, and stays as it is.
            let patch = json_patch::diff(&json!(pod), &json!(injected(pod, &chosen)));
            Admission::Changed { patch, missing }
        }
    }
}

/// Whether it is worth asking the API server itself before this Pod is answered: a connection or an entry that was written together with
/// it may not be known yet. Where an entry is known for each model, nothing newer would change the answer.
pub fn is_unsure(pod: &Pod, known: &Known<'_>) -> bool {
    matches!(ask(pod), Some(Ok(words)) if known.is_unsure(&words))
}

/// The Pod with the models.
fn injected(pod: &Pod, chosen: &[Chosen]) -> Pod {
    let mut pod = pod.clone();
    let names: Vec<_> = chosen.iter().map(|one| one.entry.as_str()).collect();
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(annotation::INJECTED.to_owned(), names.join(","));
    let spec = pod.spec.get_or_insert_default();
    let volumes = volumes(spec, chosen);
    let mounts: Vec<_> = chosen.iter().flat_map(|one| mounts(one, &volumes)).collect();
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        equip(container, &mounts);
    }
    let gates = spec.scheduling_gates.get_or_insert_default();
    if gates.iter().all(|gate| gate.name != GATE) {
        gates.push(PodSchedulingGate { name: GATE.to_owned() });
    }
    pod
}

/// The name of the volume of each claim. The author's own of that claim is taken; else one is added.
fn volumes(spec: &mut PodSpec, chosen: &[Chosen]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let all = spec.volumes.get_or_insert_default();
    for Place { claim, .. } in chosen.iter().map(|one| &one.volume) {
        if names.contains_key(claim) {
            continue;
        }
        let of_claim = |volume: &&Volume| {
            volume.persistent_volume_claim.as_ref().is_some_and(|source| source.claim_name == *claim)
        };
        let name = all.iter().find(of_claim).map(|volume| volume.name.clone());
        let name = name.unwrap_or_else(|| {
            let name = free_name(all, claim);
            all.push(Volume {
                name: name.clone(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    read_only: Some(true),
                }),
                ..Volume::default()
            });
            name
        });
        names.insert(claim.clone(), name);
    }
    names
}

/// The same name for the same claim, unless the author has a volume of that name.
fn free_name(all: &[Volume], claim: &str) -> String {
    let name = format!("modelcache-{}", hex(&Sha256::digest(claim)[..4]));
    let numbered = (1..).map(|number| format!("{name}-{number}"));
    let mut candidates = std::iter::once(name.clone()).chain(numbered);
    candidates.find(|name| all.iter().all(|volume| volume.name != *name)).unwrap_or(name)
}

fn mounts(one: &Chosen, volumes: &BTreeMap<String, String>) -> [VolumeMount; 3] {
    let Chosen { model, volume: Place { claim, root }, .. } = one;
    let folders = Folders::of(model, root);
    // In the volume a repo is at `hub/models--…`, and so it is in the Pod.
    let cached = layout::repo(&model.repo);
    let cached = Path::new(&hub_cache()).join(cached.strip_prefix(layout::HUB).unwrap_or(&cached));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mount = |at: String, folder: &Path| VolumeMount {
        name: volumes.get(claim).cloned().unwrap_or_default(),
        mount_path: at,
        sub_path: Some(text(folder)),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    [
        mount(text(&cached.join(layout::SNAPSHOTS)), &folders.snapshots),
        mount(text(&cached.join(layout::REFS)), &folders.refs),
        mount(model_folder(&model.repo), &folders.model),
    ]
}

fn equip(container: &mut Container, mounts: &[VolumeMount]) {
    container.volume_mounts.get_or_insert_default().extend(mounts.iter().cloned());
    let variables = container.env.get_or_insert_default();
    for (name, value) in [(CACHE_VARIABLE, hub_cache()), (OFFLINE_VARIABLE, "1".to_owned())] {
        if variables.iter().all(|variable| variable.name != name) {
            variables.push(EnvVar { name: name.to_owned(), value: Some(value), value_from: None });
        }
    }
}
