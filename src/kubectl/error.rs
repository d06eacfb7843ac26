//! Why a command did not do what it was told.

use crate::format::outcome::{Failed, MESSAGE_MAX_BYTES, shorten};
use crate::ident::Reason;

/// Why a command did not do what it was told. Each message names the thing, the cause and the next step.
#[derive(Debug, thiserror::Error)]
pub enum KubectlError {
    /// No way to a cluster.
    #[error("failed to find a cluster ({0}): set KUBECONFIG, or choose a context with `kubectl config use-context`")]
    Kubeconfig(#[source] kube::config::InferConfigError),
    /// The API server did not do it.
    #[error("failed to {doing}: {}", said(source))]
    Api {
        /// What was tried.
        doing: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The operator could not look at the volume.
    #[error("{message}")]
    Inventory {
        /// Why, in a word.
        reason: Reason,
        /// Why, in a sentence.
        message: String,
    },
    /// A model that is not there.
    #[error("{model} is not on the volume: `kubectl modelcache usage` tells what is")]
    NotThere {
        /// The model.
        model: String,
    },
}

impl KubectlError {
    pub(super) fn api(doing: &str, source: kube::Error) -> Self {
        Self::Api { doing: doing.to_owned(), source: Box::new(source) }
    }

    /// The same as a worker would say it.
    pub fn failed(&self) -> Failed {
        let reason = match self {
            Self::Kubeconfig(_) => Reason::Interrupted,
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 401 || status.code == 403 => Reason::PermissionDenied,
                kube::Error::Api(status) if status.code == 409 => Reason::Conflict,
                kube::Error::Api(status) if (400..500).contains(&status.code) => Reason::PolicyDenied,
                _ => Reason::Interrupted,
            },
            Self::Inventory { reason, .. } => *reason,
            Self::NotThere { .. } => Reason::FileNotFound,
        };
        Failed { reason, message: shorten(&self.to_string(), MESSAGE_MAX_BYTES), retry_after_seconds: None }
    }
}

fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            format!("{} (are the CRDs of modelcache installed, and is the name right?)", status.message)
        }
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
