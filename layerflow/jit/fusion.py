"""Fuse: which values are stored, and which are computed in one loop nest.  Graph in, list of Groups out."""

from __future__ import annotations

from collections.abc import Iterator

from layerflow.graph.ir import Graph
from layerflow.graph.ops.primitive import is_simple
from layerflow.graph.shapes import Dim
from layerflow.graph.symbolic import LITERAL, Kind, Op
from layerflow.jit import access, attention, overwriting
from layerflow.jit.contraction import contraction, fold_index, is_sharded
from layerflow.jit.groups import Group
from layerflow.jit.index import Index, Ranges
from layerflow.jit.order import ordered
from layerflow.jit.sparse import computed_by_rows

CHEAP_TREE = 3  # a map made of at most this many cheap ops is computed again rather than stored
SCALAR_TREE = 24  # the same for values of rank 0, which cost nothing beside a loop
COPIES = ("concatenate", "pad", "overlap_add", "winograd_kernel")  # moves that are carried out
WITH_PARTS, PARTS = ("loop", "update_rows"), ("loop_part", "rows_part")  # ops of several results, and these
CARRIED_OUT = (*COPIES, "scatter_add", "update_rows", "keep", "winograd_fold")
IMAGES = {"winograd_convolve": (0,), "winograd_kernel_gradient": (0, 1), "winograd_input_gradient": (0,)}


def fuse(graph: Graph, side_by_side: bool = False) -> list[Group]:
    """Groups in an order in which they can run.

    Args:
        graph: what is computed.
        side_by_side: maps that read the same value go together, also if none needs the other.

    Raises:
        Overwritten: they would have to read values that are gone.
    """
    return _Fusion(graph, side_by_side).run()


