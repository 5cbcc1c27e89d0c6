"""Group: values that one loop nest computes."""

from __future__ import annotations

import dataclasses

from layerflow.graph.shapes import Extent, Shape
from layerflow.graph.symbolic import Op
from layerflow.jit import access
from layerflow.jit.index import Index, Ranges


@dataclasses.dataclass(eq=False)
class Group:
    """Values computed by one loop nest.

    kind: "map" (one element each), "row" (folds of the last axis and what surrounds them), "column" (folds of another
    axis), "gemm", or the name of a copying op.  `domain` is the index space of the members; for "row" the rows, with
    `inner` the extent of the folded axis; for a "gemm" of several `parts` the columns of one (see `gates`).
    """

    kind: str
    anchor: Op
    domain: Shape
    inner: Extent | None = None
    members: list[Op] = dataclasses.field(default_factory=list)
    stored: list[Op] = dataclasses.field(default_factory=list)
    parts: int = 1
    added: list[Op] = dataclasses.field(default_factory=list)  # of a "gemm": products that are added to its own
    total: Op | None = None  # and the sum of all of them

    def variables(self, ranges: Ranges) -> tuple[Index, ...]:
        """Loop variables of the domain: i0, i1, ..., with j for the vector axis."""
        extents = [*self.domain, self.inner] if self.kind == "row" else list(self.domain)
        names = [f"i{k}" for k in range(len(extents))]
        if names:
            names[-1] = "j"
        return tuple(ranges.declare(n, e) for n, e in zip(names, extents, strict=True))

    def index_of(self, op: Op, ranges: Ranges) -> tuple[Index, ...]:
        """The element of member `op` computed at the current loop variables."""
        variables = self.variables(ranges)
        if self.kind == "row" and op.shape == self.domain:
            variables = variables[:-1]
        return access.canonical(variables, op.shape)
