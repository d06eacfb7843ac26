//! Every write to Kubernetes.
//!
//! Jobs, claims and ConfigMaps are *created*: an object of that name without our object's uid is a conflict, never adopted.
//! Status and finalizer go by server-side apply; deletions carry the uid.

use super::reconcile::Context;
use crate::api::status::AttemptsStatus;
use crate::api::{
    FIELD_MANAGER, FINALIZER, GATE, HubConnection, HubConnectionStatus, ModelCacheEntry, ModelCacheEntryStatus,
    ModelCacheExport, ModelCacheExportStatus, ModelCacheImport, ModelCacheImportStatus, ModelCacheInventory,
    ModelCacheInventoryStatus, label,
};
use crate::controller::plan::{Action, Notice, Obstacle, Why, queue, writers};
use crate::format::outcome::shorten;
use crate::ident::Reason;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, Status};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// The longest note that the API server takes in an event, in bytes.
const NOTE_MAX_BYTES: usize = 1000;

/// How the API server says that a claim's class does not let it grow.
const NO_EXPANSION: &str = "provisioned pvc can be resized";

/// An object that the operator works for.
pub(super) trait Subject:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned
{
    /// The label by which what was made for it is known; the value is its uid.
    const UID_LABEL: &'static str;
    /// What is said of it.
    type Status: Serialize + Send + Sync;
    /// What was said of it.
    fn said(&self) -> Option<&Self::Status>;
    /// What was tried.
    fn attempts(status: &Self::Status) -> Option<&AttemptsStatus>;
}

impl Subject for ModelCacheEntry {
    const UID_LABEL: &'static str = label::ENTRY_UID;
    type Status = ModelCacheEntryStatus;
    fn said(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }
    fn attempts(status: &Self::Status) -> Option<&AttemptsStatus> {
        status.attempts.as_ref()
    }
}

impl Subject for HubConnection {
    const UID_LABEL: &'static str = label::CHECK_UID;
    type Status = HubConnectionStatus;
    fn said(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }
    fn attempts(status: &Self::Status) -> Option<&AttemptsStatus> {
        status.attempts.as_ref()
    }
}

impl Subject for ModelCacheExport {
    const UID_LABEL: &'static str = label::EXPORT_UID;
    type Status = ModelCacheExportStatus;
    fn said(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }
    fn attempts(status: &Self::Status) -> Option<&AttemptsStatus> {
        status.attempts.as_ref()
    }
}

impl Subject for ModelCacheImport {
    const UID_LABEL: &'static str = label::IMPORT_UID;
    type Status = ModelCacheImportStatus;
    fn said(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }
    fn attempts(status: &Self::Status) -> Option<&AttemptsStatus> {
        status.attempts.as_ref()
    }
}

impl Subject for ModelCacheInventory {
    const UID_LABEL: &'static str = label::INVENTORY_UID;
    type Status = ModelCacheInventoryStatus;
    fn said(&self) -> Option<&Self::Status> {
        self.status.as_ref()
    }
    fn attempts(status: &Self::Status) -> Option<&AttemptsStatus> {
        status.attempts.as_ref()
    }
}

/// Does one action; what the cluster does not allow now is an obstacle and not an error.
pub(super) async fn act<K: Subject>(
    context: &Context,
    object: &K,
    action: &Action,
) -> Result<Option<Obstacle>, kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    match action {
        // What is done under its protection must not be done for an object that is gone: then the round ends here.
        Action::AddFinalizer => set_finalizers(&context.client, object, &[FINALIZER]).await.map(|()| None),
        Action::RemoveFinalizer => let_go(&context.client, object).await.map(|()| None),
        Action::CreateClaim(claim) => {
            create(
                &Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &namespace),
                claim.as_ref(),
                object,
            )
            .await
        }
        Action::CreateConfigMap(map) => {
            create(&Api::<ConfigMap>::namespaced(context.client.clone(), &namespace), map.as_ref(), object).await
        }
        Action::CreateEntry(entry) => {
            create(&Api::<ModelCacheEntry>::namespaced(context.client.clone(), &namespace), entry.as_ref(), object)
                .await
        }
        Action::CreateJob(job) => create_job(context, &namespace, job, object).await,
        Action::SetClaimOwned { name, uid, owned } => {
            set_claim_owned(context, object, name, uid, *owned).await.map(|()| None)
        }
        Action::GrowClaim { name, uid, to } => grow_claim(context, &namespace, name, uid, to).await,
        Action::DeleteJob { name, uid } => {
            delete(&Api::<Job>::namespaced(context.client.clone(), &namespace), name, uid).await.map(|()| None)
        }
        Action::DeleteClaim { name, uid } => {
            delete(&Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &namespace), name, uid)
                .await
                .map(|()| None)
        }
    }
}

