"""What the first and the last step of a loop need not do.

States mostly begin as zeros, and what a product makes of zeros is known; a state after the last step is often read by
nobody.  Short sequences gain most: one product of 28 in each direction of a recurrent layer over the rows of an image.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerflow.graph.symbolic import LITERAL, Kind, Op
from layerflow.jit.schedule import Kernel


def starts_with_zeros(kernel: Kernel, states: Sequence[Op], starts: Sequence[Op]) -> bool:
    """Whether a kernel of the body multiplies a matrix by a state that is zero at the first step.

    Args:
        kernel: the kernel.
        states: the states inside the body.
        starts: what they begin as, outside.
    """
    zeros = {state for state, start in zip(states, starts, strict=True) if _is_zero(start, set())}
    return kernel.group.kind == "gemm" and _is_zero(kernel.group.anchor.inputs[0], zeros)


def _is_zero(op: Op, zeros: set[Op]) -> bool:
    if op in zeros:
        return True
    if op.primitive is LITERAL:
        return op.attrs["value"] == 0
    one = op.primitive.kind is Kind.MOVE and len(op.inputs) == 1 and op.name != "pad"
    return (one or op.name == "multiply") and any(_is_zero(i, zeros) for i in op.inputs)


def unread_at_end(kernels: Sequence[Kernel], unread: set[Op]) -> set[Kernel]:
    """Kernels that the last step can do without.

    Args:
        kernels: of the body, in order.
        unread: outputs of the body that nobody reads after the last step: states.
    """
    found: set[Kernel] = set()
    read: set[Op] = set()
    for kernel in reversed(kernels):
        if all(op in unread and op not in read for op in kernel.group.stored):
            found.add(kernel)
        else:
            read |= kernel.reads
    return found
