//! What people ask for, and how they change their minds.

use super::dice::Dice;
use super::hub::{ARCHIVES, REPOS};
use super::people::{ARCHIVE_CLAIM, SHARED};
use modelcache::api::HubConnectionSpec;
use modelcache::api::entry::ReclaimPolicy;
use modelcache::api::{ModelCacheEntry, ModelCacheEntrySpec};
use serde_json::{Value, json};

/// A spec of an entry, as the API server lets it through.
pub(crate) fn entry(dice: &mut Dice) -> Value {
    let mut spec = json!({});
    let is_archive = dice.happens(200);
    if is_archive {
        let path = ARCHIVES[dice.below(ARCHIVES.len())];
        spec["source"] = json!({"archive": {"claimName": ARCHIVE_CLAIM, "path": path}});
        if dice.happens(500) {
            spec["repo"] = json!(dice.pick(&REPOS));
        }
    } else {
        spec["repo"] = json!(dice.pick(&REPOS));
        let revision = [None, Some("main"), Some("v1"), Some("gone")][dice.below(16).min(12) / 4];
        if let Some(revision) = revision {
            spec["revision"] = json!(revision);
        }
        if dice.happens(200) {
            spec["source"] = json!({"hub": {"connectionRef": {"name": "hub"}}});
        }
        if dice.happens(200) {
            spec["files"] = json!({"include": ["config.json"]});
        }
        if dice.happens(350) {
            spec["update"] = update(dice);
        }
    }
    if dice.happens(300) {
        let mut claim = json!({"storageClassName": dice.pick(&["fast", "late", "missing"])});
        if dice.happens(600) {
            claim["resources"] = json!({"requests": {"storage": dice.pick(&["1Gi", "2Gi", "4Gi"])}});
        }
        spec["storage"] = json!({"volumeClaimTemplate": {"spec": claim}});
    } else {
        spec["storage"] = json!({"claimName": SHARED[dice.below(6) / 5]});
        if dice.happens(200) {
            spec["storage"]["subPath"] = json!("team");
        }
    }
    if dice.happens(150) {
        spec["reclaimPolicy"] = json!("Retain");
    } else if dice.happens(200) {
        spec["retention"] = retention(dice);
    }
    spec
}

fn update(dice: &mut Dice) -> Value {
    let policy = dice.pick(&["Track", "Track", "Notify"]);
    let mut update = json!({"policy": policy, "interval": dice.pick(&["1m", "5m"])});
    if dice.happens(700) {
        update["keep"] = json!(dice.below(3));
    }
    update
}

fn retention(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => json!({"pinned": true}),
        1 => json!({"unusedFor": "20m"}),
        _ => json!({"unusedFor": "3m"}),
    }
}

/// A spec of a connection.
pub(crate) fn connection(dice: &mut Dice) -> HubConnectionSpec {
    let limits = [
        json!(null),
        json!({"maxUsed": "2Gi"}),
        json!({"maxUsed": "4Gi"}),
        json!({"minFree": "96Gi"}),
        json!({"unusedFor": "10m"}),
    ];
    let limits = &limits[dice.below(limits.len())];
    let spec = if limits.is_null() { json!({}) } else { json!({"cache": {"retention": limits}}) };
    serde_json::from_value(spec).unwrap()
}

/// Changes one of the fields that may be changed; gives its name.
pub(crate) fn change(entry: &mut ModelCacheEntry, dice: &mut Dice) -> &'static str {
    let is_archive = entry.spec.source.as_ref().is_some_and(|source| source.archive.is_some());
    let spec = &mut entry.spec;
    match dice.below(9) {
        0 => {
            spec.suspend = Some(spec.suspend != Some(true));
            "suspend"
        }
        1 => {
            let retain = spec.reclaim_policy.unwrap_or_default() == ReclaimPolicy::Delete;
            spec.reclaim_policy = Some(if retain { ReclaimPolicy::Retain } else { ReclaimPolicy::Delete });
            spec.retention = spec.retention.take().filter(|_| !retain);
            "reclaimPolicy"
        }
        2 | 3 => {
            let deadline = [None, Some(60), Some(3600)][dice.below(3)];
            spec.job.get_or_insert_default().active_deadline_seconds = deadline;
            "job"
        }
        4 | 5 if !is_archive => {
            let update = if dice.happens(300) { json!({"policy": "Pinned"}) } else { update(dice) };
            spec.update = Some(serde_json::from_value(update).unwrap());
            "update"
        }
        6 if spec.reclaim_policy != Some(ReclaimPolicy::Retain) => {
            spec.retention = dice.happens(700).then(|| serde_json::from_value(retention(dice)).unwrap());
            "retention"
        }
        _ => raise(spec),
    }
}

/// The claim is to be larger.
fn raise(spec: &mut ModelCacheEntrySpec) -> &'static str {
    let template = spec.storage.as_mut().and_then(|storage| storage.volume_claim_template.as_mut());
    let requests = template.and_then(|template| template.spec.resources.as_mut()?.requests.as_mut());
    if let Some(size) = requests.and_then(|requests| requests.get_mut("storage")) {
        let gi: u32 = size.0.trim_end_matches("Gi").parse().unwrap();
        size.0 = format!("{}Gi", gi + 1);
    }
    "the claim's size"
}
