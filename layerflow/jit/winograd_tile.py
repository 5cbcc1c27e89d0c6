"""One tile of a Winograd convolution in kernel-language source: a transform along both axes of a square of vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from layerflow.jit.loops import LoopNest
from layerflow.jit.values import Chunk

Read = Callable[[], str]  # writes what it needs and gives the text of a vector
Finish = Callable[[str], None]  # writes what becomes of a vector


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tile's elements lie: for rows and columns a loop variable of the nest and the text of its first value."""

    rows: tuple[str, str]
    columns: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Planes:
    """A matrix for each of the 36 points, in a buffer.

    Attributes:
        pointer: the address variable.
        plane: elements from one matrix to the next.
        pitch: elements from one row to the next; where it leaves room, whole vectors are read and written.
        offset: text of the position of the first matrix.
    """

    pointer: str
    plane: int
    pitch: int
    offset: str = "0"

    def tail(self, columns: int, lanes: int) -> str:
        """The last argument of a load or store of the last vector of a row."""
        return f", {columns % lanes}" if self.pitch < -(-columns // lanes) * lanes else ""


def first(nest: LoopNest) -> str:
    """Text of the first channel of the nest's chunk."""
    return str(nest.chunk.start) if nest.chunk else "j"


def tail(nest: LoopNest) -> str:
    """The last argument of a load or store of the nest's chunk."""
    return "" if nest.chunk is None or nest.chunk.count is None else f", {nest.chunk.count}"


def chunks(nest: LoopNest, channels: int, masked: bool, inside: Callable[[], None]) -> None:
    """The nest's vectors of channels; `masked`: the last one in the loop of the others, which halves the code."""
    if not masked or channels <= nest.lanes or channels % nest.lanes == 0:
        nest.chunks(channels, inside)
        return
    nest.chunk = Chunk("j", f"{channels} - j")
    nest.segment(f"for j in range(0, {channels}, {nest.lanes}):", ("j",), inside)
    nest.chunk = None


def two_axes(
    nest: LoopNest,
    transform: str,
    extents: tuple[int, int],
    read: Read,
    finish: Finish,
    source: Place | None = None,
    target: Place | None = None,
) -> None:
    """Writes a transform down the columns of a tile, then along its rows.

    Args:
        nest: the nest being written.
        transform: a function of winograd_transforms.
        extents: of the tile along an axis, before and after.
        read: gives element (r, q) of the tile.
        finish: takes element (r, q) of the result.
        source: where the elements lie, if in an array whose indices the nest knows; their variables are set then.
        target: the same of the result.
    """
    before, after = extents

    def column() -> None:
        _each(nest, "r", before, source and source.rows, lambda: nest.write(f"d[r] = {read()}"))
        left = ", ".join(f"u[{k}, q]" for k in range(after))
        nest.write(f"{left} = {transform}({', '.join(f'd[{k}]' for k in range(before))})")

    def row() -> None:
        left = ", ".join(f"w[{k}]" for k in range(after))
        nest.write(f"{left} = {transform}({', '.join(f'u[r, {k}]' for k in range(before))})")
        _each(nest, "q", after, target and target.columns, lambda: finish("w[q]"))

    _each(nest, "q", before, source and source.columns, column)
    _each(nest, "r", after, target and target.rows, row)


def _each(nest: LoopNest, loop: str, extent: int, axis: tuple[str, str] | None, inside: Callable[[], None]) -> None:
    """An unrolled loop; `axis`: a variable of the nest and its first value."""

    def body() -> None:
        if axis:
            nest.write(f"{axis[0]} = {axis[1]} + {loop}")
        inside()

    nest.segment(f"for {loop} in static({extent}):", axis[:1] if axis else (), body)
