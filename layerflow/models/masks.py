"""What a mask does to losses and metrics: elements that it leaves out do not count."""

from __future__ import annotations

from typing import Any

from layerflow.graph import ops
from layerflow.losses import spread


def mean(each: Any, weight: Any = None, mask: Any = None) -> Any:
    """Mean of losses or scores times their weights, over all elements that the mask keeps.

    Args:
        each: [batch, ...], or a number for the whole batch, which is the result.
        weight: one for each element, or for each example.
        mask: [batch, steps, ...], True for what counts.  Where `each` has fewer axes than it, an element counts if
            anything in it counts.
    """
    weighted = each if weight is None else each * spread(weight, each)
    if mask is None or not each.shape:
        return ops.mean(weighted)
    if len(mask.shape) > len(each.shape):
        mask = ops.any(mask, list(range(len(each.shape), len(mask.shape))))
    kept = ops.broadcast_to(spread(mask, each), ops.shape_of(each))
    total = ops.sum(ops.where(kept, weighted, 0.0))
    return total / ops.maximum(ops.sum(ops.cast(kept, weighted.dtype)), 1.0)


def weight(given: Any, mask: Any) -> Any:
    """Weights of elements with those that the mask leaves out at 0; None if nothing is left out or weighted."""
    if mask is None:
        return given
    kept = ops.cast(mask, "float32")
    return kept if given is None else kept * spread(given, kept)


def loss(made: Any, label: Any, output: Any, given: Any, mask: Any) -> Any:
    """A loss object's value; as with a plain function, a mean is that of what the mask keeps."""
    if mask is None:
        return made(label, output, given)
    if made.reduction in ("sum_over_batch_size", "mean"):
        return mean(made.call(label, output), given, mask)
    return made(label, output, weight(given, mask))
