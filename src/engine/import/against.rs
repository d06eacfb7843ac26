//! The files of an archive against what a Hub has at the same commit.

use super::ImportError;
use super::assemble::Candidate;
use crate::engine::EngineError;
use crate::hub::{Hub, Listed};
use crate::ident::{Endpoint, FileDigest};
use std::collections::HashMap;

/// Every file of the archive must be the Hub's; the Hub may have more of them.
pub(super) async fn compare(
    hub: &Hub,
    endpoint: &Endpoint,
    candidate: &Candidate,
    origin: &str,
) -> Result<(), EngineError> {
    let model = &candidate.model;
    let revision = model.revision_or_main();
    let commit = if candidate.names_commit {
        candidate.commit
    } else {
        hub.resolve(&model.repo, &revision).await.map_err(EngineError::Hub)?.commit
    };
    let listing = hub.tree(&model.repo, &commit, &revision).await.map_err(EngineError::Hub)?;
    let listing: HashMap<String, Listed> = listing.into_iter().map(|file| (file.path.clone(), file)).collect();
    for (path, kept) in &candidate.files {
        let wrong = |what: String| {
            let (origin, path, endpoint) = (origin.to_owned(), path.to_string(), endpoint.to_string());
            Err(EngineError::Import(ImportError::Against { origin, path, what, endpoint }))
        };
        let Some(listed) = listing.get(path.as_str()) else {
            return wrong(format!("is not among the files at commit {commit}"));
        };
        // Git's digest and the plain one were made in the same pass.
        let found = match listed.digest {
            FileDigest::Sha256(_) => FileDigest::Sha256(kept.hashed.sha256),
            FileDigest::GitBlob(_) => kept.hashed.digest,
        };
        if found != listed.digest {
            return wrong(format!("is {found} and not the {} at commit {commit}", listed.digest));
        }
    }
    Ok(())
}
