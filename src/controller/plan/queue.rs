//! How many Jobs take from a Hub at the same time, and in which order those wait that are too many.
//!
//! Two budgets hold: a connection's, and the operator's for each Hub's host and port, as a Hub counts what comes from one address. Both
//! count Jobs that ask a Hub or download from it. Imports do not count: their bytes come from elsewhere.
//!
//! Nobody keeps a list. Who waits says so in `status.queue`; who is first follows from these, from the Jobs and the Pods. The same
//! walk down the line tells an entry whether it is its turn, and the shell whom to wake when a Job ended.

use super::decide::LOOK_EVERY;
use super::observed::{ConnectionSight, Observed};
use super::record;
use super::status::Draft;
use super::usage::Usage;
use super::wanted::{HubView, Origin, Wanted, hub_view};
use super::{Why, attempt, attempt::Standing, consumer::Consumer};
use crate::api::status::QueueStatus;
use crate::api::{HubConnection, ModelCacheEntry, Phase, annotation, condition, label};
use crate::controller::config::Config;
use crate::ident::hex;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use sha2::Digest;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A Job that cannot start keeps its place for so long, though others wait for it.
const KEEPS_PLACE: SignedDuration = SignedDuration::from_mins(1);
/// After its grace period and so much more, nobody waits for a Pod's end.
const ENDS_WITHIN: SignedDuration = SignedDuration::from_mins(2);
/// A place in a line is written at most so often.
const PLACE_LASTS: SignedDuration = SignedDuration::from_secs(10);

/// What a Job takes from: a Hub, by way of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The Hub's host and port.
    pub host: String,
    /// The connection; absent where the operator's defaults hold.
    pub connection: Option<Through>,
}

/// A connection and its budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Through {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// How many Jobs it lets run at a time.
    pub limit: Option<u32>,
}

impl Slot {
    /// What an entry's Jobs take from.
    pub fn of(hub: &HubView, connection: &ConnectionSight) -> Self {
        let connection = connection.found().map(|connection| Through {
            uid: connection.uid().unwrap_or_default(),
            name: connection.name_any(),
            limit: limit_of(connection),
        });
        Self { host: hub.endpoint.host_and_port(), connection }
    }

    /// The labels by which a Job and its Pods are counted.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([(label::HUB.to_owned(), digest(&self.host))]);
        labels.extend(self.connection.as_ref().map(|through| (label::CONNECTION_UID.to_owned(), through.uid.clone())));
        labels
    }
}

/// A host and port as a label can hold it.
fn digest(host: &str) -> String {
    hex(&sha2::Sha256::digest(host.as_bytes())[..5])
}

/// How many Jobs a connection lets run at a time.
pub fn limit_of(connection: &HubConnection) -> Option<u32> {
    connection.spec.max_concurrent_jobs.and_then(|most| u32::try_from(most).ok())
}

/// Who is at work and who waits.
#[derive(Debug, Clone, Default)]
pub struct Queue {
    /// The Jobs that take from a Hub and have not ended.
    pub running: Vec<Running>,
    /// The entries that wait for one to end.
    pub waiting: Vec<Waiting>,
}

/// A Job that takes from a Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    hub: String,
    connection: Option<String>,
}

impl Running {
    /// Whether it is one of this connection.
    pub fn is_of(&self, connection: &str) -> bool {
        self.connection.as_deref() == Some(connection)
    }
}

/// An entry that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The entry.
    pub uid: String,
    slot: Slot,
    rank: Rank,
}

/// Who goes before whom: the smallest is first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    urgency: Urgency,
    created: Option<Timestamp>,
    uid: String,
}

/// How much somebody wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A Pod that holds no node yet waits for the model.
    Awaited,
    /// The model is not there.
    Absent,
    /// The model is there, and may be another commit.
    Update,
}

/// The Jobs that count and have not ended.
pub fn running<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Vec<Running> {
    let unfinished = jobs.into_iter().filter(|job| attempt::is_unfinished(job));
    let running = unfinished.filter_map(|job| {
        let connection = job.labels().get(label::CONNECTION_UID).cloned();
        Some(Running { hub: job.labels().get(label::HUB)?.clone(), connection })
    });
    running.collect()
}

