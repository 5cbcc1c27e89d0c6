"""The kernel of `overlap_add`: windows added back to where they were taken from."""

from __future__ import annotations

import math
from collections.abc import Callable

from layerflow.graph.shapes import Dim, static
from layerflow.graph.symbolic import Op
from layerflow.jit import index as ix
from layerflow.jit.index import Index
from layerflow.jit.loops import LoopNest
from layerflow.jit.values import TYPES, Value

UNROLLED = 16  # windows of at most this many elements are written out, so that their places are numbers


class OverlapNest(LoopNest):
    """Sample by sample: zeros, then one window after another, in vectors along the channels.

    The order of the additions to one element is that of the windows, whatever the threads.
    """

    def body(self) -> list[str]:
        lead = self.group.domain[0]
        self.kernel.units = 0 if isinstance(lead, Dim) else lead
        return self.outer((lead,), self._sample)

    def _sample(self) -> None:
        op = self.group.anchor
        attrs, z = op.attrs, op.inputs[0]
        rank = len(attrs["extents"])
        size = tuple(map(static, z.shape[1 + rank : -1]))
        zero = self.assign(f"{TYPES[op.dtype.name]}(0)", 0, False)

        def clear(places: list[Index]) -> None:
            self.chunks(op.shape[-1], lambda: self.store(op, (ix.var("i0"), *places, ix.var("j")), zero))

        def window(at: list[Index]) -> None:
            self.chunks(op.shape[-1], lambda: self._loops("k", size, math.prod(size) <= UNROLLED, [], add(at)))

        def add(at: list[Index]) -> Callable[[list[Index]], None]:
            return lambda k: self._add(op, z, at, k)

        self.ranges.declare("j", op.shape[-1])
        self._loops("p", attrs["extents"], False, [], clear)
        self._loops("o", tuple(map(static, z.shape[1 : 1 + rank])), False, [], window)

    def _loops(
        self,
        stem: str,
        extents: tuple[int, ...],
        unrolled: bool,
        at: list[Index],
        inside: Callable[[list[Index]], None],
    ) -> None:
        """A loop for each extent around what `inside` writes for the loop variables."""
        if len(at) == len(extents):
            inside(at)
            return
        name, extent = f"{stem}{len(at)}", extents[len(at)]
        self.ranges.declare(name, extent)
        self.segment(
            f"for {name} in {'static' if unrolled else 'range'}({extent}):",
            (name,),
            lambda: self._loops(stem, extents, unrolled, [*at, ix.var(name)], inside),
        )

    def _add(self, op: Op, z: Op, at: list[Index], k: list[Index]) -> None:
        """One element of a window, added to its place."""
        steps = zip(at, op.attrs["strides"], k, op.attrs["dilations"], strict=True)
        place = (ix.var("i0"), *(ix.add(ix.scale(o, s), ix.scale(i, d)) for o, s, i, d in steps), ix.var("j"))
        value = self.value(z, (ix.var("i0"), *at, *k, ix.var("j")))
        # Read again each time: the element before may have been the same one.
        offset = self.plan.buffers[op].layout.offset(place)
        pointer, total = self.pointer(self.plan.buffers[op]), self.name()
        if self.chunk is None:
            self.write(f"{total} = {pointer}[{self.position(offset)}] + {value.name}")
        else:
            tail = "" if self.chunk.count is None else f", {self.chunk.count}"
            self.write(f"{total} = load({pointer}, {self.position(offset)}{tail}) + {value.name}")
        self.store(op, place, Value(total, len(self.levels) - 1, self.chunk is not None))
