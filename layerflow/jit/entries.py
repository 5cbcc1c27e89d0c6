"""Entries of a compiled module, as LLVM IR text: what Python calls, around the driver `step` of its source."""

from __future__ import annotations


def entries_text(architecture: str) -> str:
    """`void lf_step(i64 ctx, i64 tid, i64 threads)`, each thread's entry.

    Denormal numbers are zero during a step, and the thread's mode is put back: an optimizer's averages of vanished
    gradients decay into denormals, on which arithmetic is a hundred times slower.
    """
    declared, before, after = _FLUSH if architecture in ("x86_64", "amd64") else ("", "", "")
    return (
        f"{declared}declare void @step(i64, i64, i64)\n"
        f"define void @lf_step(i64 %ctx, i64 %tid, i64 %threads) {{\n"
        f"{before}  call void @step(i64 %ctx, i64 %tid, i64 %threads)\n{after}  ret void\n}}\n"
    )


_FLUSH = (
    "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n",
    "  %old = alloca i32\n  %new = alloca i32\n"
    "  call void @llvm.x86.sse.stmxcsr(ptr %old)\n  %mode = load i32, ptr %old\n"
    "  %flush = or i32 %mode, 32832\n  store i32 %flush, ptr %new\n"
    "  call void @llvm.x86.sse.ldmxcsr(ptr %new)\n",
    "  call void @llvm.x86.sse.ldmxcsr(ptr %old)\n",
)
