"""How a Winograd convolution is cut into tiles and groups of tiles: plain numbers, no code.

Tiles start every 4 rows and columns of the output; the last one is moved back to end with it, so it may overlap the one
before.  A group is a number of whole rows of tiles, of one or several samples: few enough that their transforms stay in
the second-level cache between the three steps, enough that the register tiles of the products are full.
"""

from __future__ import annotations

import dataclasses
import functools

from layerflow.jit.tiles import ACCUMULATORS, ACCUMULATORS_16, Panel, panels
from layerflow.jit.winograd_transforms import OUTPUTS, POINTS, TAPS

CACHE_SHARE = 0.375  # of the second-level cache, for the transforms of a group
# Tiles in a group: with fewer the register tiles are small, beyond the transformed kernel is read seldom enough.
LEAST_TILES, MOST_TILES = 12, 96
FULL = 16  # register tiles of more accumulators are hardly faster
LINE = 64  # bytes of a line of the cache


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Extents of the output, channels on both sides, and the machine.

    Attributes:
        rows, columns: extents of the output, at least 4.
        channels, filters: of the input and of the output.
        itemsize: bytes of an element.
        lanes: elements of a vector.
        registers: vector registers.
        cache_bytes: of the second-level cache.
    """

    rows: int
    columns: int
    channels: int
    filters: int
    itemsize: int
    lanes: int
    registers: int
    cache_bytes: int

    @property
    def down(self) -> int:
        """Rows of tiles of a sample."""
        return -(-self.rows // OUTPUTS)

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.columns // OUTPUTS)

    @property
    def repeated_rows(self) -> int:
        """Output rows of the last row of tiles that the one before computes too."""
        return self.down * OUTPUTS - self.rows

    @property
    def repeated_columns(self) -> int:
        return self.across * OUTPUTS - self.columns

    @property
    def input_rows(self) -> int:
        return self.rows + TAPS - 1

    @property
    def input_columns(self) -> int:
        return self.columns + TAPS - 1

    def pitch(self, channels: int) -> int:
        """Elements of a row of the working memory: whole vectors."""
        return -(-channels // self.lanes) * self.lanes

    def panels(self, columns: int) -> list[Panel]:
        """How a product cuts its columns: few panels of about the same width."""
        vectors = -(-columns // self.lanes)
        widest = 4 if self.registers >= 32 else 2
        return panels(columns, self.lanes, -(-vectors // -(-vectors // widest)))

    def tile_rows(self, vectors: int, tiles: int | None = None) -> int:
        """Tiles that a product takes at a time: as many as the registers hold, of sizes that come out even."""
        room = min((ACCUMULATORS if self.registers >= 32 else ACCUMULATORS_16) // vectors, 16)
        tiles = tiles or self.tiles
        return -(-tiles // -(-tiles // room))

    @property
    def least_tiles(self) -> int:
        """Tiles that a group should have whatever the cache holds: more, the more there is to read of the kernel."""
        kernel = POINTS**2 * self.channels * self.filters * self.itemsize
        return min(max(LEAST_TILES, LEAST_TILES * kernel // self.cache_bytes), MOST_TILES)

    @functools.cached_property
    def group(self) -> int:
        """Rows of tiles in a group: of the numbers that fill the cache at least by half the one that wastes least."""
        each = self.across * POINTS**2 * (self.pitch(self.channels) + self.pitch(self.filters)) * self.itemsize
        fits = min(int(self.cache_bytes * CACHE_SHARE) // each, MOST_TILES // self.across)
        least = -(-self.least_tiles // self.across)

        widest = max(p.vectors for p in self.panels(self.filters))

        def use(group: int) -> float:
            tiles = group * self.across
            step = self.tile_rows(widest, tiles)
            return tiles / (-(-tiles // step) * step) * min(step * widest, FULL)

        return max(range(max(-(-fits // 2), least), max(fits, least) + 1), key=lambda g: (use(g), g))

    @property
    def tiles(self) -> int:
        """Tiles in a group."""
        return self.group * self.across

    def plane(self, channels: int) -> int:
        """Elements from one point of a tile's transform to the next, in the working memory.

        An odd number of cache lines, so that the 36 points of a tile do not meet in the same places of the cache.
        """
        widths = {p.vectors for columns in (self.channels, self.filters) for p in self.panels(columns)}
        rows = max(-(-self.tiles // step) * step for step in map(self.tile_rows, widths))
        lines = -(-rows * self.pitch(channels) * self.itemsize // LINE)
        return (lines | 1) * LINE // self.itemsize

    @property
    def scratch(self) -> int:
        """Elements of working memory: the transforms of a group on both sides."""
        return POINTS**2 * (self.plane(self.channels) + self.plane(self.filters))
