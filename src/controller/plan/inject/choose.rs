//! Which entry serves a word of a Pod's annotation, and where its model is or will be.

use super::super::room::DEFAULT_CONNECTION;
use super::super::wanted::merge;
use super::ask::{Refusal, Word};
use super::model_folder;
use super::sight::{EntrySight, Volume};
use crate::api::HubConnection;
use crate::api::job::JobSettings;
use crate::api::storage::StorageSpec;
use crate::controller::config::Config;
use crate::format::layout;
use crate::ident::{ModelRef, object_name};
use kube::ResourceExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is known of a namespace when one of its Pods is created.
#[derive(Debug)]
pub struct Known<'a> {
    /// Its entries.
    pub entries: Vec<Arc<EntrySight>>,
    /// Its connections.
    pub connections: Vec<Arc<HubConnection>>,
    /// What holds where these say nothing.
    pub config: &'a Config,
}

/// A model that is mounted into a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The entry's name.
    pub(super) entry: String,
    /// The model.
    pub(super) model: ModelRef,
    /// The volume.
    pub(super) volume: Volume,
}

/// The folders of a model below its claim's root.
#[derive(Debug)]
pub(super) struct Folders {
    /// All snapshots of its repo.
    pub(super) snapshots: PathBuf,
    /// The entry's own references.
    pub(super) refs: PathBuf,
    /// The model.
    pub(super) model: PathBuf,
}

impl Folders {
    pub(super) fn of(model: &ModelRef, root: &Path) -> Self {
        let name = model.entry_name();
        Self {
            snapshots: root.join(layout::snapshots(&model.repo)),
            refs: root.join(layout::view(&name)).join(layout::REFS),
            model: root.join(layout::entry(&name)).join(layout::MODEL),
        }
    }
}

