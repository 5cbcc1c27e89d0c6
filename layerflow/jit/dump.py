"""Text of every stage of the compiler."""

from __future__ import annotations

import re

from layerflow.errors import CompileError
from layerflow.graph.ir import Graph
from layerflow.jit import library, memory, native, pipeline, schedule, sharing, skipping, target, winograd_pass
from layerflow.jit.cpus import get_num_threads
from layerflow.jit.groups import Group


def stage_text(graph: Graph, stage: str, kernel: str | None = None, rows: int = 32) -> str:
    """The stage `simplified`, `fused`, `schedule`, `memory`, `source`, `llvm` or `asm` of a graph's compilation.

    Raises:
        CompileError: no kernel of that name; the message lists those there are.
    """
    stages = pipeline.lower(graph)
    match stage:
        case "simplified":
            return stages.simplified.text()
        case "fused":
            return _groups_text(stages.groups)
        case "schedule":
            return schedule.describe(stages.plan, winograd_pass.explain, skipping.remark)
        case "memory":
            return memory.describe(stages.plan, rows, get_num_threads())
    module = stages.module
    names = library.kernel_names(module.source)
    if kernel is not None and kernel not in names:
        raise CompileError(f"there is no kernel {kernel!r}; the kernels are {', '.join(names)}.")
    worker = sharing.carried_out_by(module.source, kernel) if kernel else None
    if stage == "source" and kernel is None:
        return module.source
    if stage == "source":
        return "\n".join(source_of(module.source, name) for name in dict.fromkeys((kernel, worker)) if name)
    texts = library.ir_texts(module.source)
    make = native.llvm_text if stage == "llvm" else native.asm_text
    return make(texts, target.host(), worker)


def source_of(kernels: str, name: str) -> str:
    """The part of a source that defines one function."""
    found = re.search(rf"^def {re.escape(name)}\(.*?(?=^def |\Z)", kernels, re.M | re.S)
    assert found is not None
    return found.group().rstrip() + "\n"


def _groups_text(groups: list[Group]) -> str:
    """Text of the stage `fused`: each group with its members; stored ones are marked."""
    lines = []
    for at, group in enumerate(groups):
        extents = ",".join(map(str, group.domain)) + (f" | {group.inner}" if group.kind == "row" else "")
        extents += f" in {group.parts} parts" if group.parts > 1 else ""
        lines.append(f"group {at} {group.kind} [{extents}]")
        for op in group.members:
            mark = "store" if op in group.stored else "     "
            lines.append(
                f"  {mark} {op.name} [{','.join(map(str, op.shape))}] {op.dtype}"
                + (f"  # {op.layer}" if op.layer else "")
            )
    return "\n".join(lines)
