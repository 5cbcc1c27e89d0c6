"""Values in generated code: which statements compute an element, and at which loop level they stand.

A Writer holds the levels of one loop nest, outermost first.  `value` gives the name of an element of an op at an index;
it writes the statements for it once, at the outermost level where everything they use is known.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import CompileError
from layerflow.graph import shapes
from layerflow.graph.ops.primitive import MapPrimitive
from layerflow.graph.shapes import BATCH as BATCH_SYMBOL
from layerflow.graph.shapes import Dim, Extent
from layerflow.graph.symbolic import INPUT, LITERAL, Kind, Op
from layerflow.jit import access
from layerflow.jit import index as ix
from layerflow.jit.index import Index, Ranges
from layerflow.jit.schedule import Buffer, Schedule

TYPES = {
    "float32": "f32", "float64": "f64", "bool": "u8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
}  # fmt: skip
# NumPy's name -> the kernel language's, where they differ.
FUNCTIONS = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "absolute": "abs", "power": "pow", "mod": "floor_mod",
}  # fmt: skip
INFIX = {"logical_and": ast.BitAnd, "logical_or": ast.BitOr, "logical_xor": ast.BitXor}
# Slots of the context table that the driver keeps for each thread.
ROWS, SEED, STEP, ITERATION = 0, 1, 2, 3  # rows of the batch, seed, step number, optimizer iteration
# Gathering on, address of the row order, rows of a full batch, first row of the batch.
GATHER, ORDER, BATCH, FIRST = 4, 5, 6, 7
# Rows in all, first batch, batches to run, counters before them.
TOTAL, START, COUNT, STEP_BASE, ITERATION_BASE = 8, 9, 10, 11, 12
LO, HI, TID = 14, 15, 16  # this thread's samples, and its number (13: the barrier)
SCRATCH = 17  # address of the thread's own working memory
SHARD = 18  # the part of the batch whose sums are being made
PAST_FIRST = 19  # 0 at the first step of a loop, 1 later: of the loop whose kernel runs
DENSE = 20  # 1 if the operand of a product has too few zeros to skip them (see `skipping`)
FIRST_SLOT = 21  # addresses of buffers from here on
COUNTERS = {"seed": SEED, "step": STEP, "iteration": ITERATION}


def type_name(dtype: np.dtype) -> str:
    """The language's name of a type as values have it (a boolean is one bit, in memory a byte)."""
    return "b1" if dtype.kind == "b" else TYPES[dtype.name]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The part of the vector axis being computed.

    `start` is a number or a variable, `count` the valid lanes if not all.
    """

    start: int | str = 0
    count: int | str | None = None

    @property
    def first(self) -> Index:
        if isinstance(self.start, int):
            return ix.number(self.start)
        name, _, more = self.start.partition(" + ")
        return ix.add(ix.var(name), ix.number(int(more or 0)))


@dataclasses.dataclass(frozen=True)
class Value:
    name: str
    level: int
    vector: bool


@dataclasses.dataclass
class Level:
    """Statements of one loop body; `variables` are the loop variables first known here."""

    variables: tuple[str, ...] = ()
    lines: list[str] = dataclasses.field(default_factory=list)
    memo: dict[tuple, Value] = dataclasses.field(default_factory=dict)


class Writer:
    """Statements of one kernel under construction."""

    def __init__(self, plan: Schedule, lanes: int):
        self.plan = plan
        self.lanes = lanes
        self.ranges = Ranges()
        self.levels: list[Level] = [Level()]
        self.chunk: Chunk | None = None  # None: scalar code, j is an ordinary variable
        self.even: set[str] = set()  # variables that count whole vectors
        self.count = 0
        self.pointers: dict[int, str] = {}
        # New weights need no exactly rounded square roots: a step is full of them, and the exact ones bound its speed.
        self.fast_roots = False

    # --- statements ----------------------------------------------------------

    def name(self, stem: str = "v") -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def write(self, line: str, level: int | None = None) -> None:
        self.levels[-1 if level is None else level].lines.append(line)

    def assign(self, expression: str, level: int, vector: bool) -> Value:
        name = self.name()
        self.write(f"{name} = {expression}", level)
        return Value(name, level, vector)

    def pointer(self, buffer: Buffer) -> str:
        """The variable with the buffer's address, loaded once in the kernel's head."""
        if buffer.slot not in self.pointers:
            self.pointers[buffer.slot] = f"p{buffer.slot}"
            self.write(f"p{buffer.slot} = pointer(ctx, {buffer.slot}, {TYPES[buffer.op.dtype.name]})", 0)
        return self.pointers[buffer.slot]

    def extent(self, extent: int | Dim) -> str:
        """An extent as text; a run-time one is loaded once."""
        if isinstance(extent, int):
            return str(extent)
        key = ("extent", extent)
        memo = self.levels[0].memo
        if key not in memo:
            text = shapes.code(extent)
            if extent.symbol == BATCH_SYMBOL:
                text = f"integer(ctx, {ROWS}){'' if extent.factor == 1 else f' * {shapes.code(extent.factor)}'}"
            memo[key] = self.assign(text, 0, False)
        return memo[key].name

    def range_of(self, extent: Extent) -> str:
        """The arguments of a range over a leading axis: the share of samples or units, times what each stands for."""
        factor = extent.factor if isinstance(extent, Dim) and extent.symbol == BATCH_SYMBOL else 1
        return "lo, hi" if factor == 1 else f"lo * {shapes.code(factor)}, hi * {shapes.code(factor)}"

    # --- positions -----------------------------------------------------------

    def level_of(self, index: Index) -> int:
        """The outermost level at which every variable of the index is known."""
        for at in range(len(self.levels) - 1, 0, -1):
            if any(self.ranges.depends(index, v) for v in self.levels[at].variables):
                return at
        return 0

    def counts_vectors(self, name: str, step: int) -> None:
        """Declares a variable that goes up from 0 in steps of whole vectors."""
        self.even.add(name)
        self.ranges.steps[name] = step

    def is_vector(self, index: Index) -> bool:
        return self.chunk is not None and self.ranges.depends(index, "j")

    def position(self, index: Index) -> str:
        """Text of an index, with the chunk's start in place of j."""
        if self.chunk is None:
            return str(index)
        c = self.ranges.coefficient(index, "j")
        if c is None:
            return self._position_in_runs(index)
        rest = Index(tuple(t for t in index.terms if t[0] != "j"), index.const)
        if not c or self.chunk.start == 0:
            return str(rest)
        if isinstance(self.chunk.start, int):
            return str(ix.add(rest, ix.number(self.chunk.start * c)))
        return str(ix.add(rest, Index(((self.chunk.start, c),))))

    def _position_in_runs(self, index: Index) -> str:
        """The same for an index with quotients of j: they are those of the chunk's start, where a chunk begins at a
        multiple of its length."""
        assert self.chunk is not None
        start = self.chunk.first
        whole = all(name in self.even for name, _ in start.terms) and start.const % self.lanes == 0
        if not whole or self.ranges.along(index, "j", self.lanes) is None:
            raise Unvectorizable(str(index))
        return str(self.ranges.put(index, "j", start))

    # --- values --------------------------------------------------------------

    def value(self, op: Op, index: Sequence[Index]) -> Value:
        """The element of `op` at `index`: its name, where it is known and whether it is a vector."""
        index = access.canonical(index, op.shape)
        uses_vector = any(self.is_vector(i) for i in index)
        key = (op, index, self.chunk if uses_vector else None)
        for level in self.levels:
            if key in level.memo:
                return level.memo[key]
        made = self._make(op, index)
        self.levels[made.level].memo[key] = made
        return made

    def bind(self, op: Op, index: Sequence[Index], value: Value) -> None:
        """Makes `value` the element of `op` at `index`."""
        index = access.canonical(index, op.shape)
        uses_vector = any(self.is_vector(i) for i in index)
        self.levels[value.level].memo[(op, index, self.chunk if uses_vector else None)] = value

    def _make(self, op: Op, index: tuple[Index, ...]) -> Value:
        if op.primitive is LITERAL:
            return Value(literal_text(op), 0, False)
        if op.primitive is INPUT and op.attrs["name"] in COUNTERS and op not in self.plan.graph.inputs:
            return self.assign(f"cast(integer(ctx, {COUNTERS[op.attrs['name']]}), {TYPES[op.dtype.name]})", 0, False)
        if op in self.plan.buffers and not self.computed_here(op):
            return self.load(op, index)
        if op.name == "iota":
            return self._iota(op, index)
        if op.name == "extent":
            size = self.extent(Dim(op.attrs["symbol"], op.attrs["factor"]))
            return self.assign(f"cast({size}, {TYPES[op.dtype.name]})", 0, False)
        if op.primitive.kind is Kind.MAP:
            return self._map(op, index)
        pairs = access.operands(op, index, self.ranges, self._gathered)
        if not pairs:
            raise CompileError(f"{op!r} of layer {op.layer!r} cannot be computed inside a loop nest.")
        return self.value(*pairs[-1])

    def computed_here(self, op: Op) -> bool:
        """Whether this kernel computes `op` itself, so that a stored copy must not be read."""
        return op in self.members

    members: frozenset[Op] = frozenset()

    def load(self, op: Op, index: tuple[Index, ...]) -> Value:
        buffer = self.plan.buffers[op]
        offset = self.ranges.joined(buffer.layout.offset(index, self.ranges))
        pointer = self.pointer(buffer)
        level, vector = self.level_of(offset), self.is_vector(offset)
        if vector and self.ranges.along(offset, "j", self.lanes) != 1:
            raise Unvectorizable(f"{op!r} at {offset}")
        if vector:
            assert self.chunk is not None
            tail = "" if self.chunk.count is None else f", {self.chunk.count}"
            text = f"load({pointer}, {self.position(offset)}{tail})"
        else:
            text = f"{pointer}[{self.position(offset)}]"
        if op.dtype.kind == "b":
            text = f"({text} != 0)"
        return self.assign(text, level, vector)

    def store(self, op: Op, index: tuple[Index, ...], value: Value) -> None:
        """Writes a member's element to its buffer, at the innermost level."""
        buffer = self.plan.buffers[op]
        offset = buffer.layout.offset(access.canonical(index, op.shape), self.ranges)
        pointer = self.pointer(buffer)
        text = f"cast({value.name}, u8)" if op.dtype.kind == "b" else value.name
        if self.is_vector(offset):
            if self.ranges.along(offset, "j", self.lanes) != 1:
                raise Unvectorizable(f"store of {op!r}")
            assert self.chunk is not None
            if not value.vector:
                text = f"splat({text})"
            tail = "" if self.chunk.count is None else f", {self.chunk.count}"
            self.write(f"store({pointer}, {self.position(offset)}, {text}{tail})")
        elif value.vector:
            # An axis of one element: the first lane.
            self.write(f"store({pointer}, {self.position(offset)}, {text}, 1)")
        else:
            self.write(f"{pointer}[{self.position(offset)}] = {text}")

    def _gathered(self, op: Op, index: tuple[Index, ...], rows: int | Dim) -> Index:
        """The row number a gather reads, clipped into the table; a new loop-level variable."""
        value = self.value(op, index)
        if value.vector:
            raise Unvectorizable(f"gather by {op!r}")
        self.count += 1
        name = f"row{self.count}"
        self.write(f"{name} = minimum(maximum(cast({value.name}, i64), 0), {self.extent(rows)} - 1)", value.level)
        self.levels[value.level].variables += (name,)
        return ix.var(name)

    def _iota(self, op: Op, index: tuple[Index, ...]) -> Value:
        axis = op.attrs["axis"]
        position = ix.flatten(index, op.shape) if axis is None else index[axis]
        level, vector = self.level_of(position), self.is_vector(position)
        kind = TYPES[op.dtype.name]
        base = f"cast({self.position(position)}, {kind})"
        if not vector:
            return self.assign(base, level, False)
        c = self.ranges.coefficient(position, "j")
        if not isinstance(c, int):
            raise Unvectorizable(f"{op!r} at {position}")
        lanes = f"iota({kind})" if c == 1 else f"iota({kind}) * {kind}({c})"
        return self.assign(f"splat({base}) + {lanes}", level, True)

    # --- maps ----------------------------------------------------------------

    def _map(self, op: Op, index: tuple[Index, ...]) -> Value:
        fused = self._multiply_add(op, index)
        if fused is not None:
            return fused
        values = [self.value(i, at) for i, at in access.operands(op, index, self.ranges)]
        level = max((v.level for v in values), default=0)
        vector = any(v.vector for v in values)
        text = inline(op, [v.name for v in values])
        return self.assign(text.replace("sqrt(", "sqrt_fast(") if self.fast_roots and vector else text, level, vector)

    def _multiply_add(self, op: Op, index: tuple[Index, ...]) -> Value | None:
        """a * b + c as one rounding, where the product is not needed otherwise."""
        if op.name not in ("add", "subtract") or op.dtype.kind != "f":
            return None
        pairs = access.operands(op, index, self.ranges)
        for side in (0, 1):
            product, at = pairs[side]
            if product.name != "multiply" or product in self.plan.buffers or product in self.members:
                continue
            a, b = (self.value(i, p) for i, p in access.operands(product, at, self.ranges))
            c = self.value(*pairs[1 - side])
            level, vector = max(a.level, b.level, c.level), a.vector or b.vector or c.vector
            left = f"-{a.name}" if op.name == "subtract" and side == 1 else a.name
            right = f"-{c.name}" if op.name == "subtract" and side == 0 else c.name
            return self.assign(f"fma({left}, {b.name}, {right})", level, vector)
        return None


