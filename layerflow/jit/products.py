"""Products of matrices in working memory as kernel-language source: register tiles between two arrays of a thread."""

from __future__ import annotations

import dataclasses

from layerflow.jit.loops import INDENT, LoopNest


@dataclasses.dataclass(frozen=True)
class Matrix:
    """An operand of a product: address variable, position of its first element, steps down rows and the folded axis."""

    pointer: str
    base: str
    row: int = 0
    step: int = 0
    tail: str = ""  # last argument where the last vector of a row is read or written


def tile(
    nest: LoopNest,
    dtype: str,
    shape: tuple[int, int],
    depth: tuple[int | str, int],
    left: Matrix,
    right: Matrix,
    out: Matrix,
    adds: bool = False,
    whole: bool = False,
) -> None:
    """Writes a tile of rows x vectors accumulators over the folded axis k: out = left @ right, or += with `adds`.

    Args:
        nest: the nest being written.
        dtype: the kernel language's name of the elements.
        shape: rows and vectors of the tile.
        depth: steps of the folded axis, and how many are written out at a time; if these do not divide those, the rest
            goes one by one.
        left: numbers of a row are `step` apart, rows `row`.
        right: vectors of neighbouring columns, `step` apart.
        out: rows of vectors, `row` apart.
        adds: whether the products are added to what is there.
        whole: the caller knows that the steps are a multiple of those that are written out.
    """
    (rows, vectors), (steps, unroll), lanes = shape, depth, nest.lanes
    tails = [""] * (vectors - 1)
    where = [f"{out.base} + m * {out.row} + {v * lanes}" for v in range(vectors)]
    nest.write(f"for m in static({rows}):")
    for v, mask in enumerate([*tails, out.tail]):
        start = f"load({out.pointer}, {where[v]}{mask})" if adds else f"zeros({dtype})"
        nest.write(f"{INDENT}acc{v}[m] = {start}")

    def fold(header: str, count: int) -> None:
        nest.write(header)
        nest.write(f"{INDENT}for n in static({count}):")
        for v, mask in enumerate([*tails, right.tail]):
            at = f"{right.base} + k * {right.step} + n * {right.step} + {v * lanes}"
            nest.write(f"{INDENT * 2}b{v} = load({right.pointer}, {at}{mask})")
        nest.write(f"{INDENT * 2}for m in static({rows}):")
        at = f"{left.base} + k * {left.step} + n * {left.step} + m * {left.row}"
        nest.write(f"{INDENT * 3}a = splat({left.pointer}[{at}])")
        for v in range(vectors):
            nest.write(f"{INDENT * 3}acc{v}[m] = fma(a, b{v}, acc{v}[m])")

    if whole or unroll == 1 or (isinstance(steps, int) and steps % unroll == 0):
        fold(f"for k in range(0, {steps}, {unroll}):", unroll)
    else:
        fold(f"for k in range(0, {steps} - {unroll - 1}, {unroll}):", unroll)
        fold(f"for k in range({steps} // {unroll} * {unroll}, {steps}):", 1)
    nest.write(f"for m in static({rows}):")
    for v, mask in enumerate([*tails, out.tail]):
        nest.write(f"{INDENT}store({out.pointer}, {where[v]}, acc{v}[m]{mask})")
