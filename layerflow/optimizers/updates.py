"""What one batch does to weights and state, as graph code: accumulate, clip, decay, update, average, constrain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerflow.errors import ArgumentError
from layerflow.graph import ops
from layerflow.graph.ops.rows import named_by, named_rows
from layerflow.graph.symbolic import INPUT, SymbolicTensor
from layerflow.graph.variable import Variable

# Names of the slots that belong to the common settings, not to the optimizer's formula.
AVERAGE, ACCUMULATOR = "average", "gradient_accumulator"

Pairs = Sequence[tuple[Variable, Any]]


def updates(optimizer: Any, pairs: Pairs, batch: Any, rate: Any) -> dict[Variable, Any]:
    """New values of weights and slots, in the order of Keras 3.

    The gradient is the mean of those of `gradient_accumulation_steps` batches, then it is clipped; the weight decays,
    is updated, brought to its constraint, and averaged.

    Args:
        optimizer: an Optimizer.
        pairs: weights with their gradients.
        batch: float scalar, 1 for the first batch.
        rate: float scalar, the learning rate if no schedule gives it.
    """
    new: dict[Variable, Any] = {}
    fresh, totals = dict(pairs), {}
    if optimizer.schedule is not None:
        rate = optimizer.schedule(batch - 1.0)
    due, step = None, batch
    every = optimizer.gradient_accumulation_steps
    if every:
        due = ops.equal(ops.mod(batch, float(every)), 0.0)
        step = ops.floor((batch - 1.0) / float(every)) + 1.0
        pairs = _accumulate(optimizer, pairs, due, new)
        totals = dict(pairs)
    for variable, gradient in _clipped(optimizer, pairs):
        weight, slots = _stepped(optimizer, variable, gradient, step, rate)
        if optimizer.LAZY:
            named = _named_rows(variable, fresh[variable], totals.get(variable))
            weight, slots = _in_named_rows(variable, weight, slots, named)
        if due is not None:
            weight = ops.where(due, weight, _symbol(variable))
            slots = {kept: ops.where(due, value, _symbol(kept)) for kept, value in slots.items()}
        new[variable] = weight = variable.constraint(weight) if variable.constraint is not None else weight
        new.update(slots)
        if optimizer.use_ema:
            _average(optimizer, variable, weight, step, new)
    return new


def _symbol(variable: Variable) -> SymbolicTensor:
    return SymbolicTensor(variable.variable_op)


def _accumulate(optimizer: Any, pairs: Pairs, due: Any, new: dict[Variable, Any]) -> Pairs:
    """Means of the gradients up to this batch; the sums go on, or start again where an update is due."""
    means = []
    for variable, gradient in pairs:
        kept = optimizer.slot_variables(variable)[ACCUMULATOR]
        total = _symbol(kept) + gradient
        new[kept] = ops.where(due, ops.zeros_like(total), total)
        means.append((variable, total * (1.0 / optimizer.gradient_accumulation_steps)))
    return means


def _clipped(optimizer: Any, pairs: Pairs) -> Pairs:
    """The gradients within the limits of clipvalue, clipnorm or global_clipnorm (Pascanu et al. 2013)."""
    if optimizer.clipvalue:
        limit = float(optimizer.clipvalue)
        return [(v, ops.clip(g, -limit, limit)) for v, g in pairs]
    if optimizer.clipnorm:
        limit = float(optimizer.clipnorm)
        return [(v, g * _factor(ops.sum(ops.square(g)), limit)) for v, g in pairs]
    if optimizer.global_clipnorm and pairs:
        squares = [ops.sum(ops.square(g)) for _, g in pairs]
        factor = _factor(sum(squares[1:], squares[0]), float(optimizer.global_clipnorm))
        return [(v, g * factor) for v, g in pairs]
    return pairs


def _factor(square: Any, limit: float) -> Any:
    """What brings a vector of this squared length down to `limit`; 1 for shorter ones, also for the zero vector."""
    return limit / ops.maximum(ops.sqrt(square), limit)


def _stepped(
    optimizer: Any, variable: Variable, gradient: Any, step: Any, rate: Any
) -> tuple[Any, dict[Variable, Any]]:
    """Weight decay and the optimizer's own update of one weight: the new weight, and new values of its slots."""
    kept = {**optimizer.shared_variables([variable]), **optimizer.slot_variables(variable)}
    slots = {name: _symbol(s) for name, s in kept.items() if name not in (AVERAGE, ACCUMULATOR)}
    weight: Any = _symbol(variable)
    decay = optimizer.decay_of(variable)
    if decay:
        weight = weight - weight * (rate * decay)
    weight, changed = optimizer.update(weight, gradient, slots, step, rate)
    unknown = [name for name in changed if name not in slots]
    if unknown:
        raise ArgumentError(
            f"{type(optimizer).__name__}.update returned {unknown}, but its slots are {list(slots)}; declare "
            "every array it keeps in SLOTS."
        )
    return weight, {kept[name]: ops.cast(value, kept[name].dtype) for name, value in changed.items()}


def _named_rows(variable: Variable, gradient: Any, total: Any) -> Any:
    """Which rows of a weight a gradient names: bool [rows, 1, ..]; None for all.

    A sum over several batches, and an array from outside, do not say what was named: rows of zeros were not.

    Args:
        gradient: of this batch.
        total: the sum over batches, if gradients are accumulated.
    """
    rank, indices = len(variable.shape), named_by(gradient)
    if indices is not None and total is None:
        return named_rows(indices, variable.shape[0], rank)
    if rank < 2 or (indices is None and gradient.op.primitive is not INPUT):
        return None
    return ops.any(ops.not_equal(gradient if total is None else total, 0.0), tuple(range(1, rank)), keepdims=True)


def _in_named_rows(
    variable: Variable, weight: Any, slots: dict[Variable, Any], named: Any
) -> tuple[Any, dict[Variable, Any]]:
    """New values in the named rows, the old ones in the others."""
    if named is None:
        return weight, slots
    changed = {
        kept: ops.where(named, value, _symbol(kept)) if kept.shape == variable.shape else value
        for kept, value in slots.items()
    }
    return ops.where(named, weight, _symbol(variable)), changed


def _average(optimizer: Any, variable: Variable, weight: Any, step: Any, new: dict[Variable, Any]) -> None:
    """The moving average of the weight (Polyak and Juditsky 1992), which is the weight itself after the first step."""
    kept = optimizer.slot_variables(variable)[AVERAGE]
    momentum = ops.where(step > 1.0, float(optimizer.ema_momentum), 0.0)
    new[kept] = average = momentum * _symbol(kept) + (1.0 - momentum) * weight
    if optimizer.ema_overwrite_frequency:
        if variable.constraint is not None:
            average = variable.constraint(average)
        now = ops.equal(ops.mod(step, float(optimizer.ema_overwrite_frequency)), 0.0)
        new[variable] = ops.where(now, average, weight)
