"""Data frames (pandas, polars) and tensors of torch as arrays, recognised by their methods: nothing is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import DataError


def is_frame(given: Any) -> bool:
    """Whether this is a table with named columns."""
    return hasattr(given, "to_numpy") and hasattr(given, "columns")


def columns_as_dict(given: Any, names: Sequence[str]) -> Any:
    """A frame that has a column for each of these names as a dict of them; anything else as it is."""
    if is_frame(given) and set(names) <= {str(name) for name in given.columns}:
        return {name: given[name] for name in names}
    return given


def as_array(given: Any, place: str, argument: str) -> Any:
    """Frames, series and tensors as NumPy arrays; anything else as it is.

    Args:
        place, argument: for messages.

    Raises:
        DataError: columns that hold no numbers, or missing values; the message names them.
    """
    if is_frame(given):
        columns = {str(name): _column(given[name]) for name in given.columns}
        if not columns:
            raise DataError(f"{place}: {argument} is a frame without columns.")
        text = [name for name, values in columns.items() if values.dtype.kind not in "fiub"]
        if text:
            raise DataError(
                f"{place}: {argument} has columns that hold no numbers: {', '.join(text)}. Leave them out, or encode "
                "them first (categories as numbers or one-hot columns)."
            )
        missing = [name for name, values in columns.items() if values.dtype.kind == "f" and np.isnan(values).any()]
        if missing:
            raise DataError(
                f"{place}: {argument} has missing values (NaN) in the columns {', '.join(missing)}. Fill them, or drop "
                "the rows."
            )
        return np.column_stack(list(columns.values()))
    if hasattr(given, "detach") and hasattr(given, "cpu"):  # a torch tensor, perhaps with a gradient
        return given.detach().cpu().numpy()
    return _column(given) if hasattr(given, "to_numpy") else given


def _column(series: Any) -> np.ndarray:
    """The values of a series; missing ones of number types are NaN."""
    values = np.asarray(series.to_numpy())
    if values.dtype == object and getattr(getattr(series, "dtype", None), "kind", "") in ("i", "u", "f", "b"):
        return np.asarray(series.to_numpy(dtype="float64", na_value=np.nan))  # pandas's types that know missing values
    return values
