"""Turns what a user hands to fit, evaluate and predict into arrays that a step takes, or says what is wrong with it.

Nothing here touches a model: a refused call leaves it as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.errors import DataError
from layerflow.layers.embedding import check_vocabulary
from layerflow.models import frames

_NUMERIC = "fiub"


@dataclass(frozen=True)
class Slot:
    """One place that data goes to: an input of a model, or an output with its loss.

    Attributes:
        owner: the model, for messages.
        argument: "x" or "y".
        name: of the input or output layer.
        shape: of one example, None where any size goes; None altogether: any shape.
        dtype: floating point numbers are brought to this type; integers stay what they are.
        classes: for sparse labels, the number of classes.
        loss: name of the loss that reads it, for messages.
        ignored: a sparse label that is no class and does not count.
        vocabulary: for an input of an embedding, how many different whole numbers that one knows.
    """

    owner: str
    argument: str
    name: str
    shape: tuple[int | None, ...] | None
    dtype: np.dtype
    classes: int | None = None
    loss: str = ""
    ignored: int | None = None
    vocabulary: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether an array of the right type and a known shape needs no other check."""
        return self.shape is not None and None not in self.shape and self.classes is None and self.vocabulary is None

    @property
    def place(self) -> str:
        kind = "input" if self.argument == "x" else "output"
        return f'{self.owner}, {kind} "{self.name}"'


def arrays(given: Any, slots: Sequence[Slot]) -> list[np.ndarray]:
    """One C-contiguous numeric array per slot, of the shape the slot asks for, all of one length.

    Args:
        given: an array for a single slot; a list with an array per slot, or a dict by slot name.

    Raises:
        DataError: wrong number or names of arrays, not numbers, empty, wrong shape, different lengths.
    """
    parts = [_shaped(_numbers(part, slot), slot) for part, slot in zip(_parts(given, slots), slots, strict=True)]
    for part, slot in zip(parts, slots, strict=True):
        if slot.vocabulary is not None:
            check_vocabulary(part, slot.vocabulary, slot.place)
        if len(part) != len(parts[0]):
            raise DataError(
                f'{slot.place}: {len(part)} examples arrive, but "{slots[0].name}" gets {len(parts[0])}. '
                "Give every array the same number of examples."
            )
    return parts


def same_length(xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], owner: str) -> None:
    """Raises DataError unless x and y hold the same number of examples."""
    if len(xs[0]) != len(ys[0]):
        raise DataError(
            f"{owner}: x has {len(xs[0])} examples, y has {len(ys[0])}. "
            "Every example needs its label: give both the same length."
        )


def values(parts: Sequence[np.ndarray], slots: Sequence[Slot]) -> None:
    """Raises DataError for NaN, infinity, and sparse labels that are no class."""
    for part, slot in zip(parts, slots, strict=True):
        if part.dtype.kind == "f" and not _finite(part):
            rows = np.flatnonzero(~np.isfinite(part).reshape(len(part), -1).all(axis=1))
            raise DataError(
                f"{slot.place}: {slot.argument} holds NaN or infinity in {len(rows)} of {len(part)} examples, "
                f"the first is number {rows[0]}. Remove or replace them (np.nan_to_num, or drop the rows)."
            )
        if slot.classes is not None:
            _check_classes(part, slot, slot.classes)


