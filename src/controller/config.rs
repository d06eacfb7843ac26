//! What holds for every entry that does not say otherwise; written by whoever installs the operator.

mod preseed;

pub use preseed::{Preseed, Seed};

use crate::api::connection::{ProxySpec, SecretKeyRef};
use crate::api::job::JobSettings;
use crate::ident::Endpoint;
use k8s_openapi::api::core::v1::LocalObjectReference;
use serde::{Deserialize, Serialize};

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
    /// Settings of workers' Jobs, where the entry has none.
    #[serde(default)]
    pub job: JobSettings,
    /// What the operator creates where it is absent.
    #[serde(default)]
    pub preseed: Preseed,
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
    fn a_misspelt_value_is_refused() {
        assert!(serde_yaml::from_str::<Config>("image: a\nendpont: https://hub").is_err());
    }
}
