"""Primitive: one operation, declared once: NumPy kernel, shape rule, gradient rule and NumPy spelling together."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import ShapeError, TraceError
from layerflow.graph import numerics, shapes, symbolic
from layerflow.graph.symbolic import CONSTANT, INPUT, LITERAL, NUMPY_OPS, Kind, Op, SymbolicTensor
from layerflow.graph.tensor import DisposedTensor, wrap
from layerflow.graph.variable import Variable

PRIMITIVES: dict[str, Primitive] = {}
CHECKED = (Kind.MAP, Kind.REDUCE, Kind.CONTRACT)  # moves take in infinities on purpose, as padding
SCALARS = (bool, int, float, np.bool_)
CHEAP_CALLS = {"maximum", "minimum", "abs", "where", "logical_and", "logical_or", "logical_not", "rint", "floor"}


def promote(dtypes: Sequence[np.dtype]) -> np.dtype:
    """Result type: the widest float if there is any float, else NumPy's rule.  An integer never widens a float."""
    floats = [d for d in dtypes if d.kind == "f"]
    return np.result_type(*(floats or dtypes)) if dtypes else np.dtype(config.floatx())


class Primitive:
    """An operation of one kind.  Called with symbols it records an Op, with arrays it runs its kernel."""

    def __init__(self, name: str, kind: Kind, kernel: Callable, shape_rule: Callable | None = None, dtype: Any = None):
        if name in PRIMITIVES:
            raise TraceError(f"primitive {name!r} is declared twice.")
        self.name = name
        self.kind = kind
        self.kernel = kernel
        self.shape_rule = shape_rule
        self.result_dtype = dtype
        self.rule: Callable | None = None
        self.__doc__ = kernel.__doc__
        self.__name__ = name
        PRIMITIVES[name] = self

    def vjp(self, rule: Callable) -> Callable:
        """Decorator: `rule(g, y, *inputs, **attrs)` gives the cotangent(s) of the inputs, None for none."""
        self.rule = rule
        return rule

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def bind(self, operands: Sequence[Any], **attrs: Any) -> Any:
        """Records the operation if any operand is symbolic, else runs it."""
        if not any(map(symbolic.is_symbolic, operands)):
            return self.run(concrete(operands, self.kind is Kind.MAP), attrs)
        ops = as_ops(operands, unify=self.kind is Kind.MAP or self.kind is Kind.CONTRACT)
        if self.kind is Kind.MAP and self.name != "where":
            ops = _numbers_beside_truth(ops)
        shape = (
            self.shape_rule(*[op.shape for op in ops], **attrs)
            if self.shape_rule
            else shapes.broadcast(*[op.shape for op in ops], what=f"operands of {self.name}")
        )
        dtype = attrs.get("dtype") or self.result_dtype or self.operand_dtype(ops)
        return SymbolicTensor(symbolic.intern(self, ops, attrs, shape, np.dtype(dtype)))

    def operand_dtype(self, ops: Sequence[Op]) -> np.dtype:
        return promote([op.dtype for op in ops])

    def run(self, arrays: Sequence[np.ndarray], attrs: dict[str, Any]) -> Any:
        with np.errstate(all="ignore"):
            result = self.kernel(*arrays, **attrs)
        if config.check_numerics() and self.kind in CHECKED and self.name != "where":
            numerics.check(self.name, arrays, result)
        return wrap(result)