class _Fusion:
    def __init__(self, graph: Graph, side_by_side: bool):
        self.graph = graph
        self.side_by_side = side_by_side
        self.users = graph.users()
        self.updates = {v: p for p, v in graph.updates}
        self.material = self._material()
        self.home: dict[Op, int] = {}
        self.groups: list[Group] = []
        self.readers = self._parameter_readers()

    # --- what is stored ------------------------------------------------------

    def _material(self) -> set[Op]:
        found: set[Op] = set(self.graph.roots)
        for op in self.graph.ops:
            kind = op.primitive.kind
            if kind in (Kind.CONTRACT, Kind.REDUCE, Kind.LOOP) or op.name in CARRIED_OUT:
                found.add(op)
            if op.name == "winograd_kernel" and (op.attrs["turned"] or not self._is_along_last(op.inputs[0], found)):
                found.update(self._unless_leaf(op.inputs[0]))
            if op.name == "loop":
                found.update(i for x in op.inputs for i in self._unless_leaf(rows_of(x)))
            if op.name == "gather":
                found.update(self._unless_leaf(op.inputs[0]))
            if op.name in ("scatter_add", "row_sums"):
                found.update(i for x in op.inputs for i in self._unless_leaf(x))
        elsewhere = computed_by_rows(self.graph) | set(attention.beside_scores(self.graph, self.users))
        for op in self.graph.ops:  # in order, so that the tree of an op ends at what was stored below it
            if op.primitive.kind is Kind.CONTRACT:
                for side, x in enumerate(op.inputs):
                    if x not in found and not self._is_read_in_place(op, side, found):
                        below = attention.unmoved(op, side)
                        found.add(below)
                        if not self._is_read_in_place(op, side, found):
                            found.add(x)
            elif (
                op.primitive.kind is Kind.MAP
                and op not in found
                and op not in elsewhere
                and len(self.users[op]) > 1
                and (self._finishes_product(op, found) or not self._is_cheap(op, found))
            ):
                found.add(op)
        return found

    def _unless_leaf(self, op: Op) -> list[Op]:
        return [] if op.primitive.kind is Kind.LEAF and op.primitive is not LITERAL else [op]

    def _is_read_in_place(self, op: Op, side: int, found: set[Op]) -> bool:
        """Whether a contraction takes an operand from what it is made of."""
        if op.name in IMAGES:
            return self._is_image(op, side, found)
        if op.name in attention.KIND and not attention.in_memory(op, side):
            return self._is_along_last(op.inputs[side], found)
        return self._is_matrix_view(op, side, found)

    def _is_matrix_view(self, op: Op, side: int, found: set[Op]) -> bool:
        """Whether an operand of a product is strided storage: moves of a stored value, vectors along its last axis."""
        source, ranges = op.inputs[side], Ranges()
        own = op.name in attention.KIND  # such operations take the operand as it is
        extents = source.shape if own else op.shape
        variables = tuple(ranges.declare(f"i{k}", n) for k, n in enumerate(extents[:-1]))
        at = (*variables, ranges.declare("j", extents[-1]))
        if not own:
            product = contraction(op, at, ranges)
            at = product.right if side else product.left
        while source not in found and source.primitive.kind is not Kind.LEAF:
            if source.primitive.kind is not Kind.MOVE or source.name in COPIES:
                return False
            ((source, at),) = access.operands(source, at, ranges)
        if source.primitive is LITERAL:
            return False
        offset = ranges.joined(access.dense(source.shape).offset(at))
        if any(ranges.coefficient(offset, name) is None for name in ranges.bounds):
            return False
        along = ranges.coefficient(offset, "j")
        if own:
            return along == 1 or extents[-1] == 1
        return along == 1 if side else along in (0, 1)

    def _is_image(self, op: Op, side: int, found: set[Op]) -> bool:
        """Whether an image can be computed where it is transformed: cheap, and along the channels of what is stored."""
        x = op.inputs[side]
        return side in IMAGES[op.name] and self._is_cheap(x, found) and self._is_along_last(x, found)

    def _is_along_last(self, x: Op, found: set[Op]) -> bool:
        """Whether vectors along the last axis of `x` are vectors of what is stored."""
        if x in found:
            return True
        ranges = Ranges()
        index = (*(ranges.declare(f"i{k}", n) for k, n in enumerate(x.shape[:-1])), ranges.declare("j", x.shape[-1]))
        for source, at in access.inline_references(x, index, found.__contains__, ranges):
            if ranges.coefficient(access.dense(source.shape).offset(at), "j") not in (0, 1):
                return False
        return not any(name.startswith("gathered") for name in ranges.bounds)

    def _finishes_product(self, op: Op, found: set[Op]) -> bool:
        """Whether `op` is all that becomes of a product: then storing it costs what storing the product would."""
        tree = set(self._tree(op, found))
        products = {i for inner in tree for i in inner.inputs if i.primitive.kind is Kind.CONTRACT}
        return any(p.shape == op.shape and tree.issuperset(self.users[p]) for p in products)

    def _is_cheap(self, op: Op, found: set[Op]) -> bool:
        limit = SCALAR_TREE if op.shape == () else CHEAP_TREE
        for count, inner in enumerate(self._tree(op, found), 1):
            if count > limit or (op.shape != () and not is_simple(inner)):
                return False
        return True

    def _tree(self, op: Op, found: set[Op]) -> Iterator[Op]:
        """The maps that are inlined with `op`."""
        stack, seen = [op], set()
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            if current.primitive.kind is Kind.MAP:
                yield current
            stack.extend(i for i in current.inputs if i not in found)

    # --- order ---------------------------------------------------------------

    def _references(self, op: Op, index: tuple[Index, ...], ranges: Ranges) -> list[tuple[Op, tuple[Index, ...]]]:
        return list(access.inline_references(op, index, self.material.__contains__, ranges))

    def sources(self, op: Op) -> set[Op]:
        """Stored values and leaves that computing `op` reads."""
        found, stack, seen = set(), list(op.inputs), set()
        while stack:
            x = stack.pop()
            if x in self.material or x.primitive.kind is Kind.LEAF:
                found.add(x)
            elif x not in seen:
                seen.add(x)
                stack.extend(x.inputs)
        return found

    def _parameter_readers(self) -> dict[Op, set[Op]]:
        """Parameter -> stored values whose computation reads it."""
        readers: dict[Op, set[Op]] = {p: set() for p in self.updates.values()}
        for op in self.material:
            for leaf in self.sources(op):
                if leaf in readers:
                    readers[leaf].add(op)
        return readers

    def _needs(self) -> dict[Op, set[Op]]:
        """Stored value -> stored values that come before it: its sources, and readers of what it overwrites."""
        needs = {
            op: {s for s in self.sources(op) if s in self.material} for op in self.graph.ops if op in self.material
        }
        return overwriting.after_readers(needs, self.updates, self.readers)

    def _check_overwriting(self) -> None:
        clashes: dict[Op, set[Op]] = {}
        for value, parameter in self.updates.items():
            for reader in self.readers[parameter]:
                alone = self.groups[self.home[value]].members[0] is value is reader
                if self.home[reader] > self.home[value] or (
                    alone and not self._meets_in_place(value, _new_group(value))
                ):
                    clashes.setdefault(reader, set()).add(parameter)
        if clashes:
            raise overwriting.Overwritten(clashes, self.material)

    # --- groups --------------------------------------------------------------

    def run(self) -> list[Group]:
        for op in ordered(self._needs()):
            floor = max((self.home[s] for s in self.sources(op) if s in self.home), default=-1)
            if op in self.updates:
                floor = max([floor, *(self.home[r] for r in self.readers[self.updates[op]] if r in self.home)])
            at = self._join(op, floor)
            if at is None:
                at = len(self.groups)
                self.groups.append(_new_group(op))
            else:
                self.groups[at].members.append(op)
            self.home[op] = at
        self._check_overwriting()
        for group in self.groups:
            group.stored = [m for m in group.members if self._must_store(m)]
        return self.groups

    def _must_store(self, op: Op) -> bool:
        """Roots, and values read by another group."""
        if op in self.graph.roots:
            return True
        mine = self.home[op]
        return any(
            self.home[reader] != mine for reader in self.material if reader in self.home and op in self.sources(reader)
        )

    def _join(self, op: Op, floor: int) -> int | None:
        """The latest group that can also compute `op`, not before the group `floor` that its sources come from."""
        for at in range(len(self.groups) - 1, max(floor, 0) - 1, -1):
            if self._fits(op, self.groups[at]):
                return at
        return None

    def _fits(self, op: Op, group: Group) -> bool:
        if group.kind in WITH_PARTS or op.name in (*WITH_PARTS, *PARTS):
            return op.name in PARTS and op.inputs[0] is group.anchor
        if group.kind == "winograd_gradients" or group.kind in attention.GROUPS:
            return _same_pass(op, group)
        if (
            op.primitive.kind is Kind.CONTRACT
            or op.name in (*COPIES, "scatter_add")
            or group.kind in (*COPIES, "scatter_add", "convolve_kernel")
        ):
            return False
        if is_sharded(op) or is_sharded(group.anchor):
            return _same_shards(op, group) and self._meets_in_place(op, group)
        if op.primitive.kind is Kind.REDUCE:
            # The folds of columns run side by side in one loop: none of them can wait for another.
            if not _same_fold(op, group) or (group.kind == "column" and self._linked(op, group)):
                return False
        elif (op.shape != group.domain and not (group.kind == "row" and op.shape == (*group.domain, group.inner))) or (
            group.kind == "row"
            and op.shape == ()
            and group.domain == ()
            and group.inner is not None
            and not self._linked(op, group)
        ):
            return False
        if (
            group.kind in ("gemm", "convolve", "winograd_convolve", "column", "map")
            and not self._linked(op, group)
            and op.primitive.kind is not Kind.REDUCE
        ):
            return False
        if group.kind == "winograd_convolve" and access.moves(op, group.members, self.material):
            return False  # in a tile it is not seen that moves there and back end where they began
        return self._meets_in_place(op, group)

    def _linked(self, op: Op, group: Group) -> bool:
        mine = self.sources(op)
        if self.side_by_side and group.kind == "map" and op.primitive.kind is Kind.MAP:
            mine = mine | {op}
            if any(s.shape != () and s in self.sources(m) for m in group.members for s in mine):
                return True
        return any(s in group.members for s in mine)

    def _meets_in_place(self, op: Op, group: Group) -> bool:
        """Members are read at the very element being computed, and nothing overwritten here is read elsewhere."""
        ranges = Ranges()
        overwritten = {self.updates[m]: m for m in (*group.members, op) if m in self.updates}
        for member in (*group.members, op):
            for source, index in self._reads(member, group, ranges):
                place = access.canonical(index, source.shape)
                if source in group.members and place != group.index_of(source, ranges):
                    return False
                if source in overwritten and place != group.index_of(overwritten[source], ranges):
                    return False
        return True

    def _reads(self, member: Op, group: Group, ranges: Ranges) -> list[tuple[Op, tuple[Index, ...]]]:
        variables = group.variables(ranges)
        if member.primitive.kind is Kind.CONTRACT:
            unknown = ranges.declare("k", None)
            return [(s, (unknown,) * len(s.shape)) for s in self.sources(member)]
        if member.primitive.kind is Kind.REDUCE:
            index = variables if group.kind == "row" else fold_index(member, variables, ranges)
            inner = member.inputs[0]
            if inner in self.material or inner.primitive.kind is Kind.LEAF:
                return [(inner, index)]
            return self._references(inner, index, ranges)
        return self._references(member, group.index_of(member, ranges), ranges)


