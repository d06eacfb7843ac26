"""Exports against what people use: GNU tar, and tar into zstd. Prints Markdown; called by hack/bench.

Usage: export.py --binary FILE --work DIR [--runs N] [--size BYTES]
"""

import argparse
import hashlib
import json
import os
import shlex
from pathlib import Path

from measure import interleaved, noise, say, table

GIB = 1024 ** 3
COMMIT = "7dbbc90392e2f80f3d3c277d6e90027e55de9125"
CHUNK = 1024 ** 2


class Command:
    """A contestant that is one line of shell, in an empty folder."""

    def __init__(self, name, line):
        self.name, self.line = name, line

    def command(self, _hub, _out):
        return ["sh", "-c", self.line]

    def env(self, _hub, _out):
        return None


def volume(root, size):
    """A volume with one model: random weights, and small files beside them."""
    snapshot = root / "hub/models--org--bench/snapshots" / COMMIT
    entry = root / "entries/org_2fbench"
    entry.mkdir(parents=True)
    sizes = {"model.safetensors": size, "tokenizer.json": 400_000, **{f"extra/{n:03}.json": 4096 for n in range(200)}}
    sums = {}
    for path, bytes_left in sizes.items():
        file, digest = snapshot / path, hashlib.sha256()
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "wb") as out:
            while bytes_left > 0:
                piece = os.urandom(min(CHUNK, bytes_left))
                digest.update(piece)
                out.write(piece)
                bytes_left -= len(piece)
        sums[path] = digest.hexdigest()
    (entry / "SHA256SUMS").write_text("".join(f"{sums[path]}  model/{path}\n" for path in sorted(sums)))
    (entry / "model_metadata.json").write_text(json.dumps({
        "commitHash": COMMIT, "modelDefinition": {"key": "hf@org/bench"}, "sizeInBytes": sum(sizes.values()),
        "url": "https://hub/org%2Fbench/tree/main", "version": 0}))
    os.symlink(f"../../hub/models--org--bench/snapshots/{COMMIT}", entry / "model")


def compare(title, contestants, ours, work, runs):
    say(title)
    samples = interleaved(contestants, None, work / "out", runs)
    yield f"### {title}"
    yield ""
    yield from table(samples, ours)
    yield ""
    yield f"{runs} interleaved runs; the runs of one contestant differ by up to a factor of {noise(samples)}."
    yield ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--size", type=int, default=GIB)
    args = parser.parse_args()
    work = Path(args.work)
    say("making a model")
    volume(work / "volume", args.size)
    root = shlex.quote(str(work / "volume/entries"))
    ours = f"{shlex.quote(args.binary)} export org/bench --volume {shlex.quote(str(work / 'volume'))}"
    tar = f"tar --create --dereference --directory {root} --file"
    # Ours is on the disk when it ends, whatever the others do: so there is a line for each of them with that.
    plain = [
        Command("modelcache export to tar", f"{ours} --file out.tar"),
        Command("tar cf", f"{tar} out.tar org_2fbench"),
        Command("tar cf, synced", f"{tar} out.tar org_2fbench && sync out.tar"),
        Command("modelcache export to a pipe", f"{ours} --file - | cat >/dev/null"),
        Command("tar cf to a pipe", f"{tar} - org_2fbench | cat >/dev/null"),
    ]
    packed = [
        Command("modelcache export to tar.zst", f"{ours} --file out.tar.zst"),
        Command("tar, zstd -1 -T0", f"{tar} - org_2fbench | zstd -1 -T0 -q -o out.tar.zst"),
        Command("tar, zstd -1 -T0, synced", f"{tar} - org_2fbench | zstd -1 -T0 -q -o out.tar.zst && sync out.tar.zst"),
    ]
    mib = args.size // CHUNK
    for title, contestants in [(f"Export to tar, {mib} MiB of weights and 201 small files", plain),
                               (f"Export to tar.zst, {mib} MiB of weights and 201 small files", packed)]:
        for line in compare(title, contestants, contestants[0].name, work, args.runs):
            print(line, flush=True)


main()