/// The entries that wait; `connection_of` gives the connection that an entry uses.
pub fn waiting<'a>(
    entries: impl IntoIterator<Item = &'a ModelCacheEntry>,
    connection_of: impl Fn(&ModelCacheEntry) -> ConnectionSight,
    gated: &[Arc<Consumer>],
    config: &Config,
) -> Vec<Waiting> {
    let waits = entries.into_iter().filter(|entry| {
        entry.status.as_ref().is_some_and(|status| status.queue.is_some())
            && entry.metadata.deletion_timestamp.is_none()
            && entry.spec.suspend != Some(true)
    });
    let waiting = waits.filter_map(|entry| {
        let connection = connection_of(entry);
        let slot = Slot::of(&hub_view(&connection, config).ok()?, &connection);
        Some(Waiting { uid: entry.uid()?, slot, rank: rank(entry, gated) })
    });
    waiting.collect()
}

fn rank(entry: &ModelCacheEntry, consumers: &[Arc<Consumer>]) -> Rank {
    let gated: Vec<_> =
        consumers.iter().filter(|pod| pod.is_gated && pod.namespace() == entry.namespace()).map(Arc::clone).collect();
    let is_awaited = !gated.is_empty() && !Usage::of(entry, &gated).waiting.is_empty();
    Rank {
        urgency: if is_awaited { Urgency::Awaited } else { Urgency::Absent },
        created: entry.metadata.creation_timestamp.as_ref().map(|time| time.0),
        uid: entry.uid().unwrap_or_default(),
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its place in the line, from 1 on.
    pub position: usize,
    /// How long the line is.
    pub waiting: usize,
    /// What it waits for, for people.
    pub why: String,
}

impl Place {
    /// When to look again, in case nothing wakes the entry: those far behind less often.
    pub fn again(&self) -> Duration {
        let position = u64::try_from(self.position).unwrap_or(u64::MAX);
        if position == 1 { Duration::from_secs(5) } else { Duration::from_secs(10 + position.min(50)) }
    }
}

/// Which budget has nothing left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spent {
    Connection,
    Hub,
}

/// Where this entry waits, unless it is its turn. What takes from no Hub never waits.
pub fn place(observed: &Observed, wanted: &Wanted, urgency: Urgency) -> Option<Place> {
    if !matches!(wanted.origin, Origin::Hub { .. }) {
        return None;
    }
    let (me, line) = line(observed, wanted, urgency);
    let spent = walk(&observed.queue.running, &line, observed.config.max_concurrent_jobs);
    let spent = spent.into_iter().find(|(waiting, _)| **waiting == me)?.1?;
    Some(place_in(&me, &line, spent, &observed.config))
}

/// Where this entry waits, as there was nothing left when it wanted to begin.
pub(super) fn place_behind(observed: &Observed, wanted: &Wanted) -> Place {
    let (me, line) = line(observed, wanted, Urgency::Absent);
    // Which of the two it was, the lock knew by younger news than these.
    let is_connection = me.slot.connection.as_ref().is_some_and(|through| {
        let at_work = observed.queue.running.iter().filter(|running| running.is_of(&through.uid)).count();
        let is_full = |limit: u32| usize::try_from(limit).is_ok_and(|limit| at_work >= limit);
        through.limit.is_some_and(|limit| observed.config.max_concurrent_jobs.is_none() || is_full(limit))
    });
    place_in(&me, &line, if is_connection { Spent::Connection } else { Spent::Hub }, &observed.config)
}

