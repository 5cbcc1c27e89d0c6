"""Winograd convolution as kernel-language source: the steps of a pass forwards and of both gradients.

forward      V[p] = transformed inputs, M[p] = V[p] @ U[p], outputs = transform of M
gradients    V[p] = transformed inputs, M[p] = transformed gradient of the outputs, dU[p] += V[p]^T @ M[p],
             V[p] = M[p] @ U[p]^T, gradient of the inputs = sum of the transforms of V

p runs over the 36 points of a tile.  V and M hold for each point one row a tile, in working memory, for a group of rows
of tiles (winograd_tiling).  Only the loops over points and elements of one tile are unrolled, in the transforms.

Elements of images come from and go to the nest that is being written, at sample `i0`, row `i1`, column `i2` and the
nest's chunk of channels.  The order of additions does not depend on how samples are grouped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from layerflow.jit.loops import INDENT, LoopNest
from layerflow.jit.products import Matrix, tile
from layerflow.jit.tiles import tile_rows
from layerflow.jit.winograd_tile import Finish, Place, Planes, Read, chunks, first, tail, two_axes
from layerflow.jit.winograd_tiling import Tiling
from layerflow.jit.winograd_transforms import OUTPUTS, POINTS, TAPS

UNROLL = 2
IMAGE = Place(("i1", "ti"), ("i2", "tj"))


@dataclasses.dataclass(frozen=True)
class Samples:
    """An array [samples, rows, columns, channels] in memory: its address variable and element strides."""

    pointer: str
    sample: int
    row: int
    column: int

    def at(self, row: str, column: str, channel: str) -> str:
        """Text of the position of an element of sample i0."""
        return f"i0 * {self.sample} + {row} * {self.row} + {column} * {self.column} + {channel}"


class Winograd:
    """Writes the steps into a nest that runs over samples lo..hi."""

    def __init__(self, nest: LoopNest, tiling: Tiling, scratch: str, dtype: str):
        """
        Args:
            nest: the nest being written.
            tiling: extents and machine; its lanes are those of the nest.
            scratch: address variable of `tiling.scratch` elements of the thread's own memory.
            dtype: the kernel language's name of the elements.
        """
        self.nest, self.tiling, self.scratch, self.dtype = nest, tiling, scratch, dtype
        t = tiling
        self.inputs = Planes(scratch, t.plane(t.channels), t.pitch(t.channels))
        self.outputs = Planes(scratch, t.plane(t.filters), t.pitch(t.filters), str(POINTS**2 * self.inputs.plane))

    # --- passes --------------------------------------------------------------

    def forward(self, read: Read, kernel: Planes, finish: Finish) -> None:
        """Outputs, from the elements of the inputs and the transformed kernel [36, channels, filters]."""
        t = self.tiling

        def products() -> None:
            self._rows_product(self.inputs, kernel, self.outputs, t.channels, t.filters)

        def group() -> None:
            self._transform_in("winograd_input", POINTS, t.channels, self.inputs, read)
            self.nest.segment(f"for p in range({POINTS**2}):", ("p",), products)
            self._each_tile(lambda: self._chunks(t.filters, lambda: self._outputs(finish)))

        self._each_group(group)

    def backward(
        self,
        gradient: Read,
        inputs: tuple[Read, Planes] | None = None,
        kernel: tuple[Planes, Samples] | None = None,
    ) -> None:
        """Gradients, from the elements of the outputs' gradient.

        Args:
            gradient: elements of the gradient of the outputs.
            inputs: for the gradient of the kernel: elements of the inputs, and the gradient of the transformed kernel
                [36, channels, filters], to which the contribution of the samples is added.
            kernel: for the gradient of the inputs: the transformed kernel turned, [36, filters, channels], and where
                the result goes; all of it is written.
        """
        t = self.tiling

        def products() -> None:
            if inputs:
                self._kernel_product(inputs[1])
            if kernel:
                # V[p] is not needed any more.
                self._rows_product(self.outputs, kernel[0], self.inputs, t.filters, t.channels)

        def group() -> None:
            if inputs:
                self._transform_in("winograd_input", POINTS, t.channels, self.inputs, inputs[0])
            self._transform_in(
                "winograd_output_gradient", OUTPUTS, t.filters, self.outputs, lambda: self._once(gradient())
            )
            self.nest.segment(f"for p in range({POINTS**2}):", ("p",), products)
            if kernel:
                target = kernel[1]
                self._each_tile(
                    lambda: self._chunks(t.channels, lambda: self._input_gradient(target)), lambda: self._clear(target)
                )

        self._each_group(group)

    # --- loops ---------------------------------------------------------------

    def _each_group(self, inside: Callable[[], None]) -> None:
        """Groups of rows of tiles, counted over all samples of the range."""
        t = self.tiling

        def group() -> None:
            self.nest.write(f"last = minimum(g + {t.group}, hi * {t.down})")
            self.nest.write(f"tiles = (last - g) * {t.across}")
            inside()

        self.nest.segment(f"for g in range(lo * {t.down}, hi * {t.down}, {t.group}):", ("g",), group)

    def _each_tile(self, inside: Callable[[], None], before: Callable[[], None] | None = None) -> None:
        """The tiles of a group; `before`: for each row of tiles.

        `ti`, `tj`: where a tile begins.  `above`, `left`: its rows and columns that the tile before has too.
        """
        t, nest = self.tiling, self.nest

        def tile() -> None:
            nest.write(f"tj = minimum(b * {OUTPUTS}, {t.columns - OUTPUTS})")
            if t.repeated_columns:
                nest.write(f"left = b * {OUTPUTS} - tj")
            nest.write(f"t = (s - g) * {t.across} + b")
            inside()

        def row() -> None:
            nest.write(f"i0 = s // {t.down}")
            nest.write(f"down = s % {t.down} * {OUTPUTS}")
            # Needed where tiles overlap; elsewhere LLVM would take twice the time to analyse the plain quotient.
            nest.write(f"ti = minimum(down, {t.rows - OUTPUTS})")
            if t.repeated_rows:
                nest.write("above = down - ti")
            if before:
                before()
            nest.segment(f"for b in range({t.across}):", ("tj", "t"), tile)

        nest.segment("for s in range(g, last):", ("i0", "ti"), row)

    def _chunks(self, channels: int, inside: Callable[[], None]) -> None:
        # Masks are free with AVX-512 alone.
        chunks(self.nest, channels, self.tiling.lanes * self.tiling.itemsize == 64, inside)

    # --- transforms ----------------------------------------------------------

    def _transform_in(self, transform: str, extent: int, channels: int, planes: Planes, read: Read) -> None:
        """Elements of images into working memory."""
        nest = self.nest

        def finish(value: str) -> None:
            nest.write(f"store({planes.pointer}, at + (r * {POINTS} + q) * {planes.plane}, {value})")

        def chunk() -> None:
            nest.write(f"at = {planes.offset} + t * {planes.pitch} + {first(nest)}")
            two_axes(nest, transform, (extent, POINTS), read, finish, source=IMAGE)

        self._each_tile(lambda: self._chunks(channels, chunk))

    def _once(self, value: str) -> str:
        """The gradient of an output, zero where the tile before has it already."""
        t = self.tiling
        static, dynamic = [], []
        for name, bound, repeated in (("r", "above", t.repeated_rows), ("q", "left", t.repeated_columns)):
            if repeated:
                static.append(f"{name} < {repeated}")
                dynamic.append(f"({name} < {bound})")
        if not static:
            return value
        self.nest.write(f"e = {value}")
        self.nest.write(f"if {' or '.join(static)}:")
        self.nest.write(f"{INDENT}e = where({' | '.join(dynamic)}, 0.0, e)")
        return "e"

    def _read_planes(self, planes: Planes) -> Read:
        self.nest.write(f"at = {planes.offset} + t * {planes.pitch} + {first(self.nest)}")
        return lambda: f"load({planes.pointer}, at + (r * {POINTS} + q) * {planes.plane})"

    def _outputs(self, finish: Finish) -> None:
        read = self._read_planes(self.outputs)
        two_axes(self.nest, "winograd_output", (POINTS, OUTPUTS), read, finish, target=IMAGE)

    def _input_gradient(self, target: Samples) -> None:
        """Adds a tile to what the tiles above and to the left have left; the rest nobody has written yet."""
        t, nest = self.tiling, self.nest
        shared = TAPS - 1

        def finish(value: str) -> None:
            nest.write(f"e = {value}")
            where = target.at("i1", "i2", first(nest))
            nest.write(f"if r < {shared + t.repeated_rows} or q < {shared + t.repeated_columns}:")
            nest.write(f"{INDENT}e = e + load({target.pointer}, {where}{tail(nest)})")
            nest.write(f"store({target.pointer}, {where}, e{tail(nest)})")

        read = self._read_planes(self.inputs)
        two_axes(nest, "winograd_input_gradient", (POINTS, POINTS), read, finish, target=IMAGE)

    def _clear(self, target: Samples) -> None:
        """Zeros before a sample's first tile, where tiles add: at the upper and left edge if no tiles overlap more."""
        t, nest = self.tiling, self.nest
        columns = str(t.input_columns)
        if not t.repeated_rows and not t.repeated_columns:
            columns = f"where(y < {TAPS - 1}, i64({columns}), i64({TAPS - 1}))"

        def chunk() -> None:
            nest.write(f"store({target.pointer}, {target.at('y', 'x', first(nest))}, zeros({self.dtype}){tail(nest)})")

        def row() -> None:
            nest.segment(f"for x in range({columns}):", ("x",), lambda: self._chunks(t.channels, chunk))

        def sample() -> None:
            nest.segment(f"for y in range({t.input_rows}):", ("y",), row)

        nest.segment("if ti == 0:", (), sample)

    # --- products ------------------------------------------------------------

    def _rows_product(self, left: Planes, right: Planes, out: Planes, depth: int, columns: int) -> None:
        """out[p] = left[p] @ right[p], a row a tile; rows past the last tile are computed and never read."""

        def tile(start: str, vectors: int, rows: int, is_last: bool) -> None:
            self.nest.write(f"left0 = {left.offset} + p * {left.plane} + t * {left.pitch}")
            self.nest.write(f"out0 = {out.offset} + p * {out.plane} + t * {out.pitch} + {start}")
            masked = right.tail(columns, self.nest.lanes) if is_last else ""
            self._tile(
                (rows, vectors),
                depth,
                Matrix(left.pointer, "left0", left.pitch, 1),
                Matrix(right.pointer, "right0", 0, right.pitch, masked),
                Matrix(out.pointer, "out0", out.pitch),
            )

        def panel(start: str, vectors: int, is_last: bool) -> None:
            self.nest.write(f"right0 = {right.offset} + p * {right.plane} + {start}")
            rows = self.tiling.tile_rows(vectors)
            self.nest.segment(f"for t in range(0, tiles, {rows}):", ("t",), lambda: tile(start, vectors, rows, is_last))

        self._each_panel(columns, panel)

    def _kernel_product(self, out: Planes) -> None:
        """out[p] += V[p]^T @ M[p], over the tiles in order."""
        t, nest = self.tiling, self.nest

        def tile(rows: int, start: str, vectors: int, is_last: bool) -> None:
            nest.write(f"left0 = {self.inputs.offset} + p * {self.inputs.plane} + k0")
            nest.write(f"out0 = {out.offset} + p * {out.plane} + k0 * {out.pitch} + {start}")
            self._tile(
                (rows, vectors),
                "tiles",
                Matrix(self.inputs.pointer, "left0", 1, self.inputs.pitch),
                Matrix(self.outputs.pointer, "right0", 0, self.outputs.pitch),
                Matrix(out.pointer, "out0", out.pitch, 0, out.tail(t.filters, nest.lanes) if is_last else ""),
                adds=True,
            )

        def panel(start: str, vectors: int, is_last: bool) -> None:
            rows = tile_rows(t.channels, vectors, t.registers)
            whole = t.channels // rows * rows
            nest.write(f"right0 = {self.outputs.offset} + p * {self.outputs.plane} + {start}")
            nest.segment(f"for k0 in range(0, {whole}, {rows}):", ("k0",), lambda: tile(rows, start, vectors, is_last))
            if whole < t.channels:
                nest.write(f"k0 = {whole}")
                tile(t.channels - whole, start, vectors, is_last)

        self._each_panel(t.filters, panel)

    def _each_panel(self, columns: int, inside: Callable[[str, int, bool], None]) -> None:
        """`inside(start, vectors, is_last)` for the panels of columns, equal ones in a loop."""
        found = self.tiling.panels(columns)
        for panel in found:
            last = panel is found[-1] and panel.tail is not None
            if panel.loop:
                (end, step), width = panel.loop, panel.vectors
                header = f"for c in range(0, {end}, {step}):"
                self.nest.segment(header, ("c",), lambda w=width, last=last: inside("c", w, last))
            else:
                inside(str(panel.start), panel.vectors, last)

    def _tile(
        self, shape: tuple[int, int], depth: int | str, left: Matrix, right: Matrix, out: Matrix, adds: bool = False
    ) -> None:
        unroll = next(u for u in (UNROLL, 3, 1) if depth % u == 0) if isinstance(depth, int) else 1
        tile(self.nest, self.dtype, shape, (depth, unroll), left, right, out, adds)
