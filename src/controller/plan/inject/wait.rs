//! What becomes of a Pod that asked for models: when its gate comes off, which entries are made for it, and what it is told.

use super::super::{Consumer, Notice, Why};
use super::ask::{Refusal, Word, parse};
use super::choose::{Folders, Known};
use super::sight::{EntrySight, Volume};
use crate::api::{ModelCacheEntry, Phase};
use crate::controller::build;
use crate::ident::{ModelRef, Reason, object_name};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
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
    /// What is told once it is off.
    pub then: Option<Said>,
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
    /// This entry will have it.
    Coming(String),
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
            Standing::Coming(name) => coming.push(name),
            Standing::Trouble(reason, message) => plan.said.push(warning(reason, name, message)),
            Standing::Failed(entry) => plan.said.push(failed(&entry)),
            Standing::Missing(entry) => {
                coming.push(entry.name_any());
                plan.create.push(*entry);
            }
        }
    }
    if there.len() == injection.entries.len() {
        plan.said.extend(crowds(observed, &there));
        plan.then = Some(told("ModelsReady", "", "all models are there: the Pod may be scheduled".to_owned()));
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
    let is_one = |word: &Word| entries.contains(&word.text);
    let has = |model: &ModelRef| is_mounted(&observed.pod, model);
    let left_out = words.iter().filter(|word| !is_one(word) && !word.model.as_ref().is_some_and(has));
    let tell = |word: &Word| {
        let why = known.serve(word).err().unwrap_or_else(|| "it had no entry when the Pod was created".to_owned());
        let message = format!("model {} is not mounted: {why}. Create the Pod anew once it can be had", word.text);
        warning(NOT_INJECTED, &word.text, message)
    };
    left_out.map(tell).collect()
}

fn standing(observed: &ObservedPod<'_>, name: &str) -> Standing {
    let by_name = observed.known.entries.iter().find(|entry| entry.name() == name);
    let model = model_of(observed, name);
    // The folders are named by the model: whoever keeps it there, the Pod has it.
    if let Some(entry) = model.as_ref().and_then(|model| best_keeper(observed, name, model)) {
        return of_entry(entry);
    }
    match (by_name, model) {
        (Some(entry), _) if !entry.is_going() => match (&entry.model, observed.known.volume_of(entry)) {
            (Some(_), Some(_)) => {
                Standing::Trouble("EntryMoved", moved(&format!("the model of entry {name:?} is kept")))
            }
            // It does not know its model, or its place, any more.
            _ => of_entry(entry),
        },
        // It has the name until its files are removed.
        (Some(_), Some(_)) => Standing::Coming(name.to_owned()),
        (None, Some(model)) => missing(observed, name, &model),
        (_, None) => {
            let message =
                format!("entry {name:?} is gone, and the Pod mounts its folders: create it again, or delete the Pod");
            Standing::Trouble("EntryNotFound", message)
        }
    }
}

/// The model that a Pod mounts for one of its entries.
fn model_of(observed: &ObservedPod<'_>, name: &str) -> Option<ModelRef> {
    let ObservedPod { pod, known, .. } = observed;
    let words = parse(&pod.models.join(",")).unwrap_or_default();
    let asked: Vec<_> = words.iter().filter_map(|word| word.model.as_ref()).collect();
    let sure = |name: &str| {
        let entry = known.entries.iter().find(|entry| entry.name() == name);
        let place = entry.and_then(|entry| entry.model.as_ref().zip(known.volume_of(entry)));
        let by_entry = place.filter(|(model, volume)| has(pod, model, volume)).map(|(model, _)| model);
        by_entry.or_else(|| asked.iter().copied().find(|model| object_name(model) == name))
    };
    if let Some(model) = sure(name) {
        return Some(model.clone());
    }
    // The others have the order of the words that they serve.
    let given = pod.injection.iter().flat_map(|injection| &injection.entries);
    let (mut lost, mut left) = (Vec::new(), asked.clone());
    left.retain(|model| is_mounted(pod, model));
    for given in given.filter(|given| words.iter().all(|word| word.text != **given)) {
        match sure(given) {
            Some(model) => left.retain(|left| *left != model),
            None => lost.push(given),
        }
    }
    let at = lost.iter().position(|lost| *lost == name).filter(|_| lost.len() == left.len())?;
    left.get(at).map(|model| (*model).clone())
}

/// Of the entries that keep a model where a Pod mounts it, or will, the one that is next to having it.
fn best_keeper<'a>(observed: &'a ObservedPod<'_>, name: &str, model: &ModelRef) -> Option<&'a Arc<EntrySight>> {
    let ObservedPod { pod, known, .. } = observed;
    let keeps = |entry: &&Arc<EntrySight>| {
        let volume = known.volume_of(entry).filter(|_| !entry.is_going() && entry.model.as_ref() == Some(model));
        volume.is_some_and(|volume| has(pod, model, &volume))
    };
    let keepers = known.entries.iter().filter(keeps);
    keepers.min_by_key(|entry| {
        let distance = match of_entry(entry) {
            Standing::There(_) => 0,
            Standing::Coming(_) | Standing::Missing(_) => 1,
            // It waits for another one, which is in trouble itself.
            Standing::Failed(_) if entry.reason == Reason::DuplicateEntry.as_str() => 3,
            Standing::Failed(_) | Standing::Trouble(..) => 2,
        };
        (distance, entry.name() != name, entry.name())
    })
}

fn of_entry(entry: &Arc<EntrySight>) -> Standing {
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
        | Phase::Deleting => Standing::Coming(entry.name().to_owned()),
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
    // All that wait for the model make the same. In a claim of its own it is where the Pod's mounts are under the lost one's name only.
    let usual = object_name(model);
    let is_free = |name: &&str| known.entries.iter().all(|entry| entry.name() != *name);
    let mut names = [usual.as_str(), name].into_iter().filter(is_free);
    match names.find(|name| has(pod, model, &Volume::of(storage, name))) {
        Some(name) => Standing::Missing(Box::new(build::awaited_entry(pod, name, model, storage, &known.job()))),
        None => Standing::Trouble("EntryMoved", moved(&format!("model {model} would be kept"))),
    }
}

fn moved(what: &str) -> String {
    format!("{what} elsewhere than when the Pod was created, and its mounts cannot change: create the Pod anew")
}

/// Whether a Pod mounts a model from this volume.
fn has(pod: &Consumer, model: &ModelRef, volume: &Volume) -> bool {
    pod.mounts(&volume.claim, &Folders::of(model, &volume.root).model)
}

/// Whether a Pod mounts a model, wherever it is kept.
fn is_mounted(pod: &Consumer, model: &ModelRef) -> bool {
    let folder = Folders::of(model, Path::new("")).model;
    pod.claims.iter().flat_map(|claim| &claim.folders).any(|mounted| mounted.ends_with(&folder))
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
