//! What is served: repos, their revisions, and the files of each commit. Pure; filled by `folder` and `volume`.

use super::refusal::Refusal;
use super::root::Root;
use crate::ident::{Commit, FileDigest, GitBlobSha1, ModelRef, RelPath, RepoId, Revision, Sha256};
use sha1::Digest;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// One model as one folder or one entry of a volume offers it.
#[derive(Debug)]
pub(super) struct Offer {
    /// The repo, and the revision that it was asked for by.
    pub(super) model: ModelRef,
    /// The commit.
    pub(super) commit: Commit,
    /// Of two offers of the same revision the one with the higher rank counts: when it was downloaded.
    pub(super) rank: i64,
    /// What is said of the model.
    pub(super) card: Card,
    /// Its files.
    pub(super) files: BTreeMap<RelPath, Arc<ServedFile>>,
}

/// What the Hub says of a model beside its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) last_modified: Option<String>,
    pub(super) library_name: Option<String>,
    pub(super) pipeline_tag: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) languages: Vec<String>,
}

/// A file and what is promised of its bytes.
#[derive(Debug)]
pub(super) struct ServedFile {
    /// The folder that it is opened below.
    pub(super) root: Arc<Root>,
    /// Its place there.
    pub(super) place: PathBuf,
    /// The state in which it was hashed.
    pub(super) stamp: Stamp,
    /// What it hashes to: SHA-256 for a file in LFS, else git's.
    pub(super) digest: FileDigest,
}

/// The state of a file by which a later change is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
}

impl Stamp {
    pub(super) fn of(file: &std::fs::File) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { size: metadata.len(), modified: metadata.modified().ok() })
    }
}

/// The pointer that git keeps in the place of a file in LFS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointer {
    /// The digest of the file itself.
    pub(super) sha256: Sha256,
    /// The pointer's own digest.
    pub(super) oid: GitBlobSha1,
    /// The pointer's own size.
    pub(super) size: usize,
}

impl ServedFile {
    pub(super) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// The digest as an `ETag` has it, without quotes.
    pub(super) fn etag(&self) -> String {
        match self.digest {
            FileDigest::Sha256(digest) => digest.to_string(),
            FileDigest::GitBlob(digest) => digest.to_string(),
        }
    }

    /// The pointer, if the file is in LFS.
    pub(super) fn pointer(&self) -> Option<Pointer> {
        let FileDigest::Sha256(sha256) = self.digest else { return None };
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n", self.size());
        Some(Pointer { sha256, oid: git_object("blob", text.as_bytes()), size: text.len() })
    }

    /// The name of the file's blob in git.
    pub(super) fn oid(&self) -> GitBlobSha1 {
        match (self.digest, self.pointer()) {
            (FileDigest::GitBlob(oid), _) => oid,
            (FileDigest::Sha256(_), Some(pointer)) => pointer.oid,
            (FileDigest::Sha256(_), None) => git_object("blob", &[]),
        }
    }
}

/// The name of a git object.
pub(super) fn git_object(kind: &str, bytes: &[u8]) -> GitBlobSha1 {
    let hash = sha1::Sha1::new_with_prefix(format!("{kind} {}\0", bytes.len())).chain_update(bytes);
    GitBlobSha1::from_bytes(hash.finalize().into())
}

/// One commit of a repo.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) commit: Commit,
    pub(super) card: Card,
    pub(super) files: BTreeMap<RelPath, Arc<ServedFile>>,
}

/// One repo.
#[derive(Debug, Default)]
pub(super) struct Repo {
    snapshots: BTreeMap<Commit, Arc<Snapshot>>,
    revisions: BTreeMap<Revision, Commit>,
}

impl Repo {
    /// The named revisions, except those that are commits themselves.
    pub(super) fn revisions(&self) -> impl Iterator<Item = (&Revision, &Commit)> {
        self.revisions.iter()
    }
}

/// Everything that is served.
#[derive(Debug, Default)]
pub(super) struct Catalog(BTreeMap<RepoId, Repo>);