class Unvectorizable(Exception):
    """The access is no unit-stride vector; the nest is written again in scalar form."""


def literal_text(op: Op) -> str:
    value: Any = op.attrs["value"]
    kind = type_name(op.dtype)
    if op.dtype.kind == "f" and not np.isfinite(value):
        return f"{kind}({'nan' if np.isnan(value) else 'inf' if value > 0 else '-inf'})"
    return f"{kind}({value!r})" if op.dtype.kind != "b" else f"b1({int(value)})"


def inline(op: Op, names: Sequence[str]) -> str:
    """The op's kernel expression with operands bound, literals typed and functions named as the language names them."""
    assert isinstance(op.primitive, MapPrimitive)
    if op.name == "stop_gradient":
        return names[0]
    parameters, expression = op.primitive.expression
    kind = next((i.dtype for i in op.inputs if i.dtype.kind != "b"), op.dtype)
    bound = dict(zip(parameters, names, strict=False))
    attributes = {k: type_name(np.dtype(v)) for k, v in op.attrs.items() if k == "dtype"}
    condition = op.name == "where" and op.inputs[0].dtype.kind != "b"
    if condition:
        bound[parameters[0]] = f"({names[0]} != {type_name(op.inputs[0].dtype)}(0))"
    return ast.unparse(_Inline({**bound, **attributes}, type_name(kind), op.dtype).visit(copy.deepcopy(expression)))


class _Inline(ast.NodeTransformer):
    """Rewrites a kernel's expression for the kernel language."""

    def __init__(self, bound: dict[str, str], kind: str, result: np.dtype):
        self.bound, self.kind, self.result = bound, kind, result

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(self.bound.get(node.id, node.id))

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.Name(f"{self.kind}({node.value!r})")

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if node.attr == "inf":
            return ast.Name(f"{self.kind}(inf)")
        raise CompileError(f"kernel expression uses {ast.unparse(node)}, which has no compiled form.")

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        args = [self.visit(a) for a in node.args]
        if name in INFIX:
            return ast.BinOp(args[0], INFIX[name](), args[1])
        if name == "logical_not":
            return ast.UnaryOp(ast.Invert(), args[0])
        if name == "floor_divide":
            quotient = ast.BinOp(args[0], ast.Div() if self.result.kind == "f" else ast.FloorDiv(), args[1])
            return ast.Call(ast.Name("floor"), [quotient], []) if self.result.kind == "f" else quotient
        return ast.Call(ast.Name(FUNCTIONS.get(name, name)), args, [])
