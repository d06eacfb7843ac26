"""What hf_xet, the client of the Hub's chunk store, holds in memory. Prints Markdown; called by hack/bench.

Usage: xet.py --judges VENV --work DIR [--runs N]

Its own offline store (`local://`) is filled with a file of 1 GiB that has no two chunks alike, and read back.
"""

import argparse
import shutil
import subprocess
from pathlib import Path
from statistics import median

from contestants import Contestant
from hub import Model
from measure import interleaved, mib, run, run_and_kill, say, table

GIB = 1024 ** 3
UPLOAD = """
import hf_xet, sys
with hf_xet.XetSession().new_upload_commit(endpoint="local://" + sys.argv[1]) as commit:
    handle = commit.start_upload_file(sys.argv[2])
print(handle.result().xet_info.hash)
"""
DOWNLOAD = """
import hf_xet, sys
with hf_xet.XetSession().new_file_download_group(endpoint="local://" + sys.argv[1]) as group:
    group.start_download_file(hf_xet.XetFileInfo(sys.argv[2], int(sys.argv[3])), sys.argv[4])
"""


def buffers(total, file, prefetch):
    names = {"SIZE": total, "LIMIT": total, "PERFILE_SIZE": file}
    return {**{f"HF_XET_RECONSTRUCTION_DOWNLOAD_BUFFER_{name}": value for name, value in names.items()},
            "HF_XET_RECONSTRUCTION_MIN_PREFETCH_BUFFER": prefetch}


ONE = {f"HF_XET_CLIENT_AC_{name}_DOWNLOAD_CONCURRENCY": "1" for name in ("INITIAL", "MAX")}


class Xet(Contestant):
    def __init__(self, name, python, store, digest, settings):
        self.name, self.python, self.store, self.digest, self.settings = name, python, store, digest, settings

    def command(self, hub, out):
        return [self.python, "-c", DOWNLOAD, self.store, self.digest, GIB, out / "file"]

    def env(self, hub, out):
        return {**super().env(hub, out), **self.settings}


class Nothing(Contestant):
    name = "_floor:_ Python with hf_xet, nothing read"

    def __init__(self, python):
        self.python = python

    def command(self, hub, out):
        return [self.python, "-c", "import hf_xet; hf_xet.XetSession()"]


def main():
    parser = argparse.ArgumentParser()
    for name in ("--judges", "--work"):
        parser.add_argument(name, required=True)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    python, work = Path(args.judges) / "bin/python", Path(args.work)
    store, out = work / "store", work / "out"
    say("filling a store with 1 GiB")
    model = Model.made(work / "large", {"model.safetensors": GIB})
    store.mkdir()
    upload = [python, "-c", UPLOAD, store, model.folder / "model.safetensors"]
    digest = subprocess.run(upload, check=True, capture_output=True, text=True).stdout.strip()
    shutil.rmtree(model.folder)

    def xet(name, settings):
        return Xet(name, python, store, digest, settings)

    as_it_comes = xet("hf_xet as it comes", {})
    contestants = [
        as_it_comes,
        xet("… with buffers of 64 MB", buffers("64mb", "8mb", "8mb")),
        xet("… with buffers of 8 MB and one connection", {**buffers("8mb", "1mb", "1mb"), **ONE}),
        Nothing(python),
    ]
    print("### hf_xet reads 1 GiB from its own store on the same disk\n")
    print("\n".join(table(interleaved(contestants, None, out, args.runs), as_it_comes.name, "the first")))
    say("a kill at 70 %, and the same again")
    again = []
    for _ in range(args.runs):
        if run_and_kill(as_it_comes, None, out, int(0.7 * GIB)) is None:
            raise SystemExit("it was never killed: it ended before")
        again.append(run(as_it_comes, None, out, fresh=False))
    wall, rss = median(one.wall for one in again), median(one.rss_bytes for one in again)
    print(f"\nAfter a SIGKILL at 70 % the same command took {wall:.2f} s and {mib(rss)} MiB. Medians of {args.runs} runs.")


main()
