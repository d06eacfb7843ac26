//! The operator: the shell's loop around the real decisions, with reads and writes that can be parted and can fail.
//!
//! Mirrors `src/controller/shell`: `watch` its watches, `observe` its reads, `write` its writes, `line` the line for a Hub, and this its rounds. What is
//! remembered is what kube's `Controller` keeps: the watches' memories, and who is due.

mod line;
mod observe;
mod watch;
mod write;

pub(crate) use write::labelled;

use super::cluster::{Cluster, KINDS, Kind, NAMESPACE};
use super::dice::Dice;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use modelcache::api::{HubConnection, HubConnectionStatus, ModelCacheEntry};
use modelcache::controller::config::Config;
use modelcache::controller::plan::connection::{self, ObservedConnection};
use modelcache::controller::plan::{Action, Consumer, Met, Observed, Obstacle, Plan, Scene, decide, obstructed};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// At most so many rounds at a time, as in the shell.
const CONCURRENCY: usize = 8;

/// An object that has rounds: its kind and its name.
pub(crate) type Subject = (Kind, String);

/// The operator's process.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    /// What the watch of the entries told last.
    known: BTreeMap<String, Arc<ModelCacheEntry>>,
    /// What the watch of the Pods told last, trimmed.
    consumers: BTreeMap<String, Arc<Consumer>>,
    connections: BTreeMap<String, Arc<HubConnection>>,
    /// The Jobs that take from Hubs.
    jobs: BTreeMap<String, Arc<Job>>,
    /// What was last heard of each connection, by its uid.
    news: BTreeMap<String, (Option<i64>, Option<HubConnectionStatus>)>,
    /// Who is looked at next, and when.
    pub(crate) due: BTreeMap<Subject, Timestamp>,
    failures: BTreeMap<Subject, u32>,
    pub(crate) rounds: Vec<Round>,
}

/// A round under way.
#[derive(Debug)]
pub(crate) struct Round {
    subject: Subject,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Jobs and claim were seen; the Pods are not yet.
    Seen(Arc<ModelCacheEntry>, Timestamp, Box<Scene>),
    /// Actions are to be done.
    Acts(Box<Acting>),
    /// Only the status is left to be written.
    Writes(Arc<ModelCacheEntry>, Box<Plan>),
    Says(Arc<HubConnection>, Box<Plan<HubConnectionStatus>>),
}

