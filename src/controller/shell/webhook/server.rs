//! What is answered.

use super::Surroundings;
use super::tls::{Served, TlsListener};
use crate::api::{HubConnection, ModelCacheEntry, annotation};
use crate::controller::config::Config;
use crate::controller::plan::inject::{Admission, admit, is_unsure};
use crate::controller::plan::{ConnectionSight, room, warnings};
use crate::controller::shell::known::Watches;
use crate::controller::shell::metrics::Metrics;
use crate::controller::shell::reconcile;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use json_patch::Patch;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A Pod has 1.5 MiB at most, and a request holds it once.
const BODY_MAX_BYTES: usize = 4 << 20;
/// Until nobody sends to a Pod any more that is being deleted.
const LINGER: Duration = Duration::from_secs(3);

/// How long a question to the API server may take. Then what is known must do.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

struct Asked {
    client: Client,
    watches: Watches,
    config: Config,
    metrics: Arc<Metrics>,
}

/// Answers until a moment after `stop`: the cluster goes on sending for as long as it takes to tell every node.
pub(super) async fn serve(tcp: TcpListener, served: Arc<Served>, around: &Surroundings, stop: CancellationToken) {
    let over = CancellationToken::new();
    let listener = match TlsListener::start(tcp, served, over.clone()) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the webhook does not listen");
            return;
        }
    };
    let asked = Asked {
        client: around.client.clone(),
        watches: around.watches.clone(),
        config: around.config.clone(),
        metrics: Arc::clone(&around.metrics),
    };
    let router = Router::new()
        .route("/inject", post(inject))
        .route("/entry", post(entry))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(Arc::new(asked));
    let lingers = async move {
        stop.cancelled().await;
        tokio::time::sleep(LINGER).await;
        over.cancel();
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(lingers).await {
        tracing::error!(error = &error as &dyn std::error::Error, "the webhook ended");
    }
}

type Answer = Result<Json<AdmissionReview<DynamicObject>>, StatusCode>;

