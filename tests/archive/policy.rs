//! Archives under a policy: judged by the model that they name, and by every file.

use crate::build::Tar;
use crate::rig::Rig;
use modelcache::engine::progress::Progress;
use modelcache::engine::{self, EngineError, Finished, Settings};
use modelcache::format::task::{ArchivePlace, Import, MountedFile, Policy, Task, Weights, Work};
use modelcache::ident::Reason;
use std::path::Path;
use std::sync::Arc;

async fn import(rig: &Rig, archive: &Path, repos: &[&str], weights: &[Weights]) -> Result<Finished, EngineError> {
    let repos = repos.iter().map(|&glob| glob.to_owned()).collect();
    let policy = Policy { origin: "HubConnection \"default\"".into(), repos, weights: weights.to_vec() };
    let place = MountedFile { path: archive.to_owned(), origin: "a.tar in claim usb".into() };
    let import = Import { archive: ArchivePlace::File(place), sha256: None, expected: None, verify_against: None };
    let (policy, work) = (Some(policy), Work::Import(import));
    let task = Task { nonce: "n".into(), volume: rig.volume(), sub_path: None, policy, work };
    std::fs::create_dir_all(rig.volume()).unwrap();
    engine::run(&task, &Settings::default(), &Arc::new(Progress::default())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_allowed_is_not_published_wherever_its_metadata_is() {
    let first = Tar::seed().file("m/model/w.safetensors", b"weights").end();
    let last = Tar::new().file("m/model/config.json", b"{}").metadata().end();
    for bytes in [first, last] {
        let rig = Rig::new();
        let archive = rig.archive("a.tar", &bytes);
        let error = import(&rig, &archive, &["other/*"], &[]).await.unwrap_err();
        assert_eq!(error.reason(), Reason::PolicyDenied, "{error}");
        assert!(error.to_string().contains("org/tiny"), "{error}");
        assert!(!rig.entry().exists());
        import(&rig, &archive, &["org/*"], &[]).await.unwrap();
        assert!(rig.entry().exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pickle_is_enough_as_an_archive_is_taken_whole() {
    let rig = Rig::new();
    let bytes = Tar::seed().file("m/model/w.safetensors", b"weights").file("m/model/optimizer.pt", b"pickle").end();
    let archive = rig.archive("a.tar", &bytes);
    let error = import(&rig, &archive, &[], &[Weights::Safetensors]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::PolicyDenied);
    let message = error.to_string();
    assert!(message.contains("optimizer.pt") && message.contains("a.tar in claim usb"), "{message}");
    assert!(!rig.entry().exists());
    // With what it holds allowed it is published, and not taken for done under a narrower policy.
    import(&rig, &archive, &[], &[Weights::Safetensors, Weights::Pytorch]).await.unwrap();
    rig.assert_tidy();
    let error = import(&rig, &archive, &[], &[Weights::Safetensors]).await.unwrap_err();
    assert_eq!(error.reason(), Reason::PolicyDenied);
}