impl Draft {
    /// The entry waits in the line for its Hub; gives when to look again. What was said of its place stays for ten seconds.
    pub(super) fn queued(&mut self, observed: &Observed, place: &Place) -> Duration {
        let before = observed.entry.status.as_ref().filter(|status| status.phase == Some(Phase::Queued));
        let said = before.and_then(|status| record::condition_of(&status.conditions, condition::READY));
        let stood = before.and_then(|status| status.queue.clone());
        if let (Some(said), Some(stood)) = (said, stood) {
            let age = observed.now.duration_since(stood.updated_at.0);
            if said.message == place.why || age < PLACE_LASTS {
                let fresh = if said.message == place.why { place.again() } else { LOOK_EVERY };
                self.status.queue = Some(stood);
                return fresh;
            }
        }
        self.status.queue = Some(QueueStatus {
            position: record::counted(place.position),
            waiting: record::counted(place.waiting),
            updated_at: Time(observed.now),
        });
        self.phase(Phase::Queued, "Queued", &place.why);
        place.again()
    }
}

/// This entry, and everybody who waits in their order, this entry among them.
fn line(observed: &Observed, wanted: &Wanted, urgency: Urgency) -> (Waiting, Vec<Waiting>) {
    let mut rank = rank(&observed.entry, &observed.scene.consumers);
    rank.urgency = if urgency == Urgency::Update { urgency } else { rank.urgency };
    let me = Waiting { uid: observed.uid().to_owned(), slot: Slot::of(&wanted.hub, &observed.connection), rank };
    let others = observed.queue.waiting.iter().filter(|other| other.uid != me.uid).cloned();
    let mut line: Vec<_> = others.chain([me.clone()]).collect();
    line.sort_by(|one, other| one.rank.cmp(&other.rank));
    (me, line)
}

/// Gives what is left to those who wait, in their order; with what keeps each from having something.
fn walk<'a>(running: &[Running], line: &'a [Waiting], limit: Option<u32>) -> Vec<(&'a Waiting, Option<Spent>)> {
    let mut of_hub: HashMap<String, u32> = HashMap::new();
    let mut of_connection: HashMap<String, u32> = HashMap::new();
    for Running { hub, connection } in running {
        *of_hub.entry(hub.clone()).or_default() += 1;
        if let Some(connection) = connection {
            *of_connection.entry(connection.clone()).or_default() += 1;
        }
    }
    let mut give = |waiting: &Waiting| {
        let hub = of_hub.entry(digest(&waiting.slot.host)).or_default();
        let through = waiting.slot.connection.as_ref();
        let connection = through.map(|through| (of_connection.entry(through.uid.clone()).or_default(), through.limit));
        if connection.as_ref().is_some_and(|(used, limit)| limit.is_some_and(|limit| **used >= limit)) {
            return Some(Spent::Connection);
        }
        if limit.is_some_and(|limit| *hub >= limit) {
            return Some(Spent::Hub);
        }
        *hub += 1;
        if let Some((used, _)) = connection {
            *used += 1;
        }
        None
    };
    line.iter().map(|waiting| (waiting, give(waiting))).collect()
}

fn place_in(me: &Waiting, line: &[Waiting], spent: Spent, config: &Config) -> Place {
    let connection = |waiting: &Waiting| waiting.slot.connection.as_ref().map(|through| through.uid.clone());
    let is_with_me = |other: &&Waiting| match spent {
        Spent::Connection => connection(other) == connection(me),
        Spent::Hub => other.slot.host == me.slot.host,
    };
    let same: Vec<_> = line.iter().filter(is_with_me).collect();
    let position = same.iter().position(|other| other.uid == me.uid).unwrap_or_default() + 1;
    let at_a_time =
        |limit: u32| if limit == 1 { "one Job at a time".to_owned() } else { format!("{limit} Jobs at a time") };
    let for_what = match (spent, &me.slot.connection) {
        (Spent::Connection, Some(through)) => {
            let limit = at_a_time(through.limit.unwrap_or_default());
            format!("HubConnection {:?}, which lets {limit} take from its Hub (spec.maxConcurrentJobs)", through.name)
        }
        (Spent::Connection | Spent::Hub, _) => {
            let limit = at_a_time(config.max_concurrent_jobs.unwrap_or_default());
            format!(
                "the Hub {}, from which the operator lets {limit} take (hub.maxConcurrentJobs of the chart)",
                me.slot.host
            )
        }
    };
    let waiting = same.len();
    Place { position, waiting, why: format!("{} of {waiting} that wait for {for_what}", ordinal(position)) }
}

