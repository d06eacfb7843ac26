//! From the Hub's listing to what will be on the volume. Pure: all that a hostile listing could do ends here.

use crate::format::archive::folded;
use crate::format::layout;
use crate::format::sums::SUMS_MAX_BYTES;
use crate::hub::Listed;
use crate::ident::{COMPONENT_MAX_BYTES, Commit, FileDigest, InvalidIdent, ModelRef, Reason, RelPath, hex};
use sha2::Digest;
use std::collections::{HashMap, HashSet};

/// What a line of `SHA256SUMS` holds beside the path: 64 digits, two spaces, `model/`, a line feed.
const SUMS_LINE_BYTES: usize = 73;

/// One file of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its place below the model's folder.
    pub path: RelPath,
    /// Its size in bytes.
    pub size: u64,
    /// What its bytes must hash to.
    pub digest: FileDigest,
}

/// What will be on the volume, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The model.
    pub model: ModelRef,
    /// The commit.
    pub commit: Commit,
    /// The files, sorted by path.
    pub files: Vec<PlannedFile>,
    /// The sum of their sizes.
    pub bytes: u64,
}

/// Why a listing cannot become files.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A name that could leave its folder, or deceive.
    #[error("the Hub lists a file with a dangerous name: {0}: exclude it, or have the repo repaired")]
    Unsafe(#[source] InvalidIdent),
    /// One name for two files.
    #[error("the Hub lists {path:?} twice: have the repo or the mirror repaired")]
    Twice {
        /// The name.
        path: RelPath,
    },
    /// Two names that are one on this volume.
    #[error(
        "{path:?} and {other:?} are one file on this volume, which ignores case: exclude one, or use another volume"
    )]
    Collides {
        /// One name.
        path: RelPath,
        /// The other.
        other: RelPath,
    },
    /// A name that is a file and a folder.
    #[error("the Hub lists {path:?} as a file and as a folder: exclude one, or have the repo repaired")]
    FileAndFolder {
        /// The name.
        path: String,
    },
    /// A folder name that no file system takes.
    #[error(
        "the folder name of {model} would be {length} bytes long, more than 255: use a shorter revision, such as the commit"
    )]
    EntryName {
        /// The model.
        model: ModelRef,
        /// The name's length.
        length: usize,
    },
    /// More names than a list of checksums may have.
    #[error(
        "the names of the chosen files are {bytes} bytes long in SHA256SUMS, more than {SUMS_MAX_BYTES}: choose fewer files"
    )]
    TooMany {
        /// The list's length.
        bytes: usize,
    },
    /// Sizes that no disk has.
    #[error("the sizes that the Hub lists are impossible: have the repo or the mirror repaired")]
    Sizes,
}

impl PlanError {
    /// The reason a person sees.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unsafe(_)
            | Self::Twice { .. }
            | Self::Collides { .. }
            | Self::FileAndFolder { .. }
            | Self::TooMany { .. }
            | Self::EntryName { .. } => Reason::UnsafePath,
            Self::Sizes => Reason::HubUnavailable,
        }
    }
}

