"""Arrays that passed the checks, cut into batches; how many to run at a time; means over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.callbacks import Logs
from layerflow.errors import DataError

CHUNK_SECONDS = 0.03
_GROWTH = 8


@dataclass(frozen=True)
class Data:
    """Arrays that passed the checks: inputs, labels, weights of the examples per output (or None)."""

    xs: list[np.ndarray]
    ys: list[np.ndarray]
    ws: list[np.ndarray] | None

    @property
    def rows(self) -> int:
        return len(self.xs[0])

    def part(self, first: int, last: int) -> Data:
        """The examples [first, last), as views."""
        ws = None if self.ws is None else [w[first:last] for w in self.ws]
        return Data([x[first:last] for x in self.xs], [y[first:last] for y in self.ys], ws)

    def as_given(self) -> tuple[Any, ...]:
        """(x, y) or (x, y, sample_weight), as they would be given to `fit`."""
        parts = [self.xs, self.ys, *([] if self.ws is None else [self.ws])]
        return tuple(part[0] if len(part) == 1 else list(part) for part in parts)

    def split(self, fraction: float, owner: str) -> tuple[Data, Data]:
        """All but the last `fraction` of the examples, and those."""
        border = int(self.rows * (1 - fraction))
        if not 0 < fraction < 1 or border in (0, self.rows):
            raise DataError(
                f"{owner}: validation_split={fraction} of {self.rows} examples leaves {border} to train on and "
                f"{self.rows - border} to measure with; both sides need at least one."
            )
        return self.part(0, border), self.part(border, self.rows)


class Pace:
    """How many batches a native call runs, so that it returns after some 30 ms: the bar moves and Ctrl-C answers."""

    def __init__(self) -> None:
        self.count = 1

    def record(self, count: int, seconds: float) -> None:
        fitting = int(CHUNK_SECONDS * count / max(seconds, 1e-9))
        self.count = max(1, min(fitting, _GROWTH * count))


class Means:
    """Means over batches, weighted by the number of examples in each.

    Added up one batch after the other, so that the result does not depend on how many came at a time.

    Args:
        names: of the values.
        report: gives the logs for the means; by default the means by name.
    """

    def __init__(self, names: Sequence[str], report: Callable[[list[float]], dict[str, Any]] | None = None):
        self._names = list(names)
        self._report = report or (lambda means: dict(zip(self._names, means, strict=True)))
        self._sums = [0.0] * len(self._names)
        self.rows = 0

    def add(self, values: np.ndarray, sizes: np.ndarray) -> None:
        """Values [batches, names], and the number of examples of each batch."""
        weighted = np.empty((len(sizes) + 1, len(self._names)))
        weighted[0] = self._sums
        np.multiply(values, sizes[:, None], out=weighted[1:], dtype=np.float64)
        self._sums = np.add.accumulate(weighted, axis=0)[-1].tolist()
        self.rows += int(sizes.sum())

    def add_one(self, values: Sequence[float], rows: int) -> None:
        """Values of one batch."""
        self._sums = [total + value * rows for total, value in zip(self._sums, values, strict=True)]
        self.rows += rows

    def logs(self, prefix: str = "") -> Logs:
        rows = max(self.rows, 1)
        return Logs({prefix + name: value for name, value in self._report([t / rows for t in self._sums]).items()})

    def state(self) -> dict[str, Any]:
        return {"names": self._names, "sums": self._sums, "rows": self.rows}

    @classmethod
    def of(cls, state: Mapping[str, Any], report: Callable[[list[float]], dict[str, Any]]) -> Means:
        means = cls(state["names"], report)
        means._sums, means.rows = list(state["sums"]), state["rows"]
        return means


def batch_sizes(rows: int, batch_size: int, first: int, count: int) -> np.ndarray:
    """Examples in each of the batches first..first+count; the last one of an epoch may be smaller."""
    starts = np.arange(first, first + count) * batch_size
    return np.minimum(rows - starts, batch_size)
