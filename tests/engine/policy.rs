//! What a connection does not allow never gets onto the volume.

use crate::rig::{Rig, chosen};
use modelcache::format::task::{Policy, Weights};
use modelcache::ident::Reason;

fn policy(repos: &[&str], weights: &[Weights]) -> Policy {
    let repos = repos.iter().map(|&glob| glob.to_owned()).collect();
    Policy { origin: "HubConnection \"default\"".into(), repos, weights: weights.to_vec() }
}

#[tokio::test]
async fn a_repo_that_is_not_allowed_costs_the_hub_no_request() {
    let mut rig = Rig::new().await;
    rig.task.policy = Some(policy(&["other/*"], &[]));
    let message = rig.fails(Reason::PolicyDenied).await;
    assert!(message.contains("org/tiny") && message.contains("HubConnection \"default\""), "{message}");
    assert_eq!(rig.hub().seen().len(), 0);
    rig.task.policy = Some(policy(&["other/*", "org/*"], &[]));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn formats_that_are_not_allowed_are_left_out_even_of_all() {
    let mut rig = Rig::new().await;
    rig.download().files.weights = Weights::All;
    rig.task.policy = Some(policy(&[], &[Weights::Safetensors]));
    rig.run().await.unwrap();
    rig.assert_published(&chosen());
}

#[tokio::test]
async fn a_model_whose_weights_are_all_forbidden_is_denied_and_nothing_is_fetched() {
    let mut rig = Rig::new().await;
    rig.task.policy = Some(policy(&[], &[Weights::Gguf, Weights::Onnx]));
    let message = rig.fails(Reason::PolicyDenied).await;
    assert!(message.contains("model.safetensors") && message.contains("Gguf, Onnx"), "{message}");
    assert_eq!(rig.hub().requests_for("/resolve/").len(), 0);
}

#[tokio::test]
async fn what_was_allowed_once_is_not_taken_for_done() {
    let mut rig = Rig::new().await;
    rig.download().files.weights = Weights::All;
    rig.run().await.unwrap();
    assert!(rig.entry().join("model/pytorch_model.bin").exists());
    rig.task.policy = Some(policy(&[], &[Weights::Safetensors]));
    rig.hub().forget();
    rig.run().await.unwrap();
    let sums = std::fs::read_to_string(rig.entry().join("SHA256SUMS")).unwrap();
    assert!(!sums.contains("pytorch_model.bin") && sums.contains("model.safetensors"), "{sums}");
    assert_eq!(rig.hub().requests_for("/resolve/").len(), 0, "what stays is there already");
}
