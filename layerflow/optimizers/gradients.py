"""The forms in which users hand gradients to an optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError, ShapeError, nearest
from layerflow.graph.variable import Variable


def paired(owner: str, gradients: Any, named: Mapping[str, Variable]) -> list[tuple[Variable, Any]]:
    """(variable, gradient) of each gradient that is not None; see `Optimizer.apply_gradients`.

    Raises:
        ArgumentError: something else than pairs, or a name that is not in `named`.
        ShapeError: a gradient is not of its variable's shape.
    """
    pairs = [(v, g) for v, g in _listed(owner, gradients, named) if g is not None]
    if not pairs:
        raise ArgumentError(f"{owner}.apply_gradients: no gradient is given for any variable.")
    for variable, gradient in pairs:
        if np.shape(gradient) != variable.shape:
            raise ShapeError(
                f"{owner}.apply_gradients: the gradient of {variable.name!r} has shape {list(np.shape(gradient))}, the "
                f"variable {list(variable.shape)}."
            )
    if len({id(v) for v, _ in pairs}) < len(pairs):
        raise ArgumentError(f"{owner}.apply_gradients: a variable is given twice; add its gradients.")
    return pairs


def _listed(owner: str, gradients: Any, named: Mapping[str, Variable]) -> Iterable[tuple[Variable, Any]]:
    if isinstance(gradients, Mapping):
        return [(_named(owner, name, named), gradient) for name, gradient in gradients.items()]
    return [_pair(owner, entry, named) for entry in gradients]


def _pair(owner: str, entry: Any, named: Mapping[str, Variable]) -> tuple[Variable, Any]:
    if isinstance(entry, Mapping) and {"name", "tensor"} <= set(entry):
        return _named(owner, entry["name"], named), entry["tensor"]
    if isinstance(entry, (tuple, list)) and len(entry) == 2:
        gradient, variable = entry
        # Both may be variables; only in the other order the second one cannot be.
        if not isinstance(variable, Variable) and isinstance(gradient, Variable):
            gradient, variable = variable, gradient
        if isinstance(variable, Variable):
            return variable, gradient
    raise ArgumentError(
        f"{owner}.apply_gradients takes [(gradient, variable), ...] or {{variable name: gradient}}; got {entry!r}."
    )


def _named(owner: str, name: Any, named: Mapping[str, Variable]) -> Variable:
    if name not in named:
        raise ArgumentError(
            f"{owner}.apply_gradients: no variable {name!r} is known.{nearest(str(name), named)} Name the variables "
            "with var_list=, or pass [(gradient, variable), ...]."
        )
    return named[name]
