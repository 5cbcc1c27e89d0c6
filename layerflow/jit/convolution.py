"""Convolutions as register tiles, straight from the images: no matrix of windows is ever built.

A tile of a convolution holds pixels of one or more image rows x vectors of output channels; a tile of a kernel's
gradient holds taps x vectors of output channels and runs over all pixels of its samples.  Both walk through memory with
constant steps, so that one nest of loops with unrolled steps serves every rank, stride and dilation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from layerflow.graph.shapes import Dim, Extent, static
from layerflow.jit import index as ix
from layerflow.jit.contraction import is_depthwise, is_sharded
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import ACCUMULATORS, ACCUMULATORS_16, UNROLL, Panel, TileNest, panels, tile_rows
from layerflow.jit.values import SHARD, Chunk, Level, Unvectorizable

ALL_UNROLLED = 12  # so many steps of the folded axes are written out without a loop


@dataclasses.dataclass(frozen=True)
class Axis:
    """A loop variable with its extent and its steps in the left and right operand (or the result)."""

    name: str
    extent: Extent
    left: int
    right: int


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """Neighbouring axes that are one walk through both arrays made into one."""
    out: list[Axis] = []
    for axis in axes:
        before = out[-1] if out else None
        if axis.extent == 1 and out:
            continue
        inner = axis.extent
        if before is not None and isinstance(inner, int) and isinstance(before.extent, int):
            if before.extent == 1:
                out[-1] = axis
                continue
            if before.left == axis.left * inner and before.right == axis.right * inner:
                out[-1] = Axis(axis.name, before.extent * inner, axis.left, axis.right)
                continue
        out.append(axis)
    return out


def tile_shape(outer: int, inner: int, vectors: int, registers: int) -> tuple[int, int]:
    """Rows of a tile along two axes: part of the inner one, or several times all of it."""
    room = min(16, (ACCUMULATORS if registers >= 32 else ACCUMULATORS_16) // vectors)
    if outer == 1 or inner > room // 2:
        return 1, tile_rows(inner, vectors, registers)
    high = min(outer, room // inner)
    return -(-outer // -(-outer // high)), inner


class WindowNest(TileNest):
    """What convolutions and the gradients of their kernels share."""

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int):
        columns = static(kernel.group.anchor.shape[-1])
        groups = kernel.group.anchor.attrs["groups"]
        self.depthwise = is_depthwise(kernel.group.anchor)
        self.groups = 1 if self.depthwise else groups
        self.columns = columns // self.groups
        while lanes > 4 and self.columns <= lanes // 2:
            lanes //= 2  # half-empty vectors would do half the work
        super().__init__(plan, kernel, lanes, registers)
        self.panels = panels(self.columns, lanes)

    def steps_of(self, name: str) -> tuple[int, int]:
        """Elements from one value of a loop variable to the next, in the left and right operand."""
        found = [self.ranges.coefficient(offset, name) for _, offset in (self.left, self.right)]
        if None in found:
            raise Unvectorizable(f"{name} in {self.left[1]}, {self.right[1]}")
        return static(found[0] or 0), static(found[1] or 0)

    def all_panels(self, inside: Callable[[Panel], None]) -> None:
        """`inside(panel)` for every panel of columns, group by group."""
        if self.groups == 1:
            self._panels_of_group(inside)
            return
        self.segment(f"for g in range({self.groups}):", ("g", "j"), lambda: self._panels_of_group(inside))

    def _panels_of_group(self, inside: Callable[[Panel], None]) -> None:
        if self.groups > 1:
            self.write(f"first = g * {self.columns}")
        for panel in self.panels:
            if panel.loop is None:
                self._one_panel(panel, inside)
            else:
                end, step = panel.loop
                self.segment(
                    f"for c in range(0, {end}, {step}):", ("c", "j"), lambda p=panel: self._one_panel(p, inside)
                )

    def _one_panel(self, panel: Panel, inside: Callable[[Panel], None]) -> None:
        if self.groups > 1:
            for chunk, own in zip(super()._chunks(panel), self._chunks(panel), strict=True):
                self.write(f"{own.start} = first + {chunk.start}")
        inside(panel)

    def _chunks(self, panel: Panel) -> list[Chunk]:
        chunks = super()._chunks(panel)
        if self.groups == 1:
            return chunks
        return [Chunk(f"column{panel.start}_{v}", chunk.count) for v, chunk in enumerate(chunks)]

    def tiles_along(self, name: str, start: int, end: int, step: int, inside: Callable[[], None]) -> None:
        """A loop over tiles, or the only one."""
        if end - start > step:
            self.segment(f"for {name} in range({start}, {end}, {step}):", (name,), inside)
        else:
            self.write(f"{name} = {start}")
            inside()

    def base(self, operand: tuple[str, Index], without: set[str]) -> Index:
        """The offset of an operand with these variables at 0."""
        return Index(tuple(t for t in operand[1].terms if t[0] not in without), operand[1].const)

    def fold(self, axes: list[Axis], row: str, rows: int, chunks: list[Chunk], sample: tuple[str, str] | None) -> None:
        """Loops over the folded axes around the steps.

        Args:
            axes: folded axes, outermost first; the last one is unrolled.
            row: text of the elements from the first row of the tile to row m in the left operand.
            rows: of the tile.
            chunks: the vectors of the panel.
            sample: first and last value of the outermost axis, where it is a run of samples.
        """
        names = {name for name, _ in self.folded}
        left, right = self.base(self.left, names), self.base(self.right, names)
        x0 = " + ".join([str(left), *(f"{a.name} * {a.left}" for a in axes[:-1])])
        w0 = ix.add(right, Index(tuple((a.name, a.right) for a in axes[:-1] if a.right)))
        pad = ""
        for at, axis in enumerate(axes[:-1]):
            span = f"{sample[0]}, {sample[1]}" if sample and at == 0 else self.extent(axis.extent)
            self.write(f"{pad}for {axis.name} in range({span}):")
            pad += INDENT
        last = axes[-1]
        depth = static(last.extent)
        unroll = next((u for u in (UNROLL, 3, 2) if depth % u == 0), UNROLL)
        if depth <= (ALL_UNROLLED if len(axes) == 1 else UNROLL):
            unroll = depth
        whole = depth // unroll * unroll
        if whole > unroll:
            self.write(f"{pad}for {last.name} in range(0, {whole}, {unroll}):")
        else:
            self.write(f"{pad}{last.name} = 0")
        inner = pad + (INDENT if whole > unroll else "")
        for u in range(unroll):
            self._step(inner, last, u, x0, w0, row, rows, chunks)
        if whole < depth:
            self.write(f"{pad}{last.name} = {whole}")
            for u in range(depth - whole):
                self._step(pad, last, u, x0, w0, row, rows, chunks)

    def _step(self, pad: str, axis: Axis, u: int, x0: str, w0: Index, row: str, rows: int, chunks: list[Chunk]) -> None:
        """One step of the folded axes: a vector of the right operand for each column vector, a number for each row."""
        x, w = self.left[0], self.right[0]
        here = ix.add(w0, Index(((axis.name, axis.right),) if axis.right else (), u * axis.right))
        for v, chunk in enumerate(chunks):
            self.chunk = chunk
            tail = "" if chunk.count is None else f", {chunk.count}"
            self.write(f"{pad}b{v} = load({w}, {self.position(here)}{tail})")
        at = f"{x0} + {axis.name} * {axis.left} + {u * axis.left} + {row}"
        self.write(f"{pad}for m in static({rows}):")
        if not self.depthwise:
            self.write(f"{pad}{INDENT}a = splat({x}[{at}])")
        for v, chunk in enumerate(chunks):
            if self.depthwise:
                tail = "" if chunk.count is None else f", {chunk.count}"
                self.write(f"{pad}{INDENT}a = load({x}, {at} + {chunk.start}{tail})")
            step = f"fma(a, b{v}, acc{v}[m])" if self.dtype.startswith("f") else f"acc{v}[m] + a * b{v}"
            self.write(f"{pad}{INDENT}acc{v}[m] = {step}")
        self.chunk = None


class ConvolutionNest(WindowNest):
    """Tiles of pixels of one sample, with the epilogue."""

    def body(self) -> list[str]:
        domain = self.group.domain
        rank = len(domain) - 2
        self.inner = f"i{rank}"
        self.outer_name = f"i{rank - 1}" if rank > 1 else None
        self.folds = merged([Axis(n, e, *self.steps_of(n)) for n, e in self.folded])
        self.kernel.units = 0 if isinstance(domain[0], Dim) else static(domain[0])
        return self.outer(domain[: rank if rank == 1 else rank - 1], lambda: self.all_panels(self._image))

    def _image(self, panel: Panel) -> None:
        """All tiles of an image (or of a slice of it) for one panel."""
        shape = self.group.domain
        wide = static(shape[-2])
        high = static(shape[-3]) if self.outer_name else 1
        th, tw = tile_shape(high, wide, panel.vectors, self.registers)
        for start, end, rows in _cuts(high, th):
            self.tiles_along("h", start, end, rows, lambda rows=rows: self._row_of_tiles(panel, rows, wide, tw))

    def _row_of_tiles(self, panel: Panel, th: int, wide: int, tw: int) -> None:
        for start, end, columns in _cuts(wide, tw):
            self.tiles_along("w", start, end, columns, lambda columns=columns: self._tile(panel, th, columns))

    def _tile(self, panel: Panel, th: int, tw: int) -> None:
        chunks = self._chunks(panel)
        rows = th * tw
        at = {self.inner: f"w + m % {tw}", **({self.outer_name: f"h + m // {tw}"} if self.outer_name else {})}
        epilogue = self._begin(self._epilogue(chunks, rows, at), len(chunks))
        names = {self.inner: "w", **({self.outer_name: "h"} if self.outer_name else {})}
        step = {name: self.steps_of(name)[0] for name in names}
        row = f"w * {step[self.inner]} + m % {tw} * {step[self.inner]}"
        if self.outer_name:
            row += f" + h * {step[self.outer_name]} + m // {tw} * {step[self.outer_name]}"
        kept = self.left
        self.left = (kept[0], self.base(kept, {*names, "j"}))
        self.fold(self.folds, row, rows, chunks, None)
        self.left = kept
        self._end(epilogue)


def _cuts(extent: int, step: int) -> list[tuple[int, int, int]]:
    """(start, end, step) of the equal parts, then of what remains."""
    whole = extent // step * step
    found = [(0, whole, step)] if whole else []
    return [*found, (whole, extent, extent - whole)] if whole < extent else found


class KernelGradientNest(WindowNest):
    """Tiles of taps; the sum over the samples of a range is added to its part, or all samples are summed at once."""

    def body(self) -> list[str]:
        op = self.product
        self.sharded = is_sharded(op)
        buffer = self.plan.buffers[op]
        self.target = self.pointer(buffer)
        self.place = buffer.layout.offset(self.variables)
        taps = [i.terms[0][0] for i in self.variables[int(self.sharded) : -1]]
        extents = op.shape[int(self.sharded) : -1]
        axes = [
            Axis(n, e, self.steps_of(n)[0], static(self.ranges.coefficient(self.place, n) or 0))
            for n, e in zip(taps, extents, strict=True)
        ]
        folds = [Axis(n, e, *self.steps_of(n)) for n, e in self.folded]
        self.folds = [folds[0], *merged(folds[1:])]
        self.inlined = set(taps)  # variables that are not those of a loop
        self.levels.append(Level())
        lead = self.folded[0][1]
        if self.sharded:
            first, last = self.range_of(lead).split(", ")
            self.span = (first, last)
            self.write(f"i0 = integer(ctx, {SHARD})")
            self._taps(merged(axes))
            return self.levels.pop().lines
        self.span = ("0", self.extent(lead))
        first = axes[0]
        self.kernel.units = static(first.extent)
        self.inlined.discard(first.name)
        self.segment(f"for {first.name} in range(lo, hi):", (first.name,), lambda: self._taps(merged(axes[1:])))
        return self.levels.pop().lines

    def _taps(self, axes: list[Axis]) -> None:
        """Loops over the outer axes of the taps, then panels, then tiles of the inner two."""
        *loops, outer, inner = axes if len(axes) > 1 else [Axis("one", 1, 0, 0), *axes]
        self.tiled = (outer, inner)
        self.inlined -= {a.name for a in loops}

        def nest(at: int) -> None:
            if at < len(loops):
                axis = loops[at]
                self.segment(f"for {axis.name} in range({axis.extent}):", (axis.name,), lambda: nest(at + 1))
            else:
                self.all_panels(self._tiles)

        nest(0)

    def _tiles(self, panel: Panel) -> None:
        high, wide = (static(a.extent) for a in self.tiled)
        th, tw = tile_shape(high, wide, panel.vectors, self.registers)
        for top, bottom, rows in _cuts(high, th):

            def row_of_tiles(rows: int = rows) -> None:
                for start, end, columns in _cuts(wide, tw):
                    self.tiles_along("w", start, end, columns, lambda columns=columns: self._tile(panel, rows, columns))

            self.tiles_along("h", top, bottom, rows, row_of_tiles)

    def _tile(self, panel: Panel, th: int, tw: int) -> None:
        outer, inner = self.tiled
        chunks = self._chunks(panel)
        self._start(th * tw, [f"zeros({self.dtype})"] * len(chunks))
        kept = self.left
        self.left = (kept[0], self.base(kept, {*self.inlined, "j"}))
        row = f"(h + m // {tw}) * {outer.left} + (w + m % {tw}) * {inner.left}"
        self.fold(self.folds, row, th * tw, chunks, self.span)
        self.left = kept
        self._add_up(th, tw, chunks)

    def _add_up(self, th: int, tw: int, chunks: list[Chunk]) -> None:
        """The tile into the result: added to what its part of the batch has so far, or as it is."""
        outer, inner = self.tiled
        fixed = self.base(("", self.place), self.inlined)
        self.write(f"for m in static({th * tw}):")
        for v, chunk in enumerate(chunks):
            self.chunk = chunk
            tail = "" if chunk.count is None else f", {chunk.count}"
            at = f"{self.position(fixed)} + (h + m // {tw}) * {outer.right} + (w + m % {tw}) * {inner.right}"
            total = f"load({self.target}, {at}{tail}) + acc{v}[m]" if self.sharded else f"acc{v}[m]"
            self.write(f"{INDENT}store({self.target}, {at}, {total}{tail})")
        self.chunk = None