def _same_pass(op: Op, group: Group) -> bool:
    """Whether what the group makes for its first operation gives this one too."""
    first = group.anchor
    if group.kind in attention.GROUPS:
        return (op.inputs, op.attrs) == (first.inputs, first.attrs) and attention.KIND.get(op.name) == group.kind
    # Both gradients of a convolution are made from one transform of the outputs' gradient.
    return (
        op.name == "winograd_input_gradient"
        and first.name == "winograd_kernel_gradient"
        and len(group.members) == 1
        and first.inputs[1] is op.inputs[0]
    )


def _same_fold(op: Op, group: Group) -> bool:
    """Whether a reduction walks the same elements as the group."""
    x, axis = op.inputs[0], op.attrs["axes"][0]
    if axis == len(x.shape) - 1:
        return group.kind == "row" and op.shape == group.domain and x.shape[-1] == group.inner
    other = group.anchor
    return group.kind == "column" and other.inputs[0].shape == x.shape and other.attrs["axes"] == op.attrs["axes"]


def _same_shards(op: Op, group: Group) -> bool:
    """Whether two folds over samples add up the same elements."""
    other = group.anchor
    alike = is_sharded(op) and is_sharded(other) and op.shape == other.shape
    if not alike or "axes" not in op.attrs or "axes" not in other.attrs:
        return False
    return op.inputs[0].shape == other.inputs[0].shape and op.attrs["axes"] == other.attrs["axes"]


