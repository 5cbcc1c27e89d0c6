"""Stores what Keras computes for the cases: run with a Python that has Keras.

    KERAS_BACKEND=jax /path/to/python tests/oracles/keras_metrics.py

Writes data/keras_metrics.npz: the inputs of each kind of data, and for each case the value after each batch, with and
without sample weights; data/keras_metrics.json: the cases and the version of Keras.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras  # pyright: ignore[reportMissingImports]
import numpy as np
from cases import BATCHES, DATA, LOSSES, METRICS, UNWEIGHTED_METRICS, batches_of, name_of, weights_of

FOLDER = Path(__file__).parent / "data"


def losses_after(case: Any, weighted: bool) -> np.ndarray | None:
    name, config, kind = case
    loss, weights = getattr(keras.losses, name)(**config), weights_of(kind)
    found = [
        np.asarray(loss(t, p, sample_weight=weights[b] if weighted else None))
        for b, (t, p) in enumerate(batches_of(kind))
    ]
    return np.stack(found)


def metrics_after(case: Any, weighted: bool) -> np.ndarray | None:
    name, config, kind = case
    metric, weights, found = getattr(keras.metrics, name)(**config), weights_of(kind), []
    for b, (t, p) in enumerate(batches_of(kind)):
        metric.update_state(t, p, sample_weight=weights[b] if weighted else None)
        found.append(np.asarray(metric.result(), np.float32))
    return np.stack(found)


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    for kind in DATA:
        pairs = batches_of(kind)
        arrays[f"{kind}/y_true"], arrays[f"{kind}/y_pred"] = (np.stack([pair[i] for pair in pairs]) for i in (0, 1))
        arrays[f"{kind}/weight"] = weights_of(kind)
    listed = []
    for group, cases, compute in (("loss", LOSSES, losses_after), ("metric", METRICS, metrics_after)):
        for at, case in enumerate(cases):
            modes = ["plain", "weighted"]
            if group == "metric" and case[0] in UNWEIGHTED_METRICS:
                modes = ["plain"]
            for mode in modes:
                try:
                    arrays[f"{group}{at}/{mode}"] = np.asarray(compute(case, mode == "weighted"))
                except Exception as error:  # what Keras refuses is left out, and said
                    print(name_of(case), mode, "->", type(error).__name__, str(error)[:100])
            listed.append({"group": group, "class": case[0], "config": case[1], "data": case[2], "key": f"{group}{at}"})
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / "keras_metrics.npz", **arrays)  # pyright: ignore[reportArgumentType]
    described = {"peer": f"keras {keras.__version__}, {keras.backend.backend()}", "batches": BATCHES, "cases": listed}
    (FOLDER / "keras_metrics.json").write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()
