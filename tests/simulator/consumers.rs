//! Pods that use models: what they mount, what they could read when their containers began, and whether that is still there.
//!
//! What a Pod reads is found on the volume itself, by what the kernel would show it: none of the rules of `plan::usage` is asked.

use super::World;
use super::cluster::NAMESPACE;
use super::controllers::{NODE, claims_of, is_scheduled};
use super::disk::{Published, Root};
use super::hub::Files;
use super::invariants::{Place, place_of};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateRunning, ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use modelcache::api::{ModelCacheEntry, Phase, annotation};
use modelcache::controller::plan::attempt::{is_running, may_write};
use modelcache::controller::plan::{known_model, volume_of};
use modelcache::format::layout;
use modelcache::ident::{Commit, RepoId};
use serde_json::{Value, json};

/// At most so many Pods of people are there.
const MOST: usize = 5;

/// Files that a running Pod could read when its containers began, and that must stay as long as it runs.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    /// The entry whose model it is.
    pub(crate) entry: String,
    pub(crate) uid: String,
    /// The claim's uid.
    claim: String,
    root: String,
    snapshot: (RepoId, Commit),
    files: Files,
}

/// Whether a Pod is nobody's worker.
pub(crate) fn is_consumer(pod: &Pod) -> bool {
    pod.owner_references().is_empty()
}

pub(crate) fn is_gated(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten()).next().is_some()
}

/// The folders that a Pod's container sees of its claim.
pub(crate) fn folders(pod: &Pod) -> Vec<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    mounts.map(|mount| mount.sub_path.clone().unwrap_or_default()).collect()
}

/// The folders by which a model is mounted, in one of several ways.
fn ways(entry: &ModelCacheEntry, way: usize) -> Option<Vec<String>> {
    let model = known_model(entry)?;
    let root = volume_of(entry)?.1.unwrap_or_default();
    let below = |path: std::path::PathBuf| std::path::Path::new(&root).join(path).to_str().unwrap().to_owned();
    let name = model.entry_name();
    Some(match way {
        0..3 => vec![below(layout::entry(&name).join(layout::MODEL))],
        3 => vec![below(layout::repo(&model.repo)), below(layout::view(&name).join(layout::REFS))],
        4 => {
            let commit: Commit = entry.status.as_ref()?.commit.as_deref()?.parse().ok()?;
            vec![below(layout::snapshot(&model.repo, &commit))]
        }
        _ => vec![String::new()],
    })
}