impl Plan {
    /// Checks the chosen files. `ignores_case` says how the volume tells names apart.
    pub fn new(model: ModelRef, commit: Commit, chosen: Vec<Listed>, ignores_case: bool) -> Result<Self, PlanError> {
        let length = model.entry_name().as_str().len();
        if length > COMPONENT_MAX_BYTES {
            return Err(PlanError::EntryName { model, length });
        }
        let mut files = Vec::with_capacity(chosen.len());
        for Listed { path, size, digest } in chosen {
            let path = path.parse::<RelPath>().map_err(PlanError::Unsafe)?;
            files.push(PlannedFile { path, size, digest });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        // Checked now, as a list that could not be read again would make the entry unreadable.
        let bytes = files.iter().map(|file| file.path.as_str().len() + SUMS_LINE_BYTES).sum();
        if bytes > SUMS_MAX_BYTES {
            return Err(PlanError::TooMany { bytes });
        }
        check_names(&files, ignores_case)?;
        // File systems count sizes in signed 64 bits.
        let total = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size));
        let bytes = total.filter(|total| i64::try_from(*total).is_ok()).ok_or(PlanError::Sizes)?;
        Ok(Self { model, commit, files, bytes })
    }

    /// The name of the folder of partial work. It begins with the entry, so that one plan finds its forerunners'.
    pub fn staging_id(&self) -> String {
        let mut hash = sha2::Sha256::new();
        hash.update(format!("{} {}\n", self.model, self.commit));
        for file in &self.files {
            hash.update(format!("{} {} {}\n", file.digest, file.size, file.path));
        }
        format!("{}{}", layout::staging_prefix(&self.model), hex(&hash.finalize()[..16]))
    }
}

fn check_names(files: &[PlannedFile], ignores_case: bool) -> Result<(), PlanError> {
    let form = |path: &RelPath| folded(path, ignores_case);
    let mut names: HashMap<String, &RelPath> = HashMap::with_capacity(files.len());
    let mut folders: HashSet<String> = HashSet::new();
    for PlannedFile { path, .. } in files {
        let name = form(path);
        let mut end = name.len();
        while let Some(slash) = name[..end].rfind('/') {
            if !folders.insert(name[..slash].to_owned()) {
                break;
            }
            end = slash;
        }
        match names.insert(name, path) {
            Some(other) if other == path => return Err(PlanError::Twice { path: path.clone() }),
            Some(other) => return Err(PlanError::Collides { path: path.clone(), other: other.clone() }),
            None => {}
        }
    }
    match names.keys().find(|name| folders.contains(*name)) {
        Some(path) => Err(PlanError::FileAndFolder { path: path.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::GitBlobSha1;

    fn plan(names: &[&str], ignores_case: bool) -> Result<Plan, PlanError> {
        let digest = FileDigest::GitBlob(GitBlobSha1::from_bytes([0; 20]));
        let chosen = names.iter().map(|name| Listed { path: (*name).into(), size: 1, digest }).collect();
        let model = ModelRef { repo: "org/name".parse().unwrap(), revision: None };
        Plan::new(model, "7dbbc90392e2f80f3d3c277d6e90027e55de9125".parse().unwrap(), chosen, ignores_case)
    }

    #[test]
    fn hostile_names_are_named() {
        for name in ["../x", "/etc/passwd", "a\\b", "C:x", "a\0b", "a/../b", "", "a//b"] {
            let error = plan(&["ok", name], false).unwrap_err();
            assert_eq!(error.reason(), Reason::UnsafePath, "{name}");
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn clashing_names_are_refused() {
        assert!(matches!(plan(&["a", "a"], false), Err(PlanError::Twice { .. })));
        assert!(matches!(plan(&["a", "a/b"], false), Err(PlanError::FileAndFolder { .. })));
        assert!(matches!(plan(&["a/b/c", "a/b"], false), Err(PlanError::FileAndFolder { .. })));
        assert!(plan(&["A", "a"], false).is_ok());
        assert!(matches!(plan(&["A", "a"], true), Err(PlanError::Collides { .. })));
        assert!(matches!(plan(&["A/x", "a"], true), Err(PlanError::FileAndFolder { .. })));
        assert!(plan(&["a/b", "a/c", "a.b"], true).is_ok());
    }

    #[test]
    fn a_plans_id_depends_on_its_files_and_begins_with_its_model() {
        let (one, other) = (plan(&["a", "b"], false).unwrap(), plan(&["a"], false).unwrap());
        assert_eq!(one.staging_id(), plan(&["b", "a"], false).unwrap().staging_id());
        assert_ne!(one.staging_id(), other.staging_id());
        assert!(other.staging_id().starts_with(&layout::staging_prefix(&one.model)));
    }
}