impl Catalog {
    /// Puts offers together: a revision means the offer with the highest rank, and a commit has the files of all its offers.
    pub(super) fn of<'a>(offers: impl IntoIterator<Item = &'a Offer>) -> Self {
        let mut offers: Vec<&Offer> = offers.into_iter().collect();
        // Stable, so that of equals the first given stays the first.
        offers.sort_by_key(|offer| std::cmp::Reverse(offer.rank));
        let mut catalog = Self::default();
        for offer in offers {
            let repo = catalog.0.entry(offer.model.repo.clone()).or_default();
            let revision = offer.model.revision_or_main();
            if revision.as_commit().is_none() {
                repo.revisions.entry(revision).or_insert(offer.commit);
            }
            repo.add(offer);
        }
        catalog
    }

    /// A repo.
    pub(super) fn repo(&self, id: &RepoId) -> Result<&Repo, Refusal> {
        self.0.get(id).ok_or_else(|| Refusal::RepoNotFound { id: id.to_string() })
    }

    /// A repo's files at a revision.
    pub(super) fn snapshot(&self, id: &RepoId, revision: &str) -> Result<&Arc<Snapshot>, Refusal> {
        let repo = self.repo(id)?;
        let commit = match revision.parse::<Commit>() {
            Ok(commit) => Some(commit),
            Err(_) => revision.parse::<Revision>().ok().and_then(|revision| repo.revisions.get(&revision).copied()),
        };
        commit
            .and_then(|commit| repo.snapshots.get(&commit))
            .ok_or_else(|| Refusal::RevisionNotFound { revision: revision.to_owned(), known: repo.names() })
    }

    /// How many repos.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Repo {
    fn add(&mut self, offer: &Offer) {
        let Some(known) = self.snapshots.get_mut(&offer.commit) else {
            let Offer { model: _, commit, rank: _, card, files } = offer;
            let snapshot = Snapshot { commit: *commit, card: card.clone(), files: files.clone() };
            self.snapshots.insert(*commit, Arc::new(snapshot));
            return;
        };
        let mut files = known.files.clone();
        for (path, file) in &offer.files {
            files.entry(path.clone()).or_insert_with(|| Arc::clone(file));
        }
        *known = Arc::new(Snapshot { commit: known.commit, card: known.card.clone(), files });
    }

    /// What a client could have asked for.
    fn names(&self) -> Vec<String> {
        let commits = self.snapshots.keys().map(ToString::to_string);
        self.revisions.keys().map(ToString::to_string).chain(commits).collect()
    }
}

impl Snapshot {
    /// A file.
    pub(super) fn file(&self, path: &str) -> Result<&Arc<ServedFile>, Refusal> {
        let found = path.parse::<RelPath>().ok().and_then(|path| self.files.get(&path));
        found.ok_or_else(|| Refusal::EntryNotFound { path: path.to_owned(), commit: self.commit })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn file(size: u64, digest: &str) -> Arc<ServedFile> {
        let digest = match digest.parse() {
            Ok(sha256) => FileDigest::Sha256(sha256),
            Err(_) => FileDigest::GitBlob(digest.parse().unwrap()),
        };
        let root = Arc::new(Root::open(&std::env::temp_dir()).unwrap());
        Arc::new(ServedFile { root, place: "x".into(), stamp: Stamp { size, modified: None }, digest })
    }

    pub(crate) const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    pub(crate) const SHA256: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

    fn offer(model: &str, commit: &str, rank: i64, files: &[&str]) -> Offer {
        Offer {
            model: format!("hf@{model}").parse::<crate::ident::ModelKey>().unwrap().model().clone(),
            commit: commit.repeat(40).parse().unwrap(),
            rank,
            card: Card::default(),
            files: files.iter().map(|path| (path.parse().unwrap(), file(6, GIT))).collect(),
        }
    }

    #[test]
    fn a_pointer_is_what_git_lfs_writes() {
        // `git lfs pointer` and `git hash-object` of the seed model's weights.
        let pointer = file(90_868_376, SHA256).pointer().unwrap();
        assert_eq!(pointer.size, 133);
        assert_eq!(pointer.oid, file(90_868_376, SHA256).oid());
        assert_eq!(file(6, GIT).pointer(), None);
    }

    #[test]
    fn the_newest_download_of_a_revision_counts() {
        let offers = [offer("a/b", "1", 5, &["x"]), offer("a/b@main", "2", 9, &["x"]), offer("a/b@v1", "1", 1, &["y"])];
        let catalog = Catalog::of(&offers);
        let repo = "a/b".parse().unwrap();
        let commit = |revision: &str| catalog.snapshot(&repo, revision).unwrap().commit.to_string();
        assert_eq!(commit("main"), "2".repeat(40));
        assert_eq!(commit("v1"), "1".repeat(40));
        // Both entries of one commit, whoever asks.
        assert_eq!(catalog.snapshot(&repo, "v1").unwrap().files.len(), 2);
    }

    #[test]
    fn what_is_not_there_has_its_own_refusal() {
        let catalog = Catalog::of(&[offer("a/b", "1", 0, &["x"])]);
        let repo: RepoId = "a/b".parse().unwrap();
        assert!(matches!(catalog.repo(&"a/c".parse().unwrap()), Err(Refusal::RepoNotFound { .. })));
        for revision in ["v2", &"2".repeat(40), "../main", ""] {
            assert!(matches!(catalog.snapshot(&repo, revision), Err(Refusal::RevisionNotFound { .. })), "{revision}");
        }
        let snapshot = catalog.snapshot(&repo, "main").unwrap();
        for path in ["y", "../x", "/x", "", "x/"] {
            assert!(matches!(snapshot.file(path), Err(Refusal::EntryNotFound { .. })), "{path}");
        }
        assert!(snapshot.file("x").is_ok());
    }
}
