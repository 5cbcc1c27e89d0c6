"""Penalties on weights and activations.  Formulas and defaults: INVENTORY 3.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from layerflow import registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops

REGULARIZERS = registry.Names("regularizer")


class Regularizer(registry.Configurable):
    """Base: override `__call__(x) -> scalar`, written with ops or NumPy."""

    def __call__(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(x).")


@REGULARIZERS.register("l1_l2")
class L1L2(Regularizer):
    """l1 sum |x| + l2 sum x**2; both factors are 0.01 if not given, as in TF.js."""

    def __init__(self, l1: float | None = 0.01, l2: float | None = 0.01):
        self.l1 = 0.01 if l1 is None else float(l1)
        self.l2 = 0.01 if l2 is None else float(l2)

    def __call__(self, x: Any) -> Any:
        terms = []
        if self.l1:
            terms.append(self.l1 * ops.sum(ops.abs(x)))
        if self.l2:
            terms.append(self.l2 * ops.sum(ops.square(x)))
        return sum(terms[1:], terms[0]) if terms else 0.0 * ops.sum(x)

    def get_config(self) -> dict[str, Any]:
        return {"l1": self.l1, "l2": self.l2}

    def get_class_name(self) -> str:
        # TF.js knows this class only; the two below are special cases of it.
        return "L1L2"


@REGULARIZERS.register()
class L1(L1L2):
    """l1 sum |x|"""

    def __init__(self, l1: float | None = 0.01):
        super().__init__(l1, 0.0)


@REGULARIZERS.register()
class L2(L1L2):
    """l2 sum x**2"""

    def __init__(self, l2: float | None = 0.01):
        super().__init__(0.0, l2)


@REGULARIZERS.register("orthogonal")
class OrthogonalRegularizer(Regularizer):
    """factor times the mean of |a . b| over all pairs of rows a, b scaled to length 1 (Keras 3).

    Brings the rows of a matrix [n, m], or with `mode="columns"` its columns, near right angles to each other.

    Raises:
        ArgumentError: factor is below 0, or the mode unknown; ShapeError, when used: not a matrix of two rows or more.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        self.factor, self.mode = (
            float(factor),
            registry.option("OrthogonalRegularizer: mode", mode, ("rows", "columns")),
        )
        if not self.factor >= 0.0:
            raise ArgumentError(f"OrthogonalRegularizer: factor must be at least 0, got {factor!r}.")

    def __call__(self, x: Any) -> Any:
        if len(x.shape) != 2 or x.shape[self.mode == "columns"] < 2:
            raise ShapeError(
                f"OrthogonalRegularizer needs a matrix with two {self.mode} or more, got shape {list(x.shape)}."
            )
        rows = ops.l2_normalize(x if self.mode == "rows" else ops.transpose(x), 1)
        count = rows.shape[0]
        products = ops.abs(ops.matmul(rows, ops.transpose(rows)))
        apart = 1.0 - np.eye(count, dtype=np.float32)
        return self.factor / (count * (count - 1)) * ops.sum(products * apart)


l1 = registry.factory(L1)
l2 = registry.factory(L2)
l1l2 = l1_l2 = registry.factory(L1L2)
orthogonal_regularizer = registry.factory(OrthogonalRegularizer)


def get(identifier: Any) -> Any:
    """The regularizer for a name, a Regularizer, a function, a {class_name, config} mapping, or None."""
    if identifier is None:
        return None
    if isinstance(identifier, Mapping):
        return registry.construct(REGULARIZERS, identifier)
    if isinstance(identifier, str):
        found = registry.custom(identifier) or REGULARIZERS.get(identifier)
        return found() if isinstance(found, type) else found
    if callable(identifier):
        return identifier
    raise ArgumentError(f"a regularizer must be a name, a Regularizer or a function, got {identifier!r}.")
