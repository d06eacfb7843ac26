//! What holds for every entry that does not say otherwise; written by whoever installs the operator.

mod preseed;

pub use preseed::{Preseed, Seed};

use crate::api::connection::{ProxySpec, SecretKeyRef};
use crate::api::job::JobSettings;
use crate::api::storage::StorageSpec;
use crate::ident::{ByteCount, ByteRate, Endpoint, RelPath};
use k8s_openapi::api::core::v1::LocalObjectReference;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The Hub that is meant when nobody names one.
pub const PUBLIC_HUB: &str = "https://huggingface.co";

/// The operator's configuration file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The worker's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`. Default: Kubernetes' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Secrets, in the entries' namespaces, for pulling the worker's image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The Hub of entries without a connection.
    #[serde(default = "public_hub")]
    pub endpoint: Endpoint,
    /// The Secret, looked up in the entry's namespace, with the token of entries without a connection's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<SecretKeyRef>,
    /// CA certificates in PEM, trusted besides the system's where the connection names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Proxies, where the connection names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySpec>,
    /// The most Jobs of the cluster that take from one Hub's host and port at the same time. Default: no limit.
    #[serde(default, deserialize_with = "a_limit", skip_serializing_if = "Option::is_none")]
    pub max_concurrent_jobs: Option<u32>,
    /// The most bytes per second that all Jobs of the cluster together take from one Hub's host and port. Each has the same part, by
    /// the number above. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second: Option<ByteRate>,
    /// Settings of workers' Jobs, where the entry has none.
    #[serde(default)]
    pub job: JobSettings,
    /// Where entries are kept that do not say, and how claims are made for those whose template gives no size.
    #[serde(default)]
    pub storage: StorageDefaults,
    /// Whether a container that runs as root gives the cache to the worker's user first.
    #[serde(default)]
    pub ownership_init: OwnershipInit,
    /// What the operator creates where it is absent.
    #[serde(default)]
    pub preseed: Preseed,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// What is no value of a field, or does not go with another's.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        let config: Self = serde_yaml::from_str(text)?;
        match (config.limit_bytes_per_second, config.max_concurrent_jobs, config.limit_of_job()) {
            (Some(_), None, _) => Err(serde_yaml::Error::custom(
                "limitBytesPerSecond is shared out by maxConcurrentJobs, which must be given too",
            )),
            (Some(limit), Some(jobs), None) => Err(serde_yaml::Error::custom(format!(
                "limitBytesPerSecond {limit} gives each of {jobs} Jobs less than 1k, a thousand bytes per second"
            ))),
            _ => Ok(config),
        }
    }

    /// The part of one Job in what all of them together may take from a Hub per second. It is the same whether others take or
    /// not: nobody tells a Job that runs of another rate.
    pub fn limit_of_job(&self) -> Option<ByteRate> {
        self.limit_bytes_per_second?.part(self.max_concurrent_jobs?)
    }
}

/// A container that runs as root, before the worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnershipInit {
    /// Whether there is one.
    pub enabled: bool,
}

/// Where entries are kept that do not say, and how claims are made for those whose template gives no size.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StorageDefaults {
    /// Where entries are kept whose spec does not say, and whose connection does not either.
    #[serde(default, deserialize_with = "a_storage", skip_serializing_if = "Option::is_none")]
    pub default: Option<StorageSpec>,
    /// What a file system needs beside the model.
    #[serde(default)]
    pub headroom: Headroom,
    /// What is other for claims of a StorageClass, by its name. A template that names no class has the headroom above.
    #[serde(default)]
    pub classes: BTreeMap<String, ClassDefaults>,
}

/// What is other for claims of one StorageClass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassDefaults {
    /// What its file systems need beside the model.
    pub headroom: Headroom,
}

/// What a file system needs beside the model, in a claim of computed size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Headroom {
    /// This share of the claim, 0 to 90 …
    #[serde(default = "usual_percent", deserialize_with = "percent")]
    pub percent: u8,
    /// … and at least so much: `256Mi`.
    #[serde(default = "usual_min")]
    pub min: ByteCount,
}

impl Default for Headroom {
    fn default() -> Self {
        Self { percent: usual_percent(), min: usual_min() }
    }
}

impl StorageDefaults {
    /// The headroom of a claim of this class.
    pub fn headroom_of(&self, class: Option<&str>) -> &Headroom {
        class.and_then(|class| self.classes.get(class)).map_or(&self.headroom, |class| &class.headroom)
    }
}

