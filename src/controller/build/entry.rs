//! Entries and imports that the operator makes for others: of an import's archives, and of the chart's values.

use super::{label_of, short_digest};
use crate::api::entry::{ArchiveSource, NameRef, Source};
use crate::api::job::JobSettings;
use crate::api::storage::StorageSpec;
use crate::api::{ModelCacheEntry, ModelCacheEntrySpec, ModelCacheImport, ModelCacheImportSpec, annotation, label};
use crate::controller::config::Seed;
use crate::controller::plan::inject::Placement;
use crate::controller::plan::{ArchiveSpot, Consumer, without_query};
use crate::ident::{ModelRef, slug};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use std::collections::BTreeMap;

/// The longest part of an entry's name that tells the import, and the longest that tells the archive, in bytes. With the
/// digest the name fits a label.
const PART_MAX_BYTES: usize = 25;
/// What an archive's name ends with does not tell it from others.
const ENDINGS: [&str; 7] = [".tar.gz", ".tar.zst", ".tar", ".tgz", ".tzst", ".zip", ".zst"];

/// The entry of one of an import's archives. Nobody owns it: it stays when the import goes.
pub fn imported_entry(import: &ModelCacheImport, place: &ArchiveSpot) -> ModelCacheEntry {
    let metadata = &import.metadata;
    let (name, uid) = (metadata.name.clone().unwrap_or_default(), metadata.uid.clone().unwrap_or_default());
    let archive = match place.clone() {
        ArchiveSpot::Claim { name, path } => {
            ArchiveSource { claim_name: Some(name), path: Some(path.to_string()), ..ArchiveSource::default() }
        }
        ArchiveSpot::Url { url, auth } => ArchiveSource {
            url: Some(url),
            auth_secret_ref: auth.map(|name| NameRef { name }),
            ..ArchiveSource::default()
        },
    };
    // Who asked for the import asked for its entries; a policy guards the annotation on both.
    let created_by = metadata.annotations.as_ref().and_then(|all| all.get(annotation::CREATED_BY));
    let spec = ModelCacheEntrySpec {
        source: Some(Source { archive: Some(archive), ..Source::default() }),
        storage: Some(import.spec.storage.clone()),
        reclaim_policy: import.spec.reclaim_policy,
        job: import.spec.job.clone(),
        ..ModelCacheEntrySpec::default()
    };
    ModelCacheEntry {
        metadata: ObjectMeta {
            name: Some(entry_name(&name, place)),
            namespace: metadata.namespace.clone(),
            labels: Some(BTreeMap::from([
                (label::MANAGED_BY.to_owned(), label::MANAGED_BY_VALUE.to_owned()),
                (label::IMPORT.to_owned(), label_of(&name)),
                (label::IMPORT_UID.to_owned(), uid),
            ])),
            annotations: created_by.map(|user| BTreeMap::from([(annotation::CREATED_BY.to_owned(), user.clone())])),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// The same name for the same archive of the same import, whenever it is listed.
fn entry_name(import: &str, place: &ArchiveSpot) -> String {
    let (parts, file) = match place {
        ArchiveSpot::Claim { name, path } => ([import, "claim", name.as_str(), path.as_str()], path.file_name()),
        ArchiveSpot::Url { url, .. } => {
            let path = without_query(url);
            ([import, "url", url.as_str(), ""], path.trim_end_matches('/').rsplit('/').next().unwrap_or_default())
        }
    };
    let cut = |text: &str| -> String { text.chars().take(PART_MAX_BYTES).collect() };
    let slug = slug_of(file);
    let parts_of_name = [cut(import), cut(&slug), short_digest(&parts)];
    let kept = parts_of_name.iter().map(|part| part.trim_matches(['-', '.'])).filter(|part| !part.is_empty());
    kept.collect::<Vec<_>>().join("-")
}

/// A file's name without its ending, as it may be in an object's name.
fn slug_of(file: &str) -> String {
    let file = file.to_ascii_lowercase();
    slug(ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(&file))
}

/// The entry of a model that a Pod waits for. Nobody owns it: it stays when the Pod goes. What the connection says of retention and
/// of Jobs holds for it as for any other.
pub fn awaited_entry(
    pod: &Consumer,
    name: &str,
    model: &ModelRef,
    storage: &StorageSpec,
    defaults: &JobSettings,
) -> ModelCacheEntry {
    let namespace = pod.meta().namespace.clone().unwrap_or_default();
    let placement = pod.injection.as_ref().and_then(|injection| injection.placement.as_deref().cloned());
    let job = placement.map(|placement| placed(placement, defaults));
    let created_by = format!("system:serviceaccount:{namespace}:{}", pod.account);
    ModelCacheEntry {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace),
            labels: Some(BTreeMap::from([(label::MANAGED_BY.to_owned(), label::MANAGED_BY_VALUE.to_owned())])),
            annotations: Some(BTreeMap::from([(annotation::CREATED_BY.to_owned(), created_by)])),
            ..ObjectMeta::default()
        },
        spec: ModelCacheEntrySpec {
            repo: Some(model.repo.to_string()),
            revision: model.revision.as_ref().map(ToString::to_string),
            // As it was when the Pod was created: its mounts cannot follow another default.
            storage: Some(storage.clone()),
            job: job.filter(|job| *job != JobSettings::default()),
            ..ModelCacheEntrySpec::default()
        },
        status: None,
    }
}

/// Settings of Jobs that run where a Pod can, so that the volume ends up there.
fn placed(pod: Placement, defaults: &JobSettings) -> JobSettings {
    let Placement { mut node_selector, mut affinity, mut tolerations } = pod;
    if node_selector.is_some() || affinity.is_some() {
        // What is empty has no default behind it: no node may have the labels of both.
        node_selector.get_or_insert_default();
        affinity.get_or_insert_default();
    }
    if let Some(tolerations) = &mut tolerations {
        // The nodes that the defaults select may have taints of their own.
        let missing = defaults.tolerations.iter().flatten().filter(|one| !tolerations.contains(one));
        let missing: Vec<_> = missing.cloned().collect();
        tolerations.extend(missing);
    }
    JobSettings { node_selector, tolerations, affinity, ..JobSettings::default() }
}

/// An entry that the chart's values ask for.
pub fn seeded_entry(seed: &Seed<ModelCacheEntrySpec>) -> ModelCacheEntry {
    let mut entry = ModelCacheEntry::new(&seed.name, seed.spec.clone());
    entry.metadata.namespace = Some(seed.namespace.clone());
    entry
}

/// An import that the chart's values ask for.
pub fn seeded_import(seed: &Seed<ModelCacheImportSpec>) -> ModelCacheImport {
    let mut import = ModelCacheImport::new(&seed.name, seed.spec.clone());
    import.metadata.namespace = Some(seed.namespace.clone());
    import
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> ArchiveSpot {
        ArchiveSpot::Claim { name: "usb".into(), path: path.parse().unwrap() }
    }

    #[test]
    fn a_name_tells_the_import_and_the_archive() {
        let name = entry_name("usb", &at("models/all-MiniLM_L6 v2.tar.zst"));
        assert!(name.starts_with("usb-all-minilm-l6-v2-") && name.len() == 31, "{name}");
        let url = ArchiveSpot::Url { url: "https://files.example/x/Bert.ZIP?sig=1".into(), auth: None };
        assert!(entry_name("web", &url).starts_with("web-bert-"));
    }

    #[test]
    fn whatever_the_names_the_entrys_is_one_that_the_api_server_takes() {
        let long = "x".repeat(200);
        let mut all = Vec::new();
        for import in ["a", "a.b", &format!("{}.{long}", "a".repeat(24)), &long] {
            for file in
                ["a.tar", "b.tar", "-.tar", "日本.tar", "...tar", &format!("{long}.tar"), "A.tar", "a.zip", "d/a.tar"]
            {
                let name = entry_name(import, &at(file));
                assert!(name.len() <= 63, "{name}");
                assert!(
                    name.split('.').all(|part| !part.is_empty()
                        && !part.starts_with('-')
                        && !part.ends_with('-')
                        && part.chars().all(|c| c == '-' || c.is_ascii_digit() || c.is_ascii_lowercase())),
                    "{name}"
                );
                all.push(name);
            }
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "two archives have one name");
    }
}
