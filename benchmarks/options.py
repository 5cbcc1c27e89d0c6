"""Options of `python -m benchmarks`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from benchmarks import peers, workloads

RESULTS = Path(__file__).resolve().parent / "results"
MOST = 4096  # threads, CPUs


def listed(what: str, known: Collection[Any]) -> Callable[[str], list[Any]]:
    """Reads a comma list of known words or numbers."""

    def convert(text: str) -> list[Any]:
        kind: Any = type(next(iter(known)))
        found = []
        for word in text.split(","):
            if kind is int and not word.isdecimal():
                raise argparse.ArgumentTypeError(f"{word!r} is not a number")
            if kind(word) not in known:
                there = f"those there are: {', '.join(known)}" if kind is str else f"expected less than {MOST}"
                raise argparse.ArgumentTypeError(f"there is no {what} {word!r}; {there}")
            found.append(kind(word))
        return found

    return convert


def _add_selection(parser: argparse.ArgumentParser) -> None:
    """What is measured, where."""
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    about = "interpreter that has the other libraries (or environment PEERS_PYTHON; default: this one)"
    parser.add_argument("--peers-python", metavar="PATH", default=python, help=about)
    names = peers.PEERS
    parser.add_argument("--peers", type=listed("peer", names), default=list(names), help=", ".join(names))
    names = workloads.WORKLOADS
    parser.add_argument("--workloads", type=listed("workload", names), default=list(names), help=", ".join(names))
    counts = listed("number of threads", range(1, MOST))
    parser.add_argument("--threads", type=counts, default=[1, 2], help="default: 1,2")
    about = "CPUs to pin to, in order of use; default: all that are allowed"
    cpus = listed("CPU", range(MOST))
    parser.add_argument("--cpus", type=cpus, default=sorted(os.sched_getaffinity(0)), help=about)


def _add_timing(parser: argparse.ArgumentParser) -> None:
    """How it is measured."""
    parser.add_argument("--budget", type=float, default=2.0, metavar="S", help="seconds for each timed quantity")
    parser.add_argument("--repeat", type=int, default=1, help="processes for each cell; their median is reported")
    parser.add_argument("--retry", type=int, default=2, help="further tries of a cell that others disturbed")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="for each process")
    about = "wait up to S seconds for idle CPUs before each process"
    parser.add_argument("--wait-idle", type=float, default=0, metavar="S", help=about)
    about = "cpu: with 1 thread count CPU time, for a machine that is not quiet"
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help=about)


def _add_reporting(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    parser.add_argument("--add", action="store_true", help="keep other cells of results.json")
    parser.add_argument("--report-only", action="store_true", help="measure nothing, write the report anew")
    add_output(parser, "ratios or results")


def add_output(parser: argparse.ArgumentParser, marks: str) -> None:
    """Where it is written."""
    about = f"also put the tables between the marks of a Markdown file: {marks}, see README.md"
    parser.add_argument("--update", action="append", type=Path, default=[], metavar="FILE", help=about)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    about = "Measures layerflow beside torch, JAX and Keras, every (peer, workload, threads) in a process of its own."
    more = "python -m benchmarks kernels: the kernels beside what the processor can do; see its --help."
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=about, epilog=more)
    _add_selection(parser)
    _add_timing(parser)
    _add_reporting(parser)
    options = parser.parse_args(arguments)
    if options.report_only:
        return options
    if len(options.cpus) < max(options.threads):
        there = f"there are {len(options.cpus)} (--threads, --cpus)"
        parser.error(f"{max(options.threads)} threads need as many CPUs, {there}")
    found = shutil.which(options.peers_python)
    if found is None:
        parser.error(f"--peers-python: there is no program {options.peers_python!r}")
    options.peers_python = os.path.abspath(found)
    return options
