//! What a Pod asks for, as far as the Pod alone tells.

use super::{CACHE_VARIABLE, MODELS_MAX, OLD_CACHE_VARIABLE, ROOT};
use crate::api::{GATE, annotation, label};
use crate::ident::{InvalidIdent, ModelKey, ModelRef, RepoId};
use k8s_openapi::api::core::v1::{Affinity, Container, NodeAffinity, NodeSelector, Pod, PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::path::Path;

/// Why nothing is mounted into a Pod that asks for models.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It names no model.
    #[error(
        "annotation modelcache.dev/models is missing or empty: name models in it, such as org/name or org/name@revision"
    )]
    NoModels,
    /// It names too many.
    #[error(
        "annotation modelcache.dev/models names {0} models, and {MODELS_MAX} is the most for one Pod: part them among several Pods"
    )]
    TooMany(usize),
    /// A word is no name.
    #[error("annotation modelcache.dev/models: {word:?} names neither a model nor an entry: {why}")]
    Malformed {
        /// The word, cut.
        word: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A hub cache has one view of a repo.
    #[error(
        "{one} and {other} are of one repo, and a Pod's hub cache has one view of it: ask for one of them, or mount the other by its path"
    )]
    TwoRevisions {
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
    /// The folder of one would be in the folder of another.
    #[error("the folder of model {inner} would lie in that of model {outer}: ask for one of them")]
    Nested {
        /// The outer one.
        outer: RepoId,
        /// The inner one.
        inner: RepoId,
    },
    /// A variable is the author's own.
    #[error(
        "container {container:?} sets {name} itself: leave it out, or leave out the label modelcache.dev/inject and mount the model by its path"
    )]
    OwnVariable {
        /// The container.
        container: String,
        /// The variable.
        name: String,
    },
    /// A mount is where the models would be.
    #[error(
        "container {container:?} mounts something of its own at {path}, and models are mounted below {ROOT}: mount it elsewhere"
    )]
    OwnMount {
        /// The container.
        container: String,
        /// Where.
        path: String,
    },
    /// Its node is Windows.
    #[error("the Pod is for Windows, where the folders of a cache cannot be mounted as they are")]
    Windows,
    /// It has ephemeral containers already.
    #[error("the Pod comes with ephemeral containers, which cannot be changed")]
    Ephemeral,
    /// It went through admission before.
    #[error("the Pod is the copy of one that has its models")]
    Copy,
    /// No scheduler looks at it, so no gate holds it.
    #[error(
        "the Pod names its node itself (spec.nodeName), and then nothing makes it wait for its models: use a nodeSelector"
    )]
    NodeNamed,
}

/// A word of the annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// The word: perhaps an entry's name.
    pub(super) text: String,
    /// The model of that name.
    pub(super) model: Option<ModelRef>,
}

/// What is kept of a Pod that asks for models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Injection {
    /// Whether it has the label; else there is only our gate.
    pub is_asked: bool,
    /// The entries whose models are mounted into it; none where the webhook did not do that.
    pub entries: Vec<String>,
    /// Why that could not be, as far as the Pod alone tells.
    pub refusal: Option<Refusal>,
    /// The place of our gate among its scheduling gates.
    pub gate: Option<usize>,
    /// Where it can run; only of one that waits at our gate.
    pub placement: Option<Box<Placement>>,
}

/// Where a Pod can run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// Labels that the node must have.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// What else the node must be.
    pub affinity: Option<Affinity>,
    /// Taints that it tolerates.
    pub tolerations: Option<Vec<Toleration>>,
}

impl Injection {
    /// Of a Pod that has the label, or our gate.
    pub fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let gate = spec.scheduling_gates.iter().flatten().position(|gate| gate.name == GATE);
        let asked = ask(pod);
        if asked.is_none() && gate.is_none() {
            return None;
        }
        let injected = annotated(&pod.metadata, annotation::INJECTED).unwrap_or_default();
        Some(Self {
            is_asked: asked.is_some(),
            entries: words(injected).map(str::to_owned).collect(),
            refusal: asked.and_then(Result::err),
            gate,
            placement: gate.map(|_| Box::new(Placement::of(spec))),
        })
    }
}

