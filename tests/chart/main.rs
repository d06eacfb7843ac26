//! What the chart gives the operator and what it keeps from people: asked of a real API server.
//!
//! Needs a cluster in `KUBECONFIG` with the chart installed in `MODELCACHE_NAMESPACE` (`make test` does both).

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use modelcache::api::{ModelCacheEntry, ModelCacheImport, annotation};
use serde_json::{Value, json};
use std::time::Duration;

fn operators_namespace() -> String {
    std::env::var("MODELCACHE_NAMESPACE").unwrap_or_else(|_| "modelcache-system".to_owned())
}

fn operators_account() -> String {
    format!("system:serviceaccount:{}:modelcache", operators_namespace())
}

async fn client(user: Option<&str>) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = Config::infer().await.expect("a cluster in KUBECONFIG: `make test` starts one");
    config.auth_info.impersonate = user.map(str::to_owned);
    Client::try_from(config).unwrap()
}

/// Whether the operator's account may do this, in any namespace where none is given.
async fn operator_may(verb: &str, resource: &str, namespace: Option<&str>, name: Option<&str>) -> bool {
    let (group, resource) = resource.rsplit_once('/').unwrap_or(("", resource));
    let (resource, subresource) = resource.split_once(':').unwrap_or((resource, ""));
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(operators_account()),
            groups: Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]),
            resource_attributes: Some(ResourceAttributes {
                verb: text(verb),
                group: text(group),
                resource: text(resource),
                subresource: text(subresource),
                namespace: namespace.map(str::to_owned),
                name: name.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::all(client(None).await).create(&PostParams::default(), &review).await.unwrap();
    answer.status.unwrap().allowed
}

#[tokio::test]
async fn the_operator_may_do_its_work_and_nothing_else() {
    let home = operators_namespace();
    for (verb, resource) in [
        ("watch", "modelcache.dev/modelcacheentries"),
        ("patch", "modelcache.dev/modelcacheentries:status"),
        ("watch", "modelcache.dev/modelcacheimports"),
        ("watch", "modelcache.dev/modelcacheinventories"),
        ("patch", "modelcache.dev/modelcacheinventories:status"),
        ("patch", "modelcache.dev/modelcacheimports:status"),
        // Of the archives of an import, and of the chart's value preseed.
        ("create", "modelcache.dev/modelcacheentries"),
        ("get", "modelcache.dev/modelcacheentries"),
        ("get", "modelcache.dev/hubconnections"),
        ("create", "batch/jobs"),
        ("delete", "batch/jobs"),
        ("get", "pods:log"),
        ("get", "nodes"),
        ("create", "persistentvolumeclaims"),
        // The own claim of an entry whose model is evicted.
        ("delete", "persistentvolumeclaims"),
        ("patch", "modelcache.dev/hubconnections:status"),
        ("update", "modelcache.dev/hubconnections:finalizers"),
        ("create", "events.k8s.io/events"),
        // The scheduling gate.
        ("patch", "pods"),
    ] {
        assert!(operator_may(verb, resource, None, None).await, "it may not {verb} {resource}");
    }
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("watch", "secrets"),
        ("create", "pods"),
        ("update", "pods"),
        ("patch", "pods:status"),
        ("create", "pods:binding"),
        ("create", "secrets"),
        ("patch", "secrets"),
        ("create", "admissionregistration.k8s.io/mutatingwebhookconfigurations"),
        ("patch", "admissionregistration.k8s.io/mutatingwebhookconfigurations"),
        ("patch", "admissionregistration.k8s.io/validatingwebhookconfigurations"),
        ("list", "nodes"),
        ("patch", "nodes"),
        ("create", "pods:exec"),
        ("delete", "pods"),
        ("patch", "modelcache.dev/hubconnections"),
        ("get", "configmaps"),
        ("create", "configmaps"),
        ("update", "modelcache.dev/modelcacheentries"),
        ("delete", "modelcache.dev/modelcacheentries"),
        ("create", "modelcache.dev/modelcacheexports"),
        // Only with preseed.imports.
        ("create", "modelcache.dev/modelcacheimports"),
        ("create", "modelcache.dev/modelcacheinventories"),
        ("delete", "modelcache.dev/modelcacheimports"),
        ("create", "serviceaccounts:token"),
        ("impersonate", "users"),
        ("update", "coordination.k8s.io/leases"),
    ] {
        assert!(!operator_may(verb, resource, None, None).await, "it may {verb} {resource} everywhere");
        assert!(!operator_may(verb, resource, Some("default"), None).await, "it may {verb} {resource} in default");
    }
    let lease = "coordination.k8s.io/leases";
    assert!(operator_may("update", lease, Some(&home), Some("modelcache-operator")).await);
    assert!(!operator_may("update", lease, Some(&home), Some("another")).await);
    // One Secret, which holds the webhook's certificate, and the one webhook.
    for verb in ["list", "watch", "update"] {
        assert!(operator_may(verb, "secrets", Some(&home), Some("modelcache-webhook")).await, "{verb}");
        assert!(!operator_may(verb, "secrets", Some(&home), Some("another")).await, "{verb}");
        assert!(!operator_may(verb, "secrets", Some(&home), None).await, "{verb}");
        assert!(!operator_may(verb, "secrets", Some("default"), Some("modelcache-webhook")).await, "{verb}");
    }
    let webhooks = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
    assert!(operator_may("patch", webhooks, None, Some("modelcache")).await);
    assert!(!operator_may("patch", webhooks, None, Some("another")).await);
}

