"""Running commands and measuring them, and medians as Markdown."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

RUN_MAX_SECONDS = 300


class Sample:
    def __init__(self, wall, cpu, rss_bytes, code, said):
        self.wall, self.cpu, self.rss_bytes, self.code, self.said = wall, cpu, rss_bytes, code, said


def say(text):
    print(f"[bench] {text}", file=sys.stderr, flush=True)


def run(contestant, hub, out, fresh=True):
    """One run in an empty folder, or where an earlier one left off."""
    if fresh:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
    command = [str(word) for word in contestant.command(hub, out)]
    figures = out.parent / "figures"
    # GNU time is small when it starts the command: started from here, the command's peak would be at least Python's.
    timed = ["/usr/bin/time", "--quiet", "-f", "%U %S %M", "-o", str(figures), "timeout", str(RUN_MAX_SECONDS), *command]
    began = time.perf_counter()
    done = subprocess.run(timed, env=contestant.env(hub, out), cwd=out, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)
    wall = time.perf_counter() - began
    user, system, rss = figures.read_text().split()
    return Sample(wall, float(user) + float(system), int(rss) * 1024, done.returncode, done.stdout + done.stderr)


def wrote(pid):
    """The bytes that a process wrote with calls; its sockets are not among them."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar:")), None)


def run_and_kill(contestant, hub, out, at_bytes):
    """One run that gets SIGKILL when so many bytes are written; how many were, or None if it ended before."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [str(word) for word in contestant.command(hub, out)]
    process = subprocess.Popen(command, env=contestant.env(hub, out), cwd=out, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + RUN_MAX_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        written = wrote(process.pid)
        if written is not None and written >= at_bytes:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return written
        time.sleep(0.002)
    process.kill()
    process.wait()
    return None


def interleaved(contestants, hub, out, runs):
    """Rounds in which everybody runs once: whatever the machine does meanwhile, it does to all."""
    samples = {one.name: [] for one in contestants}
    for number in range(runs):
        say(f"  round {number + 1} of {runs}")
        for one in contestants:
            sample = run(one, hub, out)
            if sample.code != 0:
                say(f"  {one.name} failed with {sample.code}: {sample.said.strip()[-300:]}")
            samples[one.name].append(sample)
    shutil.rmtree(out, ignore_errors=True)
    return samples


def mib(count):
    return f"{count / 1048576:.1f}"


def table(samples, ours, called="ours"):
    """Medians; the ratio is to ours, so above 1 means that ours is faster."""
    lines = [f"| | wall s (min–max) | wall ÷ {called} | CPU s | peak RSS MiB |", "| --- | --- | --- | --- | --- |"]
    good = {name: [one for one in all if one.code == 0] for name, all in samples.items()}
    base = median(one.wall for one in good[ours]) if good[ours] else None
    for name, all in good.items():
        if not all:
            lines.append(f"| {name} | failed | | | |")
            continue
        walls = [one.wall for one in all]
        failed = "" if len(all) == len(samples[name]) else f", {len(samples[name]) - len(all)} failed"
        ratio = f"{median(walls) / base:.2f}" if base else ""
        lines.append(f"| {name} | {median(walls):.2f} ({min(walls):.2f}–{max(walls):.2f}{failed}) | {ratio} | "
                     f"{median(one.cpu for one in all):.2f} | {mib(median(one.rss_bytes for one in all))} |")
    return lines


def noise(samples):
    """How much the runs of one contestant differ: the largest over the smallest, the worst of all contestants."""
    spreads = [max(one.wall for one in all) / min(one.wall for one in all) for all in samples.values() if all]
    return f"{max(spreads):.2f}"
