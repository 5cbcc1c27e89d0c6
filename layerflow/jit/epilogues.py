"""Epilogues of register tiles as text: what each row adds to a sum becomes where the sum begins."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence

from layerflow.jit import stages
from layerflow.jit.loops import INDENT

_LOADED = re.compile(r"(\w+) = load\(.*")
_ADDED = re.compile(r"(\w+) = (?:(acc\d+)\[m\] \+ (\w+)|(\w+) \+ (acc\d+)\[m\])")


@dataclasses.dataclass(frozen=True)
class Epilogue:
    """Statements at the accumulators of a tile.

    `columns` are computed once for all rows, `lines` for row m, whose place the texts of `at` give by row variable.
    """

    rows: int
    at: Mapping[str, str]
    columns: Sequence[str]
    lines: Sequence[str]

    def text(self) -> list[str]:
        """The statements, for all rows."""
        written = list(self.columns)
        for stage in stages.cut(self.lines) if self.rows > 1 else [self.lines]:
            written.append(f"for m in static({self.rows}):")
            written += [INDENT + line for line in [*(f"{name} = {text}" for name, text in self.at.items()), *stage]]
        return written


def loaded(line: str) -> list[str]:
    """The name of the vector that a statement reads from memory, if it does that."""
    found = _LOADED.fullmatch(line)
    return [found[1]] if found else []


def begun(epilogue: Epilogue, known: Collection[str]) -> tuple[list[str], dict[str, str], Epilogue]:
    """Takes biases out of an epilogue: vectors read for a column and added to an accumulator that is used only there.

    Args:
        epilogue: of a tile.
        known: vectors read from memory before the tile.

    Returns:
        Statements that go before the accumulators, where they begin (accumulator -> vector), and the rest.
    """
    own = {name: line for line in epilogue.columns for name in loaded(line)}
    text = "\n".join(epilogue.lines)
    starts: dict[str, str] = {}
    sums: dict[str, str] = {}  # a sum -> its accumulator
    for line in epilogue.lines:
        if found := _ADDED.fullmatch(line):
            name, acc, bias = found[1], found[2] or found[5], found[3] or found[4]
            if (bias in own or bias in known) and len(re.findall(rf"\b{acc}\b", text)) == 1:
                starts[acc], sums[name] = bias, f"{acc}[m]"
    first = [own[bias] for bias in dict.fromkeys(starts.values()) if bias in own]
    lines = [
        re.sub(r"\b\w+\b", lambda n: sums.get(n[0], n[0]), line)
        for line in epilogue.lines
        if line.split(" = ")[0] not in sums
    ]
    columns = [line for line in epilogue.columns if line not in first]
    return first, starts, dataclasses.replace(epilogue, columns=columns, lines=lines)
