//! The entry's own claim, and the ConfigMap with the operator's CA certificates.

use super::Owner;
use crate::api::entry::ReclaimPolicy;
use crate::controller::plan::sizing::size;
use crate::controller::plan::{Observed, Wanted};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The key of the CA certificates in the operator's ConfigMap.
pub(super) const CA_KEY: &str = "ca.crt";

/// The entry's own claim; `None` when it uses an existing one.
pub fn claim(observed: &Observed, wanted: &Wanted) -> Option<PersistentVolumeClaim> {
    let template = wanted.template.as_ref()?;
    let owner = Owner::of(observed);
    let metadata = template.metadata.clone().unwrap_or_default();
    let mut all_labels = metadata.labels.unwrap_or_default();
    all_labels.extend(owner.labels);
    let spec = &template.spec;
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(wanted.claim_name.clone()),
            namespace: Some(owner.namespace),
            labels: Some(all_labels),
            annotations: metadata.annotations,
            // Under Retain nobody owns the claim, and so nothing takes it away.
            owner_references: (wanted.reclaim == ReclaimPolicy::Delete).then_some(owner.reference),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(spec.access_modes.clone().unwrap_or_else(|| vec!["ReadWriteOnce".to_owned()])),
            storage_class_name: spec.storage_class_name.clone(),
            selector: spec.selector.clone(),
            volume_name: spec.volume_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: size(&observed.entry, &observed.config)
                    .and_then(|size| size.quantity())
                    .map(|size| BTreeMap::from([("storage".to_owned(), size)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

/// The name of the ConfigMap with these certificates: other certificates have another name, so none is ever changed.
pub(super) fn ca_config_map_name(owner: &Owner, pem: &str) -> String {
    owner.derived_name(&[&owner.uid, "ca", pem])
}

/// The ConfigMap with the operator's CA certificates, in its owner's namespace.
pub fn ca_config_map(owner: &Owner, pem: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(ca_config_map_name(owner, pem)),
            namespace: Some(owner.namespace.clone()),
            labels: Some(owner.labels.clone()),
            owner_references: Some(owner.reference.clone()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(CA_KEY.to_owned(), pem.to_owned())])),
        immutable: Some(true),
        binary_data: None,
    }
}
