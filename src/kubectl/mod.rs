//! What a person does in a cluster from the command line, with their own kubeconfig and rights.
//!
//! This room asks the API server and writes the custom resources (`write` alone does), and gives values back. What they look
//! like on a terminal is `cli`'s; what the operator does about them is its own.

mod adopt;
mod error;
mod inventory;
mod write;

pub use adopt::{Adopted, Adoption, Wish};
pub use error::KubectlError;

use crate::api::ModelCacheEntry;
use kube::api::ListParams;
use kube::{Api, Client};

/// A namespace of a cluster.
#[derive(Clone)]
pub struct Session {
    client: Client,
    namespace: String,
}

impl Session {
    /// The cluster of the kubeconfig; without a namespace, that of its context.
    pub async fn connect(namespace: Option<&str>) -> Result<Self, KubectlError> {
        let config = kube::Config::infer().await.map_err(KubectlError::Kubeconfig)?;
        let namespace = namespace.unwrap_or(&config.default_namespace).to_owned();
        let client = Client::try_from(config).map_err(|error| KubectlError::api("connect to the cluster", error))?;
        Ok(Self { client, namespace })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The entries of the namespace.
    pub async fn entries(&self) -> Result<Vec<ModelCacheEntry>, KubectlError> {
        let api = Api::<ModelCacheEntry>::namespaced(self.client.clone(), &self.namespace);
        let listed = api.list(&ListParams::default()).await;
        let doing = format!("list the ModelCacheEntries of namespace {:?}", self.namespace);
        Ok(listed.map_err(|error| KubectlError::api(&doing, error))?.items)
    }
}
