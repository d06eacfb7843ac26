"""Who downloads, and the floors below which nobody gets. Each is a command that fills an empty folder."""

import os
import sys
from pathlib import Path

from hub import REPO

SNAPSHOT = "from huggingface_hub import snapshot_download; import sys; snapshot_download(sys.argv[1])"
# As huggingface_hub called it: a hundred connections, and pieces of 10 MiB.
TRANSFER = """
import sys, hf_transfer
for url, path in zip(sys.argv[1::2], sys.argv[2::2]):
    hf_transfer.download(url, path, max_files=100, chunk_size=10 * 1024 * 1024, parallel_failures=3, max_retries=5)
"""


class Contestant:
    name = "?"

    def command(self, hub, out):
        raise NotImplementedError

    def env(self, hub, out):
        # A proxy of the machine's must not come between.
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {**kept, "HOME": str(out), "NO_PROXY": "127.0.0.1"}


class Ours(Contestant):
    name = "**modelcache**"

    def __init__(self, binary, name=None):
        self.binary, self.name = binary, name or self.name

    def command(self, hub, out):
        return [self.binary, "download", REPO, "--volume", out / "volume", "--endpoint", hub.url, "--weights", "all"]

    def published(self, out):
        return any((out / "volume/entries").glob("*/model_metadata.json"))


class HuggingfaceHub(Contestant):
    name = "huggingface_hub"

    def __init__(self, python):
        self.python = python

    def command(self, hub, out):
        return [self.python, "-c", SNAPSHOT, REPO]

    def env(self, hub, out):
        return {**super().env(hub, out), "HF_ENDPOINT": hub.url, "HF_HOME": str(out / "hf"), "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def published(self, out):
        return any((out / "hf/hub").glob("models--*/snapshots/*/*"))


class HfTransfer(Contestant):
    """Large files only: it was never used for others."""

    name = "hf_transfer"

    def __init__(self, python):
        self.python = python

    def command(self, hub, out):
        pairs = [(url, out / Path(path).name) for path, url in hub.urls() if path in hub.model.large]
        return [self.python, "-c", TRANSFER, *[word for pair in pairs for word in pair]]


class Curl(Contestant):
    def __init__(self, parallel=False, resume=False):
        self.name = "curl --parallel" if parallel else "curl -C -" if resume else "curl"
        self.flags = (["--parallel"] if parallel else []) + (["-C", "-"] if resume else [])

    def command(self, hub, out):
        config = out / "curl.txt"
        config.write_text("".join(f'url = "{url}"\noutput = "{out}/{path}"\n' for path, url in hub.urls()))
        return ["curl", "--silent", "--show-error", "--fail", "--location", "--create-dirs", *self.flags, "-K", config]


class Aria2(Contestant):
    def __init__(self, connections):
        self.name, self.connections = f"aria2c -x{connections}", connections

    def command(self, hub, out):
        urls = out / "aria2.txt"
        urls.write_text("".join(f"{url}\n  out={path}\n" for path, url in hub.urls()))
        many = self.connections
        # Its defaults (five pieces, none below 20 MiB, zeros written first) would not let it use its connections.
        return ["aria2c", "--quiet", f"-x{many}", f"-s{many}", f"-j{many}", "-k1M", "--file-allocation=none", "--continue",
                "--no-conf", "-d", out, "-i", urls]


class Floor(Contestant):
    """What reading or writing the same bytes costs anybody. `make` gives the command for a file and a new file."""

    def __init__(self, name, make):
        self.name, self.make = name, make

    def command(self, hub, out):
        largest = max(hub.model.paths, key=lambda path: (hub.model.folder / path).stat().st_size)
        return self.make(str(hub.model.folder / largest), str(out / "copy"))


def floors():
    return [
        Floor("_floor:_ cp", lambda file, copy: ["cp", file, copy]),
        Floor("_floor:_ cp, on the disk", lambda file, copy: ["dd", f"if={file}", f"of={copy}", "bs=1M", "conv=fsync",
                                                             "status=none"]),
        Floor("_floor:_ openssl sha256", lambda file, _: ["openssl", "dgst", "-sha256", file]),
    ]


def peers(python, transfer):
    return [Curl(), HuggingfaceHub(python), HfTransfer(transfer), Aria2(8), Aria2(16)]


assert sys.version_info >= (3, 11), "needs Python 3.11"
