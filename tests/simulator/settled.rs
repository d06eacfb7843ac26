//! What holds once nothing goes wrong any more.

use super::World;
use super::consumers::is_consumer;
use super::disk::StagingId;
use super::hub::{archive, size};
use super::invariants::{phase, place_of};
use kube::ResourceExt;
use modelcache::api::entry::UpdatePolicy;
use modelcache::api::{ModelCacheEntry, Phase, annotation, condition};
use modelcache::controller::plan::attempt::may_write;
use modelcache::controller::plan::sizing::bytes_of;
use modelcache::controller::plan::{Origin, archive_claim, known_model, origin, peers, volume_of};
use modelcache::format::layout;
use modelcache::ident::{Commit, Reason};

type Rest = (Phase, Option<Reason>);

fn said<'a>(entry: &'a ModelCacheEntry, type_: &str) -> Option<(&'a str, &'a str)> {
    let conditions = entry.status.iter().flat_map(|status| &status.conditions);
    let said = conditions.into_iter().find(|one| one.type_ == type_)?;
    Some((&said.status, &said.reason))
}

fn reason(entry: &ModelCacheEntry) -> &str {
    said(entry, condition::READY).map_or("", |(_, reason)| reason)
}

fn is_own(entry: &ModelCacheEntry) -> bool {
    entry.spec.storage.as_ref().unwrap().volume_claim_template.is_some()
}

fn policy(entry: &ModelCacheEntry) -> UpdatePolicy {
    entry.spec.update.as_ref().and_then(|update| update.policy).unwrap_or_default()
}

