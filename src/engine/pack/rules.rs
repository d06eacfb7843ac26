//! What a folder may hold. The same rules as for archives that are read.

use crate::ident::RelPath;

/// How pointers of git LFS begin, and the longest file that may be one, in bytes.
const POINTER_LINE: &[u8] = b"version https://git-lfs.github.com/spec/v1";
pub(super) const POINTER_MAX_BYTES: u64 = 1024;

/// What belongs to a tool and not to the model, wherever it is.
pub(super) fn is_left_out(path: &RelPath) -> bool {
    let mut before = "";
    path.as_str().split('/').any(|name| {
        let is_hub_state = before == ".cache" && name == "huggingface";
        before = name;
        is_hub_state || matches!(name, ".git" | "__MACOSX" | ".DS_Store") || name.starts_with("._")
    })
}

/// Whether a whole file is a pointer of git LFS.
pub(super) fn is_pointer(size: u64, beginning: &[u8]) -> bool {
    size <= POINTER_MAX_BYTES && beginning.starts_with(POINTER_LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_files_are_left_out() {
        for path in [".git", "a/.git", ".cache/huggingface", "x/__MACOSX", "._a", "b/.DS_Store"] {
            assert!(is_left_out(&path.parse().unwrap()), "{path}");
        }
        for path in [".gitattributes", ".cache", "huggingface", "a.git", "_a"] {
            assert!(!is_left_out(&path.parse().unwrap()), "{path}");
        }
    }
}