/// One writer at a time per (claim, subPath, repo), and no more Jobs than a connection or the operator lets take from a Hub. Only the leader creates Jobs, and it does so one at a time: the list and
/// the creation cannot be parted by another creation.
async fn create_job<K: Subject>(
    context: &Context,
    namespace: &str,
    job: &Job,
    object: &K,
) -> Result<Option<Obstacle>, kube::Error> {
    let api = Api::<Job>::namespaced(context.client.clone(), namespace);
    let (volume, budgets) = (job.labels().get(label::VOLUME), queue::budgets(job, &context.config));
    if volume.is_none() && budgets.is_empty() {
        // It writes to no model's volume, and takes nothing that is limited.
        return create(&api, job, object).await;
    }
    let _one_at_a_time = context.job_creation.lock().await;
    for budget in &budgets {
        let counted = ListParams::default().labels(&format!("{}={}", budget.label, budget.value));
        let jobs = Api::<Job>::all(context.client.clone()).list(&counted).await?;
        let pods = Api::<Pod>::all(context.client.clone()).list(&counted).await?;
        if queue::is_spent(job, &jobs.items, &pods.items, budget.limit, Timestamp::now()) {
            return Ok(Some(Obstacle::Full));
        }
    }
    let Some(volume) = volume else { return create(&api, job, object).await };
    let same_volume = ListParams::default().labels(&format!("{}={volume}", label::VOLUME));
    let jobs = api.list(&same_volume).await?;
    let pods = Api::<Pod>::namespaced(context.client.clone(), namespace).list(&same_volume).await?;
    if let Some(writer) = writers::hindrance(job, &jobs.items, &pods.items) {
        return Ok(Some(Obstacle::Busy(writer)));
    }
    create(&api, job, object).await
}

async fn create<K, O>(api: &Api<K>, object: &K, owner: &O) -> Result<Option<Obstacle>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
    O: Subject,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let how = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&how, object).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
            let existing = api.get_opt(&name).await?;
            let ours = existing.is_none_or(|existing| existing.labels().get(O::UID_LABEL) == owner.uid().as_ref());
            Ok((!ours).then(|| {
                let (kind, whose) = (K::kind(&()), O::kind(&()));
                let message = format!(
                    "{kind} {name:?} exists and was not made for this object: remove it, or give the {whose} another name"
                );
                Obstacle::Denied(Why::new(Reason::Conflict, message))
            }))
        }
        Err(kube::Error::Api(status)) if is_refusal(&status) => {
            Ok(Some(Obstacle::Denied(refusal(&K::kind(&()), &name, &status))))
        }
        Err(error) => Err(error),
    }
}

/// Deletes the object of this uid, and what it owns in the background.
async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<(), kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let precondition = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let how = DeleteParams { preconditions: Some(precondition), ..DeleteParams::background() };
    gone_is_fine(api.delete(name, &how).await.map(|_| ()))
}

/// Creates an object that is to be there; false where one of its name is there already, whatever it says.
pub(super) async fn create_absent<K>(client: &Client, object: &K) -> Result<bool, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let how = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&how, object).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an admission webhook ("denied the request") or a `ValidatingAdmissionPolicy` ("denied request") said no.
fn is_denial(status: &Status) -> bool {
    status.message.contains("denied the request") || status.message.contains("denied request")
}

