//! What holds after every step, and what holds once nothing goes wrong any more.

use super::World;
use super::cluster::Cluster;
use super::controllers::claims_of;
use super::disk::StagingId;
use super::hub::{archive, truth};
use super::people::may_leave_files;
use kube::ResourceExt;
use modelcache::api::{ModelCacheEntry, Phase, condition};
use modelcache::controller::plan::{Origin, attempt, known_model, origin, peers, volume_of};
use modelcache::ident::Reason;
use std::collections::BTreeMap;

/// The place of an entry: claim (its uid), root, key.
pub(crate) type Place = (String, String, String);

/// A repo, where it is known, and the Pod that writes to it.
type Writer<'a> = (Option<String>, &'a str);

/// Where an entry keeps its model, when its claim is there and its model is known.
pub(crate) fn place_of(cluster: &Cluster, entry: &ModelCacheEntry) -> Option<Place> {
    let (claim, root) = volume_of(entry)?;
    let key = known_model(entry)?.key().to_string();
    let claim = cluster.claims.get(&claim)?;
    claim.metadata.deletion_timestamp.is_none().then_some(())?;
    Some((claim.uid()?, root.unwrap_or_default(), key))
}

fn phase(entry: &ModelCacheEntry) -> Option<Phase> {
    entry.status.as_ref()?.phase
}

fn reason(entry: &ModelCacheEntry) -> &str {
    let conditions = entry.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().find(|one| one.type_ == condition::READY).map_or("", |ready| &ready.reason)
}

/// The place of an archive's entry that was deleted before anybody heard which model it is. A gap: what its worker published in
/// the moment of its end stays, as an entry of the same archive may have it by now.
fn nobody_knows(cluster: &Cluster, entry: &ModelCacheEntry) -> Option<Place> {
    let source = entry.spec.source.as_ref()?.archive.as_ref().filter(|_| entry.spec.repo.is_none())?;
    let model = archive(source.path.as_deref()?).ok()?.model;
    let storage = entry.spec.storage.as_ref()?;
    let claim = cluster.claims.get(storage.claim_name.as_ref()?)?;
    Some((claim.uid()?, storage.sub_path.clone().unwrap_or_default(), model.key().to_string()))
}

