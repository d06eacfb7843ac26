//! The rules that the API server itself enforces: every one refuses its bad object, and lets good ones pass.
//!
//! Needs a real API server in `KUBECONFIG` (`make test` starts one); installs the CRDs of this source tree.

#![allow(
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails where it stands, and its tables read better by value"
)]

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::{conditions, wait::await_condition};
use kube::{Api, Client, CustomResourceExt};
use modelcache::api::{HubConnection, ModelCacheEntry, ModelCacheExport, ModelCacheImport, ModelCacheInventory, crds};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// A client, with the CRDs installed and a namespace for the test.
struct Server {
    client: Client,
    namespace: String,
}

static INSTALLED: OnceCell<()> = OnceCell::const_new();

impl Server {
    async fn with_namespace(name: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_default()
            .await
            .expect("a cluster in KUBECONFIG: `hack/lab up` starts one, `make test` does so by itself");
        INSTALLED.get_or_init(|| install(client.clone())).await;
        let namespaces = Api::<Namespace>::all(client.clone());
        let namespace = format!("{name}-{}", std::process::id());
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        Self { client, namespace }
    }

    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    fn entries(&self) -> Api<DynamicObject> {
        self.api(&ModelCacheEntry::api_resource())
    }

    async fn end(self) {
        Api::<Namespace>::all(self.client).delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }

    /// What the API server says to an entry with this spec, without keeping it.
    async fn try_entry(&self, spec: Value) -> Result<DynamicObject, kube::Error> {
        let how = PostParams { dry_run: true, ..PostParams::default() };
        self.entries().create(&how, &entry("try", spec)).await
    }
}

async fn install(client: Client) {
    let api = Api::<CustomResourceDefinition>::all(client);
    for crd in crds() {
        let name = crd.metadata.name.clone().unwrap();
        let how = PatchParams::apply("modelcache-test").force();
        api.patch(&name, &how, &Patch::Apply(&crd)).await.expect("the API server takes the CRD");
        await_condition(api.clone(), &name, conditions::is_crd_established()).await.unwrap();
    }
}

fn entry(name: &str, spec: Value) -> DynamicObject {
    let mut object = DynamicObject::new(name, &ModelCacheEntry::api_resource());
    object.data = json!({ "spec": spec });
    object
}

/// A spec that is taken, with these fields put over it; null takes a field out.
fn spec_with(over: Value) -> Value {
    let mut spec = json!({"repo": "org/model", "storage": {"claimName": "models"}});
    for (key, value) in over.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(key);
        } else {
            spec[key] = value.clone();
        }
    }
    spec
}

/// An entry of an archive.
fn archive(place: Value) -> Value {
    json!({"source": {"archive": place}})
}

fn refusal(result: Result<DynamicObject, kube::Error>, case: &str) -> String {
    match result {
        Ok(_) => panic!("{case}: the API server took it"),
        Err(kube::Error::Api(status)) => status.message.clone(),
        Err(error) => panic!("{case}: {error}"),
    }
}

