//! `/metrics`: what is counted while the operator works, and what is counted from the watches when somebody asks.

use crate::api::{ModelCacheEntry, ModelCacheInventory};
use crate::controller::plan::{Consumer, Figures, VolumeFigures};
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The type of what [`Metrics::text`] gives.
pub(super) use prometheus_text::CONTENT_TYPE;

type Labels<const N: usize> = [(&'static str, String); N];

/// The watches whose objects are counted.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) entries: Store<ModelCacheEntry>,
    pub(super) consumers: Store<Consumer>,
    pub(super) inventories: Store<ModelCacheInventory>,
}

/// Everything that `/metrics` tells.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    failed_attempts: Family<Labels<2>, Counter>,
    failed_rounds: Family<Labels<1>, Counter>,
    left_behind: Counter,
    webhook: Family<Labels<1>, Histogram, fn() -> Histogram>,
    watched: Arc<OnceLock<Watched>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("modelcache");
        let failed_attempts = Family::<Labels<2>, Counter>::default();
        let failed_rounds = Family::<Labels<1>, Counter>::default();
        let left_behind = Counter::default();
        let webhook = Family::<Labels<1>, Histogram, fn() -> Histogram>::new_with_constructor(seconds);
        let watched = Arc::default();
        registry.register(
            "failed_attempts",
            "Attempts that failed, by the kind of their object and by the reason",
            failed_attempts.clone(),
        );
        registry.register(
            "failed_rounds",
            "Looks at an object that failed and were repeated, by its kind",
            failed_rounds.clone(),
        );
        registry.register(
            "files_left_behind",
            "Entries that went though their files may still be there: their namespace was deleted, or they were forced",
            left_behind.clone(),
        );
        registry.register(
            "webhook_seconds",
            "How long the webhook took for a Pod, by what became of it",
            webhook.clone(),
        );
        registry.register_collector(Box::new(Gauges(Arc::clone(&watched))));
        Self { registry, failed_attempts, failed_rounds, left_behind, webhook, watched }
    }
}

impl Metrics {
    /// From now on these are counted. Only the operator that leads watches anything.
    pub(super) fn watch(&self, watched: Watched) {
        // An operator leads once: what it lost it does not get back.
        let _ = self.watched.set(watched);
    }

    pub(super) fn attempt_failed(&self, kind: &str, reason: &str) {
        self.failed_attempts.get_or_create(&[("kind", kind.to_owned()), ("reason", reason.to_owned())]).inc();
    }

    pub(super) fn round_failed(&self, kind: &str) {
        self.failed_rounds.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    pub(super) fn files_left_behind(&self) {
        self.left_behind.inc();
    }

    pub(super) fn webhook_took(&self, outcome: &'static str, time: Duration) {
        self.webhook.get_or_create(&[("outcome", outcome.to_owned())]).observe(time.as_secs_f64());
    }

    /// All of it, in Prometheus' text format.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// From a quarter of a millisecond to a second.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 13))
}

/// What is counted when somebody asks.
#[derive(Debug)]
struct Gauges(Arc<OnceLock<Watched>>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(Watched { entries, consumers, inventories }) = self.0.get() else { return Ok(()) };
        let figures = Figures::of(&entries.state(), &consumers.state(), &inventories.state());
        tell(&figures, &mut encoder)
    }
}

fn tell(figures: &Figures, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Figures { entries, model_bytes, pods, gated_pods, not_injected_pods, volumes } = figures;
    let by_phase = entries.iter().map(|(phase, count)| ([("phase", format!("{phase:?}"))], *count));
    gauge(encoder, "entries", "Entries, by phase", by_phase)?;
    for (name, help, value) in [
        ("model_bytes", "The size of the models that entries keep.", *model_bytes),
        ("using_pods", "Pods that use a model.", *pods),
        ("gated_pods", "Pods that wait for their models at the scheduling gate.", *gated_pods),
        ("not_injected_pods", "Pods that ask for models by label and got none.", *not_injected_pods),
    ] {
        ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
    }
    for (name, help, value) in VOLUME_GAUGES {
        gauge(encoder, name, help, volumes.iter().filter_map(|volume| Some((labels(volume), value(volume)?))))?;
    }
    Ok(())
}

type OfVolume = fn(&VolumeFigures) -> Option<i64>;

const VOLUME_GAUGES: &[(&str, &str, OfVolume)] = &[
    ("volume_model_bytes", "By the last inventory: what all entries' files take", |volume| Some(volume.bytes)),
    ("volume_orphan_bytes", "By the last inventory: what files take that no entry lists", |volume| {
        Some(volume.orphan_bytes)
    }),
    ("volume_staging_bytes", "By the last inventory: what partial work takes", |volume| Some(volume.staging_bytes)),
    ("volume_free_bytes", "By the last inventory: what could still be written", |volume| volume.free_bytes),
];

