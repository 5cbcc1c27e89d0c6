"""The rounding error of Winograd's algorithm: the weights after a training, compared with a run in double precision.

    python -m benchmarks.winograd_error --peers-python PEERS/bin/python

Trains the workload W2 without its dropout from the same weights on the same batches: with layerflow, with and without
Winograd's algorithm, and with torch, in float32 and float64.  Prints how far the weights of each float32 run are from
those of the float64 run, at some steps on the way too, and whether layerflow's stay within three times torch's at the
end.  Images are the random ones of the workload and, where LAYERFLOW_MNIST names its folder, those of MNIST.

Two things to know when reading the table.  Training doubles any difference every few steps: after a hundred of them all
float32 runs are far from float64, and the first steps tell more about the arithmetic.  And the background of MNIST is
zero, as are biases at the start, so that relu is taken of exact zeros there, where its slope is a matter of definition;
Winograd's algorithm computes some of them as 1e-9 instead, which sends gradients to the biases that are right for the
other slope.  Adam makes a step of full size of any gradient, and so a few biases differ by 0.001 after the first step.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import workloads
from benchmarks.workloads import Spec

HERE = Path(__file__).resolve().parent
WITHIN = 3.0  # times torch's error
Weights = list[list[Any]]


def workload() -> Spec:
    """W2 without dropout, whose masks differ between libraries."""
    spec = workloads.get("W2")
    return {**spec, "layers": [described for described in spec["layers"] if described["kind"] != "dropout"]}


def images(spec: Spec, steps: int, seed: int, from_mnist: bool) -> tuple[Any, Any]:
    """x and y of `steps` batches."""
    rows = steps * spec["batch"]
    if not from_mnist:
        return workloads.data(spec, rows, seed)
    from layerflow.datasets import mnist

    (x, y), _ = mnist.load()
    taken = np.random.default_rng(seed).choice(len(x), rows, rows > len(x))
    return x[taken, ..., None].astype(np.float32) / 255, np.eye(10, dtype=np.float32)[y[taken]]


def batches(spec: Spec, x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    for at in range(0, len(x), spec["batch"]):
        yield x[at : at + spec["batch"]], y[at : at + spec["batch"]]


# --- the runs: each gives the weights after the steps in `at` -----------------------


def with_layerflow(spec: Spec, weights: Weights, x: Any, y: Any, at: Sequence[int], mode: bool | str) -> list[Weights]:
    """layerflow's run, with `lf.config.winograd` set to `mode`."""
    import layerflow as lf
    from benchmarks import layerflow_peer

    before, found = lf.config.winograd(), []
    lf.config.set_winograd(mode)
    try:
        model = layerflow_peer.Peer(threads=1).model(spec, weights)
        o = spec["optimizer"]
        # The formula of torch, where epsilon is added to the corrected average; Keras's, of the peer, adds it before.
        adam = lf.train.adam(o["lr"], beta1=o["beta1"], beta2=o["beta2"], epsilon=o["eps"])
        model.compile(adam, "categorical_crossentropy")
        for step, batch in enumerate(batches(spec, x, y), 1):
            model.train_on_batch(*batch)
            if step in at:
                found.append([layer.get_weights() for layer in model.layers])
    finally:
        lf.config.set_winograd(before)
    return found


def with_torch(spec: Spec, weights: Weights, x: Any, y: Any, at: Sequence[int], dtype: str) -> list[Weights]:
    """torch's run; weights in the layout of the workloads."""
    from benchmarks import torch_peer

    peer, found = torch_peer.Peer(threads=1), []
    torch, kind = peer.torch, getattr(peer.torch, dtype)
    model = peer.model(spec, weights, softmax=False).to(kind).train()
    optimizer, criterion, stage = peer.optimizer(spec, model), torch.nn.CrossEntropyLoss(), peer.stage(spec)
    for step, batch in enumerate(batches(spec, x, y), 1):
        inputs, labels = stage(*batch)
        optimizer.zero_grad()
        criterion(model(inputs.to(kind)), labels).backward()
        optimizer.step()
        if step in at:
            found.append(in_layout(spec, [p.detach().numpy().copy() for p in model.parameters()]))
    return found


def in_layout(spec: Spec, parameters: list[Any]) -> Weights:
    """torch's parameters as the workload has them: the way back of `torch_peer.Peer.model`."""
    left, found, flattened = iter(parameters), [], None
    for described, shape in zip(spec["layers"], workloads.shapes(spec), strict=False):
        own: list[Any] = []
        if described["kind"] == "flatten":
            flattened = shape
        elif described["kind"] == "conv":
            own = [next(left).transpose(2, 3, 1, 0), next(left)]
        elif described["kind"] == "dense":
            kernel = next(left).T
            if flattened:
                rows, columns, channels = flattened
                kernel = kernel.reshape(channels, rows, columns, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)
                flattened = None
            own = [kernel, next(left)]
        found.append(own)
    return found