def _finite(part: np.ndarray) -> bool:
    """True when all elements are finite: one fast pass; its sum may overflow, then a second that cannot."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(part.sum())) or bool(np.isfinite(part).all())


def _check_classes(labels: np.ndarray, slot: Slot, classes: int) -> None:
    if slot.ignored is not None:
        labels = labels[labels != slot.ignored]
        if not labels.size:
            return
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise DataError(
            f"{slot.place}: y holds the label {wrong}, but the layer has {classes} units, so labels go from 0 to "
            f"{classes - 1}. "
            f"Correct the labels, or give the layer {int(high) + 1 if low >= 0 else 'enough'} units."
        )
    if labels.dtype.kind == "f" and bool((labels != np.floor(labels)).any()):
        raise DataError(
            f'{slot.place}: y holds labels that are no whole numbers, but "{slot.loss}" takes class numbers. '
            "For probabilities or one-hot rows use categoricalCrossentropy."
        )


def _parts(given: Any, slots: Sequence[Slot]) -> list[Any]:
    """The given structure as one entry per slot."""
    first, names = slots[0], [slot.name for slot in slots]
    if given is None:
        raise DataError(f"{first.owner}: {first.argument} is missing; give an array for {_listed(names)}.")
    if len(slots) > 1:
        given = frames.columns_as_dict(given, names)
    if isinstance(given, Mapping):
        unknown, missing = [n for n in given if n not in names], [n for n in names if n not in given]
        if unknown or missing:
            wrong = (
                f"has no entry for {_listed(missing)}" if missing else f"names {_listed(unknown)}, which does not exist"
            )
            raise DataError(f"{first.owner}: {first.argument} {wrong}; the names are {_listed(names)}.")
        return [given[name] for name in names]
    if isinstance(given, (list, tuple)) and (len(slots) > 1 or _wraps_one_array(given, first)):
        if len(given) != len(slots):
            raise DataError(
                f"{first.owner}: {first.argument} is a list of {len(given)}, but the model has {len(slots)}: "
                f"{_listed(names)}. Give one array for each, in this order."
            )
        return list(given)
    if len(slots) > 1:
        raise DataError(
            f"{first.owner}: {first.argument} must be a list of {len(slots)} arrays ({_listed(names)}), or a dict by "
            f"name; a single {type(given).__name__} arrived."
        )
    return [given]


def _wraps_one_array(given: Sequence[Any], slot: Slot) -> bool:
    """Whether `[array]` means that array, not a batch that lists it as its one example."""
    if len(given) != 1 or not isinstance(given[0], np.ndarray):
        return False
    return slot.shape is None or given[0].ndim != len(slot.shape)


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _numbers(given: Any, slot: Slot) -> np.ndarray:
    """A numeric array: floats and Python numbers are brought to the slot's type, integer arrays stay as they are."""
    given = frames.as_array(given, slot.place, slot.argument)
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DataError(f"{slot.place}: {slot.argument} is ragged, its rows differ in length ({error}).") from None
    if array.dtype.kind not in _NUMERIC:
        kind = {"U": "text", "S": "bytes", "O": "Python objects", "c": "complex numbers"}.get(
            array.dtype.kind, "no numbers"
        )
        raise DataError(
            f"{slot.place}: {slot.argument} holds {kind} (dtype {array.dtype}), not real numbers. "
            "Convert it first, for example with np.asarray(x, np.float32), or encode categories as numbers."
        )
    if array.dtype.kind == "b":
        return np.ascontiguousarray(array).view(np.uint8)
    from_python = not hasattr(given, "dtype") and slot.classes is None
    if array.dtype.kind == "f" or from_python:
        return array.astype(slot.dtype if slot.dtype.kind == "f" else np.float32, copy=False)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _shaped(array: np.ndarray, slot: Slot) -> np.ndarray:
    """The array with a batch axis and the slot's shape behind it; rank 1 becomes one column."""
    shape = array.shape
    if array.ndim == 0:
        raise DataError(f"{slot.place}: {slot.argument} is a single number; give an array with one row per example.")
    if array.size == 0:
        raise DataError(
            f"{slot.place}: {slot.argument} is empty, its shape is {list(shape)}. Give at least one example."
        )
    if slot.classes is not None and slot.shape is not None and array.ndim == len(slot.shape):
        array = array[..., None]
    elif array.ndim == 1 and slot.shape != ():
        array = array[:, None]
    if slot.shape is not None and not _fits(array.shape[1:], slot.shape):
        raise DataError(_mismatch(shape, slot))
    return np.ascontiguousarray(array)


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(e is None or n == e for n, e in zip(shape, expected, strict=True))


def _mismatch(shape: tuple[int, ...], slot: Slot) -> str:
    expected = slot.shape or ()
    wanted = "[" + ",".join(["batch", *("any" if n is None else str(n) for n in expected)]) + "]"
    if slot.argument == "y":
        return (
            f'{slot.place}: y has shape {list(shape)}, but the loss "{slot.loss}" takes labels of shape {wanted} here. '
            + _label_remedy(shape, slot)
        )
    text = f"{slot.place}: x has shape {list(shape)}, but the model takes {wanted}. "
    if shape == expected:
        return text + "This looks like one example without a batch axis: pass x[None]."
    if len(shape) > 2 and len(shape) == len(expected) + 1:
        # Channels on the other side: reshaping would be accepted and mix up the pixels.
        for fits, source, target in ((shape[2:] + shape[1:2], 1, -1), (shape[-1:] + shape[1:-1], -1, 1)):
            if _fits(fits, expected):
                return text + f"Move the channels: np.moveaxis(x, {source}, {target})."
    if None not in expected and math.prod(shape[1:]) == math.prod(n or 1 for n in expected):
        return text + f"Reshape it: x.reshape({', '.join(map(str, (-1, *expected)))})."
    if len(shape) == len(expected) + 1:
        return (
            text
            + f"Give every example the shape {list(expected)}, or build the model with input_shape={list(shape[1:])}."
        )
    return (
        text + f"It has rank {len(shape)} where rank {len(expected) + 1} belongs (the first axis counts the examples)."
    )


