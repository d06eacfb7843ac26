//! Entries for what is on a volume already.

use super::{KubectlError, Session, write};
use crate::api::entry::{ReclaimPolicy, Source, VolumeSource};
use crate::api::inventory::InventoryEntry;
use crate::api::storage::StorageSpec;
use crate::api::{ModelCacheEntry, ModelCacheEntrySpec, ModelCacheInventoryStatus};
use crate::format::outcome::Failed;
use crate::ident::{ModelRef, object_name};

/// What is to be adopted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The claim.
    pub claim: String,
    /// The cache's root in it.
    pub sub_path: Option<String>,
    /// Whether the files go with the entries.
    pub reclaim_policy: ReclaimPolicy,
    /// These models only. None: all.
    pub models: Vec<ModelRef>,
}

/// What becomes of one model on a volume.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The model.
    pub model: String,
    /// What becomes of it.
    pub adopted: Adopted,
}

/// What becomes of a model on a volume.
#[derive(Debug, Clone)]
pub enum Adopted {
    /// It gets this entry.
    Entry(Box<ModelCacheEntry>),
    /// This entry keeps it already.
    Kept(String),
    /// Nobody could use it.
    Damaged(String),
}

impl Wish {
    /// What becomes of each model, or which one is not there.
    pub fn plan(&self, found: &ModelCacheInventoryStatus) -> Result<Vec<Adoption>, KubectlError> {
        let models = found.entries.iter().filter_map(|entry| Some((model_of(entry)?, entry)));
        let models: Vec<_> = models.collect();
        if let Some(missing) = self.models.iter().find(|wanted| models.iter().all(|(model, _)| model != *wanted)) {
            return Err(KubectlError::NotThere { model: missing.to_string() });
        }
        let wanted = models.into_iter().filter(|(model, _)| self.models.is_empty() || self.models.contains(model));
        Ok(wanted
            .map(|(model, entry)| Adoption { model: model.to_string(), adopted: self.one(&model, entry) })
            .collect())
    }

    fn one(&self, model: &ModelRef, found: &InventoryEntry) -> Adopted {
        if let Some(object) = &found.object {
            return Adopted::Kept(object.clone());
        }
        if let Some(trouble) = &found.trouble {
            return Adopted::Damaged(trouble.clone());
        }
        let spec = ModelCacheEntrySpec {
            repo: Some(found.model.clone()),
            revision: found.revision.clone(),
            source: Some(Source {
                volume: Some(VolumeSource { manifest_sha256: found.manifest_sha256.clone() }),
                ..Source::default()
            }),
            storage: Some(StorageSpec {
                claim_name: Some(self.claim.clone()),
                sub_path: self.sub_path.clone(),
                ..StorageSpec::default()
            }),
            reclaim_policy: Some(self.reclaim_policy),
            ..ModelCacheEntrySpec::default()
        };
        Adopted::Entry(Box::new(ModelCacheEntry::new(&object_name(model), spec)))
    }
}

impl Session {
    /// Creates an entry that a plan asks for. One of its name that is there already stays as it is.
    pub async fn adopt(&self, entry: &ModelCacheEntry) -> Result<(), Failed> {
        let name = entry.metadata.name.as_deref().unwrap_or_default();
        let doing = format!("create the ModelCacheEntry {name:?}");
        let made = write::create(&self.client, &self.namespace, entry).await;
        made.map(|_| ()).map_err(|error| KubectlError::api(&doing, error).failed())
    }
}

fn model_of(entry: &InventoryEntry) -> Option<ModelRef> {
    let revision = entry.revision.as_deref().map(str::parse).transpose().ok()?;
    Some(ModelRef { repo: entry.model.parse().ok()?, revision })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(model: &str) -> InventoryEntry {
        InventoryEntry { model: model.into(), manifest_sha256: Some("ab".repeat(32)), ..InventoryEntry::default() }
    }

    fn wish(models: &[&str]) -> Wish {
        let models = models.iter().map(|repo| ModelRef { repo: repo.parse().unwrap(), revision: None }).collect();
        Wish { claim: "models".into(), sub_path: None, reclaim_policy: ReclaimPolicy::Retain, models }
    }

    #[test]
    fn what_has_no_entry_gets_one_and_what_is_damaged_does_not() {
        let status = ModelCacheInventoryStatus {
            entries: vec![
                found("org/new"),
                InventoryEntry { object: Some("there".into()), ..found("org/kept") },
                InventoryEntry { trouble: Some("gone".into()), ..found("org/broken") },
            ],
            ..ModelCacheInventoryStatus::default()
        };
        let all = wish(&[]).plan(&status).unwrap();
        let Adopted::Entry(entry) = &all[0].adopted else { panic!("{all:?}") };
        insta::assert_yaml_snapshot!(entry);
        assert!(matches!(&all[1].adopted, Adopted::Kept(name) if name == "there"));
        assert!(matches!(&all[2].adopted, Adopted::Damaged(_)));
        let one = wish(&["org/new"]).plan(&status).unwrap();
        assert_eq!(one.len(), 1);
        assert!(wish(&["org/other"]).plan(&status).is_err());
    }
}
