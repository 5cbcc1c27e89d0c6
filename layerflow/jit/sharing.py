"""Sharing: kernels that differ in their arrays only become one function, which takes the arrays' slots as arguments.

The blocks of a deep network are alike: their code is lowered once.
"""

from __future__ import annotations

import re

from layerflow.jit.values import FIRST_SLOT

_HEAD = re.compile(r'def (\w+)\(ctx, lo, hi\):\n(?: +"""(.*?)"""\n)?')
_SLOT = re.compile(r"\bpointer\(ctx, (\d+), ")
FEW_LINES = 6  # the call takes as many


def share(texts: list[str]) -> list[str]:
    """The functions of the kernels' texts, with functions in front that several of them call."""
    functions = [f for text in texts for f in re.split(r"(?m)^(?=def )", text) if f.strip()]
    general = [_general(f) for f in functions]
    alike: dict[str, list[int]] = {}
    for at, (body, _) in enumerate(general):
        if body.count("\n") > FEW_LINES:
            alike.setdefault(body, []).append(at)
    shared: list[str] = []
    for body, places in alike.items():
        if len(places) < 2:
            continue
        name = f"shared{len(shared)}{_kind(functions[places[0]])}"
        count = len(general[places[0]][1])
        shared.append(f"def {name}(ctx, lo, hi{''.join(f', s{k}' for k in range(count))}):\n{body}")
        for at in places:
            functions[at] = _call(functions[at], name, general[at][1])
    return [*shared, *functions]


def _general(function: str) -> tuple[str, list[str]]:
    """The body of a function with names in place of slots, and the slots in the order of their names."""
    head = _HEAD.match(function)
    if head is None:
        return "", []
    body = function[head.end() :]
    slots = list(dict.fromkeys(s for s in _SLOT.findall(body) if int(s) >= FIRST_SLOT))
    names = {slot: f"s{k}" for k, slot in enumerate(slots)}
    body = _SLOT.sub(lambda m: f"pointer(ctx, {names.get(m[1], m[1])}, ", body)
    return re.sub(r"\bp(\d+)\b", lambda m: f"p_{names[m[1]]}" if m[1] in names else m[0], body), slots


def _call(function: str, name: str, slots: list[str]) -> str:
    head = _HEAD.match(function)
    assert head is not None
    return f"{head[0]}    lanes(1)\n    {name}(ctx, lo, hi{''.join(f', {s}' for s in slots)})\n\n"


def _kind(function: str) -> str:
    """What follows the number in a kernel's name, without the layer: `_gemm`, `_map`."""
    head = _HEAD.match(function)
    assert head is not None
    return f"_{head[1].rpartition('_')[2]}"


def carried_out_by(kernels: str, name: str) -> str:
    """The function that does the work of a kernel: a shared one, or its own."""
    found = re.search(rf"^def {name}\(ctx, lo, hi\):\n(?: .*\n)?    lanes\(1\)\n    (shared\w+)\(", kernels, re.M)
    return found[1] if found else name