async fn inject(State(asked): State<Arc<Asked>>, Json(review): Json<AdmissionReview<Pod>>) -> Answer {
    let begun = Instant::now();
    let request: AdmissionRequest<Pod> = review.try_into().map_err(|_| StatusCode::BAD_REQUEST)?;
    let (outcome, response) = answer(&asked, &request).await;
    asked.metrics.webhook_took(outcome, begun.elapsed());
    response.map(|response| Json(response.into_review())).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// What is answered about an entry that a person writes. It is never refused; whether it is one at all, the schema says.
async fn entry(State(asked): State<Arc<Asked>>, Json(review): Json<AdmissionReview<DynamicObject>>) -> Answer {
    let request: AdmissionRequest<DynamicObject> = review.try_into().map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut response = AdmissionResponse::from(&request);
    let Some(object) = request.object.clone() else { return Ok(Json(response.into_review())) };
    if let Ok(entry) = object.clone().try_parse::<ModelCacheEntry>() {
        response.warnings = warnings(&asked, request.namespace.as_deref().unwrap_or_default(), &entry).await;
    }
    if let Some(patch) = author(&request).and_then(|author| signed(&object, author)) {
        response = response.with_patch(patch).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    }
    Ok(Json(response.into_review()))
}

/// What a person is warned of, as far as it can be told in time.
async fn warnings(asked: &Asked, namespace: &str, entry: &ModelCacheEntry) -> Option<Vec<String>> {
    let around = async {
        let _turn = asked.watches.turn().await;
        let entries = Api::<ModelCacheEntry>::namespaced(asked.client.clone(), namespace);
        let claims = Api::<PersistentVolumeClaim>::namespaced(asked.client.clone(), namespace);
        let connections = Api::<HubConnection>::namespaced(asked.client.clone(), namespace);
        let all = ListParams::default();
        tokio::try_join!(entries.list(&all), claims.list_metadata(&all), connections.list(&all))
    };
    let (entries, claims, connections) = match tokio::time::timeout(ASK_TIMEOUT, around).await {
        Ok(Ok(around)) => around,
        Ok(Err(error)) => {
            tracing::warn!(error = reconcile::told(&error), "nobody was warned: a namespace was not listed");
            return None;
        }
        Err(_) => {
            tracing::warn!("nobody was warned: a namespace was not listed in time");
            return None;
        }
    };
    let named = entry.spec.connection_name();
    let of_name = |connection: &HubConnection| connection.name_any() == named.unwrap_or(room::DEFAULT_CONNECTION);
    let connection = ConnectionSight::of(named, connections.items.into_iter().find(of_name));
    let claims: BTreeSet<_> = claims.items.iter().map(ResourceExt::name_any).collect();
    let entries: Vec<_> = entries.items.iter().collect();
    let known =
        warnings::Known { connection: &connection, config: &asked.config, claims: Some(&claims), entries: &entries };
    let said = warnings::warnings(entry, &known).into_iter().map(|warning| format!("modelcache: {warning}"));
    Some(said.collect::<Vec<_>>()).filter(|said| !said.is_empty())
}

/// Who created an object: at its creation whoever asks, later whoever it says. A manifest does not know, and when it replaces the object
/// it takes nothing away.
fn author(request: &AdmissionRequest<DynamicObject>) -> Option<&str> {
    match request.operation {
        Operation::Create => request.user_info.username.as_deref(),
        Operation::Update => request.old_object.as_ref()?.annotations().get(annotation::CREATED_BY).map(String::as_str),
        Operation::Delete | Operation::Connect => None,
    }
}

/// The change that says who created an object, where it does not say so itself.
fn signed(object: &DynamicObject, author: &str) -> Option<Patch> {
    if object.annotations().contains_key(annotation::CREATED_BY) {
        return None;
    }
    let mut signed = object.clone();
    signed.annotations_mut().insert(annotation::CREATED_BY.to_owned(), author.to_owned());
    Some(json_patch::diff(&serde_json::to_value(object).ok()?, &serde_json::to_value(&signed).ok()?))
}

/// What is answered, and a word for it. A Pod is never refused.
async fn answer(asked: &Asked, request: &AdmissionRequest<Pod>) -> (&'static str, Option<AdmissionResponse>) {
    let mut response = AdmissionResponse::from(request);
    let Some(pod) = request.object.as_ref().filter(|_| request.operation == Operation::Create) else {
        return ("not_asked", Some(response));
    };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let mut known = asked.watches.of(namespace, &asked.config);
    // `kubectl apply` writes a connection and a Pod within milliseconds.
    if is_unsure(pod, &known) {
        let fresh = asked.watches.fresh(&asked.client, namespace, &asked.config);
        match tokio::time::timeout(ASK_TIMEOUT, fresh).await {
            Ok(Ok(fresh)) => known = fresh,
            Ok(Err(error)) => tracing::warn!(error = reconcile::told(&error), "a namespace's entries were not listed"),
            Err(_) => tracing::warn!("a namespace's entries were not listed in time"),
        }
    }
    match admit(pod, &known) {
        Admission::NotAsked => ("not_asked", Some(response)),
        Admission::Untouched(why) => {
            response.warnings = Some(vec![format!("modelcache: no models are mounted: {why}")]);
            ("untouched", Some(response))
        }
        Admission::Changed { patch, missing } => {
            let warnings: Vec<_> =
                missing.iter().map(|why| format!("modelcache: a model is not mounted: {why}")).collect();
            response.warnings = Some(warnings).filter(|all| !all.is_empty());
            ("changed", response.with_patch(patch).ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The entry as it is stored when this user asks for this.
    fn stored(operation: &str, old: Value, new: Value) -> Value {
        let object = |annotations: Value| match annotations {
            Value::Null => Value::Null,
            annotations => json!({"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCacheEntry",
                "metadata": {"name": "bert", "annotations": annotations}, "spec": {}}),
        };
        let kind = json!({"group": "modelcache.dev", "version": "v1alpha1", "kind": "ModelCacheEntry"});
        let review: AdmissionReview<DynamicObject> = serde_json::from_value(json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u", "kind": kind, "resource": {"group": "modelcache.dev", "version": "v1alpha1", "resource": "modelcacheentries"},
                "name": "bert", "operation": operation, "userInfo": {"username": "ada"}, "dryRun": false,
                "object": object(new), "oldObject": object(old)},
        }))
        .unwrap();
        let request: AdmissionRequest<DynamicObject> = review.try_into().unwrap();
        let new = request.object.clone().unwrap();
        let mut stored = json!(new);
        if let Some(patch) = author(&request).and_then(|author| signed(&new, author)) {
            json_patch::patch(&mut stored, &patch).unwrap();
        }
        stored["metadata"]["annotations"].clone()
    }

    #[test]
    fn an_entry_is_signed_once_and_a_manifest_that_replaces_it_takes_nothing_away() {
        let by = |user: &str| json!({"modelcache.dev/created-by": user});
        assert_eq!(
            stored("CREATE", Value::Null, json!({"a": "b"})),
            json!({"a": "b", "modelcache.dev/created-by": "ada"})
        );
        assert_eq!(stored("CREATE", Value::Null, by("bob")), by("bob"), "whether that may be, the policy says");
        assert_eq!(stored("UPDATE", by("bob"), json!({})), by("bob"));
        assert_eq!(stored("UPDATE", by("bob"), by("ada")), by("ada"), "what is said is not changed");
        assert_eq!(stored("UPDATE", json!({}), json!({})), json!({}), "nobody knows who it was");
    }
}