/// ext4 takes up to 7 % with mkfs's own settings (inodes, 5 % for root), XFS less.
fn usual_percent() -> u8 {
    10
}

/// The journals of small file systems.
fn usual_min() -> ByteCount {
    #[expect(clippy::expect_used, reason = "a constant, and a test parses it")]
    "256Mi".parse().expect("the constant is a size")
}

fn a_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let limit = Option::<u32>::deserialize(deserializer)?;
    if limit == Some(0) {
        return Err(D::Error::custom("maxConcurrentJobs must be at least 1; leave it out for no limit"));
    }
    Ok(limit)
}

fn a_storage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StorageSpec>, D::Error> {
    let Some(storage) = Option::<StorageSpec>::deserialize(deserializer)? else { return Ok(None) };
    if storage.claim_name.is_some() == storage.volume_claim_template.is_some() {
        return Err(D::Error::custom("storage.default must have exactly one of claimName and volumeClaimTemplate"));
    }
    if let Some(Err(error)) = storage.sub_path.as_deref().map(str::parse::<RelPath>) {
        return Err(D::Error::custom(format!("storage.default.subPath: {error}")));
    }
    Ok(Some(storage))
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let percent = u8::deserialize(deserializer)?;
    if percent > 90 {
        return Err(D::Error::custom(
            "percent must be 0 to 90: it is the share of the claim that the model cannot have",
        ));
    }
    Ok(percent)
}

fn public_hub() -> Endpoint {
    #[expect(clippy::expect_used, reason = "a constant, and a test parses it")]
    PUBLIC_HUB.parse().expect("the constant is an endpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_enough() {
        let config: Config = serde_yaml::from_str("image: modelcache:1").unwrap();
        assert_eq!(config.endpoint.as_str(), PUBLIC_HUB);
    }

    #[test]
    fn the_headroom_is_the_classs_own_or_everybodys() {
        let text = "image: a\nstorage: {headroom: {percent: 5}, classes: {nfs: {headroom: {percent: 0, min: 0}}}}";
        let storage = serde_yaml::from_str::<Config>(text).unwrap().storage;
        let of = |class| (storage.headroom_of(class).percent, storage.headroom_of(class).min.bytes());
        assert_eq!([of(None), of(Some("ssd"))], [(5, 256 << 20); 2]);
        assert_eq!(of(Some("nfs")), (0, 0));
        let error = serde_yaml::from_str::<Config>("image: a\nstorage: {headroom: {percent: 91}}").unwrap_err();
        assert!(error.to_string().contains("0 to 90"), "{error}");
    }

    #[test]
    fn a_limit_lets_at_least_one_through() {
        let read = |limit: &str| serde_yaml::from_str::<Config>(&format!("image: a\nmaxConcurrentJobs: {limit}"));
        assert_eq!(read("4").unwrap().max_concurrent_jobs, Some(4));
        assert!(read("0").unwrap_err().to_string().contains("at least 1"));
    }

    #[test]
    fn a_rate_is_shared_out_among_so_many_jobs() {
        let read = |more: &str| Config::parse(&format!("image: a\nlimitBytesPerSecond: 100M\n{more}"));
        let part = read("maxConcurrentJobs: 3").unwrap().limit_of_job().unwrap();
        assert_eq!(part.bytes_per_second(), 33_333_333);
        let error = read("").unwrap_err().to_string();
        assert!(error.contains("maxConcurrentJobs"), "{error}");
        let error = read("maxConcurrentJobs: 100001").unwrap_err().to_string();
        assert!(error.contains("less than 1k"), "{error}");
        assert_eq!(Config::parse("image: a\nmaxConcurrentJobs: 3").unwrap().limit_of_job(), None);
    }

    #[test]
    fn a_default_storage_is_one_of_two() {
        let read = |storage: &str| {
            serde_yaml::from_str::<Config>(&format!("image: a\nstorage: {{default: {storage}}}"))
                .map(|config| config.storage.default.unwrap())
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("{claimName: models, subPath: a/b}").unwrap().claim_name.unwrap(), "models");
        assert!(read("{volumeClaimTemplate: {spec: {}}}").unwrap().volume_claim_template.is_some());
        for (bad, said) in [
            ("{}", "exactly one of"),
            ("{claimName: a, volumeClaimTemplate: {spec: {}}}", "exactly one of"),
            ("{claimName: a, subPath: ../b}", "storage.default.subPath"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn a_misspelt_value_is_refused() {
        assert!(serde_yaml::from_str::<Config>("image: a\nendpont: https://hub").is_err());
    }
}
