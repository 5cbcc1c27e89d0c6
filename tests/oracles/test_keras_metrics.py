"""Losses and streaming metrics against the numbers that Keras computed from the same batches (keras_metrics.py)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow import config

FOLDER = Path(__file__).parent / "data"
DESCRIBED = json.loads((FOLDER / "keras_metrics.json").read_text())
BATCHES = DESCRIBED["batches"]
LOSSES = [case for case in DESCRIBED["cases"] if case["group"] == "loss"]
METRICS = [case for case in DESCRIBED["cases"] if case["group"] == "metric"]
MODES = ("plain", "weighted")
CLOSE: Any = {"rtol": 3e-5, "atol": 2e-6}


@cache
def stored() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "keras_metrics.npz", allow_pickle=False) as found:
        return dict(found)


def data(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(stored()[f"{case['data']}/{part}"] for part in ("y_true", "y_pred", "weight"))  # type: ignore


def expected(case: dict[str, Any], mode: str) -> np.ndarray | None:
    return stored().get(f"{case['key']}/{mode}")


def label(case: dict[str, Any]) -> str:
    return f"{case['class']}-{case['data']}-{case['key']}"


def make(module: Any, case: dict[str, Any]) -> Any:
    made = getattr(module, case["class"])(**case["config"])
    again = type(made).from_config(json.loads(json.dumps(made.get_config())))
    assert again.get_config() == made.get_config()
    return again


def test_every_class_has_a_case():
    assert {case["class"] for case in LOSSES} == set(lf.losses.LOSS_CLASSES.names())
    alone = {"Mean", "Sum", "MeanMetricWrapper"}
    assert {case["class"] for case in METRICS} == set(lf.metrics.METRIC_CLASSES.names()) - alone


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("case", LOSSES, ids=label)
def test_loss(case, compiled):
    truth, predicted, weight = data(case)
    loss = make(lf.losses, case)
    call = (
        lf.jit(lambda t, p, w: (loss(t, p), loss(t, p, w))) if compiled else lambda t, p, w: (loss(t, p), loss(t, p, w))
    )
    if expected(case, "weighted") is None:
        call = lf.jit(lambda t, p, w: (loss(t, p),)) if compiled else lambda t, p, w: (loss(t, p),)
    found = [call(truth[b], predicted[b], weight[b]) for b in range(BATCHES)]
    for mode, values in zip(MODES, zip(*found, strict=True), strict=False):
        np.testing.assert_allclose(np.stack(values), stored()[f"{case['key']}/{mode}"], **CLOSE, err_msg=mode)


@pytest.mark.parametrize("case", LOSSES, ids=label)
def test_gradient_of_loss_is_that_of_finite_differences(case):
    """In float64: a step of 1e-6 leaves an error of some 1e-9."""
    truth, predicted, _ = (a.astype(np.float64) for a in data(case))
    loss, t, p = make(lf.losses, case), truth[0][:4], predicted[0][:4].copy()

    def value(x):
        return np.asarray(loss(t, x)).sum(dtype=np.float64)

    gradient = np.asarray(lf.grad(lambda x: loss(t, x).sum())(p))
    assert gradient.dtype == np.float64
    numeric = np.zeros_like(p)
    for place in np.ndindex(*p.shape):
        up, down = p.copy(), p.copy()
        up[place] += 1e-6
        down[place] -= 1e-6
        numeric[place] = (value(up) - value(down)) / 2e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", METRICS, ids=label)
def test_metric_alone(case, mode):
    right = expected(case, mode)
    if right is None:
        pytest.skip("Keras takes no weights of samples here")
    truth, predicted, weight = data(case)
    metric = make(lf.metrics, case)
    for repeat in range(2):  # again after a reset
        for b in range(BATCHES):
            metric.update_state(truth[b], predicted[b], weight[b] if mode == "weighted" else None)
            np.testing.assert_allclose(metric.result(), right[b], **CLOSE, err_msg=f"batch {b}, round {repeat}")
        metric.reset_state()


@pytest.mark.parametrize("compiled", [False, True], ids=["uncompiled", "compiled"])
@pytest.mark.parametrize("kind", sorted({case["data"] for case in METRICS}))
def test_metrics_in_the_step_of_a_model(kind, compiled):
    """All metrics on one kind of data in one model whose output is its input, plain and weighted, batch by batch."""
    cases = [case for case in METRICS if case["data"] == kind]
    weighted = [case for case in cases if expected(case, "weighted") is not None]
    truth, predicted, weight = data(cases[0])
    model = lf.sequential([lf.layers.activation("linear", input_shape=predicted.shape[2:])])
    model.compile(
        "sgd",
        lambda t, p: lf.mean(p, -1),
        metrics=[make(lf.metrics, case) for case in cases],
        weighted_metrics=[make(lf.metrics, case) for case in weighted],
    )
    before = config.jit()
    config.set_jit(compiled)
    try:
        for b in range(BATCHES):
            values = model.test_on_batch(predicted[b], truth[b], sample_weight=weight[b])[1:]
            right: list[Any] = [expected(c, "plain") for c in cases] + [expected(c, "weighted") for c in weighted]
            for case, value, steps in zip([*cases, *weighted], values, right, strict=True):
                np.testing.assert_allclose(value, steps[b], **CLOSE, err_msg=label(case))
    finally:
        config.set_jit(before)
