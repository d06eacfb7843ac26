//! One writer at a time per (claim, subPath, repo): what stands in the way of a Job that is about to be created.

use super::attempt;
use crate::api::{annotation, label};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// The entry whose Job or Pod may write to the same repo as `job`, which is not created yet; `jobs` and `pods` are those of the
/// same volume, and the Jobs were seen before the Pods. The other Jobs of the job's own entry are no hindrance, but their
/// Pods are, unless the job says that they were given up.
pub fn hindrance(job: &Job, jobs: &[Job], pods: &[Pod]) -> Option<String> {
    let entry = job.labels().get(label::ENTRY_UID);
    // Until its end is recorded, nobody knows that what a Job published is another entry's.
    let removes = super::deletion::is_delete(job);
    let busy = jobs.iter().find(|other| {
        let is_at_work = attempt::is_unfinished(other) || removes && attempt::job_succeeded(other);
        same_repo(*other, job) && other.labels().get(label::ENTRY_UID) != entry && is_at_work
    });
    if let Some(busy) = busy {
        return Some(holder(busy));
    }
    // The Job may be there already: then its own Pods are no hindrance. A deleted one of the same name is another Job.
    let there = jobs
        .iter()
        .find(|other| other.metadata.name == job.metadata.name && other.metadata.deletion_timestamp.is_none());
    let uid = there.and_then(ResourceExt::uid);
    let is_its = |pod: &Pod| pod.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref());
    let given_up = job.annotations().get(annotation::GIVEN_UP).map(String::as_str).unwrap_or_default();
    let is_given_up = |pod: &Pod| given_up.split(',').any(|uid| Some(uid) == pod.metadata.uid.as_deref());
    // A Job that was deleted is gone before its Pod is.
    let pod =
        pods.iter().find(|pod| same_repo(*pod, job) && attempt::may_write(pod) && !is_its(pod) && !is_given_up(pod));
    let is_own = |pod: &Pod| pod.labels().get(label::ENTRY_UID) == entry;
    pod.map(|pod| if is_own(pod) { "an earlier worker of this entry".to_owned() } else { holder(pod) })
}

/// Whose a Job or a Pod is. Its own name would be another with each attempt, and the status written for it.
fn holder(object: &impl ResourceExt) -> String {
    format!("entry {:?}", object.labels().get(label::ENTRY).map(String::as_str).unwrap_or_default())
}

/// Whether two that write to one volume may write to one repo of it.
fn same_repo(one: &impl ResourceExt, other: &impl ResourceExt) -> bool {
    let (one, other) = (one.labels().get(label::WRITER), other.labels().get(label::WRITER));
    one == other || [one, other].into_iter().flatten().any(|writer| writer == label::ANY_REPO)
}