class MapPrimitive(Primitive):
    """A kernel of one `return` expression, which the compiler inlines."""

    def __init__(self, name: str, kernel: Callable, dtype: Any = None):
        super().__init__(name, Kind.MAP, kernel, dtype=dtype)

    def __call__(self, *operands: Any) -> Any:
        return self.bind(operands)

    def operand_dtype(self, ops: Sequence[Op]) -> np.dtype:
        ops = ops[1:] if self.name == "where" else ops
        return promote([op.dtype for op in ops])

    @functools.cached_property
    def expression(self) -> tuple[list[str], ast.expr]:
        """Parameter names and the kernel's expression."""
        tree = ast.parse(textwrap.dedent(inspect.getsource(self.kernel))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        body = [s for s in tree.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            raise TraceError(f"the kernel of {self.name!r} must be a single return expression.")
        return [a.arg for a in tree.args.args], body[0].value


@functools.cache
def is_simple(op: Op) -> bool:
    """Whether a map costs about one instruction."""
    if not isinstance(op.primitive, MapPrimitive) or op.name in ("cast", "stop_gradient"):
        return True
    _, expression = op.primitive.expression
    for node in ast.walk(expression):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in CHEAP_CALLS:
                return False
        if isinstance(node, ast.Div):
            return False
    return True


class Composite(Primitive):
    """An operation with a kernel of its own here, which the compiler sees as other ops."""

    def __init__(self, name: str, kernel: Callable, shape_rule: Callable):
        super().__init__(name, Kind.COMPOSITE, kernel, shape_rule)
        self.expand: Callable | None = None

    def expansion(self, rule: Callable) -> Callable:
        """Decorator: `rule(*inputs, **attrs)` gives the same value made of other ops."""
        self.expand = rule
        return rule


def elementwise(numpy: Any = (), dtype: Any = None) -> Callable[[Callable], MapPrimitive]:
    """Declares a map.  `numpy`: the NumPy function(s) that find it; `dtype`: of the result (comparisons: bool)."""

    def declare(kernel: Callable) -> MapPrimitive:
        primitive = MapPrimitive(kernel.__name__.rstrip("_"), kernel, dtype)
        for function in numpy if isinstance(numpy, tuple) else (numpy,):
            NUMPY_OPS[function] = primitive
        return primitive

    return declare


def numpy_op(*functions: Any) -> Callable[[Callable], Callable]:
    """Makes these NumPy functions on symbols call the decorated op."""

    def register(op: Callable) -> Callable:
        for function in functions:
            NUMPY_OPS[function] = op
        return op

    return register


def concrete(operands: Sequence[Any], unify: bool) -> list[np.ndarray]:
    """Arrays of the operands; with `unify` of one type (conditions apart), Python scalars taking the arrays' type."""
    values = [o.value if isinstance(o, Variable) else o for o in operands]
    for v in values:
        if type(v) is DisposedTensor:
            v.shape  # noqa: B018 (raises)
    arrays = [v for v in values if not isinstance(v, SCALARS)]
    arrays = [np.asarray(v) if not isinstance(v, (list, tuple)) else np.asarray(v, weak_dtype(v)) for v in arrays]
    if not arrays:
        return [np.asarray(v, weak_dtype(v)) for v in values]
    kinds = [a.dtype for a in arrays if a.dtype.kind != "b"]
    target = scalar_dtype(promote(kinds or [a.dtype for a in arrays]), [v for v in values if isinstance(v, SCALARS)])
    rest, out = iter(arrays), []
    for v in values:
        array = np.asarray(v, target) if isinstance(v, SCALARS) else next(rest)
        out.append(array.astype(target) if unify and array.dtype.kind != "b" and array.dtype != target else array)
    return out


def weak_dtype(value: Any) -> np.dtype:
    """float32 (or config.floatx) for Python numbers, bool for booleans."""
    kind = np.asarray(value).dtype
    return np.dtype(bool) if kind.kind == "b" else np.dtype(config.floatx()) if kind.kind in "iuf" else kind


def scalar_dtype(dtype: np.dtype, scalars: Sequence[Any]) -> np.dtype:
    """The type of an operation between arrays of `dtype` and Python scalars: a Python float makes integers floatx."""
    if dtype.kind in "iub" and any(isinstance(s, float) for s in scalars):
        return np.dtype(config.floatx())
    if dtype.kind == "b" and any(not isinstance(s, (bool, np.bool_)) for s in scalars):
        return np.dtype(config.floatx())
    return dtype


def _numbers_beside_truth(ops: list[Op]) -> list[Op]:
    """Truth values as numbers, where they meet numbers."""
    numbers = [op.dtype for op in ops if op.dtype.kind != "b"]
    if not numbers or len(numbers) == len(ops):
        return ops
    return [convert(op, promote(numbers)) if op.dtype.kind == "b" else op for op in ops]


def literal(value: Any, dtype: Any) -> Op:
    """A typed scalar of the code."""
    dtype = np.dtype(dtype)
    value = bool(value) if dtype.kind == "b" else float(value) if dtype.kind == "f" else int(value)
    attrs = {"value": value}
    if value == 0 and math.copysign(1.0, value) < 0:
        attrs["negative"] = True  # equal to 0.0 as a key, but another number
    return symbolic.intern(LITERAL, (), attrs, (), dtype)


def constant(array: np.ndarray, given: Any = None) -> Op:
    """A captured array: its values are an input of the compiled code, so new values need no new code.

    Args:
        given: what the array was made from, if it was.
    """
    if symbolic.recalls():
        captures = symbolic.current_trace.get().captures
        return captures.constant(given if isinstance(given, np.ndarray) else array, array.shape, array.dtype)
    return Op(CONSTANT, (), {}, array.shape, array.dtype, payload=array)


def placeholder(shape: Sequence[shapes.Extent | None], dtype: Any = None, name: str = "input") -> SymbolicTensor:
    """A fresh symbol of this shape; a leading None is the batch."""
    op = Op(INPUT, (), {"name": name}, shapes.from_user(shape), np.dtype(dtype or config.floatx()))
    return SymbolicTensor(op, name)


def as_op(value: Any, like: np.dtype | None = None) -> Op:
    """The Op of a symbol, variable, array or scalar; concrete floats take the float type of `like`."""
    if isinstance(value, SymbolicTensor):
        return value.op
    if isinstance(value, Variable):
        return value.variable_op
    if isinstance(value, SCALARS):
        return literal(value, scalar_dtype(like, [value]) if like is not None else weak_dtype(value))
    if type(value) is DisposedTensor:
        value.shape  # noqa: B018 (raises)
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind in "USO":
        raise ShapeError(
            f"a value of type {type(value).__name__} (dtype {array.dtype}) cannot be used in a computation; "
            "pass numbers."
        )
    if array.dtype.kind == "f" and like is not None and like.kind == "f":
        array = array.astype(like, copy=False)
    elif array.dtype == np.float64 or not isinstance(value, (np.ndarray, np.generic)):
        array = array.astype(weak_dtype(array), copy=False)
    if array.ndim == 0 and not (symbolic.recalls() and isinstance(value, np.ndarray)):
        return literal(array[()], array.dtype)
    return constant(array, value)


def as_ops(operands: Sequence[Any], unify: bool) -> list[Op]:
    """Ops of the operands, converted to one type where the kind asks for it."""
    known = [
        o.op.dtype if isinstance(o, SymbolicTensor) else o.dtype
        for o in operands
        if isinstance(o, (SymbolicTensor, Variable))
    ]
    numbers = [d for d in known if d.kind != "b"]
    like = promote(numbers or known)
    ops = [as_op(o, like) for o in operands]
    if not unify:
        return ops
    scalars = [o for o in operands if isinstance(o, SCALARS)]
    dtypes = [
        op.dtype for op, o in zip(ops, operands, strict=True) if not isinstance(o, SCALARS) and op.dtype.kind != "b"
    ]
    target = scalar_dtype(promote(dtypes), scalars) if dtypes else None
    return [convert(op, target) if target is not None and op.dtype.kind != "b" else op for op in ops]


def convert(op: Op, dtype: np.dtype) -> Op:
    """`op` as `dtype`; a literal is retyped, anything else cast."""
    if op.dtype == dtype:
        return op
    if op.primitive is LITERAL:
        return literal(op.attrs["value"], dtype)
    return PRIMITIVES["cast"].bind([SymbolicTensor(op)], dtype=np.dtype(dtype).name).op