impl Placement {
    fn of(spec: &PodSpec) -> Self {
        let required = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = required.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.clone());
        let required = required.and_then(nodes_of_a_kind);
        Self {
            node_selector: spec.node_selector.clone().filter(|labels| !labels.is_empty()),
            // A worker need not be where the Pod would like to be, nor beside its friends.
            affinity: required.map(|required| Affinity {
                node_affinity: Some(NodeAffinity {
                    required_during_scheduling_ignored_during_execution: Some(required),
                    ..NodeAffinity::default()
                }),
                ..Affinity::default()
            }),
            tolerations: spec
                .tolerations
                .clone()
                .map(|all| all.into_iter().filter(is_by_hand).collect::<Vec<_>>())
                .filter(|all| !all.is_empty()),
        }
    }
}

/// The terms without the names of nodes: a `DaemonSet` gives each of its Pods one, and the model outlives that node.
fn nodes_of_a_kind(mut required: NodeSelector) -> Option<NodeSelector> {
    for term in &mut required.node_selector_terms {
        term.match_fields = None;
    }
    required.node_selector_terms.retain(|term| term.match_expressions.as_ref().is_some_and(|all| !all.is_empty()));
    (!required.node_selector_terms.is_empty()).then_some(required)
}

/// The API server gives each Pod some that tell how long it stays on a node that is unwell.
fn is_by_hand(toleration: &Toleration) -> bool {
    !toleration.key.as_ref().is_some_and(|key| key.starts_with("node.kubernetes.io/"))
}

/// The words of a Pod that asks for models, or why it gets none; none where it does not ask.
pub(super) fn ask(pod: &Pod) -> Option<Result<Vec<Word>, Refusal>> {
    let labels = pod.metadata.labels.as_ref()?;
    (labels.get(label::INJECT).map(String::as_str) == Some("true")).then(|| judge(pod))
}

fn judge(pod: &Pod) -> Result<Vec<Word>, Refusal> {
    if annotated(&pod.metadata, annotation::INJECTED).is_some() {
        return Err(Refusal::Copy);
    }
    let named = parse(annotated(&pod.metadata, annotation::MODELS).unwrap_or_default())?;
    let spec = pod.spec.clone().unwrap_or_default();
    if is_windows(&spec) {
        return Err(Refusal::Windows);
    }
    if spec.ephemeral_containers.as_ref().is_some_and(|all| !all.is_empty()) {
        return Err(Refusal::Ephemeral);
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        judge_container(container)?;
    }
    // The last, as a Pod that is seen later has a node in any case.
    if spec.node_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Err(Refusal::NodeNamed);
    }
    Ok(named)
}

fn judge_container(container: &Container) -> Result<(), Refusal> {
    let own = container
        .env
        .iter()
        .flatten()
        .find(|variable| variable.name == CACHE_VARIABLE || variable.name == OLD_CACHE_VARIABLE);
    if let Some(variable) = own {
        let container = container.name.clone();
        return Err(Refusal::OwnVariable { container, name: variable.name.clone() });
    }
    let own = container.volume_mounts.iter().flatten().find(|mount| Path::new(&mount.mount_path).starts_with(ROOT));
    match own {
        Some(mount) => Err(Refusal::OwnMount { container: container.name.clone(), path: mount.mount_path.clone() }),
        None => Ok(()),
    }
}

fn is_windows(spec: &PodSpec) -> bool {
    let by_selector = spec.node_selector.as_ref().and_then(|all| all.get("kubernetes.io/os"));
    spec.os.as_ref().is_some_and(|os| os.name == "windows") || by_selector.is_some_and(|os| os == "windows")
}

fn annotated<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// What stands between commas and spaces.
pub(in super::super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

pub(super) fn parse(text: &str) -> Result<Vec<Word>, Refusal> {
    let mut found = Vec::<Word>::new();
    for text in words(text) {
        if found.iter().all(|word| word.text != text) {
            found.push(word(text)?);
        }
    }
    match found.len() {
        0 => Err(Refusal::NoModels),
        count if count > MODELS_MAX => Err(Refusal::TooMany(count)),
        _ => Ok(found),
    }
}

fn word(text: &str) -> Result<Word, Refusal> {
    match format!("hf@{text}").parse::<ModelKey>() {
        Ok(key) => Ok(Word { text: text.to_owned(), model: Some(key.model().clone()) }),
        Err(_) if is_object_name(text) => Ok(Word { text: text.to_owned(), model: None }),
        Err(InvalidIdent { why, .. }) => {
            const SHOWN_CHARS: usize = 100;
            Err(Refusal::Malformed { word: text.chars().take(SHOWN_CHARS).collect(), why })
        }
    }
}

fn is_object_name(text: &str) -> bool {
    const MAX_BYTES: usize = 253;
    text.len() <= MAX_BYTES
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}
