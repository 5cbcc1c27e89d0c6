"""Measures layerflow beside torch, JAX and Keras, every (peer, workload, threads) in a process of its own.

    python -m benchmarks --peers-python PEERS/bin/python

writes results.json, results.md and results.png into benchmarks/results.  See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from benchmarks import machine, peers, plot, report, workloads

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
CACHES = ("TMPDIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "NUMBA_CACHE_DIR", "LAYERFLOW_CACHE_DIR")

Result = dict[str, Any]


def run_process(options: argparse.Namespace, peer: str, workload: str, threads: int, cache: str, *more: str) -> Result:
    """What one process measured, or {"error": its last lines}."""
    python = sys.executable if peer == peers.OURS else options.peers_python
    cpus = options.cpus[:threads]
    clock = options.clock if threads == 1 else "wall"
    out, log = Path(cache, "result.json"), Path(cache, "log.txt")
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), **dict.fromkeys(CACHES, cache)}
    command = [python, "-m", "benchmarks.measure", "--peer", peer, "--workload", workload, "--threads", str(threads)]
    command += ["--cpus", ",".join(map(str, cpus)), "--budget", str(options.budget), "--clock", clock]
    command += ["--out", str(out), *more]
    machine.wait_until_idle(cpus, options.wait_idle)
    start, busy = time.time(), machine.busy_seconds(cpus)
    with log.open("w") as stream:
        child = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, cwd=HERE.parent, start_new_session=True
        )
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.time() - start > options.timeout:
                os.killpg(child.pid, signal.SIGKILL)
                os.wait4(child.pid, 0)
                child.returncode = -signal.SIGKILL
                return {"error": f"stopped after {options.timeout:g} s"}
            time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(status)
    if status or not out.exists():
        return {"error": "\n".join(log.read_text(errors="replace").strip().splitlines()[-4:])}
    result = json.loads(out.read_text())
    out.unlink()
    others = machine.busy_seconds(cpus) - busy - usage.ru_utime - usage.ru_stime
    return {**result, "other_load": max(0.0, others / ((time.time() - start) * len(cpus)))}


def run_cell(options: argparse.Namespace, peer: str, workload: str, threads: int) -> Result:
    """One measurement; again while other processes disturb it.  The least disturbed is kept."""
    best: Result | None = None
    for _ in range(options.retry + 1):
        cache = tempfile.mkdtemp(prefix="benchmark-")
        try:
            result = run_process(options, peer, workload, threads, cache)
            if getattr(peers.module_of(peer)[0], "DISK_CACHE", False) and "train" in result:
                warm = run_process(options, peer, workload, threads, cache, "--only", "cold")
                result["warm_s"] = warm.get("cold_s")
        finally:
            shutil.rmtree(cache, ignore_errors=True)
        if best is None or result.get("other_load", 1) < best.get("other_load", 1):
            best = result
        counted = options.clock == "cpu" and threads == 1
        if "error" in result or counted or result["other_load"] <= report.DISTURBED:
            break
    assert best is not None
    return best


def measure(options: argparse.Namespace, book: dict[str, Any], path: Path) -> None:
    """Fills the book, written to `path` after each cell; peers of a line follow each other closely in time."""
    for peer in options.peers:  # the first import reads from the disk: not measured
        with tempfile.TemporaryDirectory() as cache:
            found = run_process(options, peer, options.workloads[0], 1, cache, "--only", "import")
        if "error" in found:
            raise SystemExit(f"{peer} does not start with {options.peers_python}:\n{found['error']}")
    cells = [(t, w) for t in options.threads for w in options.workloads]
    for threads, workload in cells:
        for peer in options.peers:
            book["cells"][f"{peer}/{workload}/{threads}"] = []
        for peer in options.peers * options.repeat:
            result = run_cell(options, peer, workload, threads)
            book["cells"][f"{peer}/{workload}/{threads}"].append(result)
            step = f"{result['train']['median']:,.0f} us a step" if "train" in result else "no train step"
            load = f"others took {result.get('other_load', 0):.0%}"
            trouble = result.get("error") or result.get("errors") or load
            print(f"{threads} thread(s), {workload}, {peer}: {step}; {trouble}", flush=True)
            path.write_text(json.dumps(book, indent=1))


def listed(known: Collection[Any]) -> Callable[[str], list[Any]]:
    """Reads a comma list of known words or numbers."""

    def convert(text: str) -> list[Any]:
        kind: Any = type(next(iter(known)))
        found = [kind(word) for word in text.split(",")]
        if unknown := [w for w in found if w not in known]:
            raise argparse.ArgumentTypeError(f"{unknown} not among {known}")
        return found

    return convert


def add_selection(parser: argparse.ArgumentParser) -> None:
    """What is measured, where."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    about = "interpreter that has the other libraries (or environment PEERS_PYTHON)"
    parser.add_argument("--peers-python", metavar="PATH", default=python, help=about)
    parser.add_argument("--peers", type=listed(peers.PEERS), default=list(peers.PEERS), help=", ".join(peers.PEERS))
    names = workloads.WORKLOADS
    parser.add_argument("--workloads", type=listed(names), default=list(names), help=", ".join(names))
    parser.add_argument("--threads", type=listed(range(1, 257)), default=[1, 2], help="default: 1,2")
    about = "CPUs to pin to, in order of use; default: all that are allowed"
    parser.add_argument("--cpus", type=listed(range(4096)), default=sorted(os.sched_getaffinity(0)), help=about)


def add_timing(parser: argparse.ArgumentParser) -> None:
    """How it is measured."""
    parser.add_argument("--budget", type=float, default=2.0, metavar="S", help="seconds for each timed quantity")
    parser.add_argument("--repeat", type=int, default=1, help="processes for each cell; their median is reported")
    parser.add_argument("--retry", type=int, default=2, help="further tries of a cell that others disturbed")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="for each process")
    about = "wait up to S seconds for idle CPUs before each process"
    parser.add_argument("--wait-idle", type=float, default=0, metavar="S", help=about)
    about = "cpu: with 1 thread count CPU time, for a machine that is not quiet"
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help=about)


def add_reporting(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    parser.add_argument("--add", action="store_true", help="keep other cells of results.json")
    parser.add_argument("--report-only", action="store_true", help="measure nothing, write the report anew")
    about = "put the table of ratios between the marks of a Markdown file, such as README.md"
    parser.add_argument("--update", action="append", type=Path, default=[], metavar="FILE", help=about)
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    about = "Measures layerflow beside torch, JAX and Keras, every (peer, workload, threads) in a process of its own."
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=about)
    add_selection(parser)
    add_timing(parser)
    add_reporting(parser)
    options = parser.parse_args(arguments)
    if len(options.cpus) < max(options.threads):
        parser.error(f"{max(options.threads)} threads need as many CPUs, there are {len(options.cpus)}")
    return options


def main() -> None:
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    book: dict[str, Any] = {"machine": machine.description(), "cells": {}}
    if (options.add or options.report_only) and path.exists():
        book = json.loads(path.read_text())
    if not options.report_only:
        measure(options, book, path)
    found = report.Book(book)
    (options.out / "results.md").write_text(report.markdown(found))
    for file in options.update:
        report.insert(file, "benchmark", report.ratios(found))
    plot.ratios(found, options.out / "results.png")
    print(f"wrote {options.out / 'results.md'}")


if __name__ == "__main__":
    main()
