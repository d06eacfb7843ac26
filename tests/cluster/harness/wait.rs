//! Waiting for what a test wants to see, and a whole picture when it does not come.

use super::command::try_kubectl;
use super::operator;
use super::stage::Stage;
use futures::TryStreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use modelcache::api::{ModelCacheEntry, ModelCacheEntryStatus, Phase, condition, label};
use modelcache::ident::Reason;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// How long a test waits for one thing. Ten times what it takes on an idle machine.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// The `Ready` condition's reason and message.
pub fn ready(status: &ModelCacheEntryStatus) -> (&str, &str) {
    says(status, condition::READY)
}

/// A condition's reason and message.
pub fn says<'a>(status: &'a ModelCacheEntryStatus, type_: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map_or(("", ""), |condition| (&condition.reason, &condition.message))
}

/// Whether a condition is True.
pub fn holds(status: &ModelCacheEntryStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

impl Stage {
    /// Waits until an entry is as it should be.
    pub async fn until(&self, name: &str, what: &str, is: impl Fn(&ModelCacheEntryStatus) -> bool) -> ModelCacheEntry {
        let fits = |entry: Option<&ModelCacheEntry>| entry.and_then(|entry| entry.status.as_ref()).is_some_and(&is);
        match timeout(DEADLINE, await_condition(self.api::<ModelCacheEntry>(), name, fits)).await {
            Ok(Ok(Some(entry))) => entry,
            Ok(other) => panic!("{name}: {what}: {other:?}"),
            Err(_) => panic!("{name} should be {what} within {DEADLINE:?}\n{}", self.picture(name)),
        }
    }

    pub async fn until_phase(&self, name: &str, phase: Phase) -> ModelCacheEntry {
        self.until(name, &format!("{phase:?}"), |status| status.phase == Some(phase)).await
    }

    /// Waits for `Ready`; a failure that would last ends the wait.
    pub async fn until_ready(&self, name: &str) -> ModelCacheEntry {
        let ended = |status: &ModelCacheEntryStatus| matches!(status.phase, Some(Phase::Ready | Phase::Failed));
        let entry = self.until(name, "Ready", ended).await;
        assert_eq!(entry.status.as_ref().unwrap().phase, Some(Phase::Ready), "{}", self.picture(name));
        entry
    }

    /// Waits for a reason in `Ready`, and that an event says the same; gives the entry.
    pub async fn until_reason(&self, name: &str, phase: Phase, reason: Reason) -> ModelCacheEntry {
        let is = |status: &ModelCacheEntryStatus| status.phase == Some(phase) && ready(status).0 == reason.as_str();
        let entry = self.until(name, &format!("{phase:?} for {reason}"), is).await;
        let told = self.until_event(&entry, reason.as_str()).await;
        assert_eq!(told.type_.as_deref(), Some("Warning"), "{told:?}");
        entry
    }

    /// Waits for a reason, and that its message has all of these words; gives the message.
    pub async fn until_says(&self, name: &str, phase: Phase, reason: Reason, words: &[&str]) -> String {
        let entry = self.until_reason(name, phase, reason).await;
        let message = ready(entry.status.as_ref().unwrap()).1.to_owned();
        for word in words {
            assert!(message.contains(word), "{name}: {message:?} does not say {word:?}");
        }
        message
    }

    /// Waits until something is gone.
    pub async fn until_gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        self.until_gone_in::<K>(name, DEADLINE).await;
    }

    /// The same of what takes its time.
    pub async fn until_gone_in<K>(&self, name: &str, within: Duration)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let gone = await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_none());
        let kind = K::kind(&());
        match timeout(within, gone).await {
            Ok(done) => drop(done.unwrap()),
            Err(_) => panic!("{kind} {name} should be gone within {within:?}\n{}", self.picture(name)),
        }
    }

    /// Waits for an object.
    pub async fn until_is<K>(&self, name: &str, what: &str, is: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let found = await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_some_and(&is));
        match timeout(DEADLINE, found).await {
            Ok(object) => object.unwrap().unwrap(),
            Err(_) => panic!("{name} should be {what} within {DEADLINE:?}\n{}", self.picture(name)),
        }
    }

    /// Waits for a Pod that was made for an entry.
    pub async fn until_pod(&self, entry: &ModelCacheEntry, what: &str, is: impl Fn(&Pod) -> bool) -> Pod {
        let ours = watcher::Config::default().labels(&format!("{}={}", label::ENTRY_UID, entry.uid().unwrap()));
        let mut pods = pin!(watcher(self.api::<Pod>(), ours).applied_objects());
        let find = async {
            loop {
                let pod = pods.try_next().await.unwrap().expect("a watch does not end");
                if is(&pod) {
                    return pod;
                }
            }
        };
        match timeout(DEADLINE, find).await {
            Ok(pod) => pod,
            Err(_) => panic!("a Pod should be {what}\n{}", self.picture(&entry.name_any())),
        }
    }

    /// Waits until a Pod's log has a line of exactly this; gives all of it.
    pub async fn until_says_in_log(&self, pod: &str, line: &str) -> String {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            let said = self.kubectl(&["logs", pod]);
            if said.lines().any(|said| said == line) {
                return said;
            }
            assert!(tokio::time::Instant::now() < end, "{pod} should say {line:?}: {said}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits for an event about an object.
    pub async fn until_event(&self, entry: &impl ResourceExt, reason: &str) -> Event {
        let about = watcher::Config::default().fields(&format!("involvedObject.uid={}", entry.uid().unwrap()));
        let mut events = pin!(watcher(self.api::<Event>(), about).applied_objects());
        let find = async {
            loop {
                let event = events.try_next().await.unwrap().expect("a watch does not end");
                if event.reason.as_deref() == Some(reason) {
                    return event;
                }
            }
        };
        match timeout(DEADLINE, find).await {
            Ok(event) => event,
            Err(_) => panic!("an event {reason} should come\n{}", self.picture(&entry.name_any())),
        }
    }

    /// Everything a person would look at, for a test that failed.
    pub fn picture(&self, entry: &str) -> String {
        let look = |args: &[&str]| {
            let mut all = vec!["-n", &self.namespace];
            all.extend(args);
            format!("== kubectl {}\n{}\n", args.join(" "), try_kubectl(&all).unwrap_or_else(|error| error))
        };
        let mut text = look(&["get", "mce", entry, "-o", "yaml"]);
        text += &look(&["get", "mce,mcx,mci,hubc,jobs,pods,pvc", "-o", "wide"]);
        text += &look(&["get", "events", "--sort-by=.metadata.creationTimestamp"]);
        text += &look(&["logs", "--selector", "app.kubernetes.io/managed-by=modelcache", "--tail", "20", "--prefix"]);
        let requests: Vec<_> = self.hub().seen().into_iter().map(|seen| seen.target).collect();
        format!("{text}== the Hub was asked\n{}\n== the operator's log\n{}", requests.join("\n"), operator::log(40))
    }
}