def rows_of(op: Op) -> Op:
    """What is stored for a sequence [B, steps, n]: the rows [B * steps, n] that a reshape made it from, if one did."""
    rows = op.inputs[0] if op.name == "reshape" and len(op.shape) == 3 else op
    return (
        rows if len(rows.shape) == 2 and rows.shape[-1] == op.shape[-1] and rows.primitive.kind is not Kind.LEAF else op
    )


def _new_group(op: Op) -> Group:
    kind = op.primitive.kind
    if op.name in ("winograd_kernel_gradient", "winograd_input_gradient"):
        return Group("winograd_gradients", op, op.shape, members=[op])
    if op.name == "loop":
        lead = next((access.batch_of(x.shape) for x in op.inputs if access.batch_of(x.shape)), None)
        return Group("loop", op, (Dim(lead.symbol),) if lead else (), members=[op])
    if kind is Kind.CONTRACT:
        kinds = {"matmul": "gemm", **attention.KIND}
        return Group(kinds.get(op.name, op.name), op, op.shape, members=[op])
    if is_sharded(op) and op.name != "winograd_fold":
        return Group("shards", op, op.shape, members=[op])
    if kind is Kind.REDUCE:
        x, axis = op.inputs[0], op.attrs["axes"][0]
        if axis == len(x.shape) - 1:
            return Group("row", op, op.shape, inner=x.shape[-1], members=[op])
        return Group("column", op, op.shape, members=[op])
    if op.name in (*COPIES, "scatter_add", "update_rows", "winograd_fold"):
        return Group(op.name, op, op.shape, members=[op])
    return Group("map", op, op.shape, members=[op])
