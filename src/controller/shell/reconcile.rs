//! One round for one object: observe, plan, apply, patch.

use super::metrics::Metrics;
use super::slots::Line;
use super::write::Subject;
use super::{observe, write};
use crate::api::{HubConnection, ModelCacheEntry, ModelCacheExport, ModelCacheImport, ModelCacheInventory};
use crate::controller::config::Config;
use crate::controller::plan::connection::{self, ObservedConnection};
use crate::controller::plan::export::ObservedExport;
use crate::controller::plan::import::ObservedImport;
use crate::controller::plan::inventory::ObservedInventory;
use crate::controller::plan::{self, Consumer, Met, Observed, Plan, export, import, inventory};
use kube::runtime::controller::Action;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::Store;
use kube::{Client, Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What every round needs.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) config: Config,
    pub(super) recorder: Recorder,
    pub(super) entries: Store<ModelCacheEntry>,
    /// The Pods that may have to do with models.
    pub(super) consumers: Store<Consumer>,
    /// Who takes from Hubs and who waits for that.
    pub(super) line: Line,
    metrics: Arc<Metrics>,
    /// Held while a Job is created: see [`mod@write`].
    pub(super) job_creation: tokio::sync::Mutex<()>,
    /// How many rounds of an object, by its uid, failed in a row.
    failures: Mutex<HashMap<String, u32>>,
}

impl Context {
    pub(super) fn new(client: Client, config: Config, identity: String, line: Line, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: "modelcache".to_owned(), instance: Some(identity) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self {
            client,
            config,
            recorder,
            entries: line.entries.clone(),
            consumers: line.consumers.clone(),
            line,
            metrics,
            job_creation: tokio::sync::Mutex::default(),
            failures: Mutex::default(),
        }
    }

    fn count_failure(&self, object: &impl ResourceExt) -> u32 {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.uid().unwrap_or_default()).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    pub(super) fn forget_failures(&self, uid: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// A round that could not be finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    /// A read failed.
    #[error("failed to observe")]
    Observe(#[source] kube::Error),
    /// A write failed.
    #[error("failed to apply")]
    Apply(#[source] kube::Error),
    /// The status was not written.
    #[error("failed to write the status")]
    Status(#[source] kube::Error),
}

/// A kind of object that the operator works for: what a round for one of it is made of.
pub(super) trait Round: Subject + Send + Sync + 'static {
    /// Everything that a decision is made from.
    type Observed: Send + Sync;
    /// Reads it.
    fn observe(&self, context: &Context) -> impl Future<Output = Result<Self::Observed, kube::Error>> + Send;
    /// Decides.
    fn decide(observed: &Self::Observed) -> Plan<Self::Status>;
    /// The plan as it turns out when actions met obstacles: the first, and all of them.
    fn obstructed(observed: &Self::Observed, first: &Met<'_>, all: &[Met<'_>]) -> Plan<Self::Status>;
}

impl Round for ModelCacheEntry {
    type Observed = Observed;
    fn observe(&self, context: &Context) -> impl Future<Output = Result<Observed, kube::Error>> + Send {
        observe::entry(context, self)
    }
    fn decide(observed: &Observed) -> Plan {
        plan::decide(observed)
    }
    fn obstructed(observed: &Observed, _: &Met<'_>, all: &[Met<'_>]) -> Plan {
        plan::obstructed(observed, all)
    }
}

impl Round for HubConnection {
    type Observed = ObservedConnection;
    fn observe(&self, context: &Context) -> impl Future<Output = Result<ObservedConnection, kube::Error>> + Send {
        observe::connection_use(context, self)
    }
    fn decide(observed: &ObservedConnection) -> Plan<Self::Status> {
        connection::decide(observed)
    }
    fn obstructed(observed: &ObservedConnection, first: &Met<'_>, _: &[Met<'_>]) -> Plan<Self::Status> {
        connection::obstructed(observed, &first.obstacle)
    }
}

impl Round for ModelCacheExport {
    type Observed = ObservedExport;
    fn observe(&self, context: &Context) -> impl Future<Output = Result<ObservedExport, kube::Error>> + Send {
        observe::export(context, self)
    }
    fn decide(observed: &ObservedExport) -> Plan<Self::Status> {
        export::decide(observed)
    }
    fn obstructed(observed: &ObservedExport, first: &Met<'_>, _: &[Met<'_>]) -> Plan<Self::Status> {
        export::obstructed(observed, &first.obstacle)
    }
}