impl World {
    /// Somebody starts a Pod that uses an entry's model.
    pub(crate) fn make_consumer(&mut self) {
        let entry = self.dice.one_of(self.cluster.entries.values().cloned().collect::<Vec<_>>());
        let (way, is_gated) = (self.dice.below(7), self.dice.happens(250));
        let Some(entry) = entry else { return };
        if self.cluster.pods.values().filter(|pod| is_consumer(pod)).count() >= MOST {
            return;
        }
        let name = format!("app-{}", self.cluster.version);
        let mut spec = json!({"containers": [{"name": "app", "image": "app"}]});
        let mut annotations = json!({});
        if way == 6 {
            annotations[annotation::MODELS] = json!(entry.name_any());
        } else {
            let Some((folders, (claim, _))) = ways(&entry, way).zip(volume_of(&entry)) else { return };
            let mount = |path: &String| json!({"name": "models", "mountPath": format!("/{path}"), "subPath": path});
            spec["volumes"] = json!([{"name": "models", "persistentVolumeClaim": {"claimName": claim}}]);
            spec["containers"][0]["volumeMounts"] = folders.iter().map(mount).collect::<Value>();
        }
        if is_gated {
            spec["schedulingGates"] = json!([{"name": "example.com/later"}]);
        }
        self.story.tell(|| format!("somebody starts Pod {name} for {}, way {way}, gated {is_gated}", entry.name_any()));
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": NAMESPACE, "annotations": annotations}, "spec": spec,
            "status": {"phase": "Pending"},
        }))
        .unwrap();
        let _ = self.cluster.create(pod);
    }

    /// Somebody opens a Pod's gate, or a Pod comes to its end by itself, or begins anew, or is deleted.
    pub(crate) fn change_consumer(&mut self) {
        let all: Vec<_> = self.cluster.pods.values().filter(|pod| is_consumer(pod)).cloned().collect();
        let what = self.dice.below(8);
        let Some(pod) = self.dice.one_of(all) else { return };
        let name = pod.name_any();
        self.story.tell(|| format!("change {what} of Pod {name}"));
        match what {
            0..3 if is_gated(&pod) => self.cluster.change::<Pod>(&name, |pod| {
                pod.spec.as_mut().unwrap().scheduling_gates = None;
            }),
            3 if is_running(&pod) => self.end_consumer(&name, "Succeeded"),
            4 if is_running(&pod) => self.end_consumer(&name, "Failed"),
            // Its container crashes, and what it mounts is looked up again.
            5 if is_running(&pod) => self.begin_container(&pod),
            6..8 => self.delete_pod(&name),
            _ => {}
        }
    }

    fn end_consumer(&mut self, name: &str, phase: &str) {
        self.holds.remove(name);
        self.cluster.change::<Pod>(name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some(phase.to_owned());
            status.container_statuses = None;
        });
    }

    pub(crate) fn consumer_can_move(&self, pod: &Pod) -> bool {
        if pod.metadata.deletion_timestamp.is_some() {
            return true;
        }
        let begins = || !is_scheduled(pod) || !has_begun(pod) || self.sees(pod).is_some();
        may_write(pod) && !is_gated(pod) && !is_running(pod) && self.can_be_scheduled(pod) && begins()
    }

    pub(crate) fn move_consumer(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let now = Time(self.cluster.now);
        if pod.metadata.deletion_timestamp.is_some() {
            self.holds.remove(&name);
            return self.cluster.remove::<Pod>(&name);
        }
        if !is_scheduled(pod) {
            return self.cluster.change::<Pod>(&name, |pod| {
                pod.spec.get_or_insert_default().node_name = Some(NODE.to_owned());
            });
        }
        if !has_begun(pod) {
            return self.cluster.change::<Pod>(&name, |pod| {
                pod.status.get_or_insert_default().start_time = Some(now);
            });
        }
        self.begin_container(pod);
    }

    /// The container begins: from now on it reads what its links lead to now.
    fn begin_container(&mut self, pod: &Pod) {
        let Some(holds) = self.sees(pod) else { return };
        self.story.tell(|| format!("Pod {} reads {holds:?}", pod.name_any()));
        self.holds.insert(pod.name_any(), holds);
        let now = Time(self.cluster.now);
        self.cluster.change::<Pod>(&pod.name_any(), |pod| {
            let running = ContainerStateRunning { started_at: Some(now) };
            let state = ContainerState { running: Some(running), ..ContainerState::default() };
            let container = ContainerStatus { name: "app".into(), state: Some(state), ..ContainerStatus::default() };
            let status = pod.status.get_or_insert_default();
            status.phase = Some("Running".to_owned());
            status.container_statuses = Some(vec![container]);
        });
    }

    /// What a container that begins now can read of the models that people know to be there. None where a folder is missing.
    fn sees(&self, pod: &Pod) -> Option<Vec<Hold>> {
        let mut holds = Vec::new();
        let claim = claims_of(pod).first().map(|name| (*name).to_owned());
        let known = self.cluster.entries.values().filter_map(|entry| Some((entry, self.published(entry)?)));
        let named = pod.annotations().get(annotation::MODELS);
        let Some(claim) = claim else {
            for (entry, (place, there)) in known.filter(|(entry, _)| named == Some(&entry.name_any())) {
                holds.push(hold(entry, &place, there));
            }
            return Some(holds);
        };
        let uid = self.cluster.claims.get(&claim)?.uid()?;
        let disk = self.disks.get(&uid)?;
        let known: Vec<_> = known.filter(|(_, (place, _))| place.0 == uid).collect();
        for folder in folders(pod) {
            let found = disk.roots.iter().find_map(|(name, root)| Some((name, root, looked_up(name, root, &folder)?)));
            // The whole claim is there always.
            let Some((name, root, what)) = found else {
                folder.is_empty().then_some(())?;
                holds.extend(known.iter().map(|(entry, (place, there))| hold(entry, place, there)));
                continue;
            };
            let (own, (repo, commit)) = match what {
                Folder::Own(key, place) => (Some(key), place),
                Folder::Snapshot(place) => (None, place),
                Folder::Above => continue,
            };
            let is_meant = |place: &Place, there: &Published| {
                place.1 == *name && there.model.repo == repo && own.as_ref().is_none_or(|key| *key == place.2)
            };
            for (entry, (place, there)) in known.iter().filter(|(_, (place, there))| is_meant(place, there)) {
                let earlier = root.kept.get(&(place.2.clone(), commit));
                let list = if there.commit == commit { Some(*there) } else { earlier };
                holds.extend(list.map(|list| hold(entry, place, list)));
            }
        }
        Some(holds)
    }

    /// What is on the volume of an entry that is said to be ready.
    fn published(&self, entry: &ModelCacheEntry) -> Option<(Place, &Published)> {
        let is_ready = entry.status.as_ref().is_some_and(|status| status.phase == Some(Phase::Ready));
        if !is_ready || entry.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let place = place_of(&self.cluster, entry)?;
        let there = self.disks.get(&place.0)?.roots.get(&place.1)?.entries.get(&place.2)?;
        Some((place, there))
    }

    /// What a Pod could read when its containers began is still there, as long as it runs.
    pub(crate) fn check_in_use(&self) -> Result<(), String> {
        for (pod, hold) in self.holds.iter().flat_map(|(pod, holds)| holds.iter().map(move |hold| (pod, hold))) {
            if self.forced.contains(&hold.uid) {
                continue;
            }
            let root = self.disks.get(&hold.claim).and_then(|disk| disk.roots.get(&hold.root));
            let there = root.and_then(|root| root.snapshots.get(&hold.snapshot));
            let is_there = |(name, digest): (&&str, &u64)| there.and_then(|files| files.get(*name)) == Some(digest);
            if !hold.files.iter().all(is_there) {
                return Err(format!("Pod {pod} runs, and lost files of {}: {hold:?}, {there:?}", hold.entry));
            }
        }
        Ok(())
    }

    /// Who is forced to go, ever.
    pub(crate) fn note_forced(&mut self) {
        let forced = |entry: &ModelCacheEntry| {
            entry.metadata.deletion_timestamp.is_some() && entry.annotations().contains_key(annotation::FORCE_DELETE)
        };
        let forced: Vec<_> =
            self.cluster.entries.values().filter(|entry| forced(entry)).filter_map(|one| one.uid()).collect();
        self.forced.extend(forced);
    }
}

