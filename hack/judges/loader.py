"""Loads a model by its name as any program does, in a Pod that was given it: no network, no path, no login.

Usage: loader.py REPO FOLDER [PATH...]. FOLDER is where the Pod has the model's folder; each PATH must be there, too. The last line printed is
the commit.
"""

import sys
from pathlib import Path

from huggingface_hub import snapshot_download
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer


def main(repo, folder, *paths):
    tokenizer = AutoTokenizer.from_pretrained(repo)
    config = AutoConfig.from_pretrained(repo)
    snapshot = Path(snapshot_download(repo, local_files_only=True))
    for place in (snapshot, Path(folder)):
        with safe_open(place / "model.safetensors", framework="numpy") as weights:
            shape = weights.get_tensor("embeddings.word_embeddings.weight").shape
        assert shape == (config.vocab_size, config.hidden_size), shape
    words = [word for word in tokenizer.tokenize("A volume is read by a Pod.") if word != "[PAD]"]
    assert words[:3] == ["a", "volume", "is"], words
    missing = [path for path in paths if not Path(path).is_dir()]
    assert not missing, missing
    print(snapshot.name)


main(*sys.argv[1:])
