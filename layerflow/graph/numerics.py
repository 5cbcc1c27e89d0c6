"""Where a NaN or an infinity comes from: the first op of a chain of them, its inputs, and what may be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.errors import NumericsError
from layerflow.graph import shapes, symbolic
from layerflow.graph.symbolic import CONSTANT, INPUT, LITERAL, PARAMETER, Op

_GROWN = "Numbers grew out of the range of the type: a smaller learning rate, clipped gradients or scaled inputs help."
HINTS = {
    "log": "The logarithm of 0 is -inf, of a negative number NaN: add a small number, or use lf.clip_by_value.",
    "log1p": "The logarithm of 0 is -inf, of a negative number NaN: log1p needs x > -1.",
    "divide": "Something was divided by 0: lf.div_no_nan, or a small number added below.",
    "reciprocal": "Something was divided by 0: lf.div_no_nan, or a small number added below.",
    "sqrt": "The square root of a negative number is NaN, and its slope at 0 is infinite: add a small number inside.",
    "rsqrt": "1 / sqrt(0) is infinite: add a small number inside.",
    "power": "A power of a negative number, or of 0 with a negative exponent, or one too large.",
    "exp": "exp overflows float32 above 88: subtract the maximum first, or use lf.softmax and lf.log_sum_exp.",
    "expm1": "exp overflows float32 above 88.",
    "acos": "acos and asin need -1 <= x <= 1, and their slopes at the ends are infinite.",
    "asin": "acos and asin need -1 <= x <= 1, and their slopes at the ends are infinite.",
    "atanh": "atanh needs -1 < x < 1.",
}


def is_bad(array: Any) -> bool:
    """Whether an array of floats holds NaN or infinity."""
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def described(array: np.ndarray) -> str:
    """Shape and range of an input."""
    text = f"{shapes.text(array.shape)} {array.dtype}" if array.shape else str(array.dtype)
    if not array.size:
        return f"{text}, empty"
    if array.dtype.kind not in "fiu":
        return text
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    parts = [f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "no finite number"]
    zeros, bad = int((array == 0).sum()), array.size - finite.size
    parts += [f"{zeros} of {array.size} are 0"] * bool(zeros and array.size > 1) + [f"{bad} not finite"] * bool(bad)
    return f"{text}: {', '.join(parts)}"


def counted(array: np.ndarray) -> str:
    """How many elements are not finite, and of which kind."""
    kinds = [
        f"{n} {name}"
        for name, n in (
            ("NaN", int(np.isnan(array).sum())),
            ("inf", int((array == np.inf).sum())),
            ("-inf", int((array == -np.inf).sum())),
        )
        if n
    ]
    return f"{' and '.join(kinds)} among {array.size} value{'s' * (array.size != 1)}"


def check(name: str, inputs: Sequence[np.ndarray], result: Any) -> None:
    """For an op that runs at once: NumericsError if it made a NaN or infinity from finite numbers."""
    results = result if isinstance(result, (tuple, list)) else [result]
    bad = [r for r in map(np.asarray, results) if is_bad(r)]
    if not bad or any(is_bad(np.asarray(i)) for i in inputs):
        return
    layer = symbolic.current_layer.get()
    inside = f"in layer {layer}: " if layer else ""
    raise NumericsError(f"{inside}{name} made {counted(bad[0])}. {_inputs(inputs)} {_hint(name)}", name, layer)


def _inputs(arrays: Sequence[np.ndarray]) -> str:
    return f"Its input{'s' * (len(arrays) != 1)}: {'; '.join(described(np.asarray(a)) for a in arrays)}."


def _hint(*names: str) -> str:
    return next((HINTS[n] for n in names if n in HINTS), _GROWN)


def origin(ops: Sequence[Op], roots: Iterable[Op], values: Mapping[Op, np.ndarray]) -> Op | None:
    """The first op whose value is not finite although its inputs are, on the way to a root that is not finite.

    Infinities that reach no root, such as the padding of a maximum, are left alone.
    """
    bad = {op for op in ops if op.primitive is not LITERAL and op.name != "loop" and is_bad(values[op])}
    for root in roots:
        if root not in bad:
            continue
        seen, stack, found = {root}, [root], set()
        while stack:
            op = stack.pop()
            sources = [i for i in op.inputs if i in bad]
            if not sources:
                found.add(op)
            fresh = [i for i in sources if i not in seen]
            seen.update(fresh)
            stack.extend(fresh)
        return next(op for op in ops if op in found)
    return None


def _needed(roots: Iterable[Op]) -> set[Op]:
    found: set[Op] = set()
    stack = list(roots)
    while stack:
        op = stack.pop()
        if op not in found:
            found.add(op)
            stack.extend(op.inputs)
    return found


def explain(
    ops: Sequence[Op], outputs: Sequence[Op], updates: Sequence[tuple[Op, Op]], values: Mapping[Op, np.ndarray]
) -> NumericsError | None:
    """The error that names the origin; None if everything is finite."""
    op = origin(ops, [*outputs, *(value for _, value in updates)], values)
    if op is None:
        return None
    if op.primitive in (INPUT, PARAMETER, CONSTANT):
        return NumericsError(f"{_leaf(op)} holds {counted(values[op])} before anything is computed.", op.name)

    forward = _needed(outputs[:1])
    sources = op.inputs[0].inputs if op.name == "loop_part" else op.inputs
    inputs = _inputs([values[i] for i in sources])
    made = counted(values[op])
    if op in forward:
        where = f"in layer {op.layer}: {op.name}" if op.layer else f"in the loss: {op.name}"
        where += _at(op)
        return NumericsError(f"{where} made {made}. {inputs} {_hint(op.name)}", op.name, op.layer)
    if op.forward is not None:
        of = op.forward
        own = described(values[of.inputs[0]]) if of.inputs else ""
        where = f"gradient of {of.layer or 'the loss'}: {of.name}{_at(of)}"
        step = "" if op.name == of.name else f" (in its {op.name})"
        text = f"{where}{step} made {made}. {inputs} Input of the {of.name} itself: {own}. {_hint(of.name, op.name)}"
        return NumericsError(text, of.name, of.layer, backward=True)
    name = next((p.payload.name for p, value in updates if op in _needed([value])), "a variable")
    return NumericsError(
        f"update of {name}: {op.name} made {made}. {inputs} {_GROWN}", op.name, name.rpartition("/")[0], backward=True
    )


def _at(op: Op) -> str:
    """The line of the program, where it says more than the layer does."""
    return f" (at {op.site})" if op.site else ""


def _leaf(op: Op) -> str:
    if op.primitive is PARAMETER:
        return f"variable {op.payload.name}"
    return f"the data ({op.attrs['name']})" if op.primitive is INPUT else "an array that the function uses"