fn labels(volume: &VolumeFigures) -> Labels<3> {
    let VolumeFigures { namespace, claim, sub_path, .. } = volume;
    [("namespace", namespace.clone()), ("claim", claim.clone()), ("sub_path", sub_path.clone())]
}

/// One gauge with all its labels; none where it has no values.
fn gauge<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, i64)>,
) -> fmt::Result {
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    // The library ends the help of what is registered with a full stop, and not of what is collected.
    let mut family = encoder.encode_descriptor(name, &format!("{help}."), None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::reflector::{Lookup, store};
    use kube::runtime::watcher::Event;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use std::hash::Hash;

    /// A watch that has seen these.
    fn watched<K>(objects: Vec<Value>) -> Store<K>
    where
        K: Lookup + Clone + DeserializeOwned + 'static,
        K::DynamicType: Default + Eq + Hash + Clone,
    {
        let (store, mut writer) = store();
        for object in objects {
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(object).unwrap()));
        }
        store
    }

    fn entry(name: &str, status: &Value) -> Value {
        json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
            "metadata": {"name": name, "namespace": "team-a", "uid": name},
            "spec": {"repo": "org/model", "storage": {"claimName": "models"}}, "status": status})
    }

    fn inventory(name: &str, at: &str, bytes: i64) -> Value {
        json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheInventory",
            "metadata": {"name": name, "namespace": "team-a", "uid": name},
            "spec": {"claimName": "models"},
            "status": {"observedAt": at, "totals": {"entries": 1, "adoptable": 0, "bytes": bytes, "sharedBytes": 0,
                "orphans": 1, "orphanBytes": 7, "stagings": 1, "stagingBytes": 5, "leaked": 0}}})
    }

    fn pod(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "team-a", "uid": name},
            "spec": {"volumes": [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}],
                "containers": [{"name": "c", "volumeMounts":
                    [{"name": "m", "mountPath": "/m", "subPath": "entries/org_2fmodel/model"}]}]},
            "status": {"phase": "Running"}})
    }

    #[test]
    fn a_standby_tells_what_it_counted_and_the_leader_what_there_is() {
        let metrics = Metrics::default();
        let standby = metrics.text().unwrap();
        assert!(standby.contains("modelcache_files_left_behind_total 0"), "{standby}");
        assert!(!standby.contains("modelcache_entries"), "{standby}");

        metrics.attempt_failed("ModelCacheEntry", "OutOfSpace");
        metrics.attempt_failed("ModelCacheEntry", "OutOfSpace");
        metrics.round_failed("ModelCacheExport");
        metrics.files_left_behind();
        metrics.webhook_took("changed", Duration::from_millis(2));
        let mut asks = pod("asks");
        asks["metadata"]["labels"] = json!({"modelcache.dev/inject": "true"});
        asks["status"]["phase"] = "Pending".into();
        asks["spec"]["volumes"] = json!([]);
        let manifest = json!({"sha256": "0", "files": 1, "bytes": 1000});
        metrics.watch(Watched {
            entries: watched(vec![
                entry("ready", &json!({"phase": "Ready", "manifest": manifest})),
                entry("evicted", &json!({"phase": "Evicted", "manifest": manifest})),
                entry("new", &Value::Null),
            ]),
            consumers: watched(vec![pod("web-1"), pod("web-2"), asks]),
            // The older one comes last: it is the time that counts.
            inventories: watched(vec![
                inventory("newer", "2026-11-24T10:00:00Z", 40),
                inventory("older", "2026-11-24T09:00:00Z", 30),
            ]),
        });
        let text = metrics.text().unwrap();
        for line in [
            "# TYPE modelcache_failed_attempts_total counter",
            r#"modelcache_failed_attempts_total{kind="ModelCacheEntry",reason="OutOfSpace"} 2"#,
            r#"modelcache_failed_rounds_total{kind="ModelCacheExport"} 1"#,
            "modelcache_files_left_behind_total 1",
            "# TYPE modelcache_entries gauge",
            r#"modelcache_entries{phase="Ready"} 1"#,
            r#"modelcache_entries{phase="Pending"} 1"#,
            r#"modelcache_entries{phase="Failed"} 0"#,
            "modelcache_model_bytes 1000",
            "modelcache_using_pods 2",
            "modelcache_gated_pods 0",
            "modelcache_not_injected_pods 1",
            r#"modelcache_webhook_seconds_count{outcome="changed"} 1"#,
            r#"modelcache_volume_model_bytes{namespace="team-a",claim="models",sub_path=""} 40"#,
            r#"modelcache_volume_orphan_bytes{namespace="team-a",claim="models",sub_path=""} 7"#,
            r#"modelcache_volume_staging_bytes{namespace="team-a",claim="models",sub_path=""} 5"#,
        ] {
            assert!(text.lines().any(|said| said == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("volume_free_bytes"), "the file system does not say it");
    }
}
