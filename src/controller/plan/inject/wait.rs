//! What becomes of a Pod that asked for models: when its gate comes off, which entries are made for it, and what it is told.

use super::super::{Consumer, Notice, Why};
use super::ask::{Refusal, Word, parse};
use super::choose::{Folders, Known};
use super::sight::{EntrySight, Volume};
use crate::api::{ModelCacheEntry, Phase};
use crate::controller::build;
use crate::ident::{ModelRef, object_name};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The reason of what is told where a Pod asked for a model and did not get it.
const NOT_INJECTED: &str = "NotInjected";

/// Everything that one decision is made from.
#[derive(Debug)]
pub struct ObservedPod<'a> {
    /// The Pod.
    pub pod: Arc<Consumer>,
    /// What is known of its namespace.
    pub known: Known<'a>,
    /// The Pods of its namespace that may have to do with models.
    pub consumers: Vec<Arc<Consumer>>,
    /// The access modes of the claims of [`shared_claims`].
    pub modes: BTreeMap<String, Vec<String>>,
}

/// What should be done for one Pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodPlan {
    /// Entries to be made.
    pub create: Vec<ModelCacheEntry>,
    /// What is told, before the gate comes off.
    pub said: Vec<Said>,
    /// The place of our gate, which is to come off.
    pub lift: Option<usize>,
}

/// An event about a Pod, or about an entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The entry that it is about; absent: the Pod.
    pub entry: Option<Arc<EntrySight>>,
    /// What makes it another one: the same is told once, though its numbers change.
    pub key: String,
    /// The words.
    pub notice: Notice,
}