#[test]
fn the_webhook_is_asked_about_nothing_but_pods_with_its_label_and_entries_that_people_write() {
    let all = rendered(&["--namespace=home", "--set=webhook.excludedNamespaces={quiet}"]);
    let text = all.split("\n---\n").find(|object| object.contains("kind: MutatingWebhookConfiguration")).unwrap();
    let object: Value = serde_yaml::from_str(text).unwrap();
    let webhook = &object["webhooks"][0];
    assert_eq!(object["webhooks"].as_array().unwrap().len(), 2);
    assert_eq!(webhook["failurePolicy"], "Ignore");
    assert_eq!(webhook["sideEffects"], "None");
    assert_eq!(webhook["objectSelector"], json!({"matchLabels": {"modelcache.dev/inject": "true"}}));
    let excluded = json!([{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "home", "quiet"]}]);
    assert_eq!(webhook["namespaceSelector"]["matchExpressions"], excluded);
    let rule = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}]);
    assert_eq!(webhook["rules"], rule);
    assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 5);

    let webhook = &object["webhooks"][1];
    assert_eq!((&webhook["failurePolicy"], &webhook["sideEffects"]), (&json!("Ignore"), &json!("None")));
    let rule = json!([{"apiGroups": ["modelcache.dev"], "apiVersions": ["v1alpha1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["modelcacheentries"], "scope": "Namespaced"}]);
    assert_eq!(webhook["rules"], rule);
    let conditions = webhook["matchConditions"].to_string();
    assert!(conditions.contains("system:serviceaccount:home:modelcache") && conditions.contains("oldObject.spec"));
    assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 5);
}

#[test]
fn without_the_webhook_the_operator_may_do_less() {
    let without = rendered(&["--set=webhook.enabled=false"]);
    for word in [
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        "kind: Secret",
        "resources: [secrets]",
        "webhook-listen",
    ] {
        assert!(!without.contains(word), "{word} is there");
        assert!(rendered(&[]).contains(word), "{word} is not there");
    }
    assert!(without.contains("verbs: [list, watch, patch]"), "Pods that wait at the gate already are let go");
    let external = rendered(&["--set=webhook.certManager.enabled=true"]);
    assert!(external.contains("kind: Certificate") && external.contains("kind: Issuer"));
    assert!(external.contains("cert-manager.io/inject-ca-from: default/modelcache-webhook"));
    // Renewals keep their authority: what signs itself is the authority alone.
    let made: Vec<Value> = external
        .split("\n---\n")
        .filter(|object| object.contains("apiVersion: cert-manager.io/v1"))
        .map(|object| serde_yaml::from_str(object).unwrap())
        .collect();
    let object = |kind: &str, name: &str| {
        made.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name).expect("it is there")
    };
    let issuer = |certificate: &str| {
        object("Issuer", object("Certificate", certificate)["spec"]["issuerRef"]["name"].as_str().unwrap())
    };
    let authority = issuer("modelcache-webhook")["spec"]["ca"]["secretName"].as_str().unwrap();
    let certificate = object("Certificate", authority);
    assert_eq!((&certificate["spec"]["secretName"], &certificate["spec"]["isCA"]), (&json!(authority), &json!(true)));
    assert_eq!(issuer(authority)["spec"], json!({"selfSigned": {}}));
    assert_eq!(made.len(), 4);
    let named = "--set-json=webhook.certManager={\"enabled\":true,\"issuerRef\":{\"kind\":\"ClusterIssuer\",\"name\":\"corp\"}}";
    assert!(!rendered(&[named]).contains("kind: Issuer\n"), "somebody else's signs");
    for word in ["kind: Secret", "mutatingwebhookconfigurations", "verbs: [list, watch, update]"] {
        assert!(!external.contains(word), "{word} is there, and cert-manager does that");
    }
}

#[tokio::test]
async fn the_operators_pod_is_restricted_and_small() {
    let pods = Api::<Pod>::namespaced(client(None).await, &operators_namespace());
    let listed = pods.list(&ListParams::default().labels("app.kubernetes.io/component=operator")).await.unwrap();
    let pod = listed.items.first().expect("an operator is installed");
    let mut copy = Pod { metadata: ObjectMeta::default(), spec: pod.spec.clone(), status: None };
    copy.metadata.name = Some("copy".to_owned());
    copy.spec.as_mut().unwrap().node_name = None;
    copy.spec.as_mut().unwrap().service_account_name = None;
    copy.spec.as_mut().unwrap().service_account = None;
    let place = Place::new("chart-restricted").await;
    let enforce = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces = Api::<Namespace>::all(client(None).await);
    namespaces.patch(&place.namespace, &PatchParams::default(), &Patch::Merge(enforce)).await.unwrap();
    // The mounted token is the API server's own addition; it makes a new one for the copy.
    let spec = copy.spec.as_mut().unwrap();
    spec.volumes.iter_mut().for_each(|all| all.retain(|volume| !volume.name.starts_with("kube-api-access")));
    for container in &mut spec.containers {
        container.volume_mounts.iter_mut().for_each(|all| all.retain(|mount| !mount.name.starts_with("kube-api")));
    }
    let how = PostParams { dry_run: true, ..PostParams::default() };
    let api = Api::<Pod>::namespaced(client(None).await, &place.namespace);
    api.create(&how, &copy).await.expect("the restricted standard takes the operator's Pod");
    let limits = pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["memory"].0, "128Mi");
    place.end().await;
}