#[tokio::test]
async fn good_entries_are_taken() {
    let server = Server::with_namespace("good").await;
    let template = json!({"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "20Gi"}}}}});
    for over in [
        json!({}),
        json!({"repo": "gpt2"}),
        json!({"revision": "refs/pr/1"}),
        json!({"revision": "7dbbc90392e2f80f3d3c277d6e90027e55de9125"}),
        json!({"storage": template}),
        json!({"storage": {"volumeClaimTemplate": {"spec": {}}}}),
        json!({"storage": {"claimName": "models", "subPath": "team/a"}}),
        archive(json!({"url": "https://files.example/a.tar.gz", "unpackedBytes": 1})),
        json!({"source": {"hub": {"connectionRef": {"name": "corp"}}}}),
        json!({"source": {"volume": {"manifestSha256": "ab".repeat(32)}}, "reclaimPolicy": "Retain"}),
        json!({"files": {"weights": "Safetensors", "include": ["*.json"], "exclude": ["onnx/"]}}),
        json!({"update": {"policy": "Pinned"}, "reclaimPolicy": "Retain", "suspend": true}),
        json!({"update": {"policy": "Notify"}, "retention": {"pinned": true}}),
        json!({"update": {"policy": "Track", "interval": "1h30m", "keep": 0}, "source": {"hub": {}}, "revision": "v1"}),
        json!({"retention": {"unusedFor": "720h"}, "reclaimPolicy": "Delete"}),
        archive(
            json!({"url": "https://files.example/a.tar?sig=1", "authSecretRef": {"name": "a"}, "sha256": "ab".repeat(32)}),
        ),
        json!({"repo": null, "source": {"archive": {"claimName": "usb", "path": "models/mini LM.tar.zst"}}}),
        json!({"job": {"nodeSelector": {"a": "b"}, "activeDeadlineSeconds": 60, "securityContext": {"runAsUser": 1000, "fsGroupChangePolicy": "Always"},
                       "resources": {"limits": {"memory": "1Gi"}}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}}),
    ] {
        let taken = server.try_entry(spec_with(over.clone())).await;
        assert!(taken.is_ok(), "{over}: {}", taken.unwrap_err());
    }
    server.end().await;
}

#[tokio::test]
async fn bad_entries_are_refused_with_the_reason() {
    let server = Server::with_namespace("bad").await;
    let sized = |size: &str| json!({"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": size}}}}});
    for (over, message) in [
        (json!({"repo": null}), "spec.repo is required"),
        (json!({"repo": "org/a--b"}), "must not hold `--`"),
        (json!({"repo": "org/a..b"}), "must not hold `--` or `..`"),
        (json!({"repo": "org/a.git"}), "end with `.git`"),
        (json!({"repo": "a/b/c"}), "spec.repo"),
        (json!({"repo": "../b"}), "spec.repo"),
        (json!({"repo": "org/my model"}), "spec.repo"),
        (json!({"repo": "o".repeat(97)}), "spec.repo"),
        (json!({"revision": "a..b"}), "not a name that git allows"),
        (json!({"revision": "a//b"}), "not a name that git allows"),
        (json!({"revision": "main.lock"}), "not a name that git allows"),
        (json!({"revision": "a b"}), "spec.revision"),
        (json!({"revision": "-x"}), "spec.revision"),
        (json!({"revision": ""}), "spec.revision"),
        (json!({"source": {}}), "exactly one of hub, archive, upload and volume"),
        (json!({"source": {"hub": {}, "archive": {}}}), "exactly one of hub, archive, upload and volume"),
        (json!({"source": {"hub": {}, "volume": {}}}), "exactly one of hub, archive, upload and volume"),
        (json!({"source": {"volume": {"manifestSha256": "abc"}}}), "manifestSha256"),
        (json!({"source": {"volume": {}}, "files": {"weights": "All"}}), "spec.files is for a Hub"),
        (json!({"source": {"volume": {}}, "repo": null}), "spec.repo is required"),
        (
            json!({"source": {"volume": {}}, "storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}}}),
            "spec.source.volume needs spec.storage.claimName",
        ),
        (json!({"storage": {}}), "exactly one of claimName and volumeClaimTemplate"),
        (
            json!({"storage": {"claimName": "a", "volumeClaimTemplate": {"spec": {}}}}),
            "exactly one of claimName and volumeClaimTemplate",
        ),
        (json!({"storage": {"claimName": "a", "subPath": "../b"}}), "subPath"),
        (json!({"storage": {"claimName": "a", "subPath": "/b"}}), "subPath"),
        (json!({"storage": sized("lots")}), "positive quantity"),
        (json!({"storage": sized("0")}), "positive quantity"),
        (json!({"files": {"weights": "safetensors"}}), "Unsupported value"),
        (json!({"files": {"include": [""]}}), "include"),
        (json!({"reclaimPolicy": "Recycle"}), "Unsupported value"),
        (json!({"job": {"securityContext": {"runAsUser": 0}}}), "runAsUser"),
        (json!({"job": {"activeDeadlineSeconds": 0}}), "activeDeadlineSeconds"),
        (archive(json!({})), "must have either url, or claimName and path"),
        (archive(json!({"claimName": "a"})), "must have either url, or claimName and path"),
        (archive(json!({"url": "https://files.example/a", "claimName": "a", "path": "b"})), "must have either url"),
        (archive(json!({"url": "http://files.example/a.tar"})), "spec.source.archive.url"),
        (archive(json!({"url": "https://me:secret@files.example/a.tar"})), "spec.source.archive.url"),
        (archive(json!({"claimName": "a", "path": "../b"})), "must not hold the names"),
        (archive(json!({"claimName": "a", "path": "/b"})), "spec.source.archive.path"),
        (archive(json!({"claimName": "a", "path": "b", "authSecretRef": {"name": "c"}})), "authSecretRef is for a url"),
        (archive(json!({"claimName": "a", "path": "b", "sha256": "abc"})), "spec.source.archive.sha256"),
        (
            json!({"source": {"archive": {"claimName": "a", "path": "b"}}, "files": {"weights": "All"}}),
            "spec.files is for a Hub",
        ),
        (
            json!({"source": {"archive": {"claimName": "a", "path": "b"}}, "repo": null, "revision": "v1"}),
            "spec.revision needs spec.repo",
        ),
        (
            json!({"revision": "ab".repeat(20), "update": {"policy": "Track"}}),
            "spec.revision is a commit, which never moves",
        ),
        (
            json!({"source": {"archive": {"claimName": "a", "path": "b"}}, "update": {"policy": "Notify"}}),
            "spec.update.policy must be Pinned for a model from an archive or a volume",
        ),
        (json!({"source": {"volume": {}}, "update": {"policy": "Track"}}), "spec.update.policy must be Pinned"),
        (json!({"source": {"volume": {}}, "retention": {"unusedFor": "1h"}}), "one from spec.source.volume could not"),
        (json!({"update": {"interval": "1h"}}), "spec.update.interval is for the policies"),
        (json!({"update": {"policy": "Pinned", "keep": 1}}), "spec.update.keep is for the policies"),
        (json!({"update": {"policy": "Track", "interval": "59s"}}), "spec.update.interval must be at least 1m"),
        (json!({"update": {"policy": "Track", "interval": "1d"}}), "spec.update.interval"),
        (json!({"update": {"policy": "Track", "keep": -1}}), "spec.update.keep"),
        (json!({"update": {"policy": "Follow"}}), "spec.update.policy"),
        (json!({"retention": {"unusedFor": "59s"}}), "spec.retention.unusedFor must be at least 1m"),
        (json!({"retention": {"unusedFor": "30d"}}), "spec.retention.unusedFor"),
        (json!({"retention": {"unusedFor": "-1h"}}), "spec.retention.unusedFor"),
        (
            json!({"retention": {"unusedFor": "1h"}, "reclaimPolicy": "Retain"}),
            "which spec.reclaimPolicy Retain forbids",
        ),
        // What has no behaviour yet is refused, and never silently ignored.
        (json!({"source": {"upload": {}}}), "spec.source.upload is not supported yet"),
        // An adopted model is in a claim that somebody knows.
        (json!({"source": {"volume": {}}, "storage": null}), "spec.source.volume needs spec.storage.claimName"),
    ] {
        let said = refusal(server.try_entry(spec_with(over.clone())).await, &over.to_string());
        assert!(said.contains(message), "{over}: {said:?} does not contain {message:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn what_names_the_model_and_its_place_is_immutable_and_the_rest_is_not() {
    let server = Server::with_namespace("frozen").await;
    let full = json!({"repo": "org/model", "revision": "v1", "source": {"hub": {}}, "files": {"weights": "All"}, "storage": {"claimName": "a"}});
    let entries = server.entries();
    entries.create(&PostParams::default(), &entry("full", full)).await.unwrap();
    entries.create(&PostParams::default(), &entry("bare", spec_with(json!({})))).await.unwrap();
    entries.create(&PostParams::default(), &entry("homeless", json!({"repo": "org/model"}))).await.unwrap();
    let change = async |name: &str, spec: Value| {
        let how = PatchParams { dry_run: true, ..PatchParams::default() };
        entries.patch(name, &how, &Patch::Merge(json!({ "spec": spec }))).await
    };
    for (name, spec, field) in [
        ("full", json!({"repo": "org/other"}), "spec.repo"),
        ("full", json!({"revision": "v2"}), "spec.revision"),
        ("full", json!({"revision": null}), "spec.revision"),
        ("full", json!({"source": null}), "spec.source"),
        ("full", json!({"files": {"weights": "Auto"}}), "spec.files"),
        ("full", json!({"files": null}), "spec.files"),
        ("full", json!({"storage": {"claimName": "b"}}), "spec.storage"),
        ("full", json!({"storage": {"subPath": "x"}}), "spec.storage"),
        ("full", json!({"storage": null}), "spec.storage"),
        ("homeless", json!({"storage": {"claimName": "a"}}), "spec.storage"),
        ("bare", json!({"revision": "v1"}), "spec.revision"),
        ("bare", json!({"source": {"hub": {"connectionRef": {"name": "c"}}}}), "spec.source"),
        ("bare", json!({"files": {"weights": "All"}}), "spec.files"),
    ] {
        let said = refusal(change(name, spec.clone()).await, &spec.to_string());
        assert!(said.contains(&format!("{field} is immutable")), "{spec}: {said:?}");
    }
    for spec in [
        json!({"reclaimPolicy": "Retain"}),
        json!({"suspend": true}),
        json!({"job": {"priorityClassName": "low"}}),
        json!({"update": {"policy": "Pinned"}}),
        json!({"update": {"policy": "Track", "keep": 2}}),
        json!({"retention": {"pinned": true}}),
    ] {
        assert!(change("full", spec.clone()).await.is_ok(), "{spec}");
    }
    server.end().await;
}

#[tokio::test]
async fn the_size_of_a_template_may_be_raised_and_nothing_else_of_it_changes() {
    let server = Server::with_namespace("growth").await;
    let entries = server.entries();
    let template = |claim: Value| json!({"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": claim}});
    let sized = |size: Value| json!({"storageClassName": "fast", "resources": {"requests": {"storage": size}}});
    for (name, storage) in [
        ("sized", template(sized(json!("20Gi")))),
        ("computed", template(json!({"storageClassName": "fast"}))),
        ("shared", json!({"claimName": "models"})),
    ] {
        entries.create(&PostParams::default(), &entry(name, spec_with(json!({"storage": storage})))).await.unwrap();
    }
    let change = async |name: &str, storage: Value| {
        let how = PatchParams { dry_run: true, ..PatchParams::default() };
        entries.patch(name, &how, &Patch::Merge(json!({"spec": {"storage": storage}}))).await
    };
    for (name, storage) in [
        ("sized", template(sized(json!("21Gi")))),
        ("sized", template(sized(json!("20480Mi")))),
        ("computed", template(sized(json!("5Gi")))),
    ] {
        let taken = change(name, storage.clone()).await;
        assert!(taken.is_ok(), "{storage}: {}", taken.unwrap_err());
    }
    for (name, storage, message) in [
        ("sized", template(sized(json!("19Gi"))), "may only be raised"),
        ("sized", template(sized(json!(null))), "may only be raised"),
        ("sized", template(json!({"resources": null})), "may only be raised"),
        ("sized", template(json!({"storageClassName": "slow"})), "spec.storage is immutable"),
        ("sized", template(json!({"storageClassName": null})), "spec.storage is immutable"),
        ("sized", template(json!({"accessModes": ["ReadWriteMany"]})), "spec.storage is immutable"),
        ("sized", template(json!({"volumeName": "pv"})), "spec.storage is immutable"),
        ("sized", template(json!({"selector": {"matchLabels": {"a": "b"}}})), "spec.storage is immutable"),
        ("sized", json!({"volumeClaimTemplate": {"metadata": null}}), "spec.storage is immutable"),
        ("sized", json!({"subPath": "a"}), "spec.storage is immutable"),
        ("sized", json!({"claimName": "models", "volumeClaimTemplate": null}), "spec.storage is immutable"),
        ("shared", json!({"claimName": null, "volumeClaimTemplate": {"spec": {}}}), "spec.storage is immutable"),
        ("shared", json!(null), "spec.storage is immutable"),
    ] {
        let said = refusal(change(name, storage.clone()).await, &storage.to_string());
        assert!(said.contains(message), "{storage}: {said:?} does not contain {message:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn bad_exports_are_refused_and_good_ones_cannot_be_changed() {
    let server = Server::with_namespace("exports").await;
    let api = server.api(&ModelCacheExport::api_resource());
    let export = |spec: &Value| {
        let mut object = DynamicObject::new("try", &ModelCacheExport::api_resource());
        object.data = json!({ "spec": spec });
        object
    };
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (destination, message) in [
        (json!({}), "must have either url, or claimName and path"),
        (json!({"claimName": "a"}), "must have either url, or claimName and path"),
        (json!({"url": "https://files.example/a", "path": "b"}), "must have either url"),
        (json!({"url": "ftp://files.example/a"}), "spec.destination.url"),
        (json!({"claimName": "a", "path": "b/../../c"}), "must not hold the names"),
        (json!({"claimName": "a", "path": "b", "authSecretRef": {"name": "c"}}), "authSecretRef is for a url"),
    ] {
        let spec = json!({"entryRef": {"name": "model"}, "destination": destination});
        let said = refusal(api.create(&dry, &export(&spec)).await, &spec.to_string());
        assert!(said.contains(message), "{spec}: {said:?} does not contain {message:?}");
    }
    let no_entry = json!({"destination": {"claimName": "a", "path": "b"}});
    assert!(refusal(api.create(&dry, &export(&no_entry)).await, "no entry").contains("entryRef"));
    let good = json!({"entryRef": {"name": "model"}, "format": "TarZst", "destination": {"claimName": "a", "path": "b/c.tar.zst"}});
    api.create(&PostParams::default(), &export(&good)).await.unwrap();
    let change = Patch::Merge(json!({"spec": {"format": "Zip"}}));
    let said = refusal(api.patch("try", &PatchParams::default(), &change).await, "a change");
    assert!(said.contains("spec is immutable"), "{said}");
    server.end().await;
}

#[tokio::test]
async fn bad_inventories_are_refused_and_good_ones_keep_their_volume() {
    let server = Server::with_namespace("inventories").await;
    let api = server.api(&ModelCacheInventory::api_resource());
    let inventory = |spec: &Value| {
        let mut object = DynamicObject::new("try", &ModelCacheInventory::api_resource());
        object.data = json!({ "spec": spec });
        object
    };
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (spec, message) in [
        (json!({}), "spec.claimName"),
        (json!({"claimName": ""}), "spec.claimName"),
        (json!({"claimName": "a", "subPath": "../b"}), "spec.subPath"),
        (json!({"claimName": "a", "interval": "59s"}), "at least 1m"),
        (json!({"claimName": "a", "interval": ""}), "spec.interval"),
        (json!({"claimName": "a", "interval": "6 hours"}), "spec.interval"),
        (json!({"claimName": "a", "interval": "30m1h"}), "spec.interval"),
    ] {
        let said = refusal(api.create(&dry, &inventory(&spec)).await, &spec.to_string());
        assert!(said.contains(message), "{spec}: {said:?} does not contain {message:?}");
    }
    for spec in [json!({"claimName": "a"}), json!({"claimName": "a", "subPath": "b/c", "interval": "1h30m"})] {
        let taken = api.create(&dry, &inventory(&spec)).await;
        assert!(taken.is_ok(), "{spec}: {}", taken.unwrap_err());
    }
    api.create(&PostParams::default(), &inventory(&json!({"claimName": "a"}))).await.unwrap();
    let change =
        async |spec: Value| api.patch("try", &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await;
    for spec in [json!({"claimName": "b"}), json!({"subPath": "b"})] {
        let said = refusal(change(spec.clone()).await, &spec.to_string());
        assert!(said.contains("are immutable"), "{said}");
    }
    change(json!({"interval": "6h"})).await.unwrap();
    server.end().await;
}

#[tokio::test]
async fn bad_imports_are_refused_and_good_ones_keep_their_source() {
    let server = Server::with_namespace("imports").await;
    let api = server.api(&ModelCacheImport::api_resource());
    let import = |spec: &Value| {
        let mut object = DynamicObject::new("try", &ModelCacheImport::api_resource());
        object.data = json!({ "spec": spec });
        object
    };
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let storage = json!({"claimName": "models"});
    for (source, message) in [
        (json!({}), "exactly one of claimName and urls"),
        (json!({"claimName": "a", "urls": ["https://files.example/a"]}), "exactly one of claimName and urls"),
        (json!({"urls": []}), "spec.source.urls"),
        (json!({"urls": ["http://files.example/a.tar"]}), "spec.source.urls"),
        (json!({"urls": ["https://me:secret@files.example/a.tar"]}), "spec.source.urls"),
        (json!({"urls": ["https://files.example/a", "https://files.example/a"]}), "Duplicate"),
        (json!({"urls": ["https://files.example/a"], "path": "b"}), "spec.source.path is for a claim"),
        (json!({"claimName": "a", "path": "b/../c"}), "must not hold the names"),
        (json!({"claimName": "a", "path": "/b"}), "spec.source.path"),
        (json!({"claimName": "a", "authSecretRef": {"name": "b"}}), "authSecretRef is for urls"),
    ] {
        let spec = json!({"source": source, "storage": storage});
        let said = refusal(api.create(&dry, &import(&spec)).await, &spec.to_string());
        assert!(said.contains(message), "{spec}: {said:?} does not contain {message:?}");
    }
    let template = |spec: Value| json!({"volumeClaimTemplate": {"spec": spec}});
    for (storage, message) in [
        (json!(null), "spec.storage"),
        (json!({}), "exactly one of claimName and volumeClaimTemplate"),
        (json!({"claimName": "a", "subPath": "../b"}), "subPath"),
        (template(json!({})), "(sizing) is not supported yet"),
        (template(json!({"resources": {"requests": {"storage": "0"}}})), "positive quantity"),
    ] {
        let spec = json!({"source": {"claimName": "a"}, "storage": storage});
        let said = refusal(api.create(&dry, &import(&spec)).await, &spec.to_string());
        assert!(said.contains(message), "{spec}: {said:?} does not contain {message:?}");
    }
    let sized = template(json!({"resources": {"requests": {"storage": "20Gi"}}}));
    for spec in [
        json!({"source": {"claimName": "usb"}, "storage": sized}),
        json!({"source": {"claimName": "usb", "path": "models/mini LM"}, "storage": storage, "reclaimPolicy": "Retain"}),
        json!({"source": {"urls": ["https://files.example/a.tar?sig=1", "https://files.example/b"], "authSecretRef": {"name": "a"}}, "storage": storage}),
    ] {
        let taken = api.create(&dry, &import(&spec)).await;
        assert!(taken.is_ok(), "{spec}: {}", taken.unwrap_err());
    }
    let good = json!({"source": {"claimName": "usb"}, "storage": storage});
    api.create(&PostParams::default(), &import(&good)).await.unwrap();
    let change =
        async |spec: Value| api.patch("try", &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await;
    for spec in
        [json!({"source": {"path": "b"}}), json!({"storage": {"subPath": "b"}}), json!({"reclaimPolicy": "Retain"})]
    {
        let said = refusal(change(spec.clone()).await, &spec.to_string());
        assert!(said.contains("are immutable: create another import"), "{spec}: {said}");
    }
    change(json!({"job": {"priorityClassName": "low"}})).await.unwrap();
    server.end().await;
}

#[tokio::test]
async fn bad_connections_are_refused() {
    let server = Server::with_namespace("hubs").await;
    let api = server.api(&HubConnection::api_resource());
    let connect = async |spec: Value| {
        let mut object = DynamicObject::new("try", &HubConnection::api_resource());
        object.data = json!({ "spec": spec });
        api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await
    };
    for spec in [
        json!({}),
        json!({"endpoint": "https://hub.example:8443/mirror"}),
        json!({"endpoint": "http://10.0.0.1:8080", "tokenSecretRef": {"name": "a", "key": "b"}}),
        json!({"caBundleRef": {"kind": "Secret", "name": "a", "key": "b"}, "proxy": {"https": "http://proxy:3128", "noProxy": ".svc,10.0.0.0/8"}}),
        json!({"limitBytesPerSecond": "50M"}),
        json!({"limitBytesPerSecond": "1.5Gi"}),
        json!({"limitBytesPerSecond": "1k"}),
        json!({"cache": {}}),
        json!({"cache": {"retention": {"unusedFor": "720h", "minFree": "50Gi", "maxUsed": "1.5Ti"}}}),
        json!({"maxConcurrentJobs": 1}),
        json!({"allow": {"repos": ["org/*", "bert-base-*"], "weights": ["Safetensors", "Gguf"]}}),
        json!({"cache": {"autoPopulate": true, "storage": {"claimName": "models", "subPath": "a/b"}}}),
        json!({"cache": {"storage": {"volumeClaimTemplate": {"spec": {"storageClassName": "fast"}}}}}),
        json!({"cache": {"storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}}}}),
        json!({"cache": {"job": {"nodeSelector": {"disk": "fast"}, "activeDeadlineSeconds": 60}}}),
    ] {
        let taken = connect(spec.clone()).await;
        assert!(taken.is_ok(), "{spec}: {}", taken.unwrap_err());
    }
    for (spec, field) in [
        (json!({"endpoint": "hub.example"}), "endpoint"),
        (json!({"endpoint": "ftp://hub.example"}), "endpoint"),
        (json!({"endpoint": "https://me:secret@hub.example"}), "endpoint"),
        (json!({"endpoint": "https://hub.example/?a=b"}), "endpoint"),
        (json!({"tokenSecretRef": {"name": "a"}}), "key"),
        (json!({"caBundleRef": {"kind": "File", "name": "a", "key": "b"}}), "kind"),
        (json!({"proxy": {"http": "proxy:3128"}}), "proxy"),
        (json!({"limitBytesPerSecond": "fast"}), "limitBytesPerSecond"),
        (json!({"limitBytesPerSecond": "0"}), "limitBytesPerSecond"),
        (json!({"limitBytesPerSecond": "-1M"}), "limitBytesPerSecond"),
        // A twentieth of a byte, and what somebody meant was 50M.
        (json!({"limitBytesPerSecond": "50m"}), "limitBytesPerSecond"),
        (json!({"cache": {"retention": {"unusedFor": "10s"}}}), "unusedFor must be at least 1m"),
        (json!({"cache": {"retention": {"unusedFor": "30d"}}}), "unusedFor"),
        (json!({"cache": {"retention": {"minFree": "much"}}}), "minFree must be a quantity"),
        (json!({"cache": {"retention": {"minFree": "50m"}}}), "minFree must be a quantity"),
        (json!({"cache": {"retention": {"maxUsed": "-1Gi"}}}), "maxUsed must be a quantity"),
        (json!({"maxConcurrentJobs": 0}), "maxConcurrentJobs"),
        (json!({"maxConcurrentJobs": -1}), "maxConcurrentJobs"),
        (json!({"maxConcurrentJobs": "many"}), "maxConcurrentJobs"),
        // An empty list would mean nothing, or everything.
        (json!({"allow": {"repos": []}}), "allow.repos"),
        (json!({"allow": {"repos": [""]}}), "allow.repos"),
        (json!({"allow": {"weights": []}}), "allow.weights"),
        (json!({"allow": {"weights": ["Pickle"]}}), "allow.weights"),
        (json!({"allow": {"weights": ["Auto"]}}), "allow.weights"),
        (json!({"cache": {"autoPopulate": "yes"}}), "autoPopulate"),
        (json!({"cache": {"storage": {}}}), "spec.cache.storage must have exactly one of"),
        (json!({"cache": {"storage": {"subPath": "a"}}}), "spec.cache.storage must have exactly one of"),
        (json!({"cache": {"storage": {"claimName": "a", "volumeClaimTemplate": {"spec": {}}}}}), "exactly one of"),
        (json!({"cache": {"storage": {"claimName": "a", "subPath": "../b"}}}), "subPath"),
        (
            json!({"cache": {"storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "0"}}}}}}}),
            "must be a positive quantity",
        ),
        (json!({"cache": {"job": {"activeDeadlineSeconds": 0}}}), "activeDeadlineSeconds"),
    ] {
        let said = refusal(connect(spec.clone()).await, &spec.to_string());
        assert!(said.contains(field), "{spec}: {said:?}");
    }
    server.end().await;
}
