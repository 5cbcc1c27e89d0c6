"""Columns of a CSV file: what the user says of them, and their cells turned into arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError, DataError, UnknownArgumentError, nearest
from layerflow.registry import fold

# What a column may be declared as; "number" is also found by itself, and means Python floats.
DTYPES = ("number", "float32", "int32", "int64", "bool", "string")
_WORDS = {
    "str": "string",
    "object": "string",
    "boolean": "bool",
    "float": "number",
    "float64": "number",
    "int": "int64",
}
_TRUTH = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class Column:
    """What is known of a column.

    Attributes:
        name: in the header.
        kind: one of DTYPES, or "" until cells have been seen.
        required: whether an empty cell is an error.
        default: what an empty cell means, or None.
        is_label: whether it belongs to `ys`.
    """

    name: str
    kind: str = ""
    required: bool = False
    default: Any = None
    is_label: bool = False

    @classmethod
    def configured(cls, name: str, config: Mapping[str, Any] | None) -> Column:
        """From an entry of `column_configs`.

        Raises:
            UnknownArgumentError, ArgumentError: a key or dtype that does not exist.
        """
        given: dict[str, Any] = {}
        if config is not None and not isinstance(config, Mapping):
            raise ArgumentError(f'csv(): column_configs["{name}"] must be a dict, got {type(config).__name__}.')
        known = {fold(key): key for key in ("required", "default", "dtype", "is_label")}
        for key, value in (config or {}).items():
            if fold(str(key)) not in known:
                raise UnknownArgumentError(
                    f'csv(): column_configs["{name}"] has no setting {key!r}.{nearest(str(key), known.values())}'
                )
            given[known[fold(str(key))]] = value
        kind = given.pop("dtype", None)
        return cls(name, "" if kind is None else _kind(name, kind), **given)

    def array(self, cells: Sequence[str], row: int) -> np.ndarray:
        """The cells as an array; `row` is the number of the first one, for messages.

        Raises:
            DataError: an empty cell that must not be empty, or one that is not what the column holds.
        """
        if "" in cells:
            cells = self._completed(cells, row)
        if self.kind == "string":
            return np.array(cells, object)
        try:
            if self.kind == "bool":
                return np.array([_TRUTH[cell.strip().lower()] for cell in cells])
            values = np.fromiter(map(float, cells), np.float64, len(cells))
        except (ValueError, KeyError):
            raise self._wrong(cells, row) from None
        if self.kind.startswith("int"):
            return self._whole(values, cells, row)
        return values if self.kind == "number" else values.astype(self.kind)

    def seen(self, cells: Sequence[str]) -> Column:
        """This column, its kind found from the cells if it was not declared: numbers if all are, else text."""
        if self.kind:
            return self
        texts = cells if self.default is None else [*cells, str(self.default)]
        kind = "number" if all(_is_number(cell) for cell in texts if cell) else "string"
        return Column(self.name, kind, self.required, self.default, self.is_label)

    def _completed(self, cells: Sequence[str], row: int) -> list[str]:
        """The cells with something in place of empty ones."""
        if self.default is not None:
            filler = str(self.default)
        elif self.required or self.is_label or self.kind not in ("number", "float32", "string"):
            why = "required" if self.required else "a label" if self.is_label else f"of dtype {self.kind}"
            raise DataError(
                f'csv(): row {row + list(cells).index("")}, column "{self.name}" is empty, but the column is {why}. '
                f'Fill it, drop the row, or give column_configs={{"{self.name}": {{"default": ...}}}}.'
            )
        else:
            filler = "" if self.kind == "string" else "nan"
        return [cell or filler for cell in cells]

    def _whole(self, values: np.ndarray, cells: Sequence[str], row: int) -> np.ndarray:
        """Rounded down, as TensorFlow.js does."""
        limits = np.iinfo(self.kind)
        fits = (values >= limits.min) & (values <= limits.max)
        if not fits.all():
            at = int(np.argmin(fits))
            raise DataError(f'csv(): row {row + at}, column "{self.name}": {cells[at]!r} does not fit in {self.kind}.')
        return np.floor(values).astype(self.kind)

    def _wrong(self, cells: Sequence[str], row: int) -> DataError:
        fine = (lambda cell: cell.strip().lower() in _TRUTH) if self.kind == "bool" else _is_number
        at = next(at for at, cell in enumerate(cells) if not fine(cell))
        what = "true, false, 1 or 0" if self.kind == "bool" else "a number"
        since = "the cells before it are numbers" if self.kind == "number" else f"the column is of dtype {self.kind}"
        return DataError(
            f'csv(): row {row + at}, column "{self.name}": {cells[at]!r} is not {what}, but {since}. Correct it, or '
            f'read text with column_configs={{"{self.name}": {{"dtype": "string"}}}}.'
        )


def _is_number(cell: str) -> bool:
    try:
        return (not math.isnan(float(cell)) and "_" not in cell) or cell.strip().lower() == "nan"
    except ValueError:
        return False


def _kind(name: str, dtype: Any) -> str:
    word = dtype if isinstance(dtype, str) else "string" if dtype is str else np.dtype(dtype).name
    word = _WORDS.get(word, word)
    if word not in DTYPES:
        raise ArgumentError(f'csv(): column "{name}" cannot be of dtype {dtype!r}.{nearest(str(dtype), DTYPES)}')
    return word