/// A namespace in which the user ada may edit.
struct Place {
    namespace: String,
}

impl Place {
    async fn new(name: &str) -> Self {
        let admin = client(None).await;
        let namespace = format!("{name}-{}", std::process::id());
        let metadata = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let object = Namespace { metadata: metadata(&namespace), ..Namespace::default() };
        Api::all(admin.clone()).create(&PostParams::default(), &object).await.unwrap();
        let subject = |name: &str| Subject { kind: "User".into(), name: name.into(), ..Subject::default() };
        let binding = RoleBinding {
            metadata: metadata("editors"),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".to_owned().into(),
                kind: "ClusterRole".into(),
                name: "edit".into(),
            },
            subjects: Some(vec![subject("ada"), subject(&operators_account())]),
        };
        Api::namespaced(admin.clone(), &namespace).create(&PostParams::default(), &binding).await.unwrap();
        let place = Self { namespace };
        // A binding is known to the authorizer a moment after it is written.
        for _ in 0..100 {
            if place.entries("ada").await.list(&ListParams::default()).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        place
    }

    async fn entries(&self, user: &str) -> Api<ModelCacheEntry> {
        Api::namespaced(client(Some(user)).await, &self.namespace)
    }

    async fn end(self) {
        Api::<Namespace>::all(client(None).await).delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }
}

fn entry(name: &str, created_by: Option<&str>) -> ModelCacheEntry {
    let spec: Value = json!({"repo": "org/model", "suspend": true, "storage": {"claimName": "none"}});
    let mut entry = ModelCacheEntry::new(name, serde_json::from_value(spec).unwrap());
    if let Some(user) = created_by {
        entry.annotations_mut().insert(annotation::CREATED_BY.to_owned(), user.to_owned());
    }
    entry
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, kube::Error>, case: &str) {
    match result {
        Err(kube::Error::Api(status)) => {
            assert!(status.message.contains(annotation::CREATED_BY), "{case}: {}", status.message);
        }
        other => panic!("{case}: {other:?}"),
    }
}

/// An entry after a manifest without annotations replaced it, as `kubectl replace` does it: as often as the operator was faster.
async fn replaced(api: &Api<ModelCacheEntry>, name: &str) -> ModelCacheEntry {
    loop {
        let mut manifest = entry(name, None);
        manifest.metadata.resource_version = api.get(name).await.unwrap().metadata.resource_version;
        match api.replace(name, &PostParams::default(), &manifest).await {
            Err(kube::Error::Api(status)) if status.reason == "Conflict" => {}
            other => return other.unwrap(),
        }
    }
}