/// Whether the API server understood the object and does not want it, for a reason that a person can mend.
fn is_refusal(status: &Status) -> bool {
    match status.reason.as_str() {
        _ if is_denial(status) => true,
        // A webhook of somebody's that does not answer stands for its owner's no until it does.
        "InternalError" => status.message.contains("failed calling webhook"),
        // BadRequest: what is no quantity passes the schema of our own objects, and not that of a Job.
        "Invalid" | "BadRequest" => true,
        // Our own missing rights are an error of the installation, and not the entry's.
        "Forbidden" => {
            is_quota(status)
                || status.message.contains("LimitRange")
                || status.message.contains("is forbidden: maximum")
                || status.message.contains("is forbidden: minimum")
                || status.message.contains("PriorityClass")
                || status.message.contains(NO_EXPANSION)
        }
        _ => false,
    }
}

fn is_quota(status: &Status) -> bool {
    status.reason == "Forbidden" && status.message.contains("quota")
}

fn refusal(kind: &str, name: &str, status: &Status) -> Why {
    let reason = match (status.reason.as_str(), kind) {
        _ if is_denial(status) || status.message.contains(NO_EXPANSION) => Reason::PolicyDenied,
        ("Forbidden", _) => Reason::QuotaExceeded,
        (_, "PersistentVolumeClaim") => Reason::PVCPending,
        // All that differs between an import's entries is the archive's name.
        (_, "ModelCacheEntry") => Reason::UnsafePath,
        _ => Reason::Unschedulable,
    };
    Why::new(reason, format!("{kind} {name:?} is refused by the API server: {}", status.message))
}

fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        // 409: another object of the same name, which the uid protects.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other,
    }
}

/// Whether something could not be written because its namespace is being deleted: nobody's loss.
pub(super) fn is_about_an_end(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "Forbidden" && status.message.contains("being terminated"))
}

/// Takes our finalizer off an object, or finds it gone.
pub(super) async fn let_go<K: Subject>(client: &Client, object: &K) -> Result<(), kube::Error> {
    gone_is_fine(set_finalizers(client, object, &[]).await)
}

/// Ends all Pods of a Deployment; one that is gone has none.
pub(super) async fn scale_to_zero(client: &Client, namespace: &str, name: &str) -> Result<(), kube::Error> {
    let api = Api::<Deployment>::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({ "spec": { "replicas": 0 } }));
    gone_is_fine(api.patch_scale(name, &PatchParams::default(), &patch).await.map(|_| ()))
}

async fn set_finalizers<K: Subject>(client: &Client, object: &K, finalizers: &[&str]) -> Result<(), kube::Error> {
    // The uid keeps an apply from creating an object that is gone.
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "uid": object.uid(), "finalizers": finalizers },
    });
    let how = PatchParams::apply(&format!("{FIELD_MANAGER}-finalizer")).force();
    api_of(client, object).patch(&object.name_any(), &how, &Patch::Apply(patch)).await.map(|_| ())
}

fn api_of<K: Subject>(client: &Client, object: &K) -> Api<K> {
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

async fn set_claim_owned<K: Subject>(
    context: &Context,
    object: &K,
    name: &str,
    uid: &str,
    owned: bool,
) -> Result<(), kube::Error> {
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &namespace);
    let owners: Vec<_> = object.controller_owner_ref(&()).into_iter().filter(|_| owned).collect();
    let patch = json!({ "metadata": { "uid": uid, "ownerReferences": owners } });
    gone_is_fine(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ()))
}

/// The API server keeps a claim from shrinking, and from growing where its class does not allow it.
async fn grow_claim(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    to: &Quantity,
) -> Result<Option<Obstacle>, kube::Error> {
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), namespace);
    let patch = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "name": name, "uid": uid },
        "spec": { "resources": { "requests": { "storage": to } } },
    });
    let how = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch(name, &how, &Patch::Apply(patch)).await {
        Err(kube::Error::Api(status)) if is_refusal(&status) => {
            Ok(Some(Obstacle::Denied(refusal("PersistentVolumeClaim", name, &status))))
        }
        other => gone_is_fine(other.map(|_| ())).map(|()| None),
    }
}