impl Known<'_> {
    /// What serves each word, and why nothing serves the others.
    pub(super) fn choose(&self, words: &[Word]) -> Result<(Vec<Chosen>, Vec<String>), Refusal> {
        let (mut chosen, mut missing) = (Vec::<Chosen>::new(), Vec::new());
        let mut models = Vec::new();
        for word in words {
            match self.serve(word) {
                Ok(one) if chosen.contains(&one) => {}
                Ok(one) => {
                    models.push((one.model.clone(), format!("{} (entry {})", one.model, one.entry)));
                    chosen.push(one);
                }
                Err(why) => {
                    models.extend(word.model.clone().map(|model| (model, word.text.clone())));
                    missing.push(why);
                }
            }
        }
        check(&models)?;
        Ok((chosen, missing))
    }

    /// Whether a word is served by none of the entries: what was written a moment ago may not be known yet.
    pub(super) fn is_unsure(&self, words: &[Word]) -> bool {
        let there = |entry: &EntrySight, word: &Word| {
            !entry.is_going() && (entry.name() == word.text || (word.model.is_some() && entry.model == word.model))
        };
        words.iter().any(|word| !self.entries.iter().any(|entry| there(entry, word)))
    }

    /// An entry of that name goes first; else it is a model's name.
    pub(super) fn serve(&self, word: &Word) -> Result<Chosen, String> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.name() == word.text && !entry.is_going()) {
            return self.of_entry(entry);
        }
        let Some(model) = &word.model else {
            return Err(format!("there is no entry {:?}, and that is not a model's name", word.text));
        };
        if let Some(entry) = self.oldest(model) {
            return self.of_entry(entry);
        }
        if !self.populates() {
            let may_have = |entry: &&Arc<EntrySight>| entry.unread.as_ref() == Some(&model.repo);
            if let Some(entry) = self.entries.iter().find(may_have) {
                let name = entry.name();
                return Err(format!(
                    "entry {name:?} may have model {model}, and its archive was not read so far: wait until it is Ready, or give it spec.revision"
                ));
            }
            return Err(format!(
                "there is no entry of model {model}, and none is made: the namespace's HubConnection \"default\" has no \
                 spec.cache.autoPopulate"
            ));
        }
        let entry = object_name(model);
        let Some(storage) = self.storage(None) else {
            return Err(format!(
                "an entry of model {model} would have no place: neither the HubConnection \"default\" (spec.cache.storage) \
                 nor the operator (storage.default) says where"
            ));
        };
        Ok(Chosen { volume: Volume::of(storage, &entry), entry, model: model.clone() })
    }

    /// The entry of a model that was there first.
    pub(super) fn oldest(&self, model: &ModelRef) -> Option<&EntrySight> {
        let all = self.entries.iter().map(AsRef::as_ref);
        let of_model = all.filter(|entry| entry.model.as_ref() == Some(model) && !entry.is_going());
        of_model.min_by_key(|entry| (entry.metadata.creation_timestamp.as_ref().map(|time| time.0), entry.name()))
    }

    fn of_entry(&self, entry: &EntrySight) -> Result<Chosen, String> {
        let name = entry.name().to_owned();
        let Some(model) = entry.model.clone() else {
            return Err(format!("entry {name:?} does not know its model yet: its archive was not read so far"));
        };
        let volume = self.volume_of(entry);
        let volume =
            volume.ok_or_else(|| format!("entry {name:?} has no place: nothing says where it is to be kept"))?;
        Ok(Chosen { entry: name, model, volume })
    }

    /// The volume of an entry, by what it says itself, or by the default that it would have now.
    pub(super) fn volume_of(&self, entry: &EntrySight) -> Option<Volume> {
        let by_default = || Some(Volume::of(self.storage(entry.connection.as_deref())?, entry.name()));
        entry.volume.clone().or_else(by_default)
    }

    /// Whether a missing entry is made.
    pub(super) fn populates(&self) -> bool {
        let cache = self.connection(None).and_then(|connection| connection.spec.cache.as_ref());
        cache.is_some_and(|cache| cache.auto_populate == Some(true))
    }

    /// The connection of this name, else the namespace's own.
    pub(super) fn connection(&self, named: Option<&str>) -> Option<&HubConnection> {
        let name = named.unwrap_or(DEFAULT_CONNECTION);
        self.connections.iter().find(|connection| connection.name_any() == name).map(AsRef::as_ref)
    }

    /// The settings of the Jobs of an entry that says nothing.
    pub(super) fn job(&self) -> JobSettings {
        let cache = self.connection(None).and_then(|connection| connection.spec.cache.as_ref());
        merge(cache.and_then(|cache| cache.job.clone()).unwrap_or_default(), &self.config.job)
    }

    /// Where entries of a connection are kept that do not say.
    pub(super) fn storage(&self, connection: Option<&str>) -> Option<&StorageSpec> {
        let found = self.connection(connection);
        if connection.is_some() && found.is_none() {
            // What it would say is not known.
            return None;
        }
        let cache = found.and_then(|connection| connection.spec.cache.as_ref());
        cache.and_then(|cache| cache.storage.as_ref()).or(self.config.storage.default.as_ref())
    }
}

/// Two models, each with how it is shown, that cannot be in one Pod. Two entries of one model in two claims are no better than
/// two revisions.
fn check(models: &[(ModelRef, String)]) -> Result<(), Refusal> {
    for (at, (one, one_shown)) in models.iter().enumerate() {
        for (other, other_shown) in &models[at + 1..] {
            if one.repo == other.repo {
                return Err(Refusal::TwoRevisions { one: one_shown.clone(), other: other_shown.clone() });
            }
            let is_in = |inner: &ModelRef, outer: &ModelRef| {
                Path::new(&model_folder(&inner.repo)).starts_with(model_folder(&outer.repo))
            };
            for (inner, outer) in [(one, other), (other, one)] {
                if is_in(inner, outer) {
                    return Err(Refusal::Nested { outer: outer.repo.clone(), inner: inner.repo.clone() });
                }
            }
        }
    }
    Ok(())
}
