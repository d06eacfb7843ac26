//! Which of a model's files are kept (design 5). Pure.

use super::policy::{self, PolicyError};
use crate::format::task::{FileChoice, Policy, Weights};
use crate::hub::Listed;
use crate::ident::{Glob, Reason};

/// The formats of weights, best first: `Auto` takes the first that a model has.
const FORMATS: [Weights; 7] = [
    Weights::Safetensors,
    Weights::Pytorch,
    Weights::Gguf,
    Weights::Onnx,
    Weights::Tensorflow,
    Weights::Flax,
    Weights::Rust,
];

/// Why no file is left.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The repo is empty.
    #[error("the repo has no files at this revision: choose another revision")]
    Empty,
    /// The format that was asked for is not there.
    #[error("the repo has no {wanted} weights (it has {present}): choose other weights")]
    NoSuchWeights {
        /// What was asked for.
        wanted: String,
        /// What there is.
        present: String,
    },
    /// What is left of the weights is not allowed.
    #[error(transparent)]
    Denied(PolicyError),
    /// The patterns leave nothing.
    #[error(
        "the choice of files leaves none of {listed} (weights {weights:?}, include {include:?}, exclude {exclude:?}): change the patterns"
    )]
    NothingLeft {
        /// How many files the repo has.
        listed: usize,
        /// The choice.
        weights: Weights,
        /// The choice.
        include: Vec<String>,
        /// The choice.
        exclude: Vec<String>,
    },
}

impl SelectError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Denied(error) => error.reason(),
            Self::Empty | Self::NoSuchWeights { .. } | Self::NothingLeft { .. } => Reason::FileNotFound,
        }
    }
}

/// The format of a file of weights; none if it is no weights.
pub fn weights_format(path: &str) -> Option<Weights> {
    let name = path.rsplit('/').next().unwrap_or(path);
    // The tensors of a large ONNX model lie beside it, and are of no use to anybody else.
    if name.ends_with(".onnx_data") || name.ends_with(".onnx.data") {
        return Some(Weights::Onnx);
    }
    match name.rsplit_once('.')?.1 {
        "safetensors" => Some(Weights::Safetensors),
        "bin" | "pt" | "pth" => Some(Weights::Pytorch),
        "gguf" => Some(Weights::Gguf),
        "onnx" => Some(Weights::Onnx),
        "h5" => Some(Weights::Tensorflow),
        "msgpack" => Some(Weights::Flax),
        "ot" => Some(Weights::Rust),
        _ => None,
    }
}

/// Chooses files from the Hub's listing, in its order. Weights that the policy does not allow are left out.
pub fn select(files: Vec<Listed>, choice: &FileChoice, policy: Option<&Policy>) -> Result<Vec<Listed>, SelectError> {
    let FileChoice { weights, include, exclude } = choice;
    let listed = files.len();
    if listed == 0 {
        return Err(SelectError::Empty);
    }
    let present: Vec<Weights> =
        FORMATS.into_iter().filter(|format| files.iter().any(|f| weights_format(&f.path) == Some(*format))).collect();
    let kept_format = match weights {
        Weights::All => None,
        Weights::Auto => {
            let is_allowed = |format: &&Weights| policy.is_none_or(|policy| policy.allows(**format));
            present.iter().find(is_allowed).or(present.first()).copied()
        }
        one if present.contains(one) => Some(*one),
        one => {
            let present: Vec<String> = present.iter().map(|format| format!("{format:?}")).collect();
            let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
            return Err(SelectError::NoSuchWeights { wanted: format!("{one:?}"), present });
        }
    };
    let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect::<Vec<_>>();
    let (allow, deny) = (globs(include), globs(exclude));
    let keeps = |file: &Listed| {
        let format = weights_format(&file.path);
        (*weights == Weights::All || format.is_none() || format == kept_format)
            && (allow.is_empty() || allow.iter().any(|glob| glob.matches(&file.path)))
            && !deny.iter().any(|glob| glob.matches(&file.path))
    };
    let mut left: Vec<Listed> = files.into_iter().filter(keeps).collect();
    if let Some(policy) = policy {
        left = policy::restrict(left, policy).map_err(SelectError::Denied)?;
    }
    if left.is_empty() {
        let (include, exclude) = (include.clone(), exclude.clone());
        return Err(SelectError::NothingLeft { listed, weights: *weights, include, exclude });
    }
    Ok(left)
}

#[cfg(test)]
mod tests;
