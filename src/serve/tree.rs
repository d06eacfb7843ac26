//! The listing of a commit: folders between files, sorted by path, in pages. Pure.

use super::answer;
use super::catalog::{ServedFile, Snapshot, git_object};
use crate::ident::GitBlobSha1;
use serde_json::Value;
use std::collections::BTreeMap;

/// How many items a page has.
pub(super) const PAGE: usize = 1000;
/// How many when each item says more of itself.
pub(super) const PAGE_EXPANDED: usize = 50;

/// What is under a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    File(&'a ServedFile),
    Folder,
}

/// What is listed, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    /// Only what is below this folder; the root when empty.
    pub(super) folder: String,
    /// Whether folders in it are opened too.
    pub(super) recursive: bool,
    /// Whether items say more of themselves.
    pub(super) expand: bool,
    /// The most items.
    pub(super) limit: usize,
    /// The last path of the page before.
    pub(super) after: Option<String>,
}

/// One page.
#[derive(Debug, PartialEq)]
pub(super) struct Page {
    pub(super) items: Vec<Value>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

/// Everything in a commit by its path, folders included.
pub(super) fn items(snapshot: &Snapshot) -> BTreeMap<&str, Item<'_>> {
    let mut items = BTreeMap::new();
    for (path, file) in &snapshot.files {
        let path = path.as_str();
        for (end, _) in path.match_indices('/') {
            items.insert(&path[..end], Item::Folder);
        }
        items.insert(path, Item::File(file));
    }
    items
}

/// One page of the listing; none if there is no such folder.
pub(super) fn page(snapshot: &Snapshot, listing: &Listing) -> Option<Page> {
    let items = items(snapshot);
    let prefix = match listing.folder.as_str() {
        "" => String::new(),
        folder => match items.get(folder) {
            Some(Item::Folder) => format!("{folder}/"),
            Some(Item::File(_)) | None => return None,
        },
    };
    let wanted = |path: &str| {
        path.strip_prefix(&prefix).is_some_and(|below| listing.recursive || !below.contains('/'))
            && listing.after.as_deref().is_none_or(|after| path > after)
    };
    let mut left = items.into_iter().filter(|(path, _)| wanted(path));
    let taken: Vec<(&str, Item<'_>)> = left.by_ref().take(listing.limit).collect();
    let next = left.next().and_then(|_| taken.last().map(|(path, _)| (*path).to_owned()));
    let items = taken.into_iter().map(|(path, item)| answer::item(snapshot, path, item, listing.expand)).collect();
    Some(Page { items, next })
}

/// A name for a folder's content: it changes when anything below does. (Not git's, which needs every tree in between.)
pub(super) fn folder_oid(snapshot: &Snapshot, folder: &str) -> GitBlobSha1 {
    let prefix = format!("{folder}/");
    let below = snapshot.files.iter().filter(|(path, _)| path.as_str().starts_with(&prefix));
    let list: Vec<String> = below.map(|(path, file)| format!("{path}\0{}\n", file.digest)).collect();
    git_object("tree", list.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Card;
    use super::super::catalog::tests::{GIT, file};
    use super::*;
    use proptest::prelude::*;

    fn snapshot<'a>(paths: impl IntoIterator<Item = &'a str>) -> Snapshot {
        let files = paths.into_iter().map(|path| (path.parse().unwrap(), file(1, GIT))).collect();
        Snapshot { commit: "1".repeat(40).parse().unwrap(), card: Card::default(), files }
    }

    fn listing(folder: &str, recursive: bool) -> Listing {
        Listing { folder: folder.into(), recursive, expand: false, limit: PAGE, after: None }
    }

    fn paths(page: &Page) -> Vec<String> {
        let path =
            |item: &Value| format!("{}:{}", &item["type"].as_str().unwrap()[..1], item["path"].as_str().unwrap());
        page.items.iter().map(path).collect()
    }

    #[test]
    fn folders_are_listed_too() {
        let snapshot = snapshot(["a/b/c", "a/d", "e"]);
        assert_eq!(paths(&page(&snapshot, &listing("", false)).unwrap()), ["d:a", "f:e"]);
        assert_eq!(paths(&page(&snapshot, &listing("", true)).unwrap()), ["d:a", "d:a/b", "f:a/b/c", "f:a/d", "f:e"]);
        assert_eq!(paths(&page(&snapshot, &listing("a", false)).unwrap()), ["d:a/b", "f:a/d"]);
        assert_eq!(page(&snapshot, &listing("e", true)), None);
        assert_eq!(page(&snapshot, &listing("x", true)), None);
    }

    proptest! {
        #[test]
        fn pages_put_together_are_the_whole(names in proptest::collection::btree_set("[a-c]{1,2}(/[a-c!-]{1,2}){0,2}", 1..30), limit in 1usize..6) {
            // A name cannot be a file and a folder at once.
            let names: Vec<&str> = names.iter().map(String::as_str)
                .filter(|name| !names.iter().any(|other| other.starts_with(&format!("{name}/")))).collect();
            let snapshot = snapshot(names);
            let whole = page(&snapshot, &listing("", true)).unwrap();
            let mut ask = Listing { limit, ..listing("", true) };
            let mut items = Vec::new();
            loop {
                let page = page(&snapshot, &ask).unwrap();
                prop_assert!(!page.items.is_empty() && page.items.len() <= limit);
                items.extend(page.items);
                match page.next { None => break, next => ask.after = next }
            }
            prop_assert_eq!(items, whole.items);
        }
    }
}
