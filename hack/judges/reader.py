"""Everything that reads a hub cache without a network, against HF_HUB_CACHE with HF_HUB_OFFLINE=1.

Usage: reader.py REPO COMMIT. The last line printed is the folder of the snapshot.
"""

import os
import sys
import warnings
from pathlib import Path

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer


def is_read_only(folder):
    try:
        (folder / "written").touch()
    except OSError:
        return True
    return False


def main(repo, commit):
    # Whatever a library warns of is a complaint about the cache, or would be one in a user's log.
    warnings.simplefilter("error")
    cache = Path(os.environ["HF_HUB_CACHE"])
    assert is_read_only(cache), "the volume must be mounted read-only for this"

    folder = Path(snapshot_download(repo, local_files_only=True))
    assert folder.name == commit, folder
    assert snapshot_download(repo, revision=commit, local_files_only=True) == str(folder)
    assert Path(hf_hub_download(repo, "config.json", local_files_only=True)) == folder / "config.json"
    assert Path(hf_hub_download(repo, "1_Pooling/config.json")) == folder / "1_Pooling/config.json"

    scanned = scan_cache_dir(cache)
    assert not scanned.warnings, scanned.warnings
    (found,) = scanned.repos
    (revision,) = found.revisions
    assert (found.repo_id, revision.commit_hash, revision.refs) == (repo, commit, frozenset({"main"})), found

    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        names = list(weights.keys())
        shape = weights.get_tensor("embeddings.word_embeddings.weight").shape
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = AutoConfig.from_pretrained(repo)
    auto = AutoTokenizer.from_pretrained(repo)
    assert shape == (config.vocab_size, config.hidden_size), shape
    text = "A volume is read by a Pod."
    # The two tools pad differently; the words are the same.
    words = [token for token in tokenizer.encode(text).tokens if token != "[PAD]"]
    assert auto.convert_ids_to_tokens(auto(text)["input_ids"]) == words, words
    print(f"{len(names)} tensors, {len(words)} tokens")
    print(folder)


main(*sys.argv[1:])
