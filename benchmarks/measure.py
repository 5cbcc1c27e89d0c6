"""Measures one peer on one workload in this process and writes a JSON file; started by `python -m benchmarks`."""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import peers, workloads
from benchmarks.workloads import Spec

STEP_CHUNK, CALL_CHUNK = 0.02, 0.001  # seconds of steps, and of calls, that are timed together
CHECKED = 12  # steps whose losses are compared between peers


def cpu_clock() -> float:
    """CPU seconds of this process and its finished children.

    Pinned to one CPU that equals elapsed time on a quiet machine, and leaves out what other processes take.
    """
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + child.ru_utime + child.ru_stime


def summary(samples: list[float], scale: float = 1e6) -> dict[str, float]:
    ordered = sorted(samples)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * scale

    return {"median": at(0.5), "p10": at(0.1), "p90": at(0.9), "samples": len(ordered)}


def sampled(run: Callable[[int], None], chunk: float, budget: float, clock: Callable[[], float]) -> list[float]:
    """Seconds for each of the `k` things that `run(k)` does, in runs of about `chunk` seconds."""

    def seconds(k: int) -> float:
        start = clock()
        run(k)
        return (clock() - start) / k

    start, best = clock(), seconds(1)
    while clock() - start < min(0.3 * budget, 1.0):
        best = min(best, seconds(max(1, int(0.5 * chunk / best))))
    k = min(1000, max(1, int(chunk / best)))
    samples: list[float] = []
    start = clock()
    while True:
        samples.append(seconds(k))
        spent = clock() - start
        if (spent > budget and len(samples) >= 5) or spent > 6 * budget:
            return samples


def peak_memory() -> float:
    """The most memory this process has had, MB.  Linux counts for `ru_maxrss` what the parent had before exec, too."""
    try:
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    return int(found[1]) / 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def installed_size(names: list[str]) -> float:
    """MB of the given distributions and all they require, without .pyc."""
    from importlib import metadata

    seen: set[str] = set()
    todo, total = list(names), 0
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for path in map(distribution.locate_file, distribution.files or ()):
            if not str(path).endswith(".pyc") and os.path.exists(str(path)):
                total += os.path.getsize(str(path))
        required = [re.match(r"[\w.-]+", r) for r in distribution.requires or () if "extra ==" not in r]
        todo += [match[0] for match in required if match]
    return total / 1e6


class Measurement:
    """Fills `result` part by part; a peer may fail at one of them or lack it."""

    def __init__(self, peer: Any, spec: Spec, budget: float, clock: Callable[[], float], result: dict[str, Any]):
        self.peer, self.spec, self.budget, self.clock, self.result = peer, spec, budget, clock, result
        self.weights = workloads.init_weights(spec)
        self.batches = workloads.batches(spec)

    def all(self, only_train: bool) -> None:
        parts: dict[str, Callable[[], None]] = {"train": lambda: self.train(only_train)}
        if not only_train:
            for key in ("predict", "predict_api"):
                if hasattr(self.peer, key):
                    parts[key] = lambda key=key: self.predict(key)
            if self.spec.get("fit"):
                parts["fit"] = lambda: self.fit("fit", False)
                parts["fit_fast"] = lambda: self.fit("fit_fast", True)
        for key, part in parts.items():
            try:
                part()
            except Exception as error:
                self.result.setdefault("errors", {})[key] = f"{type(error).__name__}: {error}"[:500]
                traceback.print_exc()

    def train(self, only_train: bool) -> None:
        clock, result = self.clock, self.result
        start = clock()
        trainer = self.peer.train(self.spec, self.weights)
        build = clock() - start
        batches = [trainer.stage(x, y) for x, y in self.batches]
        start = clock()
        losses = [trainer.wait(trainer.step(batches[0]))]
        result["cold_s"] = result["import_s"] + build + clock() - start
        for i in range(1, CHECKED):
            losses.append(trainer.wait(trainer.step(batches[i % len(batches)])))
        result["losses"] = losses
        if not only_train:
            result["train"] = summary(
                sampled(functools.partial(self.steps, trainer, batches), STEP_CHUNK, self.budget, clock)
            )
        # Nothing but training has happened so far: this is its peak.
        result["train_mb"] = peak_memory()

    @staticmethod
    def steps(trainer: Any, batches: list[Any], k: int) -> None:
        """One wait for all k steps, as in a loop that logs now and then: peers may queue work."""
        handle = None
        for i in range(k):
            handle = trainer.step(batches[i % len(batches)])
        trainer.wait(handle)

    def predict(self, key: str) -> None:
        import numpy as np

        for n in self.spec["predict"]:
            call = getattr(self.peer, key)(self.spec, self.weights)
            x = np.concatenate([batch[0] for batch in self.batches])[:n].copy()
            check = [float(v) for v in np.asarray(call(x))[0][:4]]

            def run(k: int, call: Any = call, x: Any = x) -> None:
                for _ in range(k):
                    call(x)

            times = summary(sampled(run, CALL_CHUNK, self.budget / 3, self.clock))
            self.result.setdefault(key, {})[str(n)] = {**times, "check": check}

    def fit(self, key: str, fast: bool) -> None:
        rows, epochs = self.spec["fit"]["rows"], self.spec["fit"]["epochs"]
        x, y = workloads.data(self.spec, rows)
        call, clock = self.peer.fit(self.spec, self.weights, fast), self.clock
        call(x, y, 1)
        samples: list[float] = []
        begin = clock()
        while not samples or (clock() - begin < 2 * self.budget and len(samples) < 9):
            start = clock()
            call(x, y, epochs)
            samples.append(clock() - start)
        self.result[key] = rows * epochs / summary(samples, 1.0)["median"]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpus", default="", help="comma list; the first --threads of them are used")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each timed quantity")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--only", choices=["import", "train"], help="stop after the import, or after a few steps")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    clock = cpu_clock if options.clock == "cpu" else time.perf_counter
    if options.cpus:
        os.sched_setaffinity(0, [int(c) for c in options.cpus.split(",")][: options.threads])
    module, settings = peers.module_of(options.peer)
    start = clock()
    peer = module.Peer(options.threads, **settings)
    result: dict[str, Any] = {"import_s": clock() - start, "clock": options.clock, "versions": peer.versions()}
    if options.only != "import":
        spec = workloads.get(options.workload)
        Measurement(peer, spec, options.budget, clock, result).all(options.only == "train")
        result["process_mb"] = peak_memory()
        backend = settings.get("backend")
        result["disk_mb"] = installed_size([*module.PACKAGES, *(module.BACKENDS[backend] if backend else ())])
    options.out.write_text(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)  # some libraries take their time to end, or complain


if __name__ == "__main__":
    main()
