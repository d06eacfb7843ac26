//! The operator: the shell's loop around the real decisions, with reads and writes that can be parted and can fail.
//!
//! Mirrors `src/controller/shell/{observe,scene,reconcile,write}.rs`. What is remembered is what kube's `Controller` keeps: a
//! watch's memory of the entries, and who is due.

use super::cluster::{Change, Cluster, KINDS, Kind, NAMESPACE, Refusal};
use super::dice::Dice;
use crate::controllers::NODE;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use modelcache::api::{FINALIZER, ModelCacheEntry, label};
use modelcache::controller::config::Config;
use modelcache::controller::plan::placement::NodeSight;
use modelcache::controller::plan::{
    Action, ConnectionSight, Met, Observed, Obstacle, Plan, Scene, Why, archive_claim, attempt, decide, obstructed,
    peers, wanted_claim, writers,
};
use modelcache::format::outcome::Heard;
use modelcache::ident::Reason;
use std::collections::BTreeMap;
use std::sync::Arc;

/// At most so many rounds at a time, as in the shell.
const CONCURRENCY: usize = 8;

/// The operator's process.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    /// What the watch of the entries told last.
    pub(crate) known: BTreeMap<String, Arc<ModelCacheEntry>>,
    /// Who is looked at next, and when.
    pub(crate) due: BTreeMap<String, Timestamp>,
    failures: BTreeMap<String, u32>,
    pub(crate) rounds: Vec<Round>,
}

/// A round under way.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) name: String,
    entry: Arc<ModelCacheEntry>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Jobs and claim were seen; the Pods are not yet.
    Seen(Timestamp, Box<Scene>),
    /// The actions from this one on are to be done.
    Acts(Box<Observed>, Box<Plan>, usize),
    /// Only the status is left to be written.
    Writes(Box<Plan>),
}

/// What the operator finds around it.
pub(crate) struct Surroundings<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) logs: &'a BTreeMap<String, Log>,
    pub(crate) config: &'a Config,
    pub(crate) dice: &'a mut Dice,
    /// Of a thousand requests, how many fail.
    pub(crate) failing: usize,
    pub(crate) story: &'a mut super::Story,
}

/// A Pod's log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<String>,
    pub(crate) is_lost: bool,
}

/// The round failed: a request had no good answer.
struct Broken;

impl Operator {
    /// A process that has just begun: it lists everything.
    pub(crate) fn start(cluster: &mut Cluster) -> Self {
        for watch in cluster.watches.values_mut() {
            watch.clear();
        }
        let due = cluster.entries.keys().map(|name| (name.clone(), cluster.now)).collect();
        Self { known: cluster.entries.clone(), due, ..Self::default() }
    }

    pub(crate) fn trigger(&mut self, name: &str, at: Timestamp) {
        let due = self.due.entry(name.to_owned()).or_insert(at);
        *due = (*due).min(at);
    }

    /// A watch tells of one change.
    pub(crate) fn hear(&mut self, kind: Kind, change: &Change, now: Timestamp) {
        if kind == Kind::Entry {
            match &change.entry {
                Some(entry) => self.known.insert(change.name.clone(), Arc::clone(entry)),
                None => self.known.remove(&change.name),
            };
            return self.trigger(&change.name, now);
        }
        let Change { name, about: ObjectMeta { labels, owner_references, .. }, .. } = change;
        let uid = labels.as_ref().and_then(|labels| labels.get(label::ENTRY_UID));
        let concerned: Vec<String> = match kind {
            Kind::Job => owner_references.iter().flatten().map(|owner| owner.name.clone()).collect(),
            Kind::Pod => self.those(|entry| entry.metadata.uid.as_ref() == uid),
            Kind::Claim => {
                self.those(|entry| [wanted_claim(entry), archive_claim(entry)].iter().flatten().any(|of| of == name))
            }
            Kind::Connection => self.those(|_| true),
            Kind::Entry => Vec::new(),
        };
        for name in concerned {
            self.trigger(&name, now);
        }
    }

    fn those(&self, matches: impl Fn(&ModelCacheEntry) -> bool) -> Vec<String> {
        self.known.iter().filter(|(_, entry)| matches(entry)).map(|(name, _)| name.clone()).collect()
    }

    /// The watches are lost and begin anew: what is there is told, and what is gone is not.
    pub(crate) fn relist(&mut self, cluster: &mut Cluster) {
        for kind in KINDS {
            cluster.watches.get_mut(&kind).unwrap().clear();
        }
        self.known = cluster.entries.clone();
        for name in cluster.entries.keys() {
            self.trigger(name, cluster.now);
        }
    }

