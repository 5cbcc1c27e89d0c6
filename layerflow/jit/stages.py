"""Stages: statements cut where one slow function waits for another, so that a core works on several rows at a time.

The rows of a tile do not depend on each other, nor do those of a softmax, but a core looks only some hundreds of
instructions ahead: about two rows.  First what waits for one function is computed for all rows, then the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from layerflow.jit import libm

QUICK = ("rsqrt", "reciprocal", "square")  # functions of `libm` that take few instructions
_MADE = re.compile(r"(\w+) = (.*)")
_NAME = re.compile(r"\b[A-Za-z_]\w*\b")
_READ = re.compile(r"\bload\((\w+),|\b(p\d+)\[")
_WRITTEN = re.compile(r"\bstore\((\w+),|^(p\d+)\[.*\] = ")


def cut(lines: Sequence[str]) -> list[list[str]]:
    """The statements for row m in stages; what a later stage reads of an earlier one becomes `name[m]`.

    Args:
        lines: assignments and stores, in order.
    """
    stored = {name for line in lines for pair in _WRITTEN.findall(line) for name in pair if name}
    read = {name for line in lines for pair in _READ.findall(_WRITTEN.sub("", line)) for name in pair if name}
    at = _stages(lines)
    if read & stored or max(at, default=0) == 0:
        return [list(lines)]
    made = {m[1]: s for line, s in zip(lines, at, strict=True) if (m := _MADE.fullmatch(line))}
    reads = {(name, s) for line, s in zip(lines, at, strict=True) for name in _NAME.findall(line)}
    kept = {name for name, s in reads if name in made and made[name] < s}

    def renamed(line: str) -> str:
        return _NAME.sub(lambda n: f"{n[0]}[m]" if n[0] in kept else n[0], line)

    return [[renamed(line) for line, s in zip(lines, at, strict=True) if s == stage] for stage in range(max(at) + 1)]


def _stages(lines: Sequence[str]) -> list[int]:
    """The stage of each statement: slow functions that it waits for, one after the other, but the last one."""
    slow = set(libm.texts()) - set(QUICK)
    waits: dict[str, int] = {}  # name -> slow functions in its making, one after the other
    found: list[int] = []
    for line in lines:
        made = _MADE.fullmatch(line)
        names = set(_NAME.findall(made[2] if made else line))
        before, own = max((waits[n] for n in names & waits.keys()), default=0), bool(names & slow)
        found.append(before if own else max(0, before - 1))
        if made:
            waits[made[1]] = before + own
    first_use: dict[str, int] = {}
    for at in reversed(range(len(lines))):  # what is read from memory is read when it is needed
        made = _MADE.fullmatch(lines[at])
        if made and made[2].startswith("load("):
            found[at] = first_use.get(made[1], found[at])
        for name in _NAME.findall(made[2] if made else lines[at]):
            first_use[name] = min(found[at], first_use.get(name, found[at]))
    return found
