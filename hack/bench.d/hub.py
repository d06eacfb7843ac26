"""nginx as a Hub that answers from files, and as the content network that it sends its clients to for what is in LFS."""

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

REPO = "bench/model"
COMMIT = "7dbbc90392e2f80f3d3c277d6e90027e55de9125"
PAGE = 1000

CONFIG = """
{user}daemon off; pid {home}/pid; worker_processes 1; worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
  log_format asked '$body_bytes_sent $request_method $uri $status';
  client_body_temp_path {home}/temporary; proxy_temp_path {home}/temporary; fastcgi_temp_path {home}/temporary;
  uwsgi_temp_path {home}/temporary; scgi_temp_path {home}/temporary;
  default_type application/octet-stream; sendfile on; tcp_nopush on; keepalive_requests 100000; etag off;
  map_hash_max_size 65536; map_hash_bucket_size 256;
  map $uri $file_etag {{ default ''; {etags} }}
  map $arg_cursor $page {{ default 0; '~^(?<n>[0-9]+)$' $n; }}
  map $page $next {{ default ''; {nexts} }}
  limit_rate {rate};
  server {{
    listen 127.0.0.1:{hub}; access_log {home}/hub.log asked;
    location = /api/models/{repo}/revision/main {{ default_type application/json; alias {home}/revision.json; }}
    location = /api/models/{repo}/revision/{commit} {{ default_type application/json; alias {home}/revision.json; }}
    location = /api/models/{repo}/tree/{commit} {{
      default_type application/json; add_header Link $next; alias {home}/tree$page.json;
    }}
    {lfs}
    location /{repo}/resolve/{commit}/ {{
      add_header X-Repo-Commit {commit}; add_header ETag $file_etag; alias {files}/;
    }}
    location / {{ add_header X-Error-Code RepoNotFound always; return 404; }}
  }}
  server {{ listen 127.0.0.1:{cdn}; access_log {home}/cdn.log asked; root {files}; }}
}}
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def noise(path, size, seed):
    """Bytes that nothing compresses, the same in every run."""
    rng = random.Random(seed)
    with open(path, "wb") as file:
        while size > 0:
            piece = rng.randbytes(min(size, 1 << 22))
            file.write(piece)
            size -= len(piece)


class Model:
    """The files of a model in a folder: `large` are in LFS, the others are in git."""

    def __init__(self, folder, large):
        self.folder = Path(folder)
        self.paths = sorted(str(path.relative_to(folder)) for path in self.folder.rglob("*") if path.is_file())
        self.large = set(large)
        self.bytes = sum((self.folder / path).stat().st_size for path in self.paths)

    @classmethod
    def made(cls, folder, sizes):
        folder = Path(folder)
        for number, (path, size) in enumerate(sorted(sizes.items())):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            noise(folder / path, size, number)
        return cls(folder, [path for path, size in sizes.items() if path.endswith(".safetensors")])

    def listing(self):
        found = []
        for path in self.paths:
            file = self.folder / path
            size = file.stat().st_size
            entry = {"type": "file", "path": path, "size": size}
            with open(file, "rb") as opened:
                if path in self.large:
                    digest = hashlib.file_digest(opened, "sha256").hexdigest()
                    entry["oid"] = hashlib.sha1(digest.encode()).hexdigest()
                    entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 134}
                else:
                    entry["oid"] = hashlib.sha1(b"blob %d\0" % size + opened.read()).hexdigest()
            found.append(entry)
        return found


class Hub:
    """A running nginx. `rate` is bytes a second of one connection, 0 for no limit."""

    def __init__(self, home, model, rate=0):
        self.home, self.model, self.rate = Path(home), model, rate
        self.hub, self.cdn = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.hub}"

    def __enter__(self):
        shutil.rmtree(self.home, ignore_errors=True)
        (self.home / "temporary").mkdir(parents=True)
        (self.home / "nginx.conf").write_text(self.config())
        command = ["/usr/sbin/nginx", "-p", self.home, "-e", self.home / "error.log", "-c", self.home / "nginx.conf"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.hub), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"nginx did not start, see {self.home}/error.log")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def config(self):
        files = self.model.listing()
        info = {"id": REPO, "modelId": REPO, "sha": COMMIT, "private": False, "gated": False, "tags": [], "downloads": 0,
                "lastModified": "2022-11-07T08:44:33.000Z", "siblings": [{"rfilename": file["path"]} for file in files]}
        (self.home / "revision.json").write_text(json.dumps(info))
        pages = [files[start:start + PAGE] for start in range(0, len(files), PAGE)] or [[]]
        nexts = ""
        for number, page in enumerate(pages):
            (self.home / f"tree{number}.json").write_text(json.dumps(page))
            if number + 1 < len(pages):
                address = f"{self.url}/api/models/{REPO}/tree/{COMMIT}?recursive=true&expand=false&cursor={number + 1}"
                nexts += f"{number} '<{address}>; rel=\"next\"';"
        etags = lfs = ""
        for file in files:
            place = f"/{REPO}/resolve/{COMMIT}/{file['path']}"
            if "lfs" in file:
                lfs += (f"location = {place} {{ add_header X-Repo-Commit {COMMIT} always; "
                        f"add_header X-Linked-Etag '\"{file['lfs']['oid']}\"' always; "
                        f"add_header X-Linked-Size {file['size']} always; add_header Accept-Ranges bytes always; "
                        f"return 302 http://127.0.0.1:{self.cdn}/{file['path']}?signature=x; }}\n")
            else:
                etags += f"'{place}' '\"{file['oid']}\"';\n"
        # Its workers would be somebody who may not read the files.
        user = "user root; " if os.geteuid() == 0 else ""
        return CONFIG.format(user=user, home=self.home, hub=self.hub, cdn=self.cdn, repo=REPO, commit=COMMIT, lfs=lfs, etags=etags,
                             nexts=nexts, rate=self.rate, files=self.model.folder)

    def urls(self):
        return [(path, f"{self.url}/{REPO}/resolve/{COMMIT}/{path}") for path in self.model.paths]

    def sent(self, path=None):
        """The bytes of bodies that were sent so far, of one file or of all; those of redirects are not counted."""
        total = 0
        for log in [self.home / "hub.log", self.home / "cdn.log"]:
            for line in log.read_text().splitlines():
                sent, _, uri, status = line.split(" ")
                if status in ("200", "206") and (path is None or uri.endswith("/" + path)):
                    total += int(sent)
        return total
