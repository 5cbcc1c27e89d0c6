"""Order: when each stored value is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from layerflow.graph.symbolic import Kind, Op
from layerflow.jit.contraction import is_sample_work, is_sharded
from layerflow.jit.recompute import is_again

Needs = Mapping[Op, Collection[Op]]


def ordered(needs: Needs) -> list[Op]:
    """Stored values, each after those that it needs; work on samples first, what is computed again last.

    Args:
        needs: stored value -> stored values that have to be there before, in an order in which they can be computed.
    """
    position = {op: at for at, op in enumerate(needs)}
    ranks = _ranks(needs)
    repeated = _repeated(needs)
    waiting = {op: _through(needs, op, repeated) for op in needs if op not in repeated}
    order: dict[Op, None] = {}
    while waiting:
        ready = [op for op, n in waiting.items() if n <= order.keys()]
        # Sums over samples come as soon as they can, while what they add up is in the cache.
        best = min(ready, key=lambda op: (ranks[op], not is_sharded(op), position[op]))
        order.update(dict.fromkeys(_late(needs, best, repeated, position)))
        order[best] = None
        del waiting[best]
    return [*order, *(op for op in needs if op not in order)]


def _repeated(needs: Needs) -> set[Op]:
    """Values that are computed again, and those made from nothing else."""
    found: set[Op] = set()
    for op, before in needs.items():
        follows = op.primitive.kind in (Kind.MAP, Kind.MOVE) and before and all(s in found for s in before)
        if is_again(op) or follows:
            found.add(op)
    return found


def _through(needs: Needs, op: Op, repeated: set[Op]) -> set[Op]:
    """What has to be there before `op` and the values that are computed again for it."""
    found: set[Op] = set()
    for s in needs[op]:
        found |= _through(needs, s, repeated) if s in repeated else {s}
    return found


def _late(needs: Needs, op: Op, repeated: set[Op], position: Mapping[Op, int]) -> list[Op]:
    """Values computed again for `op`, in order."""
    found: list[Op] = []
    for s in sorted(repeated.intersection(needs[op]), key=position.__getitem__):
        found += [*_late(needs, s, repeated, position), s]
    return found


def _ranks(needs: Needs) -> dict[Op, int]:
    """When each stored value is computed.

    0: needed by sample work and ready at once; 1: work on samples; 2: mixes samples, needed by sample work; 3: the
    rest.
    """
    before: set[Op] = set()  # depends on the batch
    for op in needs:
        if is_sample_work(op) or any(s in before for s in needs[op]):
            before.add(op)
    after: set[Op] = set()  # sample work depends on it
    for op in reversed(list(needs)):
        if is_sample_work(op) or op in after:
            after.update(needs[op])
    ranks = {}
    for op in needs:
        if is_sample_work(op):
            ranks[op] = 1
        elif op in after:
            ranks[op] = 2 if op in before else 0
        else:
            ranks[op] = 3
    return ranks
