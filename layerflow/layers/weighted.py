"""Weighted: the part of a layer that has weights."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from layerflow import config, constraints, initializers, registry, regularizers
from layerflow.errors import ModelError, NotBuiltError, ShapeError
from layerflow.graph.shapes import text
from layerflow.graph.variable import Variable
from layerflow.layers.signatures import as_list

# Set while a file is loaded: (name, shape, dtype) -> first value of a weight, in place of its initializer.
_weight_source: ContextVar[Callable[..., np.ndarray] | None] = ContextVar("layerflow_weight_source", default=None)


def touch() -> None:
    """Says that a layer or a model has changed, so that compiled steps look again at what they were made from."""
    config.changes.value += 1


@contextlib.contextmanager
def weights_from(source: Callable[..., np.ndarray]) -> Iterator[None]:
    """Inside, new weights take their first values from `source(name, shape, dtype)`."""
    token = _weight_source.set(source)
    try:
        yield
    finally:
        _weight_source.reset(token)


class Weighted(registry.Configurable):
    """Weights of its own and of the layers it holds as attributes; which of them training changes."""

    name: str
    dtype: np.dtype
    built: bool

    def _setup_weights(self, trainable: bool, initial: Sequence[Any] | None) -> None:
        self._trainable = bool(trainable)
        self._initial_weights = initial
        self._trainable_weights: list[Variable] = []
        self._non_trainable_weights: list[Variable] = []
        self._losses: list[Callable[[], Any]] = []
        self._states: list[Variable] = []
        self._sublayers: list[Weighted] = []
        self._owner: tuple[Weighted, str] | None = None
        self._disposed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and "_sublayers" in self.__dict__:
            for number, item in enumerate(as_list(value)):
                if isinstance(item, Weighted) and item not in self._sublayers:
                    self._sublayers.append(item)
                    item._owner = (self, f"{name}_{number}" if isinstance(value, (list, tuple)) else name)
        object.__setattr__(self, name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """What `copy.deepcopy` gives: a layer of the same name and values with weights of its own, in no model yet."""
        made = object.__new__(type(self))
        memo[id(self)] = made
        # Calls on symbols and the layer that holds this one belong to where the original is, not to the copy; unless
        # that holder is what is being copied.
        owner = memo.get(id(self._owner[0])) if self._owner else None
        apart = {"inbound_nodes": [], "_owner": (owner, self._owner[1]) if self._owner and owner else None}
        for name, value in self.__dict__.items():
            object.__setattr__(made, name, apart[name] if name in apart else copy.deepcopy(value, memo))
        touch()
        return made

    @property
    def path(self) -> str:
        """What names of weights start with: the name; for an attribute of a layer, its path and the attribute."""
        return self._owner[0].path_of(self._owner[1], self) if self._owner else self.name

    def path_of(self, attribute: str, held: Weighted) -> str:
        """The path of a layer held as an attribute."""
        return f"{self.path}/{attribute}"

    def add_weight(
        self,
        name: str,
        shape: Sequence[int],
        dtype: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        trainable: bool = True,
        constraint: Any = None,
    ) -> Variable:
        """A weight of this layer, named `<layer>/<name>`.

        Args:
            shape: all extents known.
            dtype: by default the layer's.  An initializer's name is taken for what it is here.
            initializer: zeros by default.
        """
        if isinstance(dtype, str) and dtype in initializers.INITIALIZERS:
            dtype, initializer = None, dtype
        full = f"{self.path}/{name}"
        if any(w.name == full for w in self._trainable_weights + self._non_trainable_weights):
            raise ModelError(
                f"{self.name}: a weight named {name!r} exists already; give every weight a name of its own."
            )
        shape = self._weight_shape(name, shape)
        dtype = np.dtype(dtype or self.dtype)
        source = _weight_source.get()
        if source is not None:
            value = source(full, shape, dtype)
        else:
            value = initializers.get(initializer or "zeros")(shape, dtype)
        weight = Variable(
            np.broadcast_to(np.asarray(value), shape),
            trainable and self._trainable,
            full,
            dtype,
            constraints.get(constraint),
        )
        penalty = regularizers.get(regularizer)
        if penalty is not None:
            self._losses.append(functools.partial(_penalty, penalty, weight))
        (self._trainable_weights if trainable else self._non_trainable_weights).append(weight)
        touch()
        return weight

    def _weight_shape(self, name: str, shape: Sequence[Any]) -> tuple[int, ...]:
        if any(n is None or int(n) < 0 for n in shape):
            raise ShapeError(
                f"{self.name}: the weight {name!r} would have shape {text(shape)}; give the input a known shape."
            )
        full = tuple(int(n) for n in shape)
        if math.prod(full) * self.dtype.itemsize > 2**40:
            raise ShapeError(f"{self.name}: the weight {name!r} of shape {text(full)} would take more than a terabyte.")
        return full

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; may be set at any time, also for models and nested layers."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for weight in self._trainable_weights:
            weight.trainable = bool(value)
        for layer in self._sublayers:
            layer.trainable = value
        touch()

    @property
    def trainable_weights(self) -> list[Variable]:
        if not self._trainable:
            return []
        return [w for w in self._trainable_weights if w.trainable] + [
            w for s in self._sublayers for w in s.trainable_weights
        ]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        frozen = [w for w in self._trainable_weights if not (self._trainable and w.trainable)]
        inner = [w for s in self._sublayers for w in (s.non_trainable_weights if self._trainable else s.weights)]
        return frozen + self._non_trainable_weights + inner

    @property
    def weights(self) -> list[Variable]:
        """All weights: those made trainable first.  Freezing does not change the order."""
        return [w for trainable in (True, False) for w in self._made_weights(trainable)]

    def _made_weights(self, trainable: bool) -> list[Variable]:
        """The weights that were made trainable (or not), frozen or not, with those of inner layers."""
        own = self._trainable_weights if trainable else self._non_trainable_weights
        return own + [w for s in self._sublayers for w in s._made_weights(trainable)]

    @property
    def state_variables(self) -> list[Variable]:
        """What stateful layers keep from batch to batch; no weights."""
        return self._states + [v for s in self._sublayers for v in s.state_variables]

    @property
    def losses(self) -> list[Callable[[], Any]]:
        """Functions without arguments that give the penalties on the weights, as scalars of the current trace."""
        return self._losses + [loss for s in self._sublayers for loss in s.losses]

    def get_weights(self, trainable_only: bool = False) -> list[np.ndarray]:
        """Copies of the values, in the order of `weights`."""
        return [w.numpy() for w in (self.trainable_weights if trainable_only else self.weights)]

    def set_weights(self, values: Sequence[Any]) -> None:
        """Assigns values in the order of `weights`; nothing is changed if a shape does not fit."""
        targets = self.weights
        if len(values) != len(targets):
            raise ShapeError(
                f"{self.name}.set_weights: {len(values)} arrays arrive, the layer has {len(targets)} weights."
            )
        arrays = [np.asarray(value) for value in values]
        for weight, array in zip(targets, arrays, strict=True):
            if weight.shape != array.shape:
                raise ShapeError(
                    f"{self.name}.set_weights: {weight.name} has shape {list(weight.shape)}, not {list(array.shape)}."
                )
        for weight, array in zip(targets, arrays, strict=True):
            weight.assign(array)

    def count_params(self) -> int:
        """Number of elements of all weights."""
        if not self.built:
            raise NotBuiltError(
                f"{self.name} has no weights yet: apply it to an input, or give it an input_shape, first."
            )
        return sum(math.prod(w.shape) for w in self.weights)

    def dispose(self) -> dict[str, int]:
        """Gives the weights up; the layer cannot be used afterwards."""
        if self._disposed:
            raise ModelError(f"{self.name} was disposed of already.")
        count = len(self.weights)
        self._disposed = True
        self._trainable_weights, self._non_trainable_weights, self._losses = [], [], []
        touch()
        return {"ref_count_after_dispose": 0, "num_disposed_variables": count}


def _penalty(regularizer: Callable[[Any], Any], weight: Variable) -> Any:
    return regularizer(weight)