def _label_remedy(shape: tuple[int, ...], slot: Slot) -> str:
    expected = slot.shape or ()
    if slot.classes is not None:
        return "It takes class numbers: pass y.argmax(-1), or use categoricalCrossentropy for one-hot rows."
    units = expected[-1] if expected else None
    bare = shape[1:] in ((), (1,)) and units != 1
    if bare and "ategorical" in slot.loss:
        return f"One-hot encode the class numbers, np.eye({units})[y], or use sparseCategoricalCrossentropy."
    return f'Give y one row of {list(expected)} per example, or change the units of "{slot.name}".'


def combined(by_row: Sequence[Any], by_class: Sequence[Any], rows: int) -> list[np.ndarray] | None:
    """Both weights of each output multiplied; None when nobody weighs anything."""
    if all(weight is None for weight in (*by_row, *by_class)):
        return None
    return [np.ascontiguousarray(_product(row, klass, rows)) for row, klass in zip(by_row, by_class, strict=True)]


def _product(row: np.ndarray | None, klass: np.ndarray | None, rows: int) -> np.ndarray:
    if row is None:
        return np.ones(rows, np.float32) if klass is None else klass
    return row if klass is None else row * klass.reshape(-1, *[1] * (row.ndim - 1))


def sample_weights(given: Any, slots: Sequence[Slot], count: int) -> list[np.ndarray | None]:
    """Per slot the weights of the examples as float32 [count], or None.

    Args:
        given: None; an array [count] for all outputs; a list per output or a dict by output name (None: no weights).
            Where the loss has several values an example (steps of a sequence, pixels), it may have weights for each.
    """
    if given is None:
        return [None] * len(slots)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in {slot.name for slot in slots}]
        if unknown:
            raise DataError(f"{slots[0].owner}: sample_weight names {_listed(unknown)}, which is no output.")
        entries = [given.get(slot.name) for slot in slots]
    elif len(slots) > 1 and isinstance(given, (list, tuple)) and len(given) == len(slots) != count:
        entries = list(given)
    else:
        entries = [given] * len(slots)
    return [None if part is None else _weights(part, slot, count) for part, slot in zip(entries, slots, strict=True)]


def _weights(given: Any, slot: Slot, count: int) -> np.ndarray:
    array = np.asarray(given)
    # The loss folds the last axis of an output: what is before it can be weighted.
    values = None if slot.shape is None else slot.shape[:-1]
    while array.ndim > 1 and array.shape[-1] == 1 and (values is None or array.ndim > 1 + len(values)):
        array = array[..., 0]
    inner = array.shape[1:]
    fits = values is None or (len(inner) <= len(values) and _fits(inner, values[: len(inner)]))
    if array.dtype.kind not in _NUMERIC or array.shape[:1] != (count,) or not fits:
        wide = f", or {[count, *values]} for each of its values" if values else ""
        raise DataError(
            f"{slot.place}: sample_weight must be {count} numbers, one per example{wide}, but is {array.dtype} of "
            f"shape {list(np.shape(given))}."
        )
    array = np.ascontiguousarray(array, np.float32)
    if not _finite(array):
        raise DataError(f"{slot.place}: sample_weight holds NaN or infinity.")
    return array


def class_weights(given: Any, slots: Sequence[Slot], ys: Sequence[np.ndarray]) -> list[np.ndarray | None]:
    """Per slot the weight of each example by its class (largest column, or the label itself), or None.

    Args:
        given: None; a dict class -> weight for a single output; a list of such, or a dict of such by output name.

    Raises:
        DataError: a class of the data has no weight.
    """
    if given is None:
        return [None] * len(slots)
    if isinstance(given, Mapping):
        nested = any(isinstance(entry, Mapping) for entry in given.values())
        if not nested and len(slots) > 1:
            raise DataError(f"{slots[0].owner}: class_weight must name the output: {{name: {{class: weight}}}}.")
        entries = [given.get(slot.name) for slot in slots] if nested else [given]
    else:
        entries = list(given)
    if len(entries) != len(slots):
        raise DataError(f"{slots[0].owner}: class_weight has {len(entries)} entries for {len(slots)} outputs.")
    return [
        None if entry is None else _class_weights(entry, slot, y)
        for entry, slot, y in zip(entries, slots, ys, strict=True)
    ]


def _class_weights(weight: Mapping[Any, float], slot: Slot, y: np.ndarray) -> np.ndarray:
    if y.ndim != 2:
        raise DataError(
            f"{slot.place}: class_weight needs labels of one axis or one-hot rows, not shape {list(y.shape)}."
        )
    labels = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(np.int64)
    present, where = np.unique(labels, return_inverse=True)
    weight = {int(label): value for label, value in weight.items()}
    missing = [int(label) for label in present if int(label) not in weight]
    if missing:
        raise DataError(
            f"{slot.place}: class_weight has no weight for the classes {missing}, which the labels contain."
        )
    return np.array([weight[int(label)] for label in present], np.float32)[where]
