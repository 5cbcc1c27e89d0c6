"""The ordered passes, from a traced graph to native code.  Read this page first.

graph -> simplified -> fused -> schedule -> memory -> source -> llvm -> asm
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.graph.ir import Graph, verify
from layerflow.graph.symbolic import Op
from layerflow.jit import fusion, garbage, groups, layouts, library, recurrence, target
from layerflow.jit import schedule as scheduling
from layerflow.jit.emit import Module, emit
from layerflow.jit.executable import Executable
from layerflow.jit.images import fold_scales, read_padded
from layerflow.jit.interpreter import interpret
from layerflow.jit.loop_passes import prepare_loops
from layerflow.jit.overwriting import Overwritten, read_copies
from layerflow.jit.product_sums import gather_products
from layerflow.jit.recompute import recompute
from layerflow.jit.shards import shard
from layerflow.jit.simplify import separate_roots, simplify, untranspose
from layerflow.jit.sparse import sparse_updates
from layerflow.jit.winograd_pass import winograd

# Graph to graph, in this order; each is pure and checked when LAYERFLOW_DEBUG=1.
GRAPH_PASSES: Sequence[tuple[str, Callable[[Graph], Graph]]] = (
    ("prepare_loops", prepare_loops),
    ("simplify", simplify),
    ("sparse_updates", sparse_updates),
    ("untranspose", untranspose),
    ("fold_scales", fold_scales),
    ("winograd", winograd),
    ("recompute", recompute),
    ("read_padded", read_padded),
    ("separate_roots", separate_roots),
    ("shard", shard),
)
# The same for the body of a loop, which `prepare_loops` has simplified.
BODY_PASSES: Sequence[tuple[str, Callable[[Graph], Graph]]] = (
    ("gather_products", gather_products),
    ("separate_roots", separate_roots),
)


@dataclasses.dataclass
class Stages:
    """Every intermediate form of one compilation, for dumps."""

    graph: Graph
    simplified: Graph
    groups: list[groups.Group]
    plan: scheduling.Schedule
    module: Module


def lower(graph: Graph, source_types: Mapping[Op, np.dtype] | None = None) -> Stages:
    """Runs all passes down to source."""
    current = graph
    for name, run in GRAPH_PASSES:
        current = run(current)
        if config.debug():
            verify(current, after=name)
    try:
        groups = fusion.fuse(current)
    except Overwritten as clash:
        current = read_copies(current, clash)
        groups = fusion.fuse(current)
    plan = scheduling.schedule(current, groups)
    host = target.host()
    layouts.choose(plan, host.vector_bytes, host.registers)
    recurrence.attach(plan, BODY_PASSES)
    types = {op: np.dtype(source_types[op]) if source_types else op.dtype for op in current.inputs}
    module = emit(plan, types, host.vector_bytes, host.registers, host.l2_bytes)
    return Stages(graph, current, groups, plan, module)


def compile(graph: Graph, source_types: Mapping[Op, np.dtype] | None = None) -> Executable:
    """Native code for a graph.

    Args:
        graph: the traced computation.
        source_types: types in which the batches of the inputs come, if not those of the graph.
    """
    with garbage.left_alone():
        stages = lower(graph, source_types)
        code = library.build(stages.module.source)
    return Executable(stages.module, code, graph)


_programs: dict[str, Executable] = {}
_lock = threading.Lock()


def run(
    graph: Graph, arguments: Sequence[np.ndarray], scalars: dict[str, float], captured: Mapping[Op, np.ndarray]
) -> list[np.ndarray]:
    """Runs a graph without a batch; a structure seen before is not compiled again, whatever its data and variables."""
    if not config.jit():
        return interpret(graph, arguments, scalars, captured=captured)
    return shared(graph).run(arguments, scalars, graph, captured)


def shared(graph: Graph) -> Executable:
    """The program of a graph without a batch; graphs of one structure have one program."""
    key = f"{graph.signature} {config.winograd()}"
    with _lock:
        program = _programs.get(key)
        if program is None:
            program = _programs[key] = compile(graph)
    return program


def forget() -> None:
    """Drops compiled functions of this process (not the disk cache)."""
    _programs.clear()


__all__: list[Any] = ["GRAPH_PASSES", "Stages", "compile", "forget", "lower", "run", "shared"]
