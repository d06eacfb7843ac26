//! A look at a volume: an inventory of it is made or asked to look again, and its end is waited for.

use super::{KubectlError, Session, write};
use crate::api::inventory::{InventoryPhase, ModelCacheInventory, ModelCacheInventorySpec};
use crate::api::{ModelCacheInventoryStatus, condition};
use crate::ident::{Reason, hex};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How often the inventory is asked for its end.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The longest part of a claim's name in the name of its inventory, in bytes.
const NAME_MAX_BYTES: usize = 40;

impl Session {
    /// What is on a volume now. `tell` hears what is awaited, whenever that changes.
    pub async fn look(
        &self,
        claim: &str,
        sub_path: Option<&str>,
        mut tell: impl FnMut(&str),
    ) -> Result<ModelCacheInventoryStatus, KubectlError> {
        let api = Api::<ModelCacheInventory>::namespaced(self.client.clone(), &self.namespace);
        let doing = format!("read the ModelCacheInventories of namespace {:?}", self.namespace);
        let all = api.list(&ListParams::default()).await.map_err(|error| KubectlError::api(&doing, error))?;
        let of_it =
            |one: &ModelCacheInventory| one.spec.claim_name == claim && one.spec.sub_path.as_deref() == sub_path;
        let word = jiff::Timestamp::now().to_string();
        let there = all.items.into_iter().find(of_it).map(|there| there.name_any());
        let (name, asked) = if let Some(name) = there {
            let asked = write::retry::<ModelCacheInventory>(&self.client, &self.namespace, &name, &word).await;
            let doing = format!("ask the ModelCacheInventory {name:?} to look again");
            asked.map_err(|error| KubectlError::api(&doing, error))?;
            (name, Some(word))
        } else {
            let made = write::create(&self.client, &self.namespace, &inventory_of(claim, sub_path)).await;
            let doing = format!("create a ModelCacheInventory of claim {claim:?}");
            (made.map_err(|error| KubectlError::api(&doing, error))?.name_any(), None)
        };
        let mut told = String::new();
        loop {
            let inventory = api.get(&name).await.map_err(|error| KubectlError::api(&doing, error))?;
            let status = inventory.status.unwrap_or_default();
            match end(&status, asked.as_deref()) {
                End::Listed => return Ok(status),
                End::Failed(reason, message) => return Err(KubectlError::Inventory { reason, message }),
                End::Awaited(what) if what != told => {
                    tell(&what);
                    told = what;
                }
                End::Awaited(_) => {}
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

fn inventory_of(claim: &str, sub_path: Option<&str>) -> ModelCacheInventory {
    let spec = ModelCacheInventorySpec {
        claim_name: claim.to_owned(),
        sub_path: sub_path.map(str::to_owned),
        ..ModelCacheInventorySpec::default()
    };
    ModelCacheInventory::new(&name_of(claim, sub_path), spec)
}

/// How a look stands.
#[derive(Debug, PartialEq)]
enum End {
    Listed,
    Failed(Reason, String),
    Awaited(String),
}

fn end(status: &ModelCacheInventoryStatus, asked: Option<&str>) -> End {
    let acted = status.attempts.as_ref().and_then(|attempts| attempts.last_retry.as_deref());
    let said = status.conditions.iter().find(|said| said.type_ == condition::COMPLETE);
    let Some(Condition { reason, message, .. }) = said.filter(|_| asked.is_none() || acted == asked) else {
        return End::Awaited("waits for the operator".to_owned());
    };
    match status.phase {
        Some(InventoryPhase::Complete) => End::Listed,
        Some(InventoryPhase::Failed) => {
            End::Failed(Reason::of_name(reason).unwrap_or(Reason::Conflict), message.clone())
        }
        _ => End::Awaited(format!("{reason}: {message}")),
    }
}

/// The name of the inventory of a volume.
fn name_of(claim: &str, sub_path: Option<&str>) -> String {
    let mut name: String = claim.chars().take(NAME_MAX_BYTES).collect();
    if claim.len() > NAME_MAX_BYTES || sub_path.is_some() {
        let digest = Sha256::digest(format!("{claim}\n{}", sub_path.unwrap_or_default()));
        name = format!("{}-{}", name.trim_end_matches(['-', '.']), hex(&digest[..4]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::AttemptsStatus;
    use serde_json::json;

    #[test]
    fn only_an_end_of_what_was_asked_for_counts() {
        let mut status = ModelCacheInventoryStatus::default();
        assert!(matches!(end(&status, None), End::Awaited(_)));
        let said = json!({"type": "Complete", "status": "True", "reason": "Listed", "message": "all of it", "lastTransitionTime": "2026-11-24T10:00:00Z"});
        status.conditions = vec![serde_json::from_value(said).unwrap()];
        status.phase = Some(InventoryPhase::Complete);
        assert_eq!(end(&status, None), End::Listed);
        assert!(matches!(end(&status, Some("now")), End::Awaited(_)), "that was an earlier look");
        status.attempts = Some(AttemptsStatus { last_retry: Some("now".into()), ..AttemptsStatus::default() });
        assert_eq!(end(&status, Some("now")), End::Listed);
        status.phase = Some(InventoryPhase::Failed);
        status.conditions[0].reason = "FileNotFound".into();
        assert_eq!(end(&status, Some("now")), End::Failed(Reason::FileNotFound, "all of it".into()));
    }

    #[test]
    fn each_folder_of_a_claim_has_an_inventory_of_its_own() {
        assert_eq!(name_of("models", None), "models");
        let names = [name_of("models", Some("a")), name_of("models", Some("b")), name_of(&"m".repeat(253), None)];
        assert!(names.iter().all(|name| name.len() <= 63) && names[0] != names[1], "{names:?}");
    }
}