    /// The rounds that may begin now.
    pub(crate) fn ready(&self, now: Timestamp) -> Vec<String> {
        if self.rounds.len() >= CONCURRENCY {
            return Vec::new();
        }
        let is_free = |name: &String| !self.rounds.iter().any(|round| round.name == *name);
        self.due.iter().filter(|(name, at)| **at <= now && is_free(name)).map(|(name, _)| name.clone()).collect()
    }

    /// Begins the round of an entry: half of the world is looked at.
    pub(crate) fn begin(&mut self, name: &str, around: &mut Surroundings<'_>) {
        self.due.remove(name);
        // An object that the watch does not know is gone.
        let Some(entry) = self.known.get(name).cloned() else { return };
        let cluster = &around.cluster;
        let claim = |name: Option<String>| name.and_then(|name| cluster.claims.get(&name).cloned());
        let uid = entry.uid();
        let ours = |job: &&Job| job.labels().get(label::ENTRY_UID) == uid.as_ref();
        let scene = Scene {
            claim: claim(wanted_claim(&entry)),
            archive_claim: claim(archive_claim(&entry)),
            jobs: cluster.jobs.values().filter(ours).cloned().collect(),
            ..Scene::default()
        };
        let stage = Stage::Seen(cluster.now, Box::new(scene));
        self.rounds.push(Round { name: name.to_owned(), entry, stage });
    }

    /// Goes on with a round by one step: at most one write.
    pub(crate) fn go_on(&mut self, at: usize, around: &mut Surroundings<'_>) {
        let Round { name, entry, stage } = self.rounds.swap_remove(at);
        let next = match stage {
            Stage::Seen(now, scene) => self.see_the_rest(&entry, now, *scene, around).map(Some),
            Stage::Acts(observed, plan, at) => acts(&entry, observed, plan, at, around).map(Some),
            Stage::Writes(plan) => writes(&entry, *plan, around).map(|again| {
                self.failures.remove(&name);
                if let Some(again) = again {
                    let wait = SignedDuration::try_from(again).unwrap();
                    // Times are whole seconds here.
                    self.trigger(&name, around.cluster.now + SignedDuration::from_secs(wait.as_secs().max(1)));
                }
                None
            }),
        };
        match next {
            Ok(Some(stage)) => self.rounds.push(Round { name, entry, stage }),
            Ok(None) => {}
            Err(Broken) if around.cluster.is_terminating => {}
            Err(Broken) => {
                let count = self.failures.entry(name.clone()).or_insert(0);
                *count += 1;
                let wait = (1_i64 << (*count).min(8)).min(60);
                self.trigger(&name, around.cluster.now + SignedDuration::from_secs(wait));
            }
        }
    }

    fn see_the_rest(
        &self,
        entry: &Arc<ModelCacheEntry>,
        now: Timestamp,
        mut scene: Scene,
        around: &mut Surroundings<'_>,
    ) -> Result<Stage, Broken> {
        if around.dice.happens(around.failing) {
            return Err(Broken);
        }
        let cluster = &*around.cluster;
        let uid = entry.uid();
        scene.pods =
            cluster.pods.values().filter(|pod| pod.labels().get(label::ENTRY_UID) == uid.as_ref()).cloned().collect();
        let recorded = entry.status.as_ref().and_then(|status| status.attempts.as_ref()?.last_job.as_deref());
        scene.heard = listen(&scene, recorded, around.logs);
        explain(&mut scene, recorded, cluster, now);
        scene.nodes =
            vec![NodeSight { name: NODE.to_owned(), hostname: NODE.to_owned(), is_ready: true, taints: Vec::new() }];
        let named = entry.spec.connection_name();
        let connection = match cluster.connections.get(named.unwrap_or("default")) {
            Some(connection) => ConnectionSight::Found(Box::new(connection.clone())),
            None => named.map_or(ConnectionSight::Defaults, |name| ConnectionSight::Missing(name.to_owned())),
        };
        let observed = Observed {
            entry: (**entry).clone(),
            config: around.config.clone(),
            connection,
            scene,
            peers: peers(entry, self.known.values().map(AsRef::as_ref)),
            readers: Vec::new(),
            neighbours: Vec::new(),
            queue: Default::default(),
            not_grown: None,
            namespace_terminating: entry.metadata.deletion_timestamp.is_some() && cluster.is_terminating,
            now,
            nonce: format!("{:016x}", around.dice.next()),
        };
        let plan = decide(&observed);
        around.story.tell(|| format!("decides on {}: {}", entry.name_any(), shown(&plan)));
        Ok(Stage::Acts(Box::new(observed), Box::new(plan), 0))
    }
}