/// Writes the status, when it differs from the one that was observed; true when it was written. Where the object is not what
/// was observed any more, nothing is written: its watch tells of it, and then there is another round.
pub(super) async fn status<K: Subject>(context: &Context, object: &K, status: &K::Status) -> Result<bool, kube::Error> {
    let new = json!(status);
    if object.said().is_some_and(|old| json!(old) == new) {
        return Ok(false);
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "uid": object.uid(), "resourceVersion": object.resource_version() },
        "status": new,
    });
    let how = PatchParams::apply(FIELD_MANAGER).force();
    let written = api_of(&context.client, object).patch_status(&object.name_any(), &how, &Patch::Apply(patch)).await;
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells people; an event that cannot be written is logged and lost.
pub(super) async fn notice(context: &Context, object: &impl Resource<DynamicType = ()>, notice: &Notice) {
    let event = Event {
        type_: if notice.warning { EventType::Warning } else { EventType::Normal },
        reason: notice.reason.clone(),
        note: Some(shorten(&notice.message, NOTE_MAX_BYTES)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    match context.recorder.publish(&event, &object.object_ref(&())).await {
        Ok(()) => {}
        Err(error) if is_about_an_end(&error) => {}
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "an event was not written"),
    }
}

/// Creates an entry that a Pod waits for; what is there already under its name stays. Gives why the API server does not want it.
pub(super) async fn populate(client: &Client, entry: &ModelCacheEntry) -> Result<Option<Why>, kube::Error> {
    match create_absent(client, entry).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if is_refusal(&status) => {
            let message = format!("entry {:?} is refused by the API server: {}", entry.name_any(), status.message);
            let reason = if is_quota(&status) { Reason::QuotaExceeded } else { Reason::PolicyDenied };
            Ok(Some(Why::new(reason, message)))
        }
        Err(error) => Err(error),
    }
}

/// Takes our scheduling gate off a Pod, at the place where it was seen. Where it is not there any more, the watch tells of it.
pub(super) async fn lift_gate(
    client: &Client,
    pod: &impl Resource<DynamicType = ()>,
    at: usize,
) -> Result<(), kube::Error> {
    let meta = pod.meta();
    let api = Api::<Pod>::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let gate = format!("/spec/schedulingGates/{at}");
    let patch = json!([
        { "op": "test", "path": "/metadata/uid", "value": meta.uid },
        { "op": "test", "path": gate, "value": { "name": GATE } },
        { "op": "remove", "path": gate },
    ]);
    match api.patch(meta.name.as_deref().unwrap_or_default(), &PatchParams::default(), &json_patch(patch)?).await {
        // 422: a test failed.
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(()),
        other => gone_is_fine(other.map(|_| ())),
    }
}

/// Keeps the webhook's certificate in its Secret, at the version that was read; nothing where another operator was faster.
pub(super) async fn put_certificate(client: &Client, secret: &Secret) -> Result<Option<Secret>, kube::Error> {
    let api = Api::<Secret>::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    match api.replace(&secret.name_any(), &PostParams::default(), secret).await {
        Ok(kept) => Ok(Some(kept)),
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells the API server whom to trust when it asks the webhook.
pub(super) async fn put_ca_bundle(
    client: &Client,
    configuration: &MutatingWebhookConfiguration,
    bundle: &ByteString,
) -> Result<(), kube::Error> {
    let webhooks = configuration.webhooks.iter().flatten().enumerate();
    let operations = webhooks.flat_map(|(index, webhook)| {
        [
            json!({ "op": "test", "path": format!("/webhooks/{index}/name"), "value": webhook.name }),
            json!({ "op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle }),
        ]
    });
    let patch = json_patch(operations.collect())?;
    let api = Api::<MutatingWebhookConfiguration>::all(client.clone());
    gone_is_fine(api.patch(&configuration.name_any(), &PatchParams::default(), &patch).await.map(|_| ()))
}

fn json_patch(operations: serde_json::Value) -> Result<Patch<()>, kube::Error> {
    serde_json::from_value(operations).map(Patch::Json).map_err(kube::Error::SerdeError)
}

/// Creates or replaces the Lease; a conflict means that another was faster.
pub(super) async fn put_lease(api: &Api<Lease>, name: &str, lease: &Lease) -> Result<(), kube::Error> {
    if lease.metadata.resource_version.is_none() {
        return api.create(&PostParams::default(), lease).await.map(|_| ());
    }
    replace_lease(api, name, lease).await
}

/// Replaces the Lease at the version that was read.
pub(super) async fn replace_lease(api: &Api<Lease>, name: &str, lease: &Lease) -> Result<(), kube::Error> {
    api.replace(name, &PostParams::default(), lease).await.map(|_| ())
}