impl World {
    /// Every entry is where its world puts it.
    pub(crate) fn check_settled(&self) -> Result<(), String> {
        for (name, entry) in &self.cluster.entries {
            let found = (phase(entry), reason(entry));
            if entry.metadata.deletion_timestamp.is_some() {
                if self.is_used(entry, true)
                    && said(entry, condition::DELETION_BLOCKED).is_some_and(|said| said.0 == "True")
                {
                    continue;
                }
                return Err(format!("the deletion of {name} does not end: {found:?}"));
            }
            let mut expected = self.expected(entry);
            if self.may_be_evicted(entry) {
                expected.push((Phase::Evicted, None));
            }
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
                self.check_fresh(name, entry)?;
            }
        }
        Ok(())
    }

    /// Who follows a revision has its commit, or says that there is another one.
    fn check_fresh(&self, name: &str, entry: &ModelCacheEntry) -> Result<(), String> {
        let Ok(Origin::Hub { model, files }) = origin(&entry.spec) else { return Ok(()) };
        let connection = entry.spec.connection_name();
        let has_hub = connection.is_none_or(|name| self.cluster.connections.contains_key(name));
        let Ok((latest, _)) = self.hub.settled(&model, &files) else { return Ok(()) };
        if policy(entry) == UpdatePolicy::Pinned || !has_hub {
            return Ok(());
        }
        let commit: Commit = entry.status.as_ref().and_then(|status| status.commit.as_deref()?.parse().ok()).unwrap();
        let (drifted, reason) = said(entry, condition::DRIFTED).unwrap_or_default();
        // There may be no room for the newer one in an own claim.
        let is_full = is_own(entry) && reason == Reason::OutOfSpace.as_str();
        if policy(entry) == UpdatePolicy::Track && commit != latest && !is_full {
            return Err(format!("{name} tracks a revision that is at {latest}, and has {commit}"));
        }
        if drifted != if commit == latest { "False" } else { "True" } {
            return Err(format!("{name} has {commit}, the Hub {latest}, and Drifted is {drifted:?} ({reason})"));
        }
        Ok(())
    }

    /// Whether a Pod that is not over mounts a model's own folder or names the entry; or, if that counts too, mounts a folder that
    /// may have to do with it.
    fn is_used(&self, entry: &ModelCacheEntry, or_held: bool) -> bool {
        let Some((claim, root)) = volume_of(entry) else { return false };
        let root = root.unwrap_or_default();
        let own = known_model(entry).map(|model| {
            let name = model.entry_name();
            let path = std::path::Path::new(&root).join(layout::entry(&name)).join(layout::MODEL);
            let view = std::path::Path::new(&root).join(layout::view(&name)).join(layout::REFS);
            let snapshots = std::path::Path::new(&root).join(layout::snapshots(&model.repo));
            (path, view, snapshots)
        });
        self.cluster.pods.values().filter(|pod| is_consumer(pod) && may_write(pod)).any(|pod| {
            let mounts = super::consumers::folders(pod);
            let has_claim = super::controllers::claims_of(pod).contains(&claim.as_str());
            let reaches = |folder: &String| {
                let folder = std::path::Path::new(folder);
                own.as_ref().is_some_and(|(path, view, snapshots)| {
                    let holds = || folder.starts_with(snapshots) || snapshots.starts_with(folder);
                    folder == path || folder == view || or_held && holds()
                }) || or_held && folder.as_os_str().is_empty()
            };
            pod.annotations().get(annotation::MODELS) == Some(&entry.name_any())
                || has_claim && mounts.iter().any(reaches)
        })
    }

    /// Whether anybody said that the model may go by itself, and nobody uses it.
    fn may_be_evicted(&self, entry: &ModelCacheEntry) -> bool {
        if self.is_used(entry, false) {
            return false;
        }
        let own = entry.spec.retention.as_ref().is_some_and(|retention| retention.unused_for.is_some());
        // A connection that limited its models may be gone or another one by now; what went then comes back when it is used.
        own || self.limited || entry.status.as_ref().is_some_and(|status| status.eviction.is_some())
    }

    /// Whether something may still happen by itself, with time.
    pub(crate) fn is_restless(&self) -> bool {
        let limits = self.cluster.connections.values().any(|connection| connection.spec.cache.is_some());
        self.cluster.entries.values().any(|entry| {
            // An attempt with a deadline waits for its claim and is then made again.
            let deadline = entry.spec.job.as_ref().and_then(|job| job.active_deadline_seconds);
            let goes = limits || entry.spec.retention.is_some();
            let is_ready = phase(entry) == Some(Phase::Ready);
            !is_ready && deadline.is_some() || is_ready && (goes || policy(entry) != UpdatePolicy::Pinned)
        })
    }

    /// Whether an update may be due that only waits until its Hub has a place: it takes that whenever somebody looks.
    pub(crate) fn updates_may_wait(&self) -> bool {
        let updates =
            |entry: &ModelCacheEntry| phase(entry) == Some(Phase::Ready) && policy(entry) != UpdatePolicy::Pinned;
        self.hubs_are_limited && self.cluster.entries.values().any(|entry| updates(entry))
    }

    /// Whether what the claim has, and may grow to, is too small for this.
    fn has_no_room(&self, entry: &ModelCacheEntry, bytes: u64) -> bool {
        let Some((name, _)) = volume_of(entry).filter(|_| is_own(entry)) else { return false };
        let Some(claim) = self.cluster.claims.get(&name) else { return false };
        let there = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
        there.and_then(bytes_of).is_some_and(|there| there < bytes)
    }

    /// In which phases an entry may rest in this world.
    fn expected(&self, entry: &ModelCacheEntry) -> Vec<Rest> {
        let one = |phase, reason| vec![(phase, Some(reason))];
        let ready = (Phase::Ready, None);
        if entry.spec.suspend == Some(true) {
            return vec![(Phase::Suspended, None), ready];
        }
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
        let Ok(origin) = origin(&entry.spec) else { return one(Phase::Failed, Reason::RepoNotFound) };
        let mut waits = vec![
            (Phase::Provisioning, Some(Reason::PVCPending)),
            (Phase::Provisioning, Some(Reason::StorageClassNotFound)),
        ];
        if self.hubs_are_limited {
            // Others had its place in the line for the Hub.
            waits.extend([Reason::PVCPending, Reason::StorageClassNotFound].map(|why| (Phase::Retrying, Some(why))));
        }
        if entry.spec.job.as_ref().is_some_and(|job| job.active_deadline_seconds.is_some()) {
            waits.push((Phase::Retrying, Some(Reason::DeadlineExceeded)));
        }
        if let Some(waits) = self.expected_of_claim(entry, &waits) {
            return waits;
        }
        if phase(entry) == Some(Phase::Ready) {
            return vec![ready];
        }
        if archive_claim(entry).is_some_and(|name| !self.cluster.claims.contains_key(&name)) {
            // It is asked for its size first, by a Job that waits for it.
            return [waits, vec![(Phase::Resolving, None)]].concat();
        }
        let bytes = |files: &super::hub::Files| files.iter().map(|(name, digest)| size(name, *digest)).sum();
        match origin {
            Origin::Hub { model, files } => match self.hub.settled(&model, &files) {
                Ok((_, files)) if self.has_no_room(entry, bytes(&files)) => one(Phase::Failed, Reason::OutOfSpace),
                Ok(_) => vec![ready],
                Err(reason) => one(Phase::Failed, reason),
            },
            Origin::Volume { .. } => unreachable!("nobody here adopts"),
            Origin::Archive { .. } => {
                let path = entry.spec.source.as_ref().unwrap().archive.as_ref().unwrap().path.as_deref().unwrap();
                match archive(path) {
                    Err(reason) => one(Phase::Failed, reason),
                    Ok(archive) if self.has_no_room(entry, bytes(&archive.files)) => {
                        one(Phase::Failed, Reason::OutOfSpace)
                    }
                    Ok(archive) => match known_model(entry) {
                        Some(model) if model.repo != archive.model.repo => one(Phase::Failed, Reason::ModelMismatch),
                        _ => vec![ready, (Phase::Failed, Some(Reason::Conflict))],
                    },
                }
            }
        }
    }

    /// What an entry waits for, where that is its claim.
    fn expected_of_claim(&self, entry: &ModelCacheEntry, waits: &[Rest]) -> Option<Vec<Rest>> {
        let claim_name = modelcache::controller::plan::wanted_claim(entry).unwrap();
        let claim = self.cluster.claims.get(&claim_name);
        let has_archive_claim = archive_claim(entry).is_none_or(|name| self.cluster.claims.contains_key(&name));
        match claim {
            None if !is_own(entry) => Some(waits.to_vec()),
            // Pods still have it.
            Some(claim) if claim.metadata.deletion_timestamp.is_some() => Some(waits.to_vec()),
            // The archive's claim is looked for first.
            Some(claim)
                if is_own(entry)
                    && has_archive_claim
                    && claim.labels().get("modelcache.dev/entry-uid") != entry.uid().as_ref() =>
            {
                Some(vec![(Phase::Failed, Some(Reason::Conflict))])
            }
            Some(claim) if claim.spec.as_ref().unwrap().storage_class_name.as_deref() == Some("missing") => {
                Some(waits.to_vec())
            }
            _ => None,
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
                if let Some(list) = root.lists().find(|list| !is_excused(&list.key())) {
                    return Err(format!("nobody's {list:?} is left on a volume"));
                }
                let nobodys = |id: &&StagingId| matches!(id, StagingId::Download(key, ..) if !is_excused(key));
                if let Some(id) = root.stagings.keys().find(nobodys) {
                    return Err(format!("nobody's staging is left on a volume: {id:?}"));
                }
            }
        }
        Ok(())
    }
}
