"""Imports of an archive against GNU tar and openssl, one after the other, as Markdown on stdout.

    import.py --binary FILE [--runs N] [--dir DIR]

1 GiB of random weights and small files. What is compared ends on the disk: `sync` follows the extraction, as an import syncs
every file before it publishes. Give a DIR on tmpfs to leave the disk out of it.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

METADATA = ('{"commitHash":"7dbbc90392e2f80f3d3c277d6e90027e55de9125","modelDefinition":{"key":"hf@org/bench"},'
            '"url":"https://hub/org%2Fbench","version":0}')


def timed(command, cwd):
    figures = Path(cwd) / "figures"
    began = time.perf_counter()
    subprocess.run(["/usr/bin/time", "--quiet", "-f", "%M", "-o", figures, *map(str, command)], cwd=cwd, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began, int(figures.read_text()) * 1024


def make(place):
    root = place / "m"
    (root / "model").mkdir(parents=True)
    (root / "model_metadata.json").write_text(METADATA)
    for number in range(4):
        with open(root / f"model/weights-{number}.safetensors", "wb") as file:
            for _ in range(32):
                file.write(os.urandom(8 * 1024 * 1024))
    for number in range(200):
        (root / f"model/small-{number}.json").write_bytes(os.urandom(4096))
    archive = place / "model.tar"
    subprocess.run(["tar", "cf", archive, "m"], cwd=place, check=True)
    shutil.rmtree(root)
    return archive


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--binary", type=Path, required=True)
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--dir", type=Path, default=None)
    words = words.parse_args()
    with tempfile.TemporaryDirectory(dir=words.dir) as place:
        place = Path(place)
        archive = make(place)
        os.sync()
        rounds = {"modelcache import": [], "tar xf, sync": [], "openssl dgst": [], "both": []}
        peaks = []
        for _ in range(words.runs):
            out = place / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            extract, _ = timed(["sh", "-c", f"tar xf {archive} -C {out} && sync -f {out}"], place)
            shutil.rmtree(out)
            digest, _ = timed(["openssl", "dgst", "-sha256", archive], place)
            volume = place / "volume"
            shutil.rmtree(volume, ignore_errors=True)
            wall, peak = timed([words.binary.resolve(), "import", archive, "--volume", volume], place)
            shutil.rmtree(volume)
            os.sync()
            for name, seconds in zip(rounds, [wall, extract, digest, extract + digest]):
                rounds[name].append(seconds)
            peaks.append(peak)
        print("| what | median s | runs |\n| --- | --- | --- |")
        for name, seconds in rounds.items():
            print(f"| {name} | {median(seconds):.2f} | {' '.join(f'{one:.2f}' for one in seconds)} |")
        ratio = median(rounds["modelcache import"]) / median(rounds["both"])
        print(f"\nimport / (extraction + digest): {ratio:.2f}; peak RSS {max(peaks) / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