#[tokio::test]
async fn nobody_signs_with_anothers_name() {
    let place = Place::new("chart-signed").await;
    let create = PostParams::default();
    let change = PatchParams::default();
    let ada = place.entries("ada").await;
    assert_refused(ada.create(&create, &entry("forged", Some("bob"))).await, "another's name at creation");
    ada.create(&create, &entry("signed", Some("ada"))).await.unwrap();
    let by_webhook = ada.create(&create, &entry("by-webhook", None)).await.unwrap();
    assert_eq!(by_webhook.annotations().get(annotation::CREATED_BY).map(String::as_str), Some("ada"));
    let operators = place.entries(&operators_account()).await;
    operators.create(&create, &entry("unsigned", None)).await.unwrap();
    let sign = |value: Value| Patch::Merge(json!({"metadata": {"annotations": {annotation::CREATED_BY: value}}}));
    assert_refused(ada.patch("signed", &change, &sign(json!("bob"))).await, "a change");
    // A manifest that replaces the object does not say who created it, and takes nothing away.
    let author = |entry: ModelCacheEntry| entry.annotations().get(annotation::CREATED_BY).cloned();
    let removed = ada.patch("signed", &change, &sign(Value::Null)).await.unwrap();
    assert_eq!(author(removed).as_deref(), Some("ada"));
    assert_eq!(author(replaced(&ada, "by-webhook").await).as_deref(), Some("ada"));
    assert_eq!(author(replaced(&ada, "unsigned").await), None);
    assert_refused(ada.patch("unsigned", &change, &sign(json!("ada"))).await, "an addition");
    let other = Patch::Merge(json!({"metadata": {"annotations": {"other": "value"}}, "spec": {"suspend": null}}));
    ada.patch("signed", &change, &other).await.unwrap();
    // The operator signs an import's entries with the name that the import has.
    let imports = Api::<ModelCacheImport>::namespaced(client(Some("ada")).await, &place.namespace);
    let import = |name: &str, user: &str| {
        let spec = json!({"source": {"claimName": "none"}, "storage": {"claimName": "none"}});
        let mut import = ModelCacheImport::new(name, serde_json::from_value(spec).unwrap());
        import.annotations_mut().insert(annotation::CREATED_BY.to_owned(), user.to_owned());
        import
    };
    assert_refused(imports.create(&create, &import("forged", "bob")).await, "an import in another's name");
    imports.create(&create, &import("signed", "ada")).await.unwrap();
    assert_refused(imports.patch("signed", &change, &sign(json!("bob"))).await, "a change of an import");
    // The operator makes entries for others: it says for whom.
    operators.create(&create, &entry("for-bob", Some("bob"))).await.unwrap();
    place.end().await;
}

#[test]
fn those_who_restore_others_objects_are_named_in_the_values() {
    let policy = |values: &[&str]| {
        let all = rendered(values);
        let text = all.split("\n---\n").find(|object| object.contains("kind: ValidatingAdmissionPolicy\n")).unwrap();
        let object: Value = serde_yaml::from_str(text).unwrap();
        let signs = object["spec"]["variables"].as_array().unwrap().iter().find(|one| one["name"] == "signsForOthers");
        signs.unwrap()["expression"].as_str().unwrap().to_owned()
    };
    let operator = "system:serviceaccount:home:modelcache";
    assert_eq!(policy(&["--namespace=home"]), format!("request.userInfo.username in [\"{operator}\"]"));
    let with = policy(&["--namespace=home", r#"--set-json=admissionPolicy.maySignForOthers=["o'hara","a\"b"]"#]);
    assert_eq!(with, format!(r#"request.userInfo.username in ["{operator}","o'hara","a\"b"]"#));
}

/// The chart as Helm makes it of these values.
fn rendered(values: &[&str]) -> String {
    let installed = std::env::var_os("LAB_BIN").map(|folder| std::path::Path::new(&folder).join("helm"));
    let helm = installed.filter(|path| path.exists()).unwrap_or_else(|| "helm".into());
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/modelcache");
    let output =
        std::process::Command::new(helm).args(["template", "modelcache", chart]).args(values).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_hook_of_the_uninstallation_is_whole_goes_by_itself_and_can_be_switched_off() {
    let all = rendered(&[]);
    let hooks: Vec<_> =
        all.split("\n---\n").filter(|object| object.contains("modelcache/templates/uninstall.yaml")).collect();
    assert_eq!(hooks.len(), 6, "an account, two roles with their bindings, and a Job");
    for hook in hooks {
        assert!(hook.contains("helm.sh/hook: pre-delete"), "{hook}");
        assert!(hook.contains("helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded"), "{hook}");
    }
    assert!(!rendered(&["--set=uninstallHook.enabled=false"]).contains("modelcache-uninstall"));
}