impl World {
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.check_writers()?;
        self.check_disks()?;
        self.check_ready()?;
        self.check_gone()
    }

    /// One writer at a time per claim, root and repo.
    fn check_writers(&self) -> Result<(), String> {
        let mut seen: BTreeMap<(String, String), Vec<Writer<'_>>> = BTreeMap::new();
        for (name, worker) in &self.workers {
            let Some(pod) = self.cluster.pods.get(name).filter(|pod| attempt::may_write(pod)) else { continue };
            let claim = claims_of(pod)[0].to_owned();
            let (root, repo) = worker.writes_to();
            let others = seen.entry((claim, root)).or_default();
            let meets = |other: &&Writer<'_>| other.0.is_none() || repo.is_none() || other.0 == repo;
            if let Some((_, other)) = others.iter().find(meets) {
                return Err(format!("Pods {other} and {name} write to one repo of one volume"));
            }
            others.push((repo, name));
        }
        Ok(())
    }

    /// What is published is whole, and is what its source has.
    fn check_disks(&self) -> Result<(), String> {
        for root in self.disks.values().flat_map(|disk| disk.roots.values()) {
            for (key, entry) in &root.entries {
                let truth = truth(&entry.model.repo, entry.commit);
                let is_true = entry.files.iter().all(|(name, digest)| truth.get(name) == Some(digest));
                if !is_true || !root.holds(entry) {
                    return Err(format!("the entry {key} on a volume is not whole and right: {entry:?}, {root:?}"));
                }
            }
        }
        Ok(())
    }

    /// Who is Ready has its model, as long as its claim is the one it was when it became so.
    fn check_ready(&mut self) -> Result<(), String> {
        for (name, entry) in &self.cluster.entries {
            let uid = entry.uid().unwrap();
            if phase(entry) != Some(Phase::Ready) || entry.metadata.deletion_timestamp.is_some() {
                self.ready.remove(&uid);
                continue;
            }
            let place = place_of(&self.cluster, entry);
            let since = self.ready.entry(uid).or_insert_with(|| place.clone());
            let Some(place) = place.filter(|place| since.as_ref() == Some(place)) else { continue };
            let there = self.disks.get(&place.0).and_then(|disk| disk.roots.get(&place.1)?.entries.get(&place.2));
            if there.is_none() {
                return Err(format!("{name} is Ready and its model is not on its volume"));
            }
        }
        Ok(())
    }

    /// Who is gone left nothing behind that nobody else keeps.
    fn check_gone(&mut self) -> Result<(), String> {
        let gone: Vec<_> = self
            .before
            .iter()
            .filter(|(name, entry)| self.cluster.entries.get(*name).is_none_or(|now| now.uid() != entry.uid()))
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect();
        for (name, entry) in gone {
            let Some(place) = place_of(&self.cluster, &entry) else {
                self.left_behind.extend(nobody_knows(&self.cluster, &entry));
                continue;
            };
            let had_no_finalizer = entry.finalizers().is_empty();
            if may_leave_files(&entry) || had_no_finalizer {
                self.left_behind.insert(place);
                continue;
            }
            if self.left_behind.contains(&place) || self.is_kept_by_another(&place) {
                continue;
            }
            let root = self.disks.get(&place.0).and_then(|disk| disk.roots.get(&place.1));
            let Some(root) = root else { continue };
            let is_staging = |id: &StagingId| matches!(id, StagingId::Download(key, _) if *key == place.2);
            if root.entries.contains_key(&place.2) || root.stagings.keys().any(is_staging) {
                return Err(format!("{name} is gone and left files behind: {root:?}"));
            }
        }
        self.before.clone_from(&self.cluster.entries);
        Ok(())
    }

    fn is_kept_by_another(&self, place: &Place) -> bool {
        self.cluster.entries.values().any(|entry| place_of(&self.cluster, entry).as_ref() == Some(place))
    }

    /// Every entry is where its world puts it.
    pub(crate) fn check_settled(&self) -> Result<(), String> {
        for (name, entry) in &self.cluster.entries {
            let found = (phase(entry), reason(entry));
            if entry.metadata.deletion_timestamp.is_some() {
                return Err(format!("the deletion of {name} does not end: {found:?}"));
            }
            let expected = self.expected(entry);
            if !expected.iter().any(|(phase, reason)| {
                found.0 == Some(*phase) && reason.is_none_or(|reason| reason.as_str() == found.1)
            }) {
                return Err(format!("{name} settled as {found:?} and not as one of {expected:?}"));
            }
            if found.0 == Some(Phase::Ready) && entry.spec.suspend != Some(true) {
                let place = place_of(&self.cluster, entry).ok_or(format!("{name} is Ready without a claim"))?;
                let there = self.disks.get(&place.0).and_then(|disk| disk.roots.get(&place.1)?.entries.get(&place.2));
                let commit = there.map(|there| there.commit.to_string());
                if commit.is_none() || entry.status.as_ref().unwrap().commit != commit {
                    return Err(format!("{name} is Ready, and its volume has {there:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether something may still happen by itself: an attempt with a deadline waits for its claim and is then made again, and
    /// a twin that was ready first is seen only when it is looked at.
    pub(crate) fn is_restless(&self) -> bool {
        self.cluster.entries.values().any(|entry| {
            let deadline = entry.spec.job.as_ref().and_then(|job| job.active_deadline_seconds);
            let is_twin = self.expected(entry).contains(&(Phase::Failed, Some(Reason::DuplicateEntry)));
            phase(entry) != Some(Phase::Ready) && deadline.is_some() || phase(entry) == Some(Phase::Ready) && is_twin
        })
    }

    /// In which phases an entry may rest in this world.
    fn expected(&self, entry: &ModelCacheEntry) -> Vec<(Phase, Option<Reason>)> {
        let one = |phase, reason| vec![(phase, Some(reason))];
        let ready = (Phase::Ready, None);
        if entry.spec.suspend == Some(true) {
            return vec![(Phase::Suspended, None), ready];
        }
        let claim_name = modelcache::controller::plan::wanted_claim(entry).unwrap();
        let claim = self.cluster.claims.get(&claim_name);
        let connection = entry.spec.connection_name();
        if connection.is_some_and(|name| !self.cluster.connections.contains_key(name)) {
            return vec![(Phase::Pending, Some(Reason::ConnectionNotFound)), ready];
        }
        let key = known_model(entry).map(|model| model.key().to_string());
        let others = peers(entry, self.cluster.entries.values().map(AsRef::as_ref));
        if others.iter().any(|peer| peer.older && peer.key.is_some() && peer.key == key) {
            // Nobody looks again at one that was ready before the older one's archive was read.
            return vec![(Phase::Failed, Some(Reason::DuplicateEntry)), ready];
        }
        let is_own = entry.spec.storage.as_ref().unwrap().volume_claim_template.is_some();
        let Ok(origin) = origin(&entry.spec) else { return one(Phase::Failed, Reason::RepoNotFound) };
        let archive_claim = modelcache::controller::plan::archive_claim(entry);
        let waits = vec![
            (Phase::Provisioning, Some(Reason::PVCPending)),
            (Phase::Provisioning, Some(Reason::StorageClassNotFound)),
        ];
        match claim {
            None if !is_own => return waits,
            Some(claim) if is_own && claim.labels().get("modelcache.dev/entry-uid") != entry.uid().as_ref() => {
                return one(Phase::Failed, Reason::Conflict);
            }
            Some(claim) if claim.spec.as_ref().unwrap().storage_class_name.as_deref() == Some("missing") => {
                return waits;
            }
            _ => {}
        }
        let has_it = phase(entry) == Some(Phase::Ready);
        if has_it {
            return vec![ready];
        }
        if archive_claim.is_some_and(|name| !self.cluster.claims.contains_key(&name)) {
            return waits;
        }
        match origin {
            Origin::Hub { model, files } => match self.hub.settled(&model, &files) {
                Ok(_) => vec![ready],
                Err(reason) => one(Phase::Failed, reason),
            },
            Origin::Volume { .. } => unreachable!("nobody here adopts"),
            Origin::Archive { .. } => {
                let path = entry.spec.source.as_ref().unwrap().archive.as_ref().unwrap().path.as_deref().unwrap();
                match archive(path) {
                    Err(reason) => one(Phase::Failed, reason),
                    Ok(archive) => match known_model(entry) {
                        Some(model) if model.repo != archive.model.repo => one(Phase::Failed, Reason::ModelMismatch),
                        _ => vec![ready, (Phase::Failed, Some(Reason::Conflict))],
                    },
                }
            }
        }
    }

    /// Nothing of anybody is left.
    pub(crate) fn check_empty(&self) -> Result<(), String> {
        if let Some(name) = self.cluster.entries.keys().next() {
            let entry = &self.cluster.entries[name];
            return Err(format!("the deletion of {name} does not end: {:?}, {}", phase(entry), reason(entry)));
        }
        if let Some(name) = self.cluster.jobs.keys().chain(self.cluster.pods.keys()).next() {
            return Err(format!("Job or Pod {name} of nobody is left"));
        }
        for (claim, disk) in &self.disks {
            for (name, root) in &disk.roots {
                let is_excused = |key: &String| self.left_behind.contains(&(claim.clone(), name.clone(), key.clone()));
                if let Some(key) = root.entries.keys().chain(root.trash.keys()).find(|key| !is_excused(key)) {
                    return Err(format!("nobody's entry {key} is left on a volume"));
                }
                let nobodys = |id: &&StagingId| matches!(id, StagingId::Download(key, _) if !is_excused(key));
                if let Some(id) = root.stagings.keys().find(nobodys) {
                    return Err(format!("nobody's staging is left on a volume: {id:?}"));
                }
            }
        }
        Ok(())
    }
}
