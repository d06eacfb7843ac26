//! What holds for an entry with every default filled in, as its status echoes it: no secret is in it.

use super::observed::Observed;
use super::queue::limit_of;
use super::wanted::{ArchiveSpot, CaSource, HubView, Origin, hub_view, origin};
use crate::api::ModelCacheEntryStatus;
use crate::api::connection::ProxySpec;
use crate::api::entry::RetentionSpec;
use crate::api::status::EffectiveStatus;

/// What a login of a proxy is shown as.
const HIDDEN: &str = "***";

/// Writes what holds into a status. What a connection would say that is not there stays as it was.
pub(super) fn tell(observed: &Observed, status: &mut ModelCacheEntryStatus) {
    let spec = &observed.entry.spec;
    let before = status.effective.take().unwrap_or_default();
    // A default is recorded by whoever takes it.
    let storage = spec.storage.clone().or(before.storage.clone());
    let Ok(hub) = hub_view(&observed.connection, &observed.config) else {
        let after = EffectiveStatus { storage, ..before };
        status.effective = Some(after).filter(|after| *after != EffectiveStatus::default());
        return;
    };
    let connection = observed.connection.found();
    let mut effective = EffectiveStatus {
        connection: connection.and_then(|connection| connection.metadata.name.clone()),
        storage,
        retention: retention(observed),
        ..EffectiveStatus::default()
    };
    match origin(spec) {
        Ok(Origin::Hub { .. }) => {
            of_network(&hub, &mut effective);
            effective.endpoint = Some(hub.endpoint.to_string());
            effective.token_secret = hub.token.as_ref().map(|secret| secret.name.clone());
            effective.limit_bytes_per_second = hub.limit.map(|limit| {
                let said = connection.and_then(|connection| connection.spec.limit_bytes_per_second.clone());
                said.filter(|said| said.parse() == Ok(limit)).unwrap_or_else(|| limit.to_string())
            });
            effective.max_concurrent_jobs = connection.and_then(limit_of).map(i64::from);
            effective.max_concurrent_jobs_of_hub = observed.config.max_concurrent_jobs.map(i64::from);
            effective.limit_bytes_per_second_of_hub =
                observed.config.limit_bytes_per_second.map(|limit| limit.to_string());
        }
        Ok(Origin::Archive { place: ArchiveSpot::Url { .. }, .. }) => of_network(&hub, &mut effective),
        Ok(Origin::Archive { .. } | Origin::Volume { .. }) | Err(_) => {}
    }
    status.effective = Some(effective).filter(|effective| *effective != EffectiveStatus::default());
}

/// What holds on the way to anything outside the cluster.
fn of_network(hub: &HubView, effective: &mut EffectiveStatus) {
    effective.ca_bundle = hub.ca.as_ref().map(|source| match source {
        CaSource::Object(object) => format!("{} {}, key {}", object.kind.as_str(), object.name, object.key),
        CaSource::Operator(_) => "the operator's".to_owned(),
    });
    effective.proxy = hub.proxy.as_ref().map(|proxy| {
        let ProxySpec { http, https, no_proxy } = proxy;
        let shown = |address: &Option<String>| address.as_deref().map(without_login);
        ProxySpec { http: shown(http), https: shown(https), no_proxy: no_proxy.clone() }
    });
}

/// When the model goes by itself, whoever says so.
fn retention(observed: &Observed) -> Option<RetentionSpec> {
    let own = observed.entry.spec.retention.clone().unwrap_or_default();
    let of_connection =
        observed.connection.found().and_then(|connection| connection.spec.cache.as_ref()?.retention.clone());
    let unused_for = own.unused_for.or(of_connection.and_then(|retention| retention.unused_for));
    Some(RetentionSpec { pinned: own.pinned, unused_for }).filter(|retention| *retention != RetentionSpec::default())
}

/// An address without its login: everything up to the last `@`, as a password may hold whatever it likes.
fn without_login(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return HIDDEN.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}"),
        None => address.to_owned(),
    }
}
