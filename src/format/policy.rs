//! What a connection allows to be kept: the same words for the operator, which refuses before a Job, and for the worker.

use super::task::Weights;
use crate::ident::{Glob, RepoId};
use serde::{Deserialize, Serialize};

/// What may be kept, and who says so. An empty list allows everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Who says so, for messages: `HubConnection "default"`.
    pub origin: String,
    /// Globs of repos.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repos: Vec<String>,
    /// Formats of weights: neither `Auto` nor `All` is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<Weights>,
}

impl Policy {
    /// Why this repo may not be kept.
    pub fn refuses_repo(&self, repo: &RepoId) -> Option<String> {
        let is_allowed = self.repos.is_empty() || self.repos.iter().any(|glob| Glob::new(glob).matches(repo.as_str()));
        (!is_allowed).then(|| {
            format!(
                "{} does not allow the repo {repo}: its spec.allow.repos has {}",
                self.origin,
                self.repos.join(", ")
            )
        })
    }

    /// Why weights of this choice may not be kept, whatever the model has.
    pub fn refuses_weights(&self, wanted: Weights) -> Option<String> {
        let is_one = !matches!(wanted, Weights::Auto | Weights::All);
        (is_one && !self.allows(wanted))
            .then(|| format!("{} does not allow {wanted:?} weights: {}", self.origin, self.weights_shown()))
    }

    /// Whether weights of this format may be kept.
    pub fn allows(&self, format: Weights) -> bool {
        self.weights.is_empty() || self.weights.contains(&format)
    }

    /// Which weights are allowed, for messages.
    pub fn weights_shown(&self) -> String {
        let names: Vec<_> = self.weights.iter().map(|format| format!("{format:?}")).collect();
        format!("its spec.allow.weights has {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(repos: &[&str], weights: &[Weights]) -> Policy {
        let repos = repos.iter().map(|&glob| glob.to_owned()).collect();
        Policy { origin: "HubConnection \"a\"".into(), repos, weights: weights.to_vec() }
    }

    #[test]
    fn a_repo_is_allowed_by_any_of_the_globs() {
        let refused = |repos: &[&str], repo: &str| policy(repos, &[]).refuses_repo(&repo.parse().unwrap());
        for (repos, repo) in [
            (vec![], "org/name"),
            (vec!["org/*"], "org/name"),
            (vec!["other/*", "org/name"], "org/name"),
            (vec!["*"], "gpt2"),
            (vec!["org/bert-*"], "org/bert-base"),
        ] {
            assert_eq!(refused(&repos, repo), None, "{repos:?} {repo}");
        }
        for (repos, repo) in
            [(vec!["org/*"], "organisation/name"), (vec!["org/*"], "gpt2"), (vec!["Org/*"], "org/name")]
        {
            let said = refused(&repos, repo).unwrap();
            assert!(said.contains("HubConnection \"a\"") && said.contains(repo) && said.contains(repos[0]), "{said}");
        }
    }

    #[test]
    fn a_choice_of_weights_is_refused_only_where_it_names_another_format() {
        let only = policy(&[], &[Weights::Safetensors, Weights::Gguf]);
        assert_eq!(
            [Weights::Auto, Weights::All, Weights::Gguf].map(|one| only.refuses_weights(one)),
            [None, None, None]
        );
        assert!(only.refuses_weights(Weights::Pytorch).unwrap().contains("Safetensors, Gguf"));
        assert_eq!(policy(&[], &[]).refuses_weights(Weights::Pytorch), None);
    }
}
