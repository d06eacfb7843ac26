//! The watches: what each change tells, and whom it wakes.

use super::{Operator, Subject, forget_the_watches};
use crate::cluster::{Change, Cluster, Kind, Seen};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use modelcache::api::{HubConnection, ModelCacheEntry, label};
use modelcache::controller::config::Config;
use modelcache::controller::plan::connection::counts_anew;
use modelcache::controller::plan::{Consumer, archive_claim, usage, wanted_claim};
use std::sync::Arc;

impl Operator {
    /// A watch tells of one change.
    pub(crate) fn hear(&mut self, kind: Kind, change: &Change, config: &Config, now: Timestamp) {
        let Change { name, seen, about } = change;
        let owner_references = &about.owner_references;
        match (kind, seen) {
            (Kind::Entry, seen) => self.hear_entry(name, seen.as_ref(), now),
            (Kind::Pod, seen) => self.hear_pod(name, seen.as_ref(), now),
            (Kind::Connection, seen) => self.hear_connection(name, seen.as_ref(), now),
            (Kind::Job, seen) => {
                for owner in owner_references.iter().flatten() {
                    self.trigger((Kind::Entry, owner.name.clone()), now);
                }
                self.hear_job(name, seen.as_ref(), about, config, now);
            }
            (Kind::Claim, _) => {
                let concerned = |entry: &ModelCacheEntry| {
                    [wanted_claim(entry), archive_claim(entry)].iter().flatten().any(|of| of == name)
                };
                self.wake_entries(now, concerned);
            }
        }
    }

    fn hear_entry(&mut self, name: &str, seen: Option<&Seen>, now: Timestamp) {
        let before = match seen {
            Some(Seen::Entry(entry)) => {
                self.known.insert(name.to_owned(), Arc::clone(entry));
                Some(Arc::clone(entry))
            }
            _ => self.known.remove(name),
        };
        self.trigger((Kind::Entry, name.to_owned()), now);
        if before.is_some_and(|entry| counts_anew(&entry)) {
            self.wake_connections(now);
        }
    }

    fn hear_pod(&mut self, name: &str, seen: Option<&Seen>, now: Timestamp) {
        let known = self.consumers.get(name).cloned();
        let told = match seen {
            Some(Seen::Consumer(pod)) if pod.matters() => {
                let is_news = pod.worker.is_some() || !known.is_some_and(|known| known.is_like(pod));
                self.consumers.insert(name.to_owned(), Arc::clone(pod));
                is_news.then(|| Arc::clone(pod))
            }
            _ => self.consumers.remove(name),
        };
        let Some(pod) = told else { return };
        self.wake_entries(now, |entry| {
            pod.worker.is_some() && pod.worker == entry.uid()
                || (pod.worker.is_none() || pod.is_export) && usage::concerns(entry, &pod)
        });
        if pod.worker.is_none() || pod.is_export {
            self.wake_connections(now);
        }
    }

    /// A Job that takes from a Hub came, went or changed: whose turn it is now is woken, and its connection.
    fn hear_job(&mut self, name: &str, seen: Option<&Seen>, about: &ObjectMeta, config: &Config, now: Timestamp) {
        let label = |label| about.labels.as_ref().and_then(|labels| labels.get(label));
        if label(label::HUB).is_none() {
            return;
        }
        match seen {
            Some(Seen::Job(job)) => self.jobs.insert(name.to_owned(), Arc::clone(job)),
            _ => self.jobs.remove(name),
        };
        for name in self.next(config) {
            self.trigger((Kind::Entry, name), now);
        }
        let of = label(label::CONNECTION_UID);
        let connections = self.connections.values().filter(|connection| connection.uid().as_ref() == of);
        for name in connections.map(|connection| connection.name_any()).collect::<Vec<_>>() {
            self.trigger((Kind::Connection, name), now);
        }
    }

    fn hear_connection(&mut self, name: &str, seen: Option<&Seen>, now: Timestamp) {
        self.trigger((Kind::Connection, name.to_owned()), now);
        let connection = match seen {
            Some(Seen::Connection(connection)) => {
                self.connections.insert(name.to_owned(), Arc::clone(connection));
                Some(Arc::clone(connection))
            }
            _ => self.connections.remove(name),
        };
        // What the operator itself said of it concerns those that it says go first.
        let only = connection.and_then(|connection| {
            let heard = (connection.metadata.generation, connection.status.clone());
            let before = self.news.insert(connection.uid().unwrap(), heard.clone());
            let is_own_word = before.is_some_and(|before| before.0 == heard.0 && before.1 != heard.1);
            is_own_word.then(|| first_to_go(&connection))
        });
        match only {
            None => self.wake_entries(now, |_| true),
            Some(names) => self.wake_entries(now, |entry| names.contains(&entry.name_any())),
        }
    }

    fn wake_entries(&mut self, now: Timestamp, matches: impl Fn(&ModelCacheEntry) -> bool) {
        let those: Vec<String> =
            self.known.iter().filter(|(_, entry)| matches(entry)).map(|(name, _)| name.clone()).collect();
        for name in those {
            self.trigger((Kind::Entry, name), now);
        }
    }

    fn wake_connections(&mut self, now: Timestamp) {
        for name in self.connections.keys().cloned().collect::<Vec<_>>() {
            self.trigger((Kind::Connection, name), now);
        }
    }

    /// The watches are lost and begin anew: what is there is told, and what is gone is not.
    pub(crate) fn relist(&mut self, cluster: &mut Cluster) {
        forget_the_watches(cluster);
        self.known = cluster.entries.clone();
        let pods = cluster.pods.iter().map(|(name, pod)| (name.clone(), Arc::new(Consumer::from(pod.clone()))));
        self.consumers = pods.filter(|(_, pod)| pod.matters()).collect();
        self.connections =
            cluster.connections.iter().map(|(name, one)| (name.clone(), Arc::new(one.clone()))).collect();
        let takes = cluster.jobs.iter().filter(|(_, job)| job.labels().contains_key(label::HUB));
        self.jobs = takes.map(|(name, job)| (name.clone(), Arc::new(job.clone()))).collect();
        let entries = cluster.entries.keys().map(|name| (Kind::Entry, name.clone()));
        let connections = cluster.connections.keys().map(|name| (Kind::Connection, name.clone()));
        for subject in entries.chain(connections).collect::<Vec<Subject>>() {
            self.trigger(subject, cluster.now);
        }
    }
}

fn first_to_go(connection: &HubConnection) -> Vec<String> {
    let claims = connection.status.iter().flat_map(|status| &status.claims);
    let pressed = claims.filter(|claim| claim.pressure.is_some() && claim.going.is_none());
    pressed.filter_map(|claim| Some(claim.next.first()?.entry.clone())).collect()
}
