"""BatchCheck: the checks of a stream's batches, short where a batch is already what the step takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerflow.models import data_checks
from layerflow.models.batches import Data
from layerflow.models.compilation import input_slots, target_slots
from layerflow.models.data_checks import Slot


class BatchCheck:
    """Turns an element of a stream into checked data.

    Small steps take less time than looking up what a model's inputs and labels must be, so this is done once.

    Args:
        model: a compiled model.
        class_weight: as for `fit`.
    """

    def __init__(self, model: Any, class_weight: Any = None):
        self._model, self._class_weight = model, class_weight
        self._compilation: Any = None
        self._slots: tuple[list[Slot], list[Slot]] | None = None

    def __call__(self, element: Any) -> Data:
        """Raises DataError for what the model cannot take."""
        data = self._as_it_is(element) if self._class_weight is None else None
        return self._model._element(element, self._class_weight) if data is None else data

    def _as_it_is(self, element: Any) -> Data | None:
        """The data, if they are one array for the input and one for the labels, of the very shapes and types."""
        if type(element) is dict and element.keys() == {"xs", "ys"}:
            x, y = element["xs"], element["ys"]
        elif type(element) is tuple and len(element) == 2:
            x, y = element
        else:
            return None
        if self._slots is None or self._compilation is not self._model._compilation:
            self._compilation = self._model._compilation
            slots = input_slots(self._model), target_slots(self._model, self._compilation)
            self._slots = slots if len(slots[0]) == len(slots[1]) == 1 else ([], [])
        inputs, targets = self._slots
        if not inputs or not _fits(x, inputs[0]) or not _fits(y, targets[0]) or len(x) != len(y):
            return None
        x, y = np.asarray(x), np.asarray(y)  # tensors no more: their methods are slower than those of arrays
        data_checks.values([x], inputs)
        data_checks.values([y], targets)
        return Data([x], [y], None)


def _fits(array: Any, slot: Slot) -> bool:
    return (
        isinstance(array, np.ndarray)
        and array.size > 0
        and array.shape[1:] == slot.shape
        and (array.dtype == slot.dtype if array.dtype.kind == "f" else array.dtype in _AS_THEY_ARE)
        and array.flags.c_contiguous
    )


_AS_THEY_ARE = tuple(map(np.dtype, ("u1", "i4", "i8")))