fn shown(plan: &Plan) -> String {
    let kind = |action: &Action| match action {
        Action::CreateJob(job) => format!("CreateJob {}", job.name_any()),
        Action::DeleteJob { name, .. } => format!("DeleteJob {name}"),
        other => format!("{other:?}").chars().take(20).collect(),
    };
    let actions: Vec<String> = plan.actions.iter().map(kind).collect();
    format!("{:?} {actions:?} again {:?}", plan.status.phase, plan.again)
}

/// Reads the tail of the newest Pod's log, as the shell does.
fn listen(scene: &Scene, recorded: Option<&str>, logs: &BTreeMap<String, Log>) -> Heard {
    let mut heard = Heard::default();
    let Some(current) = scene.current(recorded) else { return heard };
    let pods = scene.pods_of(current.job);
    let (Some(pod), Some(task)) = (pods.first(), &current.task) else { return heard };
    let has_ended = attempt::has_ended(pod);
    if !has_ended && !attempt::is_running(pod) {
        return heard;
    }
    let Some(log) = logs.get(&pod.name_any()).filter(|log| !log.is_lost) else { return heard };
    let tail = if has_ended { 400 } else { 20 };
    for line in &log.lines[log.lines.len().saturating_sub(tail)..] {
        heard.hear(&task.nonce, line);
    }
    heard
}

/// Looks for the reason why something waits, as the shell does.
fn explain(scene: &mut Scene, recorded: Option<&str>, cluster: &Cluster, now: Timestamp) {
    let is_pending = |claim: &&PersistentVolumeClaim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Pending"))
    };
    let pending = scene.claim.as_ref().filter(is_pending);
    let class = pending.and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
    scene.storage_class_missing = class.as_deref() == Some("missing");
    let old = |meta: &ObjectMeta| {
        meta.creation_timestamp.as_ref().is_some_and(|time| time.0 + SignedDuration::from_secs(3) < now)
    };
    let mut puzzles: Vec<Option<String>> = Vec::new();
    puzzles.extend(pending.filter(|claim| old(&claim.metadata)).map(ResourceExt::uid));
    if let Some(current) = scene.current(recorded).filter(|current| old(&current.job.metadata)) {
        match scene.pods_of(current.job).first() {
            None => puzzles.push(current.job.uid()),
            Some(pod) if !attempt::is_running(pod) && !attempt::has_ended(pod) => puzzles.push(pod.uid()),
            Some(_) => {}
        }
    }
    scene.warnings = puzzles.iter().flatten().filter_map(|uid| cluster.warnings.get(uid).cloned()).collect();
}

/// Does the next action.
fn acts(
    entry: &Arc<ModelCacheEntry>,
    observed: Box<Observed>,
    plan: Box<Plan>,
    at: usize,
    around: &mut Surroundings<'_>,
) -> Result<Stage, Broken> {
    let Some(action) = plan.actions.get(at) else { return Ok(Stage::Writes(plan)) };
    let has_failed = around.dice.happens(around.failing);
    // An answer may be lost on its way back: the write is done all the same.
    if has_failed && around.dice.happens(500) {
        return Err(Broken);
    }
    let obstacle = act(entry, action, around.cluster)?;
    if has_failed {
        return Err(Broken);
    }
    Ok(match obstacle {
        None => Stage::Acts(observed, plan, at + 1),
        Some(obstacle) => {
            around.story.tell(|| format!("  meets {obstacle:?}"));
            Stage::Writes(Box::new(obstructed(&observed, &[Met { action, obstacle }])))
        }
    })
}

