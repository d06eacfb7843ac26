//! What a person is warned of who writes an entry: what CEL cannot see, and what may still appear.
//!
//! Nothing here refuses an entry. What is missing may be created next, in the same `kubectl apply`.

use super::observed::ConnectionSight;
use super::storage::default_of;
use super::wanted::{archive_claim, denied, hub_view, known_model, origin};
use crate::api::ModelCacheEntry;
use crate::api::storage::StorageSpec;
use crate::controller::config::Config;
use kube::ResourceExt;
use std::collections::BTreeSet;

/// What is known of an entry's surroundings.
#[derive(Debug)]
pub struct Known<'a> {
    /// The connection that the entry would use.
    pub connection: &'a ConnectionSight,
    /// The operator's configuration.
    pub config: &'a Config,
    /// The names of the claims of its namespace; absent while nobody knows.
    pub claims: Option<&'a BTreeSet<String>>,
    /// The entries of its namespace.
    pub entries: &'a [&'a ModelCacheEntry],
}

/// What is to be said of an entry that is being written, each in a sentence.
pub fn warnings(entry: &ModelCacheEntry, known: &Known<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    match hub_view(known.connection, known.config) {
        Err(why) => warnings.push(why.message),
        Ok(hub) => {
            let origin = origin(&entry.spec).ok();
            warnings.extend(origin.and_then(|origin| denied(&origin, hub.policy.as_ref())).map(|why| why.message));
        }
    }
    let storage =
        entry.spec.storage.as_ref().or(default_of(known.connection, known.config).map(|(storage, _)| storage));
    match storage {
        // A connection that is not there yet may say.
        None if matches!(known.connection, ConnectionSight::Missing(_)) => {}
        None => warnings.push(
            "nothing says where the files are kept: set spec.storage, or cache.storage of the HubConnection".to_owned(),
        ),
        Some(storage) => warnings.extend(twin(entry, storage, known)),
    }
    let claims = [storage.and_then(|storage| storage.claim_name.clone()), archive_claim(entry)];
    let mut missing: Vec<_> = claims.into_iter().flatten().filter(|name| is_missing(name, known)).collect();
    missing.dedup();
    warnings.extend(missing.iter().map(|name| format!("claim {name:?} does not exist in this namespace: create it")));
    warnings
}

fn is_missing(claim: &str, known: &Known<'_>) -> bool {
    known.claims.is_some_and(|claims| !claims.contains(claim))
}

/// Another entry that keeps the same model in the same place: this one would wait for it to go.
fn twin(entry: &ModelCacheEntry, storage: &StorageSpec, known: &Known<'_>) -> Option<String> {
    let claim = storage.claim_name.as_ref()?;
    let key = known_model(entry)?.key();
    let is_twin = |other: &&&ModelCacheEntry| {
        let volume = super::volume_of(other);
        other.name_any() != entry.name_any()
            && other.metadata.deletion_timestamp.is_none()
            && volume.is_some_and(|(name, sub_path)| name == *claim && sub_path == storage.sub_path)
            && known_model(other).is_some_and(|model| model.key() == key)
    };
    let twin = known.entries.iter().find(is_twin)?;
    Some(format!("entry {:?} keeps this model in claim {claim:?} already: use it", twin.name_any()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::HubConnection;
    use crate::controller::fixture::{observed, shared_claim};
    use serde_json::json;

    /// The surroundings of a test's entry.
    struct Around {
        connection: ConnectionSight,
        claims: Option<BTreeSet<String>>,
        entries: Vec<ModelCacheEntry>,
    }

    impl Default for Around {
        fn default() -> Self {
            let claims = Some(BTreeSet::from(["shared".to_owned()]));
            Self { connection: ConnectionSight::Defaults, claims, entries: Vec::new() }
        }
    }

    fn warned(spec: &str, around: &Around) -> Vec<String> {
        let world = observed(spec);
        let entries: Vec<_> = around.entries.iter().collect();
        let (connection, claims) = (&around.connection, around.claims.as_ref());
        warnings(&world.entry, &Known { connection, config: &world.config, claims, entries: &entries })
    }

    fn with(connection: ConnectionSight) -> Around {
        Around { connection, ..Around::default() }
    }

    fn connection(spec: &serde_json::Value) -> ConnectionSight {
        let connection = HubConnection::new("team", serde_json::from_value(spec.clone()).unwrap());
        ConnectionSight::Found(Box::new(connection))
    }

    const PLAIN: &str = "{repo: org/model, storage: {claimName: shared}}";

    #[test]
    fn a_good_entry_is_let_through_in_silence() {
        assert_eq!(warned(PLAIN, &Around::default()), [""; 0]);
        let own = "{repo: org/model, storage: {volumeClaimTemplate: {spec: {}}}}";
        assert_eq!(warned(own, &Around::default()), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let said = warned("{repo: org/model}", &with(ConnectionSight::Missing("corp".to_owned())));
        assert!(matches!(&said[..], [one] if one.contains("HubConnection \"corp\" does not exist")), "{said:?}");
        let said = warned("{repo: org/model, storage: {claimName: typo}}", &Around::default());
        assert!(matches!(&said[..], [one] if one.contains("claim \"typo\"")), "{said:?}");
        let archive = "{source: {archive: {claimName: usb, path: a.tar}}, storage: {claimName: shared}}";
        let said = warned(archive, &Around::default());
        assert!(matches!(&said[..], [one] if one.contains("claim \"usb\"")), "{said:?}");
        assert_eq!(warned(archive, &Around { claims: None, ..Around::default() }), [""; 0], "nobody knows");
        let said = warned("{repo: org/model}", &Around::default());
        assert!(matches!(&said[..], [one] if one.contains("spec.storage")), "{said:?}");
    }

    #[test]
    fn the_connections_default_is_looked_at_too() {
        let sight = connection(&json!({"cache": {"storage": {"claimName": "typo"}}}));
        let said = warned("{repo: org/model}", &with(sight));
        assert!(matches!(&said[..], [one] if one.contains("claim \"typo\"")), "{said:?}");
    }

    #[test]
    fn what_the_policy_forbids_is_said_at_once() {
        let sight = connection(&json!({"allow": {"repos": ["other/*"]}}));
        let said = warned(PLAIN, &with(sight));
        assert!(matches!(&said[..], [one] if one.contains("does not allow the repo org/model")), "{said:?}");
    }

    #[test]
    fn a_twin_is_named_and_the_entry_itself_is_none() {
        let mut around = Around { entries: vec![shared_claim().entry], ..Around::default() };
        let spec = "{repo: org/model, storage: {claimName: shared, subPath: cache}}";
        assert_eq!(warned(spec, &around), [""; 0]);
        around.entries[0].metadata.name = Some("older".to_owned());
        let said = warned(spec, &around);
        assert!(matches!(&said[..], [one] if one.contains("entry \"older\"")), "{said:?}");
        assert_eq!(warned(PLAIN, &around), [""; 0], "another folder");
    }
}
