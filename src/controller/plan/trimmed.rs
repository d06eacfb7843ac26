//! Objects of the cluster of which only what decisions need is kept: the memory of all of them stays small.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

/// Name, namespace, uid, version and times; nothing else is kept.
pub(super) fn metadata(whole: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: whole.name,
        namespace: whole.namespace,
        uid: whole.uid,
        resource_version: whole.resource_version,
        creation_timestamp: whole.creation_timestamp,
        deletion_timestamp: whole.deletion_timestamp,
        ..ObjectMeta::default()
    }
}

/// Whether nothing that is kept changed.
pub(super) fn is_like<K: Resource + Clone + PartialEq>(one: &K, other: &K) -> bool {
    let mut one = one.clone();
    one.meta_mut().resource_version.clone_from(&other.meta().resource_version);
    one == *other
}

/// What is kept of an object is, in the API, that object; its field `metadata` is what [`metadata`] made.
macro_rules! stands_for {
    ($trimmed:ty, $whole:ty) => {
        impl kube::Resource for $trimmed {
            type DynamicType = ();
            type Scope = <$whole as kube::Resource>::Scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::kind(&())
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::group(&())
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::version(&())
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::plural(&())
            }

            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(super) use stands_for;
