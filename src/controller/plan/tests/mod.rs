//! What is decided, told as stories: a world, a plan, the world after it.

mod archive;
mod check;
mod deletion;
mod effective;
mod eviction;
mod export;
mod import;
mod inventory;
mod lifecycle;
mod placement;
mod policy;
mod queue;
mod sizing;
mod storage;
mod trouble;
mod update;
mod usage;

use super::{Action, Met, Observed, Obstacle, Plan, Scene, decide, obstructed};
use crate::api::condition;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// One round: the plan, and the world after it.
fn round(observed: Observed) -> (Plan, Observed) {
    let plan = decide(&observed);
    let after = observed.after(&plan);
    (plan, after)
}

fn kinds(plan: &Plan) -> Vec<&'static str> {
    kinds_of(&plan.actions)
}

fn kinds_of(actions: &[Action]) -> Vec<&'static str> {
    let kind = |action: &Action| match action {
        Action::AddFinalizer => "AddFinalizer",
        Action::RemoveFinalizer => "RemoveFinalizer",
        Action::CreateClaim(_) => "CreateClaim",
        Action::DeleteClaim { .. } => "DeleteClaim",
        Action::SetClaimOwned { .. } => "SetClaimOwned",
        Action::GrowClaim { .. } => "GrowClaim",
        Action::CreateConfigMap(_) => "CreateConfigMap",
        Action::CreateEntry(_) => "CreateEntry",
        Action::CreateJob(_) => "CreateJob",
        Action::DeleteJob { .. } => "DeleteJob",
    };
    actions.iter().map(kind).collect()
}

/// The plan as it turns out when its first action meets this.
fn hindered(observed: &Observed, obstacle: Obstacle) -> Plan {
    let plan = decide(observed);
    let action = plan.actions.first().unwrap_or(&Action::RemoveFinalizer);
    obstructed(observed, &[Met { action, obstacle }])
}

/// What a plan does to Jobs, as the next round sees it.
fn jobs_after(scene: &mut Scene, actions: &[Action], now: Timestamp) {
    for action in actions {
        match action {
            Action::CreateJob(job) => {
                let mut job = (**job).clone();
                job.metadata.uid = Some("uid-job".into());
                job.metadata.creation_timestamp = Some(Time(now));
                scene.jobs.push(job);
            }
            Action::DeleteJob { name, .. } => scene.jobs.retain(|job| job.metadata.name.as_ref() != Some(name)),
            _ => {}
        }
    }
}

fn ready_reason(plan: &Plan) -> &str {
    &plan.status.conditions.iter().find(|condition| condition.type_ == condition::READY).unwrap().reason
}

fn created_job(plan: &Plan) -> String {
    let job = plan.actions.iter().find_map(|action| match action {
        Action::CreateJob(job) => job.metadata.name.clone(),
        _ => None,
    });
    job.expect("a Job is created")
}
