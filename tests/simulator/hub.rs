//! A Hub and a folder of archives: what is true of them, and what is wrong with them for a while.

use modelcache::format::task::FileChoice;
use modelcache::ident::{Commit, ModelRef, Reason, RepoId};
use std::collections::BTreeMap;

/// The files of one commit: each name with what stands for its digest.
pub(crate) type Files = BTreeMap<&'static str, u64>;

/// The file names that there are. The last one is a weights file.
const NAMES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// A Hub.
#[derive(Debug)]
pub(crate) struct Hub {
    repos: BTreeMap<RepoId, Repo>,
    /// Why it answers nobody now.
    pub(crate) trouble: Option<Reason>,
    /// Whether it sends other bytes than it promises now.
    pub(crate) lies: bool,
}

#[derive(Debug)]
struct Repo {
    number: u64,
    commits: u64,
    /// Which commit each revision means.
    references: BTreeMap<&'static str, u64>,
    /// Why nobody gets it, until somebody mends that.
    refusal: Option<Reason>,
}

/// What an archive holds.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    pub(crate) model: ModelRef,
    pub(crate) commit: Commit,
    pub(crate) files: Files,
}

pub(crate) const REPOS: [&str; 3] = ["org/one", "org/two", "org/three"];

impl Hub {
    pub(crate) fn new() -> Self {
        let repo = |number: usize| Repo {
            number: number as u64,
            commits: 1,
            references: BTreeMap::from([("main", 0), ("v1", 0)]),
            refusal: None,
        };
        let repos = REPOS.iter().enumerate().map(|(number, name)| (name.parse().unwrap(), repo(number)));
        Self { repos: repos.collect(), trouble: None, lies: false }
    }

    /// A branch moves to a new commit.
    pub(crate) fn moves(&mut self, repo: &str) {
        let repo = self.repos.get_mut(&repo.parse::<RepoId>().unwrap()).unwrap();
        repo.references.insert("main", repo.commits);
        repo.commits += 1;
    }

    /// A repo is refused to everybody, or no longer.
    pub(crate) fn refuses(&mut self, repo: &str, refusal: Option<Reason>) {
        self.repos.get_mut(&repo.parse::<RepoId>().unwrap()).unwrap().refusal = refusal;
    }

    /// Nothing is wrong any more but what somebody would have to mend.
    pub(crate) fn calms_down(&mut self) {
        self.trouble = None;
        self.lies = false;
    }

    /// The commit and the chosen files of a model.
    pub(crate) fn resolve(&self, model: &ModelRef, choice: &FileChoice) -> Result<(Commit, Files), Reason> {
        if let Some(reason) = self.trouble {
            return Err(reason);
        }
        self.settled(model, choice)
    }

    /// The same on a day without trouble.
    pub(crate) fn settled(&self, model: &ModelRef, choice: &FileChoice) -> Result<(Commit, Files), Reason> {
        let repo = self.repos.get(&model.repo).ok_or(Reason::RepoNotFound)?;
        if let Some(reason) = repo.refusal {
            return Err(reason);
        }
        let revision = model.revision_or_main();
        let number = repo.references.get(revision.as_str()).ok_or(Reason::RevisionNotFound)?;
        let mut files = files(repo.number, *number);
        files.retain(|name, _| choice.include.is_empty() || choice.include.iter().any(|wanted| wanted == name));
        Ok((commit(repo.number, *number), files))
    }
}

/// The size of a file, in bytes: that of the weights is another one with each commit.
pub(crate) fn size(name: &str, digest: u64) -> u64 {
    if name == NAMES[2] { (700 + digest % 1000 / 10 % 3 * 500) << 20 } else { 1 << 20 }
}

/// The files of a commit. One of them is the same in all, and all are others in another repo.
fn files(repo: u64, number: u64) -> Files {
    let digest = |file: usize| (repo + 1) * 1000 + if file == 0 { 0 } else { number * 10 + file as u64 };
    NAMES.iter().enumerate().map(|(file, name)| (*name, digest(file))).collect()
}

/// What the files of a commit really are.
pub(crate) fn truth(repo: &RepoId, of: Commit) -> Files {
    let at = REPOS.iter().position(|name| *name == repo.as_str()).unwrap() as u64;
    let digits = of.to_string();
    files(at, digits[20..].parse().unwrap())
}

fn commit(repo: u64, number: u64) -> Commit {
    format!("{:020}{number:020}", repo + 1).parse().unwrap()
}

/// The archives of the claim that holds some, by path; one of them is broken.
pub(crate) fn archive(path: &str) -> Result<Archive, Reason> {
    let of = |repo: usize, revision: Option<&str>| Archive {
        model: ModelRef { repo: REPOS[repo].parse().unwrap(), revision: revision.map(|name| name.parse().unwrap()) },
        commit: commit(repo as u64, 0),
        files: files(repo as u64, 0),
    };
    match path {
        "one.tar" => Ok(of(0, None)),
        "two-v1.tar" => Ok(of(1, Some("v1"))),
        "broken.tar" => Err(Reason::ArchiveInvalid),
        _ => Err(Reason::ArchiveNotFound),
    }
}

pub(crate) const ARCHIVES: [&str; 4] = ["one.tar", "two-v1.tar", "broken.tar", "missing.tar"];
