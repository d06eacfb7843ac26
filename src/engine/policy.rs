//! What a task's policy says of repos and files. Pure.

use super::select::weights_format;
use crate::format::task::{Policy, Weights};
use crate::hub::Listed;
use crate::ident::{Reason, RepoId};

/// What besides weights of `Pytorch` is a pickle, or holds one: loading it runs code.
const PICKLES: [&str; 9] = ["pkl", "pickle", "ckpt", "joblib", "dill", "pdparams", "pdopt", "mar", "nemo"];
/// So many of the files that are not allowed are named.
const NAMED_MAX: usize = 3;

/// Why something may not be kept.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The repo.
    #[error("{0}: ask for another model, or have the policy changed")]
    Repo(String),
    /// All the weights that there are, or some of an archive, which is taken whole.
    #[error("{what} {files}, which {origin} does not allow: {allowed}; {next}")]
    Weights {
        /// What has them.
        what: String,
        /// The files.
        files: String,
        /// Who says so.
        origin: String,
        /// What is allowed.
        allowed: String,
        /// What to do.
        next: &'static str,
    },
}

impl PolicyError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Repo(_) | Self::Weights { .. } => Reason::PolicyDenied,
        }
    }
}

/// The format that a file counts as: by its name, whatever the case. A pickle counts as `Pytorch`.
fn format_of(path: &str) -> Option<Weights> {
    let path = path.to_ascii_lowercase();
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    let is_pickle = ending.is_some_and(|ending| PICKLES.contains(&ending));
    weights_format(&path).or(is_pickle.then_some(Weights::Pytorch))
}

/// Whether a file may be kept.
fn allows(policy: &Policy, path: &str) -> bool {
    format_of(path).is_none_or(|format| policy.allows(format))
}

/// Refuses a repo.
pub(super) fn check_repo(policy: Option<&Policy>, repo: &RepoId) -> Result<(), PolicyError> {
    match policy.and_then(|policy| policy.refuses_repo(repo)) {
        Some(why) => Err(PolicyError::Repo(why)),
        None => Ok(()),
    }
}

/// Of chosen files those that may be kept; an error where weights were chosen and none of them may.
pub(super) fn restrict(chosen: Vec<Listed>, policy: &Policy) -> Result<Vec<Listed>, PolicyError> {
    let has_weights = |files: &[Listed]| files.iter().any(|file| format_of(&file.path).is_some());
    let (allowed, denied): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|file| allows(policy, &file.path));
    if !denied.is_empty() && !has_weights(&allowed) {
        let denied = denied.iter().map(|file| file.path.as_str());
        return Err(weights(
            policy,
            "the only weights of the model are",
            denied,
            "ask for another model, or have the policy changed",
        ));
    }
    Ok(allowed)
}

/// Refuses a model that is taken whole, where some of its files may not be kept.
pub(super) fn check_files<'a>(
    policy: Option<&Policy>,
    what: &str,
    files: impl Iterator<Item = &'a str>,
) -> Result<(), PolicyError> {
    let Some(policy) = policy else { return Ok(()) };
    let mut denied = files.filter(|path| !allows(policy, path)).peekable();
    if denied.peek().is_none() {
        return Ok(());
    }
    let what = format!("{what} holds");
    Err(weights(policy, &what, denied, "pack the model without them, or have the policy changed"))
}

fn weights<'a>(policy: &Policy, what: &str, denied: impl Iterator<Item = &'a str>, next: &'static str) -> PolicyError {
    let denied: Vec<_> = denied.collect();
    let rest = denied.len().saturating_sub(NAMED_MAX);
    let mut files = denied.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    if rest > 0 {
        files = format!("{files} and {rest} more");
    }
    PolicyError::Weights {
        what: what.to_owned(),
        files,
        origin: policy.origin.clone(),
        allowed: policy.weights_shown(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pickle_is_one_by_whatever_name() {
        for path in
            ["pytorch_model.bin", "a/B.BIN", "x.pt", "x.pth", "training_args.bin", "m.PKL", "m.ckpt", "a/b.joblib"]
        {
            assert_eq!(format_of(path), Some(Weights::Pytorch), "{path}");
        }
        for path in ["config.json", "vocab.txt", "README.md", "pytorch_model.bin.index.json", "pkl", ".gitattributes"] {
            assert_eq!(format_of(path), None, "{path}");
        }
        assert_eq!(format_of("model.SAFETENSORS"), Some(Weights::Safetensors));
    }
}
