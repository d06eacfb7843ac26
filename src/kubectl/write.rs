//! Every write of a person's commands to Kubernetes: objects are created, and asked to be looked at again.

use crate::api::annotation;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// Whom the API server writes down as the writer: a person, by way of this program.
const FIELD_MANAGER: &str = "kubectl-modelcache";

/// Creates an object; where one of its name is there, it stays as it is, and that is an error.
pub(super) async fn create<K>(client: &Client, namespace: &str, object: &K) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let how = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    Api::<K>::namespaced(client.clone(), namespace).create(&how, object).await
}

/// Asks the operator to try again, or to look again, now.
pub(super) async fn retry<K>(client: &Client, namespace: &str, name: &str, word: &str) -> Result<K, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({"metadata": {"annotations": {annotation::RETRY: word}}});
    let how = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    Api::<K>::namespaced(client.clone(), namespace).patch(name, &how, &Patch::Merge(patch)).await
}