/// One write, as the shell does it.
fn act(entry: &Arc<ModelCacheEntry>, action: &Action, cluster: &mut Cluster) -> Result<Option<Obstacle>, Broken> {
    cluster.writes += 1;
    let is_same =
        |cluster: &Cluster| cluster.entries.get(&entry.name_any()).filter(|found| found.uid() == entry.uid()).cloned();
    match action {
        Action::AddFinalizer => match is_same(cluster) {
            // No new finalizers can be added if the object is being deleted.
            Some(found) if found.metadata.deletion_timestamp.is_some() => return Err(Broken),
            Some(found) if found.finalizers().is_empty() => {
                cluster.change::<Arc<ModelCacheEntry>>(&entry.name_any(), |entry| {
                    Arc::make_mut(entry).metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
                });
            }
            Some(_) => {}
            None => return Err(Broken),
        },
        Action::RemoveFinalizer => {
            if let Some(found) = is_same(cluster) {
                if found.metadata.deletion_timestamp.is_some() {
                    cluster.remove::<Arc<ModelCacheEntry>>(&entry.name_any());
                } else {
                    cluster.change::<Arc<ModelCacheEntry>>(&entry.name_any(), |entry| {
                        Arc::make_mut(entry).metadata.finalizers = None;
                    });
                }
            }
        }
        Action::CreateClaim(claim) => {
            let mut claim = (**claim).clone();
            claim.metadata.finalizers = Some(vec!["kubernetes.io/pvc-protection".to_owned()]);
            claim.status.get_or_insert_default().phase = Some("Pending".to_owned());
            let there =
                cluster.claims.get(&claim.name_any()).map(|there| there.labels().get(label::ENTRY_UID).cloned());
            return created(cluster.create(claim), there.flatten() == entry.uid(), "PersistentVolumeClaim");
        }
        Action::CreateJob(job) => return create_job(entry, job, cluster),
        Action::SetClaimOwned { name, uid, owned } => {
            if cluster.claims.get(name).is_some_and(|claim| claim.uid().as_ref() == Some(uid)) {
                let owners: Vec<_> = entry.controller_owner_ref(&()).into_iter().filter(|_| *owned).collect();
                cluster.change::<PersistentVolumeClaim>(name, |claim| claim.metadata.owner_references = Some(owners));
            }
        }
        Action::DeleteJob { name, uid } => {
            if cluster.jobs.get(name).is_some_and(|job| job.uid().as_ref() == Some(uid)) {
                cluster.delete::<Job>(name);
            }
        }
        other => panic!("no such action is simulated: {other:?}"),
    }
    Ok(None)
}

fn create_job(entry: &ModelCacheEntry, job: &Job, cluster: &mut Cluster) -> Result<Option<Obstacle>, Broken> {
    let volume = job.labels().get(label::VOLUME);
    if volume.is_some() {
        let jobs: Vec<Job> =
            cluster.jobs.values().filter(|other| other.labels().get(label::VOLUME) == volume).cloned().collect();
        let pods: Vec<_> =
            cluster.pods.values().filter(|pod| pod.labels().get(label::VOLUME) == volume).cloned().collect();
        if let Some(writer) = writers::hindrance(job, &jobs, &pods) {
            cluster.writes -= 1;
            return Ok(Some(Obstacle::Busy(writer)));
        }
    }
    let there = cluster.jobs.get(&job.name_any()).map(|there| there.labels().get(label::ENTRY_UID).cloned());
    created(cluster.create(job.clone()), there.flatten() == entry.uid(), "Job")
}

fn created(result: Result<(), Refusal>, is_ours: bool, kind: &str) -> Result<Option<Obstacle>, Broken> {
    let denied = |reason| Ok(Some(Obstacle::Denied(Why::new(reason, format!("{kind} is refused")))));
    match result {
        Ok(()) => Ok(None),
        Err(Refusal::AlreadyExists) if is_ours => Ok(None),
        Err(Refusal::AlreadyExists) => denied(Reason::Conflict),
        Err(Refusal::Quota) => denied(Reason::QuotaExceeded),
        Err(Refusal::Terminating) => Err(Broken),
    }
}

/// Writes the status where it differs from what was observed; gives when to look again.
fn writes(
    entry: &Arc<ModelCacheEntry>,
    plan: Plan,
    around: &mut Surroundings<'_>,
) -> Result<Option<std::time::Duration>, Broken> {
    if entry.status.as_ref() == Some(&plan.status) {
        return Ok(plan.again);
    }
    let has_failed = around.dice.happens(around.failing);
    if has_failed && around.dice.happens(500) {
        return Err(Broken);
    }
    around.cluster.writes += 1;
    let there = around.cluster.entries.get(&entry.name_any());
    if there.is_some_and(|found| found.metadata.resource_version == entry.metadata.resource_version) {
        let status = plan.status;
        around.cluster.change::<Arc<ModelCacheEntry>>(&entry.name_any(), |entry| {
            Arc::make_mut(entry).status = Some(status);
        });
    }
    if has_failed { Err(Broken) } else { Ok(plan.again) }
}

/// The namespace of everything, for whoever makes objects.
pub(crate) fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() }
}
