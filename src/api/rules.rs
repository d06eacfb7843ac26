//! CEL rules that several shapes share, and the patterns of names.
//!
//! The rules are judged on `spec` with `has()` on both sides: a transition rule on an optional field does not run when
//! the field is added or removed.

/// A repo id; what a regular expression cannot say, [`super::entry`] says in CEL.
pub(super) const REPO_PATTERN: &str =
    "^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?(/[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?)?$";
/// A revision: git's rules for names, as far as a regular expression can say them.
pub(super) const REVISION_PATTERN: &str = r"^[^\x00-\x20\x7f~^:?*\[\\@/.-][^\x00-\x20\x7f~^:?*\[\\@]*$";
/// The base address of a Hub.
pub(super) const ENDPOINT_PATTERN: &str = r"^https?://[^\s/?#@\\:]+(:[0-9]+)?(/[^\s?#@\\]*)?$";
/// A proxy's address.
pub(super) const PROXY_PATTERN: &str = r"^https?://[^\s]+$";
/// The address of an archive. A login in it would be shown to everybody who may read the object.
pub(super) const ARCHIVE_URL_PATTERN: &str = r"^https://[^\s/?#@\\]+(/[^\s#\\]*)?$";
/// A digest.
pub(super) const SHA256_PATTERN: &str = "^[0-9a-f]{64}$";
/// A file below a claim's root: no empty, `.` or `..` names, no backslashes, nothing that is not shown.
pub(super) const FILE_PATTERN: &str = r"^[^/\\\x00-\x1f\x7f]+(/[^/\\\x00-\x1f\x7f]+)*$";
/// A length of time: hours, minutes and seconds. CEL judges how long.
pub(super) const PERIOD_PATTERN: &str = "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$";
/// A relative folder: no empty, `.` or `..` names, no backslashes.
pub(super) const SUB_PATH_PATTERN: &str = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$";

/// A rule that a field below `self` may not be added, removed or changed.
macro_rules! immutable {
    ($field:literal) => {
        Rule::new(concat!(
            "has(self.",
            $field,
            ") == has(oldSelf.",
            $field,
            ") && (!has(self.",
            $field,
            ") || self.",
            $field,
            " == oldSelf.",
            $field,
            ")"
        ))
        .message(concat!("spec.", $field, " is immutable: delete the entry and create it anew"))
    };
}

/// A clause that a field below `self.storage` is what it was.
macro_rules! same {
    ($parent:literal, $field:literal) => {
        concat!(
            "has(self.storage",
            $parent,
            ".",
            $field,
            ") == has(oldSelf.storage",
            $parent,
            ".",
            $field,
            ") && (!has(self.storage",
            $parent,
            ".",
            $field,
            ") || self.storage",
            $parent,
            ".",
            $field,
            " == oldSelf.storage",
            $parent,
            ".",
            $field,
            ")"
        )
    };
}

/// Where the model is kept never changes, but for how much is claimed.
pub(super) const STORAGE_RULE: &str = concat!(
    "has(self.storage) == has(oldSelf.storage) && (!has(self.storage) || (",
    same!("", "claimName"),
    " && ",
    same!("", "subPath"),
    " && has(self.storage.volumeClaimTemplate) == has(oldSelf.storage.volumeClaimTemplate)",
    " && (!has(self.storage.volumeClaimTemplate) || (",
    same!(".volumeClaimTemplate", "metadata"),
    " && ",
    same!(".volumeClaimTemplate.spec", "accessModes"),
    " && ",
    same!(".volumeClaimTemplate.spec", "storageClassName"),
    " && ",
    same!(".volumeClaimTemplate.spec", "selector"),
    " && ",
    same!(".volumeClaimTemplate.spec", "volumeName"),
    "))))"
);

/// A clause that a template has a size.
macro_rules! sized {
    ($side:literal) => {
        concat!(
            "has(",
            $side,
            ".storage) && has(",
            $side,
            ".storage.volumeClaimTemplate) && has(",
            $side,
            ".storage.volumeClaimTemplate.spec.resources) && has(",
            $side,
            ".storage.volumeClaimTemplate.spec.resources.requests) && 'storage' in ",
            $side,
            ".storage.volumeClaimTemplate.spec.resources.requests"
        )
    };
}

/// A size that is given is never taken back or lowered.
pub(super) const GROWTH_RULE: &str = concat!(
    "!(",
    sized!("oldSelf"),
    ") || (",
    sized!("self"),
    " && !quantity(self.storage.volumeClaimTemplate.spec.resources.requests['storage'])",
    ".isLessThan(quantity(oldSelf.storage.volumeClaimTemplate.spec.resources.requests['storage'])))"
);

/// A rule that refuses a field whose behaviour has not been built, so that it is never silently ignored.
macro_rules! unsupported {
    ($cel:literal, $what:literal) => {
        Rule::new($cel).message(concat!($what, " is not supported yet"))
    };
}

pub(super) use {immutable, unsupported};
