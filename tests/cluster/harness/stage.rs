//! The stage of one test.

use super::command::{kubectl, program, run, try_kubectl};
use super::volume::Volume;
use super::{lab, operator};
use crate::fakehub::{self, Hub, REPO, Running};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::{NamespaceResourceScope, api::batch::v1::Job};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use modelcache::api::{HubConnection, ModelCacheEntry, label};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A namespace, a Hub and volumes; they go with this value.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
    pub hub: Running,
    volumes: Vec<Arc<Volume>>,
    /// The last field: the cluster is given back when the rest is gone.
    _turn: File,
}

/// The spec of an entry of the tiny model in an existing claim, with these fields put over it.
pub fn shared(claim: &str, over: Value) -> Value {
    named(REPO, claim, over)
}

/// The same for another repo.
pub fn named(repo: &str, claim: &str, over: Value) -> Value {
    let mut spec = json!({"repo": repo, "storage": {"claimName": claim}});
    for (key, value) in over.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// The tiny model from the Hub behind a connection, in a folder of its own of the claim `models`: both have this name.
pub fn apart(name: &str, over: Value) -> Value {
    let mut spec = shared("models", over);
    spec["storage"]["subPath"] = name.into();
    spec["source"] = json!({"hub": {"connectionRef": {"name": name}}});
    spec
}

impl Stage {
    /// A namespace of this name and a number, whose default Hub has the tiny model.
    pub async fn new(name: &str) -> Self {
        let hub = fakehub::start_at(Hub::new(fakehub::tiny_model()), lab::host_address()).await;
        let stage = Self::with_hub(name, hub).await;
        stage.connect("default", json!({"endpoint": stage.hub.endpoint()})).await;
        stage
    }

    /// A namespace without a connection.
    pub async fn with_hub(name: &str, hub: Running) -> Self {
        let turn = lab::turn();
        let client = lab::client().await;
        operator::must_run(&client).await;
        let namespace = format!("{name}-{}", std::process::id());
        let object = json!({"metadata": {"name": namespace, "labels": {
            "modelcache.dev/test": "true", "pod-security.kubernetes.io/enforce": "restricted"}}});
        let object: Namespace = serde_json::from_value(object).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
        let ready = await_condition(accounts, "default", |account: Option<&ServiceAccount>| account.is_some());
        timeout(Duration::from_secs(30), ready).await.expect("the namespace gets its service account").unwrap();
        Self { client, namespace, hub, volumes: Vec::new(), _turn: turn }
    }

    pub fn hub(&self) -> &Hub {
        &self.hub.hub
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object from JSON.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + serde::Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Creates or changes a connection.
    pub async fn connect(&self, name: &str, spec: Value) {
        let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "HubConnection",
            "metadata": {"name": name}, "spec": spec});
        let how = PatchParams::apply("test").force();
        self.api::<HubConnection>().patch(name, &how, &Patch::Apply(object)).await.unwrap();
    }

    /// Another Hub with the tiny model, behind a connection of this name.
    pub async fn hub_named(&self, name: &str) -> Running {
        let hub = fakehub::start_at(Hub::new(fakehub::tiny_model()), lab::host_address()).await;
        self.connect(name, json!({"endpoint": hub.endpoint()})).await;
        hub
    }

    /// Creates an entry.
    pub async fn entry(&self, name: &str, spec: Value) -> ModelCacheEntry {
        let object = json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
            "metadata": {"name": name}, "spec": spec});
        self.create(object).await
    }

    /// Changes an entry's spec or annotations.
    pub async fn change(&self, name: &str, patch: Value) {
        self.api::<ModelCacheEntry>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Asks for another attempt now, as a person does.
    pub async fn retry(&self, name: &str) {
        let now = jiff::Timestamp::now().as_nanosecond().to_string();
        self.change(name, json!({"metadata": {"annotations": {"modelcache.dev/retry": now}}})).await;
    }

    pub async fn secret(&self, name: &str, key: &str, text: &str) {
        let object = json!({"metadata": {"name": name}, "stringData": {key: text}});
        self.create::<k8s_openapi::api::core::v1::Secret>(object).await;
    }

    /// A folder of this machine behind a bound claim.
    pub async fn local(&mut self, claim: &str) -> Arc<Volume> {
        let volume = self.keep(Volume::local(&format!("{}-{claim}", self.namespace)));
        self.bind(claim, &volume, "lab-local").await;
        volume
    }

    /// A small disk behind a bound claim.
    pub async fn disk(&mut self, claim: &str, size_mib: u32) -> Arc<Volume> {
        let volume = self.keep(Volume::disk(&format!("{}-{claim}", self.namespace), size_mib));
        self.bind(claim, &volume, "lab-small").await;
        volume
    }

    /// A volume that the cluster's provisioner makes, behind a bound claim of one node. It belongs to root alone, so its
    /// administrator opens it.
    pub async fn dynamic(&mut self, claim: &str) -> Arc<Volume> {
        self.claim(claim, json!({"storageClassName": "lab-dynamic", "accessModes": ["ReadWriteOnce"]})).await;
        let volume = self.keep(Volume::of(&self.bound(claim).await));
        std::fs::set_permissions(&volume.folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        volume
    }

    /// Waits for a claim's volume.
    pub async fn bound(&self, claim: &str) -> PersistentVolume {
        let is_bound = |claim: &PersistentVolumeClaim| {
            claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
        };
        let name = self.until_is(claim, "bound", is_bound).await.spec.and_then(|spec| spec.volume_name).unwrap();
        Api::all(self.client.clone()).get(&name).await.unwrap()
    }

    /// A folder of this machine behind a volume that nobody claims yet.
    pub fn unclaimed(&mut self, name: &str) -> Arc<Volume> {
        let volume = Volume::local(&format!("{}-{name}", self.namespace));
        self.keep(volume)
    }

    /// A small disk behind a volume that nobody claims yet.
    pub fn unclaimed_disk(&mut self, name: &str, size_mib: u32) -> Arc<Volume> {
        let volume = Volume::disk(&format!("{}-{name}", self.namespace), size_mib);
        self.keep(volume)
    }

    fn keep(&mut self, volume: Volume) -> Arc<Volume> {
        let volume = Arc::new(volume);
        self.volumes.push(Arc::clone(&volume));
        volume
    }

    async fn bind(&self, claim: &str, volume: &Volume, class: &str) {
        self.claim(claim, json!({"storageClassName": class, "volumeName": volume.name})).await;
    }

    /// A claim, bound or not.
    pub async fn claim(&self, name: &str, over: Value) {
        let mut spec = json!({"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}});
        for (key, value) in over.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.create::<PersistentVolumeClaim>(json!({"metadata": {"name": name}, "spec": spec})).await;
    }

    /// The Jobs made for an entry that exist now.
    pub async fn jobs(&self, entry: &ModelCacheEntry) -> Vec<Job> {
        let ours = ListParams::default().labels(&format!("{}={}", label::ENTRY_UID, entry.uid().unwrap()));
        self.api::<Job>().list(&ours).await.unwrap().items
    }

    /// The Pods made for an entry that exist now.
    pub async fn pods(&self, entry: &ModelCacheEntry) -> Vec<Pod> {
        let ours = ListParams::default().labels(&format!("{}={}", label::ENTRY_UID, entry.uid().unwrap()));
        self.api::<Pod>().list(&ours).await.unwrap().items
    }

    /// Deletes an entry and waits until it is gone.
    pub async fn delete(&self, name: &str) {
        self.api::<ModelCacheEntry>().delete(name, &DeleteParams::default()).await.unwrap();
        self.until_gone::<ModelCacheEntry>(name).await;
    }

    /// Runs a script in a Pod that mounts the claim `models` for reading, and gives what it said.
    pub async fn read(&self, mounts: Value, script: &str) -> String {
        let pod = json!({"metadata": {"name": "reader"}, "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}}],
            "containers": [{"name": "reader", "image": lab::shell_image(), "command": ["sh", "-c", format!("({script}) 2>&1")],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": mounts}]}});
        self.create::<Pod>(pod).await;
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let is_over = |pod: &Pod| matches!(phase(pod).as_str(), "Succeeded" | "Failed");
        let ended = self.until_is("reader", "ended", is_over).await;
        let said = self.kubectl(&["logs", "reader"]);
        assert_eq!(phase(&ended), "Succeeded", "{said}");
        said
    }

    pub fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &self.namespace];
        all.extend(args);
        kubectl(&all)
    }

    /// Nobody who may read the cluster's objects and logs, but not its Secrets, learns this text.
    pub fn assert_hidden(&self, secret: &str) {
        let objects = self.kubectl(&["get", "mce,mcx,mci,hubc,jobs,pods,events,configmaps", "-o", "yaml"]);
        assert!(!objects.contains(secret), "the secret is in an object");
        let pods = self.kubectl(&["get", "pods", "-o", "name"]);
        for pod in pods.lines() {
            // A Pod may go meanwhile.
            let said = try_kubectl(&["-n", &self.namespace, "logs", pod]).unwrap_or_default();
            assert!(!said.contains(secret), "the secret is in the log of {pod}");
        }
        assert!(!operator::log(10_000).contains(secret), "the secret is in the operator's log");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("MODELCACHE_TEST_KEEP").is_some() {
            eprintln!("kept for a look: namespace {}", self.namespace);
            self.volumes.iter().for_each(|volume| volume.keep());
            return;
        }
        let mut delete = Command::new(program("kubectl"));
        let _ = run(delete.args(["delete", "namespace", &self.namespace, "--wait=false"]));
    }
}
