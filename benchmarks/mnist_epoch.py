"""Seconds for an epoch of real MNIST: the network of 594,922 weights in layerflow and in Keras on TensorFlow.

    LAYERFLOW_MNIST=FOLDER python -m benchmarks.mnist_epoch --peers-python PEERS/bin/python

Trains by `fit`, 60,000 images in batches of 128, from the same weights, each library in a process of its own, and
prints a Markdown table: the first epoch with what is compiled for it, the median of those after it, the CPU seconds of
one of these (much less than elapsed time times threads: the machine was busy with other things), and the accuracy on
the 10,000 test images at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import peers, workloads

HERE = Path(__file__).resolve().parent
COMPARED = [peers.OURS, "keras-tf"]
WITH_FIT = [name for name in peers.PEERS if name == peers.OURS or name.startswith("keras")]


def measure(peer_name: str, threads: int, epochs: int, data: Path) -> dict[str, Any]:
    """Trains in this process: elapsed and CPU seconds of each epoch, and the test accuracy after the last."""
    import numpy as np

    module, settings = peers.module_of(peer_name)
    peer, spec = module.Peer(threads, **settings), workloads.get("W2")
    with np.load(data) as stored:
        x, y, x_test, y_test = (stored[name] for name in ("x", "y", "x_test", "y_test"))
    model = peer.model(spec, workloads.init_weights(spec))
    elapsed, cpu = [], []
    for _ in range(epochs):
        start, before = time.perf_counter(), time.process_time()
        model.fit(x, y, epochs=1, batch_size=spec["batch"], verbose=0)
        elapsed.append(time.perf_counter() - start)
        cpu.append(time.process_time() - before)
    accuracy = float(np.mean(np.argmax(model.predict(x_test, verbose=0), 1) == y_test))
    return {"elapsed": elapsed, "cpu": cpu, "accuracy": accuracy, "versions": peer.versions()}


def elsewhere(options: argparse.Namespace, peer: str, threads: int, data: Path) -> dict[str, Any]:
    """`measure` in a process of its own, on as many CPUs as threads; {"error": its last lines} where it fails."""
    python = sys.executable if peer == peers.OURS else options.peers_python
    command = [python, "-m", "benchmarks.mnist_epoch", "--measure", peer, "--threads", str(threads)]
    command += ["--epochs", str(options.epochs), "--data", str(data), "--out", str(data.parent / "out.json")]
    cpus = options.cpus[:threads]
    # Every run compiles anew.
    cache = tempfile.mkdtemp(dir=data.parent)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "NUMBA_CACHE_DIR": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        command,
        env=environment,
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    if done.returncode:
        return {"error": " ".join(done.stderr.strip().splitlines()[-1:])}
    return json.loads((data.parent / "out.json").read_text())


def row(peer: str, threads: int, found: dict[str, Any]) -> str:
    """A line of the table."""
    if "error" in found:
        return f"| {peer} | {threads} | {found['error']} | | | |"
    first, *later = found["elapsed"]
    usual, cpu = statistics.median(later or [first]), statistics.median(found["cpu"][1:] or found["cpu"])
    name = ", ".join(f"{library} {version}" for library, version in found["versions"].items())
    return f"| {name} | {threads} | {first:.1f} | {usual:.1f} | {cpu:.1f} | {found['accuracy']:.4f} |"


def store_images(path: Path) -> None:
    """MNIST in a file that needs NumPy alone to be read."""
    import numpy as np

    from layerflow.datasets import mnist

    (x, y), (x_test, y_test) = mnist.load()
    x, x_test = (images[..., None].astype(np.float32) / 255 for images in (x, x_test))
    np.savez(path, x=x, y=np.eye(10, dtype=np.float32)[y], x_test=x_test, y_test=y_test)


def parsed() -> argparse.Namespace:
    about = "Times epochs of MNIST in layerflow and in Keras on TensorFlow."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_epoch", description=about)
    python, about = os.environ.get("PEERS_PYTHON", sys.executable), "interpreter that has Keras (or PEERS_PYTHON)"
    parser.add_argument("--peers-python", metavar="PATH", default=python, help=about)
    parser.add_argument("--peers", nargs="+", choices=WITH_FIT, default=COMPARED)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=3)
    about = "CPUs to pin to, in order of use; default: all that are allowed"
    parser.add_argument("--cpus", type=int, nargs="+", default=sorted(os.sched_getaffinity(0)), help=about)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.measure:
        found = measure(options.measure, options.threads[0], options.epochs, options.data)
        options.out.write_text(json.dumps(found))
        return
    if "LAYERFLOW_MNIST" not in os.environ:
        raise SystemExit("MNIST is not part of layerflow: name its folder in LAYERFLOW_MNIST.")
    found = shutil.which(options.peers_python)
    if found is None:
        raise SystemExit(f"there is no program {options.peers_python!r} (PEERS_PYTHON, --peers-python).")
    options.peers_python = os.path.abspath(found)
    if len(options.cpus) < max(options.threads):
        raise SystemExit(f"{max(options.threads)} threads need as many CPUs, there are {len(options.cpus)}.")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "mnist.npz")
        store_images(data)
        print("| library | threads | first epoch, s | later epochs, s | CPU time of these, s | test accuracy |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for threads in options.threads:
            for peer in options.peers:
                print(row(peer, threads, elsewhere(options, peer, threads, data)), flush=True)


if __name__ == "__main__":
    main()