fn hold(entry: &ModelCacheEntry, place: &Place, there: &Published) -> Hold {
    Hold {
        entry: entry.name_any(),
        uid: entry.uid().unwrap(),
        claim: place.0.clone(),
        root: place.1.clone(),
        snapshot: there.place(),
        files: there.files.clone(),
    }
}

fn has_begun(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

/// What a folder of a volume is.
enum Folder {
    /// It is an entry's own, by its key, and leads to this snapshot. What else is in there is no business of who mounts it.
    Own(String, (RepoId, Commit)),
    /// It is a snapshot.
    Snapshot((RepoId, Commit)),
    /// It has snapshots in it.
    Above,
}

/// What a folder below a cache's root is, where it is there.
fn looked_up(name: &str, root: &Root, folder: &str) -> Option<Folder> {
    let below = if name.is_empty() { Some(folder) } else { folder.strip_prefix(name)?.strip_prefix('/') };
    let below = std::path::Path::new(below?);
    for entry in root.entries.values() {
        let model = entry.model.entry_name();
        if below == layout::entry(&model).join(layout::MODEL) || below == layout::view(&model).join(layout::REFS) {
            return Some(Folder::Own(entry.key(), entry.place()));
        }
    }
    for (repo, commit) in root.snapshots.keys() {
        if below == layout::snapshot(repo, commit) {
            return Some(Folder::Snapshot((repo.clone(), *commit)));
        }
        if below == layout::repo(repo) {
            return Some(Folder::Above);
        }
    }
    None
}