/// A plan that is being carried out.
#[derive(Debug)]
struct Acting {
    entry: Arc<ModelCacheEntry>,
    observed: Observed,
    plan: Plan,
    /// The next action.
    at: usize,
    /// The actions that met obstacles.
    met: Vec<(Action, Obstacle)>,
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
        let mut operator = Self::default();
        operator.relist(cluster);
        operator
    }

    pub(crate) fn trigger(&mut self, subject: Subject, at: Timestamp) {
        let due = self.due.entry(subject).or_insert(at);
        *due = (*due).min(at);
    }

    /// The rounds that may begin now.
    pub(crate) fn ready(&self, now: Timestamp) -> Vec<Subject> {
        if self.rounds.len() >= CONCURRENCY {
            return Vec::new();
        }
        let is_free = |subject: &Subject| !self.rounds.iter().any(|round| round.subject == *subject);
        self.due.iter().filter(|(of, at)| **at <= now && is_free(of)).map(|(subject, _)| subject.clone()).collect()
    }

    /// Begins the round of an object: half of the world is looked at.
    pub(crate) fn begin(&mut self, subject: &Subject, around: &mut Surroundings<'_>) {
        self.due.remove(subject);
        // An object that the watch does not know is gone.
        let stage = match subject.0 {
            Kind::Connection => self.connections.get(&subject.1).map(|connection| self.says(connection, around)),
            _ => self.known.get(&subject.1).map(|entry| {
                Stage::Seen(Arc::clone(entry), around.cluster.now, Box::new(observe::first(entry, around.cluster)))
            }),
        };
        self.rounds.extend(stage.map(|stage| Round { subject: subject.clone(), stage }));
    }

    /// What is to be said of a connection: all of it is in the watches' memories.
    fn says(&self, connection: &Arc<HubConnection>, around: &mut Surroundings<'_>) -> Stage {
        let plan = connection::decide(&self.observed_connection(connection, around));
        around.story.tell(|| format!("says of connection {}: {:?}", connection.name_any(), plan.status.claims));
        Stage::Says(Arc::clone(connection), Box::new(plan))
    }

    fn observed_connection(&self, connection: &HubConnection, around: &Surroundings<'_>) -> ObservedConnection {
        let mut connection = connection.clone();
        // Its check is not simulated.
        connection.status.get_or_insert_default().checked_generation = connection.metadata.generation;
        ObservedConnection {
            connection,
            entries: self.known.values().cloned().collect(),
            consumers: self.consumers.values().cloned().collect(),
            config: around.config.clone(),
            scene: Scene::default(),
            running: self.at_work(),
            now: around.cluster.now,
            nonce: String::new(),
        }
    }

    /// Goes on with a round by one step: at most one write.
    pub(crate) fn go_on(&mut self, at: usize, around: &mut Surroundings<'_>) {
        let Round { subject, stage } = self.rounds.swap_remove(at);
        let next = match stage {
            Stage::Seen(entry, now, scene) => self.see_the_rest(entry, now, *scene, around).map(Some),
            Stage::Acts(acting) => acts(*acting, around).map(Some),
            Stage::Writes(entry, plan) => write::status(entry.as_ref(), *plan, around)
                .map(|again| self.ended(&subject, again, around.cluster.now)),
            Stage::Says(connection, plan) => write::status(connection.as_ref(), *plan, around)
                .map(|again| self.ended(&subject, again, around.cluster.now)),
        };
        match next {
            Ok(Some(stage)) => self.rounds.push(Round { subject, stage }),
            Ok(None) => {}
            Err(Broken) if around.cluster.is_terminating => {}
            Err(Broken) => {
                let count = self.failures.entry(subject.clone()).or_insert(0);
                *count += 1;
                let wait = (1_i64 << (*count).min(8)).min(60);
                self.trigger(subject, around.cluster.now + SignedDuration::from_secs(wait));
            }
        }
    }

    fn ended(&mut self, subject: &Subject, again: Option<Duration>, now: Timestamp) -> Option<Stage> {
        self.failures.remove(subject);
        if let Some(again) = again {
            let wait = SignedDuration::try_from(again).unwrap();
            // Times are whole seconds here.
            self.trigger(subject.clone(), now + SignedDuration::from_secs(wait.as_secs().max(1)));
        }
        None
    }

    fn see_the_rest(
        &self,
        entry: Arc<ModelCacheEntry>,
        now: Timestamp,
        scene: Scene,
        around: &mut Surroundings<'_>,
    ) -> Result<Stage, Broken> {
        if around.dice.happens(around.failing) {
            return Err(Broken);
        }
        let observed = self.observe(&entry, now, scene, around);
        let plan = decide(&observed);
        around.story.tell(|| format!("decides on {}: {}", entry.name_any(), shown(&plan)));
        Ok(Stage::Acts(Box::new(Acting { entry, observed, plan, at: 0, met: Vec::new() })))
    }

    /// What each object's round would do or say now, where it is anything at all.
    pub(crate) fn restless(&self, around: &mut Surroundings<'_>) -> Vec<String> {
        let now = around.cluster.now;
        let mut found = Vec::new();
        for entry in self.known.values() {
            let scene = observe::first(entry, around.cluster);
            let plan = decide(&self.observe(entry, now, scene, around));
            if !plan.actions.is_empty() || entry.status.as_ref() != Some(&plan.status) {
                found.push(format!("{}: {}, {:?} -> {:?}", entry.name_any(), shown(&plan), entry.status, plan.status));
            }
        }
        for connection in self.connections.values() {
            let plan = connection::decide(&self.observed_connection(connection, around));
            if connection.status.as_ref() != Some(&plan.status) {
                found.push(format!("{}: {:?} -> {:?}", connection.name_any(), connection.status, plan.status));
            }
        }
        found
    }
}

fn shown(plan: &Plan) -> String {
    let kind = |action: &Action| match action {
        Action::CreateJob(job) => format!("CreateJob {}", job.name_any()),
        Action::DeleteJob { name, .. } => format!("DeleteJob {name}"),
        other => format!("{other:?}").chars().take(20).collect(),
    };
    let actions: Vec<String> = plan.actions.iter().map(kind).collect();
    let ready = plan.status.conditions.iter().find(|condition| condition.type_ == modelcache::api::condition::READY);
    let message = ready.map_or("", |ready| ready.message.as_str());
    format!("{:?} {actions:?} again {:?}: {message}", plan.status.phase, plan.again)
}

/// Does the next action; after the last one, or one that ends the round, the plan is what it turned out to be.
fn acts(mut acting: Acting, around: &mut Surroundings<'_>) -> Result<Stage, Broken> {
    let ends = acting.met.last().is_some_and(|(action, _)| !action.may_be_refused());
    let action = acting.plan.actions.get(acting.at).cloned().filter(|_| !ends);
    let Some(action) = action else {
        let Acting { entry, observed, plan, met, .. } = acting;
        let all: Vec<_> = met.iter().map(|(action, obstacle)| Met { action, obstacle: obstacle.clone() }).collect();
        let plan = if all.is_empty() { plan } else { obstructed(&observed, &all) };
        return Ok(Stage::Writes(entry, Box::new(plan)));
    };
    let has_failed = around.dice.happens(around.failing);
    // An answer may be lost on its way back: the write is done all the same.
    if has_failed && around.dice.happens(500) {
        return Err(Broken);
    }
    let obstacle = write::act(&acting.entry, &action, around)?;
    if has_failed {
        return Err(Broken);
    }
    acting.at += 1;
    if let Some(obstacle) = obstacle {
        around.story.tell(|| format!("  meets {obstacle:?}"));
        acting.met.push((action, obstacle));
    }
    Ok(Stage::Acts(Box::new(acting)))
}

/// The namespace of everything, for whoever makes objects.
pub(crate) fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() }
}

/// All watches begin anew.
fn forget_the_watches(cluster: &mut Cluster) {
    for kind in KINDS {
        cluster.watches.get_mut(&kind).unwrap().clear();
    }
}
