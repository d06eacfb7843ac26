//! What is to be in the cluster once the operator is installed.
//!
//! In the configuration and not in the chart's templates: a release cannot create objects of a kind that it defines itself,
//! and a hook would delete and recreate them with each upgrade, and the models with them.

use crate::api::{ModelCacheEntrySpec, ModelCacheImportSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the operator creates where it is absent, and never changes or deletes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preseed {
    /// Entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Seed<ModelCacheEntrySpec>>,
    /// Imports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Seed<ModelCacheImportSpec>>,
}

/// One object that is to be there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", bound(deserialize = "S: Serialize + DeserializeOwned"))]
pub struct Seed<S> {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its spec.
    pub spec: S,
}

/// A seed whose spec nobody has understood yet.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    name: String,
    namespace: String,
    spec: Value,
}

impl<S: Serialize + DeserializeOwned> TryFrom<Raw> for Seed<S> {
    type Error = String;

    fn try_from(Raw { name, namespace, spec: raw }: Raw) -> Result<Self, String> {
        let spec: S =
            serde_json::from_value(raw.clone()).map_err(|error| format!("preseed {name:?}: spec: {error}"))?;
        // The kinds of the API pass over fields that they do not know, as clients of a newer API must. Here it is a typo.
        if let Some(field) = lost(&raw, &serde_json::json!(spec)) {
            return Err(format!("preseed {name:?}: spec{field} is not a field of this kind"));
        }
        Ok(Self { name, namespace, spec })
    }
}

/// The path of the first field that did not survive.
fn lost(raw: &Value, kept: &Value) -> Option<String> {
    match (raw, kept) {
        (Value::Object(raw), Value::Object(kept)) => {
            raw.iter().filter(|(_, value)| !value.is_null()).find_map(|(key, value)| match kept.get(key) {
                None => Some(format!(".{key}")),
                Some(kept) => lost(value, kept).map(|rest| format!(".{key}{rest}")),
            })
        }
        (Value::Array(raw), Value::Array(kept)) => {
            let pairs = raw.iter().zip(kept).enumerate();
            pairs.into_iter().find_map(|(at, (raw, kept))| lost(raw, kept).map(|rest| format!("[{at}]{rest}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Preseed, String> {
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn entries_and_imports_are_read_whole() {
        let preseed = read(
            "{entries: [{name: bert, namespace: ml, spec: {repo: org/bert, revision: null, storage: {claimName: models},
               job: {tolerations: [{key: gpu, operator: Exists}], affinity: {nodeAffinity: {}}, resources: {limits: {memory: 1Gi}}}}}],
             imports: [{name: usb, namespace: ml, spec: {source: {claimName: usb, path: models},
               storage: {volumeClaimTemplate: {spec: {resources: {requests: {storage: 20Gi}}}}}}}]}",
        )
        .unwrap();
        assert_eq!(preseed.entries[0].spec.repo.as_deref(), Some("org/bert"));
        assert_eq!(preseed.imports[0].spec.source.path.as_deref(), Some("models"));
    }

    #[test]
    fn a_typo_is_refused_with_its_place() {
        for (text, place) in [
            ("entries: [{name: bert, namespace: ml, spec: {repoo: org/bert}}]", "\"bert\": spec.repoo is not a field"),
            ("entries: [{name: bert, namespace: ml, spec: {repo: [a]}}]", "\"bert\": spec: invalid type"),
            (
                "entries: [{name: bert, namespace: ml, spec: {repo: a/b, job: {tolerations: [{kee: x}]}}}]",
                "spec.job.tolerations[0].kee",
            ),
            ("imports: [{name: usb, namespace: ml, spec: {source: {claimName: a}}}]", "missing field `storage`"),
            ("imports: [{name: usb, spec: {}}]", "missing field `namespace`"),
            ("entrys: []", "unknown field `entrys`"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(place), "{said}");
        }
    }
}
