"""huggingface_hub as a client of HF_ENDPOINT: downloads REPO, and asks everything else that a read-only Hub answers.

Usage: client.py REPO COMMIT. The last line printed is the folder of the snapshot.
"""

import sys

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError


def refuses(error, call):
    try:
        call()
    except error:
        return
    raise SystemExit(f"expected {error.__name__}")


def main(repo, commit):
    api = HfApi()
    folder = snapshot_download(repo)
    assert snapshot_download(repo, revision=commit) == folder
    assert folder.endswith(commit), folder

    verified = api.verify_repo_checksums(repo)
    assert verified.checked_count > 0, verified
    assert not (verified.mismatches or verified.missing_paths or verified.extra_paths), verified

    info = api.model_info(repo, files_metadata=True)
    assert (info.id, info.sha) == (repo, commit), info
    paths = [item.path for item in api.list_repo_tree(repo, recursive=True) if hasattr(item, "blob_id")]
    assert sorted(paths) == sorted(sibling.rfilename for sibling in info.siblings), paths
    assert list(api.list_repo_tree(repo, expand=True))
    assert [item.path for item in api.get_paths_info(repo, [paths[0], "no/such/file"])] == [paths[0]]
    assert "main" in [branch.name for branch in api.list_repo_refs(repo).branches]
    assert api.file_exists(repo, paths[0]) and not api.file_exists(repo, "no/such/file")

    refuses(RemoteEntryNotFoundError, lambda: hf_hub_download(repo, "no/such/file"))
    refuses(RevisionNotFoundError, lambda: snapshot_download(repo, revision="no-such-revision"))
    refuses(RepositoryNotFoundError, lambda: api.model_info("no-such/repo"))
    print(folder)


main(*sys.argv[1:])