/// Whose turn it is now, of those who wait.
pub fn next(queue: &Queue, config: &Config) -> Vec<String> {
    let mut line = queue.waiting.clone();
    line.sort_by(|one, other| one.rank.cmp(&other.rank));
    let walked = walk(&queue.running, &line, config.max_concurrent_jobs);
    walked.into_iter().filter(|(_, spent)| spent.is_none()).map(|(waiting, _)| waiting.uid.clone()).collect()
}

/// This entry's Job, where it cannot start and somebody could have its place in a budget; with what keeps it from starting. A claim
/// that never binds would hold up a whole Hub else.
pub(super) fn in_the_way(observed: &Observed) -> Option<(&Job, Why)> {
    let job = observed.current()?.job;
    let begun = job.metadata.creation_timestamp.as_ref()?.0;
    let own = running([job]).pop()?;
    if job.metadata.deletion_timestamp.is_some() || observed.now.duration_since(begun) < KEEPS_PLACE {
        return None;
    }
    let Standing::Starting(Some(why)) = attempt::standing(&observed.scene, job) else { return None };
    let Queue { running, waiting } = &observed.queue;
    let mut others = running.clone();
    others.swap_remove(others.iter().position(|running| *running == own)?);
    let waiting: Vec<_> = waiting.iter().filter(|waiting| waiting.uid != observed.uid()).cloned().collect();
    let go = |running| next(&Queue { running, waiting: waiting.clone() }, &observed.config).len();
    (go(others) > go(running.clone())).then_some((job, why))
}

/// A budget that a Job is counted in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The label that those who are counted have.
    pub label: &'static str,
    /// Its value.
    pub value: String,
    /// How many may be at work.
    pub limit: u32,
}

/// The budgets that a Job is counted in.
pub fn budgets(job: &Job, config: &Config) -> Vec<Budget> {
    let value = |label: &'static str| job.labels().get(label).cloned();
    let of_connection = job.annotations().get(annotation::MAX_CONCURRENT_JOBS).and_then(|limit| limit.parse().ok());
    let limits = [(label::CONNECTION_UID, of_connection), (label::HUB, config.max_concurrent_jobs)];
    let budget =
        |(label, limit): (&'static str, Option<u32>)| Some(Budget { label, value: value(label)?, limit: limit? });
    // What takes from no Hub is in no budget.
    if value(label::HUB).is_none() { Vec::new() } else { limits.into_iter().filter_map(budget).collect() }
}

/// Whether the worker of a Pod whose Job is gone may still take from a Hub. One that should have ended long ago is on a node that is
/// lost, or is held by something else than its worker.
pub fn may_take(pod: &Pod, now: Timestamp) -> bool {
    let due = pod.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    attempt::may_write(pod) && due.is_none_or(|due| now.duration_since(due) < ENDS_WITHIN)
}

/// Whether nothing of a budget is left for a Job that is not created yet; `jobs` and `pods` are those that are counted, and the
/// Jobs were seen before the Pods. A Job that was deleted is gone before its Pod is.
pub fn is_spent(job: &Job, jobs: &[Job], pods: &[Pod], limit: u32, now: Timestamp) -> bool {
    let is_it = |other: &Job| other.name_any() == job.name_any() && other.namespace() == job.namespace();
    let at_work = jobs.iter().filter(|other| !is_it(other) && attempt::is_unfinished(other)).count();
    // The Job may be there already, and its own Pod too.
    let known: Vec<_> = jobs.iter().filter(|other| is_it(other) || attempt::is_unfinished(other)).collect();
    let is_known = |pod: &Pod| {
        pod.owner_references().iter().any(|owner| known.iter().any(|job| job.uid().as_ref() == Some(&owner.uid)))
    };
    let left_over = pods.iter().filter(|pod| may_take(pod, now) && !is_known(pod)).count();
    at_work + left_over >= usize::try_from(limit).unwrap_or(usize::MAX)
}

/// `1st`, `2nd`, `3rd`, `11th` …
fn ordinal(number: usize) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn ordinals() {
        let shown = [1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111].map(ordinal);
        assert_eq!(shown, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th"]);
    }
}
