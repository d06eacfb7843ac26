//! Whom a change of a connection concerns.

use crate::api::{HubConnection, HubConnectionStatus};
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// The generation of a connection's spec, and what is said of it.
type News = (Option<i64>, Option<HubConnectionStatus>);

/// What was last heard of each connection, by its uid. Only a watch's triggers are thinned out with it: nothing is decided.
#[derive(Default)]
pub(super) struct Heard(Mutex<HashMap<String, News>>);

/// Whom a change concerns.
pub(super) enum Concerns {
    /// Everybody who uses the connection: another spec, or its end.
    Everybody,
    /// The entries of these names: what the operator itself said of the connection tells that they go first.
    Only(Vec<String>),
}

impl Heard {
    pub(super) fn concerns(&self, connection: &HubConnection) -> Concerns {
        let now = (connection.metadata.generation, connection.status.clone());
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = heard.insert(connection.uid().unwrap_or_default(), now.clone());
        match before {
            Some((generation, status)) if generation == now.0 && status != now.1 => {
                Concerns::Only(connection.status.as_ref().map(first_to_go).unwrap_or_default())
            }
            _ => Concerns::Everybody,
        }
    }
}

fn first_to_go(status: &HubConnectionStatus) -> Vec<String> {
    let pressed = status.claims.iter().filter(|claim| claim.pressure.is_some() && claim.going.is_none());
    pressed.filter_map(|claim| Some(claim.next.first()?.entry.clone())).collect()
}
