"""Packing: right operands of products copied so that tiles read them without gaps."""

from __future__ import annotations

from collections.abc import Callable

from layerflow.graph import shapes
from layerflow.graph.shapes import Dim, Extent, static
from layerflow.graph.symbolic import Op
from layerflow.jit import index as ix
from layerflow.jit.access import batch_of
from layerflow.jit.index import Index
from layerflow.jit.loops import INDENT
from layerflow.jit.schedule import Kernel, Schedule
from layerflow.jit.tiles import Panel, TileNest, panels
from layerflow.jit.values import SCRATCH, Level, Unvectorizable

# Bytes: rows of the right operand further apart than this are copied side by side before they are used.
PACK_STRIDE = 512
PACK_DEPTH = 64  # steps of the folded axis from which that pays
# A sum over so many rows a sample goes through blocks of the folded axis: what a block reads of both operands stays in
# the cache.
LONG_FOLD, BLOCK = 4, 256


def panel_vectors(registers: int) -> int:
    """Vectors of the widest panel."""
    return 4 if registers >= 32 else 2


def packed_elements(kernel: Kernel) -> int:
    """Elements of the packed right operand of a product in a loop, whatever the lanes; 0 where packing does not pay."""
    product, (_, columns) = kernel.group.anchor, kernel.group.domain
    depth = product.inputs[1].shape[-2]
    if not isinstance(depth, int) or depth < PACK_DEPTH or product.attrs["transpose_a"]:
        return 0
    return depth * kernel.group.parts * -(-static(columns) // 16) * 16


class PackedNest(TileNest):
    """A product whose right operand is copied where its steps lie far apart in memory."""

    step: int  # rows of a tile where their number is known
    sums: tuple[int, int] = (0, 0)  # elements of the sums that wait for the next block, and of one row of them

    def __init__(self, plan: Schedule, kernel: Kernel, lanes: int, registers: int):
        super().__init__(plan, kernel, lanes, registers)
        side = self.product.attrs["transpose_a"]
        self.depth: Extent = self.product.inputs[0].shape[-2 if side else -1]
        self.packs_right = self._walks_far(self.right, "k") and len(kernel.group.domain) == 2
        # A packed panel is read from the second-level cache: wide panels read the left operand less often.
        self.in_panels = self.packs_right or self._lies_in_panels(self.product.inputs[1])
        widest = panel_vectors(registers) if self.in_panels else 2
        columns, parts = static(kernel.group.domain[-1]), self.group.parts
        each = max(1, widest // parts)
        self.panels = panels(columns, lanes, widest) if parts == 1 else panels(columns, lanes, each, each)
        self.widest = max(p.vectors for p in self.panels) * parts
        long = isinstance(self.depth, Dim) and shapes.typical(self.depth) >= LONG_FOLD
        wide = isinstance(kernel.group.domain[-2], int) and self.in_panels and self._walks_far(self.left, "k")
        self.block = BLOCK if side and wide and long else 0
        # While a panel's copy is in use: address variable, elements a step.
        self.packed_right: tuple[str, int] | None = None

    def _walks_far(self, operand: tuple[str, Index], name: str) -> bool:
        """Whether an operand walks through memory in long steps, and many of them."""
        step = self.ranges.coefficient(operand[1], name)
        deep = not isinstance(self.depth, int) or self.depth >= PACK_DEPTH
        return step is not None and deep and shapes.typical(step) * self.product.dtype.itemsize >= PACK_STRIDE

    def _lies_in_panels(self, op: Op) -> bool:
        """Whether an operand was laid out for its tiles (see `layouts`)."""
        while op not in self.plan.buffers:
            op = op.inputs[0]  # moved
        return self.plan.buffers[op].layout.panels is not None

    def _panels_in_turn(self, inside: Callable[[Panel], None]) -> None:
        for panel in self.panels:
            if panel.loop is None:
                inside(panel)
            else:
                end, step = panel.loop
                self.counts_vectors("c", step)
                self.segment(f"for c in range(0, {end}, {step}):", ("c", "j"), lambda p=panel: inside(p))

    def _scratch(self, name: str) -> str:
        self.write(f"{name} = pointer(ctx, {SCRATCH}, {self.dtype})", 0)
        return name

    def _reserve(self, elements: int) -> None:
        """Asks for working memory of `elements` for each folded step."""
        size = self.product.dtype.itemsize
        fixed, sampled = self.kernel.scratch
        if self.block:
            self.kernel.scratch = (max(fixed, (elements * self.block + self.sums[0]) * size), sampled)
        elif batch_of((self.depth,)) is None or isinstance(self.depth, int):
            self.kernel.scratch = (max(fixed, elements * static(self.depth) * size), sampled)
        else:
            self.kernel.scratch = (fixed, shapes.bound_of(sampled, self.depth.factor * (elements * size)))

    def _pack_right(self, panel: Panel) -> None:
        """Copies the panel's part of the right operand, step after step without gaps."""
        if self.kernel.packed:
            self.write(f"packed = {self.pointer(self.kernel.packed)}")
            self.packed_right = self._place_of(panel)
            return
        self._reserve(self.widest * self.lanes)
        self.packed_right = (f"{self.sums[0]} + " if self.block else "", self._width(panel))
        self._copy_right(panel, self._scratch("packed"))

    def _width(self, panel: Panel) -> int:
        return panel.vectors * self.group.parts * self.lanes

    def _copy_right(self, panel: Panel, where: str) -> None:
        """Statements that put the panel's part of the right operand at `packed_right`."""
        assert self.packed_right is not None
        (pointer, offset), (base, width) = self.right, self.packed_right
        self.write(f"for k in range({self._span()}):")
        for v, chunk in enumerate(self._chunks(panel)):
            self.chunk = chunk
            tail = "" if chunk.count is None else f", {chunk.count}"
            value = f"load({pointer}, {self.position(self._from_block(offset))}{tail})"
            self.write(f"{INDENT}store({where}, {base}k * {width} + {v * self.lanes}, {value})")
        self.chunk = None

    def _place_of(self, panel: Panel) -> tuple[str, int]:
        """Where a panel lies if all are packed, one behind the other."""
        before = static(self.depth) * self.group.parts
        base = f"c * {before} + " if panel.loop else f"{int(panel.start) * before} + "
        return base, self._width(panel)

    def pack_source(self) -> str:
        """A function that packs all panels into `kernel.packed`."""
        self.levels.append(Level())
        assert self.kernel.packed is not None
        where = self.pointer(self.kernel.packed)

        def copy(panel: Panel) -> None:
            self.packed_right = self._place_of(panel)
            self._copy_right(panel, where)

        self._panels_in_turn(copy)
        lines = [*self.levels[0].lines, *self.levels.pop().lines]
        head = [f"def {self.kernel.name}_pack(ctx, lo, hi):", f"{INDENT}lanes({self.lanes})"]
        return "\n".join([*head, *(INDENT + line for line in lines)]) + "\n"

    def _span(self) -> str:
        """Steps of the folded axis that are worked on at a time."""
        return "span" if self.block else self.extent(self.depth)

    def _from_block(self, offset: Index) -> Index:
        """The offset with the step counted from the beginning of the block."""
        c = self.ranges.coefficient(offset, "k") if self.block else 0
        return ix.add(offset, ix.scale(ix.var("first"), c)) if c else offset

    def _row_text(self, offset: Index) -> str:
        """The offset with row i + m of the tile in place of the row variable."""
        name = self._row_name()
        c = self.ranges.coefficient(offset, name)
        if c is None:
            raise Unvectorizable(str(offset))
        rest = Index(tuple(t for t in offset.terms if t[0] != name), offset.const)
        return f"i * {shapes.code(c)} + m * {shapes.code(c)} + {rest}" if c != 1 else f"i + m + {rest}"

    def _row_name(self) -> str:
        return f"i{len(self.group.domain) - 2}"
