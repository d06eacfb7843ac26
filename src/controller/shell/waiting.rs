//! The Pods that asked for models: one round for one Pod, as `reconcile` has them for the operator's own objects.

use super::known::{News, Watches};
use super::pods::Touched;
use super::reconcile::{self, Context, RoundError};
use super::{CONCURRENCY, those_where, write};
use crate::controller::plan::Consumer;
use crate::controller::plan::inject::wait::{self, ObservedPod, PodPlan, Said};
use futures::channel::mpsc::UnboundedReceiver;
use futures::future::ready;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::runtime::controller::{self, Action, Config, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, ResourceExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What happens to several entries or Pods at once is looked at once.
const GATHERED: Duration = Duration::from_millis(100);
/// The API server forgets events after an hour: a Pod that waits for longer is told again.
const TOLD_FOR: Duration = Duration::from_mins(55);

/// What a round for a Pod needs besides.
pub(super) struct Waiting {
    context: Arc<Context>,
    watches: Watches,
    told: Told,
}

/// What was told of whom, by uid and key. After a restart it is told once more; nothing is decided with it.
#[derive(Default)]
struct Told(Mutex<HashMap<String, HashMap<String, Instant>>>);

impl Told {
    /// Whether this is news; from now on it is not.
    fn is_news(&self, uid: &str, key: &str) -> bool {
        let is_news = !self.was_told(uid, key);
        if is_news {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.entry(uid.to_owned()).or_default().insert(key.to_owned(), Instant::now());
        }
        is_news
    }

    fn was_told(&self, uid: &str, key: &str) -> bool {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(uid).and_then(|keys| keys.get(key)).is_some_and(|last| last.elapsed() < TOLD_FOR)
    }

    /// Forgets those that are no more.
    fn keep(&self, uids: &BTreeSet<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| uids.contains(uid));
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Works on all Pods that asked for models until `stop` is cancelled.
pub(super) async fn run(
    context: Arc<Context>,
    watches: Watches,
    pods: UnboundedReceiver<Touched>,
    stop: CancellationToken,
) {
    let store = context.consumers.clone();
    let queue = stream::select(touched(pods, store.clone()), changed(watches.listen(), store.clone()));
    let queue = queue.take_until(stop.cancelled_owned()).map(Ok::<_, Infallible>);
    let config = Config::default().concurrency(CONCURRENCY).debounce(GATHERED);
    let of_gone = Arc::clone(&context);
    let waiting = Arc::new(Waiting { context, watches, told: Told::default() });
    applier(
        |pod, waiting| Box::pin(look(pod, waiting)),
        |pod: Arc<Consumer>, error: &RoundError, waiting: Arc<Waiting>| {
            reconcile::after_error(pod, error, Arc::clone(&waiting.context))
        },
        waiting,
        store,
        queue,
        config,
    )
    .for_each(|round| {
        // A round's failure was told already, and a Pod that is gone is nobody's loss.
        if let Err(controller::Error::ObjectNotFound(pod)) = round {
            of_gone.forget_failures(pod.extra.uid.as_deref().unwrap_or_default());
        }
        ready(())
    })
    .await;
}

fn touched(pods: UnboundedReceiver<Touched>, store: Store<Consumer>) -> impl Stream<Item = ObjectRef<Consumer>> {
    pods.flat_map(move |touched| {
        stream::iter(match touched {
            Touched::Pod(pod) if pod.injection.is_some() => vec![ObjectRef::from_obj(pod.as_ref())],
            Touched::Pod(_) => Vec::new(),
            Touched::Any => those_where(&store, |pod| pod.injection.is_some()),
        })
    })
}

/// The Pods at our gate where something changed. Why others got nothing is a matter of the time when they were created.
fn changed(news: UnboundedReceiver<News>, store: Store<Consumer>) -> impl Stream<Item = ObjectRef<Consumer>> {
    news.flat_map(move |news| {
        stream::iter(those_where(&store, |pod| {
            pod.waits()
                && match &news {
                    News::In(namespace) => pod.namespace().as_ref() == Some(namespace),
                    News::Anywhere => true,
                }
        }))
    })
}

async fn look(pod: Arc<Consumer>, waiting: Arc<Waiting>) -> Result<Action, RoundError> {
    let Waiting { context, watches, told } = waiting.as_ref();
    watches.until_whole().await;
    let namespace = pod.namespace().unwrap_or_default();
    let mut observed = ObservedPod {
        consumers: context.consumers.state_filter(|other| other.namespace().as_deref() == Some(&namespace)),
        known: watches.of(&namespace, &context.config),
        modes: BTreeMap::new(),
        pod: Arc::clone(&pod),
    };
    let mut plan = wait::decide(&observed);
    // Nobody is alarmed because something that was written a moment ago is not known yet.
    if plan.said.iter().any(|said| said.notice.warning && !told.was_told(&about(&pod, said), &said.key)) {
        let fresh = watches.fresh(&context.client, &namespace, &context.config).await;
        observed.known = fresh.map_err(RoundError::Observe)?;
        plan = wait::decide(&observed);
    }
    if plan.lift.is_some() {
        observed.modes = modes(context, &observed).await.map_err(RoundError::Observe)?;
        plan = wait::decide(&observed);
    }
    let PodPlan { create, mut said, lift, then } = plan;
    for entry in &create {
        match write::populate(&context.client, entry).await.map_err(RoundError::Apply)? {
            None => {}
            Some(refused) => said.push(wait::refused(&entry.name_any(), &refused)),
        }
    }
    for said in said {
        tell(context, told, &pod, &said).await;
    }
    if let Some(at) = lift {
        write::lift_gate(&context.client, pod.as_ref(), at).await.map_err(RoundError::Apply)?;
        tracing::info!(namespace, name = pod.name_any(), "all models are there: the gate is off");
    }
    if let Some(said) = then {
        tell(context, told, &pod, &said).await;
    }
    forget(context, told);
    context.forget_failures(&pod.uid().unwrap_or_default());
    Ok(if pod.waits() { Action::requeue(TOLD_FOR) } else { Action::await_change() })
}

/// The uid of what an event is about.
fn about(pod: &Consumer, said: &Said) -> String {
    said.entry.as_ref().map_or_else(|| pod.uid(), |entry| entry.uid()).unwrap_or_default()
}

async fn tell(context: &Context, told: &Told, pod: &Consumer, said: &Said) {
    let Said { entry, key, notice } = said;
    if !told.is_news(&about(pod, said), key) {
        return;
    }
    tracing::info!(
        kind = "Pod",
        namespace = pod.namespace(),
        name = pod.name_any(),
        reason = notice.reason,
        message = notice.message
    );
    match entry {
        Some(entry) => write::notice(context, entry.as_ref(), notice).await,
        None => write::notice(context, pod, notice).await,
    }
}

/// The access modes of the claims that several Pods want.
async fn modes(context: &Context, observed: &ObservedPod<'_>) -> Result<BTreeMap<String, Vec<String>>, kube::Error> {
    let namespace = observed.pod.namespace().unwrap_or_default();
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &namespace);
    let mut modes = BTreeMap::new();
    for claim in wait::shared_claims(&observed.pod, &observed.consumers) {
        if let Some(found) = api.get_opt(&claim).await? {
            modes.insert(claim, found.spec.and_then(|spec| spec.access_modes).unwrap_or_default());
        }
    }
    Ok(modes)
}

/// Now and then, those that are no more are forgotten.
fn forget(context: &Context, told: &Told) {
    const SPARE: usize = 256;
    let known = context.consumers.state();
    if told.len() > known.len() + SPARE {
        told.keep(&known.iter().filter_map(|pod| pod.uid()).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::Watches;
    use super::super::reconcile::{Context, RoundError, after_error};
    use super::super::slots::{Line, Slots};
    use super::{Told, Waiting, look};
    use crate::controller::config::Config;
    use kube::runtime::reflector;
    use serde_json::json;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_pod_whose_round_went_well_starts_anew_when_another_one_fails() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nowhere = kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let config: Config = serde_yaml::from_str("image: registry.example/modelcache:1").unwrap();
        let line = Line {
            jobs: Slots::new().0,
            entries: reflector::store().0,
            connections: reflector::store().0,
            consumers: reflector::store().0,
            config: config.clone(),
        };
        let context = Arc::new(Context::new(nowhere, config, "me".into(), line, Arc::default()));
        // The watches have ended, and nobody waits for them.
        let waiting = Waiting { context: Arc::clone(&context), watches: Watches::new().0, told: Told::default() };
        let pod = json!({"metadata": {"name": "web", "namespace": "team-a", "uid": "u"}, "spec": {"containers": []}});
        let pod = Arc::new(serde_json::from_value(pod).unwrap());
        let fail = || {
            let error = RoundError::Apply(kube::Error::TlsRequired);
            after_error(Arc::clone(&pod), &error, Arc::clone(&context))
        };
        let (first, second) = (fail(), fail());
        assert_ne!(first, second, "the pause grows");
        look(Arc::clone(&pod), Arc::new(waiting)).await.unwrap();
        assert_eq!(fail(), first);
    }

    #[test]
    fn the_same_is_told_of_each_once() {
        let told = Told::default();
        let asked = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")];
        let news: Vec<_> = asked.iter().map(|(uid, key)| told.is_news(uid, key)).collect();
        assert_eq!(news, [true, false, true, true, false]);
        told.keep(&["b".to_owned()].into());
        assert!(told.is_news("a", "x") && !told.is_news("b", "x"));
    }
}
