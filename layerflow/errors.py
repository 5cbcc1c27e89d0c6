"""Typed errors.  Each also derives from the built-in error a Python user expects."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LayerflowError(Exception):
    """Base of every error layerflow raises on purpose."""


class ShapeError(LayerflowError, ValueError):
    """Shapes that do not fit together."""


class TraceError(LayerflowError, TypeError):
    """A symbol used as if it had values, or a function that cannot be traced."""


class CompileError(LayerflowError, RuntimeError):
    """The compiler could not turn a graph into code."""


class ModelError(LayerflowError, RuntimeError):
    """A graph of layers that is no model: disconnected, cyclic, with a name twice."""


class DisposedError(LayerflowError, RuntimeError):
    """A tensor or variable used after `dispose`."""


class NotBuiltError(ModelError):
    """Weights or shapes asked of a layer or model that has none yet."""


class NotCompiledError(ModelError):
    """Training or evaluation before `compile`."""


class DataError(LayerflowError, ValueError):
    """Data given to fit, evaluate or predict that the model cannot take."""


class ArgumentError(LayerflowError, ValueError):
    """An argument whose value is not possible."""


class UnknownArgumentError(LayerflowError, TypeError):
    """A keyword argument that does not exist."""


class UnknownNameError(LayerflowError, ValueError):
    """A name (of an activation, loss, layer class, ...) that is not known."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
        """The error for `name`, with the nearest known name, or all of them if none is near."""
        return cls(f"Unknown {kind}: {name!r}.{nearest(str(name), known)}")


class NumericsError(LayerflowError, ArithmeticError):
    """A computation that made a NaN or an infinity, found because `lf.config.check_numerics` is on.

    Attributes:
        op: name of the operation, e.g. "log"; of the forward one, where its gradient made it.
        layer: name of the layer it belongs to; "" in losses and functions.
        backward: whether it was in the gradient.
        batch, epoch: where in `fit`, from 0 as callbacks count; None elsewhere.
        step: number of the optimizer's step, from 1; None without an optimizer.
    """

    def __init__(self, what: str, op: str = "", layer: str = "", backward: bool = False):
        super().__init__(what)
        self.what, self.op, self.layer, self.backward = what, op, layer, backward
        self.batch: int | None = None
        self.epoch: int | None = None
        self.step: int | None = None

    def __str__(self) -> str:
        counted = (("epoch", self.epoch, 1), ("batch", self.batch, 1), ("optimizer step", self.step, 0))
        places = [f"{word} {n + add}" for word, n, add in counted if n is not None]
        return f"{', '.join(places)}: {self.what}" if places else self.what


class LoadError(LayerflowError, ValueError):
    """A file that cannot be loaded; `category` says why.

    Categories: truncated_data, missing_file, unsafe_path, unsafe_code, unknown_class, unsupported_dtype,
    unsupported_format, missing_weight, unexpected_weight, shape_mismatch, size_limit, invalid_json, invalid_manifest,
    invalid_topology.
    """

    def __init__(self, message: str, category: str):
        super().__init__(message)
        self.category = category


class SaveError(LayerflowError, ValueError):
    """A model that cannot be written: something in it has no serialized form, or the place is not supported."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names what the user may have meant; starts with a space."""
    names = sorted(set(known))
    folded = {n.replace("_", "").lower(): n for n in names}
    match = difflib.get_close_matches(name.replace("_", "").lower(), folded, n=1, cutoff=0.6)
    if match:
        return f" Did you mean {folded[match[0]]!r}?"
    return f" Known: {', '.join(names)}." if names else ""