def torch_elsewhere(python: str, seed: int, x: Any, y: Any, at: Sequence[int], dtype: str) -> list[Any]:
    """`with_torch` in a process of another interpreter; the weights of each step as one array."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "weights.npz")
        command = [python, "-m", "benchmarks.winograd_error", "--torch", dtype, "--out", str(out)]
        command += ["--at", *map(str, at), "--seed", str(seed), "--data", str(Path(folder, "data.npz"))]
        np.savez(Path(folder, "data.npz"), x=x, y=y)
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{python} trains nothing with torch:\n{done.stderr}")
        with np.load(out) as stored:
            return [stored[name] for name in stored.files]


def be_torch(options: argparse.Namespace) -> None:
    """The other end of `torch_elsewhere`."""
    spec = workload()
    weights = workloads.init_weights(spec, options.seed[0])
    with np.load(options.data) as stored:
        found = with_torch(spec, weights, stored["x"], stored["y"], options.at, options.torch)
    np.savez(options.out, *map(flat, found))


# --- the comparison ------------------------------------------------------------------


def flat(weights: Weights) -> Any:
    return np.concatenate([np.ravel(array) for arrays in weights for array in arrays]).astype(np.float64)


def errors(got: Any, exact: Any) -> tuple[float, float]:
    """RMS and largest difference of all weights."""
    difference = np.abs(got - exact)
    return float(np.sqrt(np.mean(difference**2))), float(difference.max())


def compared(python: str, seed: int, mnist: bool, at: Sequence[int]) -> dict[str, list[tuple[float, float]]]:
    """Errors of each float32 run by its name, at each of the steps; torch's first."""
    spec = workload()
    weights, (x, y) = workloads.init_weights(spec, seed), images(spec, max(at), seed, mnist)
    exact = torch_elsewhere(python, seed, x, y, at, "float64")
    runs = {
        "torch": torch_elsewhere(python, seed, x, y, at, "float32"),
        "layerflow, Winograd": [flat(w) for w in with_layerflow(spec, weights, x, y, at, "auto")],
        "layerflow, direct": [flat(w) for w in with_layerflow(spec, weights, x, y, at, False)],
    }
    return {name: [errors(*pair) for pair in zip(run, exact, strict=True)] for name, run in runs.items()}


def report(kind: str, seed: int, found: dict[str, list[tuple[float, float]]]) -> bool:
    """Prints the rows of one training; whether layerflow's errors are within the bound after the last step."""
    reference, within = found["torch"], True
    for name, own in found.items():
        cells = [f"{rms:.1e} ({rms / torch:.2f})" for (rms, _), (torch, _) in zip(own, reference, strict=True)]
        ratios = [mine / torch for mine, torch in zip(own[-1], reference[-1], strict=True)]
        within = within and max(ratios) <= WITHIN
        print(f"| {kind} {seed} | {name} | {' | '.join(cells)} | {own[-1][1]:.1e} ({ratios[1]:.2f}) |", flush=True)
    return within


def parsed() -> argparse.Namespace:
    about = "Compares the rounding errors of layerflow, with and without Winograd's algorithm, and of torch."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.winograd_error", description=about)
    python, about = os.environ.get("PEERS_PYTHON", sys.executable), "interpreter that has torch (or PEERS_PYTHON)"
    parser.add_argument("--peers-python", metavar="PATH", default=python, help=about)
    parser.add_argument("--at", type=int, nargs="+", default=[1, 10, 30, 100], help="steps to compare after")
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2], help="each a training of its own")
    parser.add_argument("--torch", choices=["float32", "float64"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.torch:
        be_torch(options)
        return
    at, python = sorted(options.at), os.path.abspath(shutil.which(options.peers_python) or "")
    probe = [python, "-c", "import torch"]
    if not os.path.isfile(python) or subprocess.run(probe, capture_output=True, check=False).returncode:
        print(f"skipped: {options.peers_python} has no torch; name an interpreter that has in PEERS_PYTHON.")
        return
    print("W2 without dropout: distance of the weights from torch in float64 after some steps; in brackets relative to")
    print("that of torch in float32\n")
    print(f"| images, seed | float32 run | {' | '.join(f'RMS, {n} steps' for n in at)} | largest, {at[-1]} steps |")
    print(f"| --- | --- | {'---: | ' * len(at)}---: |")
    within = True
    for mnist in [False, True] if "LAYERFLOW_MNIST" in os.environ else [False]:
        for seed in options.seed:
            kind = "MNIST" if mnist else "random"
            within = report(kind, seed, compared(python, seed, mnist, at)) and within
    print(f"\nlayerflow after {at[-1]} steps within {WITHIN:g} times torch's error: {'yes' if within else 'no'}")


if __name__ == "__main__":
    main()
