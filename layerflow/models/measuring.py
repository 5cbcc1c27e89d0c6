"""Evaluation and prediction batch by batch, with their events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from layerflow.callbacks import CallbackList, Logs, ProgressBar
from layerflow.models.batches import Means, Pace
from layerflow.models.feeds import Feed


def measure(model: Any, feed: Feed, callbacks: CallbackList, bar: ProgressBar | None = None) -> Means:
    """Means of loss and metrics over the batches of a feed, in inference mode; nothing is changed."""
    step, pace = model.step("test"), Pace()
    means = Means(step.columns, step.report)
    each = callbacks.listens("on_test_batch_begin", "on_test_batch_end")
    callbacks.call("on_test_begin", Logs())
    feed.begin_epoch()
    # The place where what metrics gather over batches is emptied.
    step.reset()
    done = 0
    while feed.ready():
        if each:
            callbacks.call("on_test_batch_begin", done, Logs())
        start = time.perf_counter()
        values, sizes = feed.run(step, 1 if each else pace.count)
        pace.record(len(sizes), time.perf_counter() - start)
        means.add(values, sizes)
        done += len(sizes)
        rows = int(sizes.sum())
        if bar is not None:
            bar.advance(feed.units_done(rows, len(sizes)), means.logs())
        if each:
            numbers = step.report(values[0].tolist())
            callbacks.call("on_test_batch_end", done - 1, Logs(**numbers, batch=done - 1, size=rows))
    feed.end_epoch(False)
    callbacks.call("on_test_end", means.logs())
    return means


def as_result(logs: Mapping[str, Any], return_dict: bool) -> Any:
    """What evaluation returns: a float, with several values a list of them, or a dict."""
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def predicted(
    batches: Iterable[list[np.ndarray]],
    predict: Callable[[list[np.ndarray]], list[np.ndarray]],
    callbacks: CallbackList,
    bar: ProgressBar,
) -> list[np.ndarray]:
    """The outputs of all batches of inputs, one behind the other; none for no batch."""
    parts: list[list[np.ndarray]] = []
    callbacks.call("on_predict_begin", Logs())
    for batch, xs in enumerate(batches):
        callbacks.call("on_predict_batch_begin", batch, Logs())
        outputs = predict(xs)
        parts.append(outputs)
        bar.advance(len(xs[0]) if bar.unit == " rows" else 1, {})
        callbacks.call("on_predict_batch_end", batch, Logs(batch=batch, size=len(xs[0]), outputs=outputs))
    bar.close({})
    callbacks.call("on_predict_end", Logs())
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
