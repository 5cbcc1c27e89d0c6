"""Nested structures: dicts, tuples and lists, in each other, with values at their ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def leaves(structure: Any) -> Iterator[Any]:
    """The values, in order."""
    if isinstance(structure, Mapping):
        for entry in structure.values():
            yield from leaves(entry)
    elif isinstance(structure, (list, tuple)):
        for entry in structure:
            yield from leaves(entry)
    else:
        yield structure


def mapped(f: Callable[[Any], Any], structure: Any) -> Any:
    """The structure with f(value) in place of each value."""
    if isinstance(structure, Mapping):
        return {key: mapped(f, entry) for key, entry in structure.items()}
    if isinstance(structure, (list, tuple)):
        return like(structure, [mapped(f, entry) for entry in structure])
    return f(structure)


def filled(structure: Any, values: Iterator[Any]) -> Any:
    """The structure with the next of `values` in place of each value."""
    return mapped(lambda _: next(values), structure)


def like(sequence: Any, entries: list[Any]) -> Any:
    """The entries in a list, tuple or named tuple, as `sequence` is one."""
    if isinstance(sequence, list):
        return entries
    return type(sequence)(*entries) if hasattr(sequence, "_fields") else tuple(entries)