/// How a model stands that a Pod waits for.
enum Standing {
    /// It is there.
    There(Arc<EntrySight>),
    /// It will be.
    Coming,
    /// Somebody has to do something.
    Trouble(&'static str, String),
    /// The same, in the entry's own words.
    Failed(Arc<EntrySight>),
    /// Its entry is to be made.
    Missing(Box<ModelCacheEntry>),
}

/// The claims of a Pod at our gate that other Pods want too: their access modes are to be looked up.
pub fn shared_claims(pod: &Consumer, consumers: &[Arc<Consumer>]) -> BTreeSet<String> {
    let mine = pod.claims.iter().map(|claim| &claim.name).filter(|_| pod.waits());
    mine.filter(|claim| wanting(consumers, claim).count() > 1).cloned().collect()
}

fn wanting<'a>(consumers: &'a [Arc<Consumer>], claim: &'a str) -> impl Iterator<Item = &'a Arc<Consumer>> {
    consumers.iter().filter(move |pod| !pod.is_over && pod.worker.is_none() && pod.has_claim(claim))
}

/// Decides what is done for one Pod.
pub fn decide(observed: &ObservedPod<'_>) -> PodPlan {
    let pod = &observed.pod;
    let Some(injection) = pod.injection.as_ref().filter(|_| !pod.is_over) else { return PodPlan::default() };
    if pod.got_nothing() {
        let said = why_nothing(observed, injection.refusal.as_ref());
        return PodPlan { said: said.into_iter().collect(), ..PodPlan::default() };
    }
    if injection.gate.is_none() || injection.entries.is_empty() {
        return PodPlan::default();
    }
    let mut plan = PodPlan { said: left_out(observed, &injection.entries), ..PodPlan::default() };
    let (mut there, mut coming) = (Vec::new(), Vec::new());
    for name in &injection.entries {
        match standing(observed, name) {
            Standing::There(entry) => there.push(entry),
            Standing::Coming => coming.push(name.as_str()),
            Standing::Trouble(reason, message) => plan.said.push(warning(reason, name, message)),
            Standing::Failed(entry) => plan.said.push(failed(&entry)),
            Standing::Missing(entry) => {
                coming.push(name);
                plan.create.push(*entry);
            }
        }
    }
    if there.len() == injection.entries.len() {
        plan.said.extend(crowds(observed, &there));
        plan.said.push(told("ModelsReady", "", "all models are there: the Pod may be scheduled".to_owned()));
        plan.lift = injection.gate;
    } else if !coming.is_empty() {
        let message = format!("waits for the models of entries {}", coming.join(", "));
        plan.said.push(told("WaitingForModels", &coming.join(","), message));
    }
    plan
}

/// Why a Pod that asked got nothing.
fn why_nothing(observed: &ObservedPod<'_>, refusal: Option<&Refusal>) -> Option<Said> {
    let by_itself = match refusal {
        // The copy of a Pod that has its models has them too.
        Some(Refusal::Copy) => return None,
        // By now a scheduler may have given it one.
        Some(Refusal::NodeNamed) | None => None,
        Some(refusal) => Some(refusal.to_string()),
    };
    let by_entries = || match observed.known.choose(&parse(&observed.pod.models.join(",")).ok()?) {
        Err(refusal) => Some(refusal.to_string()),
        Ok((chosen, missing)) => chosen.is_empty().then(|| missing.join("; ")),
    };
    let unseen = || {
        let or_bound = match refusal {
            Some(_) => ", or it named its node itself (spec.nodeName), where no gate can hold it",
            None => "",
        };
        format!(
            "the webhook was not asked when the Pod was created, as the operator was down or out of reach for the API server, or \
             its models had no entries then{or_bound}. Create the Pod anew"
        )
    };
    let why = by_itself.or_else(by_entries).unwrap_or_else(unseen);
    Some(warning(NOT_INJECTED, "", format!("no models were mounted: {why}")))
}

/// The models that a Pod asked for and did not get with the others.
fn left_out(observed: &ObservedPod<'_>, entries: &[String]) -> Vec<Said> {
    let known = &observed.known;
    let words = parse(&observed.pod.models.join(",")).unwrap_or_default();
    if words.len() <= entries.len() {
        return Vec::new();
    }
    let is_one = |name: &str| entries.iter().any(|entry| entry == name);
    let has = |model: &ModelRef| {
        let of_model = |entry: &Arc<EntrySight>| entry.model.as_ref() == Some(model) && is_one(entry.name());
        is_one(&object_name(model)) || known.entries.iter().any(of_model)
    };
    let left_out = words.iter().filter(|word| !is_one(&word.text) && !word.model.as_ref().is_some_and(has));
    let tell = |word: &Word| {
        let why = known.serve(word).err().unwrap_or_else(|| "it had no entry when the Pod was created".to_owned());
        let message = format!("model {} is not mounted: {why}. Create the Pod anew once it can be had", word.text);
        warning(NOT_INJECTED, &word.text, message)
    };
    left_out.map(tell).collect()
}

fn standing(observed: &ObservedPod<'_>, name: &str) -> Standing {
    let ObservedPod { pod, known, .. } = observed;
    let by_name = known.entries.iter().find(|entry| entry.name() == name);
    if let Some(entry) = by_name.filter(|entry| !entry.is_going()) {
        return of_entry(observed, entry);
    }
    let asked = parse(&pod.models.join(",")).unwrap_or_default();
    let model = asked.into_iter().filter_map(|word| word.model).find(|model| object_name(model) == name);
    let Some(model) = model else {
        let message =
            format!("entry {name:?} is gone, and the Pod mounts its folders: create it again, or delete the Pod");
        return Standing::Trouble("EntryNotFound", message);
    };
    // Somebody else may have made one in the same place meanwhile: the folders are named by the model.
    let twin = known.entries.iter().find(|entry| {
        let volume = known.volume_of(entry);
        !entry.is_going()
            && entry.model.as_ref() == Some(&model)
            && volume.is_some_and(|volume| has(pod, &model, &volume))
    });
    match twin {
        Some(twin) => of_entry(observed, twin),
        // It has the name until its files are removed.
        None if by_name.is_some() => Standing::Coming,
        None => missing(observed, name, &model),
    }
}

fn of_entry(observed: &ObservedPod<'_>, entry: &Arc<EntrySight>) -> Standing {
    let place = entry.model.as_ref().zip(observed.known.volume_of(entry));
    if place.is_some_and(|(model, volume)| !has(&observed.pod, model, &volume)) {
        return Standing::Trouble("EntryMoved", moved(&format!("the model of entry {:?} is kept", entry.name())));
    }
    match entry.phase {
        Phase::Ready => Standing::There(Arc::clone(entry)),
        Phase::Failed | Phase::Suspended | Phase::Retrying => Standing::Failed(Arc::clone(entry)),
        Phase::Pending
        | Phase::Queued
        | Phase::Resolving
        | Phase::Provisioning
        | Phase::Downloading
        | Phase::Importing
        | Phase::Evicted
        | Phase::Deleting => Standing::Coming,
    }
}

fn missing(observed: &ObservedPod<'_>, name: &str, model: &ModelRef) -> Standing {
    let ObservedPod { pod, known, .. } = observed;
    let Some(storage) = known.storage(None).filter(|_| known.populates()) else {
        let message = format!(
            "there is no entry {name:?} of model {model}, and none is made any more: the namespace's HubConnection \"default\" \
             has no spec.cache.autoPopulate, or no place for it. Change that, or create the entry"
        );
        return Standing::Trouble("NotPopulated", message);
    };
    if !has(pod, model, &Volume::of(storage, name)) {
        return Standing::Trouble("EntryMoved", moved(&format!("model {model} would be kept")));
    }
    Standing::Missing(Box::new(build::awaited_entry(pod, name, model, storage)))
}

fn moved(what: &str) -> String {
    format!("{what} elsewhere than when the Pod was created, and its mounts cannot change: create the Pod anew")
}

/// Whether a Pod mounts a model from this volume.
fn has(pod: &Consumer, model: &ModelRef, volume: &Volume) -> bool {
    pod.mounts(&volume.claim, &Folders::of(model, &volume.root).model)
}

/// What is told where a claim cannot serve all Pods that want it.
fn crowds(observed: &ObservedPod<'_>, entries: &[Arc<EntrySight>]) -> Vec<Said> {
    let mut said = Vec::new();
    for (claim, modes) in &observed.modes {
        let has = |mode: &str| modes.iter().any(|has| has == mode);
        if has("ReadWriteMany") || has("ReadOnlyMany") {
            continue;
        }
        let pods: Vec<_> = wanting(&observed.consumers, claim).collect();
        let waiting = pods.iter().filter(|pod| pod.is_gated).count();
        let (mode, then) = if has("ReadWriteOnce") {
            ("ReadWriteOnce", "one node at a time can mount it, and Pods on other nodes will not start")
        } else {
            ("ReadWriteOncePod", "one Pod at a time can mount it, and the others will not start")
        };
        let message = format!(
            "claim {claim:?} is {mode}: {then}. {} Pods want it, {waiting} of them wait for models. A claim that is \
             ReadWriteMany or ReadOnlyMany serves them all",
            pods.len()
        );
        said.push(warning("ClaimNotShared", claim, message.clone()));
        let here =
            |entry: &&Arc<EntrySight>| observed.known.volume_of(entry).is_some_and(|volume| volume.claim == *claim);
        said.extend(
            entries.iter().filter(here).map(|entry| Said {
                entry: Some(Arc::clone(entry)),
                ..warning("ClaimNotShared", claim, message.clone())
            }),
        );
    }
    said
}

fn failed(entry: &EntrySight) -> Said {
    let reason = if entry.reason.is_empty() { "WaitingForModels" } else { &entry.reason };
    let state = format!("{:?}", entry.phase);
    warning(
        reason,
        &format!("{} {state}", entry.name()),
        format!("entry {:?} is {state}: {}", entry.name_any(), entry.message),
    )
}

fn warning(reason: &str, about: &str, message: String) -> Said {
    Said { notice: Notice { warning: true, reason: reason.to_owned(), message }, ..told(reason, about, String::new()) }
}

fn told(reason: &str, about: &str, message: String) -> Said {
    Said {
        entry: None,
        key: format!("{reason} {about}"),
        notice: Notice { warning: false, reason: reason.to_owned(), message },
    }
}

/// What a Pod is told whose entry the API server does not take.
pub fn refused(entry: &str, why: &Why) -> Said {
    warning(why.reason.as_str(), entry, why.message.clone())
}
