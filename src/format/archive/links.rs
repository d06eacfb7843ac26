//! Where links lead, among the members of an archive and nowhere else.

use super::ArchiveError;
use super::error::shown;
use super::structure::Contents;
use crate::ident::RelPath;
use std::collections::HashMap;

/// A link that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its own name, the root folder included.
    pub path: RelPath,
    /// The name that it leads to, the root folder included.
    pub to: RelPath,
    /// Where it points, as a message shows it.
    pub given: String,
}

/// The most links that may follow each other to a file, as most systems have it.
const HOPS_MAX: usize = 40;

/// For each link of an archive, the file that it ends at. `is_file` knows the files that can be imported.
pub fn resolve(
    contents: &Contents,
    is_file: impl Fn(&RelPath) -> bool,
) -> Result<Vec<(&RelPath, &RelPath)>, ArchiveError> {
    let links: HashMap<&RelPath, &RelPath> = contents.links().iter().map(|link| (&link.path, &link.to)).collect();
    let mut resolved = Vec::with_capacity(links.len());
    for link in contents.links() {
        let bad = |why| ArchiveError::Link { member: shown(link.path.as_str()), target: link.given.clone(), why };
        let mut to = &link.to;
        let mut hops = 0;
        while let Some(next) = links.get(to) {
            hops += 1;
            if hops > HOPS_MAX {
                return Err(bad("leads in a circle"));
            }
            to = next;
        }
        if to.as_str().split('/').next() != contents.root() {
            return Err(bad("leaves the root folder"));
        }
        if !is_file(to) {
            return Err(bad(if contents.is_folder(to) { "is a folder" } else { "is no file of the archive" }));
        }
        resolved.push((&link.path, to));
    }
    Ok(resolved)
}
