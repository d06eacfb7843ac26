//! What the API's JSON looks like. Pure.

use super::catalog::{Card, Repo, ServedFile, Snapshot};
use super::tree::{Item, folder_oid};
use crate::ident::RepoId;
use serde_json::{Value, json};

/// `api/models/{id}` and `api/models/{id}/revision/{rev}`.
pub(super) fn info(repo: &RepoId, snapshot: &Snapshot, blobs: bool) -> Value {
    let Snapshot { commit, card, files } = snapshot;
    let Card { last_modified, library_name, pipeline_tag, tags, languages } = card;
    let siblings: Vec<Value> = files
        .iter()
        .map(|(path, file)| if blobs { sibling(path.as_str(), file) } else { json!({"rfilename": path}) })
        .collect();
    let mut answer = json!({
        "_id": &commit.to_string()[..24],
        "id": repo,
        "modelId": repo,
        "sha": commit,
        "private": false,
        "gated": false,
        "disabled": false,
        "downloads": 0,
        "likes": 0,
        "tags": tags,
        "siblings": siblings,
        "usedStorage": files.values().map(|file| file.size()).sum::<u64>(),
    });
    let mut put = |name: &str, value: Option<Value>| {
        if let (Some(fields), Some(value)) = (answer.as_object_mut(), value) {
            fields.insert(name.to_owned(), value);
        }
    };
    put("author", repo.as_str().split_once('/').map(|(author, _)| author.into()));
    put("lastModified", last_modified.clone().map(Value::from));
    put("library_name", library_name.clone().map(Value::from));
    put("pipeline_tag", pipeline_tag.clone().map(Value::from));
    put("cardData", (!languages.is_empty()).then(|| json!({"language": languages})));
    answer
}

fn sibling(path: &str, file: &ServedFile) -> Value {
    let mut answer = json!({"rfilename": path, "size": file.size(), "blobId": file.oid()});
    if let Some(pointer) = file.pointer() {
        answer["lfs"] = json!({"sha256": pointer.sha256, "size": file.size(), "pointerSize": pointer.size});
    }
    answer
}

/// One item of a tree or of `paths-info`.
pub(super) fn item(snapshot: &Snapshot, path: &str, item: Item<'_>, expand: bool) -> Value {
    let mut answer = match item {
        Item::Folder => json!({"type": "directory", "oid": folder_oid(snapshot, path), "size": 0, "path": path}),
        Item::File(file) => {
            let mut answer = json!({"type": "file", "oid": file.oid(), "size": file.size(), "path": path});
            if let Some(pointer) = file.pointer() {
                answer["lfs"] = json!({"oid": pointer.sha256, "size": file.size(), "pointerSize": pointer.size});
            }
            answer
        }
    };
    if expand {
        // One commit is all that is known, so every file's last change is it.
        answer["lastCommit"] = json!({"id": snapshot.commit, "title": "", "date": snapshot.card.last_modified});
    }
    answer
}

/// `api/models/{id}/refs`. What is no pull request and no conversion may be a branch or a tag: nobody wrote down which.
pub(super) fn refs(repo: &Repo, pull_requests: bool) -> Value {
    let (mut branches, mut converts, mut pulls) = (Vec::new(), Vec::new(), Vec::new());
    for (revision, commit) in repo.revisions() {
        let text = revision.as_str();
        let (list, name, full) = if let Some(number) = text.strip_prefix("refs/pr/") {
            (&mut pulls, number, text.to_owned())
        } else if let Some(name) = text.strip_prefix("refs/convert/") {
            (&mut converts, name, text.to_owned())
        } else {
            (&mut branches, text, format!("refs/heads/{text}"))
        };
        list.push(json!({"name": name, "ref": full, "targetCommit": commit}));
    }
    let mut answer = json!({"branches": branches, "tags": [], "converts": converts});
    if pull_requests {
        answer["pullRequests"] = json!(pulls);
    }
    answer
}
