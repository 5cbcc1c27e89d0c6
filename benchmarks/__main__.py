"""Measures layerflow beside torch, JAX and Keras, every (peer, workload, threads) in a process of its own.

    python -m benchmarks --peers-python PEERS/bin/python --out results
    python -m benchmarks kernels --out results

The first writes results.json, results.md and results.png; the second times layerflow's kernels and writes kernels.json,
kernels.md and kernels.png.  See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine, options, peers, plot, report

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
CACHES = ("TMPDIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "NUMBA_CACHE_DIR", "LAYERFLOW_CACHE_DIR")

Result = dict[str, Any]


def run_process(chosen: argparse.Namespace, peer: str, workload: str, threads: int, cache: str, *more: str) -> Result:
    """What one process measured, or {"error": its last lines}."""
    python = sys.executable if peer == peers.OURS else chosen.peers_python
    cpus = chosen.cpus[:threads]
    clock = chosen.clock if threads == 1 else "wall"
    out, log = Path(cache, "result.json"), Path(cache, "log.txt")
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), **dict.fromkeys(CACHES, cache)}
    command = [python, "-m", "benchmarks.measure", "--peer", peer, "--workload", workload, "--threads", str(threads)]
    command += ["--cpus", ",".join(map(str, cpus)), "--budget", str(chosen.budget), "--clock", clock]
    command += ["--out", str(out), *more]
    machine.wait_until_idle(cpus, chosen.wait_idle)
    start, busy = time.time(), machine.busy_seconds(cpus)
    with log.open("w") as stream:
        child = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, cwd=HERE.parent, start_new_session=True
        )
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.time() - start > chosen.timeout:
                os.killpg(child.pid, signal.SIGKILL)
                os.wait4(child.pid, 0)
                child.returncode = -signal.SIGKILL
                return {"error": f"stopped after {chosen.timeout:g} s"}
            time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(status)
    if status or not out.exists():
        return {"error": "\n".join(log.read_text(errors="replace").strip().splitlines()[-4:])}
    result = json.loads(out.read_text())
    out.unlink()
    others = machine.busy_seconds(cpus) - busy - usage.ru_utime - usage.ru_stime
    return {**result, "other_load": max(0.0, others / ((time.time() - start) * len(cpus)))}


def run_cell(chosen: argparse.Namespace, peer: str, workload: str, threads: int) -> Result:
    """One measurement; again while other processes disturb it.  The least disturbed is kept."""
    best: Result | None = None
    for _ in range(chosen.retry + 1):
        cache = tempfile.mkdtemp(prefix="benchmark-")
        try:
            result = run_process(chosen, peer, workload, threads, cache)
            if peer in peers.KEEPS_CODE and "train" in result:
                warm = run_process(chosen, peer, workload, threads, cache, "--only", "train")
                result.update(warm_s=warm.get("cold_s"), warm_train_mb=warm.get("train_mb"))
        finally:
            shutil.rmtree(cache, ignore_errors=True)
        if best is None or result.get("other_load", 1) < best.get("other_load", 1):
            best = result
        counted = chosen.clock == "cpu" and threads == 1
        if "error" in result or counted or result["other_load"] <= report.DISTURBED:
            break
    assert best is not None
    return best


def present(chosen: argparse.Namespace, book: dict[str, Any]) -> list[str]:
    """The chosen peers that start; a line says of the others why they are left out, and the book keeps it."""
    found, missing = [], book.setdefault("missing", {})
    # The peers are installed, and so have their bytecode on disk.
    compileall.compile_dir(HERE.parent / "layerflow", quiet=2)
    for peer in chosen.peers:  # the first import reads from the disk: not measured
        with tempfile.TemporaryDirectory(prefix="benchmark-") as cache:
            result = run_process(chosen, peer, chosen.workloads[0], 1, cache, "--only", "import")
        if "error" in result:
            missing[peer] = result["error"].splitlines()[-1] if result["error"] else "no reason given"
            print(f"{peer} is left out, it does not start: {missing[peer]}", flush=True)
        else:
            missing.pop(peer, None)
            found.append(peer)
    return found


def measure(chosen: argparse.Namespace, book: dict[str, Any], path: Path) -> None:
    """Fills the book, written to `path` after each cell; peers of a line follow each other closely in time."""
    there = present(chosen, book)
    cells = [(t, w) for t in chosen.threads for w in chosen.workloads]
    for threads, workload in cells:
        for peer in there:
            book["cells"][f"{peer}/{workload}/{threads}"] = []
        for peer in there * chosen.repeat:
            result = run_cell(chosen, peer, workload, threads)
            book["cells"][f"{peer}/{workload}/{threads}"].append(result)
            step = f"{result['train']['median']:,.0f} us a step" if "train" in result else "no train step"
            load = f"others took {result.get('other_load', 0):.0%}"
            trouble = result.get("error") or result.get("errors") or load
            print(f"{threads} thread(s), {workload}, {peer}: {step}; {trouble}", flush=True)
            path.write_text(json.dumps(book, indent=1))


def main() -> None:
    if sys.argv[1:2] == ["kernels"]:
        # Here alone this process needs layerflow.
        importlib.import_module("benchmarks.kernel_report").main(sys.argv[2:])
        return
    chosen = options.parsed()
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / "results.json"
    book: dict[str, Any] = {"machine": machine.description(), "cells": {}}
    if chosen.report_only and not path.exists():
        raise SystemExit(f"--report-only: there is no {path}")
    if (chosen.add or chosen.report_only) and path.exists():
        book = json.loads(path.read_text())
    if not chosen.report_only:
        measure(chosen, book, path)
    found = report.Book(book)
    (chosen.out / "results.md").write_text(report.markdown(found))
    for file in chosen.update:
        full = f"{report.provenance(found)}\n\n{report.tables(found, '###')}"
        report.insert(file, {"ratios": report.ratios(found), "results": full})
    plot.ratios(found, chosen.out / "results.png")
    print(f"wrote {chosen.out / 'results.md'}")


if __name__ == "__main__":
    main()