impl Round for ModelCacheImport {
    type Observed = ObservedImport;
    fn observe(&self, context: &Context) -> impl Future<Output = Result<ObservedImport, kube::Error>> + Send {
        observe::import(context, self)
    }
    fn decide(observed: &ObservedImport) -> Plan<Self::Status> {
        import::decide(observed)
    }
    fn obstructed(observed: &ObservedImport, _: &Met<'_>, all: &[Met<'_>]) -> Plan<Self::Status> {
        import::obstructed(observed, all)
    }
}

impl Round for ModelCacheInventory {
    type Observed = ObservedInventory;
    fn observe(&self, context: &Context) -> impl Future<Output = Result<ObservedInventory, kube::Error>> + Send {
        observe::inventory(context, self)
    }
    fn decide(observed: &ObservedInventory) -> Plan<Self::Status> {
        inventory::decide(observed)
    }
    fn obstructed(observed: &ObservedInventory, first: &Met<'_>, _: &[Met<'_>]) -> Plan<Self::Status> {
        inventory::obstructed(observed, &first.obstacle)
    }
}

/// One round for one object.
pub(super) async fn reconcile<K: Round>(object: Arc<K>, context: Arc<Context>) -> Result<Action, RoundError> {
    let observed = object.observe(&context).await.map_err(RoundError::Observe)?;
    let obstructed = |first: &Met<'_>, all: &[Met<'_>]| K::obstructed(&observed, first, all);
    carry_out(&context, object.as_ref(), K::decide(&observed), obstructed).await
}

/// Does what a plan says; `obstructed` is the plan as it turns out when actions met obstacles: the first, and all of them.
async fn carry_out<K: Subject>(
    context: &Context,
    object: &K,
    mut plan: Plan<K::Status>,
    obstructed: impl Fn(&Met<'_>, &[Met<'_>]) -> Plan<K::Status>,
) -> Result<Action, RoundError> {
    let mut met = Vec::new();
    for action in &plan.actions {
        let Some(obstacle) = write::act(context, object, action).await.map_err(RoundError::Apply)? else { continue };
        met.push(Met { action, obstacle });
        if !action.may_be_refused() {
            break;
        }
    }
    let turned_out = met.first().map(|first| obstructed(first, &met));
    plan = turned_out.unwrap_or(plan);
    let written = write::status(context, object, &plan.status).await.map_err(RoundError::Status)?;
    if written && let Some(reason) = plan::newly_failed(object.said().and_then(K::attempts), K::attempts(&plan.status))
    {
        context.metrics.attempt_failed(&K::kind(&()), reason);
    }
    if written || object.meta().deletion_timestamp.is_some() {
        for notice in &plan.notices {
            tracing::info!(
                kind = %K::kind(&()),
                namespace = object.namespace(),
                name = object.name_any(),
                reason = notice.reason,
                message = notice.message,
            );
            if notice.reason == plan::FILES_LEFT_BEHIND {
                context.metrics.files_left_behind();
            }
            write::notice(context, object, notice).await;
        }
    }
    context.forget_failures(&object.uid().unwrap_or_default());
    Ok(plan.again.map_or_else(Action::await_change, Action::requeue))
}

/// An error with what it came from: JSON logs keep no more than its own sentence.
pub(super) fn told(error: &kube::Error) -> String {
    // The library's own words for an answer of the API server hold the whole answer, twice.
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    causes(error)
}

/// An error's own sentence, and those of what it came from.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let further = std::iter::successors(error.source(), |error| error.source());
    further.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// How long to wait after a round that failed: the cluster is unwell, or we are.
#[expect(clippy::needless_pass_by_value, reason = "the controller hands both over")]
pub(super) fn after_error<K: Resource<DynamicType = ()>>(
    object: Arc<K>,
    error: &RoundError,
    context: Arc<Context>,
) -> Action {
    const FIRST_MS: u64 = 500;
    const LONGEST_MS: u64 = 60_000;
    let (RoundError::Observe(cause) | RoundError::Apply(cause) | RoundError::Status(cause)) = error;
    if write::is_about_an_end(cause) {
        return Action::await_change();
    }
    let count = context.count_failure(object.as_ref());
    context.metrics.round_failed(&K::kind(&()));
    tracing::warn!(
        kind = %K::kind(&()),
        namespace = object.namespace(),
        name = object.name_any(),
        error = format!("{error}: {}", told(cause)),
        "a round failed and is repeated"
    );
    Action::requeue(Duration::from_millis((FIRST_MS << count.min(8)).min(LONGEST_MS)))
}
